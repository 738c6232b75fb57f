import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import senone
from senone import part1


def make_mlp(hiddens=(6, 5), num_bn_layers=0, momentum=0.9, lr=0.1, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return part1.MLP(
        4,
        3,
        list(hiddens),
        [part1.Tanh() for _ in hiddens] + [part1.Identity()],
        lambda n_in, n_out: rng.standard_normal((n_in, n_out)).astype(dtype),
        lambda n_out: np.zeros((1, n_out), dtype),
        part1.SoftmaxCrossEntropy(),
        lr,
        momentum,
        num_bn_layers,
    )


def batch(n=8, dtype=np.float64, seed=0):
    rng = np.random.default_rng([2, seed])
    x = rng.standard_normal((n, 4)).astype(dtype)
    return x, np.eye(3, dtype=dtype)[rng.integers(0, 3, n)]


def take_step(mlp, x, labels):
    mlp.zero_grads()
    out = mlp(x)
    mlp.backward(labels)
    mlp.step()
    return out


def test_a_new_network_has_the_handouts_attributes():
    activations, criterion = [part1.Sigmoid(), part1.Identity()], part1.SoftmaxCrossEntropy()
    mlp = part1.MLP(
        4, 3, [6], activations, part1.random_normal_weight_init, part1.zeros_bias_init, criterion, 0.01
    )
    assert mlp.train_mode is True
    assert (mlp.num_bn_layers, mlp.bn, mlp.nlayers) == (0, False, 2)
    assert (mlp.input_size, mlp.output_size, mlp.lr, mlp.momentum) == (4, 3, 0.01, 0.0)
    assert mlp.activations == activations
    assert mlp.criterion is criterion
    assert not hasattr(mlp, "bn_layers")
    assert [array.shape for array in mlp.W] == [array.shape for array in mlp.dW] == [(4, 6), (6, 3)]
    assert [array.shape for array in mlp.b] == [(1, 6), (1, 3)]
    assert [array.shape for array in mlp.db] == [(6,), (3,)]
    assert all(type(array) is np.ndarray for array in (*mlp.W, *mlp.b))
    assert len(make_mlp(num_bn_layers=2).bn_layers) == 2


def test_initialisers_draw_from_numpys_global_generator():
    np.random.seed(3)  # noqa: NPY002
    first = part1.random_normal_weight_init(4, 6)
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(first, np.random.standard_normal((4, 6)))  # noqa: NPY002
    np.testing.assert_array_equal(part1.zeros_bias_init(5), np.zeros((1, 5)))


def test_weights_are_initialised_in_order_one_call_a_layer():
    calls = []

    def weight_init(n_in, n_out):
        calls.append((n_in, n_out))
        return np.full((n_in, n_out), len(calls))

    mlp = part1.MLP(
        4, 3, [6, 5], [part1.ReLU() for _ in range(3)], weight_init, part1.zeros_bias_init, None, 0.1
    )  # fmt: skip
    assert calls == [(4, 6), (6, 5), (5, 3)]
    assert [W[0, 0] for W in mlp.W] == [1, 2, 3]


def test_weights_may_start_as_integers():
    def make(dtype):
        return part1.MLP(
            4, 3, [6], [part1.Tanh(), part1.Identity()],
            lambda n_in, n_out: (np.arange(n_in * n_out).reshape(n_in, n_out) % 3 - 1).astype(dtype),
            part1.zeros_bias_init, part1.SoftmaxCrossEntropy(), 0.1, 0.9, 1,
        )  # fmt: skip

    mlp, floats = make(np.int64), make(np.float64)
    for seed in range(2):
        take_step(mlp, *batch(seed=seed))
        take_step(floats, *batch(seed=seed))
    np.testing.assert_array_equal(mlp.W[0], floats.W[0])
    assert mlp.W[0].dtype == np.float64


def test_biases_of_shape_n_work_as_well():
    flat, row = make_mlp(), make_mlp()
    flat.b = [b.reshape(-1) for b in flat.b]
    for seed in range(3):
        take_step(flat, *batch(seed=seed))
        take_step(row, *batch(seed=seed))
    assert [b.shape for b in flat.b] == [(6,), (5,), (3,)]
    np.testing.assert_array_equal(flat.b[0], row.b[0][0])
    assert np.abs(flat.b[0]).max() > 0.01


def test_backward_replaces_gradients_without_zero_grads():
    mlp = make_mlp()
    x, labels = batch()
    mlp(x)
    mlp.backward(labels)
    first = mlp.dW[0]
    kept = first.copy()
    mlp(x)
    mlp.backward(labels)
    np.testing.assert_array_equal(mlp.dW[0], kept)
    mlp.zero_grads()
    np.testing.assert_array_equal(first, kept)  # an array that was taken away stays what it was
    assert np.abs(first).max() > 0.01


def test_arrays_taken_before_a_step_keep_their_values():
    mlp = make_mlp(num_bn_layers=1)
    before = [*mlp.W, *mlp.b, mlp.bn_layers[0].gamma]
    copies = [array.copy() for array in before]
    take_step(mlp, *batch())
    for array, copied, after in zip(before, copies, [*mlp.W, *mlp.b, mlp.bn_layers[0].gamma], strict=True):
        np.testing.assert_array_equal(array, copied)
        if array.shape != (1, 6):  # BatchNorm takes the bias before it out again
            assert not np.array_equal(array, after)


def test_zero_grads_makes_every_gradient_zero():
    mlp = make_mlp(num_bn_layers=2)
    take_step(mlp, *batch())
    bn = mlp.bn_layers[0]
    assert all(np.any(gradient) for gradient in (mlp.dW[0], mlp.db[2], bn.dgamma, bn.dbeta))
    mlp.zero_grads()
    gradients = [*mlp.dW, *mlp.db, *(g for bn in mlp.bn_layers for g in (bn.dgamma, bn.dbeta))]
    assert not any(np.any(gradient) for gradient in gradients)
    assert [db.shape for db in mlp.db] == [(6,), (5,), (3,)]


def test_gradients_are_means_so_a_batch_twice_over_changes_nothing():
    mlp = make_mlp()
    x, labels = batch()
    mlp(x)
    mlp.backward(labels)
    once = [*mlp.dW, *mlp.db]
    mlp(np.vstack([x, x]))
    mlp.backward(np.vstack([labels, labels]))
    for single, double in zip(once, [*mlp.dW, *mlp.db], strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-12)


def test_a_step_follows_the_formula():
    mlp = make_mlp(momentum=0.5, lr=0.1)
    W, b, vW, vb = mlp.W[1].copy(), mlp.b[1].copy(), 0.0, 0.0
    for seed in range(3):
        take_step(mlp, *batch(seed=seed))
        vW, vb = 0.5 * vW - 0.1 * mlp.dW[1], 0.5 * vb - 0.1 * mlp.db[1]
        W, b = W + vW, b + vb
        np.testing.assert_allclose(mlp.W[1], W, rtol=1e-13)
        np.testing.assert_allclose(mlp.b[1], b, rtol=1e-13)


def test_the_learning_rate_may_change_on_the_way():
    mlp = make_mlp(momentum=0.5, lr=0.1)
    W = mlp.W[0].copy()
    take_step(mlp, *batch())
    first = mlp.dW[0]
    mlp.lr = 0.01
    take_step(mlp, *batch(seed=1))
    expected = W - 0.1 * first + (0.5 * -0.1 * first - 0.01 * mlp.dW[0])
    np.testing.assert_allclose(mlp.W[0], expected, rtol=1e-12)


@pytest.mark.parametrize("how", ["one array", "a new list", "in place"])
def test_weights_set_from_outside_are_what_the_next_step_starts_from(how):
    mlp = make_mlp(momentum=0.0)
    take_step(mlp, *batch())
    new = np.random.default_rng(5).standard_normal((4, 6))
    if how == "one array":
        mlp.W[0] = new
    elif how == "a new list":
        mlp.W = [new, *mlp.W[1:]]
    else:
        mlp.W[0][...] = new
    x, labels = batch(seed=1)
    out = mlp(x)
    hidden = np.tanh(np.tanh(x @ new + mlp.b[0]) @ mlp.W[1] + mlp.b[1])
    np.testing.assert_allclose(out, hidden @ mlp.W[2] + mlp.b[2], rtol=1e-12)
    mlp.backward(labels)
    mlp.step()
    np.testing.assert_allclose(mlp.W[0], new - 0.1 * mlp.dW[0], rtol=1e-13)
    np.testing.assert_array_equal(new, np.random.default_rng(5).standard_normal((4, 6)))


def test_a_bias_set_from_outside_is_what_the_next_step_starts_from():
    mlp, new = make_mlp(momentum=0.0), np.arange(6.0)[None]
    mlp.b[0] = new
    take_step(mlp, *batch())
    np.testing.assert_allclose(mlp.b[0], np.arange(6.0)[None] - 0.1 * mlp.db[0])
    np.testing.assert_array_equal(new, np.arange(6.0)[None])


def test_forward_uses_the_weights_that_it_finds():
    mlp = make_mlp(hiddens=())
    x, _ = batch()
    mlp.W[0] = np.ones((4, 3))
    mlp.b[0] += 2
    np.testing.assert_allclose(mlp(x), x.sum(axis=1, keepdims=True) * np.ones((1, 3)) + 2)


def test_initial_arrays_are_not_written_to():
    W, b = np.ones((4, 3)), np.zeros((1, 3))
    mlp = part1.MLP(4, 3, [], [part1.Identity()], lambda *_: W, lambda _: b, part1.SoftmaxCrossEntropy(), 0.1)
    take_step(mlp, *batch())
    assert np.all(W == 1)
    assert np.all(b == 0)
    assert np.any(mlp.W[0] != 1)


def test_batch_norm_parameters_step_without_momentum():
    mlp = make_mlp(num_bn_layers=1, momentum=0.9, lr=0.1)
    gamma, beta = mlp.bn_layers[0].gamma, mlp.bn_layers[0].beta
    for seed in range(3):
        take_step(mlp, *batch(seed=seed))
        gamma = gamma - 0.1 * mlp.bn_layers[0].dgamma
        beta = beta - 0.1 * mlp.bn_layers[0].dbeta
    np.testing.assert_allclose(mlp.bn_layers[0].gamma, gamma)
    np.testing.assert_allclose(mlp.bn_layers[0].beta, beta)
    assert mlp.bn_layers[0].gamma.shape == (1, 6)


def test_logits_of_one_batch_outlive_the_next():
    mlp = make_mlp()
    first = mlp(batch()[0])
    kept = first.copy()
    take_step(mlp, *batch(seed=1))
    np.testing.assert_array_equal(first, kept)


def test_examples_and_labels_are_not_written_to():
    x, labels = batch()
    x.flags.writeable = labels.flags.writeable = False
    for activation in (part1.Identity, part1.ReLU):
        mlp = make_mlp(num_bn_layers=1)
        mlp.activations[0] = activation()
        take_step(mlp, x, labels)
    np.testing.assert_array_equal(x, batch()[0])


def test_eval_mode_changes_batch_norm_alone():
    x, labels = batch()
    plain = make_mlp()
    expected = plain(x)
    plain.eval()
    np.testing.assert_array_equal(plain(x), expected)

    mlp = make_mlp(num_bn_layers=2)
    trained = take_step(mlp, x, labels)
    mlp.eval()
    assert mlp.train_mode is False
    statistics = [mlp.bn_layers[1].running_mean.copy(), mlp.bn_layers[1].running_var.copy()]
    assert np.abs(mlp(x) - trained).max() > 0.01
    np.testing.assert_array_equal(mlp.bn_layers[1].running_mean, statistics[0])
    np.testing.assert_array_equal(mlp.bn_layers[1].running_var, statistics[1])
    mlp.train()
    assert mlp.train_mode is True


def test_an_activation_listed_twice_serves_two_layers():
    tanh = part1.Tanh()
    shared, apart = make_mlp(), make_mlp()
    rng = np.random.default_rng(0)
    shared = part1.MLP(
        4, 3, [6, 5], [tanh, tanh, part1.Identity()],
        lambda n_in, n_out: rng.standard_normal((n_in, n_out)), part1.zeros_bias_init,
        part1.SoftmaxCrossEntropy(), 0.1, 0.9,
    )  # fmt: skip
    take_step(shared, *batch())
    take_step(apart, *batch())
    for one, other in zip(shared.W, apart.W, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("num_bn_layers", [0, 2])
def test_a_float32_network_stays_float32(num_bn_layers):
    mlp = make_mlp(num_bn_layers=num_bn_layers, dtype=np.float32)
    for seed in range(2):
        out = take_step(mlp, *batch(dtype=np.float32, seed=seed))
    arrays = [out, mlp.criterion.loss, *mlp.W, *mlp.b, *mlp.dW, *mlp.db]
    for bn in mlp.bn_layers if num_bn_layers else []:
        arrays += [bn.gamma, bn.beta, bn.dgamma, bn.dbeta, bn.running_mean, bn.running_var, bn.norm]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


def test_a_float64_network_takes_bytes_and_integers():
    mlp, x = make_mlp(num_bn_layers=1), np.random.default_rng(0).integers(0, 256, (8, 4))
    expected = take_step(make_mlp(num_bn_layers=1), x.astype(np.float64), batch()[1])
    np.testing.assert_allclose(take_step(mlp, x.astype(np.uint8), batch()[1]), expected)


def test_training_brings_the_loss_down():
    mlp = make_mlp(num_bn_layers=1)
    x, labels = batch(32)
    labels = np.eye(3)[x[:, :3].argmax(axis=1)]
    losses = []
    for _ in range(60):
        take_step(mlp, x, labels)
        losses.append(mlp.criterion.loss.mean())
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bn_layers": 4}, r"num_bn_layers: expected 0 to 3, the layers, got 4"),
        ({"num_bn_layers": -1}, r"num_bn_layers: expected 0 to 3, the layers, got -1"),
        ({"activations": [part1.Tanh()]}, r"activations: expected 3, one a layer, got 1"),
        (
            {"weight_init_fn": lambda n_in, n_out: np.zeros((n_out, n_in))},
            r"weight_init_fn: expected an array of shape \(4, 6\), got \(6, 4\)",
        ),
        (
            {"bias_init_fn": lambda n_out: np.zeros((n_out, 1))},
            r"bias_init_fn: expected an array of shape \(1, 6\), got \(6, 1\)",
        ),
    ],
)
def test_what_makes_no_network_is_refused(changes, message):
    arguments = {
        "input_size": 4,
        "output_size": 3,
        "hiddens": [6, 5],
        "activations": [part1.Tanh() for _ in range(3)],
        "weight_init_fn": part1.random_normal_weight_init,
        "bias_init_fn": part1.zeros_bias_init,
        "criterion": part1.SoftmaxCrossEntropy(),
        "lr": 0.1,
    }
    with pytest.raises(ValueError, match=f"^{message}$"):
        part1.MLP(**arguments | changes)


