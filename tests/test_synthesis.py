import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from senone.config import CorpusConfig
from senone.corpus import synthesis
from senone.corpus.contest import open_contest
from senone.corpus.object_array import index_arrays
from senone.corpus.speaker import FILLER_RATE, draw_voice, pause, speaker_rng
from senone.corpus.synthesis import (
    ARRAYS,
    MANIFEST,
    SIZES,
    SplitSize,
    content_hash,
    explicit_sizes,
    make_corpus,
)
from senone.phonemes import FILLERS, PHONEMES

ONE_EACH = {"train": SplitSize(2, 1), "dev": SplitSize(1, 1), "test": SplitSize(1, 1)}


def make(root: Path, **settings: object) -> dict:
    return make_corpus(root, **{"size": "tiny", "sizes": ONE_EACH, "progress": False} | settings)  # type: ignore


def arrays(path: Path) -> list[np.ndarray]:
    with path.open("rb") as file:
        return [place.read(file) for place in index_arrays(path)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one") / "corpus"
    make(root, workers=1)
    return root


def test_the_corpus_has_the_contest_s_format(tiny_corpus: Path) -> None:
    splits = open_contest(tiny_corpus)
    for name, split in splits.items():
        size = SIZES["tiny"][name]
        assert len(split.frames) == size.speakers * size.utterances
        assert {place.dtype for place in split.frames} == {np.dtype(np.float32)}
        assert split.num_bins == 40
        for frames, labels in split.read():
            assert np.isfinite(frames).all()
            if labels is not None:
                assert labels.dtype == np.int64
                assert len(labels) == len(frames)
                assert 0 <= labels.min() <= labels.max() < 138


def test_test_labels_are_written_apart(tiny_corpus: Path) -> None:
    assert not (tiny_corpus / "test_labels.npy").exists()
    labels = arrays(tiny_corpus / "private" / "test_labels.npy")
    assert [len(states) for states in labels] == open_contest(tiny_corpus)["test"].lengths


def test_every_phoneme_runs_through_its_three_states(tiny_corpus: Path) -> None:
    for labels in arrays(tiny_corpus / "train_labels.npy"):
        runs = labels[np.flatnonzero(np.diff(labels, prepend=-1))]
        assert (runs[0::3] % 3 == 0).all()
        assert (runs[1::3] == runs[0::3] + 1).all()
        assert (runs[2::3] == runs[0::3] + 2).all()
        assert len(runs) % 3 == 0
        silence = 3 * PHONEMES.index("SIL")
        assert runs[0] == silence or runs[0] // 3 < len(FILLERS)


def test_the_manifest_says_what_is_there(tiny_corpus: Path) -> None:
    manifest = json.loads((tiny_corpus / MANIFEST).read_text())
    for name, split in open_contest(tiny_corpus).items():
        assert manifest["splits"][name] == {"utterances": len(split.frames), "frames": sum(split.lengths)}
    assert manifest["sha256"] == content_hash(tiny_corpus)
    assert manifest["settings"]["seed"] == 0
    assert set(manifest["versions"]) == {"senone", "numpy", "espeakng-loader", "kaldi-native-fbank"}
    assert 0 < manifest["dev_words_unseen_in_train"] < 1


@pytest.mark.parametrize("workers", [2, 3])
def test_the_corpus_is_the_same_for_any_number_of_workers(corpus: Path, tmp_path: Path, workers: int) -> None:
    manifest = make(tmp_path / "again", workers=workers)
    assert manifest["sha256"] == json.loads((corpus / MANIFEST).read_text())["sha256"]
    for name in ARRAYS:
        assert (tmp_path / "again" / name).read_bytes() == (corpus / name).read_bytes()


def test_another_seed_makes_another_corpus(corpus: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "other", seed=1)["sha256"] != content_hash(corpus)


def test_a_larger_corpus_keeps_the_speakers_of_a_smaller_one(corpus: Path, tiny_corpus: Path) -> None:
    few, many = arrays(corpus / "train.npy"), arrays(tiny_corpus / "train.npy")
    np.testing.assert_array_equal(few[0], many[0])
    np.testing.assert_array_equal(few[1], many[SIZES["tiny"]["train"].utterances])


def test_no_speaker_is_in_two_splits() -> None:
    voices = [
        draw_voice(speaker_rng(0, split, number))
        for split, size in SIZES["large"].items()
        for number in range(size.speakers)
    ]
    assert len(set(voices)) == len(voices) == 380


def test_all_phonemes_occur_in_a_small_corpus(tmp_path: Path) -> None:
    make_corpus(tmp_path / "small", size="small", progress=False)
    frames = Counter(np.concatenate(arrays(tmp_path / "small" / "train_labels.npy")).tolist())
    assert set(frames) == set(range(138))
    fillers = sum(frames[state] for state in range(3 * len(FILLERS)))
    assert 0.005 < fillers / frames.total() < 0.04
    assert 0.08 < sum(frames[3 * PHONEMES.index("SIL") + state] for state in range(3)) / frames.total() < 0.25


class Hum:
    """Stands in for the engine where only its fillers are asked for."""

    def say(self, text: str) -> tuple[np.ndarray, list]:
        from senone.corpus.espeak import Marker

        return np.full(5000, 900, np.int16), [Marker("V", 0), Marker("_:", 4000)]


def test_a_tenth_of_the_pauses_have_a_filler_and_all_six_come_in_turn() -> None:
    rng = np.random.default_rng(0)
    fillers = itertools.cycle(FILLERS)
    pauses = [pause(Hum(), fillers, 1000.0, rng) for _ in range(4000)]  # type: ignore[arg-type]
    filled = [segments for segments in pauses if len(segments) > 1]
    assert abs(len(filled) / len(pauses) - FILLER_RATE) < 0.015
    assert all([s.phoneme for s in segments][::2] == ["SIL", "SIL"] for segments in filled)
    assert [segments[1].phoneme for segments in filled[:12]] == [*FILLERS, *FILLERS]
    assert all(len(s.samples) >= 0.03 * 22050 - 1 for segments in pauses for s in segments)


SPEAK = """
import json, sys
from pathlib import Path
from senone.corpus.alignment import segments
from senone.corpus.espeak import Engine
from senone.corpus.speaker import draw_voice, speaker_rng
voice = Path(sys.argv[1])
voice.write_text(draw_voice(speaker_rng(0, "train", 0)))
spoken = segments(*Engine(voice, 175).say(sys.argv[2]))
silent = [int((abs(part.samples.astype(int)) > 2).argmax()) for part in spoken]
print(json.dumps([(part.phoneme, len(part.samples), gap) for part, gap in zip(spoken, silent)]))
"""


def speak(folder: Path, sentence: str) -> list[tuple[str, int, int]]:
    """Phoneme, samples, and silent samples at its start: from a process of its own, as always."""
    command = [sys.executable, "-c", SPEAK, "voice", sentence]
    return json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout)


