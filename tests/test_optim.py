"""The schedule is a pure function of the step; weight decay pulls at matrices alone."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from senone.models import build_model
from senone.optim import build_optimiser, lr_at, set_lr


@given(total=st.integers(1, 5000), warmup=st.floats(0, 0.9), data=st.data())
def test_the_rate_rises_to_its_peak_and_falls_to_its_end(
    total: int, warmup: float, data: st.DataObject
) -> None:
    rates = [lr_at(step, total, lr=0.1, final_lr=0.001, warmup=warmup) for step in range(total)]
    rising = int(warmup * total)
    assert all(0 < rate <= 0.1 for rate in rates)
    assert all(before < after for before, after in pairwise(rates[: rising + 1]))
    assert all(before >= after for before, after in pairwise(rates[rising:]))
    if rising < total - 1:
        assert rates[rising] == pytest.approx(0.1)
        assert rates[-1] == pytest.approx(0.001)
    step = data.draw(st.integers(0, total - 1))
    assert lr_at(step, total, lr=0.1, final_lr=0.001, warmup=warmup) == rates[step]


def test_halfway_down_the_cosine_is_the_mean_of_both_ends() -> None:
    assert lr_at(50, 101, lr=0.3, final_lr=0.1, warmup=0) == pytest.approx(0.2)


def test_weight_decay_pulls_at_matrices_and_leaves_biases_and_norms() -> None:
    model = build_model({"name": "mlp", "context": 1, "widths": [4]}, 3, 2)
    optimiser = build_optimiser(model, lr=0.1, weight_decay=0.5, beta1=0.9, beta2=0.99)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    for name, p in model.named_parameters():
        factor = 1 - 0.1 * 0.5 if p.ndim == 2 else 1
        torch.testing.assert_close(p.detach(), before[name] * factor)


def test_the_rate_that_is_set_is_the_one_that_is_used() -> None:
    model = build_model({"name": "mlp", "context": 1, "widths": [4]}, 3, 2)
    optimiser = build_optimiser(model, lr=0.1, weight_decay=0, beta1=0.9, beta2=0.99)
    set_lr(optimiser, 0.025)
    before = model.get_parameter("output.bias").detach().clone()
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    torch.testing.assert_close(before - model.get_parameter("output.bias").detach(), torch.full((2,), 0.025))
