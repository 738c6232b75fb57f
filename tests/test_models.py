"""Models: one interface for windows and for whole stretches, chosen by name."""

from dataclasses import replace

import pytest
import torch

from senone.config import MlpConfig, TdnnConfig
from senone.frames import BANDS, SURROUNDINGS, FrameStore
from senone.models import build_model, describe_model
from senone.models.blocks import (
    ACTIVATIONS,
    NORMS,
    Dropout,
    Rotation,
    Surroundings,
    fold_batchnorm,
    hashed,
)


def settings(**changes: object) -> dict[str, object]:
    return {"name": "mlp", "context": 4, "widths": [16, 16], **changes}


def test_a_stretch_gives_the_logits_of_its_windows() -> None:
    torch.manual_seed(0)
    model = build_model(settings(residual=True), 5, 7).double().eval()
    stretch = torch.randn(3, 20 + 8, 5, dtype=torch.float64)
    whole = model(stretch)  # (B, T, K)
    assert whole.shape == (3, 20, 7)
    for frame in range(20):
        window = model(stretch[:, frame : frame + 9])
        assert window.shape == (3, 1, 7)
        torch.testing.assert_close(window[:, 0], whole[:, frame], rtol=1e-12, atol=1e-12)


def test_a_stretch_need_not_be_contiguous() -> None:
    model = build_model(settings(norm="none"), 5, 7)
    stretch = torch.randn(2, 5, 12).transpose(1, 2)
    torch.testing.assert_close(model(stretch), model(stretch.contiguous()))


def test_the_window_is_seen_whole_and_nothing_beyond_it() -> None:
    model = build_model(settings(norm="none"), 5, 7)
    stretch = torch.randn(1, 30, 5, requires_grad=True)
    model(stretch)[0, 10].sum().backward()
    assert stretch.grad is not None
    seen = stretch.grad[0].abs().sum(dim=1) > 0
    assert seen.nonzero().flatten().tolist() == list(range(10, 10 + 9))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_choice_of_the_config_is_one_the_model_knows_and_learns_with(
    activation: str, norm: str
) -> None:
    MlpConfig(activation=activation, norm=norm)
    model = build_model(settings(activation=activation, norm=norm, dropout=0.2), 5, 7)
    model(torch.randn(8, 9, 5)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_what_the_config_refuses_is_what_the_models_do_not_know() -> None:
    for field, known in (("activation", ACTIVATIONS), ("norm", NORMS)):
        for schema in (MlpConfig, TdnnConfig):
            with pytest.raises(ValueError, match="expected one of") as caught:
                schema(**{field: "nix"})
            assert str(caught.value).endswith(", ".join(known))
    with pytest.raises(ValueError, match=r"model.name=nix: expected one of mlp, tdnn, bilstm, conformer"):
        build_model(settings(name="nix"), 5, 7)


def test_residual_adds_the_input_where_widths_agree() -> None:
    torch.manual_seed(0)
    plain = build_model(settings(norm="none", widths=[16, 16, 8]), 5, 7)
    torch.manual_seed(0)
    residual = build_model(settings(norm="none", widths=[16, 16, 8], residual=True), 5, 7)
    x = torch.randn(4, 45)
    first, second, third = (plain.get_submodule(f"hidden.{i}") for i in range(3))
    torch.testing.assert_close(residual.get_submodule("hidden.1")(first(x)), first(x) + second(first(x)))
    torch.testing.assert_close(residual.get_submodule("hidden.2")(first(x)), third(first(x)))


def test_dropout_drops_in_training_alone() -> None:
    model = build_model(settings(norm="none", dropout=0.5), 5, 7)
    x = torch.randn(64, 9, 5)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.fixture(params=["drawn", "hashed"])
def way_to_drop(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU, and as in compiled code."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: request.param == "hashed")
    torch.manual_seed(0)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_dropout_has_its_rate_and_keeps_the_mean(way_to_drop: None, p: float) -> None:
    x = torch.ones(1000, 1001)
    dropout = Dropout(p)
    y = dropout(x)
    assert abs(dropout.p - p) <= 1 / 512
    assert torch.equal(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - dropout.p)))
    deviation = (p * (1 - p) / x.numel()) ** 0.5
    assert abs(float((y == 0).double().mean()) - dropout.p) < 5 * deviation


def test_dropout_at_a_rate_near_0_or_1_neither_vanishes_nor_drops_everything(way_to_drop: None) -> None:
    x = torch.ones(200, 1000)
    assert 0 < float((Dropout(1e-6)(x) == 0).double().mean()) < 0.01
    assert 0 < float((Dropout(1 - 1e-6)(x) != 0).double().mean()) < 0.01
    assert torch.equal(Dropout(0.0)(x), x)


