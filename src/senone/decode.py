"""From a network's posteriors to labels that also make sense in time.

The states form a Markov chain whose transitions and priors are counted on the train labels. A network gives
p(s|x) for each frame alone; divided by the prior it stands for the chain's likelihood of the frame, up to a
constant (Bourlard & Morgan 1994, eq. 7.3):

    log b_t(s) = acoustic_scale * (log p(s|x_t) - prior_scale * log p(s))

Forward-backward gives the marginals p(s_t | all frames), whose maximum is right for the most frames; Viterbi
gives the likeliest path. Both run over a batch of utterances at once, one matrix product a frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

from senone.config import require
from senone.frames import FrameStore

BATCH = 64  # utterances at once
STATES_AT_ONCE = 46  # in Viterbi: 46 x 138 x 64 sums stay in a cache, and calls are few
FLOOR = -60.0  # log likelihood
LIFT = 2.0**60  # keeps a product of two small probabilities within float32
DECODERS = ("forward_backward", "viterbi")
SCALES = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
PRIOR_SCALES = (0.0, 0.3, 0.6, 1.0)


@dataclass(frozen=True)
class StateChain:
    """prior (K,), the share of each state; initial (K,), of each first state; transitions (K, K), from row to
    column; float64, and what belongs together adds up to 1."""

    prior: torch.Tensor
    initial: torch.Tensor
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
        return cls(prior, initial / initial.sum(), counted / counted.sum(dim=1, keepdim=True))


@dataclass(frozen=True)
class Decoder:
    """One way to decode: ``name`` forward_backward or viterbi, a chain, and its scales."""

    name: str
    chain: StateChain
    acoustic_scale: float
    prior_scale: float

    def __call__(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """U of (T, K) logits -> U of (T,) int64 states, on the CPU. What is constant over a frame's states
        has no effect, so logits are as good as log posteriors."""
        device = torch.device("cpu") if logits[0].device.type == "mps" else logits[0].device  # has no float64
        chain = StateChain(*(part.to(device) for part in vars(self.chain).values()))
        prior = self.prior_scale * chain.prior.log().float()
        scores = [self.acoustic_scale * (frames.to(device).float() - prior) for frames in logits]
        if self.name == "viterbi":
            return [path.cpu() for path in decode_path(chain, scores)]
        return [marginals.argmax(dim=1).cpu() for marginals in decode_marginals(chain, scores)]

    def state(self) -> dict[str, Any]:
        """Plain content for a checkpoint."""
        return {"name": self.name, "acoustic_scale": self.acoustic_scale, "prior_scale": self.prior_scale,
                **vars(self.chain)}  # fmt: skip

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Decoder":
        """The decoder of a checkpoint."""
        chain = StateChain(state["prior"], state["initial"], state["transitions"])
        return cls(state["name"], chain, state["acoustic_scale"], state["prior_scale"])


def describe_decoder(decoder: Decoder | None) -> str:
    """Its name and scales; without one each frame has its likeliest state."""
    if decoder is None:
        return "argmax"
    return f"{decoder.name}, scales {decoder.acoustic_scale:g} and {decoder.prior_scale:g}"


def fit_decoder(
    name: str,
    chain: StateChain,
    logits: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    acoustic_scale: float | None = None,
    prior_scale: float | None = None,
) -> Decoder:
    """The decoder with the scales, where they are not given, that get the most frames of U utterances of dev
    right: (T, K) logits and (T,) labels."""
    best, most = None, -1
    for acoustic, prior in product(
        SCALES if acoustic_scale is None else (acoustic_scale,),
        PRIOR_SCALES if prior_scale is None else (prior_scale,),
    ):
        decoder = Decoder(name, chain, acoustic, prior)
        right = sum(int((p == y).sum()) for p, y in zip(decoder(logits), labels, strict=True))
        if right > most:
            best, most = decoder, right
    assert best is not None
    return best


def decode_marginals(chain: StateChain, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """U of (T, K) log b_t(s) -> U of (T, K) float32 p(s_t | all frames of the utterance).

    Forward-backward, with the probabilities of every frame scaled to add up to 1 (Rabiner 1989, section V.A)
    and no state of a frame less likely than e^-60 of the best: any length is safe, and no frame impossible.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    onwards, initial = chain.transitions.float(), chain.initial.float()
    backwards = onwards.T.contiguous()
    for members, padded in _batches(scores):
        likelihoods = padded.sub_(padded.amax(dim=2, keepdim=True)).clamp_(min=FLOOR).exp_()  # (T, U, K)
        marginals = torch.empty_like(likelihoods)
        seen, frames = likelihoods.unbind(), marginals.unbind()  # T of (U, K)
        for t, frame in enumerate(frames):
            before = initial if t == 0 else torch.mm(frames[t - 1], onwards, out=frame)
            torch.mul(before, seen[t], out=frame)
            frame.div_(frame.sum(dim=1, keepdim=True))
        # in the padding beyond an utterance's end every state is as likely, and so it is at its end
        backward = torch.ones_like(frames[0])
        for t in range(len(frames) - 2, -1, -1):
            backward = torch.mm(backward.mul_(seen[t + 1]), backwards)
            backward.div_(backward.sum(dim=1, keepdim=True))
            both = frames[t].mul_(LIFT).mul_(backward)
            both.div_(both.sum(dim=1, keepdim=True))
        for place, member in enumerate(members):
            results[member] = marginals[: len(scores[member]), place].contiguous()
    return results


