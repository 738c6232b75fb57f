"""What a model says of a whole store, in file order and in bounded memory."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from senone.decode import BATCH, Decoder
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
    model: FrameModel,
    store: FrameStore,
    device: torch.device,
    precision: str = "float32",
    block: int = BLOCK,
    only: Iterable[int] | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first frame, (T, K) float32 logits on the device), utterance by utterance in file order (or
    ``only`` some), at most ``block`` frames at a time. Runs the model as it is: see ``evaluating``."""
    context = model.context
    for utterance in range(store.num_utterances) if only is None else only:
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
    model: FrameModel,
    store: FrameStore,
    device: torch.device,
    precision: str = "float32",
    decoder: Decoder | None = None,
) -> tuple[Score, np.ndarray]:
    """The model's score on a labelled store, and its predictions (N,) int64."""
    assert store.labels is not None, "a store without labels cannot be scored"
    labels, classes = store.labels.to(device).long(), store.num_classes
    loss = torch.zeros((), device=device)

    def weighed() -> Iterator[tuple[int, torch.Tensor]]:
        for first, logits in block_logits(model, store, device, precision):
            loss.add_(F.cross_entropy(logits, labels[first : first + len(logits)], reduction="sum"))
            yield first, logits

    with evaluating(model):
        predictions = _labels(weighed(), store, decoder)
    pairs = labels.cpu().numpy() * classes + predictions
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return Score(confusion, float(loss) / store.num_frames), predictions


def predict(
    model: FrameModel,
    store: FrameStore,
    device: torch.device,
    precision: str = "float32",
    decoder: Decoder | None = None,
) -> np.ndarray:
    """(N,) int64: the class of each frame in file order, by the decoder or, without one, the likeliest."""
    with evaluating(model):
        return _labels(block_logits(model, store, device, precision), store, decoder)


def utterance_logits(
    model: FrameModel,
    store: FrameStore,
    utterances: Iterable[int],
    device: torch.device,
    precision: str = "float32",
) -> list[torch.Tensor]:
    """The (T, K) logits of some utterances, each on the device."""
    with evaluating(model):
        return [
            torch.cat([logits for _, logits in block_logits(model, store, device, precision, only=[index])])
            for index in utterances
        ]


def _labels(
    blocks: Iterator[tuple[int, torch.Tensor]], store: FrameStore, decoder: Decoder | None
) -> np.ndarray:
    """Blocks of logits in file order -> (N,) int64 labels; a decoder gets whole utterances."""
    if decoder is None:
        return torch.cat([logits.argmax(dim=1) for _, logits in blocks]).cpu().numpy()
    ends = set(store.offsets[1:].tolist())
    labels: list[torch.Tensor] = []
    waiting: list[torch.Tensor] = []
    pieces: list[torch.Tensor] = []
    for first, logits in blocks:
        pieces.append(logits)
        if first + len(logits) in ends:
            waiting.append(torch.cat(pieces))
            pieces = []
            if len(waiting) == BATCH or first + len(logits) == store.num_frames:
                labels += decoder(waiting)
                waiting = []
    return torch.cat(labels).numpy()


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
