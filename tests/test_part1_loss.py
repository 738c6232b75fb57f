import math

import numpy as np
import pytest

from senone import part1


def batch(num_classes=5):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((7, num_classes))
    return logits, np.eye(num_classes)[rng.integers(0, num_classes, 7)]


def test_losses_are_minus_the_log_of_the_true_class_one_an_example():
    logits, labels = batch()
    criterion = part1.SoftmaxCrossEntropy()
    loss = criterion(logits, labels)
    assert loss.shape == (7,)
    for row, one_hot, value in zip(logits.tolist(), labels, loss, strict=True):
        total = sum(math.exp(logit) for logit in row)
        assert value == pytest.approx(-math.log(math.exp(row[one_hot.argmax()]) / total), rel=1e-12)


def test_what_the_criterion_was_given_and_found_is_kept():
    logits, labels = batch()
    criterion = part1.SoftmaxCrossEntropy()
    assert [criterion.logits, criterion.labels, criterion.loss, criterion.sm] == [None] * 4
    loss = criterion.forward(logits, labels)
    assert criterion.logits is logits
    assert criterion.labels is labels
    assert criterion.loss is loss
    np.testing.assert_allclose(criterion.sm, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def test_the_derivative_is_the_slope_of_each_loss():
    logits, labels = batch()
    criterion, width = part1.SoftmaxCrossEntropy(), 1e-6
    criterion(logits, labels)
    derivative = criterion.derivative()
    assert derivative.shape == logits.shape
    for c in range(5):
        shift = width * np.eye(5)[c]
        slopes = (criterion(logits + shift, labels) - criterion(logits - shift, labels)) / (2 * width)
        np.testing.assert_allclose(derivative[:, c], slopes, atol=1e-8)


def test_the_derivative_is_softmax_minus_labels_whatever_the_labels_are():
    logits, _ = batch()
    labels = np.random.default_rng(1).standard_normal(logits.shape)
    criterion = part1.SoftmaxCrossEntropy()
    criterion(logits, labels)
    np.testing.assert_array_equal(criterion.derivative(), criterion.sm - labels)


def test_neither_logits_nor_labels_are_written_to_and_results_outlive_the_next_batch():
    logits, labels = batch()
    logits.flags.writeable = labels.flags.writeable = False
    criterion = part1.SoftmaxCrossEntropy()
    loss, derivative = criterion(logits, labels), criterion.derivative()
    before = loss.copy(), derivative.copy()
    criterion(logits + 1, labels[::-1])
    criterion.derivative()
    np.testing.assert_array_equal(loss, before[0])
    np.testing.assert_array_equal(derivative, before[1])


def test_losses_are_float32_if_the_logits_are():
    logits, labels = batch()
    criterion = part1.SoftmaxCrossEntropy()
    assert criterion(logits.astype(np.float32), labels.astype(np.float32)).dtype == np.float32
    assert criterion.derivative().dtype == np.float32


@pytest.mark.parametrize(
    ("logits", "labels"),
    [((7, 5), (6, 5)), ((7, 5), (7, 4)), ((7, 5), (7,)), ((5,), (5,))],
)
def test_labels_that_do_not_match_are_refused(logits, labels):
    with pytest.raises(ValueError, match=r"one shape \(N, C\), got \(.*\) and \(.*\)$"):
        part1.SoftmaxCrossEntropy()(np.zeros(logits), np.zeros(labels))


def test_a_criterion_without_a_formula_says_so():
    with pytest.raises(NotImplementedError):
        part1.Criterion()(*batch())
    with pytest.raises(NotImplementedError):
        part1.Criterion().derivative()
