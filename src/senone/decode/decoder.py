"""A way to decode, and what is known of an utterance before it is."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import reduce
from typing import Any

import torch

from senone.decode.alignment import align, runs
from senone.decode.mixtures import Mixtures
from senone.decode.state_chain import StateChain, decode_marginals, decode_path
from senone.decode.trigram import PhonemeTrigram, decode_trigram
from senone.phonemes import states_per_group

Chain = StateChain | PhonemeTrigram
CHAINS: dict[str, type[Chain]] = {
    "forward_backward": StateChain,
    "viterbi": StateChain,
    "trigram": PhonemeTrigram,
}
LEAST = 1e-9  # share of a state; less is as little


class TooSharp(ValueError):
    """What was never seen has become so unlikely that nothing is left of any path."""


@dataclass(frozen=True)
class Scales:
    """What counts how much: see the formulas of the room."""

    acoustic: float = 0.5
    prior: float = 0.3
    state: float = 1.0
    mixture: float = 0.0
    path: float = 1.0
    grammar: float = 1.0
    edge: float = 0.0


@dataclass(frozen=True)
class Decoder:
    """One way to decode: ``name`` forward_backward, viterbi or trigram, its chain, its scales, and the
    mixtures and those for edges, several of each state, if they have a say."""

    name: str
    chain: Chain
    scales: Scales
    mixtures: Mixtures | None = None
    edges: tuple[Mixtures, ...] = ()

    def __call__(
        self, logits: Sequence[torch.Tensor], heard: Iterable[torch.Tensor] = ()
    ) -> list[torch.Tensor]:
        """U of (T, K) logits -> U of (T,) int64 states, on the CPU. What is constant over a frame's states
        has no effect, so logits are as good as log posteriors. Only mixtures ask what was ``heard``, U of
        (T, D), and listen to as many as there are logits."""
        return self.decide(self.evidence(logits, heard))

    def evidence(self, logits: Sequence[torch.Tensor], heard: Iterable[torch.Tensor]) -> "Evidence":
        """What is known of U utterances, before anything is weighed."""
        device = torch.device("cpu") if logits[0].device.type == "mps" else logits[0].device  # has no float64
        lengths = [len(frames) for frames in logits]
        known = Evidence.split(torch.cat([frames.to(device) for frames in logits]), lengths)
        if self.mixtures is None and not self.edges:
            return known
        frames = torch.cat([sound.to(device) for _, sound in zip(lengths, heard, strict=True)])
        mixture = None if self.mixtures is None else self.mixtures.to(device)(frames)
        edges = (each.to(device)(frames) for each in self.edges)
        edge = reduce(torch.add, edges) / len(self.edges) if self.edges else None
        return replace(known, mixture=mixture, edge=edge)

    def decide(self, evidence: "Evidence") -> list[torch.Tensor]:
        """The states of each utterance under these scales."""
        device, lengths = evidence.phoneme.device, evidence.lengths
        chain = type(self.chain)(*(part.to(device) for part in vars(self.chain).values()))
        scores = evidence.weigh(self.scales, Evidence.split(chain.prior.log().float()[None], [1]))
        final = chain.final.log().float()
        scores[torch.tensor(lengths, device=device).cumsum(0) - 1] += final
        if isinstance(chain, StateChain) and self.name == "viterbi":
            states, shares = torch.cat(decode_path(chain, scores.split(lengths))), final.new_ones(())
        else:
            shares = self._marginals(chain, scores, lengths)
            states = shares.argmax(dim=1)
        if self.scales.edge and evidence.edge is not None:
            told = evidence.on_edges(self.scales, shares.clamp(min=LEAST).log()).split(lengths)
            states = torch.cat(align(told, [runs(path) for path in states.split(lengths)]))
        return list(states.cpu().split(lengths))

    def _marginals(self, chain: Chain, scores: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """(N, K), of paths that count path_scale times."""
        path, grammar = self.scales.path, self.scales.grammar
        if isinstance(chain, PhonemeTrigram):
            chain = chain.sharpened(grammar)
        weights = {name: part**path for name, part in vars(chain).items() if name not in ("prior", "final")}
        sharp, sharpened = replace(chain, **weights), scores.mul_(path).split(lengths)
        if isinstance(sharp, PhonemeTrigram):
            marginals = torch.cat(decode_trigram(sharp, sharpened))
        else:
            marginals = torch.cat(decode_marginals(sharp, sharpened))
        if not marginals.isfinite().all():
            raise TooSharp(
                f"decode.path_scale={path:g} and decode.grammar_scale={grammar:g}: what was never seen has "
                "become too unlikely for float32; expected smaller ones, or more decode.smoothing"
            )
        return marginals

    def state(self) -> dict[str, Any]:
        """Plain content for a checkpoint."""
        return {
            "name": self.name,
            "scales": asdict(self.scales),
            "mixtures": None if self.mixtures is None else dict(vars(self.mixtures)),
            "edges": [dict(vars(each)) for each in self.edges],
            **vars(self.chain),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Decoder":
        """The decoder of a checkpoint."""
        kind = CHAINS[state["name"]]
        chain = kind(*(state[field.name] for field in fields(kind)))
        mixtures = None if state["mixtures"] is None else Mixtures(**state["mixtures"])
        edges = tuple(Mixtures(**each) for each in state["edges"])
        return cls(state["name"], chain, Scales(**state["scales"]), mixtures, edges)


@dataclass(frozen=True)
class Evidence:
    """What is known of utterances of such ``lengths``, one after the other, N frames in all: (N, K)
    log p(q|x_t), (N, K) log p(s|q, x_t), and (N, K) log p_mixture(x_t|s) and mean log p_edges(x_t|s) or
    nothing."""

    lengths: list[int]
    phoneme: torch.Tensor
    state: torch.Tensor
    mixture: torch.Tensor | None = None
    edge: torch.Tensor | None = None

    @classmethod
    def split(cls, logits: torch.Tensor, lengths: list[int]) -> "Evidence":
        """(N, K) logits, apart into phonemes and their states."""
        posteriors = logits.float().log_softmax(dim=1)
        states = posteriors.unflatten(1, (-1, states_per_group(logits.shape[1])))  # (N, Q, S)
        phoneme = states.logsumexp(dim=2, keepdim=True)
        return cls(lengths, phoneme.expand_as(states).flatten(1), (states - phoneme).flatten(1))

    def weigh(self, scales: Scales, prior: "Evidence") -> torch.Tensor:
        """(N, K) log b_t(s), up to a constant of each frame."""
        state = scales.state * (self.state - scales.prior * prior.state)
        scores = scales.acoustic * (self.phoneme - scales.prior * prior.phoneme + state)
        return scores if self.mixture is None else scores + scales.mixture * self.mixture

    def on_edges(self, scales: Scales, believed: torch.Tensor) -> torch.Tensor:
        """(N, K) log p(s_t | all frames) -> (N, K) scores by which states are put in their places."""
        assert self.edge is not None, "edges are found by mixtures of their own"
        return believed + scales.edge * self.edge


def describe_decoder(decoder: Decoder | None) -> str:
    """Its name and scales; without one each frame has its likeliest state."""
    if decoder is None:
        return "argmax"
    scales = (f"{name} {value:g}" for name, value in asdict(decoder.scales).items())
    return f"{decoder.name}, scales: {', '.join(scales)}"
