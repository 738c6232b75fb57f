"""The time-delay network: convolutions over time."""

from collections.abc import Sequence

import torch
from torch import nn

from senone.models.blocks import Dense, FrameModel, Surroundings, splice


class Tdnn(FrameModel):
    """(B, T+2k, F) -> (B, T, K): residual blocks of dilated convolutions over time.

    Nothing is padded: ``splice`` and ``dilations`` use up the context, which is their sum, and a frame sees
    the same frames whatever the stretch it stands in.
    """

    contest_legal = False

    def __init__(
        self,
        num_bins: int,
        num_classes: int,
        context: int,
        splice: int,
        dilations: Sequence[int],
        width: int,
        bottleneck: int,
        norm: str = "batch",
        activation: str = "relu",
        dropout: float = 0.0,
        surroundings: bool = False,
    ) -> None:
        super().__init__()
        assert context == splice + sum(dilations), "a context that splice and dilations do not use up"
        self.context, self.splice = context, splice
        self.input = Dense(
            (2 * splice + 1) * num_bins,
            width,
            norm=norm,
            activation=activation,
            dropout=dropout,
            residual=False,
        )
        self.blocks = nn.Sequential(
            *(
                FactoredConvolution(
                    width, bottleneck, dilation, norm=norm, activation=activation, dropout=dropout
                )
                for dilation in dilations
            )
        )
        self.output = nn.Linear(width, num_classes)
        self.surroundings = Surroundings(width) if surroundings else None

    def forward(self, x: torch.Tensor, surroundings: torch.Tensor | None = None) -> torch.Tensor:
        x = splice(x, self.splice)
        shift = None
        if self.surroundings is not None:
            shift = self.surroundings(surroundings, x.shape[1], first=self.splice - self.context)
        hidden: torch.Tensor = self.blocks(self.input(x, shift))
        logits: torch.Tensor = self.output(hidden)
        return logits


class FactoredConvolution(nn.Module):
    """(B, T+2d, C) -> (B, T, C): a convolution of three frames d apart, its matrix the product of two with a
    bottleneck between them (Povey et al. 2018, TDNN-F, without the orthogonal constraint), plus its input."""

    def __init__(
        self, width: int, bottleneck: int, dilation: int, *, norm: str, activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.narrow = nn.Linear(width, bottleneck, bias=False)
        self.widen = Dense(
            3 * bottleneck, width, norm=norm, activation=activation, dropout=dropout, residual=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.widen(splice(self.narrow(x), 1, self.dilation))
        return x[:, self.dilation : -self.dilation] + y
