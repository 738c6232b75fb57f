"""The criterion: how wrong the logits are, and which way each of them should move."""

from typing import Any

import numpy as np


class Criterion:
    """A loss of each example, and its derivative by the logits."""

    def __init__(self) -> None:
        self.logits: Any = None
        self.labels: Any = None
        self.loss: Any = None

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.forward(x, y)

    def forward(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, C) logits and (N, C) one-hot labels -> (N,) losses."""
        raise NotImplementedError

    def derivative(self) -> np.ndarray:
        """(N, C): the derivative of each example's loss by its logits."""
        raise NotImplementedError


class SoftmaxCrossEntropy(Criterion):
    """The softmax of the logits, and minus the log of what it gives the true class (handout, on the loss)."""

    def __init__(self) -> None:
        super().__init__()
        self.sm: Any = None

    def forward(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, C) logits and (N, C) labels -> (N,) losses; keeps ``logits``, ``labels``, ``sm``, ``loss``.

        By LogSumExp, as the handout asks: with the row's largest logit taken off, no exp can overflow, and
        log softmax(x) = x - max - log(sum(exp(x - max))) never takes the logarithm of 0.
        """
        if np.ndim(x) != 2 or np.shape(x) != np.shape(y):
            raise ValueError(
                f"criterion: expected logits and one-hot labels of one shape (N, C), "
                f"got {np.shape(x)} and {np.shape(y)}"
            )
        self.logits, self.labels = x, y
        shifted = x - x.max(axis=1, keepdims=True)
        self.sm = np.exp(shifted)
        total = self.sm.sum(axis=1, keepdims=True)  # (N, 1), between 1 and C
        self.sm /= total
        self.loss = np.sum(y * (np.log(total) - shifted), axis=1)
        return self.loss

    def derivative(self) -> np.ndarray:
        """(N, C): softmax minus labels, for each example by itself, not divided by N."""
        return self.sm - self.labels
