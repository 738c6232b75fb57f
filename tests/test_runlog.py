"""A run's folder is its own, and says what it was."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from senone.runlog import TRACKERS, RunLog, require_trackers


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


RECORDS: list[dict[str, Any]] = [
    {"epoch": 1, "step": 10, "dev_accuracy": 0.5},
    {"epoch": 2, "step": 20, "dev_accuracy": 0.6},
]


def install(monkeypatch: pytest.MonkeyPatch, name: str, **content: object) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)


def test_tensorboard_is_shown_each_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scalars, flushed = [], []

    def writer(folder: Path) -> SimpleNamespace:
        assert folder == tmp_path
        return SimpleNamespace(add_scalar=lambda *what: scalars.append(what), flush=lambda: flushed.append(1))

    install(monkeypatch, "torch.utils.tensorboard", SummaryWriter=writer)
    log = RunLog(tmp_path)
    log.track(["tensorboard"], {})
    log.write_metrics(RECORDS[:1])
    assert scalars == [("epoch", 1, 10), ("step", 10, 10), ("dev_accuracy", 0.5, 10)]
    log.write_metrics(RECORDS)
    assert scalars[3:] == [("epoch", 2, 20), ("step", 20, 20), ("dev_accuracy", 0.6, 20)]
    assert flushed == [1, 1]


def test_wandb_knows_a_run_by_its_folder_and_no_other_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, object]] = []
    logged = []

    def init(**settings: object) -> SimpleNamespace:
        begun.append(settings)
        return SimpleNamespace(log=lambda record, step: logged.append((record, step)))

    install(monkeypatch, "wandb", init=init)
    for machine in ("here", "here", "there"):  # begun, resumed, and somewhere else
        folder = tmp_path / machine / "mine"
        folder.mkdir(parents=True, exist_ok=True)
        log = RunLog(folder)
        log.track(["wandb"], {"seed": 3})
        log.write_metrics(RECORDS)
    assert logged == 3 * [(RECORDS[1], 20)]
    first, resumed, other = (run.pop("id") for run in begun)
    assert first == resumed != other
    same = {"project": "senone", "name": "mine", "config": {"seed": 3}, "resume": "allow"}
    assert begun[0] == begun[1] == {**same, "dir": tmp_path / "here" / "mine"}


def test_a_quiet_process_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "wandb")  # to begin a run there would be an AttributeError
    log = RunLog(tmp_path, quiet=True)
    log.track(["wandb"], {})
    assert log.trackers == []


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match=f"trackers={name} needs its package: pip install {name}"):
        require_trackers([name])
    install(monkeypatch, name)
    require_trackers([name])
