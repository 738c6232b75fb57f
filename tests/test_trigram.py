"""The chain that remembers the phoneme before, against the plain chain over all pairs of phonemes."""

from itertools import product

import pytest
import torch

from senone.config import DecodeConfig
from senone.decode import Decoder, PhonemeTrigram, Scales, decode_trigram, fit_decoder
from senone.decode import trigram as module
from senone.decode.trigram import witten_bell
from senone.frames import FrameStore


def shares(*shape: int, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.rand(*shape, generator=generator, dtype=torch.float64) ** 2 + 1e-3
    return drawn / drawn.sum(dim=-1, keepdim=True)


def random_trigram(phonemes: int, states: int, seed: int) -> PhonemeTrigram:
    generator = torch.Generator().manual_seed(seed)
    following = shares(phonemes, phonemes, phonemes, generator=generator)
    following = following * ~torch.eye(phonemes, dtype=torch.bool)[:, None, :]
    return PhonemeTrigram(
        shares(phonemes * states, generator=generator),
        shares(phonemes * states, generator=generator),
        shares(phonemes, generator=generator),
        shares(phonemes, states, generator=generator),
        shares(phonemes, states, states + 1, generator=generator),
        following / following.sum(dim=-1, keepdim=True),
    )


def spelled_out(chain: PhonemeTrigram, scores: torch.Tensor) -> torch.Tensor:
    """(T, K) float64 marginals by the recursions of the books, in the log domain, over all Q*Q*S combinations
    of the phoneme before, phoneme and state, each transition written down by its meaning."""
    count, size = chain.entering.shape
    places = list(product(range(count), range(count), range(size)))  # (before, phoneme, state)
    transitions = torch.zeros(len(places), len(places), dtype=torch.float64)
    initial = torch.zeros(len(places), dtype=torch.float64)
    for i, (p, q, s) in enumerate(places):
        if p == q:  # nothing came before
            initial[i] = chain.first[q] * chain.entering[q, s]
        for j, (before, r, z) in enumerate(places):
            if (before, r) == (p, q):
                transitions[i, j] = chain.ways[q, s, z]
            elif before == q and r != q:
                transitions[i, j] = chain.ways[q, s, size] * chain.following[q, p, r] * chain.entering[r, z]
    torch.testing.assert_close(transitions.sum(dim=1), torch.ones(len(places), dtype=torch.float64))
    state = torch.tensor([q * size + s for _, q, s in places])
    log_b, log_a = scores.double()[:, state], transitions.log()
    forward = [initial.log() + log_b[0]]
    for t in range(1, len(scores)):
        forward.append((forward[-1][:, None] + log_a).logsumexp(dim=0) + log_b[t])
    backward = [torch.zeros(len(places), dtype=torch.float64)]
    for t in range(len(scores) - 1, 0, -1):
        backward.append((log_a + log_b[t] + backward[-1]).logsumexp(dim=1))
    both = (torch.stack(forward) + torch.stack(backward[::-1])).softmax(dim=1)
    return torch.zeros(len(scores), count * size, dtype=torch.float64).index_add_(1, state, both)


@pytest.mark.parametrize(("phonemes", "states"), [(4, 3), (5, 1), (2, 2)])
def test_marginals_are_those_of_the_chain_spelled_out(phonemes: int, states: int) -> None:
    chain = random_trigram(phonemes, states, 0)
    generator = torch.Generator().manual_seed(1)
    lengths = [1, 2, 7, 23, 23, 40]
    scores = [2 * torch.randn(length, phonemes * states, generator=generator) for length in lengths]
    for marginals, utterance in zip(decode_trigram(chain, scores), scores, strict=True):
        torch.testing.assert_close(marginals.double(), spelled_out(chain, utterance), rtol=1e-3, atol=1e-6)


def test_the_bounds_of_segments_and_batches_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = random_trigram(4, 3, 2)
    generator = torch.Generator().manual_seed(3)
    scores = [torch.randn(length, 12, generator=generator) for length in (1, 9, 10, 11, 64, 31, 30)]
    whole = decode_trigram(chain, scores)
    monkeypatch.setattr(module, "SEGMENT", 10)
    monkeypatch.setattr(module, "TOGETHER", 3)
    for ours, theirs in zip(decode_trigram(chain, scores), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_long_utterance_of_certain_and_impossible_frames_is_safe() -> None:
    chain = random_trigram(3, 2, 4)
    scores = torch.randn(3000, 6) * 3
    scores[::7] = torch.tensor([0.0, -1e4, -1e4, -1e4, -1e4, -1e4])
    scores[3::7] = torch.tensor([-1e4, -1e4, -1e4, -1e4, -1e4, 0.0])
    (marginals,) = decode_trigram(chain, [scores])
    assert torch.isfinite(marginals).all()
    torch.testing.assert_close(marginals.sum(dim=1), torch.ones(3000), rtol=1e-4, atol=1e-4)
    assert (marginals[::7].argmax(dim=1) == 0).all()


def store_of(utterances: list[list[int]], classes: int) -> FrameStore:
    lengths = torch.tensor([0, *(len(labels) for labels in utterances)])
    labels = torch.tensor([label for labels in utterances for label in labels], dtype=torch.uint8)
    rows = torch.zeros(len(labels) + 2 * len(utterances), 1)
    return FrameStore.plain(rows, lengths.cumsum(0), labels, 1, classes)


def test_what_is_counted_is_what_was_said() -> None:
    """Phonemes of one state: 0 0 1 2 2 and 1 1 2 0."""
    chain = PhonemeTrigram.count(store_of([[0, 0, 1, 2, 2], [1, 1, 2, 0]], 3), smoothing=1e-9)
    torch.testing.assert_close(chain.first, torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64))
    stays = torch.tensor([1 / 2, 1 / 3, 1 / 2], dtype=torch.float64)  # the last frames lead nowhere
    torch.testing.assert_close(chain.ways[:, 0, 0], stays)
    torch.testing.assert_close(chain.ways.sum(dim=2), torch.ones(3, 1, dtype=torch.float64))
    torch.testing.assert_close(chain.following.sum(dim=2), torch.ones(3, 3, dtype=torch.float64))
    assert (chain.following.diagonal(dim1=0, dim2=2) == 0).all()
    assert (chain.following[1, :, 2] > 0.8).all()  # 2 came after each 1, whatever came before
    assert chain.following[2, 1, 0] > 0.5  # after 1, 2 came 0
    assert (chain.following[~torch.eye(3, dtype=torch.bool)[:, None].expand(3, 3, 3)] > 0).all()


def test_witten_bell_leaves_as_much_for_the_unseen_as_there_are_kinds() -> None:
    counts = torch.tensor([[4.0, 1.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    shorter = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).expand(2, 3)
    smoothed = witten_bell(counts, shorter, torch.ones(3, dtype=torch.bool))
    first = (counts[0] + 2 * shorter[0]) / 7
    torch.testing.assert_close(smoothed, torch.stack([first, shorter[1]]))
    possible = torch.tensor([True, True, False])
    assert (witten_bell(counts * possible, shorter, possible)[:, 2] == 0).all()


def cyclic_speech(utterances: int) -> list[list[int]]:
    """What comes after 1 depends on what came before it: 0 1 2 or 3 1 4."""
    generator = torch.Generator().manual_seed(5)
    said = []
    for _ in range(utterances):
        words = torch.randint(2, (8,), generator=generator).tolist()
        phonemes = [phoneme for word in words for phoneme in ((0, 1, 2) if word else (3, 1, 4))]
        said.append([phoneme for phoneme in phonemes for _ in range(3)])
    return said


def test_the_phoneme_before_decides_where_the_sound_does_not() -> None:
    said = cyclic_speech(40)
    store = store_of(said, 5)
    generator = torch.Generator().manual_seed(6)
    labels = [torch.tensor(utterance) for utterance in said[:10]]
    logits = []
    for truth in labels:
        heard = torch.where(truth == 4, 2, truth)  # 2 and 4 sound alike
        clear = 3.0 * torch.nn.functional.one_hot(heard, 5)
        clear[:, 4] = clear[:, 2]
        logits.append(clear + 0.5 * torch.randn(len(truth), 5, generator=generator))
    accuracy = {}
    for name in ("forward_backward", "trigram"):
        decoder = fit_decoder(DecodeConfig(name=name, gaussians=0), store, logits, labels, [])
        assert decoder is not None
        decoded = decoder(logits)
        accuracy[name] = sum(int((p == y).sum()) for p, y in zip(decoded, labels, strict=True)) / 720
    assert accuracy["forward_backward"] < 0.9
    assert accuracy["trigram"] > 0.97


def test_a_sharper_trigram_is_less_often_talked_into_what_seldom_follows() -> None:
    chain = random_trigram(4, 3, 0)
    sharp = chain.sharpened(2.0)
    sums = torch.ones(4, 4, dtype=torch.float64)
    torch.testing.assert_close(sharp.following.sum(dim=2), sums)
    torch.testing.assert_close(chain.sharpened(1.0).following, chain.following)
    ratio, was = (part.following[1, 0, 2] / part.following[1, 0, 3] for part in (sharp, chain))
    torch.testing.assert_close(ratio, was.square())
    scores = torch.randn(40, 12, generator=torch.Generator().manual_seed(1))
    ours = Decoder("trigram", chain, Scales(acoustic=1.0, prior=0.0, grammar=2.0))
    again = Decoder("trigram", sharp, Scales(acoustic=1.0, prior=0.0))
    assert torch.equal(ours([scores])[0], again([scores])[0])


def test_a_decoder_comes_back_from_its_checkpoint() -> None:
    said = cyclic_speech(10)
    store = store_of(said, 5)
    logits = [torch.randn(len(utterance), 5) for utterance in said[:3]]
    labels = [torch.tensor(utterance) for utterance in said[:3]]
    decoder = fit_decoder(DecodeConfig(name="trigram", gaussians=0), store, logits, labels, [])
    assert decoder is not None
    again = Decoder.from_state(decoder.state())
    for ours, theirs in zip(again(logits), decoder(logits), strict=True):
        assert torch.equal(ours, theirs)
    assert fit_decoder(DecodeConfig(name="argmax"), store, logits, labels, []) is None
    settings = DecodeConfig(
        acoustic_scale=0.35,
        prior_scale=0.15,
        state_scale=0.8,
        path_scale=1.5,
        grammar_scale=1.2,
        gaussians=0,
    )
    given = fit_decoder(settings, store, logits, labels, [])
    assert given is not None
    assert given.scales == Scales(acoustic=0.35, prior=0.15, state=0.8, mixture=0.0, path=1.5, grammar=1.2)
