"""What a model says of a whole store, in file order and in bounded memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from senone.device import autocast
from senone.frames import FrameStore
from senone.models.blocks import FrameModel

BLOCK = 4096  # frames that go through the model at once


@dataclass(frozen=True)
class Score:
    """confusion (K, K) int64: frames of each true class (row) by predicted class (column);
    mean cross-entropy a frame."""

    confusion: np.ndarray
    loss: float

    @property
    def accuracy(self) -> float:
        """The share of frames whose class is right."""
        return float(np.trace(self.confusion) / self.confusion.sum())


def block_logits(
    model: FrameModel, store: FrameStore, device: torch.device, precision: str = "float32", block: int = BLOCK
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first frame, (T, K) float32 logits on the device), utterance by utterance in file order, at
    most ``block`` frames at a time. Runs the model as it is: see ``evaluating``."""
    context = model.context
    for utterance in range(store.num_utterances):
        padded = store.utterance(utterance, context)
        first = int(store.offsets[utterance])
        for start in range(0, len(padded) - 2 * context, block):
            stretch = padded[start : start + block + 2 * context].to(device)
            with torch.inference_mode(), autocast(device, precision):
                logits = model(stretch[None])[0]
            yield first + start, logits.float()


@contextmanager
def evaluating(model: FrameModel) -> Iterator[FrameModel]:
    """The model in eval mode, and back in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(was_training)


def score(
    model: FrameModel, store: FrameStore, device: torch.device, precision: str = "float32"
) -> tuple[Score, np.ndarray]:
    """The model's score on a labelled store, and its predictions (N,) int64."""
    assert store.labels is not None, "a store without labels cannot be scored"
    classes = store.num_classes
    labels = store.labels.to(device).long()
    confusion = torch.zeros(classes * classes, dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    predictions = torch.empty(store.num_frames, dtype=torch.int64, device=device)
    with evaluating(model):
        for first, logits in block_logits(model, store, device, precision):
            true = labels[first : first + len(logits)]
            predicted = logits.argmax(dim=1)
            predictions[first : first + len(logits)] = predicted
            confusion += torch.bincount(true * classes + predicted, minlength=classes * classes)
            loss += F.cross_entropy(logits, true, reduction="sum")
    counts = confusion.view(classes, classes).cpu().numpy()
    return Score(counts, float(loss) / store.num_frames), predictions.cpu().numpy()


def predict(
    model: FrameModel, store: FrameStore, device: torch.device, precision: str = "float32"
) -> np.ndarray:
    """(N,) int64: the likeliest class of each frame, in file order."""
    predictions = torch.empty(store.num_frames, dtype=torch.int64, device=device)
    with evaluating(model):
        for first, logits in block_logits(model, store, device, precision):
            predictions[first : first + len(logits)] = logits.argmax(dim=1)
    return predictions.cpu().numpy()


def group_confusion(confusion: np.ndarray, states: int) -> np.ndarray:
    """(K, K) over states -> (K/states, K/states) over phonemes of ``states`` consecutive classes."""
    groups = len(confusion) // states
    return confusion.reshape(groups, states, groups, states).sum(axis=(1, 3))


def class_table(confusion: np.ndarray, names: list[str]) -> list[dict[str, object]]:
    """A row per class that occurs: name, frames, accuracy, and the class it is most often taken for."""
    rows: list[dict[str, object]] = []
    for index, counts in enumerate(confusion):
        frames = int(counts.sum())
        if frames:
            mistakes = np.where(np.arange(len(counts)) == index, -1, counts)
            taken_for = names[int(mistakes.argmax())] if mistakes.max() > 0 else ""
            row = {"class": names[index], "frames": frames, "accuracy": counts[index] / frames}
            rows.append({**row, "taken for": taken_for})
    return rows
