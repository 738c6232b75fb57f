"""What only a CUDA card can show: recorded steps, stores and decoders that live there."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from senone.augment import Augmentation
from senone.benchmarks.gpu import never_waiting
from senone.benchmarks.synthetic import random_store, spoken_chain
from senone.checkpoint import load_checkpoint
from senone.config import FitConfig, OptimConfig
from senone.decode import Decoder, PhonemeTrigram, Scales, align
from senone.device import place_store
from senone.evaluate import score, utterance_logits
from senone.frames import FrameStore
from senone.models import build_model
from senone.models.blocks import Dropout
from senone.runlog import RunLog
from senone.train import COMPILER, Stopped, Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA card")

CARD, CPU = torch.device("cuda"), torch.device("cpu")
LSTM = {"name": "bilstm", "context": 6, "channels": [4, 8], "stride": 2, "width": 16, "layers": 2}
CONFORMER = {"name": "conformer", "context": 6, "splice": 2, "width": 16, "blocks": 1, "heads": 2, "reach": 8,
             "kernel": 5}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "context": 5, "widths": [32, 32], "dropout": 0.2, "surroundings": True},
    "rotated": {"name": "mlp", "context": 5, "widths": [32], "rotate": True, "norm": "layer"},
    "tdnn": {"name": "tdnn", "context": 6, "splice": 2, "dilations": [1, 3], "width": 32, "bottleneck": 8},
    "bilstm": {**LSTM, "dropout": 0.2, "surroundings": True},
    "conformer": {**CONFORMER, "dropout": 0.2},
    "committee": {"name": "committee", "members": {"a": {**LSTM, "dropout": 0.1}, "b": CONFORMER}},
}
FRAMES = FitConfig(epochs=2, batch_size=64, ema=0.9, label_smoothing=0.1)
CHUNKS = replace(FRAMES, chunk=32, batch_size=256, phoneme_weight=0.3)
VOICES = Augmentation(speed=0.1, warp=0.1, bin_masks=1, frame_masks=1, noise=0.1)


@pytest.fixture(scope="module")
def store() -> FrameStore:
    return random_store(2000, shortest=20, longest=90)


@pytest.fixture
def without_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither dropout nor noise, so that two ways to train are the same."""
    monkeypatch.setattr(Dropout, "forward", lambda self, x: x)
    monkeypatch.setattr("senone.models.blocks.LEVEL_NOISE", 0.0)
    monkeypatch.setattr("senone.models.blocks.PLACE_NOISE", 0.0)


def make_trainer(
    store: FrameStore, folder: Path, model: str, device: torch.device = CARD, **more: Any
) -> Trainer:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    network = build_model(MODELS[model], store.num_bins, store.num_classes)
    network.prepare(store)
    settings = more.pop("settings", FRAMES if model in ("mlp", "rotated") else CHUNKS)
    return Trainer(
        network,
        store,
        store,
        settings=settings,
        optim=OptimConfig(),
        seed=7,
        device=device,
        precision=more.pop("precision", "float32"),
        log=RunLog(folder),
        identity={"config": {}, "num_bins": store.num_bins, "num_classes": store.num_classes},
        **more,
    )


def steps(trainer: Trainer, count: int) -> dict[str, torch.Tensor]:
    """The weights after so many steps, and what was summed up."""
    trainer.model.train()
    order = trainer._order(0)
    for step in range(count):
        start = step % trainer.batches * trainer.batch_size
        trainer._step(order[start : start + trainer.batch_size], step)
    averaged = {} if trainer.averaged is None else trainer.averaged.state_dict()
    return {
        "sums": trainer.sums,
        **trainer.model.state_dict(),
        **{f"mean {k}": v for k, v in averaged.items()},
    }


