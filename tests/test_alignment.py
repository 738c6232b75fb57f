import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senone.corpus.alignment import PHONEMES_OF, segments, state_labels
from senone.corpus.espeak import Marker
from senone.phonemes import FILLERS, PHONEMES


def cut(samples: np.ndarray, *markers: tuple[str, int]) -> list[tuple[str, int]]:
    """Phonemes and their lengths, for markers given as (mnemonic, sample)."""
    found = segments(samples, [Marker(*marker) for marker in markers])
    return [(segment.phoneme, len(segment.samples)) for segment in found]


LOUD = np.full(10000, 1000, np.int16)


def test_all_phonemes_but_the_fillers_have_a_mnemonic() -> None:
    spoken = {phoneme for phonemes in PHONEMES_OF.values() for phoneme in phonemes}
    assert spoken == set(PHONEMES) - set(FILLERS)


def test_an_unknown_mnemonic_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"unknown espeak mnemonic 'Q\^' at sample 700.*PHONEMES_OF"):
        cut(LOUD, ("a", 0), ("Q^", 700))


def test_the_closure_of_a_stop_is_moved_to_the_stop() -> None:
    for stop, phoneme in (("p", "P"), ("t", "T"), ("k", "K"), ("tS", "CH")):
        samples = LOUD.copy()
        samples[3000:4000] = [2, -2] * 500
        assert cut(samples, ("a", 0), (stop, 4000), ("i:", 5000)) == [
            ("AE", 3000),
            (phoneme, 2000),
            ("IY", 5000),
        ]


def test_a_gap_of_five_milliseconds_is_no_closure() -> None:
    samples = LOUD.copy()
    samples[3900:4000] = 0
    assert cut(samples, ("a", 0), ("t", 4000)) == [("AE", 4000), ("T", 6000)]


def test_a_sound_above_the_floor_ends_the_closure() -> None:
    samples = LOUD.copy()
    samples[3000:4000] = 0
    samples[3500] = 3
    assert cut(samples, ("a", 0), ("t", 4000)) == [("AE", 3501), ("T", 6499)]


def test_a_pause_before_a_stop_stays_a_pause() -> None:
    samples = LOUD.copy()
    samples[3000:4000] = 0
    assert cut(samples, ("a", 0), ("_:", 3000), ("t", 4000)) == [("AE", 3000), ("SIL", 1000), ("T", 6000)]


def test_an_l_or_r_of_no_length_after_a_vowel_is_dropped() -> None:
    assert cut(LOUD, ("O:", 0), ("l", 4000), ("D", 4000)) == [("AO", 4000), ("DH", 6000)]
    assert cut(LOUD, ("3", 0), ("r-", 4000), ("a", 4000)) == [("ER", 4000), ("AE", 6000)]
    assert cut(LOUD, ("b", 0), ("l", 4000), ("a", 4000)) == [("B", 4000), ("L", 0), ("AE", 6000)]


def test_a_vowel_with_an_r_is_split_in_two() -> None:
    assert cut(LOUD, ("e@", 0), ("z", 4000)) == [("EH", 2000), ("R", 2000), ("Z", 6000)]
    assert cut(LOUD, ("aI3", 0), ("z", 4000)) == [("AY", 2000), ("ER", 2000), ("Z", 6000)]


def test_the_r_of_a_vowel_before_an_r_is_spoken_once() -> None:
    assert cut(LOUD, ("e@", 0), ("r", 4000)) == [("EH", 4000), ("R", 6000)]


def test_neighbouring_pauses_are_one_and_know_the_end_of_a_clause() -> None:
    silence = np.zeros(3000, np.int16)
    comma = segments(silence, [Marker("_!", 0), Marker("_:", 1000), Marker("_", 3000)])
    assert [(s.phoneme, len(s.samples), s.clause_end) for s in comma] == [("SIL", 3000, True)]
    assert not segments(silence, [Marker("_!", 0)])[0].clause_end


def test_states_are_thirds_of_a_phoneme() -> None:
    labels = state_labels(["AA", "SIL"], [0.0, 0.09, 0.21], 21)
    aa, sil = 3 * PHONEMES.index("AA"), 3 * PHONEMES.index("SIL")
    assert (
        labels.tolist() == np.repeat([aa, aa + 1, aa + 2, sil, sil + 1, sil + 2], [3, 3, 3, 4, 4, 4]).tolist()
    )


@given(
    durations=st.lists(st.floats(0, 0.4), min_size=1, max_size=30),
    jitter=st.floats(0, 0.05),
    spare=st.integers(0, 50),
    seed=st.integers(0, 2**32),
)
def test_every_state_has_a_frame_whatever_the_edges(
    durations: list[float], jitter: float, spare: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    phonemes = [PHONEMES[index] for index in rng.integers(46, size=len(durations))]
    times = np.cumsum([0, *durations]) + rng.normal(0, jitter, len(durations) + 1)
    num_frames = 3 * len(phonemes) + spare
    labels = state_labels(phonemes, times, num_frames)
    assert len(labels) == num_frames
    wanted = [3 * PHONEMES.index(phoneme) + state for phoneme in phonemes for state in range(3)]
    starts = np.flatnonzero(np.diff(labels, prepend=-1))
    got = labels[starts].tolist()
    # two of the same phoneme in a row still begin anew with state 0, so no run is lost
    assert got == wanted


def test_edges_that_fit_are_only_rounded() -> None:
    labels = state_labels(["S", "IY"], [0, 0.088, 0.2], 20)
    assert np.flatnonzero(np.diff(labels)).tolist() == [2, 5, 8, 12, 15]


def test_edges_that_do_not_fit_move_as_little_as_can_be() -> None:
    labels = state_labels(["S", "T", "IY"], [0, 0.10, 0.11, 0.2], 20)
    assert np.flatnonzero(np.diff(labels) != 0).tolist() == [2, 6, 8, 9, 10, 11, 13, 16]


@pytest.mark.parametrize(
    ("times", "frames", "message"),
    [([0, 1, 2], 9, "need 2 edges, got 3"), ([0, 1], 2, "need 3 frames or more, got 2")],
)
def test_labels_that_cannot_be_are_refused(times: list[float], frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        state_labels(["AA"], times, frames)
