"""The recurrent network, forwards and backwards in time, behind two convolutions."""

from collections.abc import Sequence

import torch
from torch import nn

from senone.models.blocks import Dropout, FrameModel, Surroundings


class BiLstm(FrameModel):
    """(B, T+2k, F) -> (B, T, K): convolutions over time and frequency, then bidirectional LSTMs over the
    whole stretch (CLDNN, Sainath et al. 2015).

    A step of the LSTMs sees ``stride`` frames, two more on each side, and decides on all of them: half the
    steps take half the time. In what is left of the context, the recurrence warms up.
    """

    contest_legal = False

    def __init__(
        self,
        num_bins: int,
        num_classes: int,
        context: int,
        channels: Sequence[int],
        stride: int,
        width: int,
        layers: int,
        dropout: float = 0.0,
        surroundings: bool = False,
    ) -> None:
        super().__init__()
        self.context, self.stride, self.num_classes = context, stride, num_classes
        first, second = channels
        self.front = nn.Sequential(
            Convolution2d(1, first, (3, 3), stride=1),
            Convolution2d(first, second, (stride + 2, 3), stride=stride),
        )
        features = second * -(-num_bins // 4)
        self.lstm = nn.LSTM(
            features,
            width,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,  # between layers; with one layer torch warns
        )
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(2 * width, stride * num_classes)
        self.surroundings = Surroundings(features) if surroundings else None

    def forward(self, x: torch.Tensor, surroundings: torch.Tensor | None = None) -> torch.Tensor:
        frames = x.shape[1] - 2 * self.context
        maps = self.front(x.unsqueeze(1))  # (B, C, S, F/4); step i decides on frames 2+i*stride and on
        steps = maps.permute(0, 2, 3, 1).flatten(2)  # (B, S, D)
        if self.surroundings is not None:
            steps = steps + self.surroundings(surroundings, steps.shape[1], 2 - self.context, self.stride)
        if steps.is_cuda:  # autocast would give cuDNN's LSTMs float16, which is coarse below 6e-5
            with torch.autocast("cuda", enabled=False):
                y, _ = self.lstm(steps.float())  # (B, S, 2*width)
        else:
            y, _ = self.lstm(steps)
        logits: torch.Tensor = self.output(self.dropout(y)).view(len(x), -1, self.num_classes)
        return logits[:, self.context - 2 : self.context - 2 + frames]


class Convolution2d(nn.Sequential):
    """(B, C_in, T, F) -> (B, C, T', F/2): a convolution over time and frequency, BatchNorm, ReLU, and the
    larger of each two bins. Time is not padded."""

    def __init__(self, n_in: int, n_out: int, kernel: tuple[int, int], stride: int) -> None:
        # a BatchNorm takes the mean out again, so a bias before it would learn nothing
        convolution = nn.Conv2d(n_in, n_out, kernel, stride=(stride, 1), padding=(0, 1), bias=False)
        # a pixel's channels side by side in memory: on a CPU more than twice as fast
        convolution.weight = nn.Parameter(convolution.weight.contiguous(memory_format=torch.channels_last))
        pool = nn.MaxPool2d((1, 2), ceil_mode=True)
        super().__init__(convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True), pool)
