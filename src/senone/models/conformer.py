"""The Conformer (Gulati et al. 2020): self-attention for what is far, convolution for what is near."""

import torch
import torch.nn.functional as F
from torch import nn

from senone.models.blocks import Dropout, FrameModel, Surroundings, splice


class Conformer(FrameModel):
    """(B, T+2k, F) -> (B, T, K): blocks of attention and convolution over the whole stretch.

    Attention sees ``reach`` frames on each side, so that a long utterance asks for no distance that the
    chunks of training did not have. Each frame comes with ``splice`` neighbours on each side; what is left of
    the context is there to be seen.
    """

    contest_legal = False

    def __init__(
        self,
        num_bins: int,
        num_classes: int,
        context: int,
        splice: int,
        width: int,
        blocks: int,
        heads: int,
        reach: int,
        kernel: int,
        dropout: float = 0.0,
        surroundings: bool = False,
    ) -> None:
        super().__init__()
        self.context, self.splice, self.reach = context, splice, reach
        self.pair_count = width // heads // 2
        self.input = nn.Linear((2 * splice + 1) * num_bins, width)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(ConformerBlock(width, heads, kernel, dropout) for _ in range(blocks))
        self.output = nn.Linear(width, num_classes)
        self.surroundings = Surroundings(width) if surroundings else None

    def forward(self, x: torch.Tensor, surroundings: torch.Tensor | None = None) -> torch.Tensor:
        x = self.input(splice(x, self.splice))  # (B, S, C), S = T+2(k-splice)
        if self.surroundings is not None:
            x = x + self.surroundings(surroundings, x.shape[1], first=self.splice - self.context)
        x = self.dropout(x)
        angles = rotary_angles(x.shape[1], self.pair_count, x.device)
        times = torch.arange(x.shape[1], device=x.device)
        near = (times[:, None] - times).abs() <= self.reach  # (S, S)
        for block in self.blocks:
            x = block(x, angles, near)
        beyond = self.context - self.splice
        logits: torch.Tensor = self.output(x[:, beyond : x.shape[1] - beyond])
        return logits


class ConformerBlock(nn.Module):
    """(B, S, C) -> (B, S, C): half a feed-forward, attention, convolution, half a feed-forward, each added to
    its input, and a LayerNorm (Gulati et al. 2020, eq. 1)."""

    def __init__(self, width: int, heads: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = feed_forward(width, dropout)
        self.attention = Attention(width, heads, dropout)
        self.convolution = Convolution(width, kernel, dropout)
        self.second = feed_forward(width, dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, angles: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, angles, near)
        x = x + self.convolution(x)
        x = x + 0.5 * self.second(x)
        normed: torch.Tensor = self.norm(x)
        return normed


def feed_forward(width: int, dropout: float) -> nn.Sequential:
    """(B, S, C) -> (B, S, C), four times as wide between."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width),
        nn.SiLU(),
        Dropout(dropout),
        nn.Linear(4 * width, width),
        Dropout(dropout),
    )


class Attention(nn.Module):
    """(B, S, C) -> (B, S, C): self-attention in several heads, which knows positions by rotation."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor, angles: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """``angles`` (S, D/2) of each frame's rotation, ``near`` (S, S) bool: what sees what."""
        split = self.project(self.norm(x)).unflatten(2, (3, self.heads, -1))  # (B, S, 3, H, D)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (B, H, S, D)
        query, key = rotate(query, angles), rotate(key, angles)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=near)
        merged: torch.Tensor = self.dropout(self.merge(seen.transpose(1, 2).flatten(2)))
        return merged


def rotary_angles(frames: int, pairs: int, device: torch.device) -> torch.Tensor:
    """(S, D/2) radians by which each frame turns its pairs (Su et al. 2021, RoFormer, section 3.2.2)."""
    rates = 10000 ** -(torch.arange(pairs, device=device) / pairs)
    return torch.arange(frames, device=device)[:, None] * rates


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """Turn the pairs (i, i + D/2) of (B, H, S, D) by (S, D/2) angles: the product of two rows then depends on
    how far apart in time they are, and not on when."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)


class Convolution(nn.Module):
    """(B, S, C) -> (B, S, C): a gate, a convolution over time of each channel alone, BatchNorm (Gulati et al.
    2020, figure 2). Beyond the stretch it sees zeros."""

    def __init__(self, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        # a BatchNorm takes the mean out again, so a bias before it would learn nothing
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.batch_norm = nn.BatchNorm1d(width)
        self.activation = nn.SiLU()
        self.merge = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated = F.glu(self.gate(self.norm(x)), dim=2)
        y = self.depthwise(gated.transpose(1, 2)).transpose(1, 2)  # (B, C, S) within
        rows = self.batch_norm(y.flatten(0, 1))  # (B*S, C): every frame counts alike
        merged: torch.Tensor = self.dropout(self.merge(self.activation(rows)))
        return merged.view(x.shape)
