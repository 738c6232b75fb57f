"""What an aligner hears: a mixture of Gaussians for each state, over cepstra and how they change.

Frame labels are an aligner's: a hidden Markov model with mixtures of Gaussians found where each state of a
known text begins. A network knows better than such mixtures what was said, but its windows blur when; the
mixtures, fitted to the labels, say that as the aligner did. They hear what aligners' recipes let theirs hear:
thirteen cepstra, slopes, slopes of slopes, each with mean 0 and variance 1 over all that a speaker says.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from senone.frames import FrameStore

CEPSTRA = 13
LOUDEST = 1e4  # log-mel; what is beyond is no sound, and its square must stay a number
SIDE = 2  # frames before and after one that its slope is taken from
FRAMES = 1_000_000  # of train that mixtures are fitted to, at most
BLOCK = 1024  # frames whose likelihoods under each Gaussian are there at once
ROUNDS = 8  # of expectation and maximisation, after each split
APART = 0.1  # standard deviations that a split puts on either side
PER_GAUSSIAN = 50  # frames that a state must have for each
NARROWEST = 0.01  # of the variance of all states' values, that each Gaussian has at least


@dataclass(frozen=True)
class Mixtures:
    """A mixture of M Gaussians with diagonal covariances for each of K states, over D = 3C values that are
    heard of each frame; float32: log_weights (K, M), means and precisions (K, M, D). What a state has no use
    for has the weight 0."""

    log_weights: torch.Tensor
    means: torch.Tensor
    precisions: torch.Tensor

    @classmethod
    def fit(cls, store: FrameStore, gaussians: int, draw: torch.Generator | None = None) -> "Mixtures":
        """At most ``gaussians`` a state, to the labelled frames of speakers from all over a store. A state
        with few frames gets fewer, one without any the spread of all. They are split along directions that
        ``draw`` draws, or as aligners do."""
        heard, spoken = utterances_of(store)
        values, labels = torch.cat(heard), torch.cat(spoken)  # (N, D), (N,)
        all_precisions = 1 / values.var(dim=0, correction=0).clamp(min=1e-6)
        mixtures = cls(
            torch.full((store.num_classes, gaussians), -math.inf),
            values.new_zeros(store.num_classes, gaussians, values.shape[1]),
            all_precisions.expand(store.num_classes, gaussians, -1).clone(),
        )
        counts = torch.bincount(labels, minlength=store.num_classes).tolist()
        by_state = values[labels.argsort(stable=True)].split(counts)
        for state, frames in enumerate(by_state):
            fitted = fit_mixture(frames, gaussians, 1 / all_precisions, draw)
            for part, one in zip(vars(mixtures).values(), fitted, strict=True):
                part[state, : len(one)] = one
        return mixtures

    def to(self, device: torch.device) -> "Mixtures":
        """The same on a device."""
        return Mixtures(*(part.to(device) for part in vars(self).values()))

    def of(self, states: torch.Tensor) -> "Mixtures":
        """Those of (S,) states alone."""
        return Mixtures(*(part[states] for part in vars(self).values()))

    def __call__(self, heard: torch.Tensor) -> torch.Tensor:
        """(T, D) of an utterance -> (T, K) log p(x_t|s)."""
        parts = [part.transpose(0, 1).flatten(0, 1) for part in vars(self).values()]  # M times the K states
        shape = self.log_weights.T.shape
        blocks = map(with_squares, heard.split(BLOCK))
        joints = (log_joint(block, *parts) for block in blocks)  # of (T, M*K)
        return torch.cat([joint.unflatten(1, shape).logsumexp(dim=1) for joint in joints])


def utterances_of(store: FrameStore) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What is heard, (T, D), and the labels, (T,) int64, of speakers from all over a labelled store, with at
    most about FRAMES frames; on the CPU."""
    every = -(-store.num_frames // FRAMES)
    utterances = (store.speakers % every == 0).nonzero().flatten().tolist()
    heard = [frames.cpu() for frames in hear(store, utterances)]
    return heard, [store.utterance_labels(index).cpu().long() for index in utterances]


def hear(store: FrameStore, utterances: Iterable[int]) -> Iterator[torch.Tensor]:
    """Yield what mixtures hear of each utterance of a store, (T, D): cepstra and slopes, with mean 0 and
    variance 1 over all utterances of its speaker."""
    speaker, values = None, {}
    for index in utterances:
        if store.speakers[index] != speaker:
            speaker = store.speakers[index]
            members = (store.speakers == speaker).nonzero().flatten().tolist()
            values = {member: cepstra(store.original(member)) for member in members}
            variance, mean = torch.var_mean(torch.cat(list(values.values())), dim=0, correction=0)
            scale = (variance + 1e-6).rsqrt()
        yield (values[index] - mean) * scale


def cepstra(frames: torch.Tensor) -> torch.Tensor:
    """(T, F) log-mel frames -> (T, 3C): their first C = CEPSTRA cosines (Davis & Mermelstein 1980, eq. 1),
    the slopes of these, and the slopes' slopes (the HTK Book 3.4, eq. 5.16)."""
    bins = frames.shape[1]
    order = torch.arange(min(CEPSTRA, bins), device=frames.device)
    middle = torch.arange(bins, device=frames.device) + 0.5
    cosines = (math.pi / bins * middle[:, None] * order).cos() * math.sqrt(2 / bins)  # (F, C)
    still = frames.clamp(-LOUDEST, LOUDEST) @ cosines
    slope = slopes(still)
    return torch.cat([still, slope, slopes(slope)], dim=1)


def slopes(values: torch.Tensor) -> torch.Tensor:
    """(T, C) -> (T, C): the slope of a line through a frame and SIDE frames on either side, those beyond an
    end being as the last."""
    padded = F.pad(values.T, (SIDE, SIDE), mode="replicate").T
    frames = len(values)
    steps = range(1, SIDE + 1)
    rises = [step * (padded[SIDE + step :][:frames] - padded[SIDE - step :][:frames]) for step in steps]
    return torch.stack(rises).sum(dim=0) / (2 * sum(step * step for step in steps))


def fit_mixture(
    values: torch.Tensor, gaussians: int, variance: torch.Tensor, draw: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(N, D) values of one state -> (M,) log weights, (M, D) means and precisions of the mixture, found by
    expectation and maximisation (Bishop 2006, section 9.2.2), from one Gaussian that is split, and its
    heaviest halves again, until there are M (the HTK Book 3.4, section 8.6). One half has more of all values,
    or of those for which ``draw`` says so. The (D,) ``variance`` of all states' values stands in where there
    are too few."""
    count = max(1, min(gaussians, len(values) // PER_GAUSSIAN))
    means = values.mean(dim=0, keepdim=True) if len(values) else torch.zeros(1, len(variance))
    total = (values - means).square().sum(dim=0) + variance
    precisions = ((len(values) + 1) / total)[None]
    log_weights = torch.zeros(1)
    both = with_squares(values)
    while len(means) < count:
        heaviest = log_weights.topk(min(count - len(means), len(means))).indices
        step = APART * precisions[heaviest].rsqrt()
        if draw is not None:
            step *= 2 * torch.randint(2, step.shape, generator=draw) - 1
        log_weights[heaviest] -= math.log(2)
        halves = means[heaviest] + step
        means[heaviest] -= step
        means = torch.cat([means, halves])
        precisions, log_weights = (torch.cat([x, x[heaviest]]) for x in (precisions, log_weights))
        for _ in range(ROUNDS):
            shares = log_joint(both, log_weights, means, precisions).softmax(dim=1)  # (N, M)
            weights = shares.sum(dim=0) + 1e-3  # (M,)
            means, squares = (shares.T @ both / weights[:, None]).chunk(2, dim=1)
            precisions = 1 / torch.maximum(squares - means.square(), NARROWEST * variance)
            log_weights = (weights / weights.sum()).log()
    return log_weights, means, precisions


def with_squares(values: torch.Tensor) -> torch.Tensor:
    """(N, D) -> (N, 2D)."""
    return torch.cat([values, values.square()], dim=1)


def log_joint(
    both: torch.Tensor, log_weights: torch.Tensor, means: torch.Tensor, precisions: torch.Tensor
) -> torch.Tensor:
    """(N, 2D) values ``with_squares``, and M Gaussians -> (N, M) log p(m) p(x|m): the square is multiplied
    out, so that all is one matrix product."""
    constant = precisions.log().sum(dim=1) - means.shape[1] * math.log(2 * math.pi)
    constant = log_weights + 0.5 * (constant - (means.square() * precisions).sum(dim=1))
    linear_and_square = torch.cat([means * precisions, -0.5 * precisions], dim=1)  # (M, 2D)
    return torch.addmm(constant, both, linear_and_square.T)
