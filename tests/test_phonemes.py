"""The contest's classes, in the contest's order."""

import pytest

from senone.phonemes import NUM_CLASSES, PHONEMES, phoneme_names, state_index, state_names, states_per_group


def test_there_are_46_phonemes_of_three_states_in_the_contests_order() -> None:
    assert len(PHONEMES) == len(set(PHONEMES)) == 46
    assert NUM_CLASSES == 138
    assert list(PHONEMES) == sorted(PHONEMES)
    assert [state_index("SIL", state) for state in range(3)] == [108, 109, 110]
    assert state_index("+BREATH+", 0) == 0
    assert state_index("ZH", 2) == 137


def test_what_is_no_state_is_named() -> None:
    with pytest.raises(ValueError, match="unknown phoneme 'XX'; there are"):
        state_index("XX", 0)
    with pytest.raises(ValueError, match="state 3 of SIL: expected 0 to 2"):
        state_index("SIL", 3)


def test_classes_have_names_and_those_of_another_task_numbers() -> None:
    assert state_names(138)[109] == "SIL_1"
    assert phoneme_names(138)[36] == "SIL"
    assert states_per_group(138) == 3
    assert (state_names(41)[3], phoneme_names(41)[3], states_per_group(41)) == ("class_3", "class_3", 1)
