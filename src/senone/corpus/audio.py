"""Recordings whose phonemes somebody aligned -> the contest's files: speech of one's own.

A recording's alignment says what is spoken when. It lies beside the recording or, in the same folders, below
another one, as ``NAME.TextGrid`` (Praat, Montreal Forced Aligner) or ``NAME.lab`` (HTK); or one CTM (Kaldi)
is of all of them. Each phoneme's three states take a third of it, since nobody says where they begin.
"""

import csv
import importlib
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from senone.config import AudioConfig
from senone.corpus.alignment import state_labels
from senone.corpus.contest import TEST_LABELS, write_utterances
from senone.corpus.features import log_mel
from senone.phonemes import PHONEME_INDEX

SPLITS = ("train", "dev", "test")
RECORDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".sph")
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


@dataclass(frozen=True)
class Recording:
    """A file below the folder of recordings: who speaks, in which split, None where that is to be drawn."""

    path: Path
    name: Path  # within the folder
    speaker: str
    split: str | None


class Heard(NamedTuple):
    """A recording, its (T, F) frames and its (T,) states, none where it is not aligned."""

    recording: Recording
    frames: np.ndarray
    states: np.ndarray


def prepare_audio(config: AudioConfig, progress: bool = True) -> list[str]:
    """Write the contest's files into ``config.out``, whole or not at all, with ``utterances.csv``, which says
    what became of which recording, and the labels of test apart, unless nothing in its folder is aligned;
    returns lines that say so.

    ValueError for a recording or an alignment that cannot be used, unless ``on_bad="drop"`` leaves it out,
    where ``out`` holds anything, and where there are too few speakers for three splits. RuntimeError without
    the packages that read both.
    """
    audio, out = Path(str(config.audio)), Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out={out} is there already: choose another folder or empty this one")
    recordings = find_recordings(audio, config.speaker_folder)
    splits = split_recordings(recordings, config.dev, config.test, config.seed)
    alignments = Alignments(Path(config.alignments or audio), config.tier)
    alignments.require_clear(recordings)
    listener = Listener(alignments, config.mapping)
    lines, rows = [], []
    out.parent.mkdir(parents=True, exist_ok=True)
    silent = None if progress else True  # None: only for eyes
    bar = tqdm(total=len(recordings), desc="hearing", unit=" recordings", leave=False, disable=silent)
    with bar, tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        partial = Path(scratch, "corpus")
        (partial / "private").mkdir(parents=True)
        for split, members in splits.items():
            labelled = split != "test" or any(alignments.find(member.name) for member in members)
            heard: list[Heard] = []
            for recording in members:
                bar.update()
                try:
                    heard.append(listener(recording, labelled))
                except ValueError as error:
                    if config.on_bad == "refuse":
                        raise
                    lines.append(f"dropped: {error}")
            if not heard:
                raise ValueError(f"nothing is left for {split}; {lines[-1]}")
            lines.append(_write_split(partial, split, heard, labelled))
            rows += [
                (split, place, one.recording.speaker, one.recording.name.as_posix(), len(one.frames))
                for place, one in enumerate(heard)
            ]
        with (partial / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("split", "utterance", "speaker", "recording", "frames"), *rows])
        partial.replace(out)
    return lines


def _write_split(folder: Path, split: str, heard: Sequence[Heard], labelled: bool) -> str:
    """Write a split's files, and say what is in them."""
    write_utterances(folder / f"{split}.npy", [one.frames for one in heard])
    if labelled:
        labels = TEST_LABELS if split == "test" else f"{split}_labels.npy"
        write_utterances(folder / labels, [one.states for one in heard])
    speakers = len({one.recording.speaker for one in heard})
    frames = sum(len(one.frames) for one in heard)
    line = f"{split}: {speakers} speakers, {len(heard):,} utterances, {frames:,} frames"
    return line if labelled else f"{line}, not aligned"


