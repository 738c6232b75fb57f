"""A run's folder is its own, and says what it was."""

import json
from pathlib import Path

import pytest

from senone.runlog import RunLog


def test_two_runs_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    names = [RunLog.create(tmp_path / "runs", "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]


def test_what_is_said_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path)
    log.say("one")
    log.say("two")
    assert (tmp_path / "train.log").read_text() == "one\ntwo\n"
    assert capsys.readouterr().out == "one\ntwo\n"


def test_the_config_says_what_made_the_run(tmp_path: Path) -> None:
    RunLog(tmp_path).write_config({"seed": 3}, data={"train": "abc"})
    about = json.loads((tmp_path / "config.json").read_text())
    assert about["config"] == {"seed": 3}
    assert about["data"] == {"train": "abc"}
    assert set(about["versions"]) == {"senone", "torch", "numpy", "pandas"}
    assert "commit" in about


def test_metrics_are_rewritten_whole(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.write_metrics([{"epoch": 1}, {"epoch": 2}])
    log.write_metrics([{"epoch": 1}])
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
