"""Training, evaluation and decoding on a CUDA card: seconds of an epoch, and what its steps are made of."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
import torch

from senone.benchmarks.figure import Figure
from senone.benchmarks.synthetic import BINS, random_store, spoken_chain
from senone.benchmarks.train import Setting, new_trainer
from senone.decode import Decoder, Scales
from senone.device import choose_precision
from senone.evaluate import predict, score, utterance_logits
from senone.frames import FrameStore
from senone.train import Trainer
from senone.windows import epoch_order, gather


@dataclass(frozen=True)
class Work:
    """A network and its batches, the frames it learns from, and those it is asked about."""

    setting: Setting
    dev_frames: int
    test_frames: int
    steps: int  # that are timed
    matrix: int  # rows of the square matrices that tell the card's rate
    backend: str = "inductor"  # of torch.compile


CONTEST = Setting(25, (2048,) * 4, batch_size=16_384, frames=16_000_000)
DEV_FRAMES, TEST_FRAMES = 1_000_000, 1_000_000  # not fewer than the contest's
GOALS = {
    "card's rate of bfloat16 matrix products": ("TFLOP/s", None),
    "epoch of 16 million frames, eager": ("s", None),
    "epoch of 16 million frames, compiled": ("s", 3.2),
    "matrix products of a step / step, compiled": ("x", None),
    "a batch's windows from float32 frames": ("ms", None),
    "a batch's windows from bfloat16 frames": ("ms", None),
    "data / step, compiled": ("x", 0.03),
    "dev evaluation": ("s", 0.2),
    "test set by forward-backward": ("s", 1.0),
    "test set by Viterbi": ("s", 1.0),
}


def measure(quick: bool) -> Iterator[Figure]:
    """On the card that there is; without one, what would be measured."""
    if torch.cuda.is_available():
        work = Work(CONTEST, DEV_FRAMES, TEST_FRAMES, 50 if quick else 400, 8192)
        yield from measure_work(work, torch.device("cuda"))
    else:
        for name, (unit, goal) in GOALS.items():
            yield Figure(f"gpu {name}", None, unit, goal=goal)


def measure_work(work: Work, device: torch.device) -> Iterator[Figure]:
    """A figure of each of ``GOALS``."""
    for (name, (unit, goal)), (measured, value) in zip(GOALS.items(), _values(work, device), strict=True):
        assert name == measured
        yield Figure(f"gpu {name}", value, unit, goal=goal)


def _values(work: Work, device: torch.device) -> Iterator[tuple[str, float]]:
    setting, precision = work.setting, choose_precision("auto", device)
    rate = 2 * work.matrix**3 / seconds_of(matrix_product(work.matrix, device), 20, device)
    yield "card's rate of bfloat16 matrix products", rate / 1e12
    store = random_store(setting.frames, guard=32).to(device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(setting, store, Path(folder), device, precision)
        order = seconds_of(lambda: epoch_order(store.num_frames, 0, 0, device), 2, device)
        step = seconds_of(trainer_step(trainer), work.steps, device)
        yield "epoch of 16 million frames, eager", order + step * trainer.batches
        trainer.model.compile(backend=work.backend)
        step = seconds_of(trainer_step(trainer), work.steps, device)
        yield "epoch of 16 million frames, compiled", order + step * trainer.batches
        sizes = setting.sizes
        products = sum(a * b for a, b in pairwise(sizes))
        # forth, back to the weights, and back to the input of all layers but the first
        flops = 2 * setting.batch_size * (3 * products - sizes[0] * sizes[1])
        yield "matrix products of a step / step, compiled", flops / rate / step
        windows = seconds_of(batch_windows(setting, store, store.rows), work.steps, device)
        yield "a batch's windows from float32 frames", 1e3 * windows
        half = batch_windows(setting, store, store.rows.bfloat16())
        yield "a batch's windows from bfloat16 frames", 1e3 * seconds_of(half, work.steps, device)
        yield "data / step, compiled", windows / step
        model = trainer.model.eval()
    dev, test = (random_store(frames, guard=32).to(device) for frames in (work.dev_frames, work.test_frames))

    def logits(store: FrameStore) -> Iterator[torch.Tensor]:
        return utterance_logits(model, store, device, precision)

    def predict_test(decoder: Decoder) -> np.ndarray:
        return predict(logits(test), test, decoder)

    yield "dev evaluation", seconds_of(lambda: score(logits(dev), dev), 1, device)
    for name, words in (("forward_backward", "forward-backward"), ("viterbi", "Viterbi")):
        decoder = Decoder(name, spoken_chain(), Scales())
        yield f"test set by {words}", seconds_of(partial(predict_test, decoder), 1, device)


def seconds_of(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """The seconds a call takes, after three that allocate and compile, with the device's work done."""
    for _ in range(3):
        function()
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    wait()
    return (time.perf_counter() - start) / calls


def matrix_product(rows: int, device: torch.device) -> Callable[[], object]:
    """Of two square bfloat16 matrices."""
    a, b, out = (torch.randn(rows, rows, device=device).bfloat16() for _ in range(3))
    return lambda: torch.mm(a, b, out=out)


def trainer_step(trainer: Trainer) -> Callable[[], None]:
    """The steps of an epoch, one a call; on a card, one that waits for it raises RuntimeError."""
    trainer.model.train()
    order = epoch_order(trainer.train.num_frames, 0, 0, trainer.train.rows.device)
    batches = cycle(enumerate(order.split(trainer.batch_size)[: trainer.batches]))
    first = iter([True, True])  # what allocates and compiles may wait

    def run() -> None:
        step, frames = next(batches)
        with never_waiting(trainer.device if not next(first, False) else torch.device("cpu")):
            trainer._step(frames, step)

    return run


@contextmanager
def never_waiting(device: torch.device) -> Iterator[None]:
    """Within it, whatever makes the program wait for the card raises RuntimeError."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def batch_windows(setting: Setting, store: FrameStore, rows: torch.Tensor) -> Callable[[], object]:
    """The next batch of windows and labels of an epoch, as the trainer takes them, out of ``rows``."""
    order = epoch_order(store.num_frames, 0, 0, rows.device)
    batches = cycle(order.split(setting.batch_size)[: store.num_frames // setting.batch_size])
    out = torch.empty(
        setting.batch_size, (2 * setting.context + 1) * BINS, dtype=rows.dtype, device=rows.device
    )

    def run() -> object:
        frames = next(batches)
        assert store.labels is not None
        windows = gather(rows, store.centres(frames), setting.context, out=out)
        return windows, store.labels.index_select(0, frames).long()

    return run
