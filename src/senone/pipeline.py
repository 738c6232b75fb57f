"""The main jobs, from a configuration to files: train a run, predict and evaluate with a checkpoint."""

import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from senone.augment import Augmentation
from senone.checkpoint import load_checkpoint, save_checkpoint
from senone.comparison import flatten
from senone.config import CorpusConfig, DataConfig, DecodeConfig, EvaluateConfig, PredictConfig, TrainConfig
from senone.dataset import Dataset, open_dataset
from senone.decode import Decoder, StateChain, fit_decoder
from senone.device import choose_device, choose_precision, place_store
from senone.evaluate import class_table, group_confusion, predict, score, utterance_logits
from senone.frames import FrameStore
from senone.models import FrameModel, build_model, describe_model
from senone.phonemes import phoneme_names, state_names, states_per_group
from senone.processes import Processes, joined, processes_here
from senone.report import can_draw, plot_confusion, plot_curves, plot_utterance, write_report
from senone.runlog import RunLog
from senone.submission import board_scores, find_sample, submit_command, write_submission
from senone.train import Progress, Stopped, Trainer

DECODER_UTTERANCES = 128  # of dev, that decide on a decoder's scales

# what may differ between a run and its continuation
WHEREABOUTS = {"name", "runs", "submissions", "device", "corpus.root", "corpus.workers", "data.root",
               "data.cache", "data.competition", "train.resume"}  # fmt: skip


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
    device = processes.in_turn(lambda: processes.own_device(choose_device(config.device)))
    precision = choose_precision(config.train.precision, device)
    # refuses a batch that is too small before data is read
    processes.slice(config.train.batch_size // config.train.chunk)
    resume = processes.from_first(lambda: _find_resume(config))
    data = processes.in_turn(lambda: open_dataset(config.data, config.corpus, config.model.context))
    torch.manual_seed(config.seed)  # of the first weights
    model = build_model(asdict(config.model), data.train.num_bins, data.train.num_classes)
    model.prepare(data.train)
    folder = resume.parent if resume else processes.from_first(lambda: _new_run(config, data))
    log = RunLog(folder, quiet=processes.rank > 0)
    together = f", {processes.count} processes" if processes.count > 1 else ""
    log.say(f"run {log.folder} on {_describe_device(device)}{together}, {precision}")
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
            "num_bins": data.train.num_bins,
            "num_classes": data.train.num_classes,
            "train_frames": data.train.num_frames,
        },
        augmentation=Augmentation(**asdict(config.augment)),
        processes=processes,
    )
    if resume:
        trainer.restore(_checked_resume(resume, data.train))
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


def predict_run(config: PredictConfig) -> Path:
    """Write the CSV of a checkpoint's predictions for the test set, and return its path."""
    checkpoint = Path(config.checkpoint)
    model, content = load_model(checkpoint)
    device = choose_device(config.device)
    data = open_dataset(*_data_of(content, config.root), model.context)
    _check_fits(checkpoint, content, data)
    run, precision = checkpoint.resolve().parent.name, precision_of(content, device)
    csv, lines = _hand_in(
        model.to(device),
        _decoder_of(content, model, config.decode, data, device, precision),
        data,
        device,
        precision,
        Path(config.submissions),
        run if checkpoint.name == "best.pt" else f"{run}-{checkpoint.stem}",
        content["config"]["data"].get("competition"),
    )
    print("\n".join(lines))
    return csv


