"""Every gradient of the numpy network against torch's, and against differences of its loss."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from senone import part1
from senone.twin import DIFFERENCES, Twin, TwinSGD, losses, train_batch

ACTIVATIONS = {"sigmoid": part1.Sigmoid, "tanh": part1.Tanh, "relu": part1.ReLU}
HIDDENS = {0: [], 1: [7], 3: [7, 6, 5]}
INPUT_SIZE, OUTPUT_SIZE, BATCH = 9, 4, 11

NETWORKS = [
    (depth, activation, num_bn_layers, mode)
    for depth, activation, mode in itertools.product(HIDDENS, ACTIVATIONS, ("train", "eval"))
    for num_bn_layers in sorted({0, 1, depth + 1})
]


def close(ours: np.ndarray, theirs: torch.Tensor | np.ndarray) -> None:
    """Equal to 1e-9, and not because both of them vanish."""
    theirs = theirs.detach().numpy() if isinstance(theirs, torch.Tensor) else theirs
    scale = np.abs(theirs).max()
    assert scale > 1e-6, "nothing to compare: near zero"
    np.testing.assert_allclose(ours, theirs.reshape(np.shape(ours)), rtol=1e-9, atol=1e-11 * scale)


def make_mlp(hiddens, activation, num_bn_layers, mode="train", seed=0, momentum=0.9, lr=0.01):
    """A network none of whose parameters and statistics has the value that it would start with."""
    rng = np.random.default_rng(seed)
    mlp = part1.MLP(
        INPUT_SIZE,
        OUTPUT_SIZE,
        hiddens,
        [ACTIVATIONS[activation]() for _ in hiddens] + [part1.Identity()],
        lambda n_in, n_out: rng.standard_normal((n_in, n_out)) / np.sqrt(n_in),
        lambda n_out: 0.5 * rng.standard_normal((1, n_out)),
        part1.SoftmaxCrossEntropy(),
        lr,
        momentum,
        num_bn_layers,
    )
    for bn in mlp.bn_layers if mlp.bn else []:
        bn.gamma = rng.uniform(0.5, 2, bn.gamma.shape)
        bn.beta = rng.standard_normal(bn.beta.shape)
        bn.running_mean = rng.standard_normal(bn.running_mean.shape)
        bn.running_var = rng.uniform(0.5, 2, bn.running_var.shape)
    mlp.train_mode = mode == "train"
    return mlp


def make_batch(seed, n=BATCH):
    """(n, INPUT_SIZE) examples and (n, OUTPUT_SIZE) labels that add up to 1: a random upstream gradient."""
    rng = np.random.default_rng([1, seed])
    labels = rng.dirichlet(np.ones(OUTPUT_SIZE), n)
    return 1 + rng.standard_normal((n, INPUT_SIZE)), labels


def check_gradients(mlp, seed=0, n=BATCH):
    """Logits, losses, all gradients and all running statistics are those of the twin."""
    twin = Twin(mlp)
    x, labels = make_batch(seed, n)
    logits = mlp(x)
    mlp.backward(labels)
    twin_logits = twin(torch.from_numpy(x))
    loss = losses(twin_logits, torch.from_numpy(labels))
    loss.mean().backward()

    close(logits, twin_logits)
    close(mlp.criterion.loss, loss)
    for i, linear in enumerate(twin.linear):
        close(mlp.dW[i], linear.weight.grad.T)
        if i >= mlp.num_bn_layers or not mlp.train_mode:
            close(mlp.db[i], linear.bias.grad)
        else:  # the batch's mean takes the bias out again
            np.testing.assert_allclose(mlp.db[i], 0, atol=1e-12)
    for i, batchnorm in enumerate(twin.batchnorm):
        bn = mlp.bn_layers[i]
        close(bn.dgamma, batchnorm.weight.grad * n)  # sums; torch's are means, as the loss is
        close(bn.dbeta, batchnorm.bias.grad * n)
        close(bn.running_mean, batchnorm.running_mean)
        close(bn.running_var, batchnorm.running_var)


@pytest.mark.parametrize(("depth", "activation", "num_bn_layers", "mode"), NETWORKS)
def test_every_gradient_is_torchs(depth, activation, num_bn_layers, mode):
    check_gradients(make_mlp(HIDDENS[depth], activation, num_bn_layers, mode))


@settings(max_examples=60)
@given(
    hiddens=st.lists(st.integers(1, 12), max_size=4),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    bn_share=st.floats(0, 1),
    mode=st.sampled_from(["train", "eval"]),
    n=st.integers(3, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_gradients_are_torchs_whatever_the_shape_and_seed(hiddens, activation, bn_share, mode, n, seed):
    num_bn_layers = round(bn_share * (len(hiddens) + 1))
    mlp = make_mlp(hiddens, activation, num_bn_layers, mode, seed)
    twin = Twin(mlp)
    x, labels = make_batch(seed, n)
    mlp(x)
    # above a layer that is dead as a whole, a BatchNorm finds rounding errors alone, and makes them large
    assume(not num_bn_layers or all(bn.var.min() > 1e-6 for bn in mlp.bn_layers))
    mlp.backward(labels)
    losses(twin(torch.from_numpy(x)), torch.from_numpy(labels)).mean().backward()
    assert np.abs(mlp.criterion.derivative()).max() > 1e-3  # what comes in at the top is not near zero
    pairs = [(mlp.dW[i], linear.weight.grad.T) for i, linear in enumerate(twin.linear)]
    pairs += [(mlp.db[i], linear.bias.grad) for i, linear in enumerate(twin.linear)]
    pairs += [(mlp.bn_layers[i].dgamma, bn.weight.grad * n) for i, bn in enumerate(twin.batchnorm)]
    pairs += [(mlp.bn_layers[i].dbeta, bn.bias.grad * n) for i, bn in enumerate(twin.batchnorm)]
    for ours, theirs in pairs:  # a narrow layer of ReLUs may well be dead, so each may be zero
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-7, atol=1e-10)


def check_steps(mlp, steps=10):
    """An MLP and its twin have the same parameters and statistics after some steps, and the same logits."""
    twin = Twin(mlp)
    optimizer = TwinSGD(twin, mlp)
    start = [W.copy() for W in mlp.W]
    for step in range(steps):
        x, labels = make_batch(step, n=BATCH + step % 3)
        mlp.zero_grads()
        mlp(x)
        mlp.backward(labels)
        mlp.step()
        train_batch(twin, optimizer, torch.from_numpy(x), torch.from_numpy(labels))
    for i, linear in enumerate(twin.linear):
        close(mlp.W[i], linear.weight.T)
        close(mlp.b[i], linear.bias)
        close(mlp.W[i] - start[i], linear.weight.detach().numpy().T - start[i])
    for i, batchnorm in enumerate(twin.batchnorm):
        bn = mlp.bn_layers[i]
        close(bn.gamma, batchnorm.weight)
        close(bn.beta, batchnorm.bias)
        close(bn.running_mean, batchnorm.running_mean)
        close(bn.running_var, batchnorm.running_var)
    x, _ = make_batch(steps)
    mlp.eval()
    twin.eval()
    close(mlp(x), twin(torch.from_numpy(x)))


@pytest.mark.parametrize("depth", HIDDENS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("batchnorm", ["none", "one", "all"])
def test_ten_momentum_steps_stay_together(depth, activation, batchnorm):
    num_bn_layers = {"none": 0, "one": 1, "all": depth + 1}[batchnorm]
    check_steps(make_mlp(HIDDENS[depth], activation, num_bn_layers))


def check_central_differences(mlp):
    """Each gradient is the slope of the mean loss between two points nearby: no torch, no calculus."""
    x, labels = make_batch(3)
    mlp(x)
    mlp.backward(labels)
    gradients = [g * 1.0 for g in (*mlp.dW, *mlp.db)]
    parameters = [*mlp.W, *mlp.b]
    for bn in mlp.bn_layers if mlp.bn else []:
        gradients += [bn.dgamma / BATCH, bn.dbeta / BATCH]
        parameters += [bn.gamma, bn.beta]
    width = 1e-6
    for parameter, gradient in zip(parameters, gradients, strict=True):
        slopes = np.zeros_like(parameter)
        for index in np.ndindex(parameter.shape):
            before = parameter[index]
            parameter[index] = before + width
            above = mlp.criterion(mlp(x), labels).mean()
            parameter[index] = before - width
            below = mlp.criterion(mlp(x), labels).mean()
            parameter[index] = before
            slopes[index] = (above - below) / (2 * width)
        np.testing.assert_allclose(gradient, slopes.reshape(gradient.shape), atol=1e-8)
    assert np.abs(gradients[0]).max() > 1e-4


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("num_bn_layers", [0, 1, 3])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_gradients_are_the_slopes_of_the_loss(activation, num_bn_layers, mode):
    check_central_differences(make_mlp([5, 4], activation, num_bn_layers, mode))


def check_logits_of_1e5():
    """The losses of huge logits are finite, and torch's."""
    rng = np.random.default_rng(0)
    logits = 1e5 * rng.standard_normal((BATCH, OUTPUT_SIZE))
    labels = np.eye(OUTPUT_SIZE)[rng.integers(0, OUTPUT_SIZE, BATCH)]
    criterion = part1.SoftmaxCrossEntropy()
    loss = criterion(logits, labels)
    assert np.isfinite(loss).all()
    assert np.isfinite(criterion.derivative()).all()
    close(loss, losses(torch.from_numpy(logits), torch.from_numpy(labels)))


