"""The loss: the sum of plain cross-entropies, over states and over phonemes."""

import pytest
import torch

from senone.loss import IGNORED, frame_loss, teacher_loss


def test_it_is_the_sum_of_the_cross_entropies() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 138, dtype=torch.float64), torch.randint(138, (6,))
    plain = -sum(torch.log_softmax(row, 0)[target] for row, target in zip(logits, targets, strict=True))
    torch.testing.assert_close(frame_loss(logits, targets), torch.as_tensor(plain))


def test_the_phonemes_posteriors_are_the_sums_of_their_states() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 138, dtype=torch.float64), torch.randint(138, (6,))
    phonemes = torch.softmax(logits, 1).view(6, 46, 3).sum(2)
    plain = -sum(row[target // 3].log() for row, target in zip(phonemes, targets, strict=True))
    with_them = frame_loss(logits, targets, phoneme_weight=0.5)
    torch.testing.assert_close(with_them - frame_loss(logits, targets), 0.5 * torch.as_tensor(plain))


@pytest.mark.parametrize("options", [{}, {"smoothing": 0.1}, {"phoneme_weight": 0.3}], ids=str)
def test_an_ignored_frame_counts_for_nothing(options: dict[str, float]) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 138, requires_grad=True)
    targets = torch.randint(138, (6,))
    targets[[1, 4]] = IGNORED
    loss = frame_loss(logits, targets, **options)
    kept = targets != IGNORED
    torch.testing.assert_close(loss, frame_loss(logits[kept], targets[kept], **options))
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~kept] == 0).all()
    assert (logits.grad[kept] != 0).any()


def test_the_teachers_loss_is_the_cross_entropy_to_its_shares() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 9, dtype=torch.float64)
    states = torch.stack([torch.randperm(9)[:3] for _ in range(4)])
    shares = torch.rand(4, 3, dtype=torch.float64)
    shares /= shares.sum(1, keepdim=True)
    whole = torch.zeros(4, 9, dtype=torch.float64).scatter(1, states, shares)
    targets = torch.tensor([0, IGNORED, 5, 8])
    plain = torch.nn.functional.cross_entropy(logits[[0, 2, 3]], whole[[0, 2, 3]], reduction="sum")
    torch.testing.assert_close(teacher_loss(logits, states.byte(), shares, targets), plain)
    sure = torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, 1, dtype=torch.float64)
    zero = torch.zeros(4, dtype=torch.int64)
    torch.testing.assert_close(teacher_loss(logits, *sure, zero), frame_loss(logits, zero))
