"""Training over epochs: batches, losses, errors (handout, Task 6)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from senone.part1.mlp import MLP

Split = tuple[Any, Any]  # examples (n, d) and one-hot labels (n, C): arrays, or what indices pick rows from


def get_training_stats(
    mlp: MLP,
    dset: tuple[Split, Split, Split],
    nepochs: int,
    batch_size: int,
    on_epoch: Callable[[int, float, float, float, float], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train on the first of the (train, validation, test) sets, and validate after every epoch.

    Returns the training losses, training errors, validation losses and validation errors, each
    (nepochs,): the mean loss of an example, and the share of examples whose largest logit is not the
    label's. Those of training are taken from the batches as they are trained on, before their step.
    ``on_epoch`` is called with the epoch's number and its four figures.
    """
    train, validation, _ = dset
    if batch_size < 1:
        raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
    for name, (x, y) in (("training", train), ("validation", validation)):
        if len(x) != len(y) or len(x) == 0:
            raise ValueError(f"{name} set: expected as many labels as examples, got {len(y)} for {len(x)}")

    stats = np.zeros((4, nepochs))
    order = np.arange(len(train[0]))
    for epoch in range(nepochs):
        # From the handout's generator, so that the handout's seeds give the handout's order.
        np.random.shuffle(order)  # noqa: NPY002
        stats[:2, epoch] = train_epoch(mlp, train, order, batch_size)
        stats[2:, epoch] = evaluate(mlp, validation, batch_size)
        if on_epoch is not None:
            on_epoch(epoch, *stats[:, epoch].tolist())
    return stats[0], stats[1], stats[2], stats[3]


def train_epoch(mlp: MLP, split: Split, order: np.ndarray, batch_size: int) -> tuple[float, float]:
    """One step for each batch of ``order``, (n,) indices; the mean loss and the error on the way."""
    x, y = split
    mlp.train()
    loss = wrong = 0.0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]  # the last one may be short
        labels = y[batch]
        mlp.zero_grads()
        logits = mlp(x[batch])
        mlp.backward(labels)
        mlp.step()
        loss += float(mlp.criterion.loss.sum())
        wrong += count_errors(logits, labels)
    return loss / len(order), wrong / len(order)


def evaluate(mlp: MLP, split: Split, batch_size: int) -> tuple[float, float]:
    """The mean loss and the error on a split in eval mode; the mode is afterwards what it was."""
    x, y = split
    was_training, mlp.train_mode = mlp.train_mode, False
    loss = wrong = 0.0
    for start in range(0, len(x), batch_size):
        labels = y[start : start + batch_size]
        logits = mlp(x[start : start + batch_size])
        loss += float(mlp.criterion(logits, labels).sum())
        wrong += count_errors(logits, labels)
    mlp.train_mode = was_training
    return loss / len(x), wrong / len(x)


def count_errors(logits: np.ndarray, labels: np.ndarray) -> int:
    """How many of the (N, C) logits are largest at another class than the (N, C) labels."""
    return int(np.sum(logits.argmax(axis=1) != labels.argmax(axis=1)))
