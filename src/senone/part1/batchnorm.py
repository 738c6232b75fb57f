"""Batch normalisation: each feature to mean 0, variance 1 over the batch; then a learnt scale and shift."""

from typing import Any

import numpy as np


class BatchNorm:
    """out = gamma * (x - mean) / sqrt(var + eps) + beta, by statistics of the batch (handout, on BatchNorm).

    ``eval=True`` uses averages that ran along with training instead. Variances are biased, all of them
    (a sum divided by N; torch divides the running one by N - 1). ``alpha`` is how much of a running
    average stays at each batch: 1 minus what torch calls momentum.
    """

    def __init__(self, fan_in: int, alpha: float = 0.9, dtype: Any = np.float64) -> None:
        self.alpha = alpha
        self.eps = 1e-8
        self.x: Any = None  # (N, fan_in), what came in
        self.norm: Any = None  # (N, fan_in), normalised
        self.out: Any = None  # (N, fan_in), scaled and shifted

        self.mean = np.zeros((1, fan_in), dtype)
        self.var = np.ones((1, fan_in), dtype)
        self.running_mean = np.zeros((1, fan_in), dtype)
        self.running_var = np.ones((1, fan_in), dtype)

        self.gamma = np.ones((1, fan_in), dtype)
        self.beta = np.zeros((1, fan_in), dtype)
        self.dgamma = np.zeros((1, fan_in), dtype)
        self.dbeta = np.zeros((1, fan_in), dtype)

    def __call__(self, x: np.ndarray, eval: bool = False) -> np.ndarray:
        return self.forward(x, eval)

    def forward(self, x: np.ndarray, eval: bool = False) -> np.ndarray:
        """(N, fan_in) -> (N, fan_in). Training moves the running statistics, evaluation leaves them alone."""
        if np.ndim(x) != 2 or x.shape[1] != self.gamma.size:
            raise ValueError(
                f"BatchNorm: expected an input of shape (N, {self.gamma.size}), got {np.shape(x)}"
            )
        self.x = x
        self.eval = eval
        if eval:
            centred = x - self.running_mean
            var = self.running_var
        else:
            average = np.full((1, len(x)), 1 / len(x), self.gamma.dtype)
            self.mean = average @ x  # (1, N) @ (N, fan_in) -> (1, fan_in), faster than x.mean(axis=0)
            centred = x - self.mean
            self.var = var = average @ centred**2
            self.running_mean = self.alpha * self.running_mean + (1 - self.alpha) * self.mean
            self.running_var = self.alpha * self.running_var + (1 - self.alpha) * self.var
        self.inv_std = 1 / np.sqrt(var + self.eps)  # (1, fan_in)
        self.norm = np.multiply(centred, self.inv_std, out=centred)
        self.out = self.gamma * self.norm
        self.out += self.beta
        return self.out

    def backward(self, delta: np.ndarray) -> np.ndarray:
        """(N, fan_in) derivatives by ``out`` -> (N, fan_in) derivatives by ``x``.

        ``dgamma`` and ``dbeta``, (fan_in,), are sums over the batch. The mean and the variance depend
        on x as well, and the handout's derivatives through both of them add up to
        dx = gamma / std * (delta - mean(delta) - norm * mean(delta * norm)).
        """
        ones = np.ones(len(delta), delta.dtype)
        self.dgamma = ones @ (delta * self.norm)
        self.dbeta = ones @ delta
        if self.eval:  # the running statistics are constants
            return self.gamma * self.inv_std * delta
        dx = self.norm * (self.dgamma / len(delta))
        dx += self.dbeta / len(delta)
        np.subtract(delta, dx, out=dx)
        dx *= self.gamma * self.inv_std
        return dx
