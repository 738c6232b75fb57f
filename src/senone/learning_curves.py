"""The four plots of Part 1, one picture of all of them, and the figures that they show."""

import csv
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

TRAINING, VALIDATION, TWIN = "#1f77b4", "#d95f02", "0.35"
PLOTS = {  # file: column of the statistics, title, colour, what the writeup expects in the end
    "train_loss.png": ("training_loss", "Training loss", TRAINING, 0.3),
    "train_error.png": ("training_error", "Training error", TRAINING, 0.1),
    "val_loss.png": ("validation_loss", "Validation loss", VALIDATION, 0.3),
    "val_error.png": ("validation_error", "Validation error", VALIDATION, 0.1),
}
OVERVIEW, STATS = "overview.png", "stats.csv"


def write_curves(folder: Path, stats: dict[str, list[float]], title: str, *, writeup: bool = True) -> None:
    """Draw the columns of the statistics, each a value an epoch, and write them to stats.csv.

    Columns are named as in PLOTS; one with ``twin_`` before its name is the torch twin's. ``writeup`` marks
    what the writeup expects. A file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        figure = _figure(6.4, 4.4)
        draw_curve(figure.add_subplot(), name, stats, writeup)
        _save(figure, folder / name)
    overview = _figure(11, 7.6)
    overview.suptitle(title)
    for axes, name in zip(overview.subplots(2, 2).flat, PLOTS, strict=True):
        draw_curve(axes, name, stats, writeup)
    _save(overview, folder / OVERVIEW)
    _write(folder / STATS, lambda path: _write_stats(path, stats))


def draw_curve(axes: Axes, name: str, stats: dict[str, list[float]], writeup: bool) -> None:
    """One plot of PLOTS into its axes."""
    column, title, colour, expected = PLOTS[name]
    values = stats[column]
    epochs = range(1, len(values) + 1)
    marker = "o" if len(values) <= 20 else ""
    axes.plot(epochs, values, marker=marker, color=colour, label=f"{values[-1]:.3f} at the end")
    if f"twin_{column}" in stats:
        axes.plot(epochs, stats[f"twin_{column}"], "--", color=TWIN, label="the torch twin")
    if writeup:
        axes.axhline(expected, color="0.6", linestyle=":", label=f"the writeup's {expected}")
    axes.set(
        title=title, xlabel="epoch", ylabel="cross-entropy" if "loss" in column else "share misclassified"
    )
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _write_stats(path: Path, stats: dict[str, list[float]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *stats])
        for epoch, row in enumerate(zip(*stats.values(), strict=True), 1):
            writer.writerow([epoch, *(f"{value:.10g}" for value in row)])


def _save(figure: Figure, path: Path) -> None:
    _write(path, lambda partial: figure.savefig(partial, format="png", dpi=120))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Under another name first, so that nobody finds half a file."""
    partial = path.with_name(f".{path.name}.partial")
    write(partial)
    partial.replace(path)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
