"""Ways through states that are known, and mixtures that are tuned to where labels have their edges."""

from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import pytest
import torch

from senone.checkpoint import load_checkpoint, save_checkpoint
from senone.config import DecodeConfig
from senone.decode import Decoder, Mixtures, PhonemeTrigram, Scales, StateChain, fit_decoder, hear, tune
from senone.decode.alignment import RESET, align, occupancies, runs
from senone.frames import FrameStore


def all_ways(frames: int, states: torch.Tensor) -> list[torch.Tensor]:
    """Every (T,) way through (S,) states that takes each for a frame or more."""
    cuts = combinations(range(1, frames), len(states) - 1)
    return [
        torch.cat(
            [s.repeat(end - start) for s, (start, end) in zip(states, pairwise([0, *c, frames]), strict=True)]
        )
        for c in cuts
    ]


SEQUENCES = [[1], [2, 0], [0, 1, 0, 1], [3, 3, 2], [4, 0, 1, 2, 3]]
LENGTHS = [1, 9, 8, 5, 5]


def some_scores() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    scores = [3 * torch.randn(length, 5, generator=generator) for length in LENGTHS]
    return scores, [torch.tensor(states) for states in SEQUENCES]


@pytest.mark.parametrize("batch", [2, 64])
def test_the_way_found_is_the_likeliest_of_all(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.decode.alignment.BATCH", batch)
    scores, sequences = some_scores()
    for found, frames, states in zip(align(scores, sequences), scores, sequences, strict=True):
        ways = all_ways(len(frames), states)
        best = max(ways, key=lambda way: float(frames[range(len(way)), way].sum()))
        assert torch.equal(found, best)


def test_occupancies_are_the_shares_of_all_ways() -> None:
    scores, sequences = some_scores()
    for found, frames, states in zip(occupancies(scores, sequences), scores, sequences, strict=True):
        expected = torch.zeros(len(frames), 5, dtype=torch.float64)
        each = torch.arange(len(frames))
        for way in all_ways(len(frames), states):
            expected[each, way] += frames.double()[each, way].sum().exp()
        expected /= expected.sum(dim=1, keepdim=True)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_an_utterance_of_one_state_has_one_way() -> None:
    scores = [torch.randn(7, 5), torch.randn(1, 5)]
    sequences = [torch.tensor([3]), torch.tensor([2])]
    for found, shares, states in zip(
        align(scores, sequences), occupancies(scores, sequences), sequences, strict=True
    ):
        assert set(found.tolist()) == {int(states)}
        torch.testing.assert_close(shares[:, int(states)], torch.ones(len(found)))


def test_long_ways_lose_nothing_to_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = 30_000
    states = torch.tensor([0, 1, 0])
    edges = [0, 10_001, 20_003, frames]
    truth = torch.cat([s.repeat(b - a) for s, (a, b) in zip(states, pairwise(edges), strict=True)])
    scores = torch.randn(frames, 2, generator=generator) - 300.0
    scores[torch.arange(frames), truth] += 8
    (way,) = align([scores], [states])
    assert torch.equal(way, truth)
    (shares,) = occupancies([scores], [states])
    assert shares.isfinite().all()
    near = slice(edges[1] - 3, edges[1] + 3)  # by an oracle that knows where else the edge cannot be
    totals = [scores[near].double()[range(6), [0] * cut + [1] * (6 - cut)].sum() for cut in range(1, 6)]
    expected = torch.stack(totals).softmax(dim=0).cumsum(dim=0)
    torch.testing.assert_close(shares[near, 1][1:].double(), expected, rtol=2e-3, atol=1e-5)
    assert frames > 10 * RESET


def spoken(seed: int, utterances: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Frames of 12 bins, in which one state runs into the next, and their states: 30, of ten phonemes."""
    places = 1.2 * torch.randn(30, 12, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    frames, paths = [], []
    for _ in range(utterances):
        phonemes = torch.randint(10, (8,), generator=generator)
        states = runs((3 * phonemes[:, None] + torch.arange(3)).flatten())
        path = states.repeat_interleave(torch.randint(3, 9, (len(states),), generator=generator))
        still = torch.stack([places[path], places[path.roll(2)], places[path.roll(-2)]]).mean(dim=0)
        frames.append(still + 1.8 * torch.randn(len(path), 12, generator=generator))
        paths.append(path)
    return frames, paths


@cache
def aligner() -> Mixtures:
    """Who hardly hears the frames' slopes, which a fit to his labels cannot know."""
    fitted = Mixtures.fit(store_of(*spoken(0, 100)), 2)
    faint = torch.where(torch.arange(36) < 12, 1.0, 1e-3)
    return replace(fitted, precisions=fitted.precisions * faint)


def aligned(seed: int, utterances: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Spoken frames, and labels that the aligner gave them who knew their states."""
    frames, paths = spoken(seed, utterances)
    heard = hear(store_of(frames, paths), range(utterances))
    return frames, align([aligner()(x) for x in heard], [runs(path) for path in paths])


def store_of(frames: list[torch.Tensor], labels: list[torch.Tensor]) -> FrameStore:
    offsets = torch.tensor([0, *map(len, frames)]).cumsum(0)
    return FrameStore.plain(torch.cat(frames), offsets, torch.cat(labels), 0, 30)


def share_aligned(mixtures: Mixtures, frames: list[torch.Tensor], labels: list[torch.Tensor]) -> float:
    heard = hear(store_of(frames, labels), range(len(frames)))
    ways = align([mixtures(x) for x in heard], [runs(each) for each in labels])
    return float((torch.cat(ways) == torch.cat(labels)).double().mean())


def test_tuned_mixtures_find_the_edges_of_other_speech_too() -> None:
    train, dev = aligned(2, 300), aligned(1, 20)
    store = store_of(*train)
    fitted = Mixtures.fit(store, 2)
    before = [part.clone() for part in vars(fitted).values()]
    tuned = tune(fitted, store, 6)
    for part, was in zip(vars(fitted).values(), before, strict=True):
        assert torch.equal(part, was)
    assert share_aligned(tuned, *train) > share_aligned(fitted, *train) + 0.02
    assert share_aligned(tuned, *dev) > share_aligned(fitted, *dev) + 0.01
    again = tune(fitted, store, 6)
    for ours, theirs in zip(vars(again).values(), vars(tuned).values(), strict=True):
        assert torch.equal(ours, theirs)


def test_mixtures_from_several_beginnings_hear_together() -> None:
    store, (frames, labels) = store_of(*spoken(2, 60)), spoken(1, 3)
    mixtures = [
        Mixtures.fit(store, 4, None if seed is None else torch.Generator().manual_seed(seed))
        for seed in (None, 1, 2, 1)
    ]
    means = [each.means for each in mixtures]
    assert torch.equal(means[1], means[3])
    for first, second in combinations(means[:3], 2):
        assert not torch.allclose(first, second, atol=0.01)
    store = store_of(frames, labels)
    heard, logits = list(hear(store, range(3))), knows_phonemes(labels)
    decoder = Decoder("viterbi", StateChain.count(store, 1.0), Scales(edge=1.0), edges=tuple(mixtures[:3]))
    known = decoder.evidence(logits, heard)
    assert known.mixture is None
    assert known.edge is not None
    for edge, x in zip(known.edge.split(known.lengths), heard, strict=True):
        torch.testing.assert_close(edge, sum(each(x) for each in mixtures[:3]) / 3)


def knows_phonemes(labels: list[torch.Tensor]) -> list[torch.Tensor]:
    """(T, 30) logits of a network that hears which phonemes follow each other, two frames late and blurred,
    and nothing of the states in them."""
    logits = []
    for label in labels:
        said = torch.nn.functional.one_hot(label.roll(2) // 3, 10).float().T  # (10, T)
        blurred = torch.nn.functional.avg_pool1d(said, 5, 1, 2, count_include_pad=False).T
        logits.append((blurred + 0.02).log().repeat_interleave(3, dim=1))
    return logits


@pytest.mark.parametrize("name", ["forward_backward", "viterbi", "trigram"])
def test_states_are_put_where_an_aligner_would_have_put_them(name: str, tmp_path: Path) -> None:
    train, (frames, labels) = store_of(*aligned(2, 300)), aligned(1, 20)
    heard, logits = list(hear(store_of(frames, labels), range(20))), knows_phonemes(labels)
    accuracy = {}
    for tuning in (0, 6):
        settings = DecodeConfig(name=name, gaussians=2, tuning=tuning)
        decoder = fit_decoder(settings, train, logits, labels, heard)
        assert decoder is not None
        assert len(decoder.edges) == (3 if tuning else 0)
        assert (decoder.scales.edge > 0) == (tuning > 0)
        decoded = decoder(logits, heard)
        accuracy[tuning] = float((torch.cat(decoded) == torch.cat(labels)).double().mean())
    assert accuracy[6] > accuracy[0] + 0.005
    content = {"config": {}, "num_bins": 12, "num_classes": 30, "model": {}, "decode": decoder.state()}
    save_checkpoint(tmp_path / "best.pt", content)
    again = Decoder.from_state(load_checkpoint(tmp_path / "best.pt")["decode"])
    assert again.scales == decoder.scales
    for ours, theirs in zip(again(logits, heard), decoded, strict=True):
        assert torch.equal(ours, theirs)
    (alone,) = decoder(logits[3:4], heard[3:4])
    assert torch.equal(alone, decoded[3])


def test_mixtures_are_tuned_where_labels_are_an_aligners_or_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuned: list[int] = []
    monkeypatch.setattr(
        "senone.decode.fitting.tune", lambda mixtures, store, rounds: (tuned.append(rounds), mixtures)[1]
    )
    frames, states = spoken(2, 20)
    generator = torch.Generator().manual_seed(0)
    drawn = [  # states that follow each other as before, each for as long as chance will have it
        runs(path).repeat_interleave(
            torch.bincount(
                torch.randint(len(runs(path)), (len(path) - len(runs(path)),), generator=generator),
                minlength=len(runs(path)),
            )
            + 1
        )
        for path in states
    ]
    for labels, asked, expected in (
        (aligned(2, 20)[1], None, [3, 3]),
        (aligned(2, 20)[1], 0.0, []),
        (drawn, None, []),
        (drawn, 10.0, [3, 3]),
    ):
        tuned.clear()
        settings = DecodeConfig(
            name="forward_backward", gaussians=2, tuning=3, edge_mixtures=2, edge_scale=asked
        )
        store, logits = store_of(frames, labels), knows_phonemes(labels)
        decoder = fit_decoder(settings, store, logits, labels, hear(store, range(20)))
        assert decoder is not None
        assert tuned == expected
        if asked is not None:
            assert decoder.scales.edge == asked


def test_settings_of_edges_are_checked() -> None:
    with pytest.raises(ValueError, match=r"decode.tuning=-1: expected 0 .* or more"):
        DecodeConfig(tuning=-1)
    with pytest.raises(ValueError, match=r"decode.edge_mixtures=0: expected 1 or more"):
        DecodeConfig(edge_mixtures=0)
    for settings in ({"tuning": 0}, {"gaussians": 0}):
        with pytest.raises(ValueError, match=r"decode.edge_scale=1.0: expected null or 0 where decode"):
            DecodeConfig(edge_scale=1.0, **settings)  # type: ignore[arg-type]
        DecodeConfig(edge_scale=0.0, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["forward_backward", "viterbi", "trigram"])
def test_an_utterance_ends_as_those_of_train_do(name: str) -> None:
    labels = [torch.tensor([0] * 5 + [1] * 5 + [2] * 5)] * 9
    store = FrameStore.plain(torch.zeros(135, 2), 15 * torch.arange(10), torch.cat(labels), 0, 6)
    chain = (PhonemeTrigram if name == "trigram" else StateChain).count(store)
    assert chain.final.argmax() == 2
    torch.testing.assert_close(chain.final.sum(), torch.tensor(1.0, dtype=torch.float64))
    doubtful = torch.zeros(15, 6)
    doubtful[torch.arange(15), labels[0]] = 4.0
    doubtful[10:, 1] = 4.5  # all of the last state's frames sound a little more like the one before
    anywhere = replace(chain, final=torch.full_like(chain.final, 1 / 6))
    for counted, ends_in in ((chain, 2), (anywhere, 1)):
        (states,) = Decoder(name, counted, Scales(acoustic=1.0, prior=0.0))([doubtful])
        assert states[-1] == ends_in
