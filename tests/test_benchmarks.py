import json

import numpy as np
import pytest

from senone.benchmarks import part1
from senone.benchmarks.figure import Figure, interleave, ratio


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
            now[0] += seconds * (10 if calls.count("short") > 4 else 1)  # the machine slows down

        return run

    functions = {"short": work("short", 1.0), "long": work("long", 3.0)}
    seconds = interleave(functions, 5, seconds_a_turn=0.0, clock=lambda: now[0])
    assert calls[4:] == ["short", "long"] * 5  # after the two warm-up calls of each
    assert ratio(seconds["long"], seconds["short"]) == pytest.approx(3.0)


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
