"""Training, evaluation and decoding on a CUDA card: seconds of an epoch, and what its steps are made of."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from senone.benchmarks.figure import Figure
from senone.benchmarks.synthetic import BINS, CLASSES, random_store, spoken_chain
from senone.benchmarks.train import Setting, matrix_products, new_trainer
from senone.decode import Decoder, PhonemeTrigram, Scales
from senone.device import WARM_UP, choose_precision
from senone.evaluate import predict, score, utterance_logits
from senone.frames import FrameStore
from senone.models import build_model
from senone.train import Trainer
from senone.windows import epoch_order, gather


@dataclass(frozen=True)
class Work:
    """A network and its batches, a smaller one, the frames both learn from, and those the first is asked
    about."""

    setting: Setting
    small: Setting
    dev_frames: int
    test_frames: int
    steps: int  # that are timed
    matrix: int  # rows of the square matrices that tell the card's rate


CONTEST = Setting(25, (2048,) * 4, batch_size=16_384, frames=16_000_000)
DEFAULT = Setting(15, (512,) * 3, batch_size=512)
DEV_FRAMES, TEST_FRAMES = 1_000_000, 1_000_000  # not fewer than the contest's
GOALS = {
    "card's rate of bfloat16 matrix products": ("TFLOP/s", None),
    "matrix products of a step": ("ms", None),
    "epoch of 16 million frames, asked for by Python": ("s", None),
    "epoch of 16 million frames, recorded": ("s", None),
    "epoch of 16 million frames, compiled": ("s", None),
    "epoch of 16 million frames, compiled and recorded": ("s", 3.2),
    "its step / matrix products": ("x", None),
    "a batch's windows from float32 frames": ("ms", None),
    "a batch's windows from bfloat16 frames": ("ms", None),
    "data / step": ("x", 0.03),
    "step of 3x512, batch 512, asked for by Python": ("ms", None),
    "step of 3x512, batch 512, recorded": ("ms", None),
    "dev evaluation": ("s", 0.2),
    "test set by forward-backward": ("s", 1.0),
    "test set by Viterbi": ("s", 1.0),
    "test set by the trigram": ("s", 1.0),
}


def measure(quick: bool) -> Iterator[Figure]:
    """On the card that there is; without one, what would be measured."""
    if torch.cuda.is_available():
        work = Work(CONTEST, DEFAULT, DEV_FRAMES, TEST_FRAMES, 50 if quick else 400, 8192)
        yield from measure_work(work, torch.device("cuda"))
    else:
        for name, (unit, goal) in GOALS.items():
            yield Figure(f"gpu {name}", None, unit, goal=goal)


def measure_work(work: Work, device: torch.device) -> Iterator[Figure]:
    """A figure of each of ``GOALS``."""
    for name, value in _values(work, device):
        unit, goal = GOALS[name]
        yield Figure(f"gpu {name}", value, unit, goal=goal)


def _values(work: Work, device: torch.device) -> Iterator[tuple[str, float]]:
    setting, precision = work.setting, choose_precision("auto", device)
    rate = 2 * work.matrix**3 / seconds_of(matrix_product(work.matrix, device), 20, device)
    yield "card's rate of bfloat16 matrix products", rate / 1e12
    products = matrix_products(setting.sizes, setting.batch_size, device, torch.bfloat16)
    floor = seconds_of(products, work.steps, device)
    yield "matrix products of a step", 1e3 * floor
    store = random_store(setting.frames, guard=32).to(device)
    order = seconds_of(lambda: epoch_order(store.num_frames, 0, 0, device), 2, device)
    batches = store.num_frames // setting.batch_size
    for compiled, recorded, way in (
        (False, False, "asked for by Python"),
        (False, True, "recorded"),
        (True, False, "compiled"),
        (True, True, "compiled and recorded"),
    ):
        step = step_seconds(setting, store, work.steps, device, precision, compiled, recorded)
        yield f"epoch of 16 million frames, {way}", order + step * batches
    yield "its step / matrix products", step / floor
    for rows, kind in ((store.rows, "float32"), (store.rows.bfloat16(), "bfloat16")):
        windows = seconds_of(batch_windows(setting, store, rows), work.steps, device)
        yield f"a batch's windows from {kind} frames", 1e3 * windows
    yield "data / step", windows / step
    for recorded, way in ((False, "asked for by Python"), (True, "recorded")):
        step = step_seconds(work.small, store, work.steps, device, precision, False, recorded)
        yield f"step of 3x512, batch 512, {way}", 1e3 * step
    model = build_model(
        {"name": "mlp", "context": setting.context, "widths": setting.widths}, BINS, CLASSES
    ).to(device)
    dev, test = (random_store(frames, guard=32).to(device) for frames in (work.dev_frames, work.test_frames))

    def logits(store: FrameStore) -> Iterator[torch.Tensor]:
        return utterance_logits(model, store, device, precision)

    def predict_test(decoder: Decoder) -> np.ndarray:
        return predict(logits(test), test, decoder)

    yield "dev evaluation", seconds_of(lambda: score(logits(dev), dev), 1, device)
    trigram = PhonemeTrigram.count(random_store(100_000))
    for decoder, words in (
        (Decoder("forward_backward", spoken_chain(), Scales()), "forward-backward"),
        (Decoder("viterbi", spoken_chain(), Scales()), "Viterbi"),
        (Decoder("trigram", trigram, Scales()), "the trigram"),
    ):
        yield f"test set by {words}", seconds_of(partial(predict_test, decoder), 1, device)


def step_seconds(
    setting: Setting,
    store: FrameStore,
    steps: int,
    device: torch.device,
    precision: str,
    compiled: bool,
    recorded: bool,
) -> float:
    """The mean of some steps of a network on a store."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(setting, store, Path(folder), device, precision, compiled)
        if not recorded:
            trainer.update.card = None
        return seconds_of(trainer_step(trainer), steps, device)


def seconds_of(function: Callable[[], object], calls: int, device: torch.device) -> float:
    """The seconds a call takes, after those that allocate, compile and record, with the device's work
    done."""
    for _ in range(WARM_UP + 1):
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
    first = iter([True] * (WARM_UP + 1))  # what allocates, compiles and records may wait

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
