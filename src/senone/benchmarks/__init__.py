"""How fast the program is, as multiples of what cannot be avoided and of what else one could use."""

import importlib
from collections.abc import Iterator
from contextlib import nullcontext

from senone.benchmarks.figure import Figure, limit_threads

GROUPS = ("part1", "data", "train", "infer", "decode", "load", "scale", "gpu")
LIMITED = GROUPS[:5]  # to so many threads; the others measure processes of their own, or a card


def measure(group: str, quick: bool, threads: int = 1) -> Iterator[Figure]:
    """The figures of a group as it gets them, of fewer rounds if ``quick``, of LIMITED ones with so many
    ``threads``. Each group is a module, which is imported here, so that a process that measures one of them
    need not wait for what the others need."""
    figures: Iterator[Figure] = importlib.import_module(f"senone.benchmarks.{group}").measure(quick)
    with limit_threads(threads) if group in LIMITED else nullcontext():
        yield from figures