@pytest.mark.parametrize("augmentation", [None, VOICES], ids=["plain", "changed"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", MODELS)
def test_a_recorded_step_does_what_the_step_does(
    store: FrameStore, tmp_path: Path, model: str, precision: str, augmentation: Augmentation | None
) -> None:
    """Dropout and augmentation draw the same, too."""
    options: dict[str, Any] = {"precision": precision, "augmentation": augmentation}
    recorded = make_trainer(store, tmp_path, model, **options)
    assert recorded.train.rows.dtype == getattr(torch, precision)
    ours = steps(recorded, 8)
    assert recorded.update.graph is not None
    plain = make_trainer(store, tmp_path, model, **options)
    plain.update.card = None
    theirs = steps(plain, 8)
    assert plain.update.graph is None
    again = make_trainer(store, tmp_path, model, **options)
    again.update.card = None
    rounding = steps(again, 8)  # kernels that add up in any order differ from run to run
    for name, expected in theirs.items():
        spread = (rounding[name].double() - expected.double()).abs().nan_to_num(0).max()
        torch.testing.assert_close(ours[name], expected, rtol=1e-3, atol=1e-4 + 3 * float(spread), msg=name)


def test_a_teacher_is_learned_from_in_a_recorded_step(store: FrameStore, tmp_path: Path) -> None:
    states = torch.randint(store.num_classes, (store.num_frames, 2)).short()
    teacher = (states, torch.tensor([[0.9, 0.1]]).half().expand(store.num_frames, 2).contiguous())
    recorded = make_trainer(store, tmp_path, "mlp", teacher=teacher)
    ours = steps(recorded, 8)
    plain = make_trainer(store, tmp_path, "mlp", teacher=teacher)
    plain.update.card = None
    theirs = steps(plain, 8)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_no_step_waits_for_the_card(store: FrameStore, tmp_path: Path, model: str) -> None:
    trainer = make_trainer(store, tmp_path, model, augmentation=VOICES)
    plain = make_trainer(store, tmp_path, model, augmentation=VOICES)
    plain.update.card = None
    for each in (trainer, plain):
        steps(each, 5)
        first = each._order(0)[: each.batch_size]
        with never_waiting(CARD):
            each._step(first, 5)
            each._step(first, 6)


def test_lstms_reckon_in_float32(store: FrameStore, tmp_path: Path) -> None:
    trainer = make_trainer(store, tmp_path, "bilstm", precision="bfloat16")
    lstm = trainer.model.get_submodule("lstm")
    seen: list[torch.dtype] = []
    lstm.register_forward_hook(lambda _, inputs, outputs: seen.extend([inputs[0].dtype, outputs[0].dtype]))
    steps(trainer, 1)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("model", ["mlp", "tdnn", "conformer"])
def test_the_card_learns_what_the_cpu_learns(
    store: FrameStore, tmp_path: Path, model: str, without_chance: None
) -> None:
    trainers = [make_trainer(store, tmp_path, model, device) for device in (CARD, CPU)]
    order = trainers[1]._order(0)
    trainers[0]._order = lambda epoch: order.to(CARD)  # type: ignore[method-assign]
    ours, theirs = (steps(trainer, 10) for trainer in trainers)
    assert float(ours.pop("sums")[0]) == pytest.approx(float(theirs.pop("sums")[0]), rel=1e-3)
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name].cpu(), expected, rtol=1e-2, atol=2e-3, msg=name)


@pytest.mark.parametrize("model", ["mlp", "committee"])
def test_a_run_on_a_card_stops_and_goes_on_there_or_on_the_cpu(
    store: FrameStore, tmp_path: Path, model: str
) -> None:
    whole = make_trainer(store, tmp_path / "whole", model, augmentation=VOICES)
    whole.run()
    stopped = make_trainer(store, tmp_path / "stopped", model, augmentation=VOICES)
    step = stopped._step

    def step_and_interrupt(frames: torch.Tensor, number: int) -> None:
        step(frames, number)
        if number == stopped.batches + 1:
            os.kill(os.getpid(), signal.SIGINT)

    stopped._step = step_and_interrupt  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        stopped.run()
    saved = load_checkpoint(tmp_path / "stopped" / "last.pt")
    torch.manual_seed(99)
    resumed = make_trainer(store, tmp_path / "stopped", model, augmentation=VOICES)
    resumed.restore(saved)
    resumed.run()
    ours, theirs = (trainer.progress.history[-1] for trainer in (resumed, whole))
    assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-2)
    assert ours["dev_loss"] == pytest.approx(theirs["dev_loss"], rel=1e-2)
    for name, expected in whole.model.state_dict().items():
        if model == "mlp":  # cuDNN's dropout within LSTMs draws anew
            found = resumed.model.state_dict()[name]
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-3, msg=name)
    elsewhere = make_trainer(store, tmp_path / "stopped", model, CPU)
    elsewhere.restore(saved)
    assert elsewhere.run().epoch == 2
    back = make_trainer(store, tmp_path / "stopped", model)
    back.restore({**load_checkpoint(tmp_path / "stopped" / "last.pt"), "progress": saved["progress"]})
    assert back.run().epoch == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch's compiler
