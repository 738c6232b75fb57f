"""Task 6 of the writeup: train the numpy network as configured, draw its curves, say how it ended."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from senone import digits, part1
from senone.config import CorpusConfig, DataConfig, Part1Config
from senone.dataset import open_dataset
from senone.frames import FrameStore
from senone.learning_curves import OVERVIEW, PLOTS, STATS, write_curves
from senone.part1.initializers import scaled_normal_weight_init
from senone.part1.training import Split, evaluate
from senone.twin_run import TwinRun
from senone.windows import gather

LR = {"digits": 0.05, "mnist": 1e-3, "speech": 0.3}  # where the configuration leaves it open
EPOCHS = {"digits": 200, "mnist": 200, "speech": 5}
ACTIVATIONS: dict[str, type[part1.Activation]] = {
    "identity": part1.Identity,
    "sigmoid": part1.Sigmoid,
    "tanh": part1.Tanh,
    "relu": part1.ReLU,
}
WEIGHT_INITS = {
    "random_normal": part1.random_normal_weight_init,
    "scaled_normal": scaled_normal_weight_init,
}
BIAS_INITS = {"zeros": part1.zeros_bias_init}
CRITERIA = {"softmax_cross_entropy": part1.SoftmaxCrossEntropy}


class SpeechWindows:
    """The (N, W*F) context windows of a store's frames: those that are indexed, gathered when they are."""

    def __init__(self, store: FrameStore, context: int, dtype: str) -> None:
        self.store, self.context, self.dtype = store, context, dtype

    def __len__(self) -> int:
        return self.store.num_frames

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        centres = self.store.centres(_frames(index, len(self)))
        return gather(self.store.rows, centres, self.context).flatten(1).numpy().astype(self.dtype)


class SpeechLabels:
    """The (N, K) one-hot labels of a store's frames: those that are indexed, made when they are."""

    def __init__(self, store: FrameStore, num_classes: int, dtype: str) -> None:
        assert store.labels is not None
        self.labels, self.rows = store.labels, np.eye(num_classes, dtype=dtype)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        return self.rows[self.labels[_frames(index, len(self))].numpy()]


def _frames(index: slice | np.ndarray, count: int) -> torch.Tensor:
    return torch.arange(*index.indices(count)) if isinstance(index, slice) else torch.from_numpy(index)


def run_task6(config: Part1Config, corpus: CorpusConfig) -> Path:
    """Train as configured, draw the curves, print how it ended; returns the folder of the pictures."""
    train, validation, test = read_splits(config, corpus)
    np.random.seed(config.seed)  # noqa: NPY002 (the handout's generator, of weights and of shuffles)
    mlp = build_mlp(config, train[0][:1].shape[1], train[1][:1].shape[1])
    epochs = config.epochs or EPOCHS[config.data]
    wants_twin = config.twin if config.twin is not None else config.data == "speech"
    twin_run = TwinRun(mlp, train, validation, config.batch_size) if wants_twin else None

    title = describe(config, mlp)
    print(f"{title}\n{len(train[0]):,} training and {len(validation[0]):,} validation examples", flush=True)
    start = time.perf_counter()
    stats = _train(mlp, (train, validation, test), epochs, config.batch_size, twin_run)
    print(f"{epochs} epochs in {time.perf_counter() - start:.1f} s")

    endings = {
        "training": (stats["training_loss"][-1], stats["training_error"][-1]),
        "validation": (stats["validation_loss"][-1], stats["validation_error"][-1]),
    }
    if test is not None:
        endings["test"] = evaluate(mlp, test, config.batch_size)
    for name, (loss, error) in endings.items():
        print(f"{name + ':':12} loss {loss:.3f}, error {error:.4f}")
    if config.data != "speech":
        print("the writeup: loss about 0.3, error about 0.1")

    folder = Path(config.out)
    write_curves(folder, stats, title, writeup=config.data != "speech")
    print(f"{folder}: {', '.join([*PLOTS, OVERVIEW, STATS])}")
    return folder


