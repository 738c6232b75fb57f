"""Pieces that models share."""

from collections.abc import Callable

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
    "tanh": nn.Tanh,
}

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "none": lambda width: nn.Identity(),
}


class FrameModel(nn.Module):
    """A function from (B, T+2k, F) padded frames to (B, T, K) logits, k being its ``context``.

    T = 1 is the classic context-window classifier on shuffled frames; with a larger T the same network is
    slid along a chunk or a whole utterance.
    """

    context: int
    contest_legal: bool  # the contest's rules allow only fully connected networks


class Dense(nn.Module):
    """Linear, norm, activation, dropout: (B, n_in) -> (B, n_out), plus its input if ``residual``."""

    def __init__(
        self, n_in: int, n_out: int, *, norm: str, activation: str, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        # a BatchNorm takes the mean out again, so a bias before it would learn nothing
        self.linear = nn.Linear(n_in, n_out, bias=norm != "batch")
        self.norm = NORMS[norm](n_out)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.residual = residual and n_in == n_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(self.activation(self.norm(self.linear(x))))
        return x + y if self.residual else y
