"""What several test modules stand on."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it when it is imported, in this process and in those it starts

from senone.corpus.contest import open_contest, write_utterances
from senone.frames import FrameStore
from senone.preparation import open_store

# a busy machine is no bug, and a submission is tested with the same examples each time
hypothesis.settings.register_profile("no clock", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("no clock")
torch.set_num_threads(1)  # bit-for-bit comparisons, and no waiting for each other on a busy machine


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """What a test draws does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made corpus in its smallest size, synthesised once a session."""
    from senone.corpus.synthesis import make_corpus

    root = tmp_path_factory.mktemp("corpus") / "made-tiny-0"
    make_corpus(root, size="tiny", progress=False)
    return root


@pytest.fixture
def contest_folder(tmp_path: Path) -> Path:
    return write_contest(tmp_path / "contest")


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with contest/ and two runs on it, runs/a and runs/b: of other contexts, normalised otherwise,
    with other guards."""
    from senone.config import DataConfig, FitConfig, MlpConfig, TrainConfig
    from senone.run import train_run

    folder = tmp_path_factory.mktemp("two-runs")
    data = {
        "name": "contest",
        "root": str(write_contest(folder / "contest")),
        "cache": str(folder / "stores"),
    }
    other = {"normalise": "none", "guard": "zero"}
    for name, context, changed in (("a", 3, {}), ("b", 7, other)):
        config = TrainConfig(
            data=DataConfig(**data, **changed),
            model=MlpConfig(context=context, widths=[16]),
            train=FitConfig(epochs=2, batch_size=16, precision="float32"),
            name=name,
            runs=str(folder / "runs"),
            submissions=str(folder / "submissions"),
            device="cpu",
        )
        train_run(config, [])
    return folder


def write_contest(folder: Path) -> Path:
    """The contest's five files with random frames of 8 bins that betray their labels, of 6 classes."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    places = generator.standard_normal((6, 8))
    for split, count in (("train", 6), ("dev", 3), ("test", 2)):
        frames, labels = [], []
        for _ in range(count):
            label = np.repeat(generator.integers(6, size=12), 5)[: generator.integers(40, 60)]
            noise = 0.7 * generator.standard_normal((len(label), 8))
            frames.append((places[label] + noise).astype(np.float32))
            labels.append(label)
        write_utterances(folder / f"{split}.npy", frames)
        if split != "test":
            write_utterances(folder / f"{split}_labels.npy", labels)
    return folder


def open_split(folder: Path, name: str = "train", **options: object) -> FrameStore:
    """The store of a split, with little context and frames as they are in the files unless told otherwise."""
    split = open_contest(folder)[name]
    return open_store(split, folder / "stores", **{"context": 3, "normalise": "none", **options})  # type: ignore[arg-type]


def raw(folder: Path, name: str) -> list[np.ndarray]:
    """The frames of each utterance of a split, as numpy reads them."""
    return list(np.load(folder / f"{name}.npy", allow_pickle=True))
