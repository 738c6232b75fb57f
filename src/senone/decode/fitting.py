"""A decoder from the labels of train, and its scales from those of dev."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from senone.config import DecodeConfig
from senone.decode.alignment import align, runs
from senone.decode.decoder import Decoder, Evidence, Scales, TooSharp
from senone.decode.mixtures import Mixtures
from senone.decode.state_chain import StateChain
from senone.decode.trigram import PhonemeTrigram
from senone.decode.tuning import tune
from senone.frames import FrameStore
from senone.phonemes import states_per_group

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
    phonemes, network, mixtures and paths count is tried then."""
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
    decoder = choose_scales(decoder, evidence, labels, {**grid, **later})
    again = ["acoustic", "mixture", "path"]
    tuning = any(grid["edge"]) and (settings.edge_scale is not None or _are_aligned(evidence, labels))
    if decoder.mixtures is not None and tuning:
        draws = (torch.Generator().manual_seed(seed) for seed in range(1, settings.edge_mixtures))
        others = (Mixtures.fit(train, settings.gaussians, draw) for draw in draws)
        edges = [tune(each, train, settings.tuning) for each in (decoder.mixtures, *others)]
        decoder = replace(decoder, edges=tuple(edges))
        evidence = decoder.evidence(logits, heard)
        found = {"edge": grid["edge"], **_near(grid, decoder.scales, ["state", *again])}
        decoder = choose_scales(decoder, evidence, labels, found)
    if trigram:
        decoder = replace(decoder, name="trigram", chain=PhonemeTrigram.count(train, settings.smoothing))
        found = {"grammar": grid["grammar"], **_near(grid, decoder.scales, again)}
        decoder = choose_scales(decoder, evidence, labels, found, rounds=1)
    scales = decoder.scales
    return replace(
        decoder,
        mixtures=decoder.mixtures if scales.mixture else None,
        edges=decoder.edges if scales.edge else (),
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


def _are_aligned(evidence: Evidence, labels: Sequence[torch.Tensor]) -> bool:
    """Whether mixtures, told which states follow each other, mostly find where labels have them."""
    assert evidence.mixture is not None, "no mixtures were asked"
    labels = [states.to(evidence.mixture.device).long() for states in labels]
    ways = align(evidence.mixture.split(evidence.lengths), [runs(states) for states in labels])
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
    evidence: Evidence,
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
