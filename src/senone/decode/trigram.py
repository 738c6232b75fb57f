"""A chain that remembers the phoneme before: states within a phoneme, and phonemes by the two before them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from senone.config import require
from senone.decode.batches import FLOOR, LIFT, flushed_denormals, padded_batches, rounded
from senone.decode.state_chain import count_final
from senone.frames import FrameStore
from senone.phonemes import states_per_group

TOGETHER = 16  # utterances at once: 46 times as much is kept of each as of a chain of states
SEGMENT = 128  # frames whose forward probabilities are kept at once, beside one frame of each segment before
MOST = 128  # phonemes: time and memory grow with their number's cube

Planes = Sequence[torch.Tensor]


@dataclass(frozen=True)
class PhonemeTrigram:
    """Q phonemes of S states each, K = Q*S; float64, and what belongs together adds up to 1.

    prior and final (K,), the share of each state and of each last one; first (Q,), of an utterance's first
    phonemes; entering (Q, S), of a phoneme's first states. From a state, ways (Q, S, S+1) lead to the states
    of its phoneme and, the last of them, out of it. following (Q, Q, Q) is the share of each next phoneme r
    after a phoneme q that came after p, at [q, p, r]; p = q stands for a q that is an utterance's first.
    """

    prior: torch.Tensor
    final: torch.Tensor
    first: torch.Tensor
    entering: torch.Tensor
    ways: torch.Tensor
    following: torch.Tensor

    @classmethod
    def count(cls, store: FrameStore, smoothing: float = 1.0) -> "PhonemeTrigram":
        """The chain of a labelled store. ``smoothing`` counts are added to the ways out of each state, to
        what enters a phoneme and to what comes first; trigrams are smoothed by bigrams, these by the shares
        of phonemes, as ``witten_bell`` does. ValueError unless ``smoothing`` is above 0, and where there are
        too many phonemes."""
        require(smoothing > 0, "decode.smoothing", smoothing, "a number above 0")
        require_trigram(store.num_classes)
        assert store.labels is not None, "a chain is counted on labels"
        labels, classes = store.labels.cpu().long(), store.num_classes
        size = states_per_group(classes)
        count = classes // size
        phoneme, state = labels // size, labels % size
        starts = torch.zeros(len(labels), dtype=torch.bool)
        starts[store.offsets[:-1].cpu()] = True
        enters = starts.clone()
        enters[1:] |= phoneme[1:] != phoneme[:-1]
        goes_on = ~starts[1:]  # from frame t to frame t+1
        way = state[1:].where(~enters[1:], size)  # to a state, or out
        ways = _histogram(labels[:-1][goes_on], way[goes_on], shape=(classes, size + 1))
        ways += smoothing / (size + 1)
        entering = _histogram(labels[enters], shape=(classes,)).view(count, size) + smoothing / size
        spoken, is_first = phoneme[enters], starts[enters]  # phonemes in their order
        before = torch.cat([spoken[:1], spoken[:-1]]).where(~is_first, spoken)
        follows = ~is_first[1:]
        now, then = spoken[:-1][follows], spoken[1:][follows]
        single = _histogram(spoken, shape=(count,)) + 1
        pairs = _histogram(now, then, shape=(count, count))
        triples = _histogram(now, before[:-1][follows], then, shape=(count, count, count))
        bigram = witten_bell(pairs, single.expand(count, count), ~torch.eye(count, dtype=torch.bool))
        others = ~torch.eye(count, dtype=torch.bool)[:, None, :]  # what comes after q is not q
        following = witten_bell(triples, bigram[:, None].expand_as(triples), others)
        first = _histogram(spoken[is_first], shape=(count,)) + smoothing / count
        prior = _histogram(labels, shape=(classes,)) + 1
        return cls(
            prior / prior.sum(),
            count_final(store, smoothing),
            first / first.sum(),
            entering / entering.sum(dim=1, keepdim=True),
            (ways / ways.sum(dim=1, keepdim=True)).view(count, size, size + 1),
            following,
        )

    def sharpened(self, power: float) -> "PhonemeTrigram":
        """The same with what phonemes follow taken to a power: above 1 the likely is likelier."""
        following = self.following**power
        return replace(self, following=following / following.sum(dim=2, keepdim=True).clamp(min=1e-30))


def require_trigram(num_classes: int) -> None:
    """Raise ValueError where there are too many phonemes for a trigram of them."""
    phonemes = num_classes // states_per_group(num_classes)
    expected = f"at most {MOST} phonemes, not {phonemes}; decode=forward_backward takes any number"
    require(phonemes <= MOST, "decode", "trigram", expected)


def witten_bell(counts: torch.Tensor, shorter: torch.Tensor, possible: torch.Tensor) -> torch.Tensor:
    """(..., Q) counts of what came after a history, shares of it after a shorter one, and what is possible at
    all -> its shares (Witten & Bell 1991; Chen & Goodman 1999, eq. 17): as much is left for what nobody has
    seen as there are different phonemes after the history."""
    shorter = shorter * possible
    shorter = shorter / shorter.sum(dim=-1, keepdim=True)
    kinds = (counts > 0).sum(dim=-1, keepdim=True).clamp(min=1)
    return (counts + kinds * shorter) / (counts.sum(dim=-1, keepdim=True) + kinds)


def decode_trigram(chain: PhonemeTrigram, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """U of (T, K) log b_t(s) -> U of (T, K) float32 p(s_t | all frames of the utterance).

    Forward-backward over what phoneme came before, phoneme and state, with the probabilities of every frame
    scaled to add up to 1. Forward probabilities are kept a segment at a time, and found again from its first
    frame's: those of a whole utterance would take Q times the memory of its scores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a frame is too little work to share: waking others takes longer than doing it
    try:
        return _decode(chain, scores)
    finally:
        torch.set_num_threads(threads)


