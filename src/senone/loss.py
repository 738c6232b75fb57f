"""What a training step makes smaller."""

import torch
import torch.nn.functional as F

from senone.phonemes import states_per_group

IGNORED = -100  # the target of a frame that counts for nothing, in cross_entropy's words


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


def teacher_loss(
    logits: torch.Tensor, states: torch.Tensor, shares: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """(B, K) logits, a teacher's (B, P) likeliest states and their shares, which add up to 1 -> the sum of
    the cross-entropies to the teacher (Hinton et al. 2015, temperature 1) over the frames that count."""
    log_posteriors = logits.log_softmax(dim=1).gather(1, states.long())  # (B, P)
    losses = -(shares.to(logits.dtype) * log_posteriors).sum(dim=1)
    return losses.where(targets != IGNORED, 0.0).sum()
