"""A training run, from a configuration to the files in its folder: begun, resumed, finished, drawn."""

import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from senone.augment import Augmentation
from senone.checkpoint import load_checkpoint, load_model, save_checkpoint
from senone.comparison import flatten
from senone.config import TrainConfig
from senone.dataset import Dataset, open_dataset
from senone.decode import describe_decoder, require_trigram
from senone.device import choose_device, choose_precision, describe_device, trained_precision
from senone.ensemble import Ensemble, Member, open_ensemble, require_same
from senone.evaluate import group_confusion, predict, score
from senone.frames import FrameStore
from senone.models import build_model, describe_model
from senone.phonemes import phoneme_names, states_per_group
from senone.processes import Processes, joined, processes_here
from senone.progress import Progress
from senone.report import can_draw, plot_confusion, plot_curves, plot_utterance, write_report
from senone.runlog import RunLog, require_trackers
from senone.submission import find_sample, hand_in, read_sample
from senone.train import Stopped, Trainer

# what may differ between a run and its continuation
WHEREABOUTS = {"name", "runs", "submissions", "device", "corpus.root", "corpus.workers", "data.root",
               "data.cache", "data.competition", "train.resume", "train.compile", "trackers"}  # fmt: skip


def train_run(config: TrainConfig, typed: list[str]) -> Path:
    """Train as configured, draw the pictures, write the CSV; returns the run's folder.

    ``typed`` is what the user wrote after the script's name, for the line that says how to go on. Asked to
    stop, it saves, says that line and ends the process with status 130. Several processes, started by
    torchrun, train one run together.
    """
    with joined() as processes:
        return _train(config, typed, processes)


