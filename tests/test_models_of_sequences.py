"""The models that see more than a window: TDNN, BiLSTM and Conformer."""

import cmath
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from senone import config
from senone.device import autocast, has_bfloat16
from senone.frames import SURROUNDINGS
from senone.models import MODELS, build_model, describe_model
from senone.models.blocks import FrameModel, fold_batchnorm, splice
from senone.models.conformer import Attention, rotary_angles, rotate
from senone.models.mlp import Mlp
from senone.models.recurrent import BiLstm
from senone.models.tdnn import FactoredConvolution, Tdnn

BINS, CLASSES = 5, 7
SCHEMAS = {"tdnn": config.TdnnConfig, "bilstm": config.BiLstmConfig, "conformer": config.ConformerConfig}


def small(name: str, context: int = 6, **changes: Any) -> FrameModel:
    """A small model in eval mode, of weights that are the same each time."""
    side = min(1, context)
    settings: dict[str, Any] = {
        "tdnn": {"splice": side, "dilations": [1] * (context - side), "width": 16, "bottleneck": 8},
        "bilstm": {"channels": [3, 4], "width": 8, "layers": 2},
        "conformer": {"splice": side, "width": 16, "blocks": 2, "heads": 2, "reach": 4, "kernel": 3},
    }[name]
    torch.manual_seed(0)
    schema: Any = SCHEMAS[name]
    chosen = schema(**{"context": context, "surroundings": False, **settings, **changes})
    return build_model(asdict(chosen), BINS, CLASSES).eval()


def shuffle_statistics(model: FrameModel) -> None:
    """Give each BatchNorm statistics of its own, as training does."""
    for module in model.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.get_buffer("running_mean").normal_()
            module.get_buffer("running_var").uniform_(0.5, 2)


def frames_seen(model: FrameModel, stretch: int, frame: int) -> list[int]:
    """The places in a stretch, 0 being the first frame of the context, that a frame's logits depend on."""
    x = torch.randn(1, stretch, BINS, dtype=torch.float64, requires_grad=True)
    logits = model.double()(x)[0, frame]
    (gradient,) = torch.autograd.grad((logits * torch.randn_like(logits)).sum(), x)
    return gradient[0].abs().sum(dim=1).nonzero().flatten().tolist()


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize(("batch", "frames", "context"), [(1, 1, 6), (3, 1, 0), (1, 20, 3), (3, 17, 6)])
def test_a_padded_stretch_gives_logits_for_its_frames(
    name: str, batch: int, frames: int, context: int
) -> None:
    if name == "bilstm":
        context = max(context, 3)  # its convolutions use up so much
    logits = small(name, context)(torch.randn(batch, frames + 2 * context, BINS))
    assert logits.shape == (batch, frames, CLASSES)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_defaults_are_a_model_that_the_contest_does_not_allow(name: str) -> None:
    model = build_model(asdict(SCHEMAS[name]()), 40, 138)
    assert describe_model(model, name).endswith("NOT contest-legal")
    assert not model.by_window
    assert 1.5e6 < sum(p.numel() for p in model.parameters()) < 4e6


