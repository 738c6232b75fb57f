"""Augmentation: each change does what it says, to each example its own, and none does nothing."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from senone.augment import Augmentation, Warped, draw_factors, draw_mask, warp_bins
from senone.corpus.contest import open_contest
from senone.evaluate import utterance_logits
from senone.models import build_model
from senone.preparation import open_store

CPU = torch.device("cpu")


def test_without_any_setting_nothing_changes() -> None:
    x = torch.randn(5, 9, 40)
    assert torch.equal(Augmentation()(x.clone()), x)
    assert Augmentation().draw_speed(5, CPU) is None


@pytest.mark.parametrize(
    "settings", [{"warp": 0.1}, {"bin_masks": 2}, {"frame_masks": 1}, {"noise": 0.3}], ids=str
)
def test_each_setting_changes_each_example_in_its_own_way(settings: dict[str, float]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 30, 40).repeat(20, 1, 1)
    changed = Augmentation(**settings)(x.clone())  # type: ignore[arg-type]
    assert changed.shape == x.shape
    ways = {tuple(example.flatten().tolist()) for example in changed}
    assert len(ways) > 15
    again = Augmentation(**settings)(x.clone())  # type: ignore[arg-type]
    assert not torch.equal(changed, again)


def test_factors_are_within_their_spread_and_as_often_up_as_down() -> None:
    torch.manual_seed(0)
    factors = draw_factors(10_000, 0.2, CPU)
    assert 1 / 1.2 <= factors.min() < 0.84
    assert 1.19 < factors.max() <= 1.2 + 1e-6
    assert abs(float(factors.log().mean())) < 5 * math.log(1.2) / math.sqrt(3 * 10_000)
    speed = Augmentation(speed=0.2).draw_speed(1000, CPU)
    assert speed is not None
    assert 1 / 1.2 <= speed.min() < speed.max() <= 1.2 + 1e-6


def test_a_mask_is_one_gap_of_any_width_up_to_the_widest_anywhere() -> None:
    torch.manual_seed(0)
    mask = draw_mask(20_000, 12, 4, CPU)
    widths = (1 - mask).sum(dim=1)
    assert widths.unique().tolist() == [0, 1, 2, 3, 4]
    assert abs(widths.mean() - 2) < 0.05
    edges = torch.nn.functional.pad(mask, (1, 1), value=1.0).diff(dim=1).abs().sum(dim=1)
    assert edges.unique().tolist() == [0, 2]
    assert (mask == 0).any(dim=0).all()  # each place is hidden at times
    assert set((1 - draw_mask(100, 3, 50, CPU)).sum(dim=1).tolist()) == {0, 1, 2, 3}


def test_masks_hide_bins_in_all_frames_and_frames_in_all_bins() -> None:
    torch.manual_seed(1)
    x = torch.ones(50, 20, 40)
    bands = Augmentation(bin_masks=1)(x.clone())
    assert torch.equal(bands, bands[:, :1].expand_as(bands))
    gaps = Augmentation(frame_masks=1)(x.clone())
    assert torch.equal(gaps, gaps[:, :, :1].expand_as(gaps))


def peak_at(frequency: float, bins: int = 40) -> torch.Tensor:
    """(F,) a bump over mel bins between 20 and 8,000 Hz, around a frequency."""
    low, high = (1127 * math.log1p(f / 700) for f in (20, 8000))
    place = (1127 * math.log1p(frequency / 700) - low) / (high - low) * (bins + 1) - 1
    return torch.exp(-0.5 * ((torch.arange(bins) - place) / 2) ** 2)


@pytest.mark.parametrize("frequency", [500, 1000, 3000])
@pytest.mark.parametrize("factor", [0.85, 1.0, 1.2])
def test_a_warp_moves_a_formant_by_its_factor(frequency: float, factor: float) -> None:
    x = peak_at(frequency).expand(1, 3, 40)
    warped = warp_bins(x, torch.tensor([factor]))
    moved = peak_at(frequency / factor)
    places = torch.arange(40)
    centre = (warped[0, 0] * places).sum() / warped[0, 0].sum()
    expected = (moved * places).sum() / moved.sum()
    assert abs(centre - expected) < 0.25
    if factor == 1:
        torch.testing.assert_close(warped, x, rtol=0, atol=1e-4)


def test_a_warp_keeps_a_flat_spectrum_and_a_single_bin() -> None:
    flat = torch.full((4, 3, 40), 1.5)
    torch.testing.assert_close(warp_bins(flat, torch.tensor([0.5, 0.9, 1.1, 2.0])), flat)
    one = torch.randn(2, 3, 1)
    torch.testing.assert_close(warp_bins(one, torch.tensor([0.9, 1.1])), one)


def test_noise_has_its_standard_deviation() -> None:
    torch.manual_seed(0)
    added = Augmentation(noise=0.25)(torch.zeros(100, 20, 40))
    assert abs(added.std() - 0.25) < 0.005
    assert abs(added.mean()) < 0.005


def test_a_warped_model_is_the_model_on_warped_frames(contest_folder: Path) -> None:
    split = open_contest(contest_folder)["dev"]
    store = open_store(split, contest_folder / "stores", context=4, num_classes=6)
    torch.manual_seed(0)
    model = build_model({"name": "mlp", "context": 4, "widths": [32]}, 8, 6)
    warped = list(utterance_logits(Warped(model, 1.1), store, CPU))
    rows = warp_bins(store.rows[None], torch.tensor([1.1]))[0]
    expected = list(utterance_logits(model, replace(store, rows=rows), CPU))
    torch.testing.assert_close(warped, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(warped[0], next(utterance_logits(model, store, CPU)), atol=1e-2)
