"""Where each of an utterance's states begins, when it is known which states follow each other.

Forced alignment: every way through the states takes them in their order, each for a frame or more.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F

from senone.decode.batches import BATCH, by_length

NEVER = -1e30  # log-likelihood
RESET = 32  # frames


def runs(labels: torch.Tensor) -> torch.Tensor:
    """(T,) labels -> the (S,) states that follow each other in them."""
    return labels.unique_consecutive()


def align(scores: Sequence[torch.Tensor], sequences: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """U of (T, K) log-likelihoods and U of (S,) int64 states, S at most T -> U of (T,) int64, the likeliest
    way through these states (Viterbi 1967)."""
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    for members in by_length(scores, BATCH):
        best = _arrivals(_along([scores[u] for u in members], [sequences[u] for u in members]), torch.maximum)
        came = F.pad(best[:-1, :, 1:] <= best[:-1, :, :-1], (1, 0))  # (T-1, U, S): from the state before
        ends = torch.tensor([len(scores[u]) for u in members], device=best.device)
        place = torch.tensor([len(sequences[u]) - 1 for u in members], device=best.device)
        places = place.repeat(len(best), 1)  # (T, U)
        each = torch.arange(len(members), device=best.device)
        for t in range(len(best) - 1, 0, -1):
            place = place - (came[t - 1, each, place] & (t < ends)).long()
            places[t - 1] = place
        for member, way in zip(members, places.T, strict=True):
            results[member] = sequences[member][way[: len(scores[member])]]
    return results


def occupancies(scores: Sequence[torch.Tensor], sequences: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The same, but U of (T, K): the share of all ways, each by its likelihood, that is in a state at a frame
    (forward-backward; Rabiner 1989, eq. 27)."""
    along = _along(scores, sequences)
    here = along.clone()
    until = _arrivals(along, torch.logaddexp)
    back = _along([s.flip(0) for s in scores], [q.flip(0) for q in sequences])
    since = _arrivals(back, torch.logaddexp)  # the way back is a way of its own
    results = []
    for u, (frames, states) in enumerate(zip(scores, sequences, strict=True)):
        own = slice(len(frames)), u, slice(len(states))
        ways = until[own] + since[own].flip(0, 1) - here[own]
        results.append(torch.zeros_like(frames).index_add_(1, states, ways.softmax(dim=1)))
    return results


def _along(scores: Sequence[torch.Tensor], sequences: Sequence[torch.Tensor]) -> torch.Tensor:
    """(T, U, S): the score of each frame in each state that follows, NEVER beyond an utterance's end and its
    last state."""
    longest, most = max(map(len, scores)), max(map(len, sequences))
    along = scores[0].new_full((longest, len(scores), most), NEVER)
    for u, (frames, states) in enumerate(zip(scores, sequences, strict=True)):
        along[: len(frames), u, : len(states)] = frames.index_select(1, states)
    return along


def _arrivals(
    along: torch.Tensor, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """(T, U, S) scores -> in their place, those of the ways that have come to each frame and state, joined
    where two meet, up to a constant of each frame and utterance."""
    along[0, :, 1:] = NEVER
    frames = along.unbind()
    for t, (before, here) in enumerate(pairwise(frames)):
        if t % RESET == 0:  # or the differences would drown in what all ways have in common
            before -= before.amax(dim=1, keepdim=True)
        here[:, 1:] += join(before[:, 1:], before[:, :-1])
        here[:, 0] += before[:, 0]
    return along
