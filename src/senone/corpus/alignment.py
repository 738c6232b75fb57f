"""Which phoneme is spoken when: espeak's markers -> the contest's phonemes -> a state for each frame."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from senone.corpus.espeak import SAMPLE_RATE, Marker
from senone.phonemes import STATES_PER_PHONEME, state_index

# All mnemonics of the voice en-us (espeak-ng 1.52), as CMU dictionary phonemes; a vowel with an r, a schwa or
# an l in it makes two. These are the phoneme tables en-us, en, and what English takes from base1.
PHONEMES_OF: dict[str, tuple[str, ...]] = {
    mnemonic: tuple(phonemes.split())
    for phonemes, mnemonics in {
        "AA": "0 0# A: A# A~",
        "AE": "a aa a2",
        "AH": "V @ @2 @5 @- a# a#2 02",
        "AO": "O: O O2 O~",
        "AW": "aU",
        "AY": "aI",
        "EH": "E E# E2 e e#",
        "ER": "3 3: IR VR",
        "EY": "eI e:",
        "IH": "I I2 I# I2# @#",
        "IY": "i i:",
        "OW": "oU oU# o o:",
        "OY": "OI",
        "UH": "U",
        "UW": "u u:",
        "AA R": "A@",
        "AO R": "O@ o@",
        "AW ER": "aU@",
        "AY AH": "aI@",
        "AY ER": "aI3",
        "EH R": "e@",
        "IH R": "i@3",
        "IY AH": "i@",
        "UH R": "U@",
        "AH L": "@L",
        "B": "b",
        "CH": "tS",
        "D": "d d#",
        "DH": "D",
        "F": "f",
        "G": "g",
        "HH": "h",
        "JH": "dZ",
        "K": "k x",
        "L": "l l/ l/2 l/3 l-",
        "M": "m m-",
        "N": "n n-",
        "NG": "N N-",
        "P": "p",
        "R": "r r/ r- R R2",
        "S": "s",
        "SH": "S",
        "T": "t t# t2 ?",
        "TH": "T",
        "V": "v v#",
        "W": "w w#",
        "Y": "j ;",
        "Z": "z z# z/2",
        "ZH": "Z",
        "SIL": "_ _: _! _:: _| || _^_ _;_",
    }.items()
    for mnemonic in mnemonics.split()
}
STOPS = frozenset(("p", "b", "t", "t2", "d", "k", "g", "tS", "dZ", "?"))
VOWELS = frozenset(m for m, phonemes in PHONEMES_OF.items() if phonemes[0][0] in "AEIOU")


class Segment(NamedTuple):
    """A phoneme and its (S,) samples at 22050 Hz; ``clause_end`` marks the pause of a comma or full stop."""

    phoneme: str
    samples: np.ndarray
    clause_end: bool = False


def segments(samples: np.ndarray, markers: Sequence[Marker]) -> list[Segment]:
    """Cut (S,) samples at espeak's markers into phonemes, corrected where the markers mislead.

    The closure of a stop comes before its marker and would count for the phoneme before: it is moved over.
    An l or r of no length after a vowel is part of that vowel and dropped; a vowel that stands for two
    phonemes is cut in half. Raises ValueError for a mnemonic that is not in PHONEMES_OF: none is skipped.
    """
    for marker in markers:
        if marker.mnemonic not in PHONEMES_OF:
            raise ValueError(
                f"unknown espeak mnemonic {marker.mnemonic!r} at sample {marker.sample}; "
                "add it to PHONEMES_OF in senone/corpus/alignment.py"
            )
    starts = _with_closures(samples, markers)
    found: list[Segment] = []
    for index, (marker, start, end) in enumerate(
        zip(markers, starts, [*starts[1:], len(samples)], strict=True)
    ):
        phonemes = PHONEMES_OF[marker.mnemonic]
        before = markers[index - 1].mnemonic if index else ""
        after = markers[index + 1].mnemonic if index + 1 < len(markers) else ""
        if phonemes == ("SIL",):
            clause_end = marker.mnemonic == "_"
            if found and found[-1].phoneme == "SIL":
                last = found.pop()
                start -= len(last.samples)
                clause_end |= last.clause_end
            if end > start:
                found.append(Segment("SIL", samples[start:end], clause_end))
            continue
        if start == end and phonemes[0] in ("L", "R") and before in VOWELS:
            continue
        if phonemes[-1] == "R" and PHONEMES_OF.get(after) == ("R",):
            phonemes = phonemes[:-1]  # e@ before an r: that r is spoken once
        for phoneme, piece in zip(phonemes, np.array_split(samples[start:end], len(phonemes)), strict=True):
            found.append(Segment(phoneme, piece))
    return found


def _with_closures(samples: np.ndarray, markers: Sequence[Marker]) -> list[int]:
    """The markers' samples, those of stops moved back to where the silence before the burst begins."""
    starts = [marker.sample for marker in markers]
    for index in range(1, len(markers)):
        if markers[index].mnemonic not in STOPS or PHONEMES_OF[markers[index - 1].mnemonic] == ("SIL",):
            continue  # nobody hears where a pause ends and a closure begins
        before = samples[starts[index - 1] : starts[index]]
        sounding = np.flatnonzero(np.abs(before.astype(np.int32)) > 2)
        closure = len(before) - (int(sounding[-1]) + 1 if len(sounding) else 0)
        if closure > 0.005 * SAMPLE_RATE:
            starts[index] -= closure
    return starts


def state_labels(
    phonemes: Sequence[str],
    times: Sequence[float] | np.ndarray,
    num_frames: int,
    frame_rate: float = 100.0,
) -> np.ndarray:
    """P phonemes and the (P+1,) times of their edges, seconds -> (T,) int64 states, ``frame_rate`` a second.

    The three states of a phoneme take a third of it each, and every state keeps at least one frame, as in a
    forced alignment: edges too close, or out of order, move apart so that the largest shift is as small as
    can be (isotonic regression in the maximum norm: the mean of the running maximum and, from the right, the
    running minimum). The first and the last state reach to the ends.
    Raises ValueError if the times do not fit the phonemes or there are fewer frames than states.
    """
    states = [state_index(phoneme, state) for phoneme in phonemes for state in range(STATES_PER_PHONEME)]
    if len(times) != len(phonemes) + 1:
        raise ValueError(f"{len(phonemes)} phonemes need {len(phonemes) + 1} edges, got {len(times)}")
    if num_frames < len(states):
        raise ValueError(f"{len(phonemes)} phonemes need {len(states)} frames or more, got {num_frames}")
    position = np.arange(len(states) + 1)
    edges = frame_rate * np.interp(position / STATES_PER_PHONEME, np.arange(len(times)), times)  # frames
    slack = edges - position  # at least one frame each: the slack must not fall
    ordered = (np.maximum.accumulate(slack) + np.minimum.accumulate(slack[::-1])[::-1]) / 2
    frames = np.rint(ordered.clip(0, num_frames - len(states))).astype(int) + position
    frames[0], frames[-1] = 0, num_frames
    return np.repeat(states, np.diff(frames))
