"""Several networks in one: each learns by its own mistakes, and they decide together."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from senone.config import BiLstmConfig, CommitteeConfig, FitConfig, MlpConfig, ModelConfig, OptimConfig
from senone.corpus.contest import open_contest
from senone.frames import FrameStore
from senone.models import FrameModel, build_model, describe_model
from senone.models.committee import Committee
from senone.preparation import open_store
from senone.runlog import RunLog
from senone.train import Trainer

BINS, CLASSES = 8, 6
MEMBERS: dict[str, ModelConfig] = {
    "mlp": MlpConfig(context=3, widths=[12], norm="none"),
    "bilstm": BiLstmConfig(context=3, channels=[3, 4], width=8, layers=1, dropout=0.0),
}
TOGETHER = CommitteeConfig(context=3, members=MEMBERS)


def built(config: ModelConfig) -> FrameModel:
    torch.manual_seed(0)
    return build_model(asdict(config), BINS, CLASSES)


def test_it_decides_by_the_mean_of_its_members_log_posteriors() -> None:
    model = built(TOGETHER).eval()
    assert isinstance(model, Committee)
    x, surroundings = torch.randn(2, 5 + 6, BINS), torch.randn(2, 10)
    each = torch.stack([member(x, surroundings).log_softmax(dim=2) for member in model.members])
    assert len(each) == 2
    torch.testing.assert_close(model(x, surroundings).log_softmax(dim=2), each.mean(dim=0).log_softmax(dim=2))


def test_in_training_it_has_the_logits_of_each_member() -> None:
    model = built(TOGETHER).train()
    x = torch.randn(2, 5 + 6, BINS)
    logits = model(x, torch.zeros(2, 10))
    assert logits.shape == (model.num_members * 2, 5, CLASSES)
    assert not torch.allclose(logits[:2], logits[2:])


@pytest.mark.parametrize("chunk", [1, 8])
def test_each_member_learns_as_it_does_alone(contest_folder: Path, tmp_path: Path, chunk: int) -> None:
    stores = {
        name: open_store(split, contest_folder / "stores", context=3, num_classes=CLASSES)
        for name, split in open_contest(contest_folder).items()
    }
    settings: dict[str, Any] = {"widths": [9, 9], "dropout": 0.0, "surroundings": False}  # they draw in turn
    members: dict[str, ModelConfig] = {
        norm: MlpConfig(context=3, norm=norm, **settings) for norm in ("none", "batch")
    }
    model = built(CommitteeConfig(context=3, surroundings=False, members=members))
    assert isinstance(model, Committee)
    states = [{key: value.clone() for key, value in member.state_dict().items()} for member in model.members]
    history = trained(model, stores, tmp_path / "together", chunk)
    alone = []
    for config, state, member in zip(members.values(), states, model.members, strict=True):
        single = built(config)
        single.load_state_dict(state)
        alone.append(trained(single, stores, tmp_path / "alone", chunk))
        for key, value in single.state_dict().items():
            torch.testing.assert_close(member.state_dict()[key], value, atol=1e-4, rtol=0)
            assert value.ndim == 0 or (value - state[key]).abs().max() > 0.01  # it has moved
    for key in ("train_loss", "train_accuracy"):
        assert history[key] == pytest.approx(sum(record[key] for record in alone) / 2, abs=1e-4)


def trained(model: FrameModel, stores: dict[str, FrameStore], folder: Path, chunk: int) -> dict[str, float]:
    """Train for two epochs; the record of the second."""
    folder.mkdir(exist_ok=True)
    trainer = Trainer(
        model,
        stores["train"],
        stores["dev"],
        settings=FitConfig(epochs=2, batch_size=32, chunk=chunk),
        optim=OptimConfig(lr=0.005, clip=0.0, weight_decay=0.0),  # a clip is of the norm of all gradients
        seed=5,
        device=torch.device("cpu"),
        precision="float32",
        log=RunLog(folder),
        identity={"config": {}, "num_bins": BINS, "num_classes": CLASSES},
    )
    record: dict[str, float] = trainer.run().history[-1]
    return record


def test_the_contest_allows_it_if_it_allows_all_of_its_members() -> None:
    assert describe_model(built(TOGETHER), "committee").endswith("NOT contest-legal")
    legal = CommitteeConfig(context=3, members={"a": MEMBERS["mlp"], "b": MEMBERS["mlp"]})
    assert describe_model(built(legal), "committee").endswith("million parameters, contest-legal")


def test_members_see_as_far_as_the_committee() -> None:
    with pytest.raises(ValueError, match=r"model.members.mlp.context=3: expected model.context, which is 4"):
        CommitteeConfig(context=4, members=MEMBERS)
    with pytest.raises(ValueError, match=r"model.members.mlp.surroundings=True: expected model.surroundings"):
        CommitteeConfig(context=3, surroundings=False, members=MEMBERS)
    with pytest.raises(ValueError, match=r"model.members={}: expected one network or more"):
        CommitteeConfig()
