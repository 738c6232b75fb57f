"""The contest's files: five ``.npy`` arrays of utterances, checked one by one and against each other.

``{train,dev,test}.npy`` hold (T, F) frames an utterance, ``{train,dev}_labels.npy`` (T,) states; labels of
the test split are read if somebody has them, in ``private/`` where the made corpus keeps them apart. Bins F
and classes K are whatever the files say.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from senone.corpus.object_array import StoredArray, index_arrays

REQUIRED = ("train.npy", "train_labels.npy", "dev.npy", "dev_labels.npy", "test.npy")


@dataclass(frozen=True)
class ContestSplit:
    """One split, by the places of its utterances: frames (U of (T, F)) and labels (U of (T,)) or None."""

    name: str
    frames_path: Path
    frames: list[StoredArray]
    labels_path: Path | None
    labels: list[StoredArray] | None

    @property
    def lengths(self) -> list[int]:
        """Frames T of each utterance."""
        return [place.shape[0] for place in self.frames]

    @property
    def num_bins(self) -> int:
        """F, the same for all utterances."""
        return self.frames[0].shape[1]

    @property
    def paths(self) -> list[Path]:
        """The files that the split is read from."""
        return [self.frames_path] + ([self.labels_path] if self.labels_path else [])

    def read(self) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Each utterance in file order, one at a time: frames (T, F) float32 and labels (T,) or None."""
        with self.frames_path.open("rb") as frames_file:
            if self.labels_path is None or self.labels is None:
                for place in self.frames:
                    yield np.asarray(place.read(frames_file), np.float32), None
                return
            with self.labels_path.open("rb") as labels_file:
                for place, label_place in zip(self.frames, self.labels, strict=True):
                    frames = np.asarray(place.read(frames_file), np.float32)
                    yield frames, label_place.read(labels_file)


def open_contest(root: Path) -> dict[str, ContestSplit]:
    """Find and check the contest's files in a folder: ``{"train": ..., "dev": ..., "test": ...}``.

    Raises ValueError where one of the five is missing, where utterances or lengths of frames and labels
    differ, where an utterance is empty or no (T, F) array, or where F is not the same everywhere.
    """
    missing = [name for name in REQUIRED if not (root / name).is_file()]
    if missing:
        there = [name for name in REQUIRED if name not in missing]
        raise ValueError(
            f"{root}: {', '.join(missing)} missing; data.root must hold {', '.join(REQUIRED)}; "
            f"there: {', '.join(there) or 'none of them'}"
        )
    splits = {name: _open_split(root, name) for name in ("train", "dev", "test")}
    train = splits["train"]
    for split in splits.values():
        if split.num_bins != train.num_bins:
            raise ValueError(
                f"{split.frames_path.name}: {split.num_bins} values a frame, "
                f"but {train.frames_path.name} has {train.num_bins}"
            )
    return splits


def _open_split(root: Path, name: str) -> ContestSplit:
    frames_path = root / f"{name}.npy"
    places = (root / f"{name}_labels.npy", root / "private" / f"{name}_labels.npy")
    labels_path = next((path for path in places if path.is_file()), None)
    frames = index_arrays(frames_path)
    if not frames:
        raise ValueError(f"{frames_path.name} holds no utterance")
    for u, place in enumerate(frames):
        where = f"{frames_path.name}, utterance {u}"
        if len(place.shape) != 2 or place.dtype.kind != "f":
            raise ValueError(
                f"{where}: expected (frames, bins) of floats, got {place.shape} of {place.dtype}"
            )
        if place.shape[0] == 0:
            raise ValueError(f"{where} is empty: expected at least one frame")
        if place.shape[1] != frames[0].shape[1]:
            raise ValueError(
                f"{where}: {place.shape[1]} values a frame, utterance 0 has {frames[0].shape[1]}"
            )
    if labels_path is None:
        return ContestSplit(name, frames_path, frames, None, None)
    labels = index_arrays(labels_path)
    if len(labels) != len(frames):
        raise ValueError(
            f"{labels_path.name}: {len(labels)} utterances, but {frames_path.name} has {len(frames)}"
        )
    for u, (place, label_place) in enumerate(zip(frames, labels, strict=True)):
        where = f"{labels_path.name}, utterance {u}"
        if len(label_place.shape) != 1 or label_place.dtype.kind not in "iu":
            raise ValueError(
                f"{where}: expected one integer a frame, got {label_place.shape} of {label_place.dtype}"
            )
        if label_place.shape[0] != place.shape[0]:
            raise ValueError(f"{where}: {place.shape[0]} frames but {label_place.shape[0]} labels")
    return ContestSplit(name, frames_path, frames, labels_path, labels)


def write_utterances(path: Path, utterances: Sequence[np.ndarray]) -> None:
    """Save arrays as the contest does, an object array of U utterances; whole or not at all."""
    packed = np.empty(len(utterances), object)  # np.array(list) would collapse equal lengths into 3-D
    for u, utterance in enumerate(utterances):
        packed[u] = utterance
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.save(file, packed)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
