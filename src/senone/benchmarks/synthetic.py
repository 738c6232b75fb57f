"""Stores of noise: what speed depends on is how many frames there are, not what they say."""

import numpy as np
import torch

from senone.decode import StateChain
from senone.frames import FrameStore

BINS, CLASSES = 40, 138


def random_store(num_frames: int, guard: int = 16, shortest: int = 200, longest: int = 1060) -> FrameStore:
    """A labelled store of about ``num_frames`` frames in utterances of lengths between the two, 630 in the
    mean like the contest's unless told otherwise."""
    rng = np.random.default_rng(0)
    count = max(1, 2 * num_frames // (shortest + longest))
    lengths = torch.from_numpy(rng.integers(shortest, longest + 1, count))
    total = int(lengths.sum())
    noise = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0))
    values = (total + 2 * guard * count) * BINS
    rows = noise.repeat(-(-values // len(noise)))[:values].view(-1, BINS)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    labels = torch.from_numpy(rng.integers(0, CLASSES, total, dtype=np.uint8))
    return FrameStore.plain(rows, offsets, labels, guard, CLASSES)


def spoken_chain() -> StateChain:
    """Of phonemes of three states, 1 to 8 frames each, where any phoneme follows any other."""
    rng = np.random.default_rng(0)
    phonemes = rng.integers(0, CLASSES // 3, 26_000)
    states = (3 * phonemes[:, None] + np.arange(3)).flatten()
    labels = torch.from_numpy(np.repeat(states, rng.integers(1, 9, len(states))))
    offsets = torch.tensor([0, len(labels)])
    store = FrameStore.plain(torch.empty(len(labels), 0), offsets, labels, 0, CLASSES)
    return StateChain.count(store)
