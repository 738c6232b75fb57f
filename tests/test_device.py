"""What a card would be asked for: recording, without one. That it works on one is tests/test_cuda.py."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from senone.device import WARM_UP, Recorded


class FakeCards:
    """Stands in for torch.cuda and writes down what it is asked to do."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        self.said.append(f"{name} begins")
        yield
        self.said.append(f"{name} ends")

    def wait_stream(self, _: object) -> None:
        self.said.append("waits")

    def replay(self) -> None:
        self.said.append("replayed")


def test_a_function_is_called_a_few_times_then_recorded_and_then_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards = FakeCards()
    monkeypatch.setattr(torch.cuda, "device", lambda card: cards.within(str(card)))
    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, lambda: cards)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: cards.within("aside"))
    monkeypatch.setattr(torch.cuda, "graph", lambda _: cards.within("recording"))
    update = Recorded(lambda: cards.said.append("called"), torch.device("cuda:1"))
    for _ in range(WARM_UP):
        update()
    once = ["cuda:1 begins", "waits", "aside begins", "called", "aside ends", "waits", "cuda:1 ends"]
    assert cards.said == WARM_UP * once
    cards.said.clear()
    update()
    assert cards.said == [
        "cuda:1 begins", "recording begins", "called", "recording ends", "replayed", "cuda:1 ends",
    ]  # fmt: skip
    cards.said.clear()
    update()
    update()
    assert cards.said == ["replayed", "replayed"]


def test_elsewhere_a_function_is_called() -> None:
    calls: list[int] = []
    update = Recorded(lambda: calls.append(1), None)
    for _ in range(WARM_UP + 2):
        update()
    assert len(calls) == WARM_UP + 2