def test_the_voice_speaks_the_contest_s_phonemes(tmp_path: Path) -> None:
    spoken = speak(tmp_path, "The market put a cheap measure of oil here, for fire.")
    expected = "DH AH M AA R K IH T P UH T AH CH IY P M EH ZH ER R AH V OY L HH IH R SIL F AO R F AY ER SIL"
    assert [phoneme for phoneme, _, _ in spoken] == expected.split()


def test_closures_belong_to_the_stops(tmp_path: Path) -> None:
    spoken = speak(tmp_path, "Take a paper ticket to the church bank.")
    stops = [part for before, part in itertools.pairwise(spoken) if part[0] in ("P", "T", "K", "CH")]
    assert len(stops) >= 9
    flaps = [length for phoneme, length, silent in stops if silent == 0]
    assert len(flaps) <= 2  # a t between vowels is a tap and has no closure
    for _, length, silent in stops:
        assert silent == 0 or 0.02 * 22050 < silent < length


def test_a_second_call_reuses_what_is_there(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthesis, "_speak_all", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)  # not even the wheel is needed
    before = (corpus / "train.npy").stat().st_mtime_ns
    assert make(corpus) == json.loads((corpus / MANIFEST).read_text())
    assert (corpus / "train.npy").stat().st_mtime_ns == before


