"""From a network's posteriors to labels that also make sense in time.

The states form a Markov chain whose transitions and priors are counted on the train labels. A network gives
p(s|x) for each frame alone; divided by the prior it stands for the chain's likelihood of the frame, up to a
constant (Bourlard & Morgan 1994, eq. 7.3). What the network says of the phoneme q and of the state in it may
count differently, and mixtures of Gaussians, which hear as the labels' aligner did, may have a say:

    log b_t(s) = acoustic_scale * (log p(q|x_t) - prior_scale * log p(q))
               + acoustic_scale * state_scale * (log p(s|q, x_t) - prior_scale * log p(s|q))
               + mixture_scale * log p_mixture(x_t|s)

Forward-backward gives the marginals p(s_t | all frames), whose maximum is right for the most frames; Viterbi
gives the likeliest path. A trigram is forward-backward over a chain that also remembers the phoneme before.
Neighbouring frames say much the same again, so paths may be further apart than all this makes them: with a
path_scale above 1 the logarithm of each whole path, transitions included, counts so many times, and the
marginals are less those of all paths and more those of the likeliest. So may phonemes be less free to follow
each other than they were counted: a trigram's shares of them are taken to the power of grammar_scale first.
Last, other mixtures, tuned to the labels' edges, may say where each of these states begins: by the likeliest
of all ways through the same states in the same order, each frame being worth

    log p(s_t | all frames) + edge_scale * log p_edges(x_t|s)

All run over a batch of utterances at once, frame by frame.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from tqdm import tqdm

from senone.config import DecodeConfig
from senone.decode.alignment import align, runs
from senone.decode.batches import BATCH, at_once
from senone.decode.mixtures import Mixtures, hear
from senone.decode.state_chain import StateChain, decode_marginals, decode_path
from senone.decode.trigram import PhonemeTrigram, decode_trigram, require_trigram
from senone.decode.tuning import tune
from senone.frames import FrameStore
from senone.phonemes import states_per_group

__all__ = [
    "BATCH", "CHAINS", "Decoder", "Evidence", "Mixtures", "PhonemeTrigram", "Scales", "StateChain",
    "align", "at_once", "choose_scales", "decode_marginals", "decode_path", "decode_trigram",
    "describe_decoder", "fit_decoder", "hear", "require_trigram", "tune",
]  # fmt: skip

Chain = StateChain | PhonemeTrigram
CHAINS: dict[str, type[Chain]] = {
    "forward_backward": StateChain,
    "viterbi": StateChain,
    "trigram": PhonemeTrigram,
}
# what is tried of each scale, in this order
GRID = {
    "mixture": (0.0, 0.03, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6),
    "state": (1.0, 0.7, 0.5, 0.35, 0.2, 0.1, 0.0),
    "acoustic": (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4),
    "prior": (0.0, 0.3, 0.6, 1.0),
    "edge": (0.0, 1.0, 10.0, 30.0),
    "grammar": (1.0, 1.5, 2.0),
    "path": (1.0, 2.0, 3.0),
}
ALIGNED = 0.75  # of dev's frames that mixtures put right, if labels are an aligner's who hears as they do
LEAST = 1e-9  # share of a state; less is as little


class TooSharp(ValueError):
    """What was never seen has become so unlikely that nothing is left of any path."""


@dataclass(frozen=True)
class Scales:
    """What counts how much: see the formula above."""

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
    mixtures and those for edges, if they have a say."""

    name: str
    chain: Chain
    scales: Scales
    mixtures: Mixtures | None = None
    edges: Mixtures | None = None

    def __call__(
        self, logits: Sequence[torch.Tensor], heard: Iterable[torch.Tensor] = ()
    ) -> list[torch.Tensor]:
        """U of (T, K) logits -> U of (T,) int64 states, on the CPU. What is constant over a frame's states
        has no effect, so logits are as good as log posteriors. Only mixtures ask what was ``heard``, U of
        (T, D), and listen to as many as there are logits."""
        return self.decide(self.evidence(logits, heard))

    def evidence(self, logits: Sequence[torch.Tensor], heard: Iterable[torch.Tensor]) -> list["Evidence"]:
        """What is known of each utterance, before anything is weighed."""
        device = torch.device("cpu") if logits[0].device.type == "mps" else logits[0].device  # has no float64
        known = [Evidence.split(frames.to(device)) for frames in logits]
        asked = {
            name: mixtures.to(device)
            for name, mixtures in (("mixture", self.mixtures), ("edge", self.edges))
            if mixtures is not None
        }
        if not asked:
            return known
        return [
            replace(said, **{name: mixtures(frames.to(device)) for name, mixtures in asked.items()})
            for said, frames in zip(known, heard, strict=True)
        ]

    def decide(self, evidence: Sequence["Evidence"]) -> list[torch.Tensor]:
        """The states under these scales."""
        device = evidence[0].phoneme.device
        chain = type(self.chain)(*(part.to(device) for part in vars(self.chain).values()))
        prior = Evidence.split(chain.prior.log().float()[None])
        scores = [known.weigh(self.scales, prior) for known in evidence]
        final = chain.final.log().float()
        for utterance in scores:
            utterance[-1] += final
        if isinstance(chain, StateChain) and self.name == "viterbi":
            states, believed = decode_path(chain, scores), [final.new_zeros(())] * len(scores)
        else:
            marginals = self._marginals(chain, scores)
            states = [shares.argmax(dim=1) for shares in marginals]
            believed = [shares.clamp(min=LEAST).log() for shares in marginals]
        if self.scales.edge and evidence[0].edge is not None:
            told = [known.on_edges(self.scales, said) for known, said in zip(evidence, believed, strict=True)]
            states = align(told, [runs(path) for path in states])
        return [path.cpu() for path in states]

    def _marginals(self, chain: Chain, scores: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """U of (T, K), of paths that count path_scale times."""
        path, grammar = self.scales.path, self.scales.grammar
        if isinstance(chain, PhonemeTrigram):
            chain = chain.sharpened(grammar)
        weights = {name: part**path for name, part in vars(chain).items() if name not in ("prior", "final")}
        sharp, scores = replace(chain, **weights), [path * utterance for utterance in scores]
        if isinstance(sharp, PhonemeTrigram):
            marginals = decode_trigram(sharp, scores)
        else:
            marginals = decode_marginals(sharp, scores)
        if not all(frames.isfinite().all() for frames in marginals):
            raise TooSharp(
                f"decode.path_scale={path:g} and decode.grammar_scale={grammar:g}: what was never seen has "
                "become too unlikely for float32; expected smaller ones, or more decode.smoothing"
            )
        return marginals

    def state(self) -> dict[str, Any]:
        """Plain content for a checkpoint."""
        heard = {
            key: None if mixtures is None else dict(vars(mixtures))
            for key, mixtures in (("mixtures", self.mixtures), ("edges", self.edges))
        }
        return {"name": self.name, "scales": asdict(self.scales), **heard, **vars(self.chain)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Decoder":
        """The decoder of a checkpoint."""
        kind = CHAINS[state["name"]]
        chain = kind(*(state[field.name] for field in fields(kind)))
        heard = [None if state[key] is None else Mixtures(**state[key]) for key in ("mixtures", "edges")]
        return cls(state["name"], chain, Scales(**state["scales"]), *heard)


@dataclass(frozen=True)
class Evidence:
    """What is known of an utterance: (T, K) log p(q|x_t), (T, K) log p(s|q, x_t), and (T, K)
    log p_mixture(x_t|s) and log p_edges(x_t|s) or nothing."""

    phoneme: torch.Tensor
    state: torch.Tensor
    mixture: torch.Tensor | None = None
    edge: torch.Tensor | None = None

    @classmethod
    def split(cls, logits: torch.Tensor) -> "Evidence":
        """(T, K) logits, apart into phonemes and their states."""
        posteriors = logits.float().log_softmax(dim=1)
        states = posteriors.unflatten(1, (-1, states_per_group(logits.shape[1])))  # (T, Q, S)
        phoneme = states.logsumexp(dim=2, keepdim=True)
        return cls(phoneme.expand_as(states).flatten(1), (states - phoneme).flatten(1))

    def weigh(self, scales: Scales, prior: "Evidence") -> torch.Tensor:
        """(T, K) log b_t(s), up to a constant of each frame."""
        state = scales.state * (self.state - scales.prior * prior.state)
        scores = scales.acoustic * (self.phoneme - scales.prior * prior.phoneme + state)
        return scores if self.mixture is None else scores + scales.mixture * self.mixture

    def on_edges(self, scales: Scales, believed: torch.Tensor) -> torch.Tensor:
        """(T, K) log p(s_t | all frames) -> (T, K) scores by which states are put in their places."""
        assert self.edge is not None, "edges are found by mixtures of their own"
        return believed + scales.edge * self.edge


def describe_decoder(decoder: Decoder | None) -> str:
    """Its name and scales; without one each frame has its likeliest state."""
    if decoder is None:
        return "argmax"
    scales = (f"{name} {value:g}" for name, value in asdict(decoder.scales).items())
    return f"{decoder.name}, scales: {', '.join(scales)}"


def fit_decoder(
    settings: DecodeConfig,
    train: FrameStore,
    logits: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    heard: Iterable[torch.Tensor],
) -> Decoder | None:
    """The decoder that is asked for, None for argmax: its chain and mixtures taken from train, its scales,
    where they are not given, chosen by (T, K) logits, (T,) labels and what is heard, (T, D), of U utterances
    of dev. Mixtures are tuned to edges where labels look like an aligner's, or where it is asked for. A
    trigram takes thirty times as long as forward-backward, which therefore chooses in its place; only what
    phonemes, paths, network, mixtures and edges count is tried then."""
    if settings.name == "argmax":
        return None
    grid, heard = _grid(settings, train.num_classes), list(heard)
    trigram = settings.name == "trigram"
    decoder = Decoder(
        "forward_backward" if trigram else settings.name,
        StateChain.count(train, settings.smoothing),
        Scales(),
        Mixtures.fit(train, settings.gaussians) if settings.gaussians else None,
    )
    evidence = decoder.evidence(logits, heard)
    later: dict[str, Sequence[float]] = {"edge": (0.0,), "grammar": (1.0,)}
    if trigram:
        later["path"] = (1.0,)
    decoder = choose_scales(decoder, evidence, labels, {**grid, **later})
    again = ["acoustic", "mixture"]
    tuning = any(grid["edge"]) and (settings.edge_scale is not None or _are_aligned(evidence, labels))
    if decoder.mixtures is not None and tuning:
        decoder = replace(decoder, edges=tune(decoder.mixtures, train, settings.tuning))
        evidence = decoder.evidence(logits, heard)
        found = {"edge": grid["edge"], **_near(grid, decoder.scales, again)}
        decoder = choose_scales(decoder, evidence, labels, found)
        again.append("edge")
    if trigram:
        decoder = replace(decoder, name="trigram", chain=PhonemeTrigram.count(train, settings.smoothing))
        found = {name: grid[name] for name in ("grammar", "path")} | _near(grid, decoder.scales, again)
        decoder = choose_scales(decoder, evidence, labels, found, rounds=1)
    scales = decoder.scales
    return replace(
        decoder,
        mixtures=decoder.mixtures if scales.mixture else None,
        edges=decoder.edges if scales.edge else None,
    )


def _grid(settings: DecodeConfig, classes: int) -> dict[str, Sequence[float]]:
    """What is tried of each scale: what is given, else what there is to choose from."""
    asked = {name: getattr(settings, f"{name}_scale") for name in GRID}
    if not settings.gaussians:
        asked["mixture"] = 0.0
    if not settings.gaussians or not settings.tuning:
        asked["edge"] = 0.0
    if asked["state"] is None and states_per_group(classes) == 1:
        asked["state"] = 1.0  # a phoneme's only state is certain, whatever it counts
    if settings.name == "viterbi":
        asked["path"] = 1.0  # the likeliest path stays the likeliest
    if settings.name != "trigram":
        asked["grammar"] = 1.0
    return {name: values if asked[name] is None else (asked[name],) for name, values in GRID.items()}


def _are_aligned(evidence: Sequence[Evidence], labels: Sequence[torch.Tensor]) -> bool:
    """Whether mixtures, told which states follow each other, mostly find where labels have them."""
    labels = [states.to(evidence[0].phoneme.device).long() for states in labels]
    heard = [known.mixture for known in evidence if known.mixture is not None]
    ways = align(heard, [runs(states) for states in labels])
    return bool((torch.cat(ways) == torch.cat(labels)).double().mean() > ALIGNED)


def _near(
    grid: Mapping[str, Sequence[float]], scales: Scales, names: Iterable[str]
) -> dict[str, Sequence[float]]:
    """Of some scales, what is tried of each beside the chosen one."""
    return {name: neighbours(grid[name], getattr(scales, name)) for name in names}


def neighbours(values: Sequence[float], value: float) -> Sequence[float]:
    """One of sorted values, with those before and after it."""
    place = values.index(value)
    return values[max(place - 1, 0) : place + 2]


def choose_scales(
    decoder: Decoder,
    evidence: Sequence[Evidence],
    labels: Sequence[torch.Tensor],
    grid: Mapping[str, Sequence[float]] = GRID,
    rounds: int = 3,
) -> Decoder:
    """The decoder with those scales of the ``grid`` that get the most frames of U utterances of dev right, of
    which evidence and (T,) labels are known: one scale after the other, until a round changes none."""
    counted: dict[Scales, int] = {}
    bar = tqdm(desc=f"scales of {decoder.name}", unit=" tried", leave=False, disable=None)  # only for eyes

    def right(scales: Scales) -> int:
        if scales not in counted:
            try:
                states = replace(decoder, scales=scales).decide(evidence)
                counted[scales] = sum(int((p == y).sum()) for p, y in zip(states, labels, strict=True))
            except TooSharp:
                counted[scales] = -1  # whatever else there is to choose from is better
            bar.update()
        return counted[scales]

    chosen = replace(decoder.scales, **{name: values[0] for name, values in grid.items() if len(values) == 1})
    with bar:
        for _ in range(rounds):
            before = chosen
            for name, values in grid.items():
                chosen = max((replace(chosen, **{name: value}) for value in values), key=right)
            if chosen == before:
                break
    return replace(decoder, scales=chosen)
