"""The frame store: what it says of frames, utterances and what surrounds them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import open_split, raw

from senone.corpus.contest import write_utterances
from senone.frames import SURROUNDINGS


@pytest.mark.parametrize(("guard", "context"), [("edge", 3), ("zero", 16), ("edge", 17)])
def test_utterances_stand_between_their_own_guards(contest_folder: Path, guard: str, context: int) -> None:
    store = open_split(contest_folder, guard=guard, context=context)
    utterances = raw(contest_folder, "train")
    assert store.guard >= context
    assert store.num_utterances == len(utterances)
    assert store.num_frames == sum(map(len, utterances))
    for index, frames in enumerate(utterances):
        padded = np.pad(frames, ((context, context), (0, 0)), mode="edge" if guard == "edge" else "constant")
        np.testing.assert_array_equal(store.utterance(index, context).numpy(), padded)
        np.testing.assert_array_equal(
            store.utterance_labels(index), raw(contest_folder, "train_labels")[index]
        )
    with pytest.raises(ValueError, match=f"context {store.guard + 1} is more than the store's"):
        store.utterance(0, store.guard + 1)


def test_centres_are_the_rows_of_the_frames(contest_folder: Path) -> None:
    store = open_split(contest_folder)
    rows = store.rows[store.centres(torch.arange(store.num_frames, dtype=torch.int32))]
    np.testing.assert_array_equal(rows.numpy(), np.concatenate(raw(contest_folder, "train")))


def test_surroundings_are_the_levels_and_the_frames_before_and_after(contest_folder: Path) -> None:
    store = open_split(contest_folder)
    every = store.surroundings(torch.arange(store.num_frames, dtype=torch.int32))
    assert every.shape == (store.num_frames, SURROUNDINGS)
    expected = [
        [*levels.tolist(), place, len(frames) - 1 - place]
        for frames, levels in zip(raw(contest_folder, "train"), store.levels, strict=True)
        for place in range(len(frames))
    ]
    torch.testing.assert_close(every, torch.tensor(expected))


@pytest.mark.parametrize("normalise", ["none", "utterance"])
def test_a_centred_utterance_is_the_files_less_a_constant_of_each_bin(
    contest_folder: Path, normalise: str
) -> None:
    store = open_split(contest_folder, normalise=normalise)
    for index, frames in enumerate(raw(contest_folder, "train")):
        constant = store.centred(index) - torch.from_numpy(frames)
        torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=0, atol=1e-4)


def test_an_utterance_in_other_units_is_brought_near_to_the_usual_ones(contest_folder: Path) -> None:
    utterances = raw(contest_folder, "train")
    write_utterances(contest_folder / "train.npy", [1e4 * utterances[0], *utterances[1:]])
    store = open_split(contest_folder, normalise="utterance")
    usual = np.median([frames.std(0) for frames in utterances[1:]], axis=0)
    assert (store.centred(0).numpy().std(0) < 3.5 * usual).all()
    assert (store.centred(0).numpy().std(0) > 2.5 * usual).all()
    torch.testing.assert_close(store.centred(1).std(0), torch.from_numpy(utterances[1]).std(0))
