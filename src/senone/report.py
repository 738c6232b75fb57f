"""The pictures of a run, and the page that shows them together. Needs matplotlib (the extra ``plots``)."""

import base64
import html
import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRAMES_PER_SECOND = 100
TRAIN, DEV = "#1f77b4", "#d95f02"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Loss and accuracy of train and dev by epoch."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(10, 4.2)
    epochs = [record["epoch"] for record in history]
    for column, (what, label) in enumerate(
        (("loss", "cross-entropy a frame"), ("accuracy", "frame accuracy"))
    ):
        axes = figure.add_subplot(1, 2, column + 1)
        for split, colour in (("train", TRAIN), ("dev", DEV)):
            values = [record[f"{split}_{what}"] for record in history]
            axes.plot(epochs, values, "o-", color=colour, label=f"{split}: {values[-1]:.3f} at the end")
        axes.set(xlabel="epoch", ylabel=label, title=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    _save(figure, path)


def plot_confusion(confusion: np.ndarray, names: list[str], path: Path) -> None:
    """(G, G) counts of true phonemes (rows) by predicted phonemes (columns), each row as shares."""
    total = confusion.sum(axis=1, keepdims=True)
    shares = confusion / np.maximum(total, 1)
    side = min(max(6.0, 0.24 * len(names) + 2), 40.0)  # inches
    figure = _figure(side + 0.8, side)
    axes = figure.add_subplot()
    image = axes.imshow(np.where(total > 0, shares, np.nan), cmap="magma_r", vmin=0, vmax=1)
    named = math.ceil(0.24 * len(names) / 38)  # every so many classes, where names of all do not fit
    places, names = np.arange(len(names))[::named], names[::named]
    axes.set_xticks(places, names, rotation=90, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set(
        xlabel="predicted", ylabel="true", title="share of each true phoneme's frames (grey: does not occur)"
    )
    axes.set_facecolor("0.85")
    figure.colorbar(image, ax=axes, shrink=0.8)
    _save(figure, path)


def plot_utterance(
    frames: np.ndarray,
    true: np.ndarray,
    predicted: np.ndarray,
    names: list[str],
    states: int,
    path: Path,
    title: str,
) -> None:
    """(T, F) frames as a mel-spectrogram above strips of the (T,) true and predicted classes, ``states`` of
    which make each of the named phonemes."""
    seconds = len(frames) / FRAMES_PER_SECOND
    figure = _figure(float(np.clip(3.2 * seconds, 10, 40)), 5.2)
    spectrogram, truth, guess = figure.subplots(3, 1, sharex=True, height_ratios=(6, 1, 1))
    spectrogram.imshow(
        frames.T, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, frames.shape[1])
    )
    spectrogram.set(ylabel="mel bin", title=title)
    _strip(truth, true // states, names, np.zeros(len(true), bool), "true")
    _strip(guess, predicted // states, names, true != predicted, "predicted")
    guess.set(xlabel="seconds (red: frames whose state is wrong)", xlim=(0, seconds))
    _save(figure, path)


def _strip(axes: "Axes", phonemes: np.ndarray, names: list[str], wrong: np.ndarray, label: str) -> None:
    """Boxes of equal phonemes with their names; frames that are wrong are red below."""
    edges = np.flatnonzero(np.diff(phonemes)) + 1
    for index, (start, end) in enumerate(zip([0, *edges], [*edges, len(phonemes)], strict=True)):
        left, width = start / FRAMES_PER_SECOND, (end - start) / FRAMES_PER_SECOND
        axes.broken_barh([(left, width)], (0, 1), color=("#c6dbef", "#deebf7")[index % 2])
        if end - start >= 4:
            name = names[phonemes[start]]
            axes.text(left + width / 2, 0.62, name, ha="center", va="center", fontsize=7, clip_on=True)
    marks = np.flatnonzero(wrong)
    axes.broken_barh(
        [(mark / FRAMES_PER_SECOND, 1 / FRAMES_PER_SECOND) for mark in marks], (0, 0.25), color="#cb181d"
    )
    axes.set(ylim=(0, 1), yticks=[])
    axes.set_ylabel(label, rotation=0, ha="right", va="center")


def plot_scale(
    curves: dict[str, tuple[list[int], list[list[tuple[float, float]]]]], ways: list[str], path: Path
) -> None:
    """Seconds and megabytes by what grows: for each name its values, and for each way a pair a value."""
    figure = _figure(10, 7.5)
    grid = figure.subplots(2, len(curves))
    for column, (name, (values, series)) in enumerate(curves.items()):
        for row, label in enumerate(("seconds an epoch", "peak memory, MB")):
            axes = grid[row, column]
            for way, pairs, colour in zip(ways, series, (TRAIN, DEV), strict=True):
                axes.plot(values, [pair[row] for pair in pairs], "o-", color=colour, label=way)
            axes.set(xlabel=name, ylabel=label, yscale="log")
            axes.set_xscale("log" if min(values) > 0 else "linear")
            axes.grid(alpha=0.3)
            axes.legend()
    _save(figure, path)


def write_report(folder: Path, title: str, lines: list[str], pictures: list[str]) -> None:
    """report.html: what was said of a run and its pictures, in one file that can be sent around."""
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    images = "".join(
        f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,'
        f'{base64.b64encode((folder / name).read_bytes()).decode()}">'
        for name in pictures
    )
    style = "body{font-family:sans-serif;margin:2em}img{max-width:100%}"
    (folder / "report.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><h1>{html.escape(title)}</h1><ul>{facts}</ul>{images}</html>\n"
    )


def _figure(width: float, height: float) -> "Figure":
    """A figure of its own, outside pyplot's global state."""
    from matplotlib.figure import Figure  # here, so that all else runs without matplotlib

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    figure.savefig(path, dpi=110)
