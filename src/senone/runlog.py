"""A run's folder, and everything that is written down while it runs."""

import importlib
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

PACKAGES = ("senone", "torch", "numpy", "pandas")
Tracker = Callable[[dict[str, Any]], object]  # is shown the record of each epoch


class RunLog:
    """``runs/<name>/``: config.json, metrics.jsonl (a record an epoch), train.log, and what others add.

    A ``quiet`` one, of a process that leaves the writing to another, says nothing."""

    def __init__(self, folder: Path, quiet: bool = False) -> None:
        self.folder, self.quiet = folder, quiet
        self.trackers: list[Tracker] = []

    @classmethod
    def create(cls, root: Path, name: str) -> "RunLog":
        """A new folder ``root/name``; two runs of one name become ``name`` and ``name-2``."""
        root.mkdir(parents=True, exist_ok=True)
        number = 1
        while True:
            folder = root / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                number += 1
            else:
                return cls(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    def say(self, text: str) -> None:
        """Print a line above the progress bar, and keep it in train.log."""
        if self.quiet:
            return
        tqdm.write(text)
        with (self.folder / "train.log").open("a") as file:
            file.write(text + "\n")

    def write_config(self, config: dict[str, Any], **facts: Any) -> None:
        """config.json: the resolved configuration, package versions, the git commit and other facts."""
        about = {"config": config, "versions": package_versions(), "commit": git_commit(), **facts}
        (self.folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")

    def write_metrics(self, records: list[dict[str, Any]]) -> None:
        """metrics.jsonl, whole: after a resume, nothing stays of what was trained past the checkpoint."""
        partial = self.folder / "metrics.jsonl.partial"
        partial.write_text("".join(json.dumps(record) + "\n" for record in records))
        partial.replace(self.folder / "metrics.jsonl")
        for track in self.trackers:
            track(records[-1])

    def track(self, names: Iterable[str], config: dict[str, Any]) -> None:
        """Show each record to these of TRACKERS as well."""
        if not self.quiet:
            self.trackers = [TRACKERS[name](self.folder, config) for name in names]


def require_trackers(names: Iterable[str]) -> None:
    """Raise RuntimeError for one that is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            raise RuntimeError(f"trackers={name} needs its package: pip install {name}") from None


def _tensorboard(folder: Path, config: dict[str, Any]) -> Tracker:
    """Scalars in the run's folder, for ``tensorboard --logdir runs``."""
    writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder)

    def track(record: dict[str, Any]) -> None:
        for key, value in record.items():
            writer.add_scalar(key, value, record["step"])
        writer.flush()

    return track


def _wandb(folder: Path, config: dict[str, Any]) -> Tracker:
    """A run of the folder's name in the project senone; a resumed one goes on in it, by the id in wandb.id:
    another machine's run may have the same name."""
    known = folder / "wandb.id"
    if not known.exists():
        known.write_text(secrets.token_hex(4))
    run = importlib.import_module("wandb").init(
        project="senone", name=folder.name, id=known.read_text(), dir=folder, config=config, resume="allow"
    )
    return lambda record: run.log(record, step=record["step"])


TRACKERS = {"tensorboard": _tensorboard, "wandb": _wandb}


def bar_interval() -> float:
    """Seconds between two states of a progress bar: smooth for eyes, sparse in a log file."""
    return 0.2 if sys.stderr.isatty() else 10.0


def package_versions() -> dict[str, str]:
    """The versions that a result depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the source tree, with ``+`` if it was changed since; None outside a git checkout."""
    source = Path(__file__).parent
    command = ["git", "-C", str(source), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
