"""Decoding: exact against enumeration and against plain recursions in the log domain, safe at any length."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senone.config import DecodeConfig
from senone.decode import (
    Decoder,
    PhonemeTrigram,
    Scales,
    StateChain,
    choose_scales,
    decode_marginals,
    decode_path,
    decode_trigram,
    fit_decoder,
)
from senone.decode.batches import flushed_denormals
from senone.decode.decoder import Evidence
from senone.decode.state_chain import Arrivals
from senone.frames import FrameStore


def random_chain(classes: int, seed: int, never_left: float | None = None) -> StateChain:
    generator = torch.Generator().manual_seed(seed)
    transitions = torch.rand(classes, classes, generator=generator, dtype=torch.float64) ** 4
    if never_left is not None:
        transitions[0, 1:] = never_left
        transitions[0, 0] = 1
    prior = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1
    initial = torch.rand(classes, generator=generator, dtype=torch.float64)
    final = torch.ones(classes, dtype=torch.float64)  # no end is likelier than another
    return StateChain(
        prior / prior.sum(),
        initial / initial.sum(),
        final / classes,
        transitions / transitions.sum(dim=1, keepdim=True),
    )


def random_scores(lengths: list[int], classes: int, seed: int, scale: float = 3.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(length, classes, generator=generator) for length in lengths]


def enumerate_paths(chain: StateChain, scores: torch.Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Marginals and the likeliest path, by the sum over all K^T paths."""
    length, classes = scores.shape
    marginals, best, best_path = np.zeros((length, classes)), -1.0, ()
    for path in product(range(classes), repeat=length):
        weight = float(chain.initial[path[0]])
        for before, after in pairwise(path):
            weight *= float(chain.transitions[before, after])
        weight *= float(torch.exp(sum(scores[t, s].double() for t, s in enumerate(path))))
        for t, s in enumerate(path):
            marginals[t, s] += weight
        if weight > best:
            best, best_path = weight, path
    return marginals / marginals.sum(axis=1, keepdims=True), best_path