@pytest.mark.parametrize("name", SCHEMAS)
def test_surroundings_move_every_frame_of_a_stretch(name: str) -> None:
    model = small(name, surroundings=True).double()
    x = torch.randn(2, 20 + 12, BINS, dtype=torch.float64)
    surroundings = torch.randn(2, SURROUNDINGS, dtype=torch.float64)
    surroundings[:, -2:] = torch.tensor([7.0, 30.0])
    logits = model(x, surroundings)
    for number in range(SURROUNDINGS):
        changed = surroundings.clone()
        changed[0, number] += 1
        moved = (model(x, changed) - logits).abs().amax(dim=2)
        assert (moved[0] > 1e-9).all()
        assert (moved[1] == 0).all()


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_frame_has_the_same_surroundings_in_every_stretch(name: str) -> None:
    model = small(name, 6, surroundings=True)
    told: list[torch.Tensor] = []  # (T,) frames before each that the module speaks of
    assert model.surroundings is not None
    model.surroundings.place.register_forward_hook(lambda _, inputs, __: told.append(inputs[0][0, :, 0]))
    step = 2 if name == "bilstm" else 1
    for first in (0, 4, 10):
        surroundings = torch.zeros(1, SURROUNDINGS)
        surroundings[0, -2:] = torch.tensor([first, 99 - first])
        model(torch.randn(1, 30 + 12, BINS), surroundings)
        before = (3 * (told.pop() + 1)).expm1()
        beyond = 4 if name == "bilstm" else 5  # frames of the context that the layer answers for
        expected = first - beyond + step * torch.arange(len(before))
        torch.testing.assert_close(before, expected.clamp(min=0).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_long_utterance_goes_through_at_once(name: str) -> None:
    with torch.inference_mode():
        assert small(name)(torch.randn(1, 2048 + 12, BINS)).isfinite().all()


@pytest.mark.parametrize("name", SCHEMAS)
def test_dropout_drops_in_training_alone(name: str) -> None:
    model = small(name, dropout=0.5)
    x = torch.randn(4, 32, BINS)
    assert torch.equal(model(x), model(x))
    assert not torch.equal(model.train()(x), model(x))


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, {}) for name in SCHEMAS]
    + [("bilstm", {"layers": 1}), ("tdnn", {"norm": "layer"}), ("tdnn", {"norm": "none"})],
)
def test_every_parameter_learns(name: str, changes: dict[str, Any]) -> None:
    model = small(name, dropout=0.2, **changes).train()
    logits = model(torch.randn(4, 32, BINS))
    (logits * torch.randn_like(logits)).sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.abs().max() > 1e-6, key


@pytest.mark.parametrize(("side", "dilations"), [(2, [1, 3]), (0, [2]), (0, [1, 4]), (1, []), (0, [])])
def test_a_tdnn_sees_what_splice_and_dilations_reach_and_nothing_else(
    side: int, dilations: list[int]
) -> None:
    context = side + sum(dilations)
    reached = {-side, *range(-side, side + 1)}
    for dilation in dilations:
        reached = {place + step for place in reached for step in (-dilation, 0, dilation)}
    model = small("tdnn", context, splice=side, dilations=dilations, activation="tanh")
    seen = frames_seen(model, 30 + 2 * context, 10)
    assert seen == sorted(10 + context + place for place in reached)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_bilstm_sees_the_whole_stretch(stride: int) -> None:
    model = small("bilstm", channels=[16, 16], stride=stride)
    assert frames_seen(model, 22 + 12, 10) == list(range(34))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("frames", [1, 11, 12, 13])
def test_a_step_of_the_bilstm_decides_on_the_frames_in_its_middle(stride: int, frames: int) -> None:
    context = stride + 1
    model = small("bilstm", context, channels=[16, 16], stride=stride).double()
    assert isinstance(model, BiLstm)
    x = torch.randn(2, frames + 2 * context, BINS, dtype=torch.float64, requires_grad=True)
    maps = model.front(x.unsqueeze(1))  # (B, C, S, F/4)
    for step in range(maps.shape[2]):
        (gradient,) = torch.autograd.grad(maps[:, :, step].sum(), x, retain_graph=True)
        seen = gradient.abs().sum(dim=(0, 2)).nonzero().flatten().tolist()
        assert seen == list(range(step * stride, step * stride + stride + 4))
    hidden, _ = model.lstm(maps.permute(0, 2, 3, 1).flatten(2))
    logits = model.output(hidden).view(2, -1, stride, CLASSES)  # (B, S, stride, K)
    for frame, expected in enumerate(model(x).unbind(dim=1)):
        step, place = divmod(frame + context - 2, stride)  # two frames on each side are only seen
        torch.testing.assert_close(logits[:, step, place], expected)


def test_a_conformer_sees_as_far_as_attention_and_convolution_reach() -> None:
    model = small("conformer", 3, splice=1, blocks=2, reach=4, kernel=3)
    reach = 1 + 2 * (4 + 1)
    assert frames_seen(model, 60 + 6, 30) == list(range(33 - reach, 33 + reach + 1))


