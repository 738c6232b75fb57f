"""Mixtures of Gaussians: cepstra, likelihoods, how they are fitted, and what they are good for."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from senone.checkpoint import load_checkpoint, save_checkpoint
from senone.config import DecodeConfig
from senone.decode import Decoder, Mixtures, fit_decoder, hear
from senone.decode.mixtures import CEPSTRA, cepstra, fit_mixture
from senone.frames import FrameStore


def store_of(utterances: list[torch.Tensor], labels: list[torch.Tensor], classes: int) -> FrameStore:
    offsets = torch.tensor([0, *np.cumsum([len(frames) for frames in utterances])])
    rows = torch.cat(utterances)
    return FrameStore.plain(rows, offsets, torch.cat(labels), 0, classes)


@pytest.mark.parametrize(("frames", "bins"), [(30, 40), (3, 40), (1, 40), (20, 5)])
def test_cepstra_are_cosines_and_lines_through_five_frames(frames: int, bins: int) -> None:
    x = np.random.default_rng(0).normal(size=(frames, bins))
    kept = min(CEPSTRA, bins)
    still = np.array(
        [
            [
                math.sqrt(2 / bins)
                * sum(row[b] * math.cos(math.pi * order * (b + 0.5) / bins) for b in range(bins))
                for order in range(kept)
            ]
            for row in x
        ]
    )

    def slopes(values: np.ndarray) -> np.ndarray:
        places = np.arange(frames)[:, None] + np.arange(-2, 3)
        around = values[places.clip(0, frames - 1)]  # (T, 5, C)
        return np.stack([np.polyfit(np.arange(-2, 3), five, 1)[0] for five in around])

    expected = np.concatenate([still, slopes(still), slopes(slopes(still))], axis=1)
    np.testing.assert_allclose(cepstra(torch.from_numpy(x).float()), expected, atol=1e-5)


@pytest.mark.parametrize("block", [7, 1024])
def test_likelihoods_are_those_of_mixtures_of_normals(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.decode.mixtures.BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    classes, count, bins = 4, 3, 6
    size = 3 * bins
    mixtures = Mixtures(
        torch.randn(classes, count, generator=generator).log_softmax(dim=1),
        torch.randn(classes, count, size, generator=generator),
        torch.rand(classes, count, size, generator=generator) + 0.5,
    )
    heard = torch.randn(20, size, generator=generator)
    scores = mixtures(heard)
    for state in range(classes):
        normals = torch.distributions.Independent(
            torch.distributions.Normal(mixtures.means[state], mixtures.precisions[state].rsqrt()), 1
        )
        weights = torch.distributions.Categorical(logits=mixtures.log_weights[state])
        expected = torch.distributions.MixtureSameFamily(weights, normals).log_prob(heard)
        torch.testing.assert_close(scores[:, state], expected, rtol=1e-4, atol=1e-3)


def test_two_clouds_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.decode.mixtures.ROUNDS", 30)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3000, 2, generator=generator) * torch.tensor([0.5, 1.0])
    values[:1000] += torch.tensor([5.0, -3.0])
    log_weights, means, precisions = fit_mixture(values, 2, values.var(dim=0))
    near = means[:, 0].argsort()
    torch.testing.assert_close(log_weights[near].exp(), torch.tensor([2 / 3, 1 / 3]), rtol=0.02, atol=0)
    expected = torch.tensor([[0.0, 0.0], [5.0, -3.0]])
    torch.testing.assert_close(means[near], expected, rtol=0, atol=0.1)
    torch.testing.assert_close(1 / precisions, torch.tensor([0.25, 1.0]).expand(2, 2), rtol=0.1, atol=0)


def test_no_gaussian_is_narrower_than_a_hundredth_of_all_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.decode.mixtures.ROUNDS", 100)
    values = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.01])
    values[::2] += torch.tensor([8.0, 0.0])
    _, _, precisions = fit_mixture(values, 2, torch.tensor([20.0, 9.0]))
    expected = torch.tensor([1.0, 0.09]).expand(2, 2)
    torch.testing.assert_close(1 / precisions, expected, rtol=0.1, atol=0)


def test_more_rounds_never_make_the_data_less_likely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.decode.mixtures.NARROWEST", 0.0)
    values = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)).cumsum(dim=1) ** 3
    found = []
    for rounds in range(8):
        monkeypatch.setattr("senone.decode.mixtures.ROUNDS", rounds)
        log_weights, means, precisions = fit_mixture(values, 8, values.var(dim=0))
        normals = torch.distributions.Independent(
            torch.distributions.Normal(means, precisions.clamp(max=1e12).rsqrt()), 1
        )
        weights = torch.distributions.Categorical(logits=log_weights)
        mixture = torch.distributions.MixtureSameFamily(weights, normals)
        found.append(float(mixture.log_prob(values).mean()))
    assert all(after > before - 1e-3 for before, after in pairwise(found))
    assert found[-1] > found[0] + 0.5


@pytest.mark.parametrize("count", [0, 1, 2, 49, 99, 100])
def test_a_state_of_few_frames_gets_few_gaussians_and_no_narrow_ones(count: int) -> None:
    values = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    log_weights, means, precisions = fit_mixture(values, 4, torch.ones(3))
    assert len(log_weights) == len(means) == len(precisions) == max(1, count // 50)
    torch.testing.assert_close(log_weights.exp().sum(), torch.tensor(1.0))
    assert means.isfinite().all()
    assert (precisions > 0).all()
    assert (precisions < 1.1 * (count + 1)).all()


def aligned_speech(seed: int, utterances: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Frames of 8 bins and labels of 138 classes: six phonemes, whose states differ by what is heard."""
    places = torch.randn(138, 8, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    frames, labels = [], []
    for _ in range(utterances):
        phonemes = torch.randint(6, (12,), generator=generator)
        states = (3 * phonemes[:, None] + torch.arange(3)).flatten()
        label = states.repeat_interleave(torch.randint(2, 9, (36,), generator=generator))
        frames.append(2 * places[label] + torch.randn(len(label), 8, generator=generator))
        labels.append(label.to(torch.uint8))
    return frames, labels


def heard_speech(seed: int, utterances: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    frames, labels = aligned_speech(seed, utterances)
    return list(hear(store_of(frames, labels, 138), range(utterances))), labels


def knows_phonemes_only(labels: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [
        3.0 * torch.nn.functional.one_hot(label.long() // 3, 46).repeat_interleave(3, dim=1)
        + torch.randn(len(label), 138, generator=generator)
        for label in labels
    ]


@pytest.mark.parametrize("name", ["forward_backward", "viterbi", "trigram"])
def test_mixtures_find_the_states_that_a_network_does_not_know(name: str, tmp_path: Path) -> None:
    train = store_of(*aligned_speech(0, 60), 138)
    heard, labels = heard_speech(1, 8)
    logits = knows_phonemes_only(labels)
    accuracy = {}
    for gaussians in (0, 4):
        decoder = fit_decoder(DecodeConfig(name=name, gaussians=gaussians), train, logits, labels, heard)
        assert decoder is not None
        decoded = decoder(logits, heard)
        right = sum(int((p == y).sum()) for p, y in zip(decoded, labels, strict=True))
        accuracy[gaussians] = right / sum(map(len, labels))
    assert accuracy[4] > accuracy[0] + 0.1
    assert accuracy[4] > 0.85
    save_checkpoint(
        tmp_path / "best.pt",
        {"config": {}, "num_bins": 8, "num_classes": 138, "model": {}, "decode": decoder.state()},
    )
    again = Decoder.from_state(load_checkpoint(tmp_path / "best.pt")["decode"])
    assert again.scales == decoder.scales
    for ours, theirs in zip(again(logits, heard), decoded, strict=True):
        assert torch.equal(ours, theirs)


def test_mixtures_that_say_nothing_are_left_out() -> None:
    frames, labels = aligned_speech(0, 6)
    silent = [torch.zeros_like(x) for x in frames]
    train = store_of(silent, labels, 138)
    decoder = fit_decoder(
        DecodeConfig(name="forward_backward"),
        train,
        knows_phonemes_only(labels),
        labels,
        hear(train, range(6)),
    )
    assert decoder is not None
    assert decoder.mixtures is None
    assert decoder.scales.mixture == 0


def test_a_scale_that_is_given_is_kept_and_needs_its_mixtures() -> None:
    frames, labels = aligned_speech(0, 6)
    settings, train = DecodeConfig(name="forward_backward", mixture_scale=0.15), store_of(frames, labels, 138)
    decoder = fit_decoder(settings, train, knows_phonemes_only(labels), labels, hear(train, range(6)))
    assert decoder is not None
    assert decoder.mixtures is not None
    assert decoder.scales.mixture == 0.15
    with pytest.raises(ValueError, match=r"mixture_scale=0.15: expected null or 0 where decode"):
        DecodeConfig(mixture_scale=0.15, gaussians=0)


def test_fitting_gives_the_same_again_and_wild_frames_stay_finite() -> None:
    frames, labels = aligned_speech(0, 10)
    frames[3][5:9] = 1e30
    train = store_of(frames, labels, 138)
    mixtures, again = Mixtures.fit(train, 4), Mixtures.fit(train, 4)
    for ours, theirs in zip(vars(mixtures).values(), vars(again).values(), strict=True):
        assert torch.equal(ours, theirs)
    for heard in hear(train, range(10)):
        assert mixtures(heard).isfinite().all()


def test_a_large_store_is_fitted_on_speakers_from_all_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senone.decode.mixtures.FRAMES", 500)
    frames, labels = aligned_speech(0, 12)
    read: list[int] = []
    store = replace(store_of(frames, labels, 138), speakers=torch.arange(12) // 2)
    original = FrameStore.original
    monkeypatch.setattr(
        FrameStore, "original", lambda self, index: (read.append(index), original(self, index))[1]
    )
    Mixtures.fit(store, 2)
    every = -(-store.num_frames // 500)
    assert read == [index for index in range(12) if index // 2 % every == 0]
    assert 2 < len(read) < 12


def test_what_is_heard_has_mean_0_and_variance_1_over_each_speaker() -> None:
    frames, labels = aligned_speech(0, 5)
    frames = [3 * x + index for index, x in enumerate(frames)]
    store = replace(store_of(frames, labels, 138), speakers=torch.tensor([0, 0, 1, 1, 1]))
    heard = list(hear(store, range(5)))
    for members in ([0, 1], [2, 3, 4]):
        plain = torch.cat([cepstra(frames[index]) for index in members])
        expected = (plain - plain.mean(dim=0)) / plain.std(dim=0, correction=0)
        ours = torch.cat([heard[index] for index in members])
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
    some = [1, 4, 2]  # of the others is known what they are normalised by
    for ours, index in zip(hear(store, some), some, strict=True):
        assert torch.equal(ours, heard[index])


def test_a_bin_that_never_changes_is_heard_as_nothing() -> None:
    (heard,) = hear(store_of([torch.full((9, 5), 2.0)], [torch.zeros(9)], 2), [0])
    torch.testing.assert_close(heard, torch.zeros(9, 15), rtol=0, atol=1e-2)
