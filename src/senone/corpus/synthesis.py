"""The made corpus: synthesised speech in the contest's files, the same bytes for the same seed.

Each speaker is the work of one fresh process (``speaker``), so neither the number of workers nor their order
shows in the result. This process only starts them, collects and writes; it never loads the speech engine.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from senone.config import CorpusConfig
from senone.corpus.contest import SPLITS, TEST_LABELS, write_utterances
from senone.corpus.object_array import index_arrays
from senone.corpus.sentences import unseen_rate
from senone.corpus.speaker import speaker_name

RECIPE = 1  # of the speech itself: a change here makes corpora of before be made again
WHEELS = {"espeakng_loader": "espeakng-loader", "kaldi_native_fbank": "kaldi-native-fbank"}
ARRAYS = ("train.npy", "train_labels.npy", "dev.npy", "dev_labels.npy", "test.npy", TEST_LABELS)
ADVICE = "choose another corpus folder or empty this one"
MANIFEST = "corpus.json"


@dataclass(frozen=True)
class SplitSize:
    """How many speakers a split has, and how many utterances each of them speaks (of some 630 frames)."""

    speakers: int
    utterances: int


SIZES: dict[str, dict[str, SplitSize]] = {
    "tiny": {"train": SplitSize(4, 3), "dev": SplitSize(2, 2), "test": SplitSize(2, 2)},
    "small": {"train": SplitSize(24, 5), "dev": SplitSize(10, 2), "test": SplitSize(6, 2)},
    "default": {"train": SplitSize(60, 10), "dev": SplitSize(20, 5), "test": SplitSize(20, 3)},
    "large": {"train": SplitSize(300, 20), "dev": SplitSize(40, 10), "test": SplitSize(40, 10)},
}


def explicit_sizes(config: CorpusConfig) -> dict[str, SplitSize]:
    """The splits whose size a configuration gives itself, as ``make_corpus`` takes them."""
    return {split: SplitSize(*getattr(config, split)) for split in SPLITS if getattr(config, split)}


def make_corpus(
    root: Path,
    *,
    size: str = "default",
    seed: int = 0,
    workers: int = 0,
    sizes: Mapping[str, SplitSize] | None = None,
    progress: bool = True,
) -> dict:
    """Make the corpus in folder ``root``, or find it there, and return its manifest, ``corpus.json``.

    ``sizes`` replaces the splits of ``size`` that it names; ``workers`` 0 takes all cores. The folder is
    written under another name and renamed at the end: whole or not at all. A corpus with the same settings is
    reused, one with others is replaced, and a folder with anything else in it is refused by ValueError, as
    are sizes and seeds that make no sense. RuntimeError if a package is missing or the speech engine fails.
    """
    if size not in SIZES:
        raise ValueError(f"corpus size {size!r}: expected one of {', '.join(SIZES)}")
    if workers < 0:
        raise ValueError(f"corpus workers {workers}: expected 0 (all cores) or more")
    settings = _settings({**SIZES[size], **(sizes or {})}, seed)
    root = Path(root)
    manifest = _manifest_of(root)
    if manifest is not None and manifest.get("settings") == settings and _is_complete(root, manifest):
        return manifest
    _require_ours(root)
    _require_wheels()
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        speakers, partial = Path(scratch, "speakers"), Path(scratch, "corpus")
        speakers.mkdir()
        (partial / "private").mkdir(parents=True)
        _speak_all(settings, speakers, workers or _num_cores(), progress)
        manifest = _collect(settings, speakers, partial)
        if root.exists():
            _require_ours(root)  # nobody may have put anything there in the meantime
            root.rename(Path(scratch, "replaced"))
        partial.rename(root)
    return manifest


def content_hash(root: Path) -> str:
    """SHA-256 over the shapes, types and numbers of a corpus, in hexadecimal, however they are pickled."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        with (root / name).open("rb") as file:
            for place in index_arrays(root / name):
                digest.update(f"{name} {place.shape} {place.dtype.str}\n".encode())
                digest.update(np.ascontiguousarray(place.read(file)).tobytes())
    return digest.hexdigest()


