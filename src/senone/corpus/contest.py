"""The contest's files: five ``.npy`` arrays of utterances, checked one by one and against each other.

``{train,dev,test}.npy`` hold (T, F) frames an utterance, ``{train,dev}_labels.npy`` (T,) states; labels of
the test split are read if somebody has them, in ``private/`` where the made corpus keeps them apart. Bins F
and classes K are whatever the files say.
"""

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from senone.corpus.object_array import StoredArray, index_arrays

SPLITS = ("train", "dev", "test")
TEST_LABELS = "private/test_labels.npy"  # apart: what a contest would not hand out
REQUIRED = ("train.npy", "train_labels.npy", "dev.npy", "dev_labels.npy", "test.npy")


@dataclass(frozen=True)
class ContestSplit:
    """One split: its files, and the places of its utterances in them, which are looked up and checked when
    they are first asked for: that takes seconds for the contest's files, and a cached store asks for none."""

    name: str
    frames_path: Path
    labels_path: Path | None

    @cached_property
    def frames(self) -> list[StoredArray]:
        """U of (T, F)."""
        return _index_frames(self.frames_path)

    @cached_property
    def labels(self) -> list[StoredArray] | None:
        """U of (T,), as long as the frames."""
        return None if self.labels_path is None else _index_labels(self.labels_path, self)

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


def find_contest(root: Path) -> dict[str, ContestSplit]:
    """The contest's files in a folder, ``{"train": ..., "dev": ..., "test": ...}``, none of them read yet.
    Raises ValueError where one of the five is missing."""
    missing = [name for name in REQUIRED if not (root / name).is_file()]
    if missing:
        there = [name for name in REQUIRED if name not in missing]
        raise ValueError(
            f"{root}: {', '.join(missing)} missing; data.root must hold {', '.join(REQUIRED)}; "
            f"there: {', '.join(there) or 'none of them'}"
        )
    splits = {}
    for name in SPLITS:
        places = (root / f"{name}_labels.npy", root / "private" / f"{name}_labels.npy")
        labels_path = next((path for path in places if path.is_file()), None)
        splits[name] = ContestSplit(name, root / f"{name}.npy", labels_path)
    return splits


def open_contest(root: Path) -> dict[str, ContestSplit]:
    """Find and check the contest's files in a folder.

    Raises ValueError where one of the five is missing, where utterances or lengths of frames and labels
    differ, where an utterance is empty or no (T, F) array, or where F is not the same everywhere.
    """
    splits = find_contest(root)
    for split in splits.values():
        _ = split.labels  # looked up and checked, as num_bins does with the frames
        require_bins(split.name, split.num_bins, splits["train"].num_bins)
    return splits


def require_bins(name: str, num_bins: int, train_bins: int) -> None:
    """Raise ValueError unless a split has as many values a frame as train."""
    if num_bins != train_bins:
        raise ValueError(f"{name}.npy: {num_bins} values a frame, but train.npy has {train_bins}")


def _index_frames(path: Path) -> list[StoredArray]:
    frames = index_arrays(path)
    if not frames:
        raise ValueError(f"{path.name} holds no utterance")
    for u, place in enumerate(frames):
        where = f"{path.name}, utterance {u}"
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
    return frames


def _index_labels(path: Path, split: ContestSplit) -> list[StoredArray]:
    labels = index_arrays(path)
    if len(labels) != len(split.frames):
        raise ValueError(
            f"{path.name}: {len(labels)} utterances, but {split.frames_path.name} has {len(split.frames)}"
        )
    for u, (place, label_place) in enumerate(zip(split.frames, labels, strict=True)):
        where = f"{path.name}, utterance {u}"
        if len(label_place.shape) != 1 or label_place.dtype.kind not in "iu":
            raise ValueError(
                f"{where}: expected one integer a frame, got {label_place.shape} of {label_place.dtype}"
            )
        if label_place.shape[0] != place.shape[0]:
            raise ValueError(f"{where}: {place.shape[0]} frames but {label_place.shape[0]} labels")
    return labels


def write_utterances(path: Path, utterances: Sequence[np.ndarray]) -> None:
    """Save arrays as the contest does, an object array of U utterances; whole or not at all. They may lie in
    a mapped file: one at a time is copied."""
    packed = np.empty(len(utterances), object)  # np.array(list) would collapse equal lengths into 3-D
    for u, utterance in enumerate(utterances):
        packed[u] = utterance
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": packed.shape}
        )
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # as np.save does, but a copy of each utterance is not remembered to the end
        pickler.dump(packed)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
