"""Logits of whole utterances on the CPU: times their own matrix products, and beside a plain loop."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from senone.benchmarks.figure import Figure, interleave, ratio
from senone.benchmarks.synthetic import BINS, CLASSES, random_store
from senone.evaluate import BLOCK, block_logits
from senone.frames import FrameStore
from senone.models import FrameModel, build_model
from senone.models.blocks import fold_batchnorm

CONTEXT, WIDTHS = 12, (1024, 1024, 1024)
# utterances like the contest's, and of half a second
LENGTHS = {"utterances of 630 frames": (200, 1060), "of 50 frames": (20, 80)}


def measure(quick: bool) -> Iterator[Figure]:
    for name, (shortest, longest) in LENGTHS.items():
        store = random_store((1 if quick else 4) * BLOCK, shortest=shortest, longest=longest)
        yield from measure_store(store, name, CONTEXT, WIDTHS, 2 if quick else 12)


def measure_store(
    store: FrameStore, name: str, context: int, widths: Sequence[int], rounds: int
) -> Iterator[Figure]:
    """Ours on folded layers; the plain loop over utterances; the products in blocks of the same size."""
    model = build_model({"name": "mlp", "context": context, "widths": widths}, BINS, CLASSES).eval()
    folded = fold_batchnorm(model)  # once an evaluation, which is of many times more frames than this store
    sizes = ((2 * context + 1) * BINS, *widths, CLASSES)
    functions = {
        "products": matrix_products(sizes, store.num_frames),
        "ours": lambda: [block for _, block in block_logits(folded, store, torch.device("cpu"))],
        "plain": plain_loop(model, store),
    }
    seconds = interleave(functions, rounds)
    base = seconds["products"]
    yield Figure(
        f"infer {name}: matrix products", 1e6 * float(np.median(base)) / store.num_frames, "us a frame"
    )
    yield Figure(f"infer {name}: ours", ratio(seconds["ours"], base), floor=1.0, goal=1.05)
    yield Figure(f"infer {name}: a plain loop over the utterances", ratio(seconds["plain"], base), floor=1.0)


def matrix_products(sizes: Sequence[int], num_frames: int) -> Callable[[], None]:
    """The products alone, BLOCK frames at a time, into memory that is already there."""
    weights = [torch.randn(n_out, n_in) for n_in, n_out in pairwise(sizes)]
    counts = [BLOCK] * (num_frames // BLOCK) + [num_frames % BLOCK]
    layers = [torch.randn(BLOCK, size) for size in sizes]

    def run() -> None:
        for count in counts:
            for i, weight in enumerate(weights):
                torch.mm(layers[i][:count], weight.T, out=layers[i + 1][:count])

    return run


def plain_loop(model: FrameModel, store: FrameStore) -> Callable[[], object]:
    """An utterance at a time through the network in eval mode, its windows unfolded."""
    context = model.context

    def run() -> list[torch.Tensor]:
        logits = []
        with torch.no_grad():
            for index in range(store.num_utterances):
                windows = store.utterance(index, context).unfold(0, 2 * context + 1, 1)  # (T, F, W)
                logits.append(model(windows.transpose(1, 2))[:, 0])
        return logits

    return run
