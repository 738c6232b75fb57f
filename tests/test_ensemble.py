"""Checkpoints decide by the weighted mean of their log-posteriors, each on its own kind of data."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_contest

from senone.checkpoint import load_checkpoint, load_model, save_checkpoint
from senone.config import DecodeConfig, MlpConfig
from senone.corpus.contest import write_utterances
from senone.decode import Decoder
from senone.ensemble import Ensemble, Member, fit_weights, mix, open_ensemble
from senone.evaluate import predict, score, utterance_logits
from senone.models import build_model

CPU = torch.device("cpu")


@pytest.fixture
def checkpoints(two_runs: Path) -> list[Path]:
    return [two_runs / "runs" / name / "best.pt" for name in "ab"]


def log_posteriors(member: Member, split: str) -> np.ndarray:
    """(N, K) float64, by the plain definition."""
    logits = torch.cat(list(utterance_logits(member.model, member.data.splits[split], CPU))).double().numpy()
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.log(powers / powers.sum(axis=1, keepdims=True))


def dev_loss(logits: torch.Tensor, labels: torch.Tensor, weights: list[float]) -> float:
    mixed = mix(logits, torch.tensor(weights))
    return float(torch.nn.functional.cross_entropy(mixed, labels))


def test_an_ensemble_is_the_weighted_mean_of_log_posteriors(checkpoints: list[Path]) -> None:
    ensemble = open_ensemble(checkpoints, CPU)
    assert ensemble.weights.tolist() == [0.5, 0.5]
    ensemble.weights = torch.tensor([0.3, 0.7])
    a, b = (log_posteriors(member, "dev") for member in ensemble.members)
    assert np.abs(a - b).mean() > 0.1
    mixed = 0.3 * a + 0.7 * b
    mixed -= np.log(np.exp(mixed).sum(axis=1, keepdims=True))
    utterances = list(ensemble.logits("dev"))
    assert [len(logits) for logits in utterances] == ensemble.data.dev.offsets.diff().tolist()
    np.testing.assert_allclose(torch.cat(utterances).log_softmax(dim=1), mixed, rtol=1e-4, atol=1e-5)
    result, predicted = score(ensemble.logits("dev"), ensemble.data.dev)
    assert ensemble.data.dev.labels is not None
    labels = ensemble.data.dev.labels.numpy()
    np.testing.assert_array_equal(predicted, mixed.argmax(axis=1))
    assert result.loss == pytest.approx(-mixed[np.arange(len(labels)), labels].mean(), rel=1e-5)


def test_some_utterances_are_those_of_all(checkpoints: list[Path]) -> None:
    ensemble = open_ensemble(checkpoints, CPU)
    every = list(ensemble.logits("train"))
    for index, logits in zip([4, 1], ensemble.logits("train", iter([4, 1])), strict=True):
        torch.testing.assert_close(logits, every[index])


def test_an_ensemble_of_one_is_the_checkpoint_bit_for_bit(checkpoints: list[Path]) -> None:
    for checkpoint in checkpoints:
        alone = open_ensemble([checkpoint], CPU)
        model, content = load_model(checkpoint)
        own = list(utterance_logits(model, alone.data.test, CPU))
        for ours, theirs in zip(alone.logits("test"), own, strict=True):
            assert torch.equal(ours, theirs)
        decoder = alone.own_decoder()
        assert decoder is not None
        np.testing.assert_array_equal(
            predict(alone.logits("test"), alone.data.test, decoder),
            predict(own, alone.data.test, Decoder.from_state(content["decode"])),
        )


def test_members_prepared_alike_share_a_store(
    checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = []

    def place(store: Any, device: torch.device) -> Any:
        placed.append(store)
        return store

    monkeypatch.setattr("senone.ensemble.place_store", place)
    list(open_ensemble([checkpoints[0], checkpoints[0]], CPU).logits("test"))
    assert len(placed) == 1
    list(open_ensemble(checkpoints, CPU).logits("test"))
    assert len(placed) == 3


def test_weights_fitted_on_dev_make_it_no_less_likely_than_equal_ones(checkpoints: list[Path]) -> None:
    ensemble = open_ensemble([*checkpoints, checkpoints[0].with_name("last.pt")], CPU)
    equal = score(ensemble.logits("dev"), ensemble.data.dev)[0].loss
    ensemble.fit_weights()
    assert float(ensemble.weights.sum()) == pytest.approx(1, abs=1e-6)
    assert score(ensemble.logits("dev"), ensemble.data.dev)[0].loss <= equal + 1e-6


def test_utterances_from_all_over_dev_decide(
    checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble, dev = open_ensemble(checkpoints, CPU), open_ensemble(checkpoints, CPU).data.dev
    last = dev.num_utterances - 1
    for frames, expected in ((10**6, list(range(last + 1))), (dev.num_frames // 2, [0, last]), (1, [0])):
        monkeypatch.setattr("senone.ensemble.DEV_FRAMES", frames)
        chosen, labels = ensemble._dev_utterances()
        assert chosen == expected
        for index, ours in zip(chosen, labels, strict=True):
            assert torch.equal(ours, dev.utterance_labels(index).long())


@pytest.mark.parametrize("seed", range(5))
def test_fitted_weights_are_the_best_of_a_grid(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (300,), generator=generator)
    noise = torch.tensor([0.8, 1.0, 1.5])[:, None, None]
    logits = torch.nn.functional.one_hot(labels, 5) + noise * torch.randn(3, 300, 5, generator=generator)
    weights = fit_weights(logits, labels)
    assert weights.min() >= 0
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    steps = np.linspace(0, 1, 21)
    grid = [[x, y, max(1 - x - y, 0)] for x in steps for y in steps if x + y <= 1 + 1e-9]
    best = min(dev_loss(logits, labels, point) for point in grid)
    assert dev_loss(logits, labels, weights.tolist()) <= best + 1e-6


def test_a_member_that_knows_nothing_gets_no_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (2000,), generator=generator)
    good = 2.0 * torch.nn.functional.one_hot(labels, 5) + torch.randn(2000, 5, generator=generator)
    weights = fit_weights(torch.stack([good, 3 * torch.randn(2000, 5, generator=generator)]), labels)
    assert weights[0] > 0.97


def test_several_get_a_decoder_of_the_first_ones_kind_with_scales_of_their_own(
    checkpoints: list[Path], tmp_path: Path
) -> None:
    content = load_checkpoint(checkpoints[0])
    content["config"]["decode"].update(name="viterbi", smoothing=2.0, acoustic_scale=0.123)
    save_checkpoint(tmp_path / "first.pt", content)
    ensemble = open_ensemble([tmp_path / "first.pt", checkpoints[1]], CPU)
    decoder = ensemble.own_decoder()
    fitted = ensemble.fit_decoder(DecodeConfig(name="viterbi", smoothing=2.0))
    assert decoder is not None
    assert fitted is not None
    assert (decoder.name, decoder.scales) == ("viterbi", fitted.scales)
    assert torch.equal(decoder.chain.transitions, fitted.chain.transitions)
    content["config"]["decode"].update(name="argmax")
    save_checkpoint(tmp_path / "first.pt", content)
    assert open_ensemble([tmp_path / "first.pt", checkpoints[1]], CPU).own_decoder() is None


def test_a_checkpoint_of_a_run_that_did_not_end_gets_the_decoder_that_was_asked_for(
    checkpoints: list[Path], tmp_path: Path
) -> None:
    content = load_checkpoint(checkpoints[0])
    del content["decode"]
    content["config"]["decode"].update(name="viterbi", acoustic_scale=0.123)
    save_checkpoint(tmp_path / "best.pt", content)
    decoder = open_ensemble([tmp_path / "best.pt"], CPU).own_decoder()
    assert decoder is not None
    assert (decoder.name, decoder.scales.acoustic) == ("viterbi", 0.123)
    save_checkpoint(tmp_path / "best.pt", {**content, "decode": None})  # it chose argmax
    assert open_ensemble([tmp_path / "best.pt"], CPU).own_decoder() is None


def test_an_ensemble_is_legal_if_all_its_members_are(
    checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = open_ensemble(checkpoints, CPU)
    assert ensemble.contest_legal
    monkeypatch.setattr(ensemble.members[1].model, "contest_legal", False)
    assert not ensemble.contest_legal


def test_an_ensemble_is_named_after_its_runs(checkpoints: list[Path]) -> None:
    assert open_ensemble(checkpoints, CPU).name == "a+b"
    assert open_ensemble([checkpoints[1], checkpoints[0].with_name("last.pt")], CPU).name == "b+a-last"
    assert open_ensemble(checkpoints[:1], CPU).name == "a"
    member = open_ensemble(checkpoints, CPU).members[0]
    paths = [Path(f"runs/run-{i}/best.pt") for i in range(100)]
    members = [replace(member, checkpoint=path) for path in paths]
    many, others = Ensemble(members, CPU).name, Ensemble(members[:-1], CPU).name
    assert many.startswith("run-0+99-")
    assert others.startswith("run-0+98-")
    assert len(many) == len("run-0+99-") + 8
    assert many[-8:] != others[-8:]


def test_a_warp_makes_three_members_of_each_checkpoint(checkpoints: list[Path]) -> None:
    plain, warped = open_ensemble(checkpoints, CPU), open_ensemble(checkpoints, CPU, warp=0.1)
    assert [member.factor for member in warped.members] == [1.0, 0.9, 1.1] * 2
    assert warped.name == "a+b-warped"
    assert warped.contest_legal
    each = [open_ensemble([path], CPU, warp=0.1) for path in checkpoints]
    for ours, a, b in zip(*(ensemble.logits("dev") for ensemble in (warped, *each)), strict=True):
        torch.testing.assert_close(ours, (a + b) / 2)
    plain.fit_weights()
    warped.fit_weights()
    losses = [score(ensemble.logits("dev"), ensemble.data.dev)[0].loss for ensemble in (plain, warped)]
    assert losses[1] <= losses[0] + 1e-6


def other_labels(folder: Path) -> str:
    labels = [labels[::-1] for labels in np.load(folder / "dev_labels.npy", allow_pickle=True)]
    write_utterances(folder / "dev_labels.npy", labels)
    return "its dev"


def other_lengths(folder: Path) -> str:
    frames = [frames[1:] for frames in np.load(folder / "test.npy", allow_pickle=True)]
    write_utterances(folder / "test.npy", frames)
    return "its test"


@pytest.mark.parametrize("change", [other_labels, other_lengths])
def test_a_member_of_other_files_is_refused_by_name(
    checkpoints: list[Path], tmp_path: Path, change: Any
) -> None:
    root = write_contest(tmp_path / "contest")
    what = change(root)
    content = load_checkpoint(checkpoints[1])
    content["config"]["data"]["root"] = str(root)
    save_checkpoint(tmp_path / "other.pt", content)
    message = rf"^{tmp_path}/other\.pt: {what} \(\d+ frames, 6 classes\) is not that of {checkpoints[0]} \("
    with pytest.raises(ValueError, match=message) as caught:
        open_ensemble([checkpoints[0], tmp_path / "other.pt"], CPU)
    assert "\n" not in str(caught.value)


def test_a_member_of_other_classes_is_refused_by_name(checkpoints: list[Path], tmp_path: Path) -> None:
    content = load_checkpoint(checkpoints[1])
    model = build_model(asdict(MlpConfig(context=7, widths=[16])), 8, 7)
    save_checkpoint(tmp_path / "other.pt", {**content, "num_classes": 7, "model": model.state_dict()})
    with pytest.raises(ValueError, match=r"other\.pt: its train \(\d+ frames, 7 classes\) is not that of"):
        open_ensemble([checkpoints[0], tmp_path / "other.pt"], CPU)


def test_a_teachers_likeliest_states_carry_their_posteriors(checkpoints: list[Path]) -> None:
    ensemble = open_ensemble(checkpoints[:1], CPU)
    states, shares = ensemble.likeliest("train", 3)
    posteriors = np.exp(log_posteriors(ensemble.members[0], "train"))
    best = np.argsort(-posteriors, axis=1)[:, :3]
    np.testing.assert_array_equal(states, best)
    kept = np.take_along_axis(posteriors, best, axis=1)
    np.testing.assert_allclose(shares, kept / kept.sum(axis=1, keepdims=True), atol=1e-3)
    every, _ = ensemble.likeliest("train")
    assert every.shape[1] == ensemble.data.train.num_classes
