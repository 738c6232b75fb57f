import csv

import numpy as np
import pytest
from matplotlib.figure import Figure

from senone.learning_curves import OVERVIEW, PLOTS, STATS, draw_curve, write_curves


def make_stats(epochs, twin=False):
    rng = np.random.default_rng(0)
    columns = [column for column, *_ in PLOTS.values()]
    columns += [f"twin_{column}" for column in columns] * twin
    return {column: rng.random(epochs).tolist() for column in columns}


def test_every_picture_is_drawn_and_every_figure_written(tmp_path):
    stats, folder = make_stats(30, twin=True), tmp_path / "new" / "run"
    write_curves(folder, stats, "a run")
    assert {path.name for path in folder.iterdir()} == {*PLOTS, OVERVIEW, STATS}
    for name in (*PLOTS, OVERVIEW):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    header, *rows = csv.reader((folder / STATS).read_text().splitlines())
    assert header == ["epoch", *stats]
    assert [row[0] for row in rows] == [str(epoch) for epoch in range(1, 31)]
    np.testing.assert_allclose(np.array(rows, float)[:, 1:].T, list(stats.values()), rtol=1e-9)


@pytest.mark.parametrize("epochs", [1, 30])
@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("writeup", [False, True])
def test_a_plot_shows_the_curve_and_what_to_compare_it_with(epochs, twin, writeup):
    stats, axes = make_stats(epochs, twin), Figure().add_subplot()
    draw_curve(axes, "val_error.png", stats, writeup)
    curves = [line.get_ydata() for line in axes.lines]
    assert len(curves) == 1 + twin + writeup
    np.testing.assert_array_equal(curves[0], stats["validation_error"])
    if twin:
        np.testing.assert_array_equal(curves[1], stats["twin_validation_error"])
    if writeup:
        assert curves[-1] == [0.1, 0.1]
    assert axes.get_title() == "Validation error"


def test_figures_that_cannot_be_written_leave_the_old_ones(tmp_path, monkeypatch):
    (tmp_path / STATS).write_text("the last run's")
    monkeypatch.setattr(csv, "writer", lambda file: file.write("half a li") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_curves(tmp_path, make_stats(2), "a run")
    assert (tmp_path / STATS).read_text() == "the last run's"
