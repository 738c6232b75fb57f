"""The context-window classifier: legal in the contest."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from senone.models.blocks import Dense, FrameModel, Rotation


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
    ) -> None:
        super().__init__()
        self.context = context
        self.rotation = Rotation(num_bins) if rotate else nn.Identity()
        sizes = [(2 * context + 1) * num_bins, *widths]
        self.hidden = nn.Sequential(
            *(
                Dense(n_in, n_out, norm=norm, activation=activation, dropout=dropout, residual=residual)
                for n_in, n_out in pairwise(sizes)
            )
        )
        self.output = nn.Linear(sizes[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, stretch, bins = x.shape
        frames, width = stretch - 2 * self.context, 2 * self.context + 1
        x = self.rotation(x).contiguous()
        windows = x.as_strided((batch, frames, width * bins), (stretch * bins, bins, 1))
        logits = self.output(self.hidden(windows.reshape(batch * frames, width * bins)))  # (B*T, K)
        return logits.view(batch, frames, -1)
