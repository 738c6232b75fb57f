"""The CSV a contest accepts: ``id,label``, one row a test frame, written whole or not at all."""

import os
import shlex
from pathlib import Path

import numpy as np
import pandas as pd

from senone.dataset import Dataset

HEADER = ["id", "label"]
SAMPLES = ("sample_submission.csv", "sampleSubmission.csv", "sample.csv")


def hand_in(
    labels: np.ndarray, data: Dataset, csv: Path, *, competition: str | None, contest_legal: bool
) -> list[str]:
    """Write the (N,) labels of the test set as a CSV; returns lines with what there is to say about it."""
    test, sample = data.test, find_sample(data.root)
    write_submission(csv, labels, num_frames=test.num_frames, num_classes=test.num_classes, sample=sample)
    lines = []
    if test.labels is not None:
        public, private = board_scores(labels, test.labels.numpy())
        lines.append(f"simulated board: {public:.2%} public (30 % of the test rows), {private:.2%} private")
    checked = f"checked against {sample.name}" if sample else "checked"
    legal = "contest-legal" if contest_legal else "NOT contest-legal"
    return [
        *lines,
        f"submission: {csv} ({test.num_frames:,} rows, {checked}, {legal})",
        f"hand it in: {submit_command(csv, competition, csv.stem)}",
    ]


def find_sample(root: Path) -> Path | None:
    """The contest's sample submission in a folder, if there is one."""
    return next((root / name for name in SAMPLES if (root / name).is_file()), None)


def write_submission(
    path: Path, labels: np.ndarray, *, num_frames: int, num_classes: int, sample: Path | None = None
) -> None:
    """Write (N,) labels in file order as a checked CSV; what stood at ``path`` stays if a check fails.

    The header is the sample submission's, if there is one, otherwise ``id,label``.
    """
    header = read_sample(sample, num_frames)[0] if sample else HEADER
    table = pd.DataFrame({header[0]: np.arange(len(labels)), header[1]: labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", newline="") as file:
            table.to_csv(file, index=False, lineterminator="\n")
            file.flush()
            os.fsync(file.fileno())
        check_submission(partial, num_frames=num_frames, num_classes=num_classes, sample=sample)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def check_submission(
    path: Path, *, num_frames: int | None = None, num_classes: int | None = None, sample: Path | None = None
) -> int:
    """Check a submission from anywhere and return its number of rows.

    Raises ValueError, naming the line, unless it has the header, the ids 0, 1, 2 ... in order, integer labels
    0..K-1, ``num_frames`` rows if given, and the sample submission's header and rows if given.
    """
    header = HEADER
    if sample is not None:
        header, num_frames = read_sample(sample, num_frames)
    table = _read(path)
    if table.columns.tolist() != header:
        got = ",".join(map(str, table.columns))
        raise ValueError(f"{path.name}, line 1: expected the header {','.join(header)}, got {got}")
    if num_frames is not None and len(table) != num_frames:
        raise ValueError(f"{path.name}: {len(table)} rows, expected one for each of {num_frames} test frames")
    _require_rows(path, table)
    if num_classes is not None:
        small = table[header[1]].astype(int).to_numpy() < num_classes
        _require(path, small, table, header[1], f"a label of 0 to {num_classes - 1}")
    return len(table)


def read_sample(path: Path, num_frames: int | None = None) -> tuple[list[str], int]:
    """The header of a contest's sample submission, and its number of rows. Raises ValueError for one like
    which no CSV of this program can be: with other rows than ``num_frames``, if given, other ids than 0, 1,
    2 ... in order, or labels that are no integers."""
    table = _read(path)
    if num_frames is not None and len(table) != num_frames:
        raise ValueError(f"{path}: {len(table)} rows, but the test set has {num_frames} frames")
    _require_rows(path, table)
    return table.columns.tolist(), len(table)


def board_scores(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Accuracy on the public (30 % of the rows, drawn once for all) and the private part of a board."""
    if len(predicted) != len(true):
        raise ValueError(f"{len(predicted)} predictions, but {len(true)} test labels")
    public = np.random.default_rng(0).random(len(true)) < 0.3
    right = predicted == true
    return float(right[public].mean()), float(right[~public].mean())


def submit_command(path: Path, competition: str | None, message: str) -> str:
    """The line that hands the CSV in."""
    where = shlex.quote(str(path))
    return f'kaggle competitions submit -c {competition or "COMPETITION"} -f {where} -m "{message}"'


def _read(path: Path) -> pd.DataFrame:
    """All cells as the text they are."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable CSV: {' '.join(str(error).split())}") from None
    if len(table.columns) != 2:
        raise ValueError(f"{path.name}, line 1: expected two columns, got {len(table.columns)}")
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first of three cells for a row's name
        raise ValueError(f"{path.name}, line 2: expected two cells, as in line 1")
    return table


def _require_rows(path: Path, table: pd.DataFrame) -> None:
    """Ids in order, and integer labels."""
    name, label = table.columns
    in_order = table[name].to_numpy() == np.arange(len(table)).astype(str)
    _require(path, in_order, table, name, "ids 0, 1, 2 ... in file order")
    whole = table[label].str.fullmatch(r"\d{1,9}").to_numpy(bool)
    _require(path, whole, table, label, "an integer label")


def _require(path: Path, holds: np.ndarray, table: pd.DataFrame, column: str, expected: str) -> None:
    if not holds.all():
        row = int(np.argmin(holds))
        raise ValueError(
            f"{path.name}, line {row + 2}: expected {expected}, got {column} {table[column].iloc[row]!r}"
        )
