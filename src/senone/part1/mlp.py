"""The multilayer perceptron: its forward pass, its gradients, its step."""

from collections.abc import Callable, Sequence
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np

from senone.part1.activations import Activation
from senone.part1.batchnorm import BatchNorm
from senone.part1.loss import Criterion


class MLP:
    """L layers: each linear, then (the first ``num_bn_layers``) batch normalisation, then an activation.

    ``W[i]`` (n_in, n_out) and ``b[i]`` (1, n_out) are the parameters of layer i, ``dW[i]`` (n_in, n_out)
    and ``db[i]`` (n_out,) their gradients, means over the batch. ``backward`` and ``step`` put new arrays
    into these lists and never write to the old ones: what you take from them stays as it is, and what you
    assign to them, or change in place, is what the next ``forward`` and ``step`` start from.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hiddens: Sequence[int],
        activations: Sequence[Activation],
        weight_init_fn: Callable[[int, int], np.ndarray],
        bias_init_fn: Callable[[int], np.ndarray],
        criterion: Criterion,
        lr: float,
        momentum: float = 0.0,
        num_bn_layers: int = 0,
    ) -> None:
        self.train_mode = True
        self.num_bn_layers = num_bn_layers
        self.bn = num_bn_layers > 0
        self.nlayers = len(hiddens) + 1
        self.input_size = input_size
        self.output_size = output_size
        self.criterion = criterion
        self.lr = lr
        self.momentum = momentum

        if len(activations) != self.nlayers:
            raise ValueError(f"activations: expected {self.nlayers}, one a layer, got {len(activations)}")
        if not 0 <= num_bn_layers <= self.nlayers:
            raise ValueError(f"num_bn_layers: expected 0 to {self.nlayers}, the layers, got {num_bn_layers}")

        # A layer keeps its state in its activation, so one that is listed twice becomes two.
        self.activations = [copy(a) if a in activations[:i] else a for i, a in enumerate(activations)]

        layers = list(pairwise([input_size, *hiddens, output_size]))  # (n_in, n_out) of each
        self.W = [weight_init_fn(n_in, n_out) for n_in, n_out in layers]
        self.b = [bias_init_fn(n_out) for _, n_out in layers]
        for (n_in, n_out), W, b in zip(layers, self.W, self.b, strict=True):
            if W.shape != (n_in, n_out):
                raise ValueError(f"weight_init_fn: expected an array of shape {(n_in, n_out)}, got {W.shape}")
            if b.shape not in ((1, n_out), (n_out,)):
                raise ValueError(f"bias_init_fn: expected an array of shape {(1, n_out)}, got {b.shape}")
        if self.bn:
            types = [np.result_type(W, np.float32) for W in self.W]  # float64 if W came as integers
            self.bn_layers = [BatchNorm(layers[i][1], dtype=types[i]) for i in range(num_bn_layers)]

        self.zero_grads()
        self.vW: list[Any] = [0.0] * self.nlayers  # velocities, at rest; from the first step on arrays
        self.vb: list[Any] = [0.0] * self.nlayers
        self.inputs: list[np.ndarray] = []  # what each layer was given, for backward

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.forward(x)

    def train(self) -> None:
        self.train_mode = True

    def eval(self) -> None:
        """From now on BatchNorm uses its running statistics; nothing else differs (handout, on BatchNorm)."""
        self.train_mode = False

    def zero_grads(self) -> None:
        """Every gradient to 0. ``backward`` does without: its gradients replace the old ones."""
        self.dW = [np.zeros(W.shape, W.dtype) for W in self.W]
        self.db = [np.zeros(b.size, b.dtype) for b in self.b]
        if self.bn:
            for bn in self.bn_layers:
                bn.dgamma = np.zeros(bn.gamma.shape, bn.gamma.dtype)
                bn.dbeta = np.zeros(bn.beta.shape, bn.beta.dtype)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """(N, input_size) -> (N, output_size) logits (handout, on the MLP)."""
        if np.ndim(x) != 2 or x.shape[1] != self.input_size:
            raise ValueError(f"MLP: expected an input of shape (N, {self.input_size}), got {np.shape(x)}")
        self.inputs = []
        for i in range(self.nlayers):
            self.inputs.append(x)  # (N, n_in)
            x = x @ self.W[i]  # (N, n_in) -> (N, n_out)
            x += self.b[i]
            if i < self.num_bn_layers:
                x = self.bn_layers[i](x, eval=not self.train_mode)
            x = self.activations[i](x)
        self.logits = x
        return x

    def backward(self, labels: np.ndarray) -> None:
        """(N, output_size) labels of the last ``forward`` -> ``dW``, ``db`` and BatchNorm's gradients.

        ``delta`` is the derivative of each example's own loss by what the layer at hand computed,
        taken back through the layer's three parts in turn (handout, on the MLP).
        """
        if not self.inputs:
            raise ValueError("MLP: backward needs a forward before it")
        self.criterion(self.logits, labels)
        delta = self.criterion.derivative()  # (N, output_size)
        ones = np.ones(len(delta), delta.dtype)  # ones @ array: faster than array.sum(axis=0)
        for i in reversed(range(self.nlayers)):
            delta = delta * self.activations[i].derivative()  # (N, n_out)
            if i < self.num_bn_layers:
                delta = self.bn_layers[i].backward(delta)
            mean_delta = delta * (1 / len(delta))  # faster than a division
            self.dW[i] = self.inputs[i].T @ mean_delta  # (n_in, N) @ (N, n_out) -> (n_in, n_out)
            self.db[i] = ones @ mean_delta  # (n_out,)
            if i > 0:  # nobody asks for the derivative by the network's own input
                delta = delta @ self.W[i].T  # (N, n_out) -> (N, n_in)

    def step(self) -> None:
        """Gradient descent (handout, on momentum): v = momentum * v - lr * dW, W += v; b alike.

        Without momentum: gamma -= lr * dgamma, beta -= lr * dbeta, which are sums over the batch.
        """
        for i in range(self.nlayers):
            self.vW[i] *= self.momentum
            self.vW[i] -= self.lr * self.dW[i]
            self.W[i] = self.W[i] + self.vW[i]
            self.vb[i] *= self.momentum
            self.vb[i] -= self.lr * self.db[i]
            self.b[i] = self.b[i] + self.vb[i]
        if self.bn:
            for bn in self.bn_layers:
                bn.gamma = bn.gamma - self.lr * bn.dgamma
                bn.beta = bn.beta - self.lr * bn.dbeta
