"""Predict and evaluate work the same for one checkpoint and for several."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_cli import assert_one_line, run_script

from senone.config import DecodeConfig, EvaluateConfig, PredictConfig
from senone.ensemble import open_ensemble
from senone.evaluate import predict
from senone.inference import evaluate_run, predict_run


@pytest.fixture
def checkpoints(two_runs: Path) -> list[str]:
    return [str(two_runs / "runs" / name / "best.pt") for name in "ab"]


def test_one_checkpoint_however_it_is_named_gives_the_csv_of_its_run(
    two_runs: Path, checkpoints: list[str], tmp_path: Path
) -> None:
    settings = {"submissions": str(tmp_path), "device": "cpu"}
    for name, checkpoint in zip("ab", checkpoints, strict=True):
        expected = (two_runs / "submissions" / f"{name}.csv").read_bytes()
        for config in (
            PredictConfig(checkpoint=checkpoint, **settings),
            PredictConfig(checkpoints=[checkpoint], **settings),
        ):
            csv = predict_run(config)
            assert csv == tmp_path / f"{name}.csv"
            assert csv.read_bytes() == expected


@pytest.mark.parametrize("weights", ["dev", "equal"])
def test_several_checkpoints_write_what_their_ensemble_predicts(
    checkpoints: list[str], tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = predict_run(
        PredictConfig(checkpoints=checkpoints, weights=weights, submissions=str(tmp_path), device="cpu")
    )
    assert csv == tmp_path / "a+b.csv"
    ensemble = open_ensemble(map(Path, checkpoints), torch.device("cpu"))
    if weights == "dev":
        ensemble.fit_weights()
    expected = predict(ensemble.logits("test"), ensemble.data.test, ensemble.own_decoder())
    np.testing.assert_array_equal(pd.read_csv(csv)["label"], expected)
    said = capsys.readouterr().out
    assert ensemble.describe() in said
    assert ("0.500" in said) == (weights == "equal")


def test_a_warped_checkpoint_leaves_the_csv_of_the_plain_one(
    checkpoints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PredictConfig(checkpoint=checkpoints[0], warp=0.05, submissions=str(tmp_path), device="cpu")
    assert predict_run(config) == tmp_path / "a-warped.csv"
    assert "best.pt x 0.95" in capsys.readouterr().out
    folder = evaluate_run(EvaluateConfig(checkpoint=checkpoints[0], warp=0.05, device="cpu"))
    assert folder.name == "evaluate-dev-a-warped"


def test_several_checkpoints_are_evaluated_beside_the_first(
    checkpoints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    argmax = DecodeConfig(name="argmax")
    folder = evaluate_run(EvaluateConfig(checkpoints=checkpoints, decode=argmax, device="cpu"))
    assert folder == Path(checkpoints[0]).parent / "evaluate-dev-a+b"
    ensemble = open_ensemble(map(Path, checkpoints), torch.device("cpu"))
    ensemble.fit_weights()
    labels = ensemble.data.dev.labels
    assert labels is not None
    right = predict(ensemble.logits("dev"), ensemble.data.dev) == labels.numpy()
    states = pd.read_csv(folder / "states.csv")
    assert (states["accuracy"] * states["frames"]).sum() == pytest.approx(right.sum())
    assert f"accuracy {right.mean():.2%} by state" in capsys.readouterr().out


def test_tables_of_another_checkpoint_of_a_run_stand_beside_those_of_its_best(
    checkpoints: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(Path(checkpoints[0]).with_name("last.pt"))
    assert evaluate_run(EvaluateConfig(checkpoint=checkpoints[0], device="cpu")).name == "evaluate-dev"
    argmax = DecodeConfig(name="argmax")
    folder = evaluate_run(EvaluateConfig(checkpoint=last, decode=argmax, device="cpu"))
    assert folder.name == "evaluate-dev-a-last"


def test_a_prediction_says_how_it_was_decoded(
    checkpoints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict_run(PredictConfig(checkpoint=checkpoints[0], submissions=str(tmp_path), device="cpu"))
    assert "decoded by trigram, scales: acoustic" in capsys.readouterr().out


def test_a_script_refuses_one_checkpoint_beside_several_with_a_line(tmp_path: Path) -> None:
    done = run_script(tmp_path, "predict.py", "checkpoint=a.pt", "checkpoints=[b.pt,c.pt]")
    assert_one_line(done, "predict.py: checkpoints=['b.pt', 'c.pt']: expected none, since there is")
    done = run_script(tmp_path, "evaluate.py", "checkpoints=[b.pt,c.pt]")
    assert_one_line(done, "evaluate.py: b.pt: there is no such checkpoint")
