"""The recurrent network, forwards and backwards in time."""

import torch
from torch import nn

from senone.models.blocks import Dropout, FrameModel, splice


class BiLstm(FrameModel):
    """(B, T+2k, F) -> (B, T, K): layers of bidirectional LSTMs over the whole stretch.

    Each frame comes with ``splice`` neighbours on each side; in what is left of the context, the recurrence
    warms up.
    """

    contest_legal = False

    def __init__(
        self,
        num_bins: int,
        num_classes: int,
        context: int,
        splice: int,
        width: int,
        layers: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.context, self.splice = context, splice
        self.lstm = nn.LSTM(
            (2 * splice + 1) * num_bins,
            width,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,  # between layers; with one layer torch warns
        )
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(2 * width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(splice(x, self.splice))  # (B, T+2(k-splice), 2*width)
        warm_up = self.context - self.splice
        logits: torch.Tensor = self.output(self.dropout(y[:, warm_up : y.shape[1] - warm_up]))
        return logits
