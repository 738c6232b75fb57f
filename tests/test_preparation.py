"""From files to a store: normalised by speaker, and cached, where a cache is never half true."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import open_split, raw

from senone import preparation
from senone.corpus.contest import write_utterances
from senone.frames import BANDS


def test_levels_are_mean_and_spread_of_bands_before_normalising(contest_folder: Path) -> None:
    utterances = raw(contest_folder, "train")
    bins = utterances[0].shape[1]
    assert bins % BANDS == 0
    for normalise in ("none", "utterance"):
        store = open_split(contest_folder, normalise=normalise)
        for frames, levels in zip(utterances, store.levels, strict=True):
            moments = np.stack([frames.mean(0), frames.std(0)])  # (2, F)
            expected = moments.reshape(2, BANDS, -1).mean(2).flatten()
            np.testing.assert_allclose(levels, expected, rtol=1e-3, atol=1e-3)


def test_a_speakers_utterances_are_normalised_together(contest_folder: Path) -> None:
    utterances = raw(contest_folder, "train")
    store = open_split(contest_folder, normalise="speaker", utterances_per_speaker=2)
    assert store.speakers.tolist() == [0, 0, 1, 1, 2, 2]
    for first in range(0, 6, 2):
        both = np.concatenate(utterances[first : first + 2])
        expected = (both - both.mean(0)) / both.std(0)
        ours = torch.cat([store.utterance(first), store.utterance(first + 1)])
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        bands = np.stack([both.mean(0), both.std(0)]).reshape(2, BANDS, -1).mean(2).flatten()
        for index in (first, first + 1):
            np.testing.assert_allclose(store.levels[index], bands, rtol=1e-4, atol=1e-4)
    alone = open_split(contest_folder, normalise="utterance", utterances_per_speaker=2)
    assert torch.equal(alone.speakers, store.speakers)  # mixtures hear by speaker all the same
    np.testing.assert_allclose(alone.utterance(1).mean(0), np.zeros(8), atol=1e-5)


def test_speakers_are_found_unless_told(contest_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(means: np.ndarray, drifts: np.ndarray) -> np.ndarray:
        assert means.shape == drifts.shape == (6, 8)
        return np.array([0, 1, 1, 1, 2, 2])

    monkeypatch.setattr(preparation, "find_speakers", found)
    assert open_split(contest_folder).speakers.tolist() == [0, 1, 1, 1, 2, 2]
    assert open_split(contest_folder, utterances_per_speaker=4).speakers.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_cache_is_reopened_and_serves_nearby_contexts(contest_folder: Path) -> None:
    first = open_split(contest_folder, context=5)
    (folder,) = (contest_folder / "stores").iterdir()
    written = (folder / "rows.bin").stat().st_mtime_ns
    again = open_split(contest_folder, context=9)
    assert (folder / "rows.bin").stat().st_mtime_ns == written
    assert torch.equal(first.rows, again.rows)
    assert len(list((contest_folder / "stores").iterdir())) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "cut",
        "no label",
        "few levels",
        "few means",
        "few spreads",
        "few speakers",
        "foreign",
        "no json",
        "broken json",
    ],
)
def test_a_half_written_or_foreign_cache_is_built_again(contest_folder: Path, damage: str) -> None:
    expected = open_split(contest_folder).rows.clone()
    (folder,) = (contest_folder / "stores").iterdir()
    about = folder / "store.json"
    if damage == "cut":
        (folder / "rows.bin").write_bytes((folder / "rows.bin").read_bytes()[:-4])
    elif damage == "no label":
        (folder / "labels.bin").unlink()
    elif damage.startswith("few "):
        short = folder / f"{damage.removeprefix('few ')}.bin"
        short.write_bytes(short.read_bytes()[:-4])
    elif damage == "foreign":
        about.write_text(json.dumps({**json.loads(about.read_text()), "key": "another"}))
    elif damage == "no json":
        about.unlink()
    else:
        about.write_text(about.read_text()[:40])
    assert torch.equal(open_split(contest_folder).rows, expected)
    assert json.loads(about.read_text())["rows"] == len(expected)


def test_two_runs_that_build_one_cache_share_the_first_that_is_done(
    contest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, inodes = preparation._build_store, []

    def inode() -> int:
        (folder,) = (contest_folder / "stores").glob("train-*")
        return (folder / "rows.bin").stat().st_ino

    def build_while_another_does(*arguments: Any, **options: Any) -> None:
        build(*arguments, **options)
        monkeypatch.undo()
        open_split(contest_folder)
        inodes.append(inode())

    monkeypatch.setattr(preparation, "_build_store", build_while_another_does)
    store = open_split(contest_folder)
    assert [inode()] == inodes  # what the other one may be reading is still there
    assert torch.equal(store.rows, open_split(contest_folder).rows)
    assert len(list((contest_folder / "stores").iterdir())) == 1


@pytest.mark.parametrize(
    "change", [{"guard": "zero"}, {"normalise": "utterance"}, {"utterances_per_speaker": 2}, {"context": 40}]
)
def test_other_settings_make_another_cache(contest_folder: Path, change: dict[str, object]) -> None:
    before = open_split(contest_folder)
    after = open_split(contest_folder, **change)
    assert before.fingerprint != after.fingerprint


def test_changed_files_make_another_cache(contest_folder: Path) -> None:
    before = open_split(contest_folder)
    utterances = raw(contest_folder, "train")
    utterances[0] = utterances[0] + 1
    write_utterances(contest_folder / "train.npy", utterances)
    after = open_split(contest_folder)
    assert before.fingerprint != after.fingerprint
    assert not torch.equal(before.rows, after.rows)


def test_a_failed_build_leaves_no_cache_behind(contest_folder: Path) -> None:
    utterances = raw(contest_folder, "train")
    utterances[-1][3, 2] = np.nan
    write_utterances(contest_folder / "train.npy", utterances)
    with pytest.raises(ValueError, match="NaN"):
        open_split(contest_folder)
    assert list((contest_folder / "stores").iterdir()) == []


def spoil(folder: Path, split: str, utterance: int, frames: list[int], value: float) -> None:
    utterances = raw(folder, split)
    utterances[utterance][frames, 1] = value
    write_utterances(folder / f"{split}.npy", utterances)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_frames_are_named_and_refused(contest_folder: Path, value: float) -> None:
    spoil(contest_folder, "dev", 2, [5, 7], value)
    with pytest.raises(
        ValueError, match=r"dev\.npy, utterance 2: frame 5 is NaN or infinite \(2 of \d+ .*on_bad=drop"
    ):
        open_split(contest_folder, "dev")


def test_a_dropped_utterance_takes_none_from_the_next_speaker(contest_folder: Path) -> None:
    frames = raw(contest_folder, "train")
    frames[1] = np.full_like(frames[1], np.nan)
    write_utterances(contest_folder / "train.npy", frames)
    store = open_split(contest_folder, on_bad="drop", utterances_per_speaker=3)
    assert store.speakers.tolist() == [0, 0, 1, 1, 1]


def test_who_may_read_the_cache_may_read_what_is_in_it(contest_folder: Path) -> None:
    (contest_folder / "stores").mkdir(mode=0o755)
    open_split(contest_folder)
    modes = {path.stat().st_mode & 0o777 for path in (contest_folder / "stores").iterdir()}
    assert modes == {0o755}


def test_dropped_frames_go_with_their_labels(contest_folder: Path) -> None:
    before = open_split(contest_folder)
    kept = np.delete(np.arange(before.num_frames), [5, 7])
    spoil(contest_folder, "train", 0, [5, 7], np.nan)
    after = open_split(contest_folder, on_bad="drop")
    frames = after.rows[after.centres(torch.arange(after.num_frames))]
    assert before.labels is not None
    assert after.labels is not None
    assert torch.equal(frames, before.rows[before.centres(torch.from_numpy(kept))])
    assert torch.equal(after.labels, before.labels[kept])


def test_a_test_frame_is_never_dropped_but_becomes_its_good_neighbour(contest_folder: Path) -> None:
    before = open_split(contest_folder, "test").utterance(0).clone()
    spoil(contest_folder, "test", 0, [0, 1, 8, 9], np.inf)
    after = open_split(contest_folder, "test", on_bad="drop").utterance(0)
    expected = before.clone()
    expected[[0, 1]], expected[[8, 9]] = before[2], before[7]
    assert torch.equal(after, expected)


def test_an_utterance_with_nothing_good_in_it_is_left_out_of_train_and_empty_in_test(
    contest_folder: Path,
) -> None:
    for split in ("train", "test"):
        everything = list(range(len(raw(contest_folder, split)[0])))
        spoil(contest_folder, split, 0, everything, np.nan)
    assert open_split(contest_folder, on_bad="drop").num_utterances == 5
    test = open_split(contest_folder, "test", on_bad="drop")
    assert test.num_utterances == 2
    assert (test.utterance(0) == 0).all()


@pytest.mark.parametrize(("label", "classes"), [(6, 6), (-1, 6), (-1, None)])
def test_a_label_outside_the_classes_is_named(contest_folder: Path, label: int, classes: int | None) -> None:
    labels = raw(contest_folder, "train_labels")
    labels[4][11] = label
    write_utterances(contest_folder / "train_labels.npy", labels)
    with pytest.raises(
        ValueError, match=rf"train_labels\.npy, utterance 4: label {label} of frame 11, expected 0 to"
    ):
        open_split(contest_folder, num_classes=classes)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int16])
def test_any_integer_type_of_label_reads_alike(contest_folder: Path, dtype: type) -> None:
    expected = open_split(contest_folder).labels
    labels = [array.astype(dtype) for array in raw(contest_folder, "train_labels")]
    write_utterances(contest_folder / "train_labels.npy", labels)
    ours = open_split(contest_folder).labels
    assert expected is not None
    assert ours is not None
    assert torch.equal(ours, expected)


def test_the_number_of_classes_is_read_off_the_labels_or_given(contest_folder: Path) -> None:
    assert open_split(contest_folder).num_classes == 6
    few = open_split(contest_folder, num_classes=138)
    assert few.num_classes == 138
    assert few.labels is not None
    assert few.labels.dtype == torch.uint8


def test_more_than_256_classes_are_kept_apart(contest_folder: Path) -> None:
    labels = [array + 995 for array in raw(contest_folder, "train_labels")]
    write_utterances(contest_folder / "train_labels.npy", labels)
    store = open_split(contest_folder)
    assert store.labels is not None
    assert store.num_classes == 1001 - (5 - max(int(array.max()) - 995 for array in labels))
    np.testing.assert_array_equal(store.labels, np.concatenate(labels))
