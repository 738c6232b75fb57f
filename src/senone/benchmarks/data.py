"""Shuffled batches of windows: times a memory copy of the same bytes, and beside a DataLoader."""

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, cycle, islice, repeat

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from senone.benchmarks.figure import Figure, interleave, ratio
from senone.benchmarks.synthetic import BINS, random_store
from senone.frames import FrameStore
from senone.windows import epoch_order, gather

BATCH = 4096
GOALS = {12: 1.9, 25: 1.5}  # times a copy, by context
WORKERS = (0, 1, 2)
HEAD_START = 5  # batches: each worker fetches two ahead
EPOCH_FRAMES = 16_000_000


def measure(quick: bool) -> Iterator[Figure]:
    """The order of an epoch; at each context the copy, our batches, and the DataLoader's."""
    yield from _measure_order(1_000_000 if quick else EPOCH_FRAMES)
    for frames in (1_600_000,) if quick else (1_600_000, 15_400_000):
        store = random_store(frames, guard=32)
        for context, goal in GOALS.items():
            yield from measure_batches(store, context, goal, 10 if quick else 60)
    store = random_store(400_000, guard=32)
    for context in GOALS:
        yield from measure_loader(store, context, BATCH, 4 if quick else 20)


def _measure_order(num_frames: int) -> Iterator[Figure]:
    seconds = interleave({"order": partial(epoch_order, num_frames, 0, 0)}, 1)
    name = f"data: order of an epoch of {num_frames / 1e6:g} million frames"
    yield Figure(name, float(seconds["order"][0]), "s", goal=1.0)


def measure_batches(
    store: FrameStore, context: int, goal: float, rounds: int, batch_size: int = BATCH
) -> Iterator[Figure]:
    """Our batches against the copy of as many bytes from elsewhere in the same rows."""
    functions = {"copy": copy_bytes(store, context, batch_size), "ours": gathered(store, context, batch_size)}
    seconds = interleave(functions, rounds)
    name = f"data k={context}, {store.num_frames / 1e6:.1f} million frames"
    yield Figure(f"{name}: copy of a batch of {batch_size}", 1e3 * float(np.median(seconds["copy"])), "ms")
    yield Figure(f"{name}: ours", ratio(seconds["ours"], seconds["copy"]), floor=1.0, goal=goal)


def measure_loader(store: FrameStore, context: int, batch_size: int, batches: int) -> Iterator[Figure]:
    """Ours against the DataLoader without workers, both by CPU time, times what the best number of workers
    gains it by the clock on the wall."""
    dataset = WindowDataset(store, context)
    plain = chain.from_iterable(repeat(loader(dataset, batch_size, 0)))
    functions = {"ours": gathered(store, context, batch_size), "theirs": lambda: next(plain)}
    seconds = interleave(functions, batches)
    waits = {count: _seconds_a_batch(loader(dataset, batch_size, count), batches) for count in WORKERS}
    best = min(waits, key=lambda workers: waits[workers])
    gain = waits[0] / waits[best]
    theirs = 1e3 * float(np.median(seconds["theirs"])) / gain
    yield Figure(f"data k={context}: a batch of the DataLoader with its best {best} workers", theirs, "ms")
    name = f"data k={context}: ours / DataLoader"
    yield Figure(name, ratio(seconds["ours"], seconds["theirs"]) * gain, goal=round(1 / 15, 4))


def copy_bytes(store: FrameStore, context: int, batch_size: int) -> Callable[[], object]:
    """Copies what a batch holds, each time from another place of the rows."""
    out = torch.empty(batch_size * (2 * context + 1) * BINS)
    flat, rng = store.rows.view(-1), np.random.default_rng(0)
    starts = cycle(rng.integers(0, len(flat) - len(out), 64).tolist())

    def run() -> None:
        start = next(starts)
        out.copy_(flat[start : start + len(out)])

    return run


def gathered(store: FrameStore, context: int, batch_size: int) -> Callable[[], torch.Tensor]:
    """The next batch of windows of a shuffled epoch, as the trainer takes it."""
    order = cycle(epoch_order(store.num_frames, 0, 0)[: 64 * batch_size].split(batch_size))
    out = torch.empty(batch_size, (2 * context + 1) * BINS)

    def run() -> torch.Tensor:
        return gather(store.rows, store.centres(next(order).sort().values), context, out=out)

    run()  # the store makes its table of rows at the first look-up
    return run


class WindowDataset(Dataset):
    """As one would write it: padded utterances, and for each index its utterance and where to cut."""

    def __init__(self, store: FrameStore, context: int) -> None:
        assert store.labels is not None
        self.utterances = [store.utterance(index, context).numpy() for index in range(store.num_utterances)]
        self.width = 2 * context + 1
        self.index = [(u, t) for u, x in enumerate(self.utterances) for t in range(len(x) - 2 * context)]
        self.labels = store.labels.numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        utterance, start = self.index[index]
        window = self.utterances[utterance][start : start + self.width]
        return torch.from_numpy(window.reshape(-1)), self.labels[index]


def loader(dataset: WindowDataset, batch_size: int, workers: int) -> DataLoader:
    """Shuffled batches of windows and labels."""
    return DataLoader(dataset, batch_size, shuffle=True, num_workers=workers, drop_last=True)


def _seconds_a_batch(batches: Iterable[object], count: int) -> float:
    """Of a stream that is never left waiting, once its workers' head start is used up."""
    stream = iter(batches)
    for _ in islice(stream, HEAD_START):
        pass
    start = time.perf_counter()
    for _ in islice(stream, count):
        pass
    return (time.perf_counter() - start) / count
