"""Whose utterances stand side by side."""

import numpy as np
import pytest

from senone.speakers import LONGEST, find_speakers


def voices(counts: list[int], seed: int = 0, bins: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Means and drifts of utterances: a speaker's bins are smooth over frequency, what he says moves them."""
    generator = np.random.default_rng(seed)
    smooth = np.exp(-0.5 * np.square((np.arange(bins) - np.arange(bins)[:, None]) / 3))

    def draw(deviation: float, count: int) -> np.ndarray:
        return deviation * generator.standard_normal((count, bins)) @ smooth

    speakers = np.repeat(draw(1.0, len(counts)), counts, axis=0)
    return speakers + draw(0.3, sum(counts)), draw(0.3, sum(counts))


COUNTS = [20, 1, 7, 33, 12, 2, 20, 20, 5]


def test_speakers_are_cut_where_the_voice_changes() -> None:
    found = find_speakers(*voices(COUNTS))
    np.testing.assert_array_equal(found, np.repeat(np.arange(len(COUNTS)), COUNTS))


def test_level_is_no_voice() -> None:
    means, drifts = voices(COUNTS)
    louder = np.random.default_rng(1).normal(0, 30, (len(means), 1))
    np.testing.assert_array_equal(find_speakers(means + louder, drifts), find_speakers(means, drifts))


def test_utterances_of_speakers_in_no_order_stand_alone() -> None:
    means, drifts = voices([20] * 20)
    mixed = np.random.default_rng(1).permutation(400)
    found = find_speakers(means[mixed], drifts[mixed])
    assert found.max() > 300  # two of a speaker, or of two who sound alike, meet now and then


def test_one_speaker_is_one_and_a_very_long_one_is_several() -> None:
    assert find_speakers(*voices([50])).max() == 0
    found = find_speakers(*voices([LONGEST + 50]))
    assert found.max() == 1


def test_an_utterance_in_other_units_stands_alone_and_does_the_others_no_harm() -> None:
    means, drifts = voices(COUNTS)
    expected = np.repeat(np.arange(len(COUNTS)), COUNTS)
    means[45] *= 1e4
    drifts[45] *= 1e4
    found = find_speakers(means, drifts)
    assert found[44] < found[45] < found[46]
    others = np.delete(np.arange(len(means)), 45)
    changes = np.flatnonzero(np.diff(expected[others]))
    np.testing.assert_array_equal(np.setdiff1d(np.flatnonzero(np.diff(found[others])), changes), [44])


@pytest.mark.parametrize("bins", [1, 2, 5, 40])
@pytest.mark.parametrize("count", [1, 2, 5, 300])
@pytest.mark.parametrize("value", [0.0, -15.9, 1e12])
@pytest.mark.parametrize("drift", [0.0, 1e-3, 1e12])
def test_few_or_like_utterances_get_speakers_in_file_order(
    bins: int, count: int, value: float, drift: float
) -> None:
    drifts = np.full((count, bins), drift) * np.linspace(-1, 1, bins)
    found = find_speakers(np.full((count, bins), value, np.float32), drifts.astype(np.float32))
    assert found.dtype == np.int64
    assert found[0] == 0
    assert set(np.diff(found)) <= {0, 1}
