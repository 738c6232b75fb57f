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
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import torch

from senone.config import DecodeConfig
from senone.decode.batches import BATCH
from senone.decode.state_chain import StateChain, decode_marginals, decode_path
from senone.decode.trigram import PhonemeTrigram, decode_trigram
from senone.frames import FrameStore

__all__ = [
    "BATCH", "CHAINS", "Decoder", "PhonemeTrigram", "StateChain", "choose_scales", "decode_marginals",
    "decode_path", "decode_trigram", "describe_decoder", "fit_decoder",
]  # fmt: skip

Chain = StateChain | PhonemeTrigram
CHAINS: dict[str, type[Chain]] = {
    "forward_backward": StateChain,
    "viterbi": StateChain,
    "trigram": PhonemeTrigram,
}
SCALES = (0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.4)
PRIOR_SCALES = (0.0, 0.3, 0.6, 1.0)
TRIGRAM_SCALES = (0.3, 0.4, 0.5, 0.7, 1.0)
TRIGRAM_PRIOR_SCALES = (0.0, 0.3, 0.6)


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
    """The decoder that is asked for, None for argmax: its chain counted on train, its scales, where they are
    not given, chosen by the (T, K) logits and (T,) labels of U utterances of dev. A trigram takes twenty
    times as long as forward-backward: it is tried with fewer scales, and on every other utterance."""
    if settings.name == "argmax":
        return None
    slow = settings.name == "trigram"
    acoustic: Sequence[float] = TRIGRAM_SCALES if slow else SCALES
    prior: Sequence[float] = TRIGRAM_PRIOR_SCALES if slow else PRIOR_SCALES
    if settings.acoustic_scale is not None:
        acoustic = (settings.acoustic_scale,)
    if settings.prior_scale is not None:
        prior = (settings.prior_scale,)
    chain = CHAINS[settings.name].count(train, settings.smoothing)
    every = 2 if slow else 1
    return choose_scales(settings.name, chain, logits[::every], labels[::every], acoustic, prior)


def choose_scales(
    name: str,
    chain: Chain,
    logits: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    acoustic_scales: Sequence[float] = SCALES,
    prior_scales: Sequence[float] = PRIOR_SCALES,
) -> Decoder:
    """The decoder with the scales, out of these, that get the most frames of U utterances of dev right:
    (T, K) logits and (T,) labels."""
    decoders = [Decoder(name, chain, *scales) for scales in product(acoustic_scales, prior_scales)]
    return max(decoders, key=lambda decoder: count_right(decoder, logits, labels))


def count_right(decoder: Decoder, logits: Sequence[torch.Tensor], labels: Sequence[torch.Tensor]) -> int:
    """How many frames the decoder gets right."""
    return sum(int((p == y).sum()) for p, y in zip(decoder(logits), labels, strict=True))
