"""Time of an epoch and peak memory as the number of frames and the context grow: ours and a DataLoader's."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from senone.benchmarks.child import run_child
from senone.benchmarks.data import BATCH, WindowDataset, gathered, loader
from senone.benchmarks.figure import Figure, limit_threads
from senone.benchmarks.synthetic import random_store
from senone.report import can_draw, plot_scale
from senone.windows import epoch_order

FRAMES = (100_000, 400_000, 1_600_000, 6_400_000, 16_000_000)
CONTEXTS = (0, 5, 12, 25, 50)
FRAMES_OF_CONTEXTS, CONTEXT_OF_FRAMES = 400_000, 12
WAYS = ("ours", "DataLoader")
PICTURE = Path("docs/scale.png")


def measure(quick: bool) -> Iterator[Figure]:
    """Each point in a process of its own; the whole grid is drawn, a quick one is not."""
    frames, contexts = (FRAMES[:1], ()) if quick else (FRAMES, CONTEXTS)
    by_frames = [(count, CONTEXT_OF_FRAMES) for count in frames]
    by_context = [(FRAMES_OF_CONTEXTS, context) for context in contexts]
    points: dict[tuple[str, int, int], tuple[float, float]] = {}
    for way in WAYS:
        for count, context in dict.fromkeys(by_frames + by_context):
            most = 8 if quick else 20
            seconds, megabytes = run_child("senone.benchmarks.scale.epoch_seconds", way, count, context, most)
            points[way, count, context] = seconds, megabytes
            name = f"scale {count:,} frames, k={context}, {way}"
            yield Figure(f"{name}: an epoch's batches", seconds, "s")
            yield Figure(f"{name}: peak memory", megabytes, "MB")
    if not quick and can_draw():
        PICTURE.parent.mkdir(exist_ok=True)
        curves = {
            "frames (k = 12)": (list(frames), [[points[way, *at] for at in by_frames] for way in WAYS]),
            "context k (400,000 frames)": (
                list(contexts),
                [[points[way, *at] for at in by_context] for way in WAYS],
            ),
        }
        plot_scale(curves, list(WAYS), PICTURE)


def epoch_seconds(way: str, num_frames: int, context: int, most: int, batch_size: int = BATCH) -> float:
    """CPU time of all batches of an epoch, from the order on, reckoned from its first ``most`` batches."""
    with limit_threads(1):
        store = random_store(num_frames, guard=64)
        batches = min(most, num_frames // batch_size - 1)
        start = time.process_time()
        if way == "ours":
            epoch_order(store.num_frames, 0, 0)
            batch = gathered(store, context, batch_size)
            ready = time.process_time()
            for _ in range(batches):
                batch()
        else:
            stream = iter(loader(WindowDataset(store, context), batch_size, 0))
            next(stream)
            ready = time.process_time()
            for _ in islice(stream, batches):
                pass
        end = time.process_time()
    return ready - start + (end - ready) * store.num_frames / (batch_size * batches)
