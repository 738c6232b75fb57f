"""Speech as another vocal tract would say it: the frequency axis stretched (Jaitly & Hinton 2013)."""

import torch

from senone.models import FrameModel


class Warped(FrameModel):
    """(B, T+2k, F) -> (B, T, K): a model that sees each frame warped by ``factor``."""

    def __init__(self, model: FrameModel, factor: float, num_bins: int) -> None:
        super().__init__()
        self.context, self.contest_legal, self.by_window = model.context, model.contest_legal, model.by_window
        self.model = model
        self.matrix = torch.nn.Buffer(warp_matrix(num_bins, factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x @ self.matrix)
        return logits


def warp_matrix(num_bins: int, factor: float) -> torch.Tensor:
    """(F, F): frames times it have in bin j what they had at j * factor, linear between two bins, and in the
    last bins what they had in the very last."""
    bins = torch.arange(num_bins, dtype=torch.float32)
    sources = (bins * factor).clamp(max=num_bins - 1)
    return (1 - (bins[:, None] - sources).abs()).clamp(min=0)
