"""The mean and variance of each mel bin, of an utterance or of a speaker, and frames normalised by them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, starmap

import numpy as np

from senone.frames import BANDS

CLIP = 10.0  # standard deviations; what is further out is no speech
RANKED = 256  # frames of an utterance that the usual range of its values is taken from
GOLDEN = (5**0.5 - 1) / 2  # whose multiples, modulo 1, leave no gap that is much wider than others
LARGEST = np.finfo(np.float32).max


@dataclass(frozen=True)
class Moments:
    """What is measured of U utterances: (U,) numbers of frames, and of each bin, (U, F) float32, mean and
    variance, and half of how far the means of the utterance's two halves lie apart."""

    frames: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    drifts: np.ndarray

    @classmethod
    def measure(cls, utterances: Iterable[np.ndarray], most: int, bins: int) -> "Moments":
        """Of (T, F) frames of as many utterances as there are, at ``most`` so many. Values further from a
        bin's 5 to 95 % range than that range is wide (4.9 standard deviations from the mean if the bin is
        normal) do not count: some 5 % of wild frames a side do no harm, and an utterance without any has its
        plain mean and variance."""
        frames, values, count = np.empty(most), np.empty((3, most, bins), np.float32), 0
        for utterance in utterances:
            frames[count] = len(utterance)
            values[:, count] = _measure(utterance)
            count += 1
        return cls(frames[:count], *values[:, :count])

    def pool(self, speakers: np.ndarray) -> "Moments":
        """With (U,) speakers, one after the other: of all frames of each of the S speakers, (S, F), of whom
        none drifts."""
        firsts = np.flatnonzero(np.diff(speakers, prepend=-1, append=-1))
        frames, values = np.empty(len(firsts) - 1), np.zeros((3, len(firsts) - 1, self.means.shape[1]))
        for speaker, utterances in enumerate(starmap(slice, pairwise(firsts))):
            frames[speaker] = self.frames[utterances].sum()
            shares = self.frames[utterances] / frames[speaker]
            mean = values[0, speaker] = shares @ self.means[utterances]
            squares = np.square(self.means[utterances] - mean)
            values[1, speaker] = shares @ (self.variances[utterances] + squares)
        return Moments(frames, *values)

    @cached_property
    def spreads(self) -> np.ndarray:
        """(U, F) standard deviations, 0 of a bin that is constant."""
        spreads = np.sqrt(self.variances)
        spreads[spreads <= 1e-6 * np.abs(self.means)] = 0
        return spreads

    @property
    def levels(self) -> np.ndarray:
        """(U, 2*BANDS), mean and spread over each band's bins, as many as can be and at least one."""
        edges = np.arange(BANDS + 1) * self.means.shape[1] // BANDS
        bands = [slice(low, max(high, low + 1)) for low, high in pairwise(edges)]
        levels = [values[:, band].mean(axis=1) for values in (self.means, self.spreads) for band in bands]
        return np.stack(levels, axis=1)


def _measure(frames: np.ndarray) -> np.ndarray:
    """(T, F) of one utterance -> (3, F): mean, variance and drift."""
    bins = np.array(frames.T, np.float32, order="C")  # (F, T)
    total, half = bins.shape[1], (bins.shape[1] + 1) // 2
    ranked = np.sort(bins[:, _sample(total)], axis=1)
    last = ranked.shape[1] - 1
    low, high = ranked[:, int(0.05 * last), None], ranked[:, int(np.ceil(0.95 * last)), None]
    width = high - low
    width[width <= 1e-6 * np.abs(high)] = np.inf  # more than 90 % of one value: every other one is news
    low, high = low - width, high + width
    wild = None  # as almost always, and then no sum needs a mask
    count = np.full(len(bins), total)
    if (bins.min(axis=1, keepdims=True) < low).any() or (bins.max(axis=1, keepdims=True) > high).any():
        wild = (bins < low) | (bins > high)
        bins[wild] = 0
        count -= wild.sum(axis=1)
    mean = bins.sum(axis=1, dtype=np.float64) / count
    bins -= mean[:, None].astype(np.float32)
    if wild is not None:
        bins[wild] = 0
    drift = bins[:, :half].sum(axis=1, dtype=np.float64) / half
    with np.errstate(over="ignore"):
        variance = np.square(bins, out=bins).sum(axis=1, dtype=np.float64) / count
    return np.stack([mean, np.minimum(variance, LARGEST), drift])


@lru_cache(maxsize=4096)
def _sample(total: int) -> np.ndarray:
    """Enough frames of all to rank, spread evenly but in no rhythm that speech could have."""
    if total <= RANKED:
        return np.arange(total)
    return (np.arange(RANKED) * GOLDEN % 1 * total).astype(np.int64)


def normalise_frames(frames: np.ndarray, mean: np.ndarray, spread: np.ndarray, out: np.ndarray) -> None:
    """(T, F) frames, (F,) mean and spread -> ``out`` (T, F) float32, at most CLIP from 0; a bin without
    spread says nothing and becomes 0."""
    scale = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    with np.errstate(over="ignore"):  # what is that far off is clipped
        np.subtract(frames, mean.astype(np.float32), out=out)
        np.multiply(out, scale.astype(np.float32), out=out)
    np.clip(out, -CLIP, CLIP, out=out)