@pytest.mark.parametrize(
    ("name", "context", "tolerance"),
    [("tdnn", 6, 1e-12), ("conformer", 11, 1e-6)],  # a conformer turns by float32 angles
)
def test_a_frame_that_sees_its_context_alone_gets_the_same_logits_in_any_stretch(
    name: str, context: int, tolerance: float
) -> None:
    model = small(name, context).double()
    shuffle_statistics(model)
    stretch = torch.randn(3, 20 + 2 * context, BINS, dtype=torch.float64)
    whole = model(stretch)
    for frame in range(20):
        window = model(stretch[:, frame : frame + 2 * context + 1])
        torch.testing.assert_close(window[:, 0], whole[:, frame], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_stretch_need_not_be_contiguous_and_has_no_neighbours(name: str) -> None:
    model = small(name).double()
    shuffle_statistics(model)
    stretch = torch.randn(BINS, 3, 32, dtype=torch.float64).permute(1, 2, 0)
    alone = torch.cat([model(x[None].contiguous()) for x in stretch])
    torch.testing.assert_close(model(stretch), alone, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="a CPU that would only emulate bfloat16")
@pytest.mark.parametrize("name", SCHEMAS)
def test_bfloat16_gives_nearly_the_same_logits_and_learns(name: str) -> None:
    cpu = torch.device("cpu")
    model = small(name)
    x = torch.randn(2, 32, BINS)
    exact = model(x)
    with autocast(cpu, "bfloat16"):
        rough = model(x)
        with torch.inference_mode():
            assert torch.equal(model(x), rough)
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)
    model.train()
    with autocast(cpu, "bfloat16"):
        logits = model(x)
    (logits.float() * torch.randn_like(exact)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", ["tdnn", "conformer"])
def test_every_batchnorm_counts_every_frame_alike(name: str) -> None:
    model = small(name).train()
    rows: list[torch.Size] = []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.momentum = 1.0

            def check(norm: torch.nn.Module, inputs: tuple[torch.Tensor], _: torch.Tensor) -> None:
                (x,) = inputs  # (N, C), what several processes can join
                rows.append(x.shape)
                torch.testing.assert_close(norm.get_buffer("running_mean"), x.mean(0))
                torch.testing.assert_close(norm.get_buffer("running_var"), x.var(0))

            module.register_forward_hook(check)
    model(torch.randn(3, 32, BINS))
    lengths = range(30, 19, -2) if name == "tdnn" else [30, 30]  # each block of a TDNN uses up a frame a side
    assert rows == [(3 * length, 16) for length in lengths]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_folded_model_agrees_with_the_eval_of_the_one_that_trained(name: str) -> None:
    model = small(name)
    shuffle_statistics(model)
    folded = fold_batchnorm(model)
    x = torch.randn(3, 32, BINS)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)
    if name == "tdnn":
        assert not any(isinstance(module, torch.nn.BatchNorm1d) for module in folded.modules())


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_label_that_stands_in_other_frames_is_learned(name: str) -> None:
    torch.manual_seed(0)
    changes = {"channels": [16, 32], "stride": 1} if name == "bilstm" else {}
    model = small(name, 6, width=16, dropout=0.0, **changes).train()
    blind = Mlp(BINS, CLASSES, context=0, widths=[32])
    x = torch.randn(32, 30 + 12, BINS)
    future, past = x[:, 8:38, 0] > 0, x[:, 4:34, 0] > 0
    labels = 2 * future.long() + past.long()  # (B, T): neither the frame nor its neighbours tell
    right = {}
    for key, learner, stretch in (("model", model, x), ("blind", blind, x[:, 6:-6])):
        optimiser = torch.optim.AdamW(learner.parameters(), lr=0.02)
        for _ in range(80):
            logits = learner(stretch)
            optimiser.zero_grad()
            F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
            optimiser.step()
        right[key] = float((logits.argmax(dim=2) == labels).double().mean())
    assert right["blind"] < 0.45
    assert right["model"] > 0.9


