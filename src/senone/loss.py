"""What a training step makes smaller."""

import torch
import torch.nn.functional as F

from senone.phonemes import states_per_group
from senone.windows import IGNORED


def frame_loss(
    logits: torch.Tensor, targets: torch.Tensor, *, smoothing: float = 0.0, phoneme_weight: float = 0.0
) -> torch.Tensor:
    """(B, K) logits and (B,) targets, ``IGNORED`` where a frame does not count -> the sum of the frames'
    cross-entropies: that of states, plus ``phoneme_weight`` times that of phonemes, whose posteriors are the
    sums of their states'."""
    loss = F.cross_entropy(logits, targets, label_smoothing=smoothing, ignore_index=IGNORED, reduction="sum")
    if phoneme_weight:
        states = states_per_group(logits.shape[1])
        phonemes = logits.log_softmax(dim=1).unflatten(1, (-1, states)).logsumexp(dim=2)  # (B, K/states)
        groups = targets.div(states, rounding_mode="floor").where(targets != IGNORED, IGNORED)
        loss = loss + phoneme_weight * F.nll_loss(phonemes, groups, ignore_index=IGNORED, reduction="sum")
    return loss
