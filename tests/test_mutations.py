"""The tests bite: each break of the numpy network that is planted here makes one of them fail."""

import inspect
import textwrap

import numpy as np
import pytest
from test_parity import check_central_differences, check_gradients, check_logits_of_1e5, check_steps, make_mlp
from test_part1_activations import check_relu_at_zero
from test_part1_batchnorm import check_running_statistics
from test_part1_training import check_order_of_training

from senone import part1
from senone.part1 import training

CHECKS = {
    "gradients": lambda: check_gradients(make_mlp([7, 6], "tanh", 0)),
    "gradients, BatchNorm": lambda: check_gradients(make_mlp([7, 6], "tanh", 2)),
    "gradients, eval": lambda: check_gradients(make_mlp([7, 6], "tanh", 2, "eval")),
    "slopes": lambda: check_central_differences(make_mlp([5], "sigmoid", 0)),
    "slopes, BatchNorm": lambda: check_central_differences(make_mlp([5], "relu", 1)),
    "steps": lambda: check_steps(make_mlp([7], "tanh", 0)),
    "steps, BatchNorm": lambda: check_steps(make_mlp([7], "tanh", 1)),
    "huge logits": check_logits_of_1e5,
    "order of training": check_order_of_training,
    "relu at zero": check_relu_at_zero,
    "running statistics": check_running_statistics,
}
WITHOUT_BATCH_NORM = ["gradients", "slopes", "steps"]
WITH_BATCH_NORM = ["gradients, BatchNorm", "slopes, BatchNorm", "steps, BatchNorm"]

STEP = (part1.MLP, "step")
BACKWARD = (part1.MLP, "backward")
NORM_FORWARD = (part1.BatchNorm, "forward")
NORM_BACKWARD = (part1.BatchNorm, "backward")
LOSS = (part1.SoftmaxCrossEntropy, "forward")

# what breaks: (where, a piece of the code there, what becomes of it, the checks that must notice)
MUTATIONS = {
    "momentum's sign": (STEP, "vW[i] *= self", "vW[i] *= -self", ["steps"]),
    "the step's sign": (STEP, "vb[i] -= self", "vb[i] += self", ["steps"]),
    "gamma's rate": (STEP, "bn.gamma - self.lr", "bn.gamma - 1.9 * self.lr", ["steps, BatchNorm"]),
    "the bias's reduction": (BACKWARD, "ones @ mean_delta", "ones @ delta", WITHOUT_BATCH_NORM),
    "the weights' reduction": (BACKWARD, "delta * (1 / len(delta))", "delta * 1", WITHOUT_BATCH_NORM),
    "the derivative": (BACKWARD, "delta * self.", "delta + 0 * self.", WITHOUT_BATCH_NORM),
    "BatchNorm's mean term": (NORM_BACKWARD, "dx += self.dbeta / len(delta)", "", WITH_BATCH_NORM),
    "BatchNorm's variance term": (NORM_BACKWARD, "self.norm * (", "0 * self.norm * (", WITH_BATCH_NORM),
    "constant statistics": (NORM_BACKWARD, "if self.eval:", "if False:", ["gradients, eval"]),
    "the mean of eval": (NORM_FORWARD, "x - self.running_mean", "x - self.mean", ["gradients, eval"]),
    "the variance of eval": (NORM_FORWARD, "= self.running_var\n", "= self.var\n", ["gradients, eval"]),
    "the running mean": (NORM_FORWARD, "self.alpha * self.running_mean", "0.8", ["running statistics"]),
    "the biased variance": (NORM_FORWARD, "average @ centred**2", "centred.var(0, ddof=1)", WITH_BATCH_NORM),
    "the softmax's shift": (LOSS, "x - x.max(axis=1, keepdims=True)", "x + 0.0", ["huge logits"]),
    "the logarithm of the sum": (LOSS, "np.log(total) - ", "-", ["gradients", "slopes"]),
    "evaluation in train mode": (
        (training, "evaluate"), "mlp.train_mode, False", "mlp.train_mode, True", ["order of training"],
    ),
    "the shuffle": (
        (part1, "get_training_stats"), "np.random.shuffle(order)", "order", ["order of training"],
    ),
    "R'(0)": ((part1.ReLU, "forward"), "np.greater_equal", "np.greater", ["relu at zero"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_a_sound_network_passes_every_check(name):
    CHECKS[name]()


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_broken_network_fails(name, monkeypatch):
    (owner, function_name), text, replacement, checks = MUTATIONS[name]
    function = getattr(owner, function_name)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(text) == 1, f"{text!r} stands {source.count(text)} times in {function_name}"
    broken = {}
    exec(source.replace(text, replacement), function.__globals__, broken)
    monkeypatch.setattr(owner, function_name, broken[function_name])
    for check in checks:
        with pytest.raises((AssertionError, RuntimeWarning)), np.errstate(all="warn"):
            CHECKS[check]()
