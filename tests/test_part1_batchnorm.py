import numpy as np
import pytest

from senone import part1


def batch(seed=0, n=8):
    rng = np.random.default_rng(seed)
    return rng.uniform(-2, 2, 3) + rng.uniform(0.5, 3, 3) * rng.standard_normal((n, 3))


def test_a_new_layer_has_the_handouts_attributes():
    bn = part1.BatchNorm(3)
    assert (bn.alpha, bn.eps) == (0.9, 1e-8)
    assert [bn.x, bn.norm, bn.out] == [None] * 3
    for ones in (bn.var, bn.gamma, bn.running_var):
        np.testing.assert_array_equal(ones, np.ones((1, 3)))
    for zeros in (bn.mean, bn.beta, bn.running_mean, bn.dgamma, bn.dbeta):
        np.testing.assert_array_equal(zeros, np.zeros((1, 3)))


def test_training_normalises_by_the_batch():
    bn, x = part1.BatchNorm(3), batch()
    bn.gamma, bn.beta = np.array([[1.0, 2.0, 3.0]]), np.array([[0.5, -0.5, 0.0]])
    out = bn(x)
    np.testing.assert_allclose(bn.mean, x.mean(axis=0)[None])
    np.testing.assert_allclose(bn.var, x.var(axis=0)[None])
    np.testing.assert_allclose(bn.norm, (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-8))
    np.testing.assert_allclose(out, bn.gamma * bn.norm + bn.beta)
    assert bn.x is x
    assert bn.out is out


def check_running_statistics():
    """They are averages with weight alpha on the past, biased variances included."""
    bn = part1.BatchNorm(3, alpha=0.7)
    mean, var = np.zeros((1, 3)), np.ones((1, 3))
    for seed in range(4):
        x = batch(seed)
        bn.forward(x)
        mean = 0.7 * mean + 0.3 * x.sum(axis=0) / len(x)
        var = 0.7 * var + 0.3 * ((x - x.sum(axis=0) / len(x)) ** 2).sum(axis=0) / len(x)
        np.testing.assert_allclose(bn.running_mean, mean)
        np.testing.assert_allclose(bn.running_var, var)


def test_running_statistics_are_averages_of_the_batches():
    check_running_statistics()


def test_evaluation_uses_the_running_statistics_and_leaves_them_alone():
    bn = part1.BatchNorm(3)
    for seed in range(3):
        bn(batch(seed))
    mean, var = bn.running_mean.copy(), bn.running_var.copy()
    out = bn(batch(9), eval=True)
    np.testing.assert_allclose(out, (batch(9) - mean) / np.sqrt(var + 1e-8))
    np.testing.assert_array_equal(bn.running_mean, mean)
    np.testing.assert_array_equal(bn.running_var, var)
    single = bn(batch(9)[:1], eval=True)
    np.testing.assert_allclose(single, out[:1])


def test_gradients_of_gamma_and_beta_are_sums_over_the_batch():
    bn, delta = part1.BatchNorm(3), np.random.default_rng(1).standard_normal((8, 3))
    bn(batch())
    bn.backward(delta)
    assert bn.dgamma.shape == bn.dbeta.shape == (3,)
    np.testing.assert_allclose(bn.dgamma, (delta * bn.norm).sum(axis=0))
    np.testing.assert_allclose(bn.dbeta, delta.sum(axis=0))


def test_the_input_gradient_is_that_of_the_writeups_three_steps():
    """The formulas of the writeup one by one: through norm, then the variance, then the mean."""
    bn, x, delta = part1.BatchNorm(3), batch(), np.random.default_rng(1).standard_normal((8, 3))
    bn.gamma = np.array([[1.0, 2.0, 3.0]])
    bn(x)
    std = np.sqrt(bn.var + bn.eps)
    by_norm = delta * bn.gamma
    by_var = -0.5 * np.sum(by_norm * (x - bn.mean) / std**3, axis=0)
    by_mean = -np.sum(by_norm / std, axis=0) - 2 / len(x) * by_var * np.sum(x - bn.mean, axis=0)
    by_x = by_norm / std + by_var * 2 / len(x) * (x - bn.mean) + by_mean / len(x)
    np.testing.assert_allclose(bn.backward(delta), by_x)
    assert np.abs(by_x).max() > 0.1


def test_neither_input_nor_delta_is_written_to_and_results_outlive_the_next_batch():
    bn, x, delta = part1.BatchNorm(3), batch(), np.random.default_rng(1).standard_normal((8, 3))
    x.flags.writeable = delta.flags.writeable = False
    for eval_mode in (False, True):
        out, dx = bn(x, eval=eval_mode), bn.backward(delta)
        before = out.copy(), dx.copy()
        bn(batch(1))
        bn.backward(delta)
        np.testing.assert_array_equal(out, before[0])
        np.testing.assert_array_equal(dx, before[1])


def test_a_constant_feature_becomes_beta():
    bn = part1.BatchNorm(3)
    bn.beta = np.array([[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(bn(np.full((8, 3), 0.1)), np.tile([[1.0, 2.0, 3.0]], (8, 1)), atol=1e-10)


@pytest.mark.parametrize("shape", [(8, 4), (3,), (2, 8, 3)])
def test_an_input_of_another_width_is_refused(shape):
    with pytest.raises(ValueError, match=r"BatchNorm: expected an input of shape \(N, 3\), got \(.*\)$"):
        part1.BatchNorm(3)(np.zeros(shape))
