"""The experiments of conf/ run to their CSV, here with networks and epochs that take seconds."""

from pathlib import Path

import pytest
from test_cli import SCRIPTS, run_script

from senone.checkpoint import load_checkpoint

EXPERIMENTS = SCRIPTS.parent / "conf/experiment"
SMALLER = {
    "baseline": ["model.widths=[16]"],
    "best": ["model.widths=[16,16]", "train.batch_size=64"],
    "bilstm": ["model.width=8", "model.layers=1", "train.batch_size=600"],
    "open": [
        "model.members.bilstm.width=8",
        "model.members.bilstm.layers=1",
        "model.members.conformer.width=20",
        "model.members.conformer.blocks=1",
        "train.batch_size=600",
    ],
    "rank2": ["model.widths=[16,12]"],
}


def test_each_experiment_is_one_of_these() -> None:
    assert {path.stem for path in EXPERIMENTS.iterdir()} == {*SMALLER, "smoke"}


@pytest.mark.parametrize("name", SMALLER)
def test_an_experiment_runs_from_speech_to_csv(tmp_path: Path, tiny_corpus: Path, name: str) -> None:
    corpus = [f"corpus.root={tiny_corpus.parent}", "corpus.size=tiny"]
    done = run_script(
        tmp_path, "train.py", f"experiment={name}", *corpus, *SMALLER[name],
        "name=mine", "train.epochs=1", "device=cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "submissions/mine.csv").exists()
    legal = ", contest-legal" in done.stdout and "NOT contest-legal" not in done.stdout
    assert legal == (name not in ("bilstm", "open"))
    decoder = load_checkpoint(tmp_path / "runs/mine/best.pt")["decode"]
    expected = {"baseline": "forward_backward", "rank2": None}
    assert (decoder and decoder["name"]) == expected.get(name, "trigram")


def test_a_run_learns_from_the_checkpoints_of_others(tmp_path: Path, two_runs: Path) -> None:
    settings = [
        "data=contest", f"data.root={two_runs / 'contest'}", "data.num_classes=6", "model.widths=[8]",
        "train.epochs=2", "train.batch_size=16", "device=cpu",
    ]  # fmt: skip
    teachers = f"train.teachers=[{two_runs}/runs/a/best.pt,{two_runs}/runs/b/best.pt]"
    losses = []
    for name, more in (("alone", []), ("taught", [teachers, "train.teacher_weight=0.9"])):
        done = run_script(tmp_path, "train.py", *settings, *more, f"name={name}")
        assert done.returncode == 0, done.stderr
        progress = load_checkpoint(tmp_path / f"runs/{name}/last.pt")["progress"]
        losses.append(progress["history"][-1]["train_loss"])
    assert losses[0] != losses[1]
    nobody = run_script(tmp_path, "train.py", *settings, "train.teachers=[runs/nobody/best.pt]")
    assert nobody.returncode == 1
    assert "runs/nobody/best.pt: there is no such checkpoint" in nobody.stderr
