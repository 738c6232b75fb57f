"""From a network's posteriors to labels that also make sense in time.

The states form a Markov chain whose transitions and priors are counted on the train labels. A network gives
p(s|x) for each frame alone; divided by the prior it stands for the chain's likelihood of the frame, up to a
constant (Bourlard & Morgan 1994, eq. 7.3):

    log b_t(s) = acoustic_scale * (log p(s|x_t) - prior_scale * log p(s))

Forward-backward gives the marginals p(s_t | all frames), whose maximum is right for the most frames; Viterbi
gives the likeliest path. A trigram is forward-backward over a chain that also remembers the phoneme before.
All run over a batch of utterances at once, frame by frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import torch

from senone.config import DecodeConfig
from senone.decode.batches import BATCH
from senone.decode.state_chain import StateChain, decode_marginals, decode_path
from senone.decode.trigram import PhonemeTrigram, decode_trigram
from senone.frames import FrameStore

__all__ = [
    "BATCH", "CHAINS", "Decoder", "Grid", "PhonemeTrigram", "StateChain", "choose_scales", "climb_scales",
    "count_right", "decode_marginals", "decode_path", "decode_trigram", "describe_decoder", "fit_decoder",
]  # fmt: skip

Chain = StateChain | PhonemeTrigram
CHAINS: dict[str, type[Chain]] = {
    "forward_backward": StateChain,
    "viterbi": StateChain,
    "trigram": PhonemeTrigram,
}
SCALES = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)
PRIOR_SCALES = (0.0, 0.3, 0.6, 1.0)


@dataclass(frozen=True)
class Decoder:
    """One way to decode: ``name`` forward_backward, viterbi or trigram, its chain, and its scales."""

    name: str
    chain: Chain
    acoustic_scale: float
    prior_scale: float

    def __call__(self, logits: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """U of (T, K) logits -> U of (T,) int64 states, on the CPU. What is constant over a frame's states
        has no effect, so logits are as good as log posteriors."""
        device = torch.device("cpu") if logits[0].device.type == "mps" else logits[0].device  # has no float64
        chain = type(self.chain)(*(part.to(device) for part in vars(self.chain).values()))
        prior = self.prior_scale * chain.prior.log().float()
        scores = [self.acoustic_scale * (frames.to(device).float() - prior) for frames in logits]
        if isinstance(chain, PhonemeTrigram):
            marginals = decode_trigram(chain, scores)
        elif self.name == "viterbi":
            return [path.cpu() for path in decode_path(chain, scores)]
        else:
            marginals = decode_marginals(chain, scores)
        return [states.argmax(dim=1).cpu() for states in marginals]

    def state(self) -> dict[str, Any]:
        """Plain content for a checkpoint."""
        return {"name": self.name, "acoustic_scale": self.acoustic_scale, "prior_scale": self.prior_scale,
                **vars(self.chain)}  # fmt: skip

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Decoder":
        """The decoder of a checkpoint."""
        kind = CHAINS[state["name"]]
        chain = kind(*(state[field.name] for field in fields(kind)))
        return cls(state["name"], chain, state["acoustic_scale"], state["prior_scale"])


def describe_decoder(decoder: Decoder | None) -> str:
    """Its name and scales; without one each frame has its likeliest state."""
    if decoder is None:
        return "argmax"
    return f"{decoder.name}, scales {decoder.acoustic_scale:g} and {decoder.prior_scale:g}"


def fit_decoder(
    settings: DecodeConfig, train: FrameStore, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]
) -> Decoder | None:
    """The decoder that is asked for, None for argmax: its chain counted on train, its scales chosen by the
    (T, K) logits and (T,) labels of U utterances of dev. A trigram takes thirty times as long as
    forward-backward: its scales are looked for around those, on every other utterance."""
    if settings.name == "argmax":
        return None
    grid = Grid.of(settings.acoustic_scale, settings.prior_scale)
    states = StateChain.count(train, settings.smoothing)
    if settings.name != "trigram":
        return choose_scales(settings.name, states, logits, labels, grid)
    begin = choose_scales("forward_backward", states, logits, labels, grid)
    trigram = PhonemeTrigram.count(train, settings.smoothing)
    start = Decoder("trigram", trigram, begin.acoustic_scale, begin.prior_scale)
    return climb_scales(start, logits[::2], labels[::2], grid)


@dataclass(frozen=True)
class Grid:
    """The scales to choose from, each from the smallest to the largest."""

    acoustic: tuple[float, ...] = SCALES
    prior: tuple[float, ...] = PRIOR_SCALES

    @classmethod
    def of(cls, acoustic_scale: float | None, prior_scale: float | None) -> "Grid":
        """All of them, or the one that is given."""
        return cls(
            SCALES if acoustic_scale is None else (acoustic_scale,),
            PRIOR_SCALES if prior_scale is None else (prior_scale,),
        )


def choose_scales(
    name: str,
    chain: Chain,
    logits: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    grid: Grid = Grid(),
) -> Decoder:
    """The decoder with the scales of the grid that get the most frames of U utterances of dev right: (T, K)
    logits and (T,) labels."""
    decoders = [Decoder(name, chain, *scales) for scales in product(grid.acoustic, grid.prior)]
    return max(decoders, key=lambda decoder: count_right(decoder, logits, labels))


def climb_scales(
    start: Decoder, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor], grid: Grid
) -> Decoder:
    """From a decoder with scales of the grid, step by step to the neighbour that gets the most frames right,
    for as long as one gets more right."""
    right: dict[tuple[int, int], int] = {}

    def count(place: tuple[int, int]) -> int:
        if place not in right:
            right[place] = count_right(at(place), logits, labels)
        return right[place]

    def at(place: tuple[int, int]) -> Decoder:
        return replace(start, acoustic_scale=grid.acoustic[place[0]], prior_scale=grid.prior[place[1]])

    here = grid.acoustic.index(start.acoustic_scale), grid.prior.index(start.prior_scale)
    while True:
        a, p = here
        beside = [(a - 1, p), (a + 1, p), (a, p - 1), (a, p + 1)]
        inside = [(a, p) for a, p in beside if 0 <= a < len(grid.acoustic) and 0 <= p < len(grid.prior)]
        best = max([here, *inside], key=count)
        if best == here:
            return at(here)
        here = best


def count_right(decoder: Decoder, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> int:
    """How many frames the decoder gets right."""
    return sum(int((p == y).sum()) for p, y in zip(decoder(logits), labels, strict=True))