def test_dropout_is_independent_between_units_and_steps(way_to_drop: None) -> None:
    dropout = Dropout(0.3)
    n = 4000
    first, second = (dropout(torch.ones(n, 16)) != 0 for _ in range(2))
    both = torch.cat([first, second], dim=1).double()  # (n, 32): 16 units at two steps
    correlation = torch.corrcoef(both.T) - torch.eye(32)
    assert correlation.abs().max() < 5 / n**0.5
    rows = torch.corrcoef(torch.stack([first[:-1].flatten().double(), first[1:].flatten().double()]))
    assert abs(float(rows[0, 1])) < 5 / (16 * n) ** 0.5


def test_hashed_bytes_are_uniform_and_each_step_has_others() -> None:
    torch.manual_seed(0)
    count = 1 << 16
    steps = torch.stack([hashed(64, 1024, torch.device("cpu")).flatten() for _ in range(200)])  # (200, count)
    steps = (steps >> 24) + 128  # their highest bytes decide
    expected = steps.numel() / 256
    chi_square = float(((torch.bincount(steps.flatten(), minlength=256) - expected) ** 2 / expected).sum())
    assert 150 < chi_square < 380  # 255 degrees of freedom: 255 +- 23
    by_place = steps.double().mean(dim=0)  # which has no favourites: it spreads as chance has it
    assert float(by_place.std()) == pytest.approx(73.9 / 200**0.5, rel=0.02)
    same = (steps[:100] == steps[100:]).double().mean(dim=1)
    assert float((same - 1 / 256).abs().max()) < 6 / (256 * count) ** 0.5
    for shift in (1, 2, 64, 1024, 2048):  # nor does one place follow another
        assert abs(float((steps[:, shift:] == steps[:, :-shift]).double().mean()) - 1 / 256) < 1e-4


def test_dropout_passes_the_gradient_of_what_it_kept(way_to_drop: None) -> None:
    x = torch.randn(50, 7, requires_grad=True)
    dropout = Dropout(0.4)
    y = dropout(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(y != 0, 1 / (1 - dropout.p), 0.0))


def test_no_hidden_layer_is_a_linear_classifier() -> None:
    model = build_model(settings(widths=[]), 5, 7)
    assert sum(p.numel() for p in model.parameters()) == 9 * 5 * 7 + 7


def test_a_model_says_whether_the_contest_allows_it() -> None:
    model = build_model(settings(), 5, 7)
    assert describe_model(model, "mlp") == "mlp, 0.00 million parameters, contest-legal"


@pytest.mark.parametrize("options", [{}, {"residual": True}, {"norm": "layer"}, {"norm": "none"}])
def test_a_folded_model_agrees_with_the_eval_of_the_one_that_trained(options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = build_model(settings(widths=[64, 64, 64], dropout=0.3, **options), 5, 7)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimiser.zero_grad()
        model(3 * torch.randn(64, 9, 5) + 1).square().mean().backward()
        optimiser.step()
    folded = fold_batchnorm(model)
    assert model.training
    assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in folded.modules())
    x = 3 * torch.randn(10, 30, 5) + 1
    torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-5, atol=1e-5)


def store_of_frames(frames: torch.Tensor, cut: int) -> FrameStore:
    """Two utterances, one guard row around each that says nothing of them."""
    guards = torch.full((1, frames.shape[1]), 1e6)
    rows = torch.cat([guards, frames[:cut], guards, guards, frames[cut:], guards])
    return FrameStore.plain(rows, torch.tensor([0, cut, len(frames)]), None, 1, 7)


def test_a_rotation_turns_frames_onto_their_principal_axes() -> None:
    torch.manual_seed(0)
    frames = torch.randn(5000, 4) @ torch.randn(4, 4) * 3 + torch.tensor([5.0, -2.0, 900.0, 0.1])
    rotation = Rotation(4)
    assert torch.equal(rotation(frames), frames)  # until it knows better
    rotation.fit(store_of_frames(frames, 1700))
    turned = rotation(frames)
    covariance = torch.cov(turned.T)
    spread = covariance.diagonal()
    torch.testing.assert_close(covariance, torch.diag(spread), rtol=0, atol=1e-3 * float(spread.max()))
    assert (spread.diff() < 0).all()
    torch.testing.assert_close(turned.mean(dim=0), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.pdist(turned[:50]), torch.pdist(frames[:50]), rtol=1e-3, atol=1e-3)


