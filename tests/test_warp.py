"""A warped frame is read between the bins, and a warped model is the model on such frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from senone.corpus.contest import open_contest
from senone.evaluate import utterance_logits
from senone.frames import open_store
from senone.models import build_model
from senone.warp import Warped, warp_matrix

CPU = torch.device("cpu")


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.07])
def test_warping_reads_between_the_bins(factor: float) -> None:
    frames = np.random.default_rng(0).standard_normal((5, 12)).astype(np.float32)
    bins = np.arange(12)
    expected = [np.interp(bins * factor, bins, frame) for frame in frames]
    np.testing.assert_allclose(torch.from_numpy(frames) @ warp_matrix(12, factor), expected, atol=1e-5)


def test_a_warped_model_is_the_model_on_warped_frames(contest_folder: Path) -> None:
    split = open_contest(contest_folder)["dev"]
    store = open_store(split, contest_folder / "stores", context=4, num_classes=6)
    torch.manual_seed(0)
    model = build_model({"name": "mlp", "context": 4, "widths": [32]}, 8, 6)
    warped = list(utterance_logits(Warped(model, 1.1, 8), store, CPU))
    bins = np.arange(8)
    rows = np.stack([np.interp(bins * 1.1, bins, row) for row in store.rows.numpy()]).astype(np.float32)
    expected = list(utterance_logits(model, replace(store, rows=torch.from_numpy(rows)), CPU))
    torch.testing.assert_close(warped, expected, rtol=1e-4, atol=1e-4)
