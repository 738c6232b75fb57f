"""Recordings whose phonemes somebody aligned -> the contest's files: speech of one's own.

A recording's alignment says which phoneme is spoken when; its three states take a third of it each, since
nobody says where they begin.
"""

import csv
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from senone.config import AudioConfig
from senone.corpus.alignment import state_labels
from senone.corpus.alignment_files import Alignments, import_extra, phoneme_times
from senone.corpus.contest import SPLITS, TEST_LABELS, write_utterances
from senone.corpus.features import frame_rate, log_mel

RECORDINGS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".sph")


@dataclass(frozen=True)
class Recording:
    """A file below the folder of recordings: who speaks, in which split, None where that is to be drawn."""

    path: Path
    name: Path  # within the folder
    speaker: str
    split: str | None


class Heard(NamedTuple):
    """(T, F) frames of a recording and their (T,) states, none where it is not aligned."""

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
    alignments.require_clear(recording.name for recording in recordings)
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
            frames, states = Spool(Path(scratch, "frames"), "f4"), Spool(Path(scratch, "states"), "i8")
            heard: list[Recording] = []
            for recording in members:
                bar.update()
                try:
                    one = listener(recording, labelled)
                except ValueError as error:
                    if config.on_bad == "refuse":
                        raise
                    lines.append(f"dropped: {error}")
                    continue
                rows.append(
                    (split, len(heard), recording.speaker, recording.name.as_posix(), len(one.frames))
                )
                heard.append(recording)
                frames.add(one.frames)
                states.add(one.states)
            if not heard:
                raise ValueError(f"nothing is left for {split}; {lines[-1]}")
            write_utterances(partial / f"{split}.npy", frames.arrays())
            if labelled:
                labels = TEST_LABELS if split == "test" else f"{split}_labels.npy"
                write_utterances(partial / labels, states.arrays())
            speakers = len({recording.speaker for recording in heard})
            counts = f"{speakers} speakers, {len(heard):,} utterances, {frames.rows:,} frames"
            lines.append(f"{split}: {counts}{'' if labelled else ', not aligned'}")
        with (partial / "utterances.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("split", "utterance", "speaker", "recording", "frames"), *rows])
        partial.replace(out)
    return lines


class Spool:
    """Arrays of one type that lie in a file, one after the other, as they came: only one is in memory."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.path, self.dtype = path, np.dtype(dtype)
        self.shapes: list[tuple[int, ...]] = []
        path.write_bytes(b"")

    @property
    def rows(self) -> int:
        """Of all arrays together."""
        return sum(shape[0] for shape in self.shapes)

    def add(self, array: np.ndarray) -> None:
        """Put one more behind those that are there."""
        self.shapes.append(array.shape)
        with self.path.open("ab") as file:
            file.write(array.astype(self.dtype, copy=False).tobytes())

    def arrays(self) -> list[np.ndarray]:
        """All of them, mapped."""
        shape = (self.rows, *self.shapes[0][1:])
        mapped = np.asarray(np.memmap(self.path, self.dtype, mode="r", shape=shape))
        return np.split(mapped, np.cumsum([shape[0] for shape in self.shapes])[:-1])


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


class Listener:
    """From a recording to its frames and states; all have the sample rate of the first."""

    def __init__(self, alignments: Alignments, mapping: Mapping[str, str]) -> None:
        self.alignments, self.mapping = alignments, mapping
        self.soundfile = import_extra("soundfile")
        self.rate, self.first = 0, Path()

    def __call__(self, recording: Recording, labelled: bool) -> Heard:
        try:
            # asked for integers, libsndfile cuts the fractions off floats from -1 to 1: they would be silence
            floats = self.soundfile.info(recording.path).subtype in ("FLOAT", "DOUBLE")
            samples, rate = self.soundfile.read(recording.path, dtype="float32" if floats else "int16")
            self.rate, self.first = (self.rate, self.first) if self.rate else (rate, recording.name)
            if rate != self.rate:
                raise ValueError(f"{rate} Hz, but {self.first} has {self.rate} Hz: bring both to one rate")
            frames, states = log_mel(samples, rate), np.empty(0, np.int64)
            if labelled:
                intervals = self.alignments(recording.name)
                phonemes, times = phoneme_times(intervals, len(samples) / rate, self.mapping)
                states = state_labels(phonemes, times, len(frames), frame_rate(rate))
            return Heard(frames, states)
        except (ValueError, self.soundfile.SoundFileError) as error:
            raise ValueError(f"{recording.path}: {error}") from None