def log_domain(chain: StateChain, scores: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The recursions as the books write them, frame by frame in the log domain and float64."""
    scores, log_a = scores.double(), chain.transitions.log()
    length = len(scores)
    alpha, beta, delta = torch.zeros_like(scores), torch.zeros_like(scores), torch.zeros_like(scores)
    came_from = torch.zeros_like(scores, dtype=torch.int64)
    alpha[0] = delta[0] = chain.initial.log() + scores[0]
    for t in range(1, length):
        alpha[t] = torch.logsumexp(alpha[t - 1][:, None] + log_a, dim=0) + scores[t]
        best, came_from[t] = (delta[t - 1][:, None] + log_a).max(dim=0)
        delta[t] = best + scores[t]
    for t in range(length - 2, -1, -1):
        beta[t] = torch.logsumexp(log_a + scores[t + 1] + beta[t + 1], dim=1)
    path = [int(delta[-1].argmax())]
    for t in range(length - 1, 0, -1):
        path.append(int(came_from[t, path[-1]]))
    return (alpha + beta).softmax(dim=1), path[::-1]


def path_score(chain: StateChain, scores: torch.Tensor, path: list[int]) -> float:
    log_a = chain.transitions.log()
    steps = sum(float(log_a[before, after]) for before, after in pairwise(path))
    return float(chain.initial.log()[path[0]]) + steps + sum(float(scores[t, s]) for t, s in enumerate(path))


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    classes=st.integers(2, 4),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25)
def test_both_are_exact_against_all_paths(lengths: list[int], classes: int, seed: int) -> None:
    chain, scores = random_chain(classes, seed), random_scores(lengths, classes, seed)
    marginals, paths = decode_marginals(chain, scores), decode_path(chain, scores)
    for utterance, marginal, path in zip(scores, marginals, paths, strict=True):
        expected, best = enumerate_paths(chain, utterance)
        np.testing.assert_allclose(marginal, expected, rtol=1e-4, atol=1e-6)
        assert path_score(chain, utterance, path.tolist()) == pytest.approx(
            path_score(chain, utterance, list(best)), abs=1e-4
        )


def test_a_batch_of_138_states_agrees_with_the_log_domain() -> None:
    chain = random_chain(138, 0)
    scores = random_scores([70, 1, 150, 33], 138, 1)
    marginals, paths = decode_marginals(chain, scores), decode_path(chain, scores)
    for utterance, marginal, path in zip(scores, marginals, paths, strict=True):
        expected, best = log_domain(chain, utterance)
        torch.testing.assert_close(marginal.double(), expected, rtol=1e-3, atol=1e-6)
        assert path_score(chain, utterance, path.tolist()) == pytest.approx(
            path_score(chain, utterance, best), abs=1e-2
        )


def test_an_utterance_is_decoded_alike_alone_and_among_others() -> None:
    chain = random_chain(10, 3)
    scores = random_scores([5, 80, 41, 80], 10, 4)
    together = decode_marginals(chain, scores)
    for utterance, marginal, path in zip(scores, together, decode_path(chain, scores), strict=True):
        torch.testing.assert_close(marginal, decode_marginals(chain, [utterance])[0])
        assert torch.equal(path, decode_path(chain, [utterance])[0])


def test_a_hundred_thousand_frames_and_wild_scores_are_safe() -> None:
    chain = random_chain(6, 5)
    (scores,) = random_scores([100_000], 6, 6, scale=200.0)
    scores[500:600] = -1e30
    scores[700, 2] = 1e30
    (marginal,) = decode_marginals(chain, [scores])
    assert torch.isfinite(marginal).all()
    torch.testing.assert_close(marginal.sum(dim=1), torch.ones(100_000))
    (path,) = decode_path(chain, [scores])
    assert len(path) == 100_000
    assert path[700] == 2
    certain = (scores.topk(2).values.diff().abs() > 100).flatten()
    assert (path[certain] == scores.argmax(dim=1)[certain]).float().mean() > 0.99


def test_a_transition_that_was_never_seen_is_taken_where_the_frames_leave_no_choice() -> None:
    chain = random_chain(4, 7, never_left=1e-9)
    scores = torch.zeros(6, 4)
    scores[:3, 0], scores[3:, 2] = 50.0, 50.0
    expected, best = log_domain(chain, scores)
    torch.testing.assert_close(decode_marginals(chain, [scores])[0].double(), expected, rtol=1e-3, atol=1e-6)
    assert decode_path(chain, [scores])[0].tolist() == best == [0, 0, 0, 2, 2, 2]


def spoken_labels(seed: int, skip: float = 0.0) -> list[list[int]]:
    """Phonemes of three states, some frames each, the middle one left out with a chance of ``skip``."""
    rng = np.random.default_rng(seed)
    labels = []
    for _ in range(20):
        states = [
            3 * p + s for p in rng.integers(10, size=15) for s in range(3) if s != 1 or rng.random() > skip
        ]
        labels.append(np.repeat(states, rng.integers(1, 6, len(states))).tolist())
    return labels


CHAINS = {
    "speech": lambda: StateChain.count(store_of(spoken_labels(0), 30)),
    "speech with skipped states": lambda: StateChain.count(store_of(spoken_labels(1, 0.2), 30), 1e-3),
    "speech, and states that never occur": lambda: StateChain.count(store_of(spoken_labels(2), 40), 100.0),
    "one state": lambda: StateChain.count(store_of([[3, 3, 3]], 5)),
    "every transition seen": lambda: random_chain(30, 8),
    "as good as nothing seen": lambda: StateChain.count(store_of([[0], [1], [2]], 30)),
    "two states": lambda: random_chain(2, 9),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_best_way_into_a_state_is_found_without_looking_at_all_of_them(name: str) -> None:
    chain = CHAINS[name]()
    before = 30 * torch.randn(len(chain.prior), 200, generator=torch.Generator().manual_seed(0))
    best = Arrivals(chain).best(before)  # brings ``before`` near to 0 first
    expected = (before.double()[:, None] + chain.transitions.log()[:, :, None]).amax(dim=0)
    torch.testing.assert_close(best.double(), expected, rtol=1e-6, atol=1e-5)


def test_few_of_the_ways_of_speech_are_looked_at() -> None:
    arrivals = Arrivals(CHAINS["speech"]())
    looked_at = sum(weights.numel() for _, weights in arrivals.blocks) + arrivals.weights.numel()
    assert looked_at <= 10 * 10 + 20  # first states after last ones; every other state after one


@pytest.mark.parametrize("name", CHAINS)
def test_the_likeliest_path_is_found_whatever_was_seen(name: str) -> None:
    chain = CHAINS[name]()
    scores = random_scores([40, 1, 90], len(chain.prior), 3)
    for utterance, path in zip(scores, decode_path(chain, scores), strict=True):
        _, best = log_domain(chain, utterance)
        assert path_score(chain, utterance, path.tolist()) == pytest.approx(
            path_score(chain, utterance, best), abs=1e-3
        )


def store_of(labels: list[list[int]], classes: int) -> FrameStore:
    offsets = torch.tensor([0, *np.cumsum([len(utterance) for utterance in labels])])
    flat = torch.tensor([label for utterance in labels for label in utterance], dtype=torch.uint8)
    return FrameStore.plain(torch.zeros(len(flat), 1), offsets, flat, 0, classes)


def test_a_chain_is_counted_within_utterances() -> None:
    chain = StateChain.count(store_of([[0, 0, 1], [2, 1, 1]], 3), smoothing=1e-12)
    torch.testing.assert_close(chain.prior, torch.tensor([3, 4, 2], dtype=torch.float64) / 9)
    torch.testing.assert_close(chain.initial, torch.tensor([0.5, 0, 0.5], dtype=torch.float64))
    expected = [[0.5, 0.5, 0], [0, 1, 0], [0, 1, 0]]  # 1 -> 2 is where an utterance ends
    torch.testing.assert_close(chain.transitions, torch.tensor(expected, dtype=torch.float64))


def test_a_chain_without_smoothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"decode.smoothing=0.0: expected a number above 0"):
        StateChain.count(store_of([[0, 1]], 2), smoothing=0.0)


def test_smoothing_leaves_nothing_impossible() -> None:
    chain = StateChain.count(store_of([[0, 0, 1]], 4), smoothing=0.5)
    assert (chain.transitions > 0).all()
    torch.testing.assert_close(chain.transitions.sum(dim=1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(chain.transitions[3], chain.prior)  # never seen: as the prior has it


def noisy_speech(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Runs of states, and logits that are right only four times in ten."""
    generator = np.random.default_rng(seed)
    labels, logits = [], []
    for _ in range(8):
        label = np.repeat(generator.integers(5, size=20), generator.integers(4, 12, size=20))
        scores = 0.8 * np.eye(5)[label] + generator.gumbel(size=(len(label), 5))
        labels.append(torch.from_numpy(label))
        logits.append(torch.from_numpy(scores).float())
    return logits, labels


@pytest.mark.parametrize("name", ["forward_backward", "viterbi"])
def test_decoding_gets_more_frames_right_than_each_frame_alone(name: str) -> None:
    logits, labels = noisy_speech(0)
    chain = StateChain.count(store_of([y.tolist() for y in noisy_speech(1)[1]], 5))
    plain = Decoder(name, chain, Scales())
    decoder = choose_scales(plain, plain.evidence(logits, []), labels)
    frames = sum(map(len, labels))
    alone = sum(int((x.argmax(dim=1) == y).sum()) for x, y in zip(logits, labels, strict=True)) / frames
    decoded = sum(int((p == y).sum()) for p, y in zip(decoder(logits), labels, strict=True)) / frames
    assert decoded > alone + 0.15


def test_scales_that_are_given_are_kept() -> None:
    logits, labels = noisy_speech(0)
    plain = Decoder("viterbi", random_chain(5, 0), Scales())
    evidence = plain.evidence(logits, [])
    scales = choose_scales(plain, evidence, labels, {"acoustic": [0.35], "prior": [0.15]}).scales
    assert scales == Scales(acoustic=0.35, prior=0.15)


def test_no_scale_near_the_chosen_ones_gets_more_right() -> None:
    logits, labels = noisy_speech(0)
    chain = StateChain.count(store_of([y.tolist() for y in noisy_speech(1)[1]], 5))
    plain = Decoder("forward_backward", chain, Scales())
    grid = {"acoustic": (0.05, 0.2, 0.5, 1.0, 2.0), "prior": (0.0, 0.5, 1.0)}
    decoder = choose_scales(plain, plain.evidence(logits, []), labels, grid, rounds=9)

    def right(decoder: Decoder) -> int:
        return sum(int((p == y).sum()) for p, y in zip(decoder(logits), labels, strict=True))

    most = right(decoder)
    assert most > right(plain)
    for name, values in grid.items():
        for value in values:
            assert right(replace(decoder, scales=replace(decoder.scales, **{name: value}))) <= most


def test_scores_are_those_of_the_formula() -> None:
    chain = random_chain(138, 0)
    decoder = Decoder("forward_backward", chain, Scales(acoustic=0.4, prior=0.3, state=0.5, mixture=0.2))
    posteriors, mixture = torch.randn(7, 138).log_softmax(dim=1), torch.randn(7, 138)
    known = decoder.evidence([posteriors + 3], [])
    prior = Evidence.split(chain.prior.log().float()[None], [1])
    scores = replace(known, mixture=mixture).weigh(decoder.scales, prior)
    for t, state in ((0, 0), (3, 109), (6, 137)):
        phoneme = slice(state // 3 * 3, state // 3 * 3 + 3)
        log_q = posteriors[t, phoneme].logsumexp(dim=0)
        log_prior_q = chain.prior[phoneme].sum().log()
        within = posteriors[t, state] - log_q - 0.3 * (chain.prior[state].log() - log_prior_q)
        expected = 0.4 * (log_q - 0.3 * log_prior_q + 0.5 * within) + 0.2 * mixture[t, state]
        assert float(scores[t, state]) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", ["forward_backward", "trigram"])
def test_the_more_the_likeliest_path_counts_the_less_do_others(name: str) -> None:
    logits, labels = noisy_speech(3)
    store = store_of([y.tolist() for y in noisy_speech(1)[1]], 5)
    chain = StateChain.count(store) if name == "forward_backward" else PhonemeTrigram.count(store)
    scales = Scales(acoustic=1.0, prior=0.0)
    likeliest = Decoder("viterbi", StateChain.count(store), scales)(logits)
    shares = []
    for path in (1.0, 4.0):
        decoded = Decoder(name, chain, replace(scales, path=path))(logits)
        same = sum(int((ours == theirs).sum()) for ours, theirs in zip(decoded, likeliest, strict=True))
        shares.append(same / sum(map(len, labels)))
    assert shares[0] < shares[1]
    if name == "forward_backward":  # the trigram's likeliest path need not be the chain's
        assert shares[1] > 0.98


@pytest.mark.parametrize(("path", "smoothing"), [(3.0, 1e-6), (5.0, 1e-9)])
@pytest.mark.parametrize("name", ["forward_backward", "trigram"])
def test_paths_that_count_more_stay_safe_where_nothing_was_seen(
    name: str, path: float, smoothing: float
) -> None:
    count = {"forward_backward": StateChain.count, "trigram": PhonemeTrigram.count}[name]
    chain = count(store_of([[0, 1, 2] * 5000], 6), smoothing=smoothing)
    logits = torch.full((3000, 6), -200.0)
    logits[torch.arange(3000), torch.arange(3000) // 7 % 6] = 200.0  # what never was follows what cannot be
    (states,) = Decoder(name, chain, Scales(acoustic=1.4, prior=1.0, path=path))([logits])
    assert states.shape == (3000,)
    scores = [1.4 * path * logits]
    powered = replace(chain, **{k: v**path for k, v in vars(chain).items() if k != "prior"})
    decode = decode_marginals if name == "forward_backward" else decode_trigram
    assert decode(powered, scores)[0].isfinite().all()


def test_a_single_path_has_no_scale() -> None:
    settings = DecodeConfig(name="viterbi", gaussians=0)
    logits, labels = noisy_speech(0)
    train = store_of([y.tolist() for y in noisy_speech(1)[1]], 5)
    decoder = fit_decoder(settings, train, logits, labels, [])
    assert decoder is not None
    assert decoder.scales.path == 1
    for name, path in (("viterbi", 2.0), ("argmax", 1.0), ("trigram", 0.0), ("trigram", float("inf"))):
        with pytest.raises(ValueError, match=rf"decode.path_scale={path}: expected"):
            DecodeConfig(name=name, path_scale=path)


@pytest.mark.parametrize("scale", ["acoustic", "prior", "state", "mixture", "edge"])
def test_where_each_frame_decides_alone_there_is_nothing_to_weigh(scale: str) -> None:
    with pytest.raises(ValueError, match=rf"decode.{scale}_scale=1.0: expected null where decode=argmax"):
        DecodeConfig(name="argmax", **{f"{scale}_scale": 1.0})  # type: ignore[arg-type]


def test_a_grammar_scale_is_a_trigrams() -> None:
    for name, grammar in (("forward_backward", 1.5), ("viterbi", 1.0), ("trigram", 0.0), ("trigram", 3.5)):
        with pytest.raises(ValueError, match=rf"decode.grammar_scale={grammar}: expected"):
            DecodeConfig(name=name, grammar_scale=grammar)
    assert DecodeConfig(name="trigram", grammar_scale=1.5).grammar_scale == 1.5


def test_a_decoder_survives_its_checkpoint_and_ignores_constants() -> None:
    logits, _ = noisy_speech(2)
    decoder = Decoder("forward_backward", random_chain(5, 0), Scales())
    again = Decoder.from_state(decoder.state())
    shifted = [frames + torch.randn(len(frames), 1) for frames in logits]
    for ours, theirs in zip(decoder(logits), again(shifted), strict=True):
        assert torch.equal(ours, theirs)


def test_paths_that_count_more_than_float32_can_hold_are_said() -> None:
    chain = PhonemeTrigram.count(store_of([[0, 1, 2] * 500], 138), smoothing=1e-9)
    logits = torch.full((300, 138), -200.0)
    logits[torch.arange(300), torch.arange(300) // 7 * 7 % 138] = 200.0
    with pytest.raises(
        ValueError, match=r"decode\.path_scale=5 and decode\.grammar_scale=1: what was never seen"
    ):
        Decoder("trigram", chain, Scales(acoustic=1.4, prior=1.0, path=5.0))([logits])
    plain = Decoder("trigram", chain, Scales(acoustic=1.4, prior=1.0))
    evidence, labels = plain.evidence([logits], []), [logits.argmax(dim=1)]
    chosen = choose_scales(plain, evidence, labels, {"path": (5.0, 1.0)})  # no choice that ends a run
    assert chosen.scales.path == 1


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_while_decoding_alone(before: bool) -> None:
    smallest = torch.full((1,), 2.0**-126)

    def are_flushed() -> bool:
        return bool(smallest / 2 == 0)

    torch.set_flush_denormal(before)
    try:
        with flushed_denormals():
            assert are_flushed()
        assert are_flushed() == before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("name", ["forward_backward", "trigram"])
def test_what_is_flushed_decides_on_nothing(name: str) -> None:
    count = {"forward_backward": StateChain.count, "trigram": PhonemeTrigram.count}[name]
    chain = count(store_of([[0, 1, 2, 3, 4, 5] * 50, [3, 1, 4, 1, 5, 2] * 50], 6))
    powered = replace(chain, **{k: v**3 for k, v in vars(chain).items() if k != "prior"})
    (scores,) = random_scores([400], 6, 8, scale=12.0)
    decode = decode_marginals if name == "forward_backward" else decode_trigram
    flushed = decode(powered, [scores])[0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "set_flush_denormal", lambda mode: None)
        exact = decode(powered, [scores])[0]
    torch.testing.assert_close(flushed, exact, rtol=1e-5, atol=1e-20)
