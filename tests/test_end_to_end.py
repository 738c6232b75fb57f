"""The whole way, as a user goes it: from nothing to a checked CSV, with one's own files, several models."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_cli import assert_one_line, run_script

from senone.checkpoint import load_checkpoint
from senone.corpus.contest import open_contest

SMALL = (
    "model.context=2",
    "model.widths=[16]",
    "train.epochs=2",
    "train.batch_size=16",
    "data.num_classes=6",
)


@pytest.fixture(scope="module")
def smoke(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the smoke experiment was run once, on the corpus that is already there."""
    folder = tmp_path_factory.mktemp("smoke")
    done = run_script(folder, "train.py", "experiment=smoke", f"corpus.root={tiny_corpus.parent}", "name=a")
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_smoke_leaves_all_that_a_run_promises(smoke: Path, tiny_corpus: Path) -> None:
    run = smoke / "runs" / "a"
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "train.log", "last.pt", "best.pt",
        "curves.png", "confusion.png", "utterance.png", "report.html",
    }  # fmt: skip
    frames = sum(open_contest(tiny_corpus)["test"].lengths)
    table = pd.read_csv(smoke / "submissions" / "a.csv")
    assert table.columns.tolist() == ["id", "label"]
    assert table["id"].tolist() == list(range(frames))
    assert table["label"].between(0, 137).all()
    assert table["label"].nunique() > 3
    said = (smoke / "stdout.txt").read_text()
    for part in (
        "dev accuracy: ",
        "simulated board: ",
        "curves.png",
        "submissions/a.csv",
        "kaggle competitions",
    ):
        assert part in said
    about = json.loads((run / "config.json").read_text())
    assert about["config"]["train"]["epochs"] == 2
    assert about["data"].keys() == {"train", "dev", "test"}


def test_smoke_learns_more_than_the_commonest_class(smoke: Path, tiny_corpus: Path) -> None:
    labels = np.concatenate(list(np.load(tiny_corpus / "dev_labels.npy", allow_pickle=True)))
    commonest = np.bincount(labels).max() / len(labels)
    records = [json.loads(line) for line in (smoke / "runs/a/metrics.jsonl").read_text().splitlines()]
    assert records[-1]["dev_accuracy"] > commonest + 0.05


def test_a_second_run_reuses_corpus_and_cache_and_is_the_same(smoke: Path, tiny_corpus: Path) -> None:
    stores = {path: path.stat().st_mtime_ns for path in (smoke / "data/stores").glob("*/rows.bin")}
    made = (tiny_corpus / "train.npy").stat().st_mtime_ns
    done = run_script(smoke, "train.py", "experiment=smoke", f"corpus.root={tiny_corpus.parent}", "name=b")
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in (smoke / "data/stores").glob("*/rows.bin")} == stores
    assert (tiny_corpus / "train.npy").stat().st_mtime_ns == made
    assert (smoke / "submissions/a.csv").read_bytes() == (smoke / "submissions/b.csv").read_bytes()


