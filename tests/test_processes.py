"""Several processes train one model: together they do what one does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import torch.multiprocessing as mp
from conftest import write_contest
from test_cli import SCRIPTS
from torch import nn

from senone.checkpoint import load_checkpoint
from senone.config import DataConfig, FitConfig, MlpConfig, OptimConfig, TrainConfig
from senone.corpus.contest import open_contest, write_utterances
from senone.models import build_model
from senone.preparation import open_store
from senone.processes import ALONE, JointBatchNorm, Processes, joined
from senone.run import train_run
from senone.runlog import RunLog
from senone.train import Stopped, Trainer

STOP_AT = 13  # steps; an epoch has 8


def train(
    processes: Processes,
    folder: Path,
    name: str,
    *,
    model: str = "mlp",
    norm: str = "batch",
    dropout: float = 0.0,
    patience: int | None = None,
    stop: bool = False,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Train, from a checkpoint on if there is one, to the end or until the last process gets a signal; with
    a patience nothing is learned."""
    stores = {
        split: open_store(files, folder / "stores", context=2, num_classes=6)
        for split, files in open_contest(folder / "contest").items()
    }
    (folder / name).mkdir(exist_ok=True)
    torch.manual_seed(3)
    options: dict[str, Any] = {"name": model, "context": 2, "dropout": dropout}
    if model == "mlp":
        options |= {"widths": [24, 24], "norm": norm}
    else:
        options |= {"channels": [2, 3], "stride": 1, "width": 6, "layers": 2}
    trainer = Trainer(
        build_model(options, 8, 6),
        stores["train"],
        stores["dev"],
        # 33: 16 frames and 17
        settings=FitConfig(epochs=3, patience=patience, batch_size=33, label_smoothing=0.1, ema=0.9),
        optim=OptimConfig() if patience is None else OptimConfig(lr=1e-12, final_lr=0.0),
        seed=7,
        device=torch.device("cpu"),
        precision="float32",
        log=RunLog(folder / name, quiet=processes.rank > 0),
        identity={"config": {}, "num_bins": 8, "num_classes": 6},
        processes=processes,
    )
    if resume:
        trainer.restore(load_checkpoint(resume))
    if stop:
        interrupt(trainer, processes.rank == processes.count - 1)
        with pytest.raises(Stopped):
            trainer.run()
    else:
        trainer.run()
    return {
        "model": trainer.model.state_dict(),
        "history": trainer.progress.history,
        "steps": trainer.progress.epoch * trainer.batches + trainer.progress.batch,
    }


def interrupt(trainer: Trainer, here: bool) -> None:
    """Let this process get a signal in step ``STOP_AT``."""
    step = trainer._step

    def step_and_interrupt(frames: torch.Tensor, number: int) -> None:
        step(frames, number)
        if here and number + 1 == STOP_AT:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer._step = step_and_interrupt  # type: ignore[method-assign]