def test_a_model_that_rotates_takes_its_axes_from_the_train_frames_and_keeps_them() -> None:
    torch.manual_seed(0)
    frames = torch.randn(400, 5) * torch.arange(1, 6)
    model = build_model(settings(rotate=True), 5, 7).eval()
    plain = build_model(settings(), 5, 7).eval()
    model.prepare(store_of_frames(frames, 100))
    weights = model.state_dict()
    plain.load_state_dict({name: value for name, value in weights.items() if "rotation" not in name})
    x = torch.randn(2, 9, 5)
    torch.testing.assert_close(model(x), plain((x - weights["rotation.mean"]) @ weights["rotation.axes"]))
    again = build_model(settings(rotate=True), 5, 7).eval()
    again.load_state_dict(weights)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("widths", [[16, 16], []])
def test_surroundings_shift_the_first_layer_by_a_linear_function_of_them(widths: list[int]) -> None:
    torch.manual_seed(0)
    model = build_model(settings(widths=widths, surroundings=True, activation="tanh"), 5, 7).double().eval()
    plain = build_model(settings(widths=widths, activation="tanh"), 5, 7).double().eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "surroundings" not in k})
    x = torch.randn(3, 12, 5, dtype=torch.float64)
    surroundings = torch.randn(3, SURROUNDINGS, dtype=torch.float64)
    surroundings[:, -2:] = torch.tensor([[0.0, 99.0], [5.0, 94.0], [98.0, 1.0]])
    model.surroundings.centre.fill_(0.3)
    model.surroundings.scale.fill_(2.0)
    levels = ((surroundings[:, :-2] - 0.3) / 2).clamp(-3, 3)
    for frame in range(4):
        places = (surroundings[:, -2:] + frame * torch.tensor([1, -1])).clamp(min=0).log1p() / 3 - 1
        shift = levels @ model.surroundings.level.weight.T + places @ model.surroundings.place.weight.T
        windows = x[:, frame : frame + 9].flatten(1)
        if widths:
            first, second = plain.hidden
            hidden = second((first.norm(first.linear(windows)) + shift).tanh())
            expected = plain.output(hidden)
        else:
            expected = plain.output(windows) + shift
        torch.testing.assert_close(model(x, surroundings)[:, frame], expected)


def test_in_training_surroundings_are_a_little_off_the_same_for_all_frames_of_an_example() -> None:
    torch.manual_seed(0)
    module = Surroundings(6).double()
    x = torch.full((2000, SURROUNDINGS), 20.0, dtype=torch.float64)
    exact = module.eval()(x, 5)
    noise = module.train()(x, 5) - exact  # (B, T, C)
    torch.testing.assert_close(noise, noise[:, :1].expand(-1, 5, -1))
    assert noise.mean(dim=0).abs().max() < 0.05
    spread = 0.25 * module.level.weight.square().sum(1) + 0.15**2 * module.place.weight.square().sum(1)
    torch.testing.assert_close(noise[:, 0].var(dim=0), spread, rtol=0.15, atol=0)


def test_levels_are_counted_in_spreads_of_the_usual_utterances_whatever_a_wild_one_does() -> None:
    torch.manual_seed(0)
    levels = torch.randn(500, 2 * BANDS) * torch.arange(1, 9) + 100
    levels[::50] = 1e9
    module = Surroundings(4)
    store = FrameStore.plain(torch.zeros(1500, 2), torch.arange(501), None, 1, 7)
    module.fit(replace(store, levels=levels))
    torch.testing.assert_close(module.centre, torch.full((8,), 100.0), rtol=0.02, atol=0)
    torch.testing.assert_close(module.scale, torch.arange(1, 9).float(), rtol=0.2, atol=0)
    module.fit(FrameStore.plain(torch.zeros(3, 2), torch.tensor([0, 1]), None, 1, 7))
    others = torch.zeros(2, SURROUNDINGS)
    others[1, : 2 * BANDS] = 5.0
    first, second = module.eval()(others, 1)
    assert first.isfinite().all()
    assert torch.equal(first, second)  # one utterance has no spread, and levels told nothing in training


def test_a_model_compiles_whole_and_keeps_the_names_of_its_weights() -> None:
    model = build_model({"name": "mlp", "context": 2, "widths": [8, 8], "dropout": 0.3}, 3, 5)
    x = torch.randn(20, 5, 3)
    expected, names = model.eval()(x), list(model.state_dict())
    model.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(model(x), expected)
    model.train()(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert list(model.state_dict()) == names
    assert not torch.equal(model(x), model(x))  # dropout