def test_other_settings_replace_the_corpus(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()  # an empty folder is as good as none
    first = make(root)
    second = make(root, seed=3)
    assert second["sha256"] != first["sha256"]
    assert content_hash(root) == second["sha256"]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_damaged_corpus_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    manifest = make(root)
    (root / "dev.npy").write_bytes(b"short")
    assert make(root) == manifest
    assert content_hash(root) == manifest["sha256"]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.npy").write_text("precious")
    with pytest.raises(ValueError, match=r"is no made corpus \(no readable corpus.json\): choose another"):
        make(tmp_path)
    assert (tmp_path / "train.npy").read_text() == "precious"
    with pytest.raises(ValueError, match="is no made corpus"):
        make(tmp_path / "train.npy")


def test_a_corpus_with_a_foreign_file_in_it_is_not_replaced(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    make(root)
    (root / "private" / "notes.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"notes.txt is not part of a made corpus"):
        make(root, seed=1)
    assert (root / "private" / "notes.txt").read_text() == "precious"
    assert make(root) is not None  # as it is, nothing needs to be replaced


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    speak = synthesis._run_speaker

    def stop_at_the_second(job: dict, folder: Path) -> None:
        if job["number"] == 1:
            raise error
        speak(job, folder)

    monkeypatch.setattr(synthesis, "_run_speaker", stop_at_the_second)
    with pytest.raises(error):
        make(tmp_path / "corpus")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_leaves_nothing_that_looks_like_a_corpus(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    code = (
        "from pathlib import Path; from senone.corpus.synthesis import make_corpus;"
        f"make_corpus(Path({str(root)!r}), size='tiny', workers=1, progress=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not list(tmp_path.rglob("*.npz")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not root.exists()
    assert make(root)["sha256"] == content_hash(root)


def test_a_speaker_that_fails_is_reported_in_one_line(tmp_path: Path) -> None:
    job = {"split": "nowhere", "number": 7, "utterances": 1, "seed": 0}
    with pytest.raises(RuntimeError, match=r"^speaker 7 of nowhere failed: ValueError: .*$") as caught:
        synthesis._run_speaker(job, tmp_path)
    assert "\n" not in str(caught.value)


def test_this_process_never_loads_the_speech_engine(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from senone.corpus.synthesis import *;"
        f"make_corpus(Path({str(tmp_path / 'c')!r}), size='tiny', progress=False);"
        "print('espeakng_loader' in sys.modules, 'espeak-ng' in Path('/proc/self/maps').read_text()"
        " if Path('/proc/self/maps').exists() else False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("module", ["espeakng_loader", "kaldi_native_fbank"])
def test_a_missing_wheel_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    wheel = module.replace("_", "-")
    with pytest.raises(
        RuntimeError, match=rf"needs {wheel}: pip install 'senone\[corpus\]'.*data=contest"
    ) as e:
        make(tmp_path / "corpus")
    assert "\n" not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_sets_the_sizes_it_names() -> None:
    assert explicit_sizes(CorpusConfig()) == {}
    assert explicit_sizes(CorpusConfig(dev=[3, 2])) == {"dev": SplitSize(3, 2)}
    with pytest.raises(ValueError, match=r"corpus.dev=\[0, 2\]: expected \[speakers, utterances of each\]"):
        CorpusConfig(dev=[0, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": "huge"}, "'huge': expected one of tiny, small, default, large"),
        ({"seed": -1}, "seed -1: expected 0 or more"),
        ({"workers": -1}, "workers -1: expected 0"),
        ({"sizes": {"eval": SplitSize(1, 1)}}, "unknown split 'eval'; there are train, dev, test"),
        ({"sizes": {"dev": SplitSize(0, 3)}}, "dev: expected at least one speaker"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "corpus", **settings)
    assert list(tmp_path.iterdir()) == []
