"""The chain of states: its transitions counted, and what follows from them for a whole utterance."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from senone.config import require
from senone.decode.batches import BATCH, FLOOR, LIFT, flushed_denormals, padded_batches, rounded
from senone.frames import FrameStore

SUMS_AT_ONCE = 46 * 138  # of an utterance, in Viterbi: those of a batch stay in a cache, and calls are few


@dataclass(frozen=True)
class StateChain:
    """prior (K,), the share of each state; initial and final (K,), of each first and last state, the last
    added to the scores of last frames by whoever knows where an utterance ends; transitions (K, K), from row
    to column; float64, and what belongs together adds up to 1."""

    prior: torch.Tensor
    initial: torch.Tensor
    final: torch.Tensor
    transitions: torch.Tensor

    @classmethod
    def count(cls, store: FrameStore, smoothing: float = 1.0) -> "StateChain":
        """The chain of a labelled store. Each row has ``smoothing`` counts added, shared out as the prior, so
        that a transition nobody has seen stays possible; the prior itself has one a state. ValueError unless
        ``smoothing`` is above 0."""
        require(smoothing > 0, "decode.smoothing", smoothing, "a number above 0")
        assert store.labels is not None, "a chain is counted on labels"
        labels, classes = store.labels.cpu().long(), store.num_classes
        first = torch.zeros(len(labels), dtype=torch.bool)
        first[store.offsets[:-1].cpu()] = True
        follows = ~first[1:]  # frame t+1 is of the same utterance as frame t
        pairs = labels[:-1][follows] * classes + labels[1:][follows]
        prior = torch.bincount(labels, minlength=classes).double() + 1
        prior /= prior.sum()
        initial = torch.bincount(labels[first], minlength=classes) + smoothing * prior
        counted = torch.bincount(pairs, minlength=classes**2).view(classes, classes) + smoothing * prior
        transitions = counted / counted.sum(dim=1, keepdim=True)
        return cls(prior, initial / initial.sum(), count_final(store, smoothing), transitions)


def count_final(store: FrameStore, smoothing: float) -> torch.Tensor:
    """(K,) float64, the share of each last state, ``smoothing`` counts being shared out evenly."""
    assert store.labels is not None, "a chain is counted on labels"
    last = store.labels.cpu().long()[store.offsets[1:].cpu() - 1]
    counts = torch.bincount(last, minlength=store.num_classes) + smoothing / store.num_classes
    return counts.double() / counts.sum()


@flushed_denormals()
def decode_marginals(chain: StateChain, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """U of (T, K) log b_t(s) -> U of (T, K) float32 p(s_t | all frames of the utterance), views of a batch's.

    Forward-backward, with the probabilities of every frame scaled to add up to 1 (Rabiner 1989, section V.A)
    and no state of a frame less likely than e^-60 of the best: any length is safe, and no frame impossible.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    onwards, initial = rounded(chain.transitions), rounded(chain.initial)
    backwards = onwards.T.contiguous()
    ones = torch.ones_like(initial)[:, None]  # a product with them is a sum, and the quickest one
    lowered = ones / LIFT
    for members, padded in padded_batches(scores, BATCH):
        likelihoods = padded.sub_(padded.amax(dim=2, keepdim=True)).clamp_(min=FLOOR).exp_()  # (T, U, K)
        marginals = torch.empty_like(likelihoods)
        seen, frames = likelihoods.unbind(), marginals.unbind()  # T of (U, K)
        for t, frame in enumerate(frames):
            before = initial if t == 0 else torch.mm(frames[t - 1], onwards, out=frame)
            torch.mul(before, seen[t], out=frame)
            frame.div_(torch.mm(frame, ones))
        # in the padding beyond an utterance's end every state is as likely, and so it is at its end
        backward = torch.full_like(frames[0], LIFT)  # a frame's adds up to LIFT
        for t in range(len(frames) - 2, -1, -1):
            backward = torch.mm(backward.mul_(seen[t + 1]), backwards)
            backward.div_(torch.mm(backward, lowered))
            both = frames[t].mul_(backward)
            both.div_(torch.mm(both, ones))
        for place, member in enumerate(members):
            results[member] = marginals[: len(scores[member]), place]
    return results


