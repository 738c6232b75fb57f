"""Decoding: milliseconds an utterance of six seconds."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from senone.benchmarks.figure import Figure, interleave, ratio
from senone.benchmarks.synthetic import CLASSES, random_store, spoken_chain
from senone.config import DecodeConfig
from senone.decode import (
    BATCH,
    Mixtures,
    PhonemeTrigram,
    StateChain,
    align,
    decode_marginals,
    decode_path,
    decode_trigram,
    hear,
)

FRAMES = 600
GOAL = 2.0  # ms
GAUSSIANS = DecodeConfig().gaussians


def measure(quick: bool) -> Iterator[Figure]:
    yield from measure_decoders(BATCH, FRAMES, 3 if quick else 15)


def measure_decoders(utterances: int, frames: int, rounds: int) -> Iterator[Figure]:
    """A batch of utterances by each decoder and by mixtures, and the matrix products of forward-backward."""
    noise = random_store(200_000)
    chain, dense, mixtures = spoken_chain(), StateChain.count(noise), Mixtures.fit(noise, GAUSSIANS)
    trigram = PhonemeTrigram.count(noise)
    spoken = random_store(utterances * frames, shortest=frames, longest=frames)
    generator = torch.Generator().manual_seed(0)
    scores = [3 * torch.randn(frames, CLASSES, generator=generator) for _ in range(utterances)]
    few = scores[: max(1, utterances // 4)]  # of what takes thirty times as long
    thrice = [3 * frames for frames in few]  # as path_scale=3 has it, where most shares are next to nothing
    sharp = replace(trigram, **{key: part**3 for key, part in vars(trigram).items() if key != "prior"})
    order = [torch.arange(frames // 6) % CLASSES] * utterances  # as many states as speech has
    functions: dict[str, Callable[[], object]] = {
        "matrix products of forward-backward": matrix_products(utterances, frames),
        "forward-backward": lambda: decode_marginals(chain, scores),
        "Viterbi": lambda: decode_path(chain, scores),
        "Viterbi, every transition seen": lambda: decode_path(dense, scores),  # in noise all follow all
        "states put where they begin": lambda: align(scores, order),
        "trigram": lambda: decode_trigram(trigram, few),
        "trigram, path_scale 3": lambda: decode_trigram(sharp, thrice),
        f"likelihoods under {GAUSSIANS} Gaussians a state": lambda: [
            mixtures(heard) for heard in hear(spoken, range(utterances))
        ],
    }
    seconds = interleave(functions, rounds)
    for name, times in seconds.items():
        goal = GOAL if name in ("forward-backward", "Viterbi") else None
        figure = f"decode {frames} frames of {CLASSES} states: {name}"
        count = len(few) if name.startswith("trigram") else utterances
        yield Figure(figure, 1e3 * float(np.median(times)) / count, "ms", goal=goal)
    products, ours = seconds["matrix products of forward-backward"], seconds["forward-backward"]
    yield Figure("decode: forward-backward / its matrix products", ratio(ours, products), floor=1.0)


def matrix_products(utterances: int, frames: int) -> Callable[[], None]:
    """A product a frame, forth and back."""
    transitions = torch.full((CLASSES, CLASSES), 1 / CLASSES)
    here, there = torch.rand(utterances, CLASSES), torch.empty(utterances, CLASSES)

    def run() -> None:
        for _ in range(frames - 1):
            torch.mm(here, transitions, out=there)
            torch.mm(there, transitions, out=here)

    return run
