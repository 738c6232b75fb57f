"""What is spoken when, as aligners write it down -> the contest's phonemes and their times.

The alignment of a recording lies beside it or, in the same folders, below another one, as ``NAME.TextGrid``
(Praat, Montreal Forced Aligner) or ``NAME.lab`` (HTK); or one CTM (Kaldi) is of all of them.
"""

import importlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from senone.phonemes import PHONEME_INDEX

GAP = 0.005  # seconds, half a frame: less between two phonemes is no silence, and no overlap
OVERHANG = 0.1  # seconds that an alignment may go on after its recording

# What aligners call what the contest calls otherwise; the reduced phonemes as in Lee & Hon 1989
FOLDED = {
    **dict.fromkeys(("", "SP", "PAU", "SILENCE", "H#", "#", "<EPS>", "<SIL>", "!SIL"), "SIL"),
    **dict.fromkeys(("SPN", "NSN", "<UNK>", "<NOISE>"), "+NOISE+"),
    "AX": "AH", "AXR": "ER", "IX": "IH", "UX": "UW", "EL": "L", "EM": "M", "EN": "N", "NX": "N", "HV": "HH",
}  # fmt: skip


class Interval(NamedTuple):
    """What is spoken from ``start`` to ``end``, seconds."""

    start: float
    end: float
    label: str


class Alignments:
    """What is spoken when, of each recording: from files in a folder like that of the recordings, or from one
    CTM file."""

    def __init__(self, where: Path, tier: str) -> None:
        self.where, self.tier = where, tier
        self.in_ctm = None if where.is_dir() else read_ctm(where)

    def require_clear(self, names: Iterable[Path]) -> None:
        """Raise ValueError if two recordings have the same last name, by which alone a CTM knows them."""
        seen: dict[str, Path] = {}
        for name in names if self.in_ctm is not None else ():
            before = seen.setdefault(name.stem, name)
            if before != name:
                raise ValueError(f"{self.where}: is its {name.stem} {before} or {name}?")

    def find(self, name: Path) -> list[Interval] | Path | None:
        """What there is of the recording ``name``: its line in the CTM, or its file."""
        if self.in_ctm is not None:
            return self.in_ctm.get(name.stem)
        files = (self.where / name.with_suffix(suffix) for suffix in (".TextGrid", ".lab"))
        return next((path for path in files if path.is_file()), None)

    def __call__(self, name: Path) -> list[Interval]:
        """Those of the recording ``name``; ValueError where there are none."""
        found = self.find(name)
        if found is None:
            missing = name.stem if self.in_ctm is not None else f"{name.with_suffix('')}.TextGrid or .lab"
            raise ValueError(f"there is no {missing} in {self.where}")
        if isinstance(found, Path):
            return read_lab(found) if found.suffix == ".lab" else read_textgrid(found, self.tier)
        return found


def read_textgrid(path: Path, tier: str) -> list[Interval]:
    """The intervals of one tier of a Praat TextGrid, long or short, in any of Praat's encodings."""
    textgrid = import_extra("praatio.textgrid")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    except Exception as error:  # praatio raises what its parser stumbles over
        raise ValueError(f"{path}: cannot be read as a TextGrid ({type(error).__name__}: {error})") from None
    if tier not in grid.tierNames:
        raise ValueError(f"{path}: has no tier {tier!r}; there are {', '.join(grid.tierNames)}")
    found = grid.getTier(tier)
    if not isinstance(found, textgrid.IntervalTier):
        raise ValueError(f"{path}: tier {tier!r} has points in time, expected intervals")
    return [Interval(*entry) for entry in found.entries]


def read_lab(path: Path) -> list[Interval]:
    """``START END LABEL`` a line, and what else there may be: in whole numbers HTK's, times of 100 ns (the
    HTK Book 3.4, section 6.2.1), otherwise in seconds. ValueError for whole numbers that
    are something else."""
    lines = list(_timed_lines(path, "START END LABEL"))
    whole = all(time.isdigit() for fields, _ in lines for time in fields[:2])
    unit = 1e-7 if whole else 1.0
    if whole and lines and unit * lines[-1][1][1] < 0.01 * len(lines):
        raise ValueError(
            f"{path}: its labels would last less than 10 ms each, since whole numbers are times of 100 ns; "
            "write times in samples, or in whole seconds, as seconds with a point"
        )
    return [Interval(unit * start, unit * end, fields[2]) for fields, (start, end) in lines]


