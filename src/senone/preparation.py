"""From the contest's files to a ``FrameStore``: checked, normalised, cached, and mapped from the cache."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from senone.corpus.contest import ContestSplit
from senone.frames import BANDS, FrameStore
from senone.moments import Moments, normalise_frames
from senone.speakers import find_speakers

FORMAT = 4  # of the cache: raise it when what is stored for the same inputs changes


def open_store(
    split: ContestSplit,
    cache: Path,
    *,
    context: int,
    num_classes: int | None = None,
    normalise: str = "utterance",
    utterances_per_speaker: int | None = None,
    guard: str = "edge",
    on_bad: str = "refuse",
    progress: bool = False,
) -> FrameStore:
    """The store of a split, memory-mapped from the cache, where it is built first if it is not there yet.

    Each bin becomes 0 in the mean, with variance 1, over each utterance, or over all utterances of a speaker,
    or frames stay as they are. Speakers are found by how they sound (``find_speakers``), unless it is
    known that each has the same number of utterances, one after the other.

    A cache is known by a fingerprint of the files (name, size, time, head and tail) and of how they are
    prepared; one that is half-written, damaged or somebody else's is built again. K is ``num_classes``, or
    one more than the largest label. Raises ValueError, naming file and utterance, for a label outside
    0..K-1 and, unless ``on_bad="drop"``, for NaN or infinite frames. Dropped frames disappear with their
    labels; a test frame, which needs its row in the CSV, becomes the good frame before it (or after it).
    """
    settings = {
        "format": FORMAT,
        "guard": -(-max(context, 1) // 16) * 16,  # rounded up: a cache serves nearby contexts too
        "edge": guard,
        "normalise": normalise,
        "utterances_per_speaker": utterances_per_speaker,
        "on_bad": on_bad,
        "num_classes": num_classes,
        "files": [_fingerprint_file(path) for path in split.paths],
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    folder = cache / f"{split.name}-{key[:16]}"
    if (store := _map_store(folder, key)) is None:
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=cache, prefix=f".{split.name}-"))
        try:
            _build_store(split, partial, settings, key, progress=progress)
            partial.chmod(cache.stat().st_mode & 0o777)  # mkdtemp lets nobody else in
            if _map_store(folder, key) is None:  # another run that has built it meanwhile may be reading it
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # it was there a moment earlier
                    partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        store = _map_store(folder, key)
        if store is None:
            raise OSError(f"{folder}: what was written there cannot be read back")
    return store


def _fingerprint_file(path: Path) -> list[object]:
    """Name, size, time and a hash of both ends: as good as the whole content, in milliseconds."""
    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(65536))
        file.seek(max(0, status.st_size - 65536))
        digest.update(file.read(65536))
    return [path.name, status.st_size, status.st_mtime_ns, digest.hexdigest()]


def _map_store(folder: Path, key: str) -> FrameStore | None:
    """The store in a folder, or None if it is not there, not whole, or not the one asked for."""
    try:
        about = json.loads((folder / "store.json").read_text())
        lengths = np.fromfile(folder / "lengths.bin", np.int64)
        speakers = torch.from_numpy(np.fromfile(folder / "speakers.bin", np.int64))
        widths = {"levels": 2 * BANDS, "means": about["bins"], "spreads": about["bins"]}
        known = {
            name: torch.from_numpy(
                np.fromfile(folder / f"{name}.bin", np.float32).reshape(len(lengths), width)
            )
            for name, width in widths.items()
        }
        labels_type = {"uint8": torch.uint8, "int16": torch.int16, "none": None}[about["labels"]]
        guard, rows, bins = about["guard"], about["rows"], about["bins"]
        sizes = [(folder / name).stat().st_size for name in ("rows.bin", "labels.bin")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    frames = int(lengths.sum())
    label_bytes = frames * labels_type.itemsize if labels_type else 0
    whole = len(speakers) == len(lengths)
    whole &= rows == frames + 2 * guard * len(lengths) and sizes == [rows * bins * 4, label_bytes]
    if about.get("key") != key or not whole:
        return None
    mapped = torch.from_file(str(folder / "rows.bin"), size=rows * bins, dtype=torch.float32)
    labels = None
    if labels_type:
        labels = torch.from_file(str(folder / "labels.bin"), size=frames, dtype=labels_type)
    offsets = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths))))
    return FrameStore(
        mapped.view(rows, bins),
        offsets,
        speakers,
        labels=labels,
        guard=guard,
        num_classes=about["num_classes"],
        fingerprint=key,
        **known,
    )


def _build_store(
    split: ContestSplit, folder: Path, settings: dict[str, Any], key: str, *, progress: bool
) -> None:
    """Read the utterances of a split twice, to measure them and to write them, normalised, into a folder's
    files; store.json, written last, makes it whole."""

    def read(doing: str) -> Iterable[tuple[int, np.ndarray, np.ndarray | None]]:
        return tqdm(
            _read_checked(split, settings["num_classes"], settings["on_bad"]),
            f"{doing} {split.name}",
            total=len(split.frames),
            unit=" utterances",
            disable=None if progress else True,  # None: only for eyes, not in a log file
        )

    kept: list[int] = []  # numbers, in the file, of the utterances that are not dropped

    def frames_alone() -> Iterator[np.ndarray]:
        for index, frames, _ in read("measuring"):
            kept.append(index)
            yield frames

    moments = Moments.measure(frames_alone(), len(split.frames), split.num_bins)
    count = len(moments.means)
    if not count:
        raise ValueError(f"{split.frames_path.name}: no utterance has a frame left")
    number = settings["utterances_per_speaker"]
    if number:
        _, speakers = np.unique(np.array(kept) // number, return_inverse=True)
    else:
        speakers = find_speakers(moments.means, moments.drifts)
    whose = np.arange(count)  # each utterance is normalised by its own moments
    if settings["normalise"] == "speaker":
        whose, moments = speakers, moments.pool(speakers)
    means, spreads = moments.means, moments.spreads
    if settings["normalise"] == "none":
        means, spreads = np.zeros_like(means), np.ones_like(spreads)
    guard, edge = settings["guard"], settings["edge"] == "edge"
    wide = settings["num_classes"] is None or settings["num_classes"] > 256
    lengths, largest = [], -1
    with (folder / "rows.bin").open("wb") as rows_file, (folder / "labels.bin").open("wb") as labels_file:
        for index, (_, frames, labels) in zip(whose, read("preparing"), strict=True):
            padded = np.empty((len(frames) + 2 * guard, frames.shape[1]), "<f4")
            inner = padded[guard:-guard]
            if settings["normalise"] == "none":
                inner[:] = frames
            else:
                normalise_frames(frames, means[index], spreads[index], out=inner)
            padded[:guard], padded[-guard:] = (inner[0], inner[-1]) if edge else (0, 0)
            padded.tofile(rows_file)
            lengths.append(len(frames))
            if labels is not None:
                labels.astype("<i2" if wide else "u1").tofile(labels_file)
                largest = max(largest, int(labels.max()))
    np.array(lengths, np.int64).tofile(folder / "lengths.bin")
    speakers.astype(np.int64).tofile(folder / "speakers.bin")
    for name, values in (("levels", moments.levels), ("means", means), ("spreads", spreads)):
        values[whose].astype(np.float32, copy=False).tofile(folder / f"{name}.bin")
    about = {
        "key": key,
        "settings": settings,
        "guard": guard,
        "rows": sum(lengths) + 2 * guard * count,
        "bins": split.num_bins,
        "labels": "none" if split.labels_path is None else "int16" if wide else "uint8",
        "num_classes": settings["num_classes"] or largest + 1,
    }
    (folder / "store.json").write_text(json.dumps(about, indent=1))


def _read_checked(
    split: ContestSplit, num_classes: int | None, on_bad: str
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """The utterances of a split and their numbers in the file, their labels in range, their frames finite."""
    for index, (frames, labels) in enumerate(split.read()):
        if labels is not None:
            top = (num_classes or 2**15) - 1
            outside = np.flatnonzero((labels < 0) | (labels > top))
            if outside.size:
                raise ValueError(
                    f"{split.labels_path.name if split.labels_path else ''}, utterance {index}: label "
                    f"{labels[outside[0]]} of frame {outside[0]}, expected 0 to {top} (data.num_classes)"
                )
        if not np.isfinite(frames.sum(dtype=np.float64)):
            good = np.isfinite(frames).all(axis=1)  # (T,)
            where = f"{split.frames_path.name}, utterance {index}"
            if on_bad != "drop":
                raise ValueError(
                    f"{where}: frame {np.argmin(good)} is NaN or infinite ({np.sum(~good)} of {len(good)} "
                    f"frames are); data.on_bad=drop leaves them out"
                )
            if split.name == "test":
                frames = _fill(frames, good)
            else:
                frames, labels = frames[good], None if labels is None else labels[good]
        if len(frames):
            yield index, frames, labels


def _fill(frames: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Put the last good frame before it in the place of each bad one; the first good one at the start."""
    if not good.any():
        return np.zeros_like(frames)
    source = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))  # (T,)
    return frames[np.where(source < 0, np.argmax(good), source)]
