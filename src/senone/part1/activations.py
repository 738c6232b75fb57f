"""Activations: what a neuron makes of its weighted sum, and how fast that changes.

Each keeps the output of ``forward`` as ``state``, because the derivative of a sigmoid or a tanh is
cheapest to write in terms of the output itself. Inputs are never written to.
"""

from typing import Any

import numpy as np


class Activation:
    """A function R, applied to each element: ``forward(x) = R(x)`` and ``derivative() = R'(x)``."""

    def __init__(self) -> None:
        self.state: Any = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(N, n) -> (N, n), kept as ``state``."""
        raise NotImplementedError

    def derivative(self) -> np.ndarray | float:
        """R' at the input of the last ``forward``, of its shape; ``state`` stays as it is."""
        raise NotImplementedError


class Identity(Activation):
    """R(x) = x: the output layer, whose logits the criterion wants as they are."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.state = x
        return x

    def derivative(self) -> float:
        return 1.0


class Sigmoid(Activation):
    """R(x) = 1 / (1 + exp(-x)), between 0 and 1 (handout 1.1)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        state = np.asarray(-1.0 * x)  # an array of our own, to work in
        with np.errstate(over="ignore", under="ignore"):  # exp(1000) is inf, 1 / inf is the 0 that is wanted
            np.exp(state, out=state)
        state += 1
        self.state = np.divide(1, state, out=state)
        return self.state

    def derivative(self) -> np.ndarray:
        return self.state * (1 - self.state)


class Tanh(Activation):
    """R(x) = tanh(x), between -1 and 1 (handout 1.1)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.state = np.tanh(x)
        return self.state

    def derivative(self) -> np.ndarray:
        return 1 - self.state**2


class ReLU(Activation):
    """R(x) = max(x, 0) (handout 1.1).

    Its ``state`` is 0 both at x = 0 and below, where R' differs, so it also remembers ``active``.
    """

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.active = np.greater_equal(x, 0)  # handout 1.1.6: R'(0) = 1; torch says 0
        self.state = np.maximum(x, 0)
        return self.state

    def derivative(self) -> np.ndarray:
        return self.active.astype(self.state.dtype)
