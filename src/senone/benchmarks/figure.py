"""A measured figure and its goal; times of several functions, taken so that they can be compared."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Figure:
    """A value in a unit, None where this machine cannot say; ``floor`` is what it cannot go below, ``goal``
    what it should not go above."""

    name: str
    value: float | None
    unit: str = "x"
    floor: float | None = None
    goal: float | None = None

    @property
    def ok(self) -> bool | None:
        if self.value is None:
            return None
        return self.goal is None or self.value <= self.goal

    def line(self) -> str:
        """A row of the table for people."""
        goal = "" if self.goal is None else f"goal {self.goal:g} {self.unit}"
        if self.value is None:
            return f"{self.name:<66} {'-':>8} {self.unit:<3} {goal:<14} not measured: no CUDA device".rstrip()
        verdict = "" if self.goal is None else "ok" if self.ok else "MISSED"
        return f"{self.name:<66} {self.value:8.3f} {self.unit:<3} {goal:<14} {verdict}".rstrip()

    def json(self) -> str:
        value = None if self.value is None else round(self.value, 4)
        return json.dumps({**asdict(self), "value": value, "ok": self.ok})


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """So many threads for torch and numpy. One's CPU time hardly depends on what else runs on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(threads)


def interleave(
    functions: Mapping[str, Callable[[], object]],
    rounds: int,
    seconds_a_turn: float = 0.02,
    clock: Callable[[], float] | None = None,
) -> dict[str, np.ndarray]:
    """The seconds a call of each function takes, (rounds,): CPU time of one thread, and of several, where
    that says nothing, by the clock on the wall.

    In every round each has its turn, of as many calls as fill ``seconds_a_turn``, so whatever slows the
    machine down for a while slows all of them: compare them round by round, by ``ratio``.
    """
    clock = clock or (time.process_time if torch.get_num_threads() == 1 else time.perf_counter)
    calls = {}
    for name, function in functions.items():
        start = time.perf_counter()
        function()  # the first call allocates and compiles
        if (first := time.perf_counter() - start) < 10 * seconds_a_turn:
            start = time.perf_counter()
            function()
            first = time.perf_counter() - start
        calls[name] = max(1, round(seconds_a_turn / first))
    seconds = {name: np.zeros(rounds) for name in functions}
    for i in range(rounds):
        for name, function in functions.items():
            start = clock()
            for _ in range(calls[name]):
                function()
            seconds[name][i] = (clock() - start) / calls[name]
    return seconds


def ratio(seconds: np.ndarray, base: np.ndarray) -> float:
    """The median over the rounds of how many times the base's time something took."""
    return float(np.median(seconds / base))
