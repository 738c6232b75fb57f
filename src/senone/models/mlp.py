"""The context-window classifier: legal in the contest."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from senone.models.blocks import Dense, FrameModel, Logits, Rotation, Surroundings


class Mlp(FrameModel):
    """(B, T+2k, F) -> (B, T, K): the window of 2k+1 frames around each frame through dense layers.

    One network for both uses: with T = 1 a batch of B windows, with T > 1 slid along B stretches.
    """

    contest_legal = True
    by_window = True

    def __init__(
        self,
        num_bins: int,
        num_classes: int,
        context: int,
        widths: Sequence[int],
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        residual: bool = False,
        rotate: bool = False,
        surroundings: bool = False,
    ) -> None:
        super().__init__()
        self.context = context
        self.rotation = Rotation(num_bins) if rotate else nn.Identity()
        sizes = [(2 * context + 1) * num_bins, *widths]
        self.hidden = nn.ModuleList(
            Dense(n_in, n_out, norm=norm, activation=activation, dropout=dropout, residual=residual)
            for n_in, n_out in pairwise(sizes)
        )
        self.output = Logits(sizes[-1], num_classes)
        self.surroundings = Surroundings([*widths, num_classes][0]) if surroundings else None

    def forward(self, x: torch.Tensor, surroundings: torch.Tensor | None = None) -> torch.Tensor:
        batch, stretch, bins = x.shape
        frames, width = stretch - 2 * self.context, 2 * self.context + 1
        x = self.rotation(x).contiguous()
        windows = x.as_strided((batch, frames, width * bins), (stretch * bins, bins, 1))
        hidden = windows.reshape(batch * frames, width * bins)
        shift = None  # of the first layer, hidden or not
        if self.surroundings is not None:
            shift = self.surroundings(surroundings, frames).flatten(0, 1)  # (B*T, C)
        for dense in self.hidden:
            hidden, shift = dense(hidden, shift), None
        logits = self.output(hidden)  # (B*T, K)
        return (logits if shift is None else logits + shift).view(batch, frames, -1)