def _train(config: TrainConfig, typed: list[str], processes: Processes) -> Path:
    """``train_run`` for one of the processes; 0 makes corpus, stores and folder, and the others find them."""
    require_trackers(config.trackers)
    device = processes.in_turn(lambda: processes.own_device(choose_device(config.device)))
    precision = processes.from_first(lambda: choose_precision(config.train.precision, device))
    # refuses a batch that is too small before data is read
    processes.slice(config.train.batch_size // config.train.chunk)
    named = processes.from_first(lambda: _named_resume(config))
    data = processes.in_turn(lambda: _open_data(config))
    resume = named or processes.from_first(lambda: _newest_resume(config, data.train))
    resumed = _checked_resume(resume, data.train) if resume else None
    if resumed:  # as it began, whatever is faster here
        precision = processes.from_first(lambda: trained_precision(resumed, device))
    torch.manual_seed(config.seed)  # of the first weights
    model = build_model(asdict(config.model), data.train.num_bins, data.train.num_classes)
    model.prepare(data.train)
    folder = resume.parent if resume else processes.from_first(lambda: _new_run(config, data))
    log = RunLog(folder, quiet=processes.rank > 0)
    log.track(config.trackers, asdict(config))
    together = f", {processes.count} processes" if processes.count > 1 else ""
    log.say(f"run {log.folder} on {describe_device(device)}{together}, {precision}")
    for name, store in data.splits.items():
        log.say(f"{name}: {store.num_utterances:,} utterances, {store.num_frames:,} frames")
    log.say(
        f"model: {describe_model(model, config.model.name)}, "
        f"{data.train.num_bins} bins, {data.train.num_classes} classes"
    )
    trainer = Trainer(
        model,
        data.train,
        data.dev,
        settings=config.train,
        optim=config.optim,
        seed=config.seed,
        device=device,
        precision=precision,
        log=log,
        identity={
            "config": asdict(config),
            "precision": precision,
            "num_bins": data.train.num_bins,
            "num_classes": data.train.num_classes,
            "train_frames": data.train.num_frames,
            "train_labels": _hash_labels(data.train),
        },
        augmentation=Augmentation(**asdict(config.augment)),
        teacher=_teacher(config, data, device),
        processes=processes,
    )
    if resumed:
        trainer.restore(resumed)
        log.say(f"resumed from {resume} after {trainer.progress.epoch} epochs")
    try:
        progress = trainer.run()
    except Stopped:
        again = [word for word in typed if not word.startswith("train.resume=")]
        python = ["torchrun", f"--nproc-per-node={processes_here()}"] if processes.count > 1 else ["python"]
        words = [*python, sys.argv[0], *again, f"train.resume={log.folder / 'last.pt'}"]
        log.say(f"stopped and saved; to go on:\n  {shlex.join(words)}")
        processes.wait()  # torchrun ends all of them as soon as one ends
        raise SystemExit(130) from None
    if processes.rank == 0:
        _finish_run(log, config, data, device, precision, progress)
    return log.folder


def _teacher(
    config: TrainConfig, data: Dataset, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """What the teachers, if there are any, make of the train frames."""
    if not config.train.teachers:
        return None
    teachers = open_ensemble(map(Path, config.train.teachers), device, str(data.root))
    for member in teachers.members:
        require_same(member.data, data, member.checkpoint, "the run")
    return teachers.likeliest("train")


def _finish_run(
    log: RunLog, config: TrainConfig, data: Dataset, device: torch.device, precision: str, progress: Progress
) -> None:
    """With a run's best checkpoint: pictures, the CSV, and what a board would say."""
    best = log.folder / "best.pt"
    model, content = load_model(best)
    alone = Ensemble([Member(best, content, model.to(device), data, precision)], device)
    decoder = alone.fit_decoder(config.decode)
    save_checkpoint(best, {**content, "decode": decoder.state() if decoder else None})
    result, predicted = score(alone.logits("dev"), data.dev, decoder)
    lines = [
        f"dev accuracy: {result.accuracy:.2%} (loss {result.loss:.3f}; {describe_decoder(decoder)}"
        + (f"; each frame alone: {content['dev_accuracy']:.2%})" if decoder else ")"),
        *hand_in(
            predict(alone.logits("test"), data.test, decoder),
            data,
            _csv_of(config, log.name),
            competition=config.data.competition,
            contest_legal=alone.contest_legal,
        ),
    ]
    if can_draw():
        pictures = _draw(log, data.dev, predicted, result.confusion, progress)
        write_report(log.folder, f"senone run {log.name}", lines, pictures)
        lines.append("pictures: " + ", ".join(str(log.folder / name) for name in pictures))
        lines.append(f"all in one page: {log.folder / 'report.html'}")
    else:
        lines.append("no pictures: they need matplotlib (pip install 'senone[plots]')")
    for line in lines:
        log.say(line)


def _draw(
    log: RunLog, dev: FrameStore, predicted: np.ndarray, confusion: np.ndarray, progress: Progress
) -> list[str]:
    """Draw a run's pictures into its folder and return their names."""
    names, states = phoneme_names(dev.num_classes), states_per_group(dev.num_classes)
    plot_curves(progress.history, log.folder / "curves.png")
    plot_confusion(group_confusion(confusion, states), names, log.folder / "confusion.png")
    shown = _typical_utterance(dev)
    plot_utterance(
        dev.utterance(shown).numpy(),
        dev.utterance_labels(shown).numpy().astype(int),
        predicted[int(dev.offsets[shown]) : int(dev.offsets[shown + 1])],
        names,
        states,
        log.folder / "utterance.png",
        f"dev utterance {shown}",
    )
    return ["curves.png", "confusion.png", "utterance.png"]


def _typical_utterance(store: FrameStore) -> int:
    """The utterance whose length is nearest to five seconds: long enough to tell, short enough to read."""
    return int((store.offsets.diff() - 500).abs().argmin())


def _new_run(config: TrainConfig, data: Dataset) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    log = RunLog.create(Path(config.runs), config.name or f"{config.data.name}-{config.model.name}-{stamp}")
    fingerprints = {name: store.fingerprint for name, store in data.splits.items()}
    log.write_config(asdict(config), data=fingerprints)
    return log.folder


def _open_data(config: TrainConfig) -> Dataset:
    """The three splits, and what would stop the run at its end refused now."""
    data = open_dataset(config.data, config.corpus, config.model.context)
    if sample := find_sample(data.root):
        read_sample(sample, data.test.num_frames)
    if config.decode.name == "trigram":
        require_trigram(data.train.num_classes)
    return data


def _named_resume(config: TrainConfig) -> Path | None:
    """The last.pt that train.resume names, if it names one."""
    if config.train.resume in (None, "auto"):
        return None
    path = Path(str(config.train.resume))
    wanted, saved = _continued(asdict(config)), _continued(load_checkpoint(path)["config"])
    differing = [key for key in wanted if saved.get(key) != wanted[key]]
    if differing:
        changes = ", ".join(f"{key}: {saved.get(key)} there, {wanted[key]} here" for key in differing)
        raise ValueError(f"{path} is of another configuration: {changes}")
    return path


def _newest_resume(config: TrainConfig, train: FrameStore) -> Path | None:
    """For train.resume=auto, the last.pt of the newest run of this configuration on the same labels, unless
    it is finished: trained, and its CSV written."""
    if config.train.resume != "auto":
        return None
    wanted = _continued(asdict(config))
    for path in sorted(Path(config.runs).glob("*/last.pt"), key=os.path.getmtime, reverse=True):
        about = path.parent / "config.json"
        if about.is_file() and _continued(json.loads(about.read_text())["config"]) == wanted:
            content = load_checkpoint(path)
            if not _knows_labels(content, train):
                continue
            over = Progress(**content["progress"]).is_over(config.train)
            return None if over and _csv_of(config, path.parent.name).is_file() else path
    return None


def _checked_resume(path: Path, train: FrameStore) -> dict[str, Any]:
    content = load_checkpoint(path)
    if content.get("train_frames", train.num_frames) != train.num_frames:
        raise ValueError(
            f"{path}: trained on {content['train_frames']} frames, but train has {train.num_frames}"
        )
    if not _knows_labels(content, train):
        raise ValueError(f"{path}: trained on other labels than those of train")
    return content


def _hash_labels(train: FrameStore) -> str:
    """What a train split is known by, wherever its files lie and whenever they were copied."""
    assert train.labels is not None, "train without labels"
    return sha256(train.offsets.numpy().tobytes() + train.labels.numpy().tobytes()).hexdigest()


def _knows_labels(content: dict[str, Any], train: FrameStore) -> bool:
    """Whether a checkpoint was trained on these labels; one that does not say so is believed."""
    ours = _hash_labels(train)
    return bool(content.get("train_labels", ours) == ours)


def _csv_of(config: TrainConfig, name: str) -> Path:
    """The submission of a run."""
    return Path(config.submissions) / f"{name}.csv"


def _continued(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run and its continuation must share."""
    return {key: value for key, value in flatten(config).items() if key not in WHEREABOUTS}
