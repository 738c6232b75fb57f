"""The frame store: what it says of frames, utterances and what surrounds them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import open_split, raw

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


@pytest.mark.parametrize("normalise", ["none", "utterance", "speaker"])
def test_the_original_frames_are_those_of_the_files(contest_folder: Path, normalise: str) -> None:
    store = open_split(contest_folder, normalise=normalise)
    for index, frames in enumerate(raw(contest_folder, "train")):
        torch.testing.assert_close(store.original(index), torch.from_numpy(frames), rtol=0, atol=1e-4)