def evaluate_run(config: EvaluateConfig) -> Path:
    """Score a checkpoint on a labelled split: accuracy by phoneme and by state, printed and, with the
    confusion, written beside the checkpoint; returns that folder."""
    checkpoint = Path(config.checkpoint)
    model, content = load_model(checkpoint)
    device = choose_device(config.device)
    data = open_dataset(*_data_of(content, config.root), model.context)
    _check_fits(checkpoint, content, data)
    store = data.splits[config.split]
    if store.labels is None:
        raise ValueError(f"split={config.split}: {data.root} holds no {config.split}_labels.npy")
    precision = precision_of(content, device)
    decoder = _decoder_of(content, model.to(device), config.decode, data, device, precision)
    result, _ = score(model, place_store(store, device), device, precision, decoder)
    group = states_per_group(store.num_classes)
    confusion = group_confusion(result.confusion, group)
    phonemes = pd.DataFrame(class_table(confusion, phoneme_names(store.num_classes)))
    states = pd.DataFrame(class_table(result.confusion, state_names(store.num_classes)))
    folder = checkpoint.parent / f"evaluate-{config.split}"
    folder.mkdir(exist_ok=True)
    states.to_csv(folder / "states.csv", index=False)
    phonemes.to_csv(folder / "phonemes.csv", index=False)
    names = phoneme_names(store.num_classes)
    pd.DataFrame(confusion, names, names).to_csv(folder / "confusion.csv", index_label="true")
    if can_draw():
        plot_confusion(confusion, names, folder / "confusion.png")
    shown = {"accuracy": "{:.1%}".format}
    print(phonemes.to_string(index=False, formatters=shown))
    print(states.to_string(index=False, formatters=shown))
    by_phoneme = np.trace(confusion) / confusion.sum()
    print(
        f"{config.split}: {store.num_frames:,} frames, accuracy {result.accuracy:.2%} by state, "
        f"{by_phoneme:.2%} by phoneme, loss {result.loss:.3f}, {_describe_decoder(decoder)}"
    )
    print(f"tables and confusion: {folder}")
    return folder


def load_model(checkpoint: Path) -> tuple[FrameModel, dict[str, Any]]:
    """The model of a checkpoint with the weights that were evaluated, and the checkpoint's content."""
    content = load_checkpoint(checkpoint)
    model = build_model(content["config"]["model"], content["num_bins"], content["num_classes"])
    model.load_state_dict(content.get("averaged") or content["model"])
    return model.eval(), content


def precision_of(content: dict[str, Any], device: torch.device) -> str:
    """The precision a checkpoint was trained in, where this device has it."""
    try:
        return choose_precision(content["config"]["train"]["precision"], device)
    except ValueError:
        return "float32"


def _finish_run(
    log: RunLog, config: TrainConfig, data: Dataset, device: torch.device, precision: str, progress: Progress
) -> None:
    """With a run's best checkpoint: pictures, the CSV, and what a board would say."""
    model, content = load_model(log.folder / "best.pt")
    decoder = _fit_decoder(model.to(device), config.decode, data, device, precision)
    save_checkpoint(log.folder / "best.pt", {**content, "decode": decoder.state() if decoder else None})
    result, predicted = score(model, place_store(data.dev, device), device, precision, decoder)
    _, lines = _hand_in(
        model, decoder, data, device, precision, Path(config.submissions), log.name, config.data.competition
    )
    lines = [
        f"dev accuracy: {result.accuracy:.2%} (loss {result.loss:.3f}; {_describe_decoder(decoder)}"
        + (f"; each frame alone: {content['dev_accuracy']:.2%})" if decoder else ")"),
        *lines,
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


def _hand_in(
    model: FrameModel, decoder: Decoder | None, data: Dataset, device: torch.device, precision: str,
    folder: Path, name: str, competition: str | None,
) -> tuple[Path, list[str]]:  # fmt: skip
    """Write ``folder/name.csv`` for the test set; its path, and what there is to say about it."""
    test = data.test
    labels = predict(model, place_store(test, device), device, precision, decoder)
    csv = folder / f"{name}.csv"
    sample = find_sample(data.root)
    write_submission(csv, labels, num_frames=test.num_frames, num_classes=test.num_classes, sample=sample)
    lines = []
    if test.labels is not None:
        public, private = board_scores(labels, test.labels.numpy())
        lines.append(f"simulated board: {public:.2%} public (30 % of the test rows), {private:.2%} private")
    checked = f"checked against {sample.name}" if sample else "checked"
    legal = "contest-legal" if model.contest_legal else "NOT contest-legal"
    return csv, [
        *lines,
        f"submission: {csv} ({test.num_frames:,} rows, {checked}, {legal})",
        f"hand it in: {submit_command(csv, competition, name)}",
    ]


def _fit_decoder(
    model: FrameModel, settings: DecodeConfig, data: Dataset, device: torch.device, precision: str
) -> Decoder | None:
    """The decoder that is asked for, its scales chosen on utterances from all over dev; None for argmax."""
    if settings.name == "argmax":
        return None
    count = min(data.dev.num_utterances, DECODER_UTTERANCES)
    chosen = np.linspace(0, data.dev.num_utterances - 1, count).astype(int).tolist()
    logits = utterance_logits(model, place_store(data.dev, device), chosen, device, precision)
    labels = [data.dev.utterance_labels(index).long() for index in chosen]
    chain = StateChain.count(data.train, settings.smoothing)
    return fit_decoder(settings.name, chain, logits, labels, settings.acoustic_scale, settings.prior_scale)


def _decoder_of(
    content: dict[str, Any],
    model: FrameModel,
    wanted: DecodeConfig | None,
    data: Dataset,
    device: torch.device,
    precision: str,
) -> Decoder | None:
    """The decoder of a checkpoint, or the one that is asked for instead."""
    if wanted is not None:
        return _fit_decoder(model, wanted, data, device, precision)
    return Decoder.from_state(content["decode"]) if content.get("decode") else None


def _describe_decoder(decoder: Decoder | None) -> str:
    if decoder is None:
        return "argmax"
    return f"{decoder.name}, scales {decoder.acoustic_scale:g} and {decoder.prior_scale:g}"


def _typical_utterance(store: FrameStore) -> int:
    """The utterance whose length is nearest to five seconds: long enough to tell, short enough to read."""
    return int((store.offsets.diff() - 500).abs().argmin())


def _new_run(config: TrainConfig, data: Dataset) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    log = RunLog.create(Path(config.runs), config.name or f"{config.data.name}-{config.model.name}-{stamp}")
    fingerprints = {name: store.fingerprint for name, store in data.splits.items()}
    log.write_config(asdict(config), data=fingerprints)
    return log.folder


def _find_resume(config: TrainConfig) -> Path | None:
    """The last.pt to go on from: the one that train.resume names, or, for ``auto``, that of the newest
    unfinished run of this configuration, if there is one."""
    wanted = _continued(asdict(config))
    if config.train.resume is None:
        return None
    if config.train.resume != "auto":
        path = Path(config.train.resume)
        saved = _continued(load_checkpoint(path)["config"])
        differing = [key for key in wanted if saved.get(key) != wanted[key]]
        if differing:
            changes = ", ".join(f"{key}: {saved.get(key)} there, {wanted[key]} here" for key in differing)
            raise ValueError(f"{path} is of another configuration: {changes}")
        return path
    for path in sorted(Path(config.runs).glob("*/last.pt"), key=os.path.getmtime, reverse=True):
        about = path.parent / "config.json"
        if about.is_file() and _continued(json.loads(about.read_text())["config"]) == wanted:
            finished = load_checkpoint(path)["progress"]["epoch"] >= config.train.epochs
            return None if finished else path
    return None


def _checked_resume(path: Path, train: FrameStore) -> dict[str, Any]:
    content = load_checkpoint(path)
    if content.get("train_frames", train.num_frames) != train.num_frames:
        raise ValueError(
            f"{path}: trained on {content['train_frames']} frames, but train has {train.num_frames}"
        )
    return content


def _continued(config: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run and its continuation must share."""
    return {key: value for key, value in flatten(config).items() if key not in WHEREABOUTS}


def _data_of(content: dict[str, Any], root: str | None) -> tuple[DataConfig, CorpusConfig]:
    """The data a checkpoint was trained with, or the same kind of data in another folder."""
    settings = content["config"]
    data = {**settings["data"], "num_classes": content["num_classes"]}
    if root is not None:
        data.update(name="contest", root=root)
    return DataConfig(**data), CorpusConfig(**settings["corpus"])


def _check_fits(checkpoint: Path, content: dict[str, Any], data: Dataset) -> None:
    if data.test.num_bins != content["num_bins"]:
        raise ValueError(
            f"{data.root}: {data.test.num_bins} values a frame, but {checkpoint} is of a model for "
            f"{content['num_bins']}"
        )


def _describe_device(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)
