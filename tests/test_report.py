"""The pictures: what they show is there, and nothing of it is cut off."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from senone import report
from senone.phonemes import PHONEMES


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, for a look at what is on them."""
    drawn: list[Figure] = []
    make = report._figure

    def remember(width: float, height: float) -> Figure:
        drawn.append(make(width, height))
        return drawn[-1]

    monkeypatch.setattr(report, "_figure", remember)
    return drawn


def assert_nothing_is_cut_off(figure: Figure) -> None:
    width, height = figure.canvas.get_width_height()
    for text in figure.findobj(Text):
        if text.get_text() and text.get_visible() and not text.get_clip_on():
            box = text.get_window_extent()
            assert box.x0 >= -1, text
            assert box.y0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text


def history(epochs: int) -> list[dict[str, float]]:
    keys = ("train_loss", "dev_loss", "train_accuracy", "dev_accuracy")
    return [{"epoch": e, **{key: 1 / (e + i) for i, key in enumerate(keys)}} for e in range(1, epochs + 1)]


@pytest.mark.parametrize("epochs", [1, 30])
def test_curves_show_train_and_dev(tmp_path: Path, figures: list[Figure], epochs: int) -> None:
    report.plot_curves(history(epochs), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    for axes, what in zip(figures[0].axes, ("loss", "accuracy"), strict=True):
        assert axes.get_title() == what
        for line, split in zip(axes.lines, ("train", "dev"), strict=True):
            values = [record[f"{split}_{what}"] for record in history(epochs)]
            np.testing.assert_allclose(np.asarray(line.get_ydata(), float), values)
    assert_nothing_is_cut_off(figures[0])


def test_confusion_shows_shares_of_all_46_phonemes(tmp_path: Path, figures: list[Figure]) -> None:
    counts = np.random.default_rng(0).integers(1, 50, (46, 46))
    counts[3] = 0
    report.plot_confusion(counts, list(PHONEMES), tmp_path / "confusion.png")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(PHONEMES)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PHONEMES)
    shown = np.ma.getdata(axes.images[0].get_array())
    np.testing.assert_allclose(shown[5], counts[5] / counts[5].sum())
    assert np.isnan(shown[3]).all()
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))
    assert_nothing_is_cut_off(figures[0])


def test_confusion_of_hundreds_of_classes_is_no_larger_than_a_poster(
    tmp_path: Path, figures: list[Figure]
) -> None:
    names = [f"class_{index}" for index in range(500)]
    report.plot_confusion(np.eye(500, dtype=int), names, tmp_path / "confusion.png")
    assert max(figures[0].get_size_inches()) < 41
    shown = [label.get_text() for label in figures[0].axes[0].get_yticklabels()]
    assert shown == names[::4]
    boxes = [label.get_window_extent() for label in figures[0].axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 - 1 for upper, lower in pairwise(boxes))


def test_an_utterance_shows_true_and_predicted_phonemes_and_what_is_wrong(
    tmp_path: Path, figures: list[Figure]
) -> None:
    true = np.repeat([108, 109, 30, 31, 32, 60], 20)
    predicted = true.copy()
    predicted[40:60] = 33
    report.plot_utterance(
        np.random.default_rng(0).standard_normal((120, 40)),
        true,
        predicted,
        list(PHONEMES),
        3,
        tmp_path / "utterance.png",
        "dev utterance 7",
    )
    spectrogram, truth, guess = figures[0].axes
    assert spectrogram.get_title() == "dev utterance 7"
    assert [text.get_text() for text in truth.texts] == ["SIL", PHONEMES[10], PHONEMES[20]]
    assert [text.get_text() for text in guess.texts] == ["SIL", PHONEMES[11], PHONEMES[10], PHONEMES[20]]
    assert len(guess.collections[-1].get_paths()) == 20
    assert_nothing_is_cut_off(figures[0])


def test_the_report_holds_its_pictures_and_escapes_what_it_says(tmp_path: Path) -> None:
    report.plot_curves(history(2), tmp_path / "curves.png")
    report.write_report(tmp_path, "run <b>", ["dev accuracy: 70 % & more"], ["curves.png"])
    text = (tmp_path / "report.html").read_text()
    assert "run &lt;b&gt;" in text
    assert "70 % &amp; more" in text
    assert text.count("data:image/png;base64,") == 1