def test_a_compiled_step_learns_the_same_and_is_recorded_too(
    store: FrameStore, tmp_path: Path, without_chance: None
) -> None:
    trainers = [
        make_trainer(store, tmp_path, "mlp", settings=replace(FRAMES, compile=compiled))
        for compiled in (True, False)
    ]
    ours, theirs = (steps(trainer, 10) for trainer in trainers)
    assert trainers[0].update.graph is not None
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=1e-2, atol=2e-3, msg=name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_dropout_is_drawn_anew_for_each_layer_and_step() -> None:
    dropout = Dropout(0.25).train()
    twice = torch.compile(lambda x: (dropout(x), dropout(x)), options=COMPILER)
    x = torch.ones(512, 1024, device=CARD)
    masks = [mask.bool() for _ in range(2) for mask in twice(x)]
    for mask in masks:
        assert abs(float(mask.float().mean()) - 0.75) < 0.005
    for first, second in pairwise(masks):
        assert abs(float((first == second).float().mean()) - (0.75**2 + 0.25**2)) < 0.01


@pytest.mark.parametrize("model", MODELS)
def test_the_card_says_of_utterances_what_the_cpu_says(store: FrameStore, model: str) -> None:
    torch.manual_seed(0)
    network = build_model(MODELS[model], store.num_bins, store.num_classes).eval()
    theirs, _ = score(utterance_logits(network, store, CPU), store)
    expected = list(utterance_logits(network, store, CPU))
    placed = place_store(store, CARD)
    found = list(utterance_logits(network.to(CARD), placed, CARD))
    ours, _ = score(iter(found), placed)
    torch.testing.assert_close([each.cpu() for each in found], expected, rtol=1e-3, atol=1e-3)
    assert abs(ours.loss - theirs.loss) < 1e-3


def decoders() -> list[Decoder]:
    labelled = random_store(3000)
    chain, trigram = spoken_chain(), PhonemeTrigram.count(labelled)
    scales = Scales(path=2.0)
    return [
        Decoder("forward_backward", chain, scales),
        Decoder("viterbi", chain, Scales()),
        Decoder("trigram", trigram, scales),
    ]


@pytest.mark.parametrize("index", range(3), ids=["forward_backward", "viterbi", "trigram"])
def test_the_card_decodes_as_the_cpu_does(index: int) -> None:
    decoder = decoders()[index]
    generator = torch.Generator().manual_seed(0)
    logits = [3 * torch.randn(length, 138, generator=generator) for length in (150, 1, 40, 333)]
    theirs = torch.cat(decoder(logits))
    ours = torch.cat(decoder([utterance.to(CARD) for utterance in logits]))
    assert (ours == theirs).float().mean() > 0.99


def test_the_card_aligns_as_the_cpu_does() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(length, 138, generator=generator) for length in (90, 5, 31)]
    sequences = [torch.randint(138, (count,), generator=generator) for count in (20, 5, 1)]
    theirs = align(scores, sequences)
    ours = align([s.to(CARD) for s in scores], [q.to(CARD) for q in sequences])
    assert [path.cpu().tolist() for path in ours] == [path.tolist() for path in theirs]


def test_what_waits_for_the_card_is_refused() -> None:
    number: Callable[[], float] = torch.ones((), device=CARD).item
    with never_waiting(CARD), pytest.raises(RuntimeError):
        number()