def test_log_sum_exp_is_finite_at_logits_of_1e5():
    check_logits_of_1e5()


def test_a_twin_shares_nothing_with_its_network():
    mlp = make_mlp([7], "tanh", 1)
    twin = Twin(mlp)
    before = [parameter.detach().clone() for parameter in twin.state_dict().values()]
    for W in mlp.W:
        W += 1
    mlp.bn_layers[0].running_mean += 1
    check = zip(before, twin.state_dict().values(), strict=True)
    assert all(torch.equal(old, new) for old, new in check)


def test_a_twin_has_the_type_and_the_mode_of_its_network():
    mlp = make_mlp([7], "tanh", 1, mode="eval")
    mlp.W = [W.astype(np.float32) for W in mlp.W]
    mlp.b = [b.astype(np.float32) for b in mlp.b]
    twin = Twin(mlp)
    assert twin.linear[0].weight.dtype == torch.float32
    assert not twin.batchnorm[0].training


def test_an_activation_that_torch_does_not_have_is_refused():
    class Softsign(part1.Activation):
        pass

    mlp = make_mlp([7], "tanh", 0)
    mlp.activations[0] = Softsign()
    with pytest.raises(ValueError, match="no twin for the activation Softsign; there are Identity, Sigmoid"):
        Twin(mlp)


