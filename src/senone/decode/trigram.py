"""A chain that remembers the phoneme before: states within a phoneme, and phonemes by the two before them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from senone.config import require
from senone.decode.batches import FLOOR, LIFT, padded_batches
from senone.frames import FrameStore
from senone.phonemes import states_per_group

TOGETHER = 16  # utterances at once: 46 times as much is kept of each as of a chain of states
SEGMENT = 256  # frames whose forward probabilities are kept at once, beside one frame of each segment before


@dataclass(frozen=True)
class PhonemeTrigram:
    """Q phonemes of S states each, K = Q*S; float64, and what belongs together adds up to 1.

    prior (K,), the share of each state; first (Q,), of an utterance's first phonemes; entering (Q, S), of a
    phoneme's first states. From a state, ways (Q, S, S+1) lead to the states of its phoneme and, the last of
    them, out of it. following (Q, Q, Q) is the share of each next phoneme r after a phoneme q that came after
    p, at [q, p, r]; p = q stands for a q that is an utterance's first.
    """

    prior: torch.Tensor
    first: torch.Tensor
    entering: torch.Tensor
    ways: torch.Tensor
    following: torch.Tensor

    @classmethod
    def count(cls, store: FrameStore, smoothing: float = 1.0) -> "PhonemeTrigram":
        """The chain of a labelled store. ``smoothing`` counts are added to the ways out of each state, to
        what enters a phoneme and to what comes first; trigrams are smoothed by bigrams, these by the shares
        of phonemes, as ``witten_bell`` does. ValueError unless ``smoothing`` is above 0."""
        require(smoothing > 0, "decode.smoothing", smoothing, "a number above 0")
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
            first / first.sum(),
            entering / entering.sum(dim=1, keepdim=True),
            (ways / ways.sum(dim=1, keepdim=True)).view(count, size, size + 1),
            following,
        )


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
    scaled to add up to 1. Forward probabilities are kept a segment at a time and found again from its first,
    so memory grows with the square root of an utterance's length and more, not with its length times Q.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    walk = _Walk(chain)
    for members, padded in padded_batches(scores, TOGETHER):
        padded.sub_(padded.amax(dim=2, keepdim=True)).clamp_(min=FLOOR).exp_()  # (T, U, K)
        # (T, Q, U, 1, S): next to all phonemes that may have come before
        seen = padded.unflatten(2, (walk.count, walk.size)).transpose(1, 2).unsqueeze(3)
        forward = walk.begin(seen[0])
        segments = [forward]
        for t in range(1, len(seen)):
            forward = walk.forward(forward, seen[t])
            if t % SEGMENT == 0:
                segments.append(forward)
        backward = torch.full_like(forward, LIFT)  # in the padding beyond an end every state is as likely
        marginals = torch.empty_like(padded)
        for start in range((len(seen) - 1) // SEGMENT * SEGMENT, -1, -SEGMENT):
            kept = [segments.pop()]
            for t in range(start + 1, min(start + SEGMENT, len(seen))):
                kept.append(walk.forward(kept[-1], seen[t]))
            for t in range(start + len(kept) - 1, start - 1, -1):
                both = (kept.pop() * backward).sum(dim=2)  # (Q, U, S)
                shares = both.transpose(0, 1).flatten(1)  # (U, K)
                torch.div(shares, shares.sum(dim=1, keepdim=True), out=marginals[t])
                backward = walk.backward(backward, seen[t])
        for place, member in enumerate(members):
            results[member] = marginals[: len(scores[member]), place]
    return results


class _Walk:
    """A frame onwards and a frame back, over (Q, U, Q, S): phoneme, utterance, phoneme before, state."""

    def __init__(self, chain: PhonemeTrigram) -> None:
        self.count, self.size = chain.entering.shape
        self.first = chain.first.float()
        self.entering = chain.entering.float()[:, None, None, :]  # (Q, 1, 1, S)
        self.ways, self.following = chain.ways.float(), chain.following.float()
        self.ways_back = self.ways.transpose(1, 2).contiguous()
        self.following_back = self.following.transpose(1, 2).contiguous()

    def begin(self, seen: torch.Tensor) -> torch.Tensor:
        """The first frame, in the phonemes that come first."""
        begun = seen.new_zeros(self.count, seen.shape[1], self.count, self.size)
        each = torch.arange(self.count, device=seen.device)
        begun[each, :, each] = (self.first[:, None, None, None] * self.entering * seen).squeeze(2)
        return begun.div_(begun.sum(dim=(0, 2, 3), keepdim=True))

    def forward(self, before: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """p(phoneme before, phoneme, state | frames up to t-1) and (Q, U, 1, S) likelihoods of frame t -> the
        same up to t."""
        moved = torch.bmm(before.flatten(1, 2), self.ways).unflatten(1, before.shape[1:3])  # (Q, U, Q, S+1)
        left = torch.bmm(moved[..., self.size], self.following)  # (Q, U, Q): from q to r
        here = torch.addcmul(moved[..., : self.size], left.transpose(0, 2)[..., None], self.entering)
        here.mul_(seen)
        return here.div_(here.sum(dim=(0, 2, 3), keepdim=True))

    def backward(self, after: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """p(frames after t | ...), up to a factor, and likelihoods of frame t -> p(frames from t on | ... at
        t-1), adding up to LIFT."""
        weighed = after * seen
        arriving = (weighed * self.entering).sum(dim=3).transpose(0, 2)  # (Q, U, Q): from q to r
        left = torch.bmm(arriving, self.following_back)[..., None]  # (Q, U, Q, 1)
        both = torch.cat([weighed, left], dim=3)  # (Q, U, Q, S+1)
        here = torch.bmm(both.flatten(1, 2), self.ways_back).unflatten(1, both.shape[1:3])
        return here.mul_(LIFT / here.sum(dim=(0, 2, 3), keepdim=True))


def _histogram(*values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """How often each combination of (N,) whole numbers occurs, float64 in their ``shape``."""
    place = values[0]
    for more, size in zip(values[1:], shape[1:], strict=True):
        place = place * size + more
    return torch.bincount(place, minlength=torch.Size(shape).numel()).double().view(shape)
