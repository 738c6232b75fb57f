"""What a model says of a whole store, in file order and in bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F

from senone.decode import Decoder, at_once, hear
from senone.device import autocast
from senone.frames import FrameStore
from senone.models.blocks import FrameModel, fold_batchnorm
from senone.windows import gather

BLOCK = 2048  # frames that go through the model at once; what a layer makes of more leaves a CPU's cache
CARD_BLOCK = 16_384  # and on other devices, which are slow to start and wide


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
    block: int | None = None,
    only: Iterable[int] | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield (first frame, (T, K) float32 logits on the device) in file order, or of ``only`` some utterances,
    at most ``block`` frames at a time: over the bounds of utterances where the model takes frames by their
    windows, else utterance by utterance. Runs the model as it is: see ``fold_batchnorm``."""
    block = block or (BLOCK if device.type == "cpu" else CARD_BLOCK)
    hears_surroundings = model.hears_surroundings
    for first, frames, stretches in _blocks(model, store, block, only):
        surroundings = store.surroundings(frames).to(device) if hears_surroundings else None
        with torch.inference_mode(), autocast(device, precision):
            logits = model(stretches.to(device), surroundings).flatten(0, 1)  # (B, T, K), B or T being 1
        yield first, logits.float()


def _blocks(
    model: FrameModel, store: FrameStore, block: int, only: Iterable[int] | None
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """The first frame, the (B,) frames that stretches begin with, and (B, T+2k, F) stretches: windows, with
    T = 1, or one of an utterance."""
    context = model.context
    if model.by_window and only is None:
        for first in range(0, store.num_frames, block):
            end = min(first + block, store.num_frames)
            frames = torch.arange(first, end, device=store.rows.device)
            yield first, frames, gather(store.rows, store.centres(frames), context)
        return
    for utterance in range(store.num_utterances) if only is None else only:
        padded = store.utterance(utterance, context)
        first = store.bounds[utterance]
        for start in range(0, len(padded) - 2 * context, block):
            frames = torch.full((1,), first + start, device=store.rows.device)
            yield first + start, frames, padded[None, start : start + block + 2 * context]


def utterance_logits(
    model: FrameModel,
    store: FrameStore,
    device: torch.device,
    precision: str = "float32",
    only: Iterable[int] | None = None,
) -> Iterator[torch.Tensor]:
    """Yield the (T, K) float32 logits of each utterance, or of ``only`` some, on the device."""
    ends = store.offsets[1:].cpu()
    pieces: list[torch.Tensor] = []
    for first, logits in block_logits(fold_batchnorm(model), store, device, precision, only=only):
        cuts = ends[(ends > first) & (ends <= first + len(logits))] - first
        *completing, rest = logits.tensor_split(cuts)
        for piece in completing:
            yield torch.cat([*pieces, piece]) if pieces else piece
            pieces = []
        pieces.append(rest)


def score(
    logits: Iterable[torch.Tensor], store: FrameStore, decoder: Decoder | None = None
) -> tuple[Score, np.ndarray]:
    """The score of the (T, K) logits of a labelled store's utterances, and its predictions (N,) int64."""
    assert store.labels is not None, "a store without labels cannot be scored"
    labels, classes = store.labels, store.num_classes
    losses: list[torch.Tensor] = []

    def weighed() -> Iterator[torch.Tensor]:
        block: list[torch.Tensor] = []  # utterances that are weighed at once
        first = frames = 0
        for index, utterance in enumerate(logits, start=1):
            block.append(utterance)
            frames += len(utterance)
            if frames >= CARD_BLOCK or index == store.num_utterances:
                targets = labels[first : first + frames].to(utterance.device).long()
                losses.append(F.cross_entropy(torch.cat(block), targets, reduction="sum"))
                first, frames, block = first + frames, 0, []
            yield utterance

    predictions = predict(weighed(), store, decoder)
    pairs = labels.cpu().numpy().astype(np.int64) * classes + predictions
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return Score(confusion, float(torch.stack(losses).sum()) / store.num_frames), predictions


def predict(logits: Iterable[torch.Tensor], store: FrameStore, decoder: Decoder | None = None) -> np.ndarray:
    """The (T, K) logits of a store's utterances -> (N,) int64: the class of each frame by the decoder, which
    gets a batch of utterances at a time, or, without one, the likeliest."""
    if decoder is None:
        return torch.cat([utterance.argmax(dim=1) for utterance in logits]).cpu().numpy()
    labels: list[torch.Tensor] = []
    utterances, heard = iter(logits), hear(store, range(store.num_utterances))
    for first in utterances:
        said = [first, *islice(utterances, at_once(first.device) - 1)]
        labels += decoder(said, islice(heard, len(said)))
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
