"""Utterances that are decoded together, and what keeps their probabilities within float32."""

from collections.abc import Iterator, Sequence

import torch

BATCH = 64  # utterances at once
ON_GPU = 16  # times as many as on a CPU: there a frame takes as long however many utterances it is of
FLOOR = -60.0  # log likelihood
LIFT = 2.0**60  # keeps a product of two small probabilities within float32


def at_once(device: torch.device) -> int:
    """Utterances that are worth handing to a decoder at once."""
    return BATCH * (ON_GPU if device.type == "cuda" else 1)


def padded_batches(scores: Sequence[torch.Tensor], size: int) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Utterances of like lengths together: their places, and a copy of their scores, (T, U, K), padded with
    zeros."""
    if scores[0].is_cuda:
        size *= ON_GPU
    order = sorted(range(len(scores)), key=lambda u: len(scores[u]))
    for start in range(0, len(order), size):
        members = order[start : start + size]
        yield members, torch.nn.utils.rnn.pad_sequence([scores[u] for u in members])