def test_spliced_frames_stand_in_the_order_of_time() -> None:
    x = torch.arange(10.0).view(1, 10, 1)
    assert splice(x, 2)[0].tolist() == [[t, t + 1, t + 2, t + 3, t + 4] for t in range(6)]
    assert splice(x, 1, 3)[0].tolist() == [[t, t + 3, t + 6] for t in range(4)]
    assert torch.equal(splice(x, 0), x)
    y = torch.randn(2, 10, 3)
    assert torch.equal(splice(y, 1)[:, 4], y[:, 4:7].flatten(1))


def test_a_factored_convolution_is_a_convolution() -> None:
    block = FactoredConvolution(6, 4, 3, norm="none", activation="tanh", dropout=0.0).double()
    x = torch.randn(2, 20, 6, dtype=torch.float64)
    linear = block.widen.linear
    kernel = torch.einsum("otn,ni->oit", linear.weight.unflatten(1, (3, 4)), block.narrow.weight)  # (6, 6, 3)
    convolved = F.conv1d(x.transpose(1, 2), kernel, linear.bias, dilation=3).transpose(1, 2)
    torch.testing.assert_close(block(x), x[:, 3:-3] + convolved.tanh(), rtol=1e-12, atol=1e-12)


def test_rotation_turns_each_pair_as_complex_numbers_turn() -> None:
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    turned = rotate(x, rotary_angles(9, 4, x.device).double())
    for frame in range(9):
        for pair in range(4):
            turn = cmath.exp(1j * frame * 10000 ** (-pair / 4))
            number = torch.complex(x[:, :, frame, pair], x[:, :, frame, pair + 4]) * turn
            torch.testing.assert_close(turned[:, :, frame, pair], number.real, rtol=0, atol=1e-5)
            torch.testing.assert_close(turned[:, :, frame, pair + 4], number.imag, rtol=0, atol=1e-5)


def test_rotated_products_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 8, dtype=torch.float64).unbind()
    angles = rotary_angles(50, 4, query.device).double()
    products = rotate(query.expand(50, 8), angles) @ rotate(key.expand(50, 8), angles).T  # (50, 50)
    for distance in range(-20, 21):
        torch.testing.assert_close(
            products.diagonal(distance), products.diagonal(distance)[:1].expand(50 - abs(distance)),
            rtol=0, atol=1e-4,
        )  # fmt: skip
    assert products[0].std() > 0.1


def test_attention_is_what_its_formula_says() -> None:
    torch.manual_seed(0)
    width, heads, frames, reach = 12, 3, 9, 2
    attention = Attention(width, heads, dropout=0.0).double()
    x = torch.randn(1, frames, width, dtype=torch.float64)
    angles = rotary_angles(frames, 2, x.device).double()
    times = torch.arange(frames)
    result = attention(x, angles, (times[:, None] - times).abs() <= reach)[0]
    query, key, value = attention.project(attention.norm(x))[0].chunk(3, dim=1)  # (S, C) each
    for frame in range(frames):
        seen = []
        near = [other for other in range(frames) if abs(other - frame) <= reach]
        for head in range(heads):
            part = slice(4 * head, 4 * head + 4)
            scores = torch.stack(
                [rotate(query[[frame], part], angles[[frame]])[0] @ rotate(key[[i], part], angles[[i]])[0]
                 for i in near]
            )  # fmt: skip
            weights = (scores / math.sqrt(4)).softmax(0)
            seen.append(weights @ value[near, part])
        expected = attention.merge(torch.cat(seen))
        torch.testing.assert_close(result[frame], expected, rtol=1e-9, atol=1e-9)


def test_a_tdnn_whose_context_is_not_used_up_is_refused() -> None:
    with pytest.raises(AssertionError, match="do not use up"):
        Tdnn(BINS, CLASSES, context=9, splice=1, dilations=[1, 2], width=8, bottleneck=4)


def test_every_model_has_its_schema() -> None:
    from senone.hydra_glue import MODEL_SCHEMAS

    several = {"committee": config.CommitteeConfig}
    assert {"mlp": config.MlpConfig, **SCHEMAS, **several} == MODEL_SCHEMAS
    assert list(MODEL_SCHEMAS) == [*MODELS, *several]
    assert all(name == schema.name for name, schema in MODEL_SCHEMAS.items())
