"""A run that was stopped goes on where it was, and no other run is taken for it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_contest
from test_cli import SCRIPTS, assert_one_line, run_script
from test_end_to_end import SMALL

from senone import device, run
from senone.checkpoint import load_checkpoint
from senone.config import DataConfig, FitConfig, MlpConfig, TrainConfig
from senone.corpus.contest import write_utterances
from senone.train import Stopped


def config_of(folder: Path, root: Path, resume: str = "auto") -> TrainConfig:
    return TrainConfig(
        data=DataConfig(name="contest", root=str(root), cache=str(folder / "stores")),
        model=MlpConfig(context=3, widths=[16]),
        train=FitConfig(epochs=2, batch_size=16, precision="float32", resume=resume),
        name="mine",
        runs=str(folder / "runs"),
        submissions=str(folder / "submissions"),
        device="cpu",
    )


@pytest.mark.parametrize("how", ["path", "auto"])
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path, contest_folder: Path, how: str) -> None:
    arguments = [
        "data=contest", f"data.root={contest_folder}", "data.num_classes=6",
        "model.widths=[8]", "train.epochs=2000", "train.batch_size=16",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, SCRIPTS / "train.py", *arguments, "name=mine"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = tmp_path / "runs/mine/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    again = next(line.strip() for line in said.splitlines() if "train.resume=" in line)
    assert again.endswith("train.resume=runs/mine/last.pt")
    assert "'model.widths=[8]'" in again

    stopped = load_checkpoint(tmp_path / "runs/mine/last.pt")
    stopped["config"]["train"]["epochs"] = 2000
    epochs = stopped["progress"]["epoch"]
    assert epochs >= 1
    process = subprocess.Popen(
        [sys.executable, SCRIPTS / "train.py", *arguments, "name=mine",
         "train.resume=" + ("auto" if how == "auto" else "runs/mine/last.pt")],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while process.poll() is None and time.monotonic() < deadline:
        if len(metrics.read_text().splitlines()) > epochs + 3:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130, complaints
    assert f"resumed from runs/mine/last.pt after {epochs} epochs" in said
    records = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert records == list(range(1, len(records) + 1))
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_resume_of_another_configuration_is_refused_with_what_differs(
    tmp_path: Path, contest_folder: Path
) -> None:
    arguments = ["data=contest", f"data.root={contest_folder}", "name=mine", *SMALL]
    assert run_script(tmp_path, "train.py", *arguments).returncode == 0
    last = tmp_path / "runs/mine/last.pt"
    before = last.read_bytes()
    done = run_script(tmp_path, "train.py", *arguments, "optim.lr=0.5", "train.resume=runs/mine/last.pt")
    assert_one_line(done, "is of another configuration: optim.lr: 0.002 there, 0.5 here")
    write_utterances(contest_folder / "train.npy", [np.zeros((50, 8), "f4")])
    write_utterances(contest_folder / "train_labels.npy", [np.zeros(50, "i8")])
    done = run_script(tmp_path, "train.py", *arguments, "train.resume=runs/mine/last.pt")
    assert_one_line(done, "frames, but train has 50")
    assert last.read_bytes() == before


def test_a_run_that_was_stopped_after_its_last_epoch_is_only_finished(
    tmp_path: Path, contest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, contest_folder)
    with monkeypatch.context() as patched:
        patched.setattr(run, "_finish_run", lambda *_: None)
        folder = run.train_run(config, [])
    trained = (folder / "metrics.jsonl").read_bytes()
    assert run.train_run(config, []) == folder
    assert (tmp_path / "submissions/mine.csv").is_file()
    assert (folder / "metrics.jsonl").read_bytes() == trained
    assert run.train_run(config, []) != folder  # there is nothing left to do


@pytest.mark.parametrize("has", [True, False])
def test_a_run_goes_on_in_the_precision_that_it_chose(
    tmp_path: Path, contest_folder: Path, monkeypatch: pytest.MonkeyPatch, has: bool
) -> None:
    config = config_of(tmp_path, contest_folder)
    config.train.precision = "auto"
    monkeypatch.setattr(run, "_finish_run", lambda *_: None)
    monkeypatch.setattr(device, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(device, "gains_by_bfloat16", lambda _: True)
    folder = run.train_run(config, [])
    monkeypatch.setattr(device, "gains_by_bfloat16", lambda _: False)
    monkeypatch.setattr(device, "has_bfloat16", lambda _: has)

    def trainer(*_: object, precision: str, **__: object) -> None:
        raise Stopped(precision)

    monkeypatch.setattr(run, "Trainer", trainer)
    with pytest.raises(Stopped, match="bfloat16" if has else "float32"):
        run.train_run(config, [])
    assert load_checkpoint(folder / "last.pt")["precision"] == "bfloat16"


def test_a_run_on_other_labels_is_not_gone_on_with(tmp_path: Path, contest_folder: Path) -> None:
    folder = run.train_run(config_of(tmp_path, contest_folder), [])
    (tmp_path / "submissions/mine.csv").unlink()
    other = write_contest(tmp_path / "other")
    labels = np.load(other / "train_labels.npy", allow_pickle=True)
    write_utterances(other / "train_labels.npy", [5 - utterance for utterance in labels])
    assert run.train_run(config_of(tmp_path, other), []) != folder
    with pytest.raises(ValueError, match=r"last\.pt: trained on other labels than those of train"):
        run.train_run(config_of(tmp_path, other, resume=str(folder / "last.pt")), [])


def test_resume_auto_starts_anew_where_nothing_is_unfinished(tmp_path: Path, contest_folder: Path) -> None:
    arguments = ["data=contest", f"data.root={contest_folder}", "name=mine", "train.resume=auto", *SMALL]
    assert run_script(tmp_path, "train.py", *arguments).returncode == 0
    assert run_script(tmp_path, "train.py", *arguments).returncode == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mine", "mine-2"]
    first, second = (load_checkpoint(tmp_path / f"runs/{name}/last.pt") for name in ("mine", "mine-2"))
    for key, value in first["model"].items():
        assert torch.equal(value, second["model"][key])
