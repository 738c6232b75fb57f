import json
import math
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import SCRIPTS

from senone.benchmarks import GROUPS, data, decode, gpu, infer, load, measure, part1, scale, train
from senone.benchmarks.figure import Figure, interleave, ratio
from senone.benchmarks.synthetic import random_store
from senone.evaluate import block_logits
from senone.models import build_model
from senone.report import plot_scale
from senone.windows import gather


def test_a_figure_is_a_row_for_people_and_a_line_of_json():
    figure = Figure("a thing", 1.23456, floor=1.0, goal=1.5)
    assert figure.line().split() == ["a", "thing", "1.235", "x", "goal", "1.5", "x", "ok"]
    assert json.loads(figure.json()) == {
        "name": "a thing", "value": 1.2346, "unit": "x", "floor": 1.0, "goal": 1.5, "ok": True,
    }  # fmt: skip


def test_a_goal_is_missed_above_it_and_without_one_nothing_is():
    assert not Figure("slow", 1.6, goal=1.5).ok
    assert Figure("slow", 1.6, goal=1.5).line().endswith("MISSED")
    assert Figure("just measured", 99.0).ok
    assert Figure("just measured", 99.0).line().split()[-2:] == ["99.000", "x"]


def test_functions_take_turns_and_their_times_are_compared_round_by_round():
    now, calls = [0.0], []

    def work(name, seconds):
        def run():
            calls.append(name)
            now[0] += seconds * (10 if calls.count("short") > 3 else 1)  # the machine slows down

        return run

    functions = {"short": work("short", 1.0), "long": work("long", 3.0)}
    seconds = interleave(functions, 5, seconds_a_turn=0.0, clock=lambda: now[0])
    assert calls[2:] == ["short", "long"] * 5  # after a warm-up call of each
    assert ratio(seconds["long"], seconds["short"]) == pytest.approx(3.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_group_is_measured_with_so_many_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen, clocks = torch.get_num_threads(), [], iter(range(100))
    name = "process_time" if threads == 1 else "perf_counter"
    monkeypatch.setattr(time, name, lambda: float(next(clocks)))

    def measure_decode(quick: bool) -> Iterator[Figure]:
        seen.append(torch.get_num_threads())
        yield Figure("by this clock", interleave({"nothing": lambda: None}, 1)["nothing"][0])

    monkeypatch.setattr(decode, "measure", measure_decode)
    list(measure("decode", quick=True, threads=threads))
    assert seen == [threads]
    assert torch.get_num_threads() == before
    assert next(clocks) > 0  # it went by this clock


def test_threads_are_refused_where_they_would_mean_nothing() -> None:
    for words in (["load", "--threads", "2"], ["train", "--threads", "0"]):
        done = subprocess.run(
            [sys.executable, SCRIPTS / "bench.py", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "error: --threads=" in done.stderr.splitlines()[-1]


def test_what_this_machine_cannot_measure_is_said_and_neither_met_nor_missed() -> None:
    figure = Figure("a card's", None, "s", goal=3.2)
    assert " ".join(figure.line().split()) == "a card's - s goal 3.2 s not measured: no CUDA device"
    assert json.loads(figure.json())["value"] is None
    assert figure.ok is None


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_what_is_compared_runs(activation, recwarn):
    setting = part1.Setting((12, 8, 6, 3), 10, "float32", activation, 9.0, 9.0, rounds=1)
    for batchnorm in (False, True):
        part1.numpy_step(setting, batchnorm)()
        part1.torch_step(setting, batchnorm)()
    part1.matrix_products(setting)()
    part1.sklearn_step(setting)()
    assert not recwarn.list


def test_the_matrix_products_are_those_of_the_step(monkeypatch):
    shapes = []
    matmul = np.matmul

    def record(a, b, out):
        shapes.append((a.shape, b.shape))
        return matmul(a, b, out=out)

    step = part1.matrix_products(part1.Setting((12, 8, 3), 10, "float64", "relu", 9.0, 9.0, rounds=1))
    monkeypatch.setattr(np, "matmul", record)
    step()
    forward = [((10, 12), (12, 8)), ((10, 8), (8, 3))]
    backward = [((8, 10), (10, 3)), ((10, 3), (3, 8)), ((12, 10), (10, 8))]
    assert shapes == forward + backward


def check(figures: Iterable[Figure], *names: str) -> None:
    """Figures of these names, in this order, of which at least one has a goal."""
    measured = list(figures)
    assert len(measured) == len(names)
    for figure, name in zip(measured, names, strict=True):
        assert name in figure.name
        assert figure.value is not None
        assert math.isfinite(figure.value)
        assert figure.value > 0
    assert any(figure.goal is not None for figure in measured)


def test_batches_are_measured_against_a_copy_and_the_dataloader() -> None:
    store = random_store(3000)
    check(data.measure_batches(store, 3, 1.9, 2, batch_size=64), "copy of a batch of 64", "ours")
    check(data.measure_loader(store, 3, 64, 2), "a batch of the DataLoader", "ours / DataLoader")


def test_the_dataset_that_is_compared_gives_the_same_windows() -> None:
    store = random_store(2000, shortest=100, longest=200)
    dataset = data.WindowDataset(store, 3)
    frames = torch.arange(store.num_frames)
    windows = torch.stack([dataset[index][0] for index in frames.tolist()])
    assert torch.equal(windows, gather(store.rows, store.centres(frames), 3).flatten(1))
    assert store.labels is not None
    assert [dataset[index][1] for index in range(len(dataset))] == store.labels.tolist()


def test_a_step_is_measured_against_its_products_and_torch() -> None:
    setting = train.Setting(context=2, widths=(8, 8), batch_size=32, frames=3000)
    check(
        train.measure_step(setting, 2),
        "matrix products", "ours", "torch eager", "ours / torch eager", "data / step",
    )  # fmt: skip


def test_inference_is_measured_against_its_products_and_a_plain_loop() -> None:
    store = random_store(3000)
    check(infer.measure_store(store, "short", 2, (8, 8), 2), "matrix products", "ours", "a plain loop")


def test_the_plain_loop_says_what_ours_says() -> None:
    store = random_store(3000)
    model = build_model({"name": "mlp", "context": 2, "widths": (8, 8)}, 40, 138).eval()
    theirs = torch.cat(infer.plain_loop(model, store)())
    ours = torch.cat([block for _, block in block_logits(model, store, torch.device("cpu"))])
    torch.testing.assert_close(ours, theirs)


TINY = train.Setting(2, (8, 8), batch_size=32, frames=3000)
SMALL = gpu.Work(TINY, TINY, 3000, 3000, 2, 32)


def test_what_is_measured_on_a_card_runs_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    check(gpu.measure_work(SMALL, torch.device("cpu")), *gpu.GOALS)


def test_without_a_card_the_figures_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    figures = list(measure("gpu", quick=True))
    assert [figure.name.removeprefix("gpu ") for figure in figures] == list(gpu.GOALS)
    assert {figure.value for figure in figures} == {None}
    assert GROUPS[-1] == "gpu"


def test_decoders_are_measured_an_utterance() -> None:
    check(
        decode.measure_decoders(2, 10, 2),
        "matrix products", "forward-backward", "Viterbi", "Viterbi, every transition seen",
        "states put where they begin", "trigram",
        "trigram, path_scale 3",
        "likelihoods",
        "forward-backward / its matrix products",
    )  # fmt: skip


def test_loading_is_measured_in_time_and_memory() -> None:
    check(
        load.measure_files(12, 1, steps=2),
        "copy", "store / copy", "peak memory", "finding", "reopening", "first step", "peak memory of 2 steps",
    )  # fmt: skip


@pytest.mark.parametrize("way", scale.WAYS)
def test_an_epoch_is_reckoned_from_its_first_batches(way: str) -> None:
    assert 0 < scale.epoch_seconds(way, 2000, 2, 3, batch_size=64) < 60


def test_the_growth_is_drawn(tmp_path: Path) -> None:
    pairs = [[(0.1, 50.0), (1.0, 500.0)], [(1.0, 80.0), (10.0, 800.0)]]
    plot_scale(
        {"frames": ([10, 100], pairs), "context k": ([0, 5], pairs)}, list(scale.WAYS), tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").stat().st_size > 10_000