@flushed_denormals()
def _decode(chain: PhonemeTrigram, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    for members, padded in padded_batches(scores, TOGETHER):
        padded.sub_(padded.amax(dim=2, keepdim=True)).clamp_(min=FLOOR).exp_()  # (T, U, K)
        walk = _Walk(chain, padded)
        forward = padded.new_empty(min(SEGMENT, len(padded)), *walk.shape).unbind()
        walk.begin(forward[0])
        starts = [forward[0].clone()]  # each segment's first frame
        last = (len(padded) - 1) // SEGMENT * SEGMENT
        for t in range(1, last + 1):
            walk.forward(forward[(t - 1) % SEGMENT], t, forward[t % SEGMENT])
            if t % SEGMENT == 0:
                starts.append(forward[0].clone())
        backward = torch.full_like(forward[0], LIFT)  # in the padding beyond an end every state is as likely
        marginals = torch.empty_like(padded)
        for start in range(last, -1, -SEGMENT):
            forward[0].copy_(starts.pop())
            end = min(start + SEGMENT, len(padded))
            for t in range(start + 1, end):
                walk.forward(forward[t - start - 1], t, forward[t - start])
            for t in range(end - 1, start - 1, -1):
                both = forward[t - start].mul_(backward).sum(dim=3)  # (S, Q, U)
                shares = both.permute(2, 1, 0).flatten(1)  # (U, K)
                torch.div(shares, shares.sum(dim=1, keepdim=True), out=marginals[t])
                walk.backward(backward, t)
        for place, member in enumerate(members):
            results[member] = marginals[: len(scores[member]), place]
    return results


class _Walk:
    """A frame onwards and a frame back through (T, U, K) likelihoods, over (S, Q, U, Q): state, phoneme,
    utterance, phoneme before. What is needed on the way has its place for all frames."""

    def __init__(self, chain: PhonemeTrigram, likelihoods: torch.Tensor) -> None:
        self.count, self.size = chain.entering.shape
        self.shape = (self.size, self.count, likelihoods.shape[1], self.count)
        # (T, S, Q, U, 1): the same for all phonemes that may have come before
        seen = likelihoods.unflatten(2, (self.count, self.size)).permute(0, 3, 2, 1)
        self.seen = seen.contiguous().unsqueeze(4)
        ways = rounded(chain.ways).permute(1, 2, 0)[..., None, None].contiguous()  # (S, S+1, Q, 1, 1)
        entering = rounded(chain.entering).T[..., None, None].contiguous()  # (S, Q, 1, 1)
        self.leaving, self.entering = ways[:, self.size].unbind(), entering.unbind()
        self.into = [ways[:, to].unbind() for to in range(self.size)]  # a state, from each
        self.out_of = [ways[state, : self.size].unbind() for state in range(self.size)]  # a state, to each
        self.first, self.following = rounded(chain.first), rounded(chain.following)
        self.following_back = self.following.transpose(1, 2).contiguous()
        self.weighed = likelihoods.new_empty(self.shape)
        self.total, self.turned, self.moved = likelihoods.new_empty(3, *self.shape[1:])  # (Q, U, Q)

    def begin(self, here: torch.Tensor) -> None:
        """The first frame, in the phonemes that come first: p(state, phoneme, phoneme before)."""
        each = torch.arange(self.count, device=here.device)
        come = self.first[:, None, None] * torch.stack(self.entering) * self.seen[0]  # (S, Q, U, 1)
        here.zero_()[:, each, :, each] = come.squeeze(3).transpose(0, 1)
        here.div_(_by_utterance(here))

    def forward(self, before: torch.Tensor, t: int, here: torch.Tensor) -> None:
        """p(state, phoneme, phoneme before | frames up to t-1) -> ``here``, the same up to t."""
        planes = before.unbind()
        torch.bmm(self._weigh(planes, self.leaving), self.following, out=self.moved)  # (Q, U, Q): from q to r
        arriving = self.turned.copy_(self.moved.transpose(0, 2))
        _move(planes, self.into, arriving, self.entering, here)
        here.mul_(self.seen[t])
        here.div_(_by_utterance(here))

    def backward(self, after: torch.Tensor, t: int) -> None:
        """p(frames after t | all of these at t), up to a factor, becomes the same of t-1; all of an
        utterance's add up to LIFT."""
        planes = torch.mul(after, self.seen[t], out=self.weighed).unbind()
        arriving = self.turned.copy_(self._weigh(planes, self.entering).transpose(0, 2))
        torch.bmm(arriving, self.following_back, out=self.moved)  # (Q, U, Q): as p came before q
        _move(planes, self.out_of, self.moved, self.leaving, after)
        after.mul_(LIFT / _by_utterance(after))

    def _weigh(self, planes: Planes, weights: Planes) -> torch.Tensor:
        """S of (Q, U, Q) and of (Q, 1, 1) -> (Q, U, Q): the weighted sum."""
        torch.mul(planes[0], weights[0], out=self.total)
        for plane, weight in zip(planes[1:], weights[1:], strict=True):
            self.total.addcmul_(plane, weight)
        return self.total


def _move(
    planes: Planes, ways: Sequence[Planes], others: torch.Tensor, gates: Planes, moved: torch.Tensor
) -> None:
    """S of (Q, U, Q), by S times S ways (Q, 1, 1) between states, and (Q, U, Q) from elsewhere through S of
    (Q, 1, 1) -> (S, Q, U, Q) ``moved``. State by state: to multiply matrices as small as these takes longer.
    """
    for to, gate, weights in zip(moved.unbind(), gates, ways, strict=True):
        torch.mul(others, gate, out=to)
        for plane, weight in zip(planes, weights, strict=True):
            to.addcmul_(plane, weight)


def _by_utterance(planes: torch.Tensor) -> torch.Tensor:
    """(S, Q, U, Q) -> (U, 1) sums, in two steps, in half the time of one."""
    return planes.sum(dim=(0, 1)).sum(dim=1, keepdim=True)


def _histogram(*values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """How often each combination of (N,) whole numbers occurs, float64 in their ``shape``."""
    place = values[0]
    for more, size in zip(values[1:], shape[1:], strict=True):
        place = place * size + more
    return torch.bincount(place, minlength=torch.Size(shape).numel()).double().view(shape)
