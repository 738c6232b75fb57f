"""Who speaks: neighbours in a file that sound alike are taken for one speaker's utterances.

Corpora come speaker by speaker, and a minute of a voice tells more of it and of its microphone than one
utterance. Nobody says in the contest's files where a speaker ends; it is heard in the mean cepstrum.
"""

import math

import numpy as np

CEPSTRA = 12  # without the zeroth, which is how loud it was
CHANGE = 0.05  # of all utterances are a speaker's first, before anything is heard
SESSION = 3.0  # times as much as what is said, all that moves a speaker's mean between utterances
LONGEST = 200  # utterances; more of one speaker become several
WILD = 5.0  # deviations from the median; what is further out is brought there


def find_speakers(means: np.ndarray, drifts: np.ndarray) -> np.ndarray:
    """(U, F) means of the log-mel bins of utterances in file order, and (U, F) halves of how far the means
    of an utterance's two halves lie apart -> (U,) int64, the speaker of each, counted from 0.

    A mean cepstrum is the speaker's plus what was said, both normal; the drifts tell how much the second
    varies, all utterances the sum (the two covariances of Brümmer & de Villiers 2010, "The speaker
    partitioning problem"). Of all ways to cut the file, the likeliest is found by dynamic programming.
    """
    bins = means.shape[1]
    orders = np.arange(1, min(CEPSTRA + 1, bins)) if bins > 1 else np.zeros(1)
    cosines = np.cos(np.pi / bins * np.outer(np.arange(bins) + 0.5, orders)).astype(means.dtype)  # (F, C)
    said = _tame(drifts @ cosines)
    within = SESSION / len(said) * (said.T @ said).astype(np.float64)
    heard = _tame(means @ cosines)
    heard -= heard.mean(axis=0)
    varies = np.square(heard).mean() + np.trace(within)
    within += (1e-12 + 1e-4 * varies) * np.eye(len(within))  # or what never varies would count for ever
    whitening = np.linalg.inv(np.linalg.cholesky(within)).T  # what was said then has variance 1
    total, axes = np.linalg.eigh(whitening.T @ (heard.T @ heard / len(heard)) @ whitening)
    return _cut(heard @ (whitening @ axes), np.maximum(total - 1, 0))


def _cut(heard: np.ndarray, between: np.ndarray) -> np.ndarray:
    """(U, C) vectors, each its speaker's, of (C,) variances ``between`` speakers, and something of variance 1
    -> (U,) int64 speakers."""
    count = len(heard)
    sums = np.zeros((count + 1, len(between)))
    np.cumsum(heard, axis=0, out=sums[1:])
    lengths = np.arange(1, LONGEST + 1)[:, None]  # of all stretches that may be one speaker's
    shrink = between / (1 + lengths * between)
    fixed = -0.5 * np.log1p(lengths * between).sum(axis=1) + (lengths[:, 0] - 1) * math.log(1 - CHANGE)
    best = np.zeros(count + 1)  # log-likelihood of the first n utterances, up to what no cut changes
    cut = np.zeros(count + 1, np.int64)
    for end in range(1, count + 1):
        longest = min(end, LONGEST)
        starts = end - lengths[:longest, 0]
        apart = sums[end] - sums[starts]
        evidence = 0.5 * np.einsum("nc,nc,nc->n", apart, apart, shrink[:longest])
        scores = best[starts] + fixed[:longest] + evidence + math.log(CHANGE)
        chosen = int(scores.argmax())
        best[end], cut[end] = scores[chosen], starts[chosen]
    first = np.zeros(count, np.int64)
    end = count
    while end:
        end = int(cut[end])
        first[end] = 1
    return np.cumsum(first) - 1


def _tame(values: np.ndarray) -> np.ndarray:
    """(U, C) -> the same array, nothing further than WILD of the usual deviations from a column's median."""
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84], axis=0)
    reach = WILD * (high - low) / 2
    return np.clip(values, middle - reach, middle + reach, out=values)