def decode_path(chain: StateChain, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """U of (T, K) log b_t(s) -> U of (T,) int64, the likeliest path of each (Viterbi 1967).

    Only the best score of each state is kept on the way; the states that led there are found again on the way
    back, for the one path that is asked for.
    """
    results: list[torch.Tensor] = [torch.empty(0)] * len(scores)
    into = chain.transitions.log().float().T.contiguous()  # (to, from)
    for members, batch in _batches(scores):
        padded = batch.transpose(1, 2).contiguous()  # (T, K, U): utterances are the lanes of the vectors
        best = torch.empty_like(padded)  # of all paths to a state, against the frame's best
        sums = best.new_empty(STATES_AT_ONCE, *best.shape[1:])
        steps = [(paths, sums[: len(paths)]) for paths in into[:, :, None].split(STATES_AT_ONCE)]
        torch.add(padded[0], chain.initial.log().float()[:, None], out=best[0])
        for before, frame, seen in zip(best, best[1:], padded[1:], strict=False):
            for to, (paths, scratch) in zip(frame.split(STATES_AT_ONCE), steps, strict=True):
                torch.amax(torch.add(paths, before, out=scratch), dim=1, out=to)
            frame.add_(seen).sub_(frame.amax(dim=0))  # or the sums would outgrow a float32
        lengths = torch.tensor([len(scores[member]) for member in members], device=into.device)
        for member, path in zip(members, _trace(best, into, lengths).T, strict=True):
            results[member] = path[: len(scores[member])].contiguous()
    return results


def _trace(best: torch.Tensor, into: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(T, K, U) best scores of all paths -> (T, U) states of the best one of each, from its end back."""
    states = best.new_empty(len(best), len(lengths), dtype=torch.int64)
    state = best[lengths - 1, :, torch.arange(len(lengths), device=best.device)].argmax(dim=1)  # (U,)
    for t in range(len(best) - 1, 0, -1):
        states[t] = state
        before = (best[t - 1].T + into[state]).argmax(dim=1)
        state = torch.where(lengths > t, before, state)  # an utterance waits in its padding
    states[0] = state
    return states


def _batches(scores: Sequence[torch.Tensor]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Utterances of like lengths together: their places, and a copy of their scores, (T, U, K), padded with
    zeros."""
    order = sorted(range(len(scores)), key=lambda u: len(scores[u]))
    for start in range(0, len(order), BATCH):
        members = order[start : start + BATCH]
        yield members, torch.nn.utils.rnn.pad_sequence([scores[u] for u in members])
