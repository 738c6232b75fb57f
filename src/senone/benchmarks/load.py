"""From the contest's files to a store: times the copy of the file, and in how much memory."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from senone.benchmarks.child import run_child
from senone.benchmarks.figure import Figure
from senone.benchmarks.start import start_run
from senone.benchmarks.synthetic import BINS, CLASSES
from senone.corpus.contest import open_contest, write_utterances
from senone.preparation import open_store

CONTEST_UTTERANCES = 24_500  # 15.4 million frames, 2.5 GB


def measure(quick: bool) -> Iterator[Figure]:
    yield from measure_files(*((400, 1, 0) if quick else (CONTEST_UTTERANCES, 2, 200)))


def measure_files(utterances: int, rounds: int, steps: int) -> Iterator[Figure]:
    """Generated contest files of so many train utterances, converted in a process of their own, and, unless
    there are none, the first steps of a training run on their store."""
    with tempfile.TemporaryDirectory(prefix="senone-load-") as folder:
        root = Path(folder)
        write_contest(root, utterances)
        copies, builds, peaks = [], [], []
        for _ in range(rounds):
            copies.append(copy_seconds(root))
            seconds, megabytes = run_child("senone.benchmarks.load.build_seconds", folder)
            builds.append(seconds)
            peaks.append(megabytes)
        (index, reopen), _ = run_child("senone.benchmarks.load.reopen_seconds", folder)
        places = {"data.root": "", "data.cache": "stores", "runs": "runs", "submissions": "submissions"}
        overrides = [f"{key}={root / place}" for key, place in places.items()]
        # as build_seconds has opened it
        start = start_run(["data=contest", "data.num_classes=null", *overrides], steps) if steps else None
        size = (root / "train.npy").stat().st_size / 1e6
    name = f"load {size:.0f} MB of {utterances} utterances"
    yield Figure(f"{name}: copy of the file", float(np.median(copies)), "s")
    yield Figure(f"{name}: store / copy", float(np.median(np.divide(builds, copies))), goal=4.0)
    yield Figure(f"{name}: peak memory above the interpreter", max(peaks), "MB", goal=64.0)
    yield Figure(f"{name}: finding the utterances in the files", 1e3 * index, "ms")
    yield Figure(f"{name}: reopening the store", 1e3 * reopen, "ms", goal=20.0)
    if start is not None:
        yield Figure(f"{name}: from the command to the first step", start[0], "s", goal=5.0)
        yield Figure(f"{name}: peak memory of {steps} steps", start[1], "MB", goal=3500.0)


def write_contest(root: Path, utterances: int) -> None:
    """The five files; each utterance is a stretch of the same noise, so that little memory is needed."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((100_000, BINS), np.float32)
    states = rng.integers(0, CLASSES, len(noise))
    for split, count in (("train", utterances), ("dev", 10), ("test", 10)):
        starts = rng.integers(0, len(noise) - 1060, count)
        spans = [
            slice(start, start + length)
            for start, length in zip(starts, rng.integers(200, 1061, count), strict=True)
        ]
        write_utterances(root / f"{split}.npy", [noise[span] for span in spans])
        if split != "test":
            write_utterances(root / f"{split}_labels.npy", [states[span] for span in spans])


def copy_seconds(root: Path) -> float:
    """Of the frames' file, by the clock on the wall."""
    start = time.perf_counter()
    shutil.copyfile(root / "train.npy", root / "copy.npy")
    seconds = time.perf_counter() - start
    (root / "copy.npy").unlink()
    return seconds


def build_seconds(folder: str) -> float:
    """From the files to a new store of the train split."""
    root = Path(folder)
    shutil.rmtree(root / "stores", ignore_errors=True)
    start = time.perf_counter()
    open_store(open_contest(root)["train"], root / "stores", context=12)
    return time.perf_counter() - start


def reopen_seconds(folder: str) -> tuple[float, float]:
    """To find the utterances of all files, and to open the store that is there."""
    root = Path(folder)
    start = time.perf_counter()
    split = open_contest(root)["train"]
    found = time.perf_counter()
    open_store(split, root / "stores", context=12)
    return found - start, time.perf_counter() - found
