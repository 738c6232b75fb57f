"""How fast the program is, as multiples of what cannot be avoided and of what else one could use."""

import importlib
from collections.abc import Iterator

from senone.benchmarks.figure import Figure

GROUPS = ("part1", "data", "train", "infer", "decode", "load", "scale", "gpu")


def measure(group: str, quick: bool) -> Iterator[Figure]:
    """The figures of a group as it gets them, of fewer rounds if ``quick``. Each group is a module, which is
    imported here, so that a process that measures one of them need not wait for what the others need."""
    figures: Iterator[Figure] = importlib.import_module(f"senone.benchmarks.{group}").measure(quick)
    return figures