def _settings(splits: Mapping[str, SplitSize], seed: int) -> dict:
    if unknown := set(splits) - set(SPLITS):
        raise ValueError(f"unknown split {sorted(unknown)[0]!r}; there are {', '.join(SPLITS)}")
    for name, split in splits.items():
        if split.speakers < 1 or split.utterances < 1:
            raise ValueError(f"{name}: expected at least one speaker and one utterance, got {split}")
    if seed < 0:
        raise ValueError(f"corpus seed {seed}: expected 0 or more")
    return {"recipe": RECIPE, "seed": seed, "splits": {name: asdict(splits[name]) for name in SPLITS}}


def _manifest_of(root: Path) -> dict | None:
    """The manifest in a folder; None if nothing is there; ValueError if that is no made corpus."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        manifest: dict = json.loads((root / MANIFEST).read_text())
    except (OSError, ValueError):
        raise ValueError(f"{root} exists and is no made corpus (no readable {MANIFEST}): {ADVICE}") from None
    return manifest


def _require_ours(root: Path) -> None:
    """Raise ValueError if there is anything in a folder that we did not make: it would be lost."""
    if _manifest_of(root) is None:
        return
    ours = {Path(name) for name in (*ARRAYS, MANIFEST, "private")}
    foreign = sorted(str(path) for path in root.rglob("*") if path.relative_to(root) not in ours)
    if foreign:
        raise ValueError(f"{foreign[0]} is not part of a made corpus, which would be replaced: {ADVICE}")


def _is_complete(root: Path, manifest: dict) -> bool:
    there = {name: (root / name).stat().st_size for name in ARRAYS if (root / name).is_file()}
    return there == manifest.get("bytes")


def _require_wheels() -> None:
    missing = [wheel for module, wheel in WHEELS.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise RuntimeError(
            f"the made corpus needs {' and '.join(missing)}: pip install 'senone[corpus]'; "
            f"if there is no wheel for Python {platform.python_version()} on {platform.system()} "
            f"{platform.machine()}, make the corpus on another machine and copy its folder, or train on "
            "files that you have: data=contest data.root=DIR"
        )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # in a container, fewer than the machine has
    return os.cpu_count() or 1


def _speak_all(settings: dict, folder: Path, workers: int, progress: bool) -> None:
    """Let each speaker of all splits read in a process of their own, ``workers`` of them at a time."""
    jobs = [
        {"split": split, "number": number, "utterances": size["utterances"], "seed": settings["seed"]}
        for split, size in settings["splits"].items()
        for number in range(size["speakers"])
    ]
    total = sum(job["utterances"] for job in jobs)
    bar = tqdm(total=total, desc="speaking", unit="utterance", disable=not progress)
    with bar, ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(_run_speaker, job, folder): job for job in jobs}
        try:
            for done in as_completed(running):
                done.result()
                bar.update(running[done]["utterances"])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_speaker(job: dict, folder: Path) -> None:
    # one thread each: the processes are the parallelism; and the same places to import from as here
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    command = [sys.executable, "-m", "senone.corpus.speaker", json.dumps(job)]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise RuntimeError(f"speaker {job['number']} of {job['split']} failed: {reason}")


def _collect(settings: dict, speakers: Path, root: Path) -> dict:
    """Write the contest's files and the manifest from what the speakers left, split by split."""
    counts: dict[str, dict[str, int]] = {}
    sentences: dict[str, list[str]] = {}
    for split, size in settings["splits"].items():
        features: list[np.ndarray] = []
        labels: list[np.ndarray] = []
        sentences[split] = []
        for number in range(size["speakers"]):
            with np.load(speakers / f"{speaker_name(split, number)}.npz") as spoken:
                edges = np.cumsum(spoken["frames"])[:-1]
                features += np.split(spoken["features"], edges)
                labels += np.split(spoken["labels"], edges)
                sentences[split] += spoken["sentences"].tolist()
        write_utterances(root / f"{split}.npy", features)
        write_utterances(root / (TEST_LABELS if split == "test" else f"{split}_labels.npy"), labels)
        counts[split] = {"utterances": len(labels), "frames": sum(len(states) for states in labels)}
    packages = ("senone", "numpy", *WHEELS.values())
    manifest = {
        "settings": settings,
        "splits": counts,
        "dev_words_unseen_in_train": round(unseen_rate(sentences["dev"], sentences["train"]), 4),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "bytes": {name: (root / name).stat().st_size for name in ARRAYS},
        "sha256": content_hash(root),
    }
    (root / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest
