"""The training engine: it learns, it stops anywhere, and it goes on as if it had not."""

import json
import os
import signal
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senone import train
from senone.augment import Augmentation
from senone.checkpoint import load_checkpoint
from senone.config import FitConfig, OptimConfig
from senone.corpus.contest import open_contest, write_utterances
from senone.evaluate import Score, score
from senone.frames import FrameStore
from senone.models import build_model
from senone.models.blocks import Dropout
from senone.preparation import open_store
from senone.runlog import RunLog
from senone.train import Stopped, Trainer

CPU = torch.device("cpu")
SETTINGS = FitConfig(epochs=4, batch_size=32, label_smoothing=0.1, ema=0.9)


@pytest.fixture
def stores(contest_folder: Path) -> dict[str, FrameStore]:
    cache = contest_folder / "stores"
    return {
        name: open_store(split, cache, context=2, num_classes=6)
        for name, split in open_contest(contest_folder).items()
    }


def make_trainer(
    stores: dict[str, FrameStore],
    folder: Path,
    settings: FitConfig = SETTINGS,
    augmentation: Augmentation | None = None,
    teacher: tuple[torch.Tensor, torch.Tensor] | None = None,
    **optim: Any,
) -> Trainer:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(3)
    model = build_model({"name": "mlp", "context": 2, "widths": [24, 24], "dropout": 0.3}, 8, 6)
    return Trainer(
        model,
        stores["train"],
        stores["dev"],
        settings=settings,
        optim=OptimConfig(**optim),
        seed=7,
        device=CPU,
        precision="float32",
        log=RunLog(folder),
        identity={"config": {}, "num_bins": 8, "num_classes": 6},
        augmentation=augmentation,
        teacher=teacher,
    )


