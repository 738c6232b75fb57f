"""Checkpoints that decide together, one of them or several: the weighted mean of their log-posteriors.

One checkpoint may be several members, each of which hears the speech through another frequency axis.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from senone.augment import Warped
from senone.checkpoint import load_model
from senone.config import CorpusConfig, DataConfig, DecodeConfig
from senone.dataset import Dataset, open_dataset
from senone.decode import Decoder, fit_decoder, hear
from senone.device import place_store, trained_precision
from senone.evaluate import utterance_logits
from senone.models import FrameModel

DEV_FRAMES = 100_000  # about as many decide on the weights and on a decoder's scales
LIKELIEST = 8  # states of a frame that a teacher speaks of: almost all of its posterior
LONGEST_NAME = 150  # characters; a file's name may have 255


@dataclass(frozen=True)
class Member:
    """A checkpoint, its content, its model on the device, the data as that model wants it prepared, the
    precision that it computes in, and how its frequency axis is stretched."""

    checkpoint: Path
    content: dict[str, Any]
    model: FrameModel
    data: Dataset
    precision: str
    factor: float = 1.0

    @property
    def name(self) -> str:
        """The run's, with the checkpoint's behind it unless that is the best."""
        run = self.checkpoint.resolve().parent.name
        return run if self.checkpoint.name == "best.pt" else f"{run}-{self.checkpoint.stem}"


class Ensemble:
    """Members with ``weights`` (M,) that add up to 1, at first the same for each. Models and the preparation
    of their data may differ, but not the files: ValueError for a member that sees other ones."""

    def __init__(self, members: Sequence[Member], device: torch.device) -> None:
        self.members, self.device = members, device
        self.weights = torch.full((len(members),), 1 / len(members), device=device)
        first = members[0]
        for member in members[1:]:
            require_same(member.data, first.data, member.checkpoint, first.checkpoint)

    @property
    def data(self) -> Dataset:
        """The first member's: files, labels and bounds of utterances are the same for all."""
        return self.members[0].data

    @property
    def contest_legal(self) -> bool:
        return all(member.model.contest_legal for member in self.members)

    @property
    def name(self) -> str:
        """The checkpoints' names, joined by +; if that is too long for a file, the first, how many others
        there are, and a hash of all."""
        names = list({member.checkpoint: member.name for member in self.members}.values())
        joined = "+".join(names)
        if len(joined) > LONGEST_NAME:
            joined = f"{names[0]}+{len(names) - 1}-{sha256(joined.encode()).hexdigest()[:8]}"
        return joined + ("-warped" if any(member.factor != 1 for member in self.members) else "")

    def describe(self) -> str:
        """Members and weights."""
        return "ensemble: " + ", ".join(
            f"{weight:.3f} {member.checkpoint}" + (f" x {member.factor:g}" if member.factor != 1 else "")
            for member, weight in zip(self.members, self.weights.tolist(), strict=True)
        )

    def logits(self, split: str, only: Iterable[int] | None = None) -> Iterator[torch.Tensor]:
        """Yield the (T, K) mixed logits of each utterance of a split, or of ``only`` some, on the device."""
        for logits in self._members_logits(split, only):
            yield mix(logits, self.weights)

    def likeliest(self, split: str, count: int = LIKELIEST) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, P) int16 of the likeliest states of each frame of a split, at most ``count``, and (N, P)
        float16 of their posteriors' shares of what these add up to; on the CPU."""
        states, shares = [], []
        for logits in self.logits(split):
            posteriors, best = logits.softmax(dim=1).topk(min(count, logits.shape[1]))
            states.append(best.short().cpu())
            shares.append((posteriors / posteriors.sum(dim=1, keepdim=True)).half().cpu())
        return torch.cat(states), torch.cat(shares)

    def fit_weights(self) -> None:
        """Choose the weights on utterances from all over dev."""
        chosen, labels = self._dev_utterances()
        logits = torch.cat(list(self._members_logits("dev", chosen)), dim=1)  # (M, N, K)
        self.weights = fit_weights(logits, torch.cat(labels).to(self.device))

    def fit_decoder(self, settings: DecodeConfig) -> Decoder | None:
        """The decoder that is asked for, its chain and mixtures taken from train, its scales chosen on
        utterances from all over dev; None for argmax."""
        if settings.name == "argmax":
            return None
        chosen, labels = self._dev_utterances()
        heard = hear(self.data.dev, chosen)
        return fit_decoder(settings, self.data.train, list(self.logits("dev", chosen)), labels, heard)

    def own_decoder(self) -> Decoder | None:
        """A single member's is stored in its checkpoint, unless its run did not come to its end: then it is
        fitted now. Several get one of the first one's kind, with new scales."""
        content = self.members[0].content
        settings = content["config"]["decode"]
        if len(self.members) == 1:
            if "decode" not in content:
                return self.fit_decoder(DecodeConfig(**settings))
            return Decoder.from_state(content["decode"]) if content["decode"] else None
        kept = {key: settings[key] for key in ("name", "smoothing", "gaussians", "tuning", "edge_mixtures")}
        return self.fit_decoder(DecodeConfig(**kept))

    def _members_logits(self, split: str, only: Iterable[int] | None) -> Iterator[torch.Tensor]:
        """The (M, T, K) logits of each utterance: a block and an utterance of each member in memory."""
        stores = [member.data.splits[split] for member in self.members]
        placed = {store.fingerprint: store for store in stores}  # members prepared alike share one
        placed = {key: place_store(store, self.device) for key, store in placed.items()}
        only = None if only is None else list(only)
        each = [
            utterance_logits(member.model, placed[store.fingerprint], self.device, member.precision, only)
            for member, store in zip(self.members, stores, strict=True)
        ]
        for logits in zip(*each, strict=True):
            yield torch.stack(logits)

    def _dev_utterances(self) -> tuple[list[int], list[torch.Tensor]]:
        """Utterances from all over dev, and the (T,) labels of each."""
        dev = self.data.dev
        share = min(1.0, DEV_FRAMES / dev.num_frames)
        count = max(1, round(share * dev.num_utterances))
        chosen = np.linspace(0, dev.num_utterances - 1, count).astype(int).tolist()
        return chosen, [dev.utterance_labels(index).long() for index in chosen]