# One test for each of senone.twin.DIFFERENCES


def test_every_difference_from_torch_has_its_test():
    names = {name for name in globals() if name.startswith("test_difference_")}
    assert names == {"test_difference_" + name.replace(" ", "_").replace("-", "_") for name in DIFFERENCES}


def test_difference_relu_at_zero():
    relu = part1.ReLU()
    relu(np.array([[-1.0, 0.0, 1.0]]))
    x = torch.tensor([[-1.0, 0.0, 1.0]], requires_grad=True)
    torch.relu(x).sum().backward()
    assert relu.derivative().tolist() == [[0, 1, 1]]
    assert x.grad.tolist() == [[0, 0, 1]]


def test_difference_running_variance():
    x, _ = make_batch(0)
    bn = part1.BatchNorm(INPUT_SIZE, alpha=0.8)
    bn(x)
    torchs = torch.nn.BatchNorm1d(INPUT_SIZE, eps=bn.eps, momentum=0.2, dtype=torch.float64)
    torchs(torch.from_numpy(x))
    close(bn.running_mean, torchs.running_mean)
    handout, unbiased = bn.running_var - 0.8, torchs.running_var.numpy() - 0.8  # it started at 1
    close(handout * BATCH / (BATCH - 1), unbiased)
    close(handout / 0.2, x.var(axis=0))


def test_difference_momentum():
    """With a constant lr the two ways are one; a decayed lr slows the handout's old velocity no more."""
    mlp = make_mlp([], "tanh", 0, momentum=0.5, lr=0.1)
    twin = Twin(mlp)
    optimizer = TwinSGD(twin, mlp)
    start = mlp.W[0].copy()
    gradients = [np.random.default_rng(i).standard_normal(start.shape) for i in range(2)]
    for lr, gradient in zip((0.1, 0.01), gradients, strict=True):
        mlp.lr = optimizer.param_groups[0]["lr"] = lr
        mlp.dW[0] = gradient
        twin.linear[0].weight.grad = torch.from_numpy(gradient.T)
        mlp.step()
        optimizer.step()
    first, second = gradients
    close(mlp.W[0] - start, -0.1 * first + (0.5 * -0.1 * first - 0.01 * second))
    close(twin.linear[0].weight.detach().numpy().T - start, -0.1 * first - 0.01 * (0.5 * first + second))


def test_difference_gamma_and_beta_sums():
    mlp = make_mlp([7], "tanh", 1)
    twin = Twin(mlp)
    x, labels = make_batch(0)
    mlp(x)
    mlp.backward(labels)
    losses(twin(torch.from_numpy(x)), torch.from_numpy(labels)).mean().backward()
    close(mlp.dW[0], twin.linear[0].weight.grad.T)
    close(mlp.bn_layers[0].dgamma / BATCH, twin.batchnorm[0].weight.grad)
    close(mlp.bn_layers[0].dbeta / BATCH, twin.batchnorm[0].bias.grad)


def test_difference_gamma_and_beta_momentum():
    mlp = make_mlp([7], "tanh", 1, momentum=0.9, lr=0.1)
    bn = mlp.bn_layers[0]
    gamma, beta = bn.gamma, bn.beta
    bn.dgamma, bn.dbeta = np.full(7, 1.0), np.full(7, 2.0)
    for _ in range(3):  # with momentum the third step would be 2.71 times the first
        mlp.step()
    close(gamma - bn.gamma, np.full((1, 7), 3 * 0.1 * 1.0))
    close(beta - bn.beta, np.full((1, 7), 3 * 0.1 * 2.0))


def test_difference_labels_not_one_hot():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, BATCH, OUTPUT_SIZE))
    criterion = part1.SoftmaxCrossEntropy()
    loss = criterion(logits, labels)
    x = torch.from_numpy(logits).requires_grad_()
    torchs = losses(x, torch.from_numpy(labels))
    torchs.sum().backward()
    close(loss, torchs)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    close(criterion.derivative(), softmax - labels)
    close(softmax * labels.sum(axis=1, keepdims=True) - labels, x.grad)
