"""Several networks in one, which learn side by side and decide together."""

from collections.abc import Sequence

import torch
from torch import nn

from senone.models.blocks import FrameModel


class Committee(FrameModel):
    """(B, T+2k, F) -> (B, T, K): the mean of its members' logits, which is the logarithm of the geometric
    mean of their posteriors, up to a constant of the frame.

    In training (M*B, T, K), those of one of the M members after the other: each learns by its own mistakes
    and leaves none to the others. Networks of different kinds are wrong about different frames.
    """

    def __init__(self, members: Sequence[FrameModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.context = members[0].context
        self.num_members = len(members)
        self.contest_legal = all(member.contest_legal for member in members)

    def forward(self, x: torch.Tensor, surroundings: torch.Tensor | None = None) -> torch.Tensor:
        logits = [member(x, surroundings) for member in self.members]
        return torch.cat(logits) if self.training else torch.stack(logits).mean(dim=0)
