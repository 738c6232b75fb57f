"""Other frames to learn from: the same speech as another voice, faster or slower, with parts hidden."""

import math

import torch

from senone.config import AugmentConfig
from senone.models import FrameModel

MEL_LOWEST, MEL_HIGHEST = 31.7, 2840.0  # 20 and 8,000 Hz in mel


class Augmentation(AugmentConfig):
    """What changes in each example, drawn anew from torch's generator; 0 changes nothing.

    ``warp`` is as of a shorter or longer vocal tract (Jaitly & Hinton 2013); bins must be evenly spaced in
    mel. What ``bin_masks`` and ``frame_masks`` hide becomes 0, the mean of normalised frames (SpecAugment,
    Park et al. 2019).
    """

    def draw_speed(self, count: int, device: torch.device) -> torch.Tensor | None:
        """(B,) frames of the original to one of ours, between 1/(1+speed) and 1+speed; None if all are 1."""
        return draw_factors(count, self.speed, device) if self.speed else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T+2k, F) -> the same shape, in place where that can be done."""
        if self.warp:
            x = warp_bins(x, draw_factors(len(x), self.warp, x.device))
        if self.noise:
            x = x.add_(torch.randn_like(x), alpha=self.noise)
        for _ in range(self.bin_masks):
            x = x.mul_(draw_mask(len(x), x.shape[2], self.bin_mask_width, x.device)[:, None, :])
        for _ in range(self.frame_masks):
            x = x.mul_(draw_mask(len(x), x.shape[1], self.frame_mask_width, x.device)[:, :, None])
        return x


def draw_factors(count: int, spread: float, device: torch.device) -> torch.Tensor:
    """(B,) factors between 1/(1+spread) and 1+spread, one as likely as its inverse."""
    return ((2 * torch.rand(count, device=device) - 1) * math.log1p(spread)).exp()


def draw_mask(count: int, size: int, widest: int, device: torch.device) -> torch.Tensor:
    """(B, size) of ones, but for 0 to ``widest`` zeros in a row at any place of each row."""
    width = torch.rand(count, 1, device=device) * (min(widest, size) + 1)
    first = torch.rand(count, 1, device=device) * (size + 1 - width.floor())
    places = torch.arange(size, device=device)
    hidden = (places >= first.floor()) & (places < first.floor() + width.floor())
    return (~hidden).float()


def warp_bins(x: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """(B, L, F) and (B,) -> (B, L, F): each bin as it was at ``factor`` times its frequency, interpolated
    between mel bins from 20 to 8,000 Hz; beyond them the outermost."""
    bins = x.shape[2]
    spacing = (MEL_HIGHEST - MEL_LOWEST) / (bins + 1)
    mel = MEL_LOWEST + spacing * torch.arange(1, bins + 1, device=x.device)  # (F,) of the bins' peaks
    # mel = 1127 ln(1 + f/700), so f times a factor is at 1127 ln(1 + factor * (e^(mel/1127) - 1))
    warped = 1127 * torch.log1p(factors[:, None] * torch.expm1(mel / 1127))  # (B, F)
    source = ((warped - MEL_LOWEST) / spacing - 1).clamp(0, bins - 1)
    below = source.long().clamp(max=max(bins - 2, 0))
    share = (source - below)[:, None, :].to(x.dtype)
    below = below[:, None, :].expand(x.shape)
    return torch.lerp(x.gather(2, below), x.gather(2, (below + 1).clamp(max=bins - 1)), share)


class Warped(FrameModel):
    """(B, T+2k, F) -> (B, T, K): a model that hears all frequencies at ``factor`` times what they are."""

    def __init__(self, model: FrameModel, factor: float) -> None:
        super().__init__()
        self.context, self.contest_legal, self.by_window = model.context, model.contest_legal, model.by_window
        self.model, self.factor = model, factor

    def forward(self, x: torch.Tensor, surroundings: torch.Tensor | None = None) -> torch.Tensor:
        factors = torch.full((len(x),), self.factor, device=x.device)
        logits: torch.Tensor = self.model(warp_bins(x, factors), surroundings)
        return logits
