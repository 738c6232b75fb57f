"""A training step on the CPU: times its own matrix products, and beside torch eager."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn

from senone.benchmarks.data import gathered
from senone.benchmarks.figure import Figure, interleave, ratio
from senone.benchmarks.synthetic import BINS, CLASSES, random_store
from senone.config import FitConfig, OptimConfig
from senone.frames import FrameStore
from senone.models import build_model
from senone.runlog import RunLog
from senone.train import Trainer
from senone.windows import epoch_order

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setting:
    """A network with BatchNorm, ReLU and dropout, and its batches."""

    context: int = 12
    widths: tuple[int, ...] = (1024, 1024, 1024)
    batch_size: int = 2048
    dropout: float = 0.3
    frames: int = 400_000

    @property
    def sizes(self) -> tuple[int, ...]:
        return ((2 * self.context + 1) * BINS, *self.widths, CLASSES)


def measure(quick: bool) -> Iterator[Figure]:
    yield from measure_step(Setting(frames=100_000) if quick else Setting(), 2 if quick else 16)


def measure_step(setting: Setting, rounds: int) -> Iterator[Figure]:
    """Our whole step, from the order of the epoch to the new weights, torch's without the data, and what of
    ours is the data's."""
    store = random_store(setting.frames)
    with tempfile.TemporaryDirectory() as folder:
        steps = {
            "products": matrix_products(setting.sizes, setting.batch_size),
            "ours": trainer_step(setting, store, Path(folder)),
            "torch eager": eager_step(setting),
            "data": gathered(store, setting.context, setting.batch_size),
        }
        seconds = interleave(steps, rounds)
    base, name = seconds["products"], f"train k={setting.context}, {'x'.join(map(str, setting.widths))}"
    yield Figure(f"{name}: matrix products", 1e3 * float(np.median(base)), "ms")
    yield Figure(f"{name}: ours", ratio(seconds["ours"], base), floor=1.0, goal=1.15)
    yield Figure(f"{name}: torch eager", ratio(seconds["torch eager"], base), floor=1.0)
    yield Figure(f"{name}: ours / torch eager", ratio(seconds["ours"], seconds["torch eager"]), goal=1.0)
    yield Figure(f"{name}: data / step", ratio(seconds["data"], seconds["ours"]), goal=0.02)


def matrix_products(
    sizes: Sequence[int],
    batch_size: int,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> Callable[[], None]:
    """The products of a step forth and back and nothing else, into memory that is already there."""
    inputs = [torch.randn(batch_size, size, device=device, dtype=dtype) for size in sizes]
    deltas = [torch.randn(batch_size, size, device=device, dtype=dtype) for size in sizes]
    weights = [torch.randn(n_out, n_in, device=device, dtype=dtype) for n_in, n_out in pairwise(sizes)]
    gradients = [torch.empty_like(weight) for weight in weights]

    def run() -> None:
        for i, weight in enumerate(weights):
            torch.mm(inputs[i], weight.T, out=deltas[i + 1])
        for i in reversed(range(len(weights))):
            torch.mm(deltas[i + 1].T, inputs[i], out=gradients[i])
            if i > 0:
                torch.mm(deltas[i + 1], weights[i], out=deltas[i])

    return run


def trainer_step(setting: Setting, store: FrameStore, folder: Path) -> Callable[[], None]:
    """Ours: what the training loop calls."""
    trainer = new_trainer(setting, store, folder, CPU, "float32")
    trainer.model.train()
    batches = cycle(enumerate(epoch_order(store.num_frames, 0, 0).split(setting.batch_size)[:-1]))

    def run() -> None:
        step, frames = next(batches)
        trainer._step(frames, step)

    return run


def new_trainer(
    setting: Setting,
    store: FrameStore,
    folder: Path,
    device: torch.device,
    precision: str,
    compiled: bool = False,
) -> Trainer:
    """A trainer as the main job makes it, which writes to a folder."""
    torch.manual_seed(0)
    options = {"context": setting.context, "widths": setting.widths, "dropout": setting.dropout}
    return Trainer(
        build_model({"name": "mlp", **options}, BINS, CLASSES),
        store,
        store,
        settings=FitConfig(batch_size=setting.batch_size, compile=compiled),
        optim=OptimConfig(),
        seed=0,
        device=device,
        precision=precision,
        log=RunLog(folder),
        identity={},
    )


def eager_step(setting: Setting) -> Callable[[], None]:
    """As anybody would write it: torch's layers and AdamW's for-loop, on batches that are already there."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(setting.sizes[:-1]):
        layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), nn.Dropout(setting.dropout)]
    model = nn.Sequential(*layers, nn.Linear(setting.sizes[-2], CLASSES))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    criterion = nn.CrossEntropyLoss()
    batches = cycle(
        (torch.randn(setting.batch_size, setting.sizes[0]), torch.randint(CLASSES, (setting.batch_size,)))
        for _ in range(4)
    )

    def run() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

    return run
