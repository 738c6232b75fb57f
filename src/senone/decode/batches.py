"""Utterances that are decoded together, and what keeps their probabilities within float32."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

BATCH = 64  # utterances at once
PER_FOLD = 4 << 30  # bytes of a card's memory, for each time that it takes as many utterances as a CPU
FLOOR = -60.0  # log likelihood
LIFT = 2.0**60  # keeps a product of two small probabilities within float32


def at_once(device: torch.device) -> int:
    """Utterances that are worth handing to a decoder at once."""
    return BATCH * _fold(device)


def _fold(device: torch.device) -> int:
    """How many times as many utterances as on a CPU are decoded together: on a card a frame takes as long,
    however many utterances it is of."""
    if device.type != "cuda":
        return 1
    return max(1, torch.cuda.get_device_properties(device).total_memory // PER_FOLD)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Numbers too small for a float32's full precision are 0 at once. Where paths count several times most
    shares are such, a CPU reckons ten times as long with them, and none of them decides on anything."""
    smallest = torch.full((1,), 2.0**-126)
    flushed = bool(smallest / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def rounded(shares: torch.Tensor) -> torch.Tensor:
    """float64 shares in float32, where what is possible stays so, with denormals flushed too."""
    return shares.clamp(min=2.0**-120).where(shares > 0, 0.0).float()


def by_length(scores: Sequence[torch.Tensor], size: int) -> Iterator[list[int]]:
    """The places of utterances, in groups of like lengths, the shortest first."""
    size *= _fold(scores[0].device)
    order = sorted(range(len(scores)), key=lambda u: len(scores[u]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded_batches(scores: Sequence[torch.Tensor], size: int) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Utterances of like lengths together: their places, and a copy of their scores, (T, U, K), padded with
    zeros."""
    for members in by_length(scores, size):
        yield members, torch.nn.utils.rnn.pad_sequence([scores[u] for u in members])