def read_ctm(path: Path) -> dict[str, list[Interval]]:
    """``UTTERANCE CHANNEL START DURATION LABEL`` a line, in seconds: the intervals of each utterance."""
    if not path.is_file():
        raise ValueError(f"alignments={path}: there is no such folder, and no such file")
    found: dict[str, list[Interval]] = {}
    for fields, (start, duration) in _timed_lines(path, "UTTERANCE CHANNEL START DURATION LABEL"):
        found.setdefault(fields[0], []).append(Interval(start, start + duration, fields[4]))
    return found


def _timed_lines(path: Path, pattern: str) -> Iterator[tuple[list[str], tuple[float, float]]]:
    """The fields of each line that says anything, and its two times; ValueError for one that does not fit."""
    names = pattern.split()
    place = names.index("START")  # the other time comes after it
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a text in UTF-8 ({error.reason} at byte {error.start})") from None
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            times = float(fields[place]), float(fields[place + 1])
        except (IndexError, ValueError):
            times = math.nan, math.nan
        if not all(map(math.isfinite, times)) or len(fields) < len(names):
            raise ValueError(f"{path}, line {number}: expected {pattern}, got {line.strip()!r}")
        yield fields, times


def phoneme_of(label: str, mapping: Mapping[str, str]) -> str:
    """The contest's phoneme of an aligner's label, after a ``mapping`` of one's own: ``ay1``, ``AY`` and
    ``AY1_E`` are AY; what is not spoken is SIL. ValueError for a label that nobody knows."""
    label = label.strip()
    if label in mapping:
        return mapping[label]
    name = re.sub(r"[0-9]$", "", re.sub(r"_[BIES]$", "", label.upper()))
    name = FOLDED.get(name, name)
    if name not in PHONEME_INDEX:
        raise ValueError(
            f"unknown phoneme {label!r}; phonemes=[{label}:AH] would say that it is AH; there are "
            f"{' '.join(PHONEME_INDEX)}"
        )
    return name


def phoneme_times(
    intervals: Sequence[Interval], seconds: float, mapping: Mapping[str, str]
) -> tuple[list[str], list[float]]:
    """The P phonemes of a recording so many ``seconds`` long, and the P+1 times of their edges: what nobody
    labelled is silence, silences beside each other are one. ValueError where intervals overlap, end before
    they begin, or go on after the recording."""
    phonemes: list[str] = []
    edges = [0.0]

    def append(phoneme: str, end: float) -> None:
        if phoneme == "SIL" and phonemes[-1:] == ["SIL"]:
            edges[-1] = end
        else:
            phonemes.append(phoneme)
            edges.append(end)

    for start, end, label in sorted(intervals):
        phoneme = phoneme_of(label, mapping)
        if end < start:
            raise ValueError(f"{label!r} begins at {start:.3f} s, but ends at {end:.3f} s")
        if start < edges[-1] - GAP:
            raise ValueError(f"{label!r} begins at {start:.3f} s, before what ends at {edges[-1]:.3f} s")
        if end > seconds + OVERHANG:
            raise ValueError(f"{label!r} ends at {end:.3f} s, but the recording at {seconds:.3f} s")
        if start > edges[-1] + GAP:
            append("SIL", start)
        if end > edges[-1]:
            append(phoneme, end)
    if not phonemes:
        raise ValueError("its alignment is empty")
    if seconds > edges[-1] + GAP:
        append("SIL", seconds)
    edges[-1] = seconds
    return phonemes, edges


def import_extra(name: str) -> Any:
    """A module of the extra ``audio``, which nothing else needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f"recordings need {error.name}: pip install 'senone[audio]'") from error
