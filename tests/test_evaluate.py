"""Evaluation agrees with the plain definition, in any block size, and leaves the model as it was."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from senone import evaluate
from senone.corpus.contest import open_contest
from senone.decode import hear
from senone.evaluate import block_logits, class_table, group_confusion, predict, score, utterance_logits
from senone.frames import FrameStore
from senone.models import FrameModel, build_model
from senone.preparation import open_store

CPU = torch.device("cpu")


@pytest.fixture
def dev(contest_folder: Path) -> FrameStore:
    split = open_contest(contest_folder)["dev"]
    return open_store(split, contest_folder / "stores", context=4, num_classes=6)


@pytest.fixture
def model() -> FrameModel:
    torch.manual_seed(0)
    return build_model(
        {"name": "mlp", "context": 4, "widths": [32], "dropout": 0.5, "surroundings": True}, 8, 6
    )


def plain_logits(model: FrameModel, store: FrameStore) -> torch.Tensor:
    """Utterance by utterance, frame by frame."""
    rows = []
    for utterance in range(store.num_utterances):
        padded = store.utterance(utterance, 4)
        for frame in range(len(padded) - 8):
            surroundings = store.surroundings(torch.tensor([len(rows)]))
            rows.append(model(padded[None, frame : frame + 9], surroundings)[0, 0])
    return torch.stack(rows).detach()


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("by_window", [True, False])
def test_blocks_of_any_size_give_the_same_logits_in_file_order(
    model: FrameModel, dev: FrameStore, block: int, by_window: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.eval()
    monkeypatch.setattr(type(model), "by_window", by_window)
    blocks = list(block_logits(model, dev, CPU, block=block))
    assert max(len(logits) for _, logits in blocks) <= block
    firsts = np.cumsum([0] + [len(logits) for _, logits in blocks])
    assert [first for first, _ in blocks] == firsts[:-1].tolist()
    torch.testing.assert_close(torch.cat([logits for _, logits in blocks]), plain_logits(model, dev))


def test_a_score_is_the_plain_accuracy_loss_and_confusion(model: FrameModel, dev: FrameStore) -> None:
    assert dev.labels is not None
    result, predicted = score(utterance_logits(model, dev, CPU), dev)
    logits, labels = plain_logits(model.eval(), dev), dev.labels.long()
    assert result.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())
    assert result.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    np.testing.assert_array_equal(predicted, logits.argmax(1))
    np.testing.assert_array_equal(predict(utterance_logits(model, dev, CPU), dev), predicted)
    confusion = np.zeros((6, 6), int)
    np.add.at(confusion, (labels.numpy(), predicted), 1)
    np.testing.assert_array_equal(result.confusion, confusion)


def test_evaluation_leaves_the_model_as_it_was(model: FrameModel, dev: FrameStore) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score(utterance_logits(model, dev, CPU), dev)
    assert all(module.training for module in model.modules())
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("block", [1, 7, 4096])
@pytest.mark.parametrize("by_window", [True, False])
@pytest.mark.parametrize("only", [None, [2, 0]])
def test_blocks_become_whole_utterances(
    model: FrameModel,
    dev: FrameStore,
    block: int,
    by_window: bool,
    only: list[int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(model), "by_window", by_window)
    monkeypatch.setattr(evaluate.block_logits, "__defaults__", ("float32", block, None))
    utterances = list(utterance_logits(model, dev, CPU, only=only))
    expected = plain_logits(model.eval(), dev).split(dev.offsets.diff().tolist())
    for ours, index in zip(utterances, range(3) if only is None else only, strict=True):
        torch.testing.assert_close(ours, expected[index])


def test_a_decoder_gets_all_utterances_in_file_order(
    model: FrameModel, dev: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "at_once", lambda device: 2)
    counts: list[int] = []
    frames: list[torch.Tensor] = []

    def decoder(batch: list[torch.Tensor], heard: Iterable[torch.Tensor]) -> list[torch.Tensor]:
        counts.append(len(batch))
        frames.extend(heard)
        return [logits.argmax(dim=1) for logits in batch]

    predicted = predict(utterance_logits(model, dev, CPU), dev, decoder)  # type: ignore[arg-type]
    assert counts == [2, 1]
    for ours, expected in zip(frames, hear(dev, range(3)), strict=True):
        assert torch.equal(ours, expected)
    np.testing.assert_array_equal(predicted, plain_logits(model.eval(), dev).argmax(1))


def test_states_of_a_phoneme_add_up() -> None:
    confusion = np.arange(36).reshape(6, 6)
    grouped = group_confusion(confusion, 3)
    assert grouped.tolist() == [[confusion[:3, :3].sum(), confusion[:3, 3:].sum()],
                                [confusion[3:, :3].sum(), confusion[3:, 3:].sum()]]  # fmt: skip
    assert group_confusion(confusion, 1).tolist() == confusion.tolist()


def test_a_class_table_leaves_out_what_does_not_occur() -> None:
    table = class_table(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]]), ["a", "b", "c"])
    assert table == [
        {"class": "a", "frames": 4, "accuracy": 0.75, "taken for": "b"},
        {"class": "c", "frames": 2, "accuracy": 1.0, "taken for": ""},
    ]