def test_predict_rebuilds_the_csv_from_the_checkpoint_alone(smoke: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "a" / "best.pt"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes((smoke / "runs/a/best.pt").read_bytes())
    done = run_script(tmp_path, "predict.py", f"checkpoint={elsewhere}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "submissions/a.csv").read_bytes() == (smoke / "submissions/a.csv").read_bytes()


def test_the_decoder_is_in_the_checkpoint_and_pays(smoke: Path) -> None:
    content = load_checkpoint(smoke / "runs/a/best.pt")
    assert content["decode"]["name"] == "trigram"
    decoded = run_script(smoke, "evaluate.py", "checkpoint=runs/a/best.pt").stdout
    accuracy = float(decoded.split("accuracy ")[-1].split("%")[0]) / 100
    assert accuracy > content["dev_accuracy"] + 0.01
    said = (smoke / "stdout.txt").read_text()
    assert f"dev accuracy: {accuracy:.2%}" in said
    assert f"each frame alone: {content['dev_accuracy']:.2%}" in said


def test_evaluate_gives_the_accuracy_of_the_run(smoke: Path) -> None:
    best = load_checkpoint(smoke / "runs/a/best.pt")["dev_accuracy"]
    done = run_script(smoke, "evaluate.py", "checkpoint=runs/a/best.pt", "decode=argmax")
    assert done.returncode == 0, done.stderr
    assert f"accuracy {best:.2%} by state" in done.stdout
    folder = smoke / "runs/a/evaluate-dev"
    states = pd.read_csv(folder / "states.csv")
    assert (states["accuracy"] * states["frames"]).sum() / states["frames"].sum() == pytest.approx(best)
    confusion = pd.read_csv(folder / "confusion.csv", index_col="true")
    assert confusion.shape == (46, 46)
    assert confusion.to_numpy().sum() == states["frames"].sum()
    assert pd.read_csv(folder / "phonemes.csv")["frames"].sum() == states["frames"].sum()


def test_the_board_is_the_accuracy_on_the_labels_kept_apart(smoke: Path) -> None:
    done = run_script(smoke, "evaluate.py", "checkpoint=runs/a/best.pt", "split=test")
    assert done.returncode == 0, done.stderr
    overall = float(done.stdout.split("accuracy ")[-1].split("%")[0])
    board = next(
        line for line in (smoke / "stdout.txt").read_text().splitlines() if "simulated board" in line
    )
    public, private = (float(part.split("%")[0]) for part in board.split(": ")[1].split(", "))
    assert 0.3 * public + 0.7 * private == pytest.approx(overall, abs=1.0)


def test_the_contests_files_drop_in_by_one_config_value(tmp_path: Path, contest_folder: Path) -> None:
    (contest_folder / "sample_submission.csv").write_text(
        "Id,Class\n" + "".join(f"{i},0\n" for i in range(sum(open_contest(contest_folder)["test"].lengths)))
    )
    done = run_script(
        tmp_path,
        "train.py",
        "data=contest",
        f"data.root={contest_folder}",
        "name=mine",
        "decode=viterbi",
        *SMALL,
    )
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "submissions/mine.csv")
    assert table.columns.tolist() == ["Id", "Class"]
    assert len(table) == sum(open_contest(contest_folder)["test"].lengths)
    assert "simulated board" not in done.stdout
    assert "checked against sample_submission.csv" in done.stdout
    assert "kaggle competitions submit -c 11-785" in done.stdout
    done = run_script(tmp_path, "evaluate.py", "checkpoint=runs/mine/best.pt", "split=test")
    assert_one_line(done, "split=test", "holds no test_labels.npy")


def test_an_ensemble_writes_a_checked_csv_and_makes_dev_likelier_than_each_member(
    smoke: Path, tiny_corpus: Path
) -> None:
    changed = ("model.context=9", "seed=1", "name=c")
    corpus = f"corpus.root={tiny_corpus.parent}"
    assert run_script(smoke, "train.py", "experiment=smoke", corpus, *changed).returncode == 0
    together = "checkpoints=[runs/a/best.pt,runs/c/best.pt]"
    done = run_script(smoke, "predict.py", together)
    assert done.returncode == 0, done.stderr
    assert "contest-legal" in done.stdout
    frames = sum(open_contest(tiny_corpus)["test"].lengths)
    assert len(pd.read_csv(smoke / "submissions/a+c.csv")) == frames
    done = run_script(smoke, "evaluate.py", together)
    assert done.returncode == 0, done.stderr
    loss = float(done.stdout.split("loss ")[-1].split(",")[0])
    for name in "ac":
        records = (smoke / "runs" / name / "metrics.jsonl").read_text().splitlines()
        assert loss < min(json.loads(record)["dev_loss"] for record in records)
    assert (smoke / "runs/a/evaluate-dev-a+c/confusion.csv").is_file()


def test_a_checkpoint_meets_data_of_another_kind_with_a_line(
    tmp_path: Path, smoke: Path, contest_folder: Path
) -> None:
    done = run_script(
        tmp_path, "predict.py", f"checkpoint={smoke / 'runs/a/best.pt'}", f"root={contest_folder}"
    )
    assert_one_line(done, "8 values a frame", "is of a model for 40")
    assert not (tmp_path / "submissions").exists()


def test_what_would_stop_a_run_at_its_end_stops_it_before_its_first_epoch(
    tmp_path: Path, contest_folder: Path
) -> None:
    arguments = ("data=contest", f"data.root={contest_folder}", "name=mine", *SMALL)
    done = run_script(tmp_path, "train.py", *arguments, "data.num_classes=129")
    assert_one_line(done, "decode=trigram: expected at most 128 phonemes, not 129; decode=forward_backward")
    (contest_folder / "sample_submission.csv").write_text("id,label\n0,AA\n")
    assert_one_line(run_script(tmp_path, "train.py", *arguments), "sample_submission.csv: 1 rows, but")
    assert not (tmp_path / "runs").exists()


def test_a_broken_sample_keeps_the_csv_that_is_there(tmp_path: Path, contest_folder: Path) -> None:
    arguments = ("data=contest", f"data.root={contest_folder}", "name=mine", *SMALL)
    assert run_script(tmp_path, "train.py", *arguments).returncode == 0
    before = (tmp_path / "submissions/mine.csv").read_bytes()
    (contest_folder / "sample_submission.csv").write_text("id,label\n0,0\n")
    done = run_script(tmp_path, "predict.py", "checkpoint=runs/mine/best.pt")
    assert_one_line(done, "sample_submission.csv: 1 rows, but the test set has")
    assert (tmp_path / "submissions/mine.csv").read_bytes() == before
