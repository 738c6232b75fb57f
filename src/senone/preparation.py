"""From the contest's files to a ``FrameStore``: checked, normalised, cached, and mapped from the cache."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from senone.corpus.contest import ContestSplit
from senone.frames import BANDS, FrameStore

CLIP = 10.0  # standard deviations; what is further out is no speech
FORMAT = 3  # of the cache: raise it when what is stored for the same inputs changes


def normalise_utterance(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, F) -> (T, F) float32: each bin to mean 0, variance 1 over the utterance, whatever outliers it has;
    and what this takes away: (2*BANDS,) float32 levels, mean and spread over each band's bins, and the (F,)
    float32 spread of each bin.

    Values further from a bin's 5 to 95 % range than that range is wide (4.9 standard deviations from the mean
    if the bin is normal) count neither for mean nor for variance, and are clipped. Up to 5 % of wild frames a
    side then do no harm, and an utterance without any is normalised by its plain mean and variance.
    """
    bins = np.array(frames.T, order="C")  # (F, T), a copy even where one of them is 1
    count = bins.shape[1]
    low_rank, high_rank = int(0.05 * (count - 1)), int(np.ceil(0.95 * (count - 1)))
    ranked = np.sort(bins, axis=1)  # in vectors: three times faster than a partition at two ranks
    low, high = ranked[:, low_rank, None], ranked[:, high_rank, None]
    width = high - low
    width[width <= 1e-6 * np.abs(high)] = np.inf  # more than 90 % of one value: every other one is news
    low, high = low - width, high + width
    inside: Any = True  # almost always, and then the sums need no mask
    if (ranked[:, :1] < low).any() or (ranked[:, -1:] > high).any():
        inside = (bins >= low) & (bins <= high)
        np.clip(bins, low, high, out=bins)
    mean = bins.mean(axis=1, dtype=np.float64, keepdims=True, where=inside)
    deviations = bins - mean
    spread = np.sqrt(np.square(deviations, out=deviations).mean(axis=1, keepdims=True, where=inside))
    levels = np.concatenate([_band_means(mean), _band_means(spread)]).astype(np.float32)
    spread[spread <= 1e-6 * np.abs(mean)] = np.inf  # a constant bin says nothing: it becomes 0
    bins -= mean.astype(np.float32)
    bins *= (1 / spread).astype(np.float32)
    spread[np.isinf(spread)] = 0
    return np.clip(bins, -CLIP, CLIP, out=bins).T, levels, spread[:, 0].astype(np.float32)


def _band_means(values: np.ndarray) -> np.ndarray:
    """(F, 1) -> (BANDS,) means over as many bins each as can be, at least one."""
    bins = len(values)
    edges = np.arange(BANDS + 1) * bins // BANDS
    return np.array([values[low : max(high, low + 1)].mean() for low, high in pairwise(edges)])


def open_store(
    split: ContestSplit,
    cache: Path,
    *,
    context: int,
    num_classes: int | None = None,
    normalise: str = "utterance",
    guard: str = "edge",
    on_bad: str = "refuse",
    progress: bool = False,
) -> FrameStore:
    """The store of a split, memory-mapped from the cache, where it is built first if it is not there yet.

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
        levels = np.fromfile(folder / "levels.bin", np.float32).reshape(len(lengths), 2 * BANDS)
        spreads = np.fromfile(folder / "spreads.bin", np.float32).reshape(len(lengths), about["bins"])
        labels_type = {"uint8": torch.uint8, "int16": torch.int16, "none": None}[about["labels"]]
        guard, rows, bins = about["guard"], about["rows"], about["bins"]
        sizes = [(folder / name).stat().st_size for name in ("rows.bin", "labels.bin")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    frames = int(lengths.sum())
    label_bytes = frames * labels_type.itemsize if labels_type else 0
    whole = rows == frames + 2 * guard * len(lengths) and sizes == [rows * bins * 4, label_bytes]
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
        torch.from_numpy(levels),
        torch.from_numpy(spreads),
        labels,
        guard,
        about["num_classes"],
        key,
    )


def _build_store(
    split: ContestSplit, folder: Path, settings: dict[str, Any], key: str, *, progress: bool
) -> None:
    """Stream the utterances of a split into a folder's files; store.json, written last, makes it whole."""
    guard, edge = settings["guard"], settings["edge"] == "edge"
    lengths, levels, spreads, rows, largest = [], [], [], 0, -1
    with (folder / "rows.bin").open("wb") as rows_file, (folder / "labels.bin").open("wb") as labels_file:
        utterances = tqdm(
            _read_checked(split, settings["num_classes"], settings["on_bad"]),
            f"preparing {split.name}",
            total=len(split.frames),
            unit=" utterances",
            disable=None if progress else True,  # None: only for eyes, not in a log file
        )
        wide = settings["num_classes"] is None or settings["num_classes"] > 256
        for frames, labels in utterances:
            normalised, level, spread = normalise_utterance(frames)
            if settings["normalise"] == "utterance":
                frames = normalised
            else:
                spread = np.ones_like(spread)
            padded = np.empty((len(frames) + 2 * guard, frames.shape[1]), "<f4")
            padded[:guard], padded[-guard:] = (frames[0], frames[-1]) if edge else (0, 0)
            padded[guard:-guard] = frames
            padded.tofile(rows_file)
            rows += len(padded)
            lengths.append(len(frames))
            levels.append(level)
            spreads.append(spread)
            if labels is not None:
                labels.astype("<i2" if wide else "u1").tofile(labels_file)
                largest = max(largest, int(labels.max()))
    if not lengths:
        raise ValueError(f"{split.frames_path.name}: no utterance has a frame left")
    np.array(lengths, np.int64).tofile(folder / "lengths.bin")
    np.array(levels, np.float32).tofile(folder / "levels.bin")
    np.array(spreads, np.float32).tofile(folder / "spreads.bin")
    about = {
        "key": key,
        "settings": settings,
        "guard": guard,
        "rows": rows,
        "bins": split.num_bins,
        "labels": "none" if split.labels_path is None else "int16" if wide else "uint8",
        "num_classes": settings["num_classes"] or largest + 1,
    }
    (folder / "store.json").write_text(json.dumps(about, indent=1))


def _read_checked(
    split: ContestSplit, num_classes: int | None, on_bad: str
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The utterances of a split, their labels in range and their frames finite."""
    for index, (frames, labels) in enumerate(split.read()):
        if labels is not None:
            top = (num_classes or 2**15) - 1
            outside = np.flatnonzero((labels < 0) | (labels > top))
            if outside.size:
                raise ValueError(
                    f"{split.labels_path.name if split.labels_path else ''}, utterance {index}: label "
                    f"{labels[outside[0]]} of frame {outside[0]}, expected 0 to {top} (data.num_classes)"
                )
        good = np.isfinite(frames).all(axis=1)  # (T,)
        if not good.all():
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
            yield frames, labels


def _fill(frames: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Put the last good frame before it in the place of each bad one; the first good one at the start."""
    if not good.any():
        return np.zeros_like(frames)
    source = np.maximum.accumulate(np.where(good, np.arange(len(good)), -1))  # (T,)
    return frames[np.where(source < 0, np.argmax(good), source)]