def open_ensemble(
    checkpoints: Iterable[Path], device: torch.device, root: str | None = None, warp: float = 0.0
) -> Ensemble:
    """The checkpoints on the device, each with the data it was trained with, or with that kind of data from
    the contest's files in ``root``; with a ``warp`` each is three members, on the frequency axis as it is and
    stretched by 1 - warp and 1 + warp. ValueError for what is no checkpoint, or does not fit the data."""
    members = []
    for checkpoint in checkpoints:
        model, content = load_model(checkpoint)
        data = open_dataset(*_data_of(content, root), model.context)
        if data.test.num_bins != content["num_bins"]:
            raise ValueError(
                f"{data.root}: {data.test.num_bins} values a frame, but {checkpoint} is of a model for "
                f"{content['num_bins']}"
            )
        precision = trained_precision(content, device)
        for factor in (1.0, 1 - warp, 1 + warp) if warp else (1.0,):
            heard = model if factor == 1 else Warped(model, factor)
            members.append(Member(checkpoint, content, heard.to(device), data, precision, factor))
    return Ensemble(members, device)


def require_same(theirs: Dataset, ours: Dataset, checkpoint: Path, whose: object) -> None:
    """Raise ValueError, naming the checkpoint, unless the data it sees are of the same utterances, with the
    same labels, as ours."""
    for name, our in ours.splits.items():
        their = theirs.splits[name]
        same = torch.equal(our.offsets, their.offsets) and our.num_classes == their.num_classes
        if same and our.labels is not None:
            same = their.labels is not None and torch.equal(our.labels, their.labels)
        if not same:
            raise ValueError(
                f"{checkpoint}: its {name} ({their.num_frames} frames, {their.num_classes} classes) is not "
                f"that of {whose} ({our.num_frames} frames, {our.num_classes} classes)"
            )


def mix(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(M, T, K) logits of M models and (M,) weights -> (T, K): sum_m w_m log p_m(s|x_t), up to a constant of
    the frame, which changes neither the likeliest state nor a decoder's labels nor the cross-entropy."""
    return (weights[:, None, None] * logits).sum(dim=0)


def fit_weights(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(M, N, K) logits and (N,) labels -> the (M,) weights, 0 or more and adding up to 1, under which the
    labels are the likeliest. Their mean log-likelihood is concave in the weights: descent from equal ones, in
    the logarithms, finds its top."""
    logarithms = torch.zeros(len(logits), device=logits.device, requires_grad=True)
    search = torch.optim.LBFGS([logarithms], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = F.cross_entropy(mix(logits, logarithms.softmax(dim=0)), labels)
        value.backward()
        return value

    search.step(loss)
    return logarithms.detach().softmax(dim=0)


def _data_of(content: dict[str, Any], root: str | None) -> tuple[DataConfig, CorpusConfig]:
    """The data a checkpoint was trained with, or the same kind of data in another folder."""
    settings = content["config"]
    data = {**settings["data"], "num_classes": content["num_classes"]}
    if root is not None:
        data.update(name="contest", root=root)
    return DataConfig(**data), CorpusConfig(**settings["corpus"])
