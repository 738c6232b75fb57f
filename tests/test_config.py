"""Settings out of range are refused with their name, what came and what is expected."""

from typing import Any

import pytest
import torch

from senone import config
from senone.device import choose_device, choose_precision, gains_by_bfloat16, has_bfloat16


@pytest.mark.parametrize(
    ("schema", "settings", "message"),
    [
        ("CorpusConfig", {"seed": -1}, "corpus.seed=-1: expected 0 or more"),
        ("DataConfig", {"name": "wsj"}, "data.name=wsj: expected one of made, contest"),
        ("DataConfig", {"name": "contest"}, "data.root=None: expected the contest's folder"),
        ("DataConfig", {"on_bad": "ignore"}, "data.on_bad=ignore: expected one of refuse, drop"),
        ("DataConfig", {"num_classes": 1}, "data.num_classes=1: expected 2 to"),
        ("DataConfig", {"num_classes": 32769}, "data.num_classes=32769: expected 2 to 32768"),
        ("MlpConfig", {"context": -1}, "model.context=-1: expected 0 to 500"),
        ("MlpConfig", {"widths": [512, 0]}, r"model.widths=\[512, 0\]: expected widths of 1 or more"),
        ("MlpConfig", {"dropout": 1.0}, "model.dropout=1.0: expected 0 up to but not 1"),
        ("TdnnConfig", {"context": 30}, "model.context=30: expected 24, model.splice and all dilations"),
        ("TdnnConfig", {"dilations": [3, 0]}, r"model.dilations=\[3, 0\]: expected frames, 1 or more"),
        ("TdnnConfig", {"splice": -1}, "model.splice=-1: expected 0 or more"),
        ("TdnnConfig", {"bottleneck": 0}, "model.bottleneck=0: expected 1 or more"),
        ("BiLstmConfig", {"stride": 20}, "model.stride=20: expected 1 up to but not model.context=20"),
        ("BiLstmConfig", {"channels": [8]}, r"model.channels=\[8\]: expected two numbers, 1 or more"),
        ("BiLstmConfig", {"layers": 0}, "model.layers=0: expected 1 or more"),
        ("BiLstmConfig", {"dropout": 1.0}, "model.dropout=1.0: expected 0 up to but not 1"),
        ("ConformerConfig", {"width": 104}, "model.width=104: expected a multiple of 10, twice model.heads"),
        ("ConformerConfig", {"kernel": 4}, "model.kernel=4: expected an odd number of frames"),
        ("ConformerConfig", {"reach": 0}, "model.reach=0: expected 1 or more"),
        ("ConformerConfig", {"splice": 21}, "model.splice=21: expected 0 to model.context=20"),
        ("OptimConfig", {"lr": 0.0}, "optim.lr=0.0: expected a number above 0"),
        ("OptimConfig", {"lr": float("nan")}, "optim.lr=nan: expected a number above 0"),
        ("OptimConfig", {"lr": 1e-3, "final_lr": 1e-2}, "optim.final_lr=0.01: expected 0 to optim.lr=0.001"),
        ("OptimConfig", {"warmup": 1.0}, "optim.warmup=1.0: expected a share of the steps"),
        ("FitConfig", {"epochs": 0}, "train.epochs=0: expected 1 or more"),
        ("FitConfig", {"patience": 0}, "train.patience=0: expected 1 or more, or null"),
        ("FitConfig", {"batch_size": 1}, "train.batch_size=1: expected 2 or more"),
        ("FitConfig", {"precision": "half"}, "train.precision=half: expected one of auto, float32, bfloat16"),
        ("TrainConfig", {"seed": -1}, "seed=-1: expected 0 up to"),
        ("TrainConfig", {"name": "a/b"}, "name=a/b: expected the name of a folder"),
        ("PredictConfig", {}, "checkpoint=: expected the path of"),
        (
            "PredictConfig",
            {"checkpoint": "x", "checkpoints": ["y", "z"]},
            r"checkpoints=\['y', 'z'\]: expected none, since there is checkpoint=x",
        ),
        (
            "EvaluateConfig",
            {"checkpoints": ["x", "x"]},
            r"checkpoints=\['x', 'x'\]: expected each of them once",
        ),
        (
            "PredictConfig",
            {"checkpoint": "x", "warp": -0.1},
            "warp=-0.1: expected a share of",
        ),
        ("PredictConfig", {"checkpoints": ["x"], "weights": "1"}, "weights=1: expected one of dev, equal"),
        (
            "EvaluateConfig",
            {"checkpoint": "x", "split": "eval"},
            "split=eval: expected one of train, dev, test",
        ),
    ],
)
def test_a_setting_out_of_range_is_named(schema: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        getattr(config, schema)(**settings)


def test_the_defaults_are_in_range() -> None:
    config.TrainConfig()


def test_a_device_that_is_not_there_is_said_in_a_line() -> None:
    for name in ("cuda:99", "nonsense"):
        with pytest.raises(ValueError, match=f"^device={name} cannot be used with torch") as caught:
            choose_device(name)
        assert "\n" not in str(caught.value)
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cuda", "mps", "cpu")


def test_bfloat16_is_refused_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = choose_device("cpu")
    assert choose_precision("float32", cpu) == "float32"
    monkeypatch.setattr("senone.device.has_bfloat16", lambda device: False)
    gains_by_bfloat16.cache_clear()
    assert choose_precision("auto", cpu) == "float32"
    with pytest.raises(ValueError, match="would only emulate it"):
        choose_precision("bfloat16", cpu)
    monkeypatch.setattr("senone.device.has_bfloat16", lambda device: True)
    assert choose_precision("bfloat16", cpu) == "bfloat16"
    gains_by_bfloat16.cache_clear()


@pytest.mark.parametrize("quicker", ["float32", "bfloat16"])
def test_auto_is_the_precision_that_multiplies_faster(quicker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, now = choose_device("cpu"), [0.0]

    def multiply(matrix: torch.Tensor, other: torch.Tensor) -> None:
        now[0] += 1.0 if matrix.dtype == getattr(torch, quicker) else 1.8

    monkeypatch.setattr("senone.device.has_bfloat16", lambda device: True)
    monkeypatch.setattr("senone.device.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("torch.mm", multiply)
    gains_by_bfloat16.cache_clear()
    assert choose_precision("auto", cpu) == quicker
    assert choose_precision("bfloat16", cpu) == "bfloat16"  # who asks for it gets it
    gains_by_bfloat16.cache_clear()


def test_the_processor_is_asked_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = choose_device("cpu")
    for ability, answer in (({"avx512_bf16": True}, True), ({"avx2": True}, False), ({}, False)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda ability=ability: ability, raising=False)
        assert has_bfloat16(cpu) == answer
