"""Moments that outliers cannot break, and what is normalised by them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senone.moments import Moments, normalise_frames


def measure(*utterances: np.ndarray) -> Moments:
    return Moments.measure(utterances, len(utterances) + 1, utterances[0].shape[1])


def normalised(frames: np.ndarray) -> np.ndarray:
    moments = measure(frames)
    out = np.empty_like(frames)
    normalise_frames(frames, moments.means[0], moments.spreads[0], out)
    return out


def test_a_clean_utterance_is_normalised_by_its_mean_and_variance() -> None:
    frames = np.random.default_rng(0).normal(5, 3, (500, 40)).astype(np.float32)
    expected = (frames - frames.mean(0)) / frames.std(0)
    np.testing.assert_allclose(normalised(frames), expected, atol=2e-3)


@pytest.mark.parametrize("wild", [1e3, -1e6, 1e15])
@pytest.mark.parametrize("share", [0.002, 0.04])
def test_outlier_frames_hardly_move_the_others(wild: float, share: float) -> None:
    generator = np.random.default_rng(0)
    clean = generator.normal(5, 3, (1000, 40)).astype(np.float32)
    struck = generator.random(1000) < share
    assert struck.any()
    spoiled = clean.copy()
    spoiled[struck] = wild * generator.standard_normal((struck.sum(), 40)).astype(np.float32)
    expected, ours = normalised(clean)[~struck], normalised(spoiled)[~struck]
    naive = (spoiled - spoiled.mean(0)) / spoiled.std(0)
    assert np.abs(ours - expected).mean() < 0.12
    assert np.abs(naive[~struck] - expected).mean() > 0.5  # the plain z-score squashes them
    assert np.isfinite(normalised(spoiled)).all()


def test_an_utterance_at_the_contests_wildest_scale_is_as_any_other() -> None:
    frames = np.random.default_rng(0).normal(0, 1, (400, 40)).astype(np.float32)
    direction = np.linspace(0.5, 1.5, 40, dtype=np.float32)
    wild = 1250 * frames * direction + 700  # eigenvalue 1.58e6 in one direction
    np.testing.assert_allclose(normalised(wild), normalised(frames), atol=1e-3)


@given(
    frames=st.integers(1, 40),
    value=st.floats(-1e6, 1e6, width=32),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_normalisation_is_always_finite_and_bounded(
    frames: int, value: float, scale: float, seed: int
) -> None:
    noise = np.random.default_rng(seed).standard_normal((frames, 3))
    result = normalised((value + scale * noise).astype(np.float32))
    assert result.shape == (frames, 3)
    assert result.dtype == np.float32
    assert np.abs(result).max() <= 10


def test_digital_silence_with_a_little_speech_keeps_the_speech() -> None:
    frames = np.full((100, 4), -15.9, np.float32)
    frames[40:43] = 3.0
    result = normalised(frames)
    assert (result[40:43] > 3).all()
    assert (np.abs(result[:40]) < 0.5).all()


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (5, 3)])
def test_normalising_leaves_its_input_alone(shape: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).normal(5, 3, shape).astype(np.float32)
    before = frames.copy()
    normalised(frames)
    np.testing.assert_array_equal(frames, before)


def test_a_constant_bin_becomes_zero() -> None:
    assert (normalised(np.full((50, 3), 7.7, np.float32)) == 0).all()


def test_levels_of_few_bins_and_of_wild_frames_are_sound() -> None:
    frames = np.random.default_rng(0).normal(5, 3, (1000, 2)).astype(np.float32)
    (levels,) = measure(frames).levels
    (first, second), spreads = frames.mean(0), frames.std(0)
    assert levels == pytest.approx([first, first, second, second, *np.repeat(spreads, 2)], rel=1e-3)
    wild = frames.copy()
    wild[::100] = 1e12
    assert measure(wild).levels[0] == pytest.approx(levels, rel=0.1)


def test_moments_of_a_speaker_are_those_of_all_frames_spoken() -> None:
    generator = np.random.default_rng(0)
    first, second, other = (
        (mean + spread * generator.uniform(-1, 1, (length, 8))).astype(np.float32)
        for length, mean, spread in ((30, 5, 1), (50, 7, 2), (40, -100, 30))
    )
    pooled = measure(first, second, other).pool(np.array([0, 0, 1]))
    for index, frames in enumerate([np.concatenate([first, second]), other]):
        np.testing.assert_allclose(pooled.means[index], frames.mean(0), rtol=1e-5)
        np.testing.assert_allclose(pooled.spreads[index], frames.std(0), rtol=1e-5)
        assert pooled.frames[index] == len(frames)


def test_a_drift_is_half_of_what_lies_between_the_means_of_both_halves() -> None:
    frames = np.random.default_rng(0).normal(3, 1, (40, 4)).astype(np.float32)
    expected = (frames[:20].mean(0) - frames[20:].mean(0)) / 2
    np.testing.assert_allclose(measure(frames).drifts[0], expected, atol=1e-5)
    assert (measure(frames[:1]).drifts == 0).all()
