"""The contest's classes: 46 phonemes, three states each, in the contest's order.

Class index = 3 * phoneme + state, so silence is 108, 109, 110. Nothing else in the program takes
these numbers for granted: the classes K of a run come from its labels, and names are only for people.
"""

FILLERS = ("+BREATH+", "+COUGH+", "+NOISE+", "+SMACK+", "+UH+", "+UM+")

PHONEMES = (
    *FILLERS,
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY",
    "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "SIL", "T", "TH", "UH", "UW", "V", "W",
    "Y", "Z", "ZH",
)  # fmt: skip

STATES_PER_PHONEME = 3
NUM_CLASSES = len(PHONEMES) * STATES_PER_PHONEME  # 138 in the contest
PHONEME_INDEX = {name: index for index, name in enumerate(PHONEMES)}


def state_index(phoneme: str, state: int) -> int:
    """The class of ``state`` (0, 1, 2) of a phoneme: ``state_index("SIL", 0) == 108``."""
    if phoneme not in PHONEME_INDEX:
        raise ValueError(f"unknown phoneme {phoneme!r}; there are {' '.join(PHONEMES)}")
    if not 0 <= state < STATES_PER_PHONEME:
        raise ValueError(f"state {state} of {phoneme}: expected 0 to {STATES_PER_PHONEME - 1}")
    return STATES_PER_PHONEME * PHONEME_INDEX[phoneme] + state


def state_names(num_classes: int) -> list[str]:
    """A name for each class: ``AA_0``; classes of a task other than the contest's are just numbered."""
    if num_classes == NUM_CLASSES:
        return [f"{name}_{state}" for name in PHONEMES for state in range(STATES_PER_PHONEME)]
    return [f"class_{index}" for index in range(num_classes)]


def phoneme_names(num_classes: int) -> list[str]:
    """Names of the groups that ``class // states_per_group(num_classes)`` falls into."""
    return list(PHONEMES) if num_classes == NUM_CLASSES else state_names(num_classes)


def states_per_group(num_classes: int) -> int:
    """How many consecutive classes make one phoneme: 3 for the contest's classes, otherwise 1."""
    return STATES_PER_PHONEME if num_classes == NUM_CLASSES else 1
