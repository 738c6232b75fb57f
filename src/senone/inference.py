"""What is done with trained checkpoints, from a configuration to files: predict and evaluate."""

from pathlib import Path

import numpy as np
import pandas as pd

from senone.config import CheckpointConfig, EvaluateConfig, PredictConfig
from senone.decode import Decoder, describe_decoder
from senone.device import choose_device
from senone.ensemble import Ensemble, open_ensemble
from senone.evaluate import class_table, group_confusion, predict, score
from senone.phonemes import phoneme_names, state_names, states_per_group
from senone.report import can_draw, plot_confusion
from senone.submission import hand_in


def predict_run(config: PredictConfig) -> Path:
    """Write the CSV of the predictions for the test set, named after the checkpoints; returns its path."""
    ensemble = _open(config)
    decoder = _decoder(ensemble, config)
    print(f"decoded by {describe_decoder(decoder)}")
    csv = Path(config.submissions) / f"{ensemble.name}.csv"
    lines = hand_in(
        predict(ensemble.logits("test"), ensemble.data.test, decoder),
        ensemble.data,
        csv,
        competition=ensemble.members[0].content["config"]["data"].get("competition"),
        contest_legal=ensemble.contest_legal,
    )
    print("\n".join(lines))
    return csv


def evaluate_run(config: EvaluateConfig) -> Path:
    """Score on a labelled split: accuracy by phoneme and by state, printed and, with the confusion, written
    beside the (first) checkpoint; returns that folder."""
    ensemble = _open(config)
    store = ensemble.data.splits[config.split]
    if store.labels is None:
        raise ValueError(f"split={config.split}: {ensemble.data.root} holds no {config.split}_labels.npy")
    decoder = _decoder(ensemble, config)
    result, _ = score(ensemble.logits(config.split), store, decoder)
    group = states_per_group(store.num_classes)
    confusion = group_confusion(result.confusion, group)
    phonemes = pd.DataFrame(class_table(confusion, phoneme_names(store.num_classes)))
    states = pd.DataFrame(class_table(result.confusion, state_names(store.num_classes)))
    first = ensemble.members[0]
    alone = len(ensemble.members) == 1 and first.checkpoint.name == "best.pt"
    folder = first.checkpoint.parent / f"evaluate-{config.split}{'' if alone else '-' + ensemble.name}"
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
        f"{by_phoneme:.2%} by phoneme, loss {result.loss:.3f}, {describe_decoder(decoder)}"
    )
    print(f"tables and confusion: {folder}")
    return folder


def _open(config: CheckpointConfig) -> Ensemble:
    """The checkpoints, with their weights."""
    checkpoints = [Path(path) for path in config.checkpoints or [config.checkpoint]]
    ensemble = open_ensemble(checkpoints, choose_device(config.device), config.root, config.warp)
    if len(ensemble.members) > 1:
        if config.weights == "dev":
            ensemble.fit_weights()
        print(ensemble.describe())
    return ensemble


def _decoder(ensemble: Ensemble, config: CheckpointConfig) -> Decoder | None:
    """The decoder that is asked for, else the checkpoints' own."""
    return ensemble.own_decoder() if config.decode is None else ensemble.fit_decoder(config.decode)