def decode_path(chain: StateChain, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """U of (T, K) log b_t(s) -> U of (T,) int64, the likeliest path of each (Viterbi 1967).

    Only the best score of each state is kept on the way; the states that led there are found again on the way
    back, for the one path that is asked for.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    into = chain.transitions.log().float()  # (from, to)
    initial = chain.initial.log().float()[:, None]
    arrivals = Arrivals(chain)
    for members, padded in padded_batches(scores, BATCH):
        length, count, classes = padded.shape
        best = padded.view(length, classes, count)  # of all paths to a state; each takes its scores' memory
        frames, seen = best.unbind(), padded.new_empty(classes, count)
        torch.add(seen.copy_(padded[0].T), initial, out=frames[0])
        for before, frame, frame_scores in zip(frames, frames[1:], padded.unbind()[1:], strict=False):
            torch.add(arrivals.best(before), seen.copy_(frame_scores.T), out=frame)
        lengths = [len(scores[member]) for member in members]
        for member, path in zip(members, _trace(best, into, lengths).T, strict=True):
            results[member] = path[: len(scores[member])].contiguous()
    return results


class Arrivals:
    """The best way into each state, without looking at all the states that it may come from.

    Whatever a row of the transitions has seen, it gives each state at least a share of that one's prior,
    transitions[i, j] >= share[i] * prior[j], and by the smoothing no more than that for a pair that nobody
    has seen. The best way by shares is the same into all j but for their prior; so what is left to look at
    are the pairs with more than their share: staying, and in speech a tenth of the others. Nothing is lost
    where more were seen, only time.
    """

    def __init__(self, chain: StateChain) -> None:
        share = (chain.transitions / chain.prior).amin(dim=1)  # (from,)
        more = chain.transitions > (1 + 1e-9) * share[:, None] * chain.prior  # (from, to)
        more.fill_diagonal_(False)
        counts, states = more.sum(dim=0).sort(descending=True)
        # The first ``cut`` states, those with the most ways, share a block of all states that any of them
        # comes from; each of the rest has as many ways as the first of the rest. The cut makes fewest sums.
        columns, heads = more[:, states].long(), torch.arange(len(states), device=states.device)
        sources = (columns.cumsum(dim=1) > columns).sum(dim=0)  # of all states before a state
        sums = heads * sources + (len(states) - heads) * counts
        cut = int(sums.argmin()) if more.any() else 0
        log_transitions = chain.transitions.log().float()
        shared = more[:, states[:cut]].any(dim=1).nonzero().flatten()
        self.blocks = [  # of (from,) states and the (to, from, 1) weights of the ways
            (shared, log_transitions[shared][:, to].T[:, :, None].contiguous())
            for to in (states[:cut].split(max(1, SUMS_AT_ONCE // len(shared))) if cut else ())
        ]
        rest, ways = states[cut:], max(1, int(counts[cut]))
        # those with more come first, and what fills up a row is as true as they are
        source = more[:, rest].T.byte().argsort(dim=1, descending=True)[:, :ways]  # (to, ways)
        self.source, self.weights = source.flatten(), log_transitions[source, rest[:, None]][:, :, None]
        self.place = states.argsort()
        self.log_stay = log_transitions.diagonal()[:, None].contiguous()
        self.log_share, self.log_prior = share.log().float()[:, None], chain.prior.log().float()[:, None]

    def best(self, before: torch.Tensor) -> torch.Tensor:
        """(K, U) log scores of the best path to each state -> (K, U) a frame later. In ``before`` the best by
        shares of each utterance becomes 0, or the sums would outgrow a float32."""
        before.sub_((before + self.log_share).amax(dim=0))
        best = torch.maximum(before + self.log_stay, self.log_prior)  # by staying, by shares
        moved = [(before.index_select(0, shared) + weights).amax(dim=1) for shared, weights in self.blocks]
        others = before.index_select(0, self.source).view(*self.weights.shape[:2], -1)
        moved.append(others.add_(self.weights).amax(dim=1))
        return torch.maximum(best, torch.cat(moved).index_select(0, self.place), out=best)


def _trace(best: torch.Tensor, into: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """(T, K, U) best scores of all paths, the shortest utterance first -> (T, U) states of the best path of
    each, from its end back; its last state in the padding."""
    ends = torch.tensor(lengths, device=best.device) - 1
    last = best[ends, :, torch.arange(len(lengths), device=best.device)].argmax(dim=1)  # (U,)
    states = last.repeat(len(best), 1)
    for t in range(len(best) - 1, 0, -1):
        waiting = bisect_right(lengths, t)  # utterances that end before frame t
        ways = into.index_select(1, states[t, waiting:]).add_(best[t - 1, :, waiting:])
        states[t - 1, waiting:] = ways.max(dim=0).indices
    return states