def _train(
    mlp: part1.MLP,
    dset: tuple[Split, Split, Any],
    epochs: int,
    batch_size: int,
    twin_run: TwinRun | None,
) -> dict[str, list[float]]:
    """get_training_stats with a progress bar, and with the twin beside it; the figures of every epoch."""
    columns = [column for column, *_ in PLOTS.values()]
    if twin_run is not None:
        columns += [f"twin_{column}" for column in columns]
    stats: dict[str, list[float]] = {column: [] for column in columns}
    with tqdm(total=epochs, unit="epoch", mininterval=0.5) as bar:

        def on_epoch(epoch: int, *figures: float) -> None:
            twins = () if twin_run is None else twin_run.train_epoch()
            for column, figure in zip(columns, figures + twins, strict=True):
                stats[column].append(figure)
            loss, error, val_loss, val_error = figures
            bar.set_postfix_str(
                f"loss {loss:.3f}/{val_loss:.3f} error {error:.3f}/{val_error:.3f}", refresh=False
            )
            bar.update()
            if twins:
                gap = max(abs(ours - theirs) for ours, theirs in zip(figures, twins, strict=True))
                tqdm.write(
                    f"epoch {epoch + 1}: loss {loss:.9f}, twin {twins[0]:.9f}; {gap:.0e} apart at most"
                )

        part1.get_training_stats(mlp, dset, epochs, batch_size, on_epoch)
    return stats


def read_splits(config: Part1Config, corpus: CorpusConfig) -> tuple[Split, Split, Split | None]:
    """Training, validation and test examples with one-hot labels; no test where its labels are held back."""
    if config.data == "speech":
        source = DataConfig(name="contest" if config.root else "made", root=config.root)
        stores = open_dataset(source, corpus, config.context).splits
        splits = [_speech_split(store, stores["train"], config) for store in stores.values()]
    else:
        read = digits.read_mnist(Path(config.root)) if config.root else digits.read_digits()
        splits = [digits.prepare(split, config.dtype) for split in read.values()]
    train, validation, test = splits
    assert train is not None
    assert validation is not None
    return train, validation, test


def _speech_split(store: FrameStore, train: FrameStore, config: Part1Config) -> Split | None:
    if store.labels is None:
        return None
    labels = SpeechLabels(store, train.num_classes, config.dtype)
    return SpeechWindows(store, config.context, config.dtype), labels


def build_mlp(config: Part1Config, input_size: int, output_size: int) -> part1.MLP:
    """The network as configured, for data of these sizes where the configuration leaves them open."""
    names = config.activations
    if len(names) == 1 and config.hiddens:
        names = names * len(config.hiddens) + ["identity"]
    elif len(names) == 1:
        names = ["identity"]
    weight_init, bias_init = WEIGHT_INITS[config.weight_init], BIAS_INITS[config.bias_init]
    return part1.MLP(
        config.input_size or input_size,
        config.output_size or output_size,
        config.hiddens,
        [ACTIVATIONS[name]() for name in names],
        lambda n_in, n_out: weight_init(n_in, n_out).astype(config.dtype),
        lambda n_out: bias_init(n_out).astype(config.dtype),
        CRITERIA[config.criterion](),
        LR[config.data] if config.lr is None else config.lr,
        config.momentum,
        config.num_bn_layers,
    )


def describe(config: Part1Config, mlp: part1.MLP) -> str:
    """The run in a line, for the screen and the overview."""
    sizes = "-".join(str(W.shape[0]) for W in mlp.W) + f"-{mlp.output_size}"
    norms = f", {mlp.num_bn_layers} BatchNorm" if mlp.bn else ""
    rates = f"lr {mlp.lr:g}, momentum {mlp.momentum:g}, batch {config.batch_size}, seed {config.seed}"
    return f"{config.data}: {sizes} {'-'.join(config.activations)}{norms}, {rates}"
