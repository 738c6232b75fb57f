"""A training step of the numpy network: times the step's own matrix products, beside torch and scikit-learn.

One thread and CPU time, so that what else runs on the machine hardly counts. Every call takes the next of a
ring of batches, as in training, where a batch is never in the cache yet.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, pairwise

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

from senone import part1
from senone.benchmarks.figure import Figure, interleave, ratio

RING = 16  # batches
LR, MOMENTUM = 1e-3, 0.9


@dataclass(frozen=True)
class Setting:
    """A network with its batches, and at most how many times its matrix products a step may take."""

    sizes: tuple[int, ...]
    batch_size: int
    dtype: str
    activation: str  # scikit-learn's name
    goal: float
    goal_batchnorm: float
    rounds: int

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}, {self.dtype}"


SETTINGS = (
    Setting((784, 64, 64, 32, 10), 100, "float64", "logistic", 1.5, 1.85, rounds=60),
    Setting((784, 512, 512, 10), 256, "float64", "logistic", 1.15, 1.25, rounds=40),
    Setting((1000, 1024, 1024, 1024, 138), 1024, "float32", "relu", 1.08, 1.15, rounds=12),
)


def measure(quick: bool) -> Iterator[Figure]:
    """Five figures a network: with and without BatchNorm ours and torch's, and scikit-learn's."""
    for setting in SETTINGS:
        yield from _measure_setting(setting, setting.rounds // 6 if quick else setting.rounds)


def _measure_setting(setting: Setting, rounds: int) -> Iterator[Figure]:
    steps: dict[str, Callable[[], None]] = {
        "matrix products": matrix_products(setting),
        "numpy": numpy_step(setting, False),
        "numpy with BatchNorm": numpy_step(setting, True),
        "torch": torch_step(setting, False),
        "torch with BatchNorm": torch_step(setting, True),
        "scikit-learn": sklearn_step(setting),
    }
    seconds = interleave(steps, rounds)
    base = seconds.pop("matrix products")
    goals = {"numpy": setting.goal, "numpy with BatchNorm": setting.goal_batchnorm}
    yield Figure(f"part1 {setting.name}: matrix products", 1e3 * float(np.median(base)), "ms")
    for name, times in seconds.items():
        figure = f"part1 {setting.name}: {name}"
        yield Figure(figure, ratio(times, base), floor=1.0, goal=goals.get(name))
        if name.startswith("torch"):
            ours = seconds[name.replace("torch", "numpy")]
            yield Figure(f"{figure.replace(': torch', ': numpy / torch')}", ratio(ours, times), goal=1.0)


def batches(setting: Setting) -> list[tuple[np.ndarray, np.ndarray]]:
    """RING batches: (batch_size, input_size) examples and (batch_size,) classes."""
    rng = np.random.default_rng(0)
    shape = (setting.batch_size, setting.sizes[0])
    return [
        (rng.standard_normal(shape).astype(setting.dtype), rng.integers(0, setting.sizes[-1], shape[0]))
        for _ in range(RING)
    ]


def matrix_products(setting: Setting) -> Callable[[], None]:
    """The products of a step and nothing else, into memory that is already there."""
    rng = np.random.default_rng(0)

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(setting.dtype)

    sizes, n = setting.sizes, setting.batch_size
    inputs, deltas = [random(n, size) for size in sizes], [random(n, size) for size in sizes]
    W = [random(n_in, n_out) for n_in, n_out in pairwise(sizes)]
    dW = [np.empty_like(array) for array in W]
    ring = cycle([x for x, _ in batches(setting)])

    def run() -> None:
        inputs[0] = next(ring)
        for i in range(len(W)):
            np.matmul(inputs[i], W[i], out=deltas[i + 1])
        for i in reversed(range(len(W))):
            np.matmul(inputs[i].T, deltas[i + 1], out=dW[i])
            if i > 0:
                np.matmul(deltas[i + 1], W[i].T, out=deltas[i])

    return run


def numpy_step(setting: Setting, batchnorm: bool) -> Callable[[], None]:
    """Ours, with the gradients zeroed before each step as the handout does."""
    rng = np.random.default_rng(0)
    hiddens, dtype = setting.sizes[1:-1], setting.dtype
    activation = {"logistic": part1.Sigmoid, "relu": part1.ReLU}[setting.activation]
    mlp = part1.MLP(
        setting.sizes[0],
        setting.sizes[-1],
        hiddens,
        [activation() for _ in hiddens] + [part1.Identity()],
        lambda n_in, n_out: (rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)).astype(dtype),
        lambda n_out: np.zeros((1, n_out), dtype),
        part1.SoftmaxCrossEntropy(),
        LR,
        MOMENTUM,
        len(hiddens) if batchnorm else 0,
    )
    one_hot = np.eye(setting.sizes[-1], dtype=dtype)
    ring = cycle([(x, one_hot[classes]) for x, classes in batches(setting)])

    def run() -> None:
        x, labels = next(ring)
        mlp.zero_grads()
        mlp(x)
        mlp.backward(labels)
        mlp.step()

    return run


def torch_step(setting: Setting, batchnorm: bool) -> Callable[[], None]:
    """torch eager as anybody would write it."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(setting.sizes[:-1]):
        layers += [nn.Linear(n_in, n_out)] + [nn.BatchNorm1d(n_out)] * batchnorm
        layers += [{"logistic": nn.Sigmoid, "relu": nn.ReLU}[setting.activation]()]
    model = nn.Sequential(*layers, nn.Linear(setting.sizes[-2], setting.sizes[-1])).to(
        getattr(torch, setting.dtype)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    criterion = nn.CrossEntropyLoss()
    ring = cycle([(torch.from_numpy(x), torch.from_numpy(classes)) for x, classes in batches(setting)])

    def run() -> None:
        x, classes = next(ring)
        optimizer.zero_grad()
        loss = criterion(model(x), classes)
        loss.backward()
        optimizer.step()

    return run


def sklearn_step(setting: Setting) -> Callable[[], None]:
    """scikit-learn's network, fed one batch a call."""
    classifier = MLPClassifier(
        setting.sizes[1:-1],
        activation=setting.activation,
        solver="sgd",
        alpha=0.0,
        batch_size=setting.batch_size,
        learning_rate_init=LR,
        momentum=MOMENTUM,
        nesterovs_momentum=False,
    )
    ring = cycle(batches(setting))
    classes = np.arange(setting.sizes[-1])

    def run() -> None:
        classifier.partial_fit(*next(ring), classes=classes)

    return run
