"""From files to a store: normalisation that outliers cannot break, and a cache that is never half true."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import open_split, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from senone import preparation
from senone.corpus.contest import write_utterances
from senone.frames import BANDS
from senone.preparation import Moments, normalise_frames


def normalised(frames: np.ndarray) -> np.ndarray:
    moments = Moments.measure([frames])
    return normalise_frames(frames, moments.means[0], moments.spreads[0])


def test_a_clean_utterance_is_normalised_by_its_mean_and_variance() -> None:
    frames = np.random.default_rng(0).normal(5, 3, (500, 40)).astype(np.float32)
    expected = (frames - frames.mean(0)) / frames.std(0)
    np.testing.assert_allclose(normalised(frames), expected, atol=2e-3)


@pytest.mark.parametrize("wild", [1e3, -1e6, 1e15])
@pytest.mark.parametrize("share", [0.002, 0.04])
def test_outlier_frames_hardly_move_the_others(wild: float, share: float) -> None:
    generator = np.random.default_rng(0)
    clean = generator.normal(5, 3, (1000, 40)).astype(np.float32)
    struck = generator.random(1000) < share
    assert struck.any()
    spoiled = clean.copy()
    spoiled[struck] = wild * generator.standard_normal((struck.sum(), 40)).astype(np.float32)
    expected, ours = normalised(clean)[~struck], normalised(spoiled)[~struck]
    naive = (spoiled - spoiled.mean(0)) / spoiled.std(0)
    assert np.abs(ours - expected).mean() < 0.12
    assert np.abs(naive[~struck] - expected).mean() > 0.5  # the plain z-score squashes them
    assert np.isfinite(normalised(spoiled)).all()


def test_an_utterance_at_the_contests_wildest_scale_is_as_any_other() -> None:
    frames = np.random.default_rng(0).normal(0, 1, (400, 40)).astype(np.float32)
    direction = np.linspace(0.5, 1.5, 40, dtype=np.float32)
    wild = 1250 * frames * direction + 700  # eigenvalue 1.58e6 in one direction
    np.testing.assert_allclose(normalised(wild), normalised(frames), atol=1e-3)


@given(
    frames=st.integers(1, 40),
    value=st.floats(-1e6, 1e6, width=32),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e6]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
def test_normalisation_is_always_finite_and_bounded(
    frames: int, value: float, scale: float, seed: int
) -> None:
    noise = np.random.default_rng(seed).standard_normal((frames, 3))
    result = normalised((value + scale * noise).astype(np.float32))
    assert result.shape == (frames, 3)
    assert result.dtype == np.float32
    assert np.abs(result).max() <= 10


def test_digital_silence_with_a_little_speech_keeps_the_speech() -> None:
    frames = np.full((100, 4), -15.9, np.float32)
    frames[40:43] = 3.0
    result = normalised(frames)
    assert (result[40:43] > 3).all()
    assert (np.abs(result[:40]) < 0.5).all()


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (5, 3)])
def test_normalising_leaves_its_input_alone(shape: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).normal(5, 3, shape).astype(np.float32)
    before = frames.copy()
    normalised(frames)
    np.testing.assert_array_equal(frames, before)


def test_a_constant_bin_becomes_zero() -> None:
    assert (normalised(np.full((50, 3), 7.7, np.float32)) == 0).all()


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


def test_levels_of_few_bins_and_of_wild_frames_are_sound() -> None:
    frames = np.random.default_rng(0).normal(5, 3, (1000, 2)).astype(np.float32)
    (levels,) = Moments.measure([frames]).levels
    (first, second), spreads = frames.mean(0), frames.std(0)
    assert levels == pytest.approx([first, first, second, second, *np.repeat(spreads, 2)], rel=1e-3)
    wild = frames.copy()
    wild[::100] = 1e12
    assert Moments.measure([wild]).levels[0] == pytest.approx(levels, rel=0.1)


def speakers_frames() -> list[np.ndarray]:
    """Utterances of 8 bins of two speakers, two and one."""
    generator = np.random.default_rng(0)
    lengths, means, spreads = (30, 50, 40), (5, 7, -100), (1, 2, 30)
    return [
        (mean + spread * generator.uniform(-1, 1, (length, 8))).astype(np.float32)
        for length, mean, spread in zip(lengths, means, spreads, strict=True)
    ]


def test_moments_of_a_speaker_are_those_of_all_his_frames() -> None:
    first, second, other = speakers_frames()
    pooled = Moments.measure([first, second, other]).pool(np.array([0, 0, 1]))
    for index, frames in enumerate([np.concatenate([first, second])] * 2 + [other]):
        np.testing.assert_allclose(pooled.means[index], frames.mean(0), rtol=1e-5)
        np.testing.assert_allclose(pooled.spreads[index], frames.std(0), rtol=1e-5)
        np.testing.assert_allclose(pooled.counts[index], len(frames))


def test_a_drift_is_half_of_what_lies_between_the_means_of_both_halves() -> None:
    frames = np.random.default_rng(0).normal(3, 1, (40, 4)).astype(np.float32)
    expected = (frames[:20].mean(0) - frames[20:].mean(0)) / 2
    np.testing.assert_allclose(Moments.measure([frames]).drifts[0], expected, atol=1e-5)
    assert (Moments.measure([frames[:1]]).drifts == 0).all()


def test_a_speakers_utterances_are_normalised_together(contest_folder: Path) -> None:
    utterances = [*speakers_frames(), *raw(contest_folder, "train")[3:]]
    labels = [np.zeros(len(frames), np.int64) for frames in utterances]
    write_utterances(contest_folder / "train.npy", utterances)
    write_utterances(contest_folder / "train_labels.npy", labels)
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