def assert_same_state(first: Any, second: Any) -> None:
    """Equal, tensors bit for bit; how long it took may differ."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            if not str(key).endswith("seconds"):
                assert_same_state(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for ours, theirs in zip(first, second, strict=True):
            assert_same_state(ours, theirs)
    else:
        assert first == second


def test_it_learns_what_can_be_learned(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=20, ema=0.0, label_smoothing=0.0)
    history = make_trainer(stores, tmp_path / "run", settings, lr=0.01).run().history
    assert history[-1]["train_loss"] < 0.3 * history[0]["train_loss"]
    assert history[-1]["dev_accuracy"] > 0.75
    assert history[-1]["train_accuracy"] > 0.8  # with dropout


@pytest.mark.parametrize("augmentation", [None, Augmentation(speed=0.2, noise=0.3)], ids=["plain", "changed"])
def test_it_learns_from_chunks_too(
    stores: dict[str, FrameStore], tmp_path: Path, augmentation: Augmentation | None
) -> None:
    settings = replace(CHUNKS, epochs=20, ema=0.0, label_smoothing=0.0)
    history = make_trainer(stores, tmp_path / "run", settings, augmentation, lr=0.01).run().history
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["dev_accuracy"] > 0.75


def test_a_batch_of_chunks_has_the_frames_and_labels_of_the_store(
    stores: dict[str, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(stores, tmp_path / "run", CHUNKS)
    store = stores["train"]
    assert store.labels is not None
    first = trainer._order(0)[: trainer.batch_size]
    assert len(first) * 8 == 32
    inputs, surroundings, frames = trainer._batch(first)
    assert inputs.shape == (4, 8 + 2 * 2, 8)
    assert surroundings is None
    monkeypatch.setattr(type(trainer.model), "hears_surroundings", True)
    _, surroundings, _ = trainer._batch(first)
    assert surroundings is not None
    assert torch.equal(surroundings, store.surroundings(first.sort().values))
    assert frames.tolist() == [n for start in first.sort().values.tolist() for n in range(start, start + 8)]
    centres = store.rows[store.centres(frames)]
    assert torch.equal(inputs[:, 2:-2].flatten(0, 1), centres)


def test_frames_beyond_the_end_of_a_short_utterance_do_not_count(
    stores: dict[str, FrameStore], tmp_path: Path
) -> None:
    """Utterances of 40 to 59 frames, chunks of 100: one a chunk, and as many frames as there are."""
    settings = replace(SETTINGS, epochs=1, chunk=100, batch_size=300)
    trainer = make_trainer(stores, tmp_path / "run", settings)
    counted = []
    end_epoch = trainer._end_epoch
    trainer._end_epoch = lambda: (counted.append(trainer.progress.frames), end_epoch())  # type: ignore
    record = trainer.run().history[0]
    assert counted == [stores["train"].num_frames]
    assert 0.5 < record["train_loss"] < 3.0


def test_a_teacher_is_learned_from_where_labels_are_not(
    stores: dict[str, FrameStore], tmp_path: Path
) -> None:
    """Labels of nothing but chance, and a teacher that knows better."""
    train = stores["train"]
    assert train.labels is not None
    truth = train.labels.long()
    chance = replace(train, labels=torch.randint(6, (train.num_frames,), dtype=torch.uint8))
    teacher = (torch.stack([truth, (truth + 1) % 6], dim=1).byte(), torch.tensor([[0.9, 0.1]]).half())
    teacher = (teacher[0], teacher[1].expand(train.num_frames, 2).contiguous())
    accuracy = {}
    for weight in (0.0, 1.0):
        settings = replace(SETTINGS, epochs=15, ema=0.0, label_smoothing=0.0, teacher_weight=weight)
        folder = tmp_path / str(weight)
        trainer = make_trainer({**stores, "train": chance}, folder, settings, teacher=teacher, lr=0.01)
        accuracy[weight] = trainer.run().history[-1]["dev_accuracy"]
    assert accuracy[1.0] > 0.75
    assert accuracy[0.0] < 0.5


def test_it_learns_in_bfloat16_too_with_weights_in_float32(
    stores: dict[str, FrameStore], tmp_path: Path
) -> None:
    trainer = make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=10, ema=0.0), lr=0.01)
    trainer.precision = "bfloat16"
    history = trainer.run().history
    assert history[-1]["dev_accuracy"] > 0.7
    assert all(p.dtype == torch.float32 for p in trainer.parameters)


def test_utterances_as_wild_as_the_contests_do_not_hurt(contest_folder: Path, tmp_path: Path) -> None:
    """A third of the train utterances at 1,250 times the scale, and wild frames in the others."""
    utterances = list(np.load(contest_folder / "train.npy", allow_pickle=True))
    utterances[0], utterances[1] = 1250 * utterances[0] + 700, 400 * utterances[1] - 90
    for frames in utterances[2:]:
        frames[7] = 1e5
    write_utterances(contest_folder / "train.npy", utterances)
    settings = replace(SETTINGS, epochs=20, ema=0.0, label_smoothing=0.0)
    accuracy = {}
    for normalise in ("utterance", "none"):
        stores = {
            name: open_store(split, contest_folder / "stores", context=2, num_classes=6, normalise=normalise)
            for name, split in open_contest(contest_folder).items()
        }
        history = make_trainer(stores, tmp_path / normalise, settings, lr=0.01).run().history
        accuracy[normalise] = history[-1]["dev_accuracy"]
    assert accuracy["utterance"] > 0.7
    assert accuracy["none"] < accuracy["utterance"] - 0.1


CHUNKS = replace(SETTINGS, chunk=8)
OTHER_VOICES = Augmentation(speed=0.2, warp=0.2, bin_masks=1, bin_mask_width=2, noise=0.1)


@pytest.mark.parametrize(
    ("stop_at", "settings", "augmentation"),
    [
        (2.0, SETTINGS, None),
        (1.0, SETTINGS, None),
        (1.4, SETTINGS, None),
        (3.8, SETTINGS, None),
        (1.4, SETTINGS, OTHER_VOICES),
        (2.6, CHUNKS, OTHER_VOICES),
    ],
)
def test_a_run_that_was_stopped_ends_like_one_that_was_not(
    stores: dict[str, FrameStore],
    tmp_path: Path,
    stop_at: float,
    settings: FitConfig,
    augmentation: Augmentation | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = make_trainer(stores, tmp_path / "whole", settings, augmentation)
    whole.run()
    stopped = make_trainer(stores, tmp_path / "stopped", settings, augmentation)
    stop_step = int(stop_at * stopped.batches)
    step = stopped._step

    def step_and_interrupt(frames: torch.Tensor, number: int) -> None:
        step(frames, number)
        if number == stop_step:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(stopped, "_step", step_and_interrupt)
    with pytest.raises(Stopped):
        stopped.run()
    saved = load_checkpoint(tmp_path / "stopped" / "last.pt")
    assert saved["progress"]["epoch"] * stopped.batches + saved["progress"]["batch"] == stop_step + 1

    torch.manual_seed(99)  # a new process knows nothing of the old one
    resumed = make_trainer(stores, tmp_path / "stopped", settings, augmentation)
    resumed.restore(saved)
    resumed.run()
    assert_same_state(
        load_checkpoint(tmp_path / "stopped" / "last.pt"), load_checkpoint(tmp_path / "whole" / "last.pt")
    )
    assert_same_state(
        load_checkpoint(tmp_path / "stopped" / "best.pt"), load_checkpoint(tmp_path / "whole" / "best.pt")
    )


def test_a_signal_while_dev_is_scored_for_the_last_time_stops_the_run(
    stores: dict[str, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(stores, tmp_path / "run")
    epochs = count(1)

    def score_and_interrupt(*arguments: Any) -> Any:
        if next(epochs) == trainer.settings.epochs:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(*arguments)

    monkeypatch.setattr(train, "score", score_and_interrupt)
    with pytest.raises(Stopped):
        trainer.run()
    saved = load_checkpoint(tmp_path / "run/last.pt")["progress"]
    assert saved["epoch"] == trainer.settings.epochs  # nothing is left to train


def test_four_epochs_equal_two_a_kill_and_two_more(
    stores: dict[str, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_trainer(stores, tmp_path / "whole")
    whole.run()
    killed = make_trainer(stores, tmp_path / "killed")
    end_epoch = killed._end_epoch

    def end_two() -> None:
        end_epoch()
        if killed.progress.epoch == 2:
            raise MemoryError  # no signal, no farewell

    monkeypatch.setattr(killed, "_end_epoch", end_two)
    with pytest.raises(MemoryError):
        killed.run()
    resumed = make_trainer(stores, tmp_path / "killed")
    resumed.restore(load_checkpoint(tmp_path / "killed" / "last.pt"))
    assert resumed.progress.epoch == 2
    resumed.run()
    assert_same_state(resumed.state(), whole.state())


def test_another_seed_is_another_run(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    first, second = make_trainer(stores, tmp_path / "a"), make_trainer(stores, tmp_path / "b")
    second.seed = 8
    first.run()
    second.run()
    assert first.progress.history[-1]["train_loss"] != second.progress.history[-1]["train_loss"]


def test_records_are_those_of_the_epochs_and_the_best_is_kept(
    stores: dict[str, FrameStore], tmp_path: Path
) -> None:
    trainer = make_trainer(stores, tmp_path / "run")
    trainer.run()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert records == trainer.progress.history
    best = load_checkpoint(tmp_path / "run" / "best.pt")
    assert best["dev_accuracy"] == max(record["dev_accuracy"] for record in records)
    assert "optimiser" not in best
    assert records[-1]["lr"] == pytest.approx(OptimConfig().final_lr)


@pytest.mark.parametrize(
    ("patience", "accuracies", "trained"),
    [
        (None, [0.5, 0.4, 0.3, 0.2], 4),
        (1, [0.1, 0.3, 0.3, 0.9], 3),  # as good is not better
        (2, [0.1, 0.3, 0.2, 0.4], 4),
        (2, [0.3, 0.1, 0.2, 0.4], 3),
    ],
)
def test_a_run_ends_when_its_patience_does(
    stores: dict[str, FrameStore],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    patience: int | None,
    accuracies: list[float],
    trained: int,
) -> None:
    left = iter(accuracies)
    frames = 1000

    def scripted(*_: object) -> tuple[Score, None]:
        right = int(frames * next(left))
        return Score(np.diag([right, 0]) + np.array([[0, frames - right], [0, 0]]), 1.0), None

    monkeypatch.setattr("senone.train.score", scripted)
    settings = FitConfig(epochs=4, patience=patience, batch_size=16)
    trainer = make_trainer(stores, tmp_path, settings)
    progress = trainer.run()
    assert progress.epoch == trained
    assert load_checkpoint(tmp_path / "best.pt")["dev_accuracy"] == max(accuracies[:trained])
    resumed = make_trainer(stores, tmp_path, settings)
    resumed.restore(load_checkpoint(tmp_path / "last.pt"))
    assert resumed.run().epoch == trained  # and it stays ended


def test_the_mean_loss_of_an_epoch_weights_by_frames(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    """With a learning rate of almost nothing the model stands still, so its record can be checked."""
    settings = replace(SETTINGS, epochs=1, label_smoothing=0.0, ema=0.0, batch_size=50)
    trainer = make_trainer(stores, tmp_path / "run", settings, lr=1e-12, final_lr=0.0)
    for module in trainer.model.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    seen: list[tuple[float, float]] = []
    step = trainer._step

    def watched(frames: torch.Tensor, number: int) -> None:
        step(frames, number)
        seen.append((float(trainer.sums[0]), float(trainer.sums[1])))

    trainer._step = watched  # type: ignore[method-assign]
    trainer.run()
    record = trainer.progress.history[0]
    frames = 50 * trainer.batches
    assert record["train_loss"] == pytest.approx(seen[-1][0] / frames)
    assert record["train_accuracy"] == pytest.approx(seen[-1][1] / frames)
    assert 1.0 < record["train_loss"] < 3.0  # of 6 classes, untrained: about log 6 = 1.8


def test_every_frame_is_seen_once_an_epoch(
    stores: dict[str, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=1, batch_size=10))
    seen: list[int] = []
    step = trainer._step
    monkeypatch.setattr(trainer, "_step", lambda frames, n: (seen.extend(frames.tolist()), step(frames, n)))
    trainer.run()
    assert len(seen) == len(set(seen)) == trainer.train.num_frames // 10 * 10


def test_dropout_and_batchnorm_train_again_after_each_evaluation(
    stores: dict[str, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=2))
    modes: list[bool] = []
    step = trainer._step
    monkeypatch.setattr(
        trainer, "_step", lambda frames, n: (modes.append(trainer.model.training), step(frames, n))
    )
    trainer.run()
    assert all(modes)


def test_a_moving_average_is_evaluated_and_is_one(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    trainer = make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=1, ema=0.5))
    assert trainer.averaged is not None
    expected = {name: p.detach().clone() for name, p in trainer.averaged.named_parameters()}
    step = trainer._step

    def watched(frames: torch.Tensor, number: int) -> None:
        step(frames, number)
        decay = min(0.5, (1 + number) / (10 + number))
        for name, p in trainer.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * p.detach()

    trainer._step = watched  # type: ignore[method-assign]
    trainer.run()
    for name, p in trainer.averaged.named_parameters():
        torch.testing.assert_close(p, expected[name])
    best = load_checkpoint(tmp_path / "run" / "best.pt")
    assert torch.equal(best["model"]["output.weight"], trainer.averaged.state_dict()["output.weight"])
    for name, buffer in trainer.averaged.named_buffers():
        assert torch.equal(buffer, trainer.model.get_buffer(name))


def test_gradients_are_clipped(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    trainer = make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=1), clip=1e-3)
    trainer.run()
    norm = torch.stack([p.grad.norm() for p in trainer.parameters if p.grad is not None]).norm()
    assert norm <= 1.001e-3


def test_a_loss_that_is_not_finite_stops_the_run(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    trainer = make_trainer(stores, tmp_path / "run")
    with torch.no_grad():
        trainer.model.get_parameter("output.bias")[0] = float("nan")
    with pytest.raises(
        ValueError, match=r"loss is no longer finite in epoch 1, batch \d+ of \d+; lower optim"
    ):
        trainer.run()


def test_a_checkpoint_of_a_model_alone_cannot_be_resumed(
    stores: dict[str, FrameStore], tmp_path: Path
) -> None:
    make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=1)).run()
    trainer = make_trainer(stores, tmp_path / "run")
    with pytest.raises(ValueError, match=r"resume from a last\.pt"):
        trainer.restore(load_checkpoint(tmp_path / "run" / "best.pt"))


def test_training_without_labels_is_refused(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the labels of both"):
        make_trainer({**stores, "train": stores["test"]}, tmp_path / "run")


def test_signals_are_handed_back_after_a_run(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=1)).run()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_small_store_is_one_batch(stores: dict[str, FrameStore], tmp_path: Path) -> None:
    trainer = make_trainer(stores, tmp_path / "run", replace(SETTINGS, epochs=1, batch_size=100_000))
    assert (trainer.batches, trainer.batch_size) == (1, stores["train"].num_frames)
    assert len(trainer.run().history) == 1


def test_a_compiled_model_learns_the_same_and_keeps_its_names(
    stores: dict[str, FrameStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[dict[str, Any]] = []
    compile_function = torch.compile

    def without_code(function: Any, **options: Any) -> Any:
        compiled.append(options)
        return compile_function(function, backend="aot_eager", fullgraph=True)  # all but writing C++ or CUDA

    monkeypatch.setattr(torch, "compile", without_code)
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x)
    weights = {}
    for wanted in (False, True):
        settings = replace(SETTINGS, epochs=1, compile=wanted)
        trainer = make_trainer(stores, tmp_path / str(wanted), settings)
        trainer.run()
        weights[wanted] = trainer.state()
    assert compiled == [{"dynamic": False, "options": train.COMPILER}]
    for part in ("model", "averaged"):
        assert weights[True][part].keys() == weights[False][part].keys()
        for name, weight in weights[False][part].items():
            torch.testing.assert_close(weights[True][part][name], weight, rtol=1e-4, atol=1e-5)
