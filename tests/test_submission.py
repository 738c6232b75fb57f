"""The CSV: what is written is accepted, what a contest would refuse is refused here, with its line."""

import re
from pathlib import Path

import numpy as np
import pytest

from senone.submission import (
    board_scores,
    check_submission,
    find_sample,
    read_sample,
    submit_command,
    write_submission,
)


def test_what_is_written_is_what_the_contest_wants(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.csv"
    write_submission(path, np.array([108, 0, 137]), num_frames=3, num_classes=138)
    assert path.read_bytes() == b"id,label\n0,108\n1,0\n2,137\n"
    assert check_submission(path, num_frames=3, num_classes=138) == 3
    assert [file.name for file in path.parent.iterdir()] == ["run.csv"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"2 rows, expected one for each of 3 test frames"),
        ([1, 2, 3, 4], r"4 rows, expected one for each of 3 test frames"),
        ([1, 2, 138], r"line 4: expected a label of 0 to 137, got label '138'"),
        ([1, -2, 3], r"line 3: expected an integer label, got label '-2'"),
        ([1.0, 2.5, 3.0], r"line 2: expected an integer label, got label '1.0'"),
    ],
)
def test_wrong_predictions_are_refused_and_the_old_csv_stays(
    tmp_path: Path, labels: list[float], message: str
) -> None:
    path = tmp_path / "run.csv"
    write_submission(path, np.array([5, 6, 7]), num_frames=3, num_classes=138)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        write_submission(path, np.array(labels), num_frames=3, num_classes=138)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Id,Label\n0,1\n", r"line 1: expected the header id,label, got Id,Label"),
        ("id,label\n1,1\n2,1\n", r"line 2: expected ids 0, 1, 2 \.\.\. in file order, got id '1'"),
        ("id,label\n0,1\n2,1\n1,1\n", r"line 3: expected ids 0, 1, 2 .* got id '2'"),
        ("id,label\n0,1\n1,\n", r"line 3: expected an integer label, got label ''"),
        ("id,label\n0,SIL\n", r"line 2: expected an integer label, got label 'SIL'"),
        ("id,label\n0,7.0\n", r"line 2: expected an integer label, got label '7\.0'"),
        ("id,label\n0,6\n", r"line 2: expected a label of 0 to 5, got label '6'"),
        ("id,label,x\n0,1,2\n", r"line 1: expected two columns, got 3"),
        ("id,label\n0,1,2,3\n0,1\n", r"not a readable CSV|line"),
        ("", r"not a readable CSV"),
    ],
)
def test_a_csv_from_anywhere_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        check_submission(tmp_path / "x.csv", num_classes=6)
    assert "x.csv" in str(caught.value)


def test_a_missing_csv_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nix\.csv: not a readable CSV"):
        check_submission(tmp_path / "nix.csv")


def test_a_sample_submission_sets_header_ids_and_rows(tmp_path: Path) -> None:
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("Id,Class\n0,0\n1,0\n2,0\n")
    assert find_sample(tmp_path) == sample
    path = tmp_path / "run.csv"
    write_submission(path, np.array([1, 2, 3]), num_frames=3, num_classes=6, sample=sample)
    assert path.read_text() == "Id,Class\n0,1\n1,2\n2,3\n"
    with pytest.raises(ValueError, match=r"sample_submission\.csv: 3 rows, but the test set has 4 frames"):
        write_submission(path, np.array([1, 2, 3, 4]), num_frames=4, num_classes=6, sample=sample)
    path.write_text("id,label\n0,1\n1,2\n2,3\n")
    with pytest.raises(ValueError, match=r"line 1: expected the header Id,Class, got id,label"):
        check_submission(path, sample=sample)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,label\n1,0\n2,0\n",
            "sample_submission.csv, line 2: expected ids 0, 1, 2 ... in file order, got",
        ),
        ("id,label\n0,AA\n1,B\n", "sample_submission.csv, line 2: expected an integer label, got label 'AA'"),
        ("id;label\n0;0\n1;0\n", "sample_submission.csv, line 1: expected two columns, got 1"),
        ("id,label\n0,0\n", "sample_submission.csv: 1 rows, but the test set has 2 frames"),
    ],
)
def test_a_sample_like_which_no_csv_of_ours_can_be_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    sample = tmp_path / "sample_submission.csv"
    sample.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_sample(sample, 2)


@pytest.mark.parametrize(
    ("row", "message"), [("99,0,5", "expected two cells"), ("0," + "9" * 23, "expected an integer label")]
)
def test_rows_that_no_board_takes_are_refused(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "run.csv"
    path.write_text(f"id,label\n{row}\n")
    with pytest.raises(ValueError, match=f"run.csv, line 2: {message}"):
        check_submission(path, num_frames=1, num_classes=6)


def test_board_scores_are_the_accuracies_of_a_fixed_30_and_70_percent() -> None:
    true = np.random.default_rng(1).integers(138, size=50_000)
    predicted = np.where(np.arange(50_000) % 4 == 0, true, 137 - true)
    public, private = board_scores(predicted, true)
    assert public == pytest.approx(0.25, abs=0.02)
    assert 0.3 * public + 0.7 * private == pytest.approx((predicted == true).mean(), abs=0.002)
    assert (public, private) == board_scores(predicted, true)
    with pytest.raises(ValueError, match="3 predictions, but 4 test labels"):
        board_scores(true[:3], true[:4])


def test_the_line_that_hands_it_in() -> None:
    line = submit_command(Path("submissions/run.csv"), "11-785-s20-hw1p2", "run")
    assert line == 'kaggle competitions submit -c 11-785-s20-hw1p2 -f submissions/run.csv -m "run"'
    assert "-f 'my runs/a.csv' " in submit_command(Path("my runs/a.csv"), None, "a")
