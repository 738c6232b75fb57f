"""Runs side by side: sorted by what they reached, with what differs between them and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from senone.comparison import compare_runs, flatten
from senone.runlog import RunLog


def write_run(root: Path, name: str, accuracies: list[float], **optim: Any) -> None:
    log = RunLog.create(root, name)
    log.write_config({"name": name, "seed": 0, "optim": {"lr": 0.1, "clip": 1.0, **optim}})
    log.write_metrics(
        [
            {"epoch": epoch, "dev_accuracy": accuracy, "seconds": 10.0, "dev_seconds": 1.0}
            for epoch, accuracy in enumerate(accuracies, start=1)
        ]
    )


def test_runs_are_sorted_by_their_best_epoch_with_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path, "a", [0.5, 0.6, 0.55])
    write_run(tmp_path, "b", [0.7], lr=0.2)
    table = compare_runs(tmp_path)
    assert table.columns.tolist() == ["run", "dev accuracy", "best epoch", "epochs", "seconds", "optim.lr"]
    assert table.to_numpy().tolist() == [["b", 0.7, 1, 1, 11, 0.2], ["a", 0.6, 2, 3, 33, 0.1]]


def test_runs_without_an_epoch_are_left_out_and_none_at_all_is_said(tmp_path: Path) -> None:
    write_run(tmp_path, "a", [])
    (tmp_path / "part1").mkdir()
    with pytest.raises(ValueError, match="no run here has finished an epoch"):
        compare_runs(tmp_path)
    write_run(tmp_path, "b", [0.5])
    assert compare_runs(tmp_path)["run"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("name", "text"), [("metrics.jsonl", '{"epoch": 1}\n'), ("metrics.jsonl", "x\n"), ("config.json", "")]
)
def test_a_folder_that_is_no_runs_is_named(tmp_path: Path, name: str, text: str) -> None:
    write_run(tmp_path, "a", [0.5])
    (tmp_path / "a" / name).write_text(text)
    with pytest.raises(ValueError, match="a: its files are not a run's"):
        compare_runs(tmp_path)


def test_a_setting_that_one_run_does_not_have_is_a_difference(tmp_path: Path) -> None:
    write_run(tmp_path, "a", [0.5], ema=0.9)
    write_run(tmp_path, "b", [0.4])
    table = compare_runs(tmp_path)
    assert table["optim.ema"].tolist()[0] == 0.9
    assert table["optim.ema"].isna().tolist() == [False, True]


def test_nested_settings_have_dotted_names() -> None:
    config = {"a": 1, "b": {"c": [2], "d": {"e": None}}}
    assert flatten(config) == {"a": 1, "b.c": [2], "b.d.e": None}
    json.dumps(flatten(config))
