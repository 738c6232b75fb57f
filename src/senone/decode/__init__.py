"""From a network's posteriors to labels that also make sense in time.

The states form a Markov chain whose transitions and priors are counted on the train labels. A network gives
p(s|x) for each frame alone; divided by the prior it stands for the chain's likelihood of the frame, up to a
constant (Bourlard & Morgan 1994, eq. 7.3). What the network says of the phoneme q and of the state in it may
count differently, and mixtures of Gaussians, which hear as the labels' aligner did, may have a say:

    log b_t(s) = acoustic_scale * (log p(q|x_t) - prior_scale * log p(q))
               + acoustic_scale * state_scale * (log p(s|q, x_t) - prior_scale * log p(s|q))
               + mixture_scale * log p_mixture(x_t|s)

Forward-backward gives the marginals p(s_t | all frames), whose maximum is right for the most frames; Viterbi
gives the likeliest path. A trigram is forward-backward over a chain that also remembers the phoneme before.
Neighbouring frames say much the same again, so paths may be further apart than all this makes them: with a
path_scale above 1 the logarithm of each whole path, transitions included, counts so many times, and the
marginals are less those of all paths and more those of the likeliest. So may phonemes be less free to follow
each other than they were counted: a trigram's shares of them are taken to the power of grammar_scale first.
Last, other mixtures, tuned to the labels' edges, may say where each of these states begins: by the likeliest
of all ways through the same states in the same order, each frame being worth

    log p(s_t | all frames) + edge_scale * mean log p_edges(x_t|s)

All run over a batch of utterances at once, frame by frame.
"""

from senone.decode.alignment import align
from senone.decode.batches import BATCH, at_once
from senone.decode.decoder import Decoder, Scales, describe_decoder
from senone.decode.fitting import choose_scales, fit_decoder
from senone.decode.mixtures import Mixtures, hear
from senone.decode.state_chain import StateChain, decode_marginals, decode_path
from senone.decode.trigram import PhonemeTrigram, decode_trigram, require_trigram
from senone.decode.tuning import tune

__all__ = [
    "BATCH", "Decoder", "Mixtures", "PhonemeTrigram", "Scales", "StateChain",
    "align", "at_once", "choose_scales", "decode_marginals", "decode_path", "decode_trigram",
    "describe_decoder", "fit_decoder", "hear", "require_trigram", "tune",
]  # fmt: skip
