"""Mixtures that find the edges of the labels.

Mixtures that are fitted to the frames of each state have heard what a state sounds like, and were never asked
where the next one begins. An aligner was: its labels are the likeliest way through an utterance's states. So
here theirs is made to be that, among all ways through the same states.
"""

from collections.abc import Sequence

import torch
from tqdm import tqdm

from senone.decode.alignment import occupancies, runs
from senone.decode.batches import by_length
from senone.decode.mixtures import Mixtures, utterances_of
from senone.frames import FrameStore

TOGETHER = 40  # utterances of a step
RATE = 0.01  # of Adam, at first
UNSURE = 0.01  # shares that differ by less are left as they are


def tune(mixtures: Mixtures, store: FrameStore, rounds: int) -> Mixtures:
    """Mixtures like these, under which the ways of the labels of a store have larger shares of the likelihood
    of all ways through their utterances' states, after so many ``rounds`` over it.

    The logarithm of a share has the slope 1 in the score of each frame's label, less the share of all ways
    that is in a state then, in each state's (maximum mutual information; Bahl et al. 1986, with alignments in
    the place of words). Adam, by a cosine.
    """
    values, labels = utterances_of(store)
    groups = list(by_length(values, TOGETHER))
    weights, means, narrow = (
        part.clone().requires_grad_()
        for part in (mixtures.log_weights, mixtures.means, mixtures.precisions.log())
    )
    adam = torch.optim.Adam([weights, means, narrow], lr=RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, rounds * len(groups))
    draw = torch.Generator().manual_seed(0)
    for _ in tqdm(range(rounds), desc="mixtures find edges", leave=False, disable=None):
        for group in torch.randperm(len(groups), generator=draw).tolist():
            members = groups[group]
            tuned = Mixtures(weights, means, narrow.exp())
            adam.zero_grad()
            _climb(tuned, [values[u] for u in members], [labels[u] for u in members])
            adam.step()
            schedule.step()
    return Mixtures(weights.detach(), means.detach(), narrow.detach().exp())


def _climb(mixtures: Mixtures, heard: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> None:
    """Add to the gradients of mixtures those of the negative mean logarithm of the labels' shares."""
    states, sequences = zip(*(runs(each).unique(return_inverse=True) for each in labels), strict=True)
    with torch.no_grad():
        scores = [mixtures.of(own)(frames) for own, frames in zip(states, heard, strict=True)]
        slopes = occupancies(scores, sequences)  # of an utterance's own states
    total = torch.zeros(())
    for own, frames, each, slope in zip(states, heard, labels, slopes, strict=True):
        slope.sub_((each[:, None] == own).float())
        unsure = slope.abs().amax(dim=1) > UNSURE
        total += (mixtures.of(own)(frames[unsure]) * slope[unsure]).sum()
    (total / sum(map(len, heard))).backward()