def normalise(norm: nn.Module, x: torch.Tensor, upstream: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(upstream)
    assert x.grad is not None
    gradients = {f"{name}.grad": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x.grad": x.grad, **gradients, **norm.state_dict()}


NORMS: dict[str, tuple[Any, list[int]]] = {
    "rows": (nn.BatchNorm1d, [11, 5]),
    "maps": (nn.BatchNorm2d, [11, 5, 3, 2]),
}


def some_norm(kind: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A BatchNorm with weights, a batch far from mean 0, and a gradient."""
    generator = torch.Generator().manual_seed(5)
    make, shape = NORMS[kind]
    norm: nn.Module = make(5).double()
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 2.0, generator=generator)
    x, upstream = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    return norm, 3 * x + 100, upstream


def both(rank: int, folder: Path) -> None:
    """What each of two processes does in these tests; starting them takes longer than all of it."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    with joined(f"file://{folder}/met") as processes:
        results = meeting(processes, folder)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    results["threads left"] = [name for name in threads if "gloo" in name]
    torch.save(results, folder / f"results-{rank}.pt")


def meeting(processes: Processes, folder: Path) -> dict[str, Any]:
    rank = processes.rank
    results: dict[str, Any] = {}
    for kind in NORMS:
        norm, x, upstream = some_norm(kind)
        processes.join_norms(norm)
        assert isinstance(norm, JointBatchNorm)
        rows = slice(*processes.slice(len(x)))
        results[kind] = normalise(norm, x[rows], upstream[rows])
    results |= {
        "bilstm": train(processes, folder, "bilstm-2", model="bilstm"),
        "none": train(processes, folder, "none-2", norm="none"),
        "batch": train(processes, folder, "batch-2"),
        "stopped": train(processes, folder, "stopped-2", stop=True),
        "patience": train(processes, folder, "patience", norm="none", patience=1),
        "after one": train(processes, folder, "after-one", resume=folder / "stopped-1/last.pt"),
        "dropout": train(processes, folder, "dropout", dropout=0.3),
        "dropout, stopped": train(processes, folder, "dropout-stopped", dropout=0.3, stop=True),
    }
    processes.wait()  # for the checkpoint
    last = folder / "dropout-stopped/last.pt"
    results["dropout, resumed"] = train(processes, folder, "dropout-resumed", dropout=0.3, resume=last)
    results["agree"] = [*processes.agree(rank == 1, False, True)]
    results["told"] = processes.from_first(lambda: f"by {rank}")
    try:
        processes.in_turn(lambda: int("x"))
    except ValueError as error:
        results["first fails"] = str(error)
    try:
        processes.in_turn(lambda: int("1x"[: 2 if rank else 1]))
    except RuntimeError as error:
        results["second fails"] = str(error)
    return results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs are."""
    folder = tmp_path_factory.mktemp("processes")
    write_contest(folder / "contest")
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> dict[str, Any]:
    """What one process makes of it."""
    norms = {norm: train(ALONE, folder, f"{norm}-1", norm=norm) for norm in ("none", "batch")}
    bilstm = train(ALONE, folder, "bilstm-1", model="bilstm")
    return {**norms, "bilstm": bilstm, "stopped": train(ALONE, folder, "stopped-1", stop=True)}


@pytest.fixture(scope="module")
def two(folder: Path, one: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of two processes makes of it."""
    mp.spawn(both, (folder,), nprocs=2)
    return [torch.load(folder / f"results-{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("norm", ["none", "batch", "bilstm"])
def test_two_processes_train_the_weights_of_one(one: Any, two: Any, norm: str) -> None:
    assert one[norm]["steps"] == two[0][norm]["steps"] == two[1][norm]["steps"] > 20
    assert_close(two[0][norm]["model"], one[norm]["model"], 1e-5)
    assert_close(two[1][norm]["model"], two[0][norm]["model"], 0)
    for ours, theirs in zip(one[norm]["history"], two[0][norm]["history"], strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)
        assert ours["train_accuracy"] == pytest.approx(theirs["train_accuracy"], abs=0.01)
    assert two[1][norm]["history"] == []


@pytest.mark.parametrize("kind", NORMS)
def test_a_batchnorm_over_two_processes_is_one_over_all_rows(two: Any, kind: str) -> None:
    norm, x, upstream = some_norm(kind)
    whole = normalise(norm, x, upstream)
    first, second = (results[kind] for results in two)
    assert whole["x.grad"].abs().max() > 0.01
    for name, value in whole.items():
        if name in ("y", "x.grad"):
            ours = torch.cat([first[name], second[name]])
        else:
            ours = first[name] + second[name] if name.endswith("grad") else first[name]
        torch.testing.assert_close(ours, value, rtol=1e-9, atol=1e-12)


def test_a_signal_to_one_process_stops_all_at_the_same_step(two: Any, folder: Path) -> None:
    assert [results["stopped"]["steps"] for results in two] == [STOP_AT, STOP_AT]
    progress = load_checkpoint(folder / "stopped-2/last.pt")["progress"]
    assert (progress["epoch"], progress["batch"]) == (1, STOP_AT - 8)
    assert {path.name for path in (folder / "stopped-2").iterdir()} == {
        "last.pt", "best.pt", "metrics.jsonl", "train.log",
    }  # fmt: skip


def test_patience_ends_all_processes_after_the_same_epoch(two: Any) -> None:
    assert [results["patience"]["steps"] for results in two] == [16, 16]
    first, second = two[0]["patience"]["history"]
    assert first["dev_accuracy"] == second["dev_accuracy"]


def test_a_run_goes_on_with_another_number_of_processes(one: Any, two: Any, folder: Path) -> None:
    after_two = train(ALONE, folder, "after-two", resume=folder / "stopped-2/last.pt")
    for resumed in (after_two, two[0]["after one"]):
        assert_close(resumed["model"], one["batch"]["model"], 1e-5)
        assert [record["epoch"] for record in resumed["history"]] == [1, 2, 3]
        for ours, theirs in zip(resumed["history"], one["batch"]["history"], strict=True):
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], abs=1e-5)


def test_a_resume_with_as_many_processes_is_exact_with_dropout_too(two: Any) -> None:
    for results in two:
        assert results["dropout, stopped"]["steps"] == STOP_AT
        assert_close(results["dropout, resumed"]["model"], results["dropout"]["model"], 0)
    difference = two[0]["dropout"]["model"]["output.weight"] - two[0]["batch"]["model"]["output.weight"]
    assert difference.abs().max() > 0.01


def test_what_processes_tell_each_other(two: Any) -> None:
    for results in two:
        assert results["agree"] == [True, False, True]
        assert results["told"] == "by 0"
    assert "invalid literal" in two[0]["first fails"]
    assert two[1]["first fails"] == "process 0 could not go on, and says why"
    assert two[1]["second fails"].startswith("process 1 of 2: invalid literal")
    assert "second fails" not in two[0]


def test_nothing_is_left_that_aborts_python_when_it_ends(two: Any) -> None:
    """Threads of gloo that still ran then did so in 3 processes of 50."""
    assert [results["threads left"] for results in two] == [[], []]


@pytest.mark.parametrize(("size", "count"), [(33, 2), (4, 4), (100, 7)])
def test_slices_are_the_batch_and_weigh_what_they_hold(size: int, count: int) -> None:
    everyone = [Processes(rank, count) for rank in range(count)]
    slices = [processes.slice(size) for processes in everyone]
    assert [frame for first, end in slices for frame in range(first, end)] == list(range(size))
    shares = [processes.share(size, torch.device("cpu")) for processes in everyone]
    assert [float(share) * size for share in shares if share is not None] == pytest.approx(
        [end - first for first, end in slices]
    )


def test_a_batch_must_have_a_frame_for_each_process() -> None:
    with pytest.raises(ValueError, match=r"train\.batch_size=2: expected a frame for each of 3 processes"):
        Processes(1, 3).slice(2)


@pytest.mark.parametrize("device", ["mps", "cuda:1"])
def test_a_device_that_cannot_be_shared_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match=f"device={device}: 2 processes run on the cpu, or on cuda with"):
        Processes(1, 2).own_device(torch.device(device))


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Two processes of scripts/train.py under a rendezvous of their own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*command, str(SCRIPTS / "train.py"), "device=cpu", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it said on stdout and stderr; one that hangs is ended with its processes."""
    try:
        return process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.terminate()
        said, complaints = process.communicate()
        pytest.fail(f"it hung:\n{said}\n{complaints}")


def test_torchrun_trains_the_smoke_experiment_to_the_end(tmp_path: Path, tiny_corpus: Path) -> None:
    process = torchrun(tmp_path, "experiment=smoke", f"corpus.root={tiny_corpus.parent}")
    said, complaints = outcome(process)
    assert process.returncode == 0, complaints
    (run,) = (tmp_path / "runs").iterdir()
    assert f"run runs/{run.name} on cpu (1 threads), 2 processes, " in said
    assert {"config.json", "train.log", "last.pt", "best.pt"} <= {path.name for path in run.iterdir()}
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    (csv,) = (tmp_path / "submissions").glob("*.csv")
    table = pd.read_csv(csv)
    assert len(table) == sum(open_contest(tiny_corpus)["test"].lengths)
    assert table["label"].nunique() > 3
    assert said.count("submission: ") == said.count("epoch 2/2") == 1


def small_run(contest_folder: Path, epochs: int) -> TrainConfig:
    return TrainConfig(
        data=DataConfig(name="contest", root=str(contest_folder), num_classes=6),
        model=MlpConfig(context=2, widths=[16]),
        train=FitConfig(epochs=epochs, batch_size=6, resume="auto"),
        device="cpu",
    )


def as_words(config: TrainConfig) -> list[str]:
    return [
        "data=contest", f"data.root={config.data.root}", "data.num_classes=6", "model.context=2",
        "model.widths=[16]", f"train.epochs={config.train.epochs}", "train.batch_size=6", "train.resume=auto",
    ]  # fmt: skip


def test_ctrl_c_at_torchrun_stops_both_and_one_goes_on(
    tmp_path: Path, contest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run(contest_folder, 40)
    process = torchrun(tmp_path, *as_words(config))
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, complaints = outcome(process)
    assert said.count("stopped and saved; to go on:\n  torchrun --nproc-per-node=2 ") == 1, complaints
    assert "KeyboardInterrupt" not in complaints
    (run,) = (tmp_path / "runs").iterdir()
    assert 0 < load_checkpoint(run / "last.pt")["progress"]["epoch"] < 40

    monkeypatch.chdir(tmp_path)
    assert train_run(config, []) == Path("runs") / run.name
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, 41))
    assert records[-1]["dev_accuracy"] > 0.5


def test_a_run_that_one_process_began_is_finished_by_torchrun(
    tmp_path: Path, contest_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_run(contest_folder, 2)
    monkeypatch.chdir(tmp_path)
    run_whole = Trainer.run

    def run_and_interrupt(trainer: Trainer) -> Any:
        interrupt(trainer, True)
        return run_whole(trainer)

    monkeypatch.setattr(Trainer, "run", run_and_interrupt)
    with pytest.raises(SystemExit, match="130"):
        train_run(config, [])
    process = torchrun(tmp_path, *as_words(config))
    said, complaints = outcome(process)
    assert process.returncode == 0, complaints
    (run,) = (tmp_path / "runs").iterdir()
    assert f"resumed from runs/{run.name}/last.pt after 0 epochs" in said
    assert load_checkpoint(run / "last.pt")["progress"]["epoch"] == 2
    assert [path.stem for path in (tmp_path / "submissions").iterdir()] == [run.name]


def test_a_mistake_is_said_once_by_all_processes(tmp_path: Path, contest_folder: Path) -> None:
    write_utterances(contest_folder / "dev_labels.npy", [torch.zeros(50).long().numpy()])
    process = torchrun(tmp_path, *as_words(small_run(contest_folder, 2)))
    _, complaints = outcome(process)
    assert process.returncode == 1
    lines = [line for line in complaints.splitlines() if line.startswith("train.py: ")]
    assert len(lines) == 1, complaints
    assert "dev" in lines[0]
    assert not (tmp_path / "runs").exists()
