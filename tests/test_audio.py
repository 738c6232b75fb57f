"""Recordings with alignments become the contest's files."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from senone.config import AudioConfig
from senone.corpus.alignment import state_labels
from senone.corpus.alignment_files import (
    Interval,
    phoneme_of,
    phoneme_times,
    read_ctm,
    read_lab,
    read_textgrid,
)
from senone.corpus.audio import Spool, find_recordings, prepare_audio, split_recordings
from senone.corpus.contest import open_contest
from senone.corpus.features import log_mel
from senone.phonemes import PHONEMES

RATE = 16000
HELLO = [
    Interval(0.1, 0.2, "HH"),
    Interval(0.2, 0.3, "AH0"),
    Interval(0.3, 0.45, "L"),
    Interval(0.45, 0.7, "OW1"),
]


POINTS = b"""File type = "ooTextFile"
Object class = "TextGrid"

0
1
<exists>
1
"TextTier"
"phones"
0
1
1
0.5
"a"
"""


def record(path: Path, seconds: float = 0.8, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """Noise in a file, another for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(path.name.encode())).normal(0, 1000, (round(seconds * rate), channels))
    samples = noise.astype(np.int16)
    soundfile.write(path, samples, rate)
    return samples[:, 0]


def textgrid(intervals: Sequence[Interval], end: float, tier: str = "phones") -> str:
    """A TextGrid in Praat's short form, which has an interval for silence too."""
    filled, last = [], 0.0
    for interval in [*intervals, Interval(end, end, "")]:
        filled += [Interval(last, interval.start, "")] if interval.start > last else []
        filled += [interval] if interval.end > interval.start else []
        last = interval.end
    lines = ["<exists>", "1", '"IntervalTier"', f'"{tier}"', "0", str(end), str(len(filled))]
    lines += [f'{start}\n{stop}\n"{label}"' for start, stop, label in filled]
    return (
        "\n".join(['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end), *lines]) + "\n"
    )


def lab(intervals: Sequence[Interval]) -> str:
    """As HTK has it, in 100 ns."""
    return "".join(
        f"{round(start * 1e7)} {round(end * 1e7)} {label} -12.3\n" for start, end, label in intervals
    )


def speakers(folder: Path, names: str = "abcd", utterances: int = 3) -> Path:
    for name in names:
        for number in range(utterances):
            record(folder / name / f"{name}{number}.wav")
            (folder / name / f"{name}{number}.TextGrid").write_text(textgrid(HELLO, 0.8))
    return folder


def settings(folder: Path, **changes: object) -> AudioConfig:
    return AudioConfig(**{"audio": str(folder / "audio"), "out": str(folder / "out"), **changes})  # type: ignore[arg-type]


def test_a_spool_gives_back_what_was_put_into_it_and_holds_none_of_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "f4")
    arrays = [np.full((length, 3), length, np.float64) for length in (2, 1, 5)]
    for array in arrays:
        spool.add(array)
    assert spool.rows == 8
    for array, mapped in zip(arrays, spool.arrays(), strict=True):
        np.testing.assert_array_equal(array, mapped)
        assert mapped.dtype == np.float32
        assert not mapped.flags.owndata
    Spool(tmp_path / "spool", "f4").add(arrays[1])  # another one begins anew
    assert (tmp_path / "spool").stat().st_size == 12


def test_recordings_become_files_that_the_contest_would_hand_out(tmp_path: Path) -> None:
    speakers(tmp_path / "audio")
    lines = prepare_audio(settings(tmp_path), progress=False)
    assert lines == [
        "train: 2 speakers, 6 utterances, 480 frames",
        "dev: 1 speakers, 3 utterances, 240 frames",
        "test: 1 speakers, 3 utterances, 240 frames",
    ]
    splits = open_contest(tmp_path / "out")
    states = state_labels(["SIL", "HH", "AH", "L", "OW", "SIL"], [0, 0.1, 0.2, 0.3, 0.45, 0.7, 0.8], 80)
    with (tmp_path / "out" / "utterances.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    heard: dict[str, set[str]] = {}
    for row in rows:
        split = splits[row["split"]]
        frames, labels = list(split.read())[int(row["utterance"])]
        samples, _ = soundfile.read(tmp_path / "audio" / row["recording"], dtype="int16")
        np.testing.assert_array_equal(frames, log_mel(samples, RATE))
        np.testing.assert_array_equal(labels, states)
        assert int(row["frames"]) == len(frames) == 80
        heard.setdefault(row["speaker"], set()).add(row["split"])
    assert sorted(heard) == list("abcd")
    assert all(len(splits) == 1 for splits in heard.values())
    assert (tmp_path / "out" / "private" / "test_labels.npy").is_file()


def test_all_forms_of_an_alignment_say_the_same(tmp_path: Path) -> None:
    in_seconds = "".join(f"{start:.4f}\t{end:.4f}\t{label}\n" for start, end, label in HELLO)
    ctm = "".join(f"hello 1 {start:.4f} {end - start:.4f} {label}\n\n" for start, end, label in HELLO)
    for name, text in {"h.lab": lab(HELLO), "s.lab": in_seconds, "a.ctm": ctm}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "long.TextGrid").write_text(textgrid(HELLO, 0.8), encoding="utf-16")
    found = [
        read_lab(tmp_path / "h.lab"),
        read_lab(tmp_path / "s.lab"),
        read_ctm(tmp_path / "a.ctm")["hello"],
        read_textgrid(tmp_path / "long.TextGrid", "phones"),
    ]
    expected = phoneme_times(HELLO, 0.8, {})
    for intervals in found:
        phonemes, edges = phoneme_times(intervals, 0.8, {})
        assert phonemes == expected[0]
        np.testing.assert_allclose(edges, expected[1], atol=1e-9)


@pytest.mark.parametrize("form", ["lab beside", "lab elsewhere", "ctm"])
def test_alignments_lie_beside_the_recordings_or_elsewhere_or_in_one_file(tmp_path: Path, form: str) -> None:
    audio = tmp_path / "audio"
    names = [Path("x", f"{letter}.flac") for letter in "abc"]
    for name in names:
        record(audio / name)
    where = audio if form == "lab beside" else tmp_path / "aligned"
    for name in names:
        (where / name.parent).mkdir(parents=True, exist_ok=True)
        (where / name.with_suffix(".lab")).write_text(lab(HELLO))
    if form == "ctm":
        where = tmp_path / "all.ctm"
        where.write_text("".join(f"{n.stem} 1 {s} {e - s} {p}\n" for n in names for s, e, p in HELLO))
    alignments = None if form == "lab beside" else str(where)
    prepare_audio(settings(tmp_path, alignments=alignments, speaker_folder=0), progress=False)
    splits = open_contest(tmp_path / "out")
    assert [sum(split.lengths) for split in splits.values()] == [80, 80, 80]


def test_a_ctm_cannot_tell_recordings_of_one_name_apart(tmp_path: Path) -> None:
    for folder in "abc":
        record(tmp_path / "audio" / folder / "hello.wav")
    (tmp_path / "all.ctm").write_text("hello 1 0.1 0.2 AH\n")
    with pytest.raises(ValueError, match=r"all.ctm: is its hello a/hello.wav or b/hello.wav\?"):
        prepare_audio(settings(tmp_path, alignments=str(tmp_path / "all.ctm")), progress=False)


def test_folders_named_train_dev_and_test_are_the_splits(tmp_path: Path) -> None:
    for split, names in {"train": "ab", "dev": "c", "test": "de"}.items():
        speakers(tmp_path / "audio" / split, names, utterances=1)
    lines = prepare_audio(settings(tmp_path), progress=False)
    assert [line.split(",")[0] for line in lines] == [
        "train: 2 speakers",
        "dev: 1 speakers",
        "test: 2 speakers",
    ]
    record(tmp_path / "audio" / "more" / "f.wav")
    with pytest.raises(ValueError, match=r"f.wav: lies beside the folders train, dev, test"):
        prepare_audio(settings(tmp_path, out=str(tmp_path / "other")), progress=False)


def test_a_test_folder_may_be_without_any_alignment(tmp_path: Path) -> None:
    for split, name in {"train": "a", "dev": "b", "test": "c"}.items():
        speakers(tmp_path / "audio" / split, name, utterances=2)
    (tmp_path / "audio" / "test" / "c" / "c0.TextGrid").unlink()
    with pytest.raises(ValueError, match=r"c0.wav: there is no test/c/c0.TextGrid or .lab in"):
        prepare_audio(settings(tmp_path), progress=False)  # one of two is an oversight
    (tmp_path / "audio" / "test" / "c" / "c1.TextGrid").unlink()
    lines = prepare_audio(settings(tmp_path), progress=False)
    assert lines[-1] == "test: 1 speakers, 2 utterances, 160 frames, not aligned"
    splits = open_contest(tmp_path / "out")
    assert (splits["test"].labels_path, splits["test"].lengths) == (None, [80, 80])


@given(
    counts=st.lists(st.integers(1, 9), min_size=3, max_size=12),
    dev=st.floats(0.01, 0.49),
    test=st.floats(0.01, 0.49),
    seed=st.integers(0, 99),
)
def test_drawn_splits_share_no_speaker_and_none_is_empty(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], dev: float, test: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("audio")
    for speaker, count in enumerate(counts):
        for utterance in range(count):
            path = folder / f"s{speaker}" / "chapter" / f"{utterance}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    recordings = find_recordings(folder, 1)
    splits = split_recordings(recordings, dev, test, seed)
    assert splits == split_recordings(recordings, dev, test, seed)
    assert sorted(r.path for members in splits.values() for r in members) == [r.path for r in recordings]
    heard = [{recording.speaker for recording in members} for members in splits.values()]
    assert all(heard)
    assert sum(map(len, heard)) == len(counts)


def test_shares_are_reached_by_whole_speakers(tmp_path: Path) -> None:
    for speaker in range(20):
        for utterance in range(5):
            record(tmp_path / f"s{speaker}" / f"{utterance}.wav", seconds=0.01)
    splits = split_recordings(find_recordings(tmp_path, 1), dev=0.1, test=0.22, seed=1)
    assert [len(members) for members in splits.values()] == [65, 10, 25]


@pytest.mark.parametrize(
    ("label", "phoneme"),
    [
        ("AH0", "AH"), ("ay1", "AY"), ("AY1_E", "AY"), ("T_B", "T"), (" zh ", "ZH"), ("ax", "AH"),
        ("ix", "IH"), ("", "SIL"), ("sil", "SIL"), ("sp", "SIL"), ("h#", "SIL"), ("<eps>", "SIL"),
        ("spn", "+NOISE+"), ("+breath+", "+BREATH+"),
    ],
)  # fmt: skip
def test_labels_of_aligners_are_the_contests_phonemes(label: str, phoneme: str) -> None:
    assert phoneme_of(label, {}) == phoneme


def test_a_mapping_of_ones_own_comes_first() -> None:
    assert phoneme_of("bcl", {"bcl": "SIL"}) == "SIL"
    assert phoneme_of("ax", {"ax": "UH"}) == "UH"
    with pytest.raises(ValueError, match=r"unknown phoneme 'bcl'; phonemes=\[bcl:AH\] would say"):
        phoneme_of("bcl", {})
    assert {phoneme_of(name, {}) for name in PHONEMES} == set(PHONEMES)


@pytest.mark.parametrize("pair", ["bcl", ":SIL", "bcl:", "bcl:BCL", "bcl:sil"])
def test_a_mapping_that_leads_nowhere_is_refused(pair: str) -> None:
    with pytest.raises(ValueError, match="phonemes"):
        AudioConfig(audio="x", phonemes=["a:b:AH", pair])
    assert AudioConfig(audio="x", phonemes=["a:b:AH"]).mapping == {"a:b": "AH"}


def test_what_nobody_labelled_is_silence_and_silences_are_one() -> None:
    intervals = [
        Interval(0.2, 0.3, "B"),
        Interval(0.302, 0.5, "IY1"),
        Interval(0.5, 0.6, "sp"),
        Interval(0.7, 0.8, "T"),
    ]
    assert phoneme_times(intervals, 1.0, {}) == (
        ["SIL", "B", "IY", "SIL", "T", "SIL"],
        [0.0, 0.2, 0.3, 0.5, 0.7, 0.8, 1.0],
    )
    phonemes, edges = phoneme_times([Interval(0.0, 0.5, "M"), Interval(0.5, 1.04, "AA1")], 1.0, {})
    assert phonemes == ["M", "AA"]
    assert edges == [0.0, 0.5, 1.0]  # a little beyond the end is the end


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        ([], "its alignment is empty"),
        (
            [Interval(0.1, 0.3, "B"), Interval(0.2, 0.4, "D")],
            r"'D' begins at 0.200 s, before what ends at 0.300 s",
        ),
        ([Interval(0.3, 0.1, "B")], r"'B' begins at 0.300 s, but ends at 0.100 s"),
        ([Interval(0.1, 1.2, "B")], r"'B' ends at 1.200 s, but the recording at 1.000 s"),
        ([Interval(-0.5, 0.2, "B")], r"'B' begins at -0.500 s, before"),
    ],
)
def test_times_that_cannot_be_are_refused(intervals: list[Interval], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phoneme_times(intervals, 1.0, {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.lab", b"0 1000000 HH\n1000000 two AH\n", r"x.lab, line 2: .* LABEL, got '1000000 two AH'"),
        ("x.lab", b"0 nan HH\n", r"x.lab, line 1: expected START END LABEL, got '0 nan HH'"),
        ("x.lab", b"0 1000000\n", r"x.lab, line 1: expected START END LABEL"),
        ("x.lab", b"0 1 \xff\xfe\n", r"x.lab: expected a text in UTF-8"),
        ("x.TextGrid", b"hello", r"x.TextGrid: cannot be read as a TextGrid"),
        ("x.TextGrid", textgrid(HELLO, 0.8, "words").encode(), r"no tier 'phones'; there are words"),
        ("x.TextGrid", POINTS, r"x.TextGrid: tier 'phones' has points in time"),
    ],
)  # fmt: skip
def test_an_alignment_that_cannot_be_read_names_itself(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_lab(path) if name.endswith(".lab") else read_textgrid(path, "phones")


def test_a_ctm_that_cannot_be_read_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "x.ctm").write_text("hello 1 0.1 0.2\n")
    with pytest.raises(ValueError, match=r"x.ctm, line 1: expected UTTERANCE CHANNEL START DURATION LABEL"):
        read_ctm(tmp_path / "x.ctm")
    with pytest.raises(ValueError, match=r"nothing: there is no such folder, and no such file"):
        read_ctm(tmp_path / "nothing")


BROKEN = {
    "no alignment": r"a0.wav: there is no train/a/a0.TextGrid or .lab in ",
    "no sound": r"a0.wav: .*Format not recognised",
    "two channels": r"a0.wav: audio: expected one channel",
    "too short": r"a0.wav: 6 phonemes need 18 frames or more, got 17",
    "another rate": r"a1.wav: 8000 Hz, but train/a/a0.wav has 16000 Hz",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_recording_that_cannot_be_used_is_refused_or_dropped(tmp_path: Path, fault: str) -> None:
    folder = speakers(tmp_path / "audio" / "train", "a")
    for split in ("dev", "test"):
        speakers(tmp_path / "audio" / split, "b", utterances=1)
    path = folder / "a" / "a0.wav"
    if fault == "no alignment":
        path.with_suffix(".TextGrid").unlink()
    elif fault == "no sound":
        path.write_bytes(b"hello")
    elif fault == "another rate":
        record(folder / "a" / "a1.wav", rate=8000)
    else:
        record(path, seconds=0.17 if fault == "too short" else 0.8, channels=1 + (fault == "two channels"))
        if fault == "too short":
            close = [
                Interval(i / 100 + 0.02, i / 100 + 0.03, p) for i, p in enumerate(("HH", "AH", "L", "OW"))
            ]
            path.with_suffix(".TextGrid").write_text(textgrid(close, 0.17))
    with pytest.raises(ValueError, match=BROKEN[fault]):
        prepare_audio(settings(tmp_path), progress=False)
    assert [child.name for child in tmp_path.iterdir()] == ["audio"]
    lines = prepare_audio(settings(tmp_path, on_bad="drop"), progress=False)
    assert lines[0].startswith("dropped: ")
    assert lines[1].startswith("train: 1 speakers, 2 utterances")


def test_where_nothing_is_left_of_a_split_nothing_is_written(tmp_path: Path) -> None:
    for split, name in {"train": "a", "dev": "b", "test": "c"}.items():
        speakers(tmp_path / "audio" / split, name, utterances=1)
    (tmp_path / "audio" / "dev" / "b" / "b0.TextGrid").unlink()
    with pytest.raises(ValueError, match=r"nothing is left for dev; dropped: .*b0.wav"):
        prepare_audio(settings(tmp_path, on_bad="drop"), progress=False)
    assert [child.name for child in tmp_path.iterdir()] == ["audio"]


def test_what_is_there_stays(tmp_path: Path) -> None:
    speakers(tmp_path / "audio")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"out is there already: choose another folder"):
        prepare_audio(settings(tmp_path), progress=False)
    assert [child.name for child in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_too_few_speakers_and_no_recordings_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"audio=.*: there is no such folder"):
        prepare_audio(settings(tmp_path), progress=False)
    (tmp_path / "audio").mkdir()
    with pytest.raises(ValueError, match=r"holds no recording \(.wav, .flac"):
        prepare_audio(settings(tmp_path), progress=False)
    speakers(tmp_path / "audio", "ab")
    with pytest.raises(ValueError, match=r"2 speakers are too few for train, dev and test"):
        prepare_audio(settings(tmp_path), progress=False)


@pytest.mark.parametrize("package", ["soundfile", "praatio"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    speakers(tmp_path / "audio")
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(RuntimeError, match=rf"recordings need {package}.*: pip install 'senone\[audio\]'"):
        prepare_audio(settings(tmp_path), progress=False)
    assert not (tmp_path / "out").exists()


def test_recordings_of_floats_sound_like_those_of_whole_numbers(tmp_path: Path) -> None:
    speakers(tmp_path / "audio", "abc", 1)
    prepare_audio(settings(tmp_path), progress=False)
    for path in (tmp_path / "audio").rglob("*.wav"):
        samples, rate = soundfile.read(path, dtype="float32")
        soundfile.write(path, samples, rate, subtype="FLOAT")
    prepare_audio(settings(tmp_path, out=str(tmp_path / "floats")), progress=False)
    heard = [open_contest(tmp_path / out)["train"].read() for out in ("out", "floats")]
    for (whole, _), (floats, _) in zip(*heard, strict=True):
        np.testing.assert_allclose(floats, whole, atol=1e-3)


@pytest.mark.parametrize("rate", [22050, 11025, 44100])
def test_labels_keep_step_with_frames_at_any_sample_rate(tmp_path: Path, rate: int) -> None:
    seconds, at = 20, 19
    for name in "abc":
        samples = np.zeros(rate * seconds, np.int16)
        samples[at * rate :] = np.random.default_rng(0).normal(0, 1000, rate * (seconds - at))
        (tmp_path / "audio" / name).mkdir(parents=True)
        soundfile.write(tmp_path / "audio" / name / "x.wav", samples, rate)
        (tmp_path / "audio" / name / "x.lab").write_text(f"0.0 {at}.0 sil\n{at}.0 {seconds}.0 s\n")
    prepare_audio(settings(tmp_path), progress=False)
    (frames, labels), *_ = open_contest(tmp_path / "out")["train"].read()
    noise = int((frames.mean(axis=1) > 8).argmax())
    spoken = int((labels // 3 == PHONEMES.index("S")).argmax())
    assert abs(spoken - noise) <= 1


@pytest.mark.parametrize("text", ["0 1600 h#\n1600 3200 hh\n3200 4800 ah\n", "0 1 sil\n1 2 s\n"])
def test_whole_times_that_are_not_htks_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.lab").write_text(text)
    with pytest.raises(ValueError, match=r"x\.lab: its labels would last less than 10 ms each"):
        read_lab(tmp_path / "x.lab")