def find_recordings(audio: Path, speaker_folder: int) -> list[Recording]:
    """The recordings below a folder, each speaker's together. Where it holds the folders train, dev and test,
    these are the splits; below them, the first ``speaker_folder`` folders of a recording are its speaker's
    name, and one that lies in fewer is a speaker's only one."""
    if not audio.is_dir():
        raise ValueError(f"audio={audio}: there is no such folder")
    is_split = all((audio / split).is_dir() for split in SPLITS)
    found = []
    for path in sorted(audio.rglob("*")):
        if path.suffix.lower() not in RECORDINGS:
            continue
        name = path.relative_to(audio)
        split = name.parts[0] if is_split else None
        if is_split and split not in SPLITS:
            raise ValueError(f"{path}: lies beside the folders {', '.join(SPLITS)}, in none of them")
        folders = name.parent.parts[is_split:]
        speaker = "/".join(folders[:speaker_folder])
        if not speaker_folder or len(folders) < speaker_folder:
            speaker = name.with_suffix("").as_posix()
        found.append(Recording(path, name, speaker, split))
    if not found:
        raise ValueError(f"audio={audio}: holds no recording ({', '.join(RECORDINGS)})")
    return found


def split_recordings(
    recordings: Sequence[Recording], dev: float, test: float, seed: int
) -> dict[str, list[Recording]]:
    """The recordings of train, dev and test. Where the folders do not say, speakers are drawn, for dev and
    then for test, until they have their shares of all utterances: nobody is heard in two splits."""
    if recordings[0].split is not None:
        splits = {split: [r for r in recordings if r.split == split] for split in SPLITS}
        if empty := [split for split in SPLITS if not splits[split]]:
            raise ValueError(f"the folder {empty[0]} holds no recording")
        return splits
    speakers = sorted({recording.speaker for recording in recordings})
    if len(speakers) < len(SPLITS):
        raise ValueError(
            f"{len(speakers)} speakers are too few for train, dev and test: expected 3 or more; "
            "speaker_folder says which folders name them, and 0 lets each recording stand alone"
        )
    np.random.default_rng(seed).shuffle(speakers)
    spoken = Counter(recording.speaker for recording in recordings)
    split_of = dict.fromkeys(speakers, "train")
    for split, share, others in (("dev", dev, 2), ("test", test, 1)):
        taken = 0
        while taken < share * len(recordings) and len(speakers) > others:
            speaker = speakers.pop()
            split_of[speaker] = split
            taken += spoken[speaker]
    return {split: [r for r in recordings if split_of[r.speaker] == split] for split in SPLITS}


class Alignments:
    """What is spoken when, of each recording: from files in a folder like that of the recordings, or from one
    CTM file."""

    def __init__(self, where: Path, tier: str) -> None:
        self.where, self.tier = where, tier
        self.in_ctm = None if where.is_dir() else read_ctm(where)

    def require_clear(self, recordings: Sequence[Recording]) -> None:
        """Raise ValueError if two recordings have the same name, by which alone a CTM knows them."""
        seen: dict[str, Path] = {}
        for recording in recordings if self.in_ctm is not None else ():
            before = seen.setdefault(recording.name.stem, recording.name)
            if before != recording.name:
                raise ValueError(f"{self.where}: is its {before.stem} {before} or {recording.name}?")

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
    textgrid = _import("praatio.textgrid")
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
    HTK Book 3.4, section 6.2.1), otherwise in seconds."""
    lines = list(_timed_lines(path, "START END LABEL"))
    whole = all(time.isdigit() for fields, _ in lines for time in fields[:2])
    unit = 1e-7 if whole else 1.0
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


class Listener:
    """From a recording to its frames and states; all have the sample rate of the first."""

    def __init__(self, alignments: Alignments, mapping: Mapping[str, str]) -> None:
        self.alignments, self.mapping = alignments, mapping
        self.soundfile = _import("soundfile")
        self.rate, self.first = 0, Path()

    def __call__(self, recording: Recording, labelled: bool) -> Heard:
        try:
            samples, rate = self.soundfile.read(recording.path, dtype="int16")
            self.rate, self.first = (self.rate, self.first) if self.rate else (rate, recording.name)
            if rate != self.rate:
                raise ValueError(f"{rate} Hz, but {self.first} has {self.rate} Hz: bring both to one rate")
            frames, states = log_mel(samples, rate), np.empty(0, np.int64)
            if labelled:
                intervals = self.alignments(recording.name)
                states = state_labels(
                    *phoneme_times(intervals, len(samples) / rate, self.mapping), len(frames)
                )
            return Heard(recording, frames, states)
        except (ValueError, self.soundfile.SoundFileError) as error:
            raise ValueError(f"{recording.path}: {error}") from None


def _import(name: str) -> Any:
    """A module of the extra ``audio``, which nothing else needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f"recordings need {error.name}: pip install 'senone[audio]'") from error