@pytest.mark.parametrize("shape", [(8, 5), (4,), (2, 8, 4)])
def test_an_input_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"^MLP: expected an input of shape \(N, 4\), got \(.*\)$"):
        make_mlp()(np.zeros(shape))


def test_labels_of_another_shape_are_refused():
    mlp = make_mlp()
    mlp(batch()[0])
    for labels in (batch(7)[1], np.zeros((8, 4)), np.zeros(8)):
        with pytest.raises(
            ValueError, match=r"one-hot labels of one shape \(N, C\), got \(8, 3\) and \(.*\)$"
        ):
            mlp.backward(labels)


def test_backward_before_forward_is_refused():
    with pytest.raises(ValueError, match="backward needs a forward before it"):
        make_mlp().backward(batch()[1])


def test_part1_trains_where_torch_cannot_be_imported():
    program = """
        import sys
        sys.modules["torch"] = None  # from now on, importing it raises ImportError
        known = set(sys.modules)
        from senone.part1 import *
        import numpy as np
        mlp = MLP(4, 3, [6], [ReLU(), Identity()], random_normal_weight_init, zeros_bias_init,
                  SoftmaxCrossEntropy(), 0.1, 0.9, 1)
        dset = 3 * [(np.random.randn(10, 4), np.eye(3)[np.arange(10) % 3])]
        assert np.isfinite(get_training_stats(mlp, dset, 2, 4)).all()
        new = {name.partition(".")[0] for name in set(sys.modules) - known}
        print(*sorted(name for name in new - sys.stdlib_module_names if "cython" not in name))
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(senone.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["numpy", "senone"]
