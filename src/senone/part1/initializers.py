"""What the parameters are before training."""

import numpy as np


def random_normal_weight_init(d0: int, d1: int) -> np.ndarray:
    """(d0, d1) standard normal weights, from numpy's global generator as the handout has it."""
    return np.random.randn(d0, d1)  # noqa: NPY002


def scaled_normal_weight_init(d0: int, d1: int) -> np.ndarray:
    """(d0, d1) normal weights of variance 1 / d0, so that d0 inputs of variance 1 add up to variance 1."""
    return np.random.randn(d0, d1) / np.sqrt(d0)  # noqa: NPY002


def zeros_bias_init(d: int) -> np.ndarray:
    """(1, d) biases of 0."""
    return np.zeros((1, d))
