import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_digits import write_handout

from senone import part1, task6
from senone.config import CorpusConfig, Part1Config
from senone.corpus.contest import open_contest
from senone.learning_curves import OVERVIEW, PLOTS, STATS
from senone.preparation import open_store
from senone.windows import gather

SCRIPTS = Path(__file__).parents[1] / "scripts"


def read_stats(folder):
    header, *rows = csv.reader((folder / STATS).read_text().splitlines())
    return dict(zip(header, np.array(rows, float).T, strict=True))


def test_the_default_learns_the_bundled_digits(tmp_path, capsys):
    config = Part1Config(out=str(tmp_path / "run"), epochs=60)
    assert task6.run_task6(config, CorpusConfig()) == tmp_path / "run"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*PLOTS, OVERVIEW, STATS}
    stats = read_stats(tmp_path / "run")
    assert len(stats["epoch"]) == 60
    assert stats["validation_error"][0] > 0.5
    assert stats["validation_error"][-1] < 0.3
    out = capsys.readouterr().out
    for part in ("64-32-32-32-10", "training:", "validation:", "test:", "loss about 0.3, error about 0.1"):
        assert part in out


def test_the_same_seed_gives_the_same_run_and_another_one_another(monkeypatch):
    monkeypatch.setattr(task6, "write_curves", lambda folder, stats, *_, **__: runs.append(stats))
    runs: list = []
    for seed in (0, 0, 1):
        task6.run_task6(Part1Config(epochs=2, seed=seed), CorpusConfig())
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("batch_size", [60, 144])  # of 1,297 digits one is left over by 144
def test_a_twin_beside_the_network_goes_through_the_same_epochs(monkeypatch, batch_size):
    monkeypatch.setattr(task6, "write_curves", lambda folder, stats, *_, **__: runs.append(stats))
    runs: list = []
    config = Part1Config(epochs=3, twin=True, num_bn_layers=2, momentum=0.9, lr=0.01, batch_size=batch_size)
    task6.run_task6(config, CorpusConfig())
    (stats,) = runs
    for column, *_ in PLOTS.values():
        np.testing.assert_allclose(stats[column], stats[f"twin_{column}"], rtol=1e-8)
    assert stats["training_loss"][2] < 0.9 * stats["training_loss"][0]


def test_speech_is_learnt_from_its_windows_beside_the_twin(tmp_path, contest_folder, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # where the stores are cached
    config = Part1Config(
        data="speech", root=str(contest_folder), context=2, hiddens=[8], activations=["tanh"],
        weight_init="scaled_normal", epochs=4, batch_size=16, lr=0.1, out=str(tmp_path / "run"),
    )  # fmt: skip
    task6.run_task6(config, CorpusConfig())
    stats = read_stats(tmp_path / "run")
    np.testing.assert_allclose(stats["training_loss"], stats["twin_training_loss"], rtol=1e-8)
    assert stats["validation_error"][-1] < 0.3  # of 6 classes
    out = capsys.readouterr().out
    assert "speech: 40-8-6" in out
    assert "writeup" not in out


def test_windows_and_labels_of_speech_are_rows_like_an_arrays(tmp_path, contest_folder):
    store = open_store(open_contest(contest_folder)["train"], tmp_path, context=2)
    x, y = task6.SpeechWindows(store, 2, "float64"), task6.SpeechLabels(store, 6, "float32")
    everything = gather(store.rows, store.centres(torch.arange(store.num_frames)), 2).flatten(1).numpy()
    assert store.labels is not None
    assert len(x) == len(y) == store.num_frames
    picked = np.array([7, 3, 3, store.num_frames - 1])
    for index in (picked, slice(5, 9), slice(store.num_frames - 2, store.num_frames + 3)):
        np.testing.assert_array_equal(x[index], everything[index])
        np.testing.assert_array_equal(y[index], np.eye(6)[store.labels.numpy()[index]])
    assert (x[picked].dtype, y[picked].dtype) == (np.float64, np.float32)


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({}, ["Sigmoid", "Sigmoid", "Sigmoid", "Identity"]),
        ({"hiddens": []}, ["Identity"]),
        ({"activations": ["relu"], "hiddens": [5]}, ["ReLU", "Identity"]),
        ({"activations": ["relu", "tanh"], "hiddens": [5]}, ["ReLU", "Tanh"]),
    ],
)
def test_activations_are_named_one_a_layer_or_one_for_all_hidden_ones(settings, kinds):
    mlp = task6.build_mlp(Part1Config(**settings), 4, 3)
    assert [type(activation).__name__ for activation in mlp.activations] == kinds


def test_everything_that_the_constructor_takes_can_be_configured():
    config = Part1Config(
        input_size=7, output_size=5, hiddens=[6], activations=["tanh"], weight_init="scaled_normal",
        bias_init="zeros", criterion="softmax_cross_entropy", lr=0.25, momentum=0.5, num_bn_layers=1,
        dtype="float32",
    )  # fmt: skip
    mlp = task6.build_mlp(config, 4, 3)
    assert [W.shape for W in mlp.W] == [(7, 6), (6, 5)]
    assert {array.dtype for array in (*mlp.W, *mlp.b)} == {np.dtype("float32")}
    assert (mlp.lr, mlp.momentum, mlp.num_bn_layers) == (0.25, 0.5, 1)
    assert isinstance(mlp.criterion, part1.SoftmaxCrossEntropy)
    assert task6.build_mlp(Part1Config(data="mnist", root="x"), 784, 10).lr == 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "cifar"}, "part1.data=cifar: expected one of digits, mnist, speech"),
        ({"data": "mnist"}, "part1.root=None: expected the folder of MNIST's files"),
        ({"hiddens": [32, 0]}, r"part1.hiddens=\[32, 0\]: expected widths of 1 or more"),
        ({"activations": ["relu", "relu"]}, r"expected 1 name, or 4 \(the layers\)"),
        ({"activations": ["gelu"]}, "part1.activations=gelu: expected one of identity"),
        ({"num_bn_layers": 5}, r"part1.num_bn_layers=5: expected 0 to 4 \(the layers\)"),
        ({"lr": 0.0}, "part1.lr=0.0: expected a number above 0, or null"),
        ({"momentum": 1.0}, "part1.momentum=1.0: expected 0 up to but not 1"),
        ({"batch_size": 0}, "part1.batch_size=0: expected 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Part1Config(**settings)


def run_script(name, *arguments, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPTS / name), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_scripts_train_on_the_handouts_files_and_pack_what_they_drew(tmp_path):
    (tmp_path / "mnist").mkdir()
    write_handout(tmp_path / "mnist")
    done = run_script("part1.py", "part1.data=mnist", "part1.root=mnist", "part1.epochs=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "24 training and 6 validation examples" in done.stdout
    done = run_script("handin.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "handin.tar").is_file()


def test_a_users_mistake_is_one_line_and_no_traceback(tmp_path):
    mistakes = {
        ("part1.py", "part1.data=mnist", "part1.root=nowhere"): "part1.py: nowhere: no such folder",
        (
            "handin.py",
        ): "handin.py: runs/part1: no train_loss.png, train_error.png, val_loss.png, val_error.png",
    }
    for command, message in mistakes.items():
        done = run_script(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
