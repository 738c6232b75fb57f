"""Runs side by side: how good each was, and in which settings they differ."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

IGNORED = {"name", "runs", "submissions", "data.cache", "train.resume", "corpus.workers"}


def compare_runs(root: Path) -> pd.DataFrame:
    """A row for each run below ``root`` that has finished an epoch, the best dev accuracy first: name, dev
    accuracy (of each frame alone), the epoch that reached it, epochs trained, seconds, and every setting in
    which the runs differ. Raises ValueError where there is no such run, or one that cannot be read."""
    rows, settings = [], []
    for folder in sorted(path.parent for path in root.glob("*/metrics.jsonl")):
        try:
            records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            if not records or not (folder / "config.json").is_file():
                continue
            config = json.loads((folder / "config.json").read_text())["config"]
            best = max(records, key=lambda record: record["dev_accuracy"])
            row = {"run": folder.name, "dev accuracy": best["dev_accuracy"], "best epoch": best["epoch"]}
            seconds = sum(record["seconds"] + record["dev_seconds"] for record in records)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder}: its files are not a run's ({type(error).__name__}: {error})"
            ) from None
        rows.append({**row, "epochs": len(records), "seconds": round(seconds)})
        settings.append(flatten(config))
    if not rows:
        raise ValueError(f"{root}: no run here has finished an epoch")
    keys = dict.fromkeys(key for setting in settings for key in setting if key not in IGNORED)
    for key in keys:
        values = [setting.get(key) for setting in settings]
        if any(value != values[0] for value in values):
            for row, value in zip(rows, values, strict=True):
                row[key] = value
    return pd.DataFrame(rows).sort_values("dev accuracy", ascending=False, ignore_index=True)


def flatten(config: dict[str, Any]) -> dict[str, Any]:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}."""

    def items(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, dict):
                yield from items(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    return dict(items(config, ""))
