import numpy as np
import pytest

from senone import part1
from senone.part1 import training


def make_mlp(num_bn_layers=0, lr=0.1):
    rng = np.random.default_rng(0)
    return part1.MLP(
        4,
        3,
        [6],
        [part1.Tanh(), part1.Identity()],
        lambda n_in, n_out: rng.standard_normal((n_in, n_out)),
        part1.zeros_bias_init,
        part1.SoftmaxCrossEntropy(),
        lr,
        0.5,
        num_bn_layers,
    )


def make_split(n, seed=0):
    rng = np.random.default_rng([3, seed])
    x = rng.standard_normal((n, 4))
    return x, np.eye(3)[np.argmax(x[:, :3], axis=1)]


def make_dset(train=23, validation=11):
    return make_split(train), make_split(validation, 1), make_split(5, 2)


def naive_training_stats(mlp, dset, nepochs, batch_size):
    """The handout's loop in the plainest way there is, with a list of indices and no second thoughts."""
    (x, y), (val_x, val_y), _ = dset
    indices = list(range(len(x)))
    stats = []
    for _ in range(nepochs):
        np.random.shuffle(indices)  # noqa: NPY002
        losses, errors = [], []
        for start in range(0, len(x), batch_size):
            batch = indices[start : start + batch_size]
            mlp.train()
            mlp.zero_grads()
            logits = mlp.forward(x[batch])
            mlp.backward(y[batch])
            mlp.step()
            losses.extend(part1.SoftmaxCrossEntropy()(logits, y[batch]))
            errors.extend(np.argmax(logits, axis=1) != np.argmax(y[batch], axis=1))
        mlp.eval()
        logits = mlp.forward(val_x)
        val_losses = part1.SoftmaxCrossEntropy()(logits, val_y)
        val_errors = np.argmax(logits, axis=1) != np.argmax(val_y, axis=1)
        stats.append([np.mean(losses), np.mean(errors), np.mean(val_losses), np.mean(val_errors)])
    return np.transpose(stats)


def check_order_of_training():
    """The figures are those of the plain loop with the same seed, and so is the network at the end."""
    for num_bn_layers in (0, 1):
        mlp, naive = make_mlp(num_bn_layers), make_mlp(num_bn_layers)
        np.random.seed(7)  # noqa: NPY002
        stats = part1.get_training_stats(mlp, make_dset(), 5, 5)
        np.random.seed(7)  # noqa: NPY002
        expected = naive_training_stats(naive, make_dset(), 5, 5)
        np.testing.assert_allclose(np.array(stats), expected, rtol=1e-10)
        np.testing.assert_allclose(mlp.W[0], naive.W[0], rtol=1e-10)
    assert expected[0, -1] < 0.9 * expected[0, 0]


def test_training_is_the_handouts_loop_from_the_same_seed():
    check_order_of_training()


def test_statistics_are_four_arrays_with_a_figure_an_epoch():
    stats = part1.get_training_stats(make_mlp(), make_dset(), 3, 10)
    assert isinstance(stats, tuple)
    assert [figures.shape for figures in stats] == [(3,)] * 4
    assert all(type(figures) is np.ndarray and figures.dtype == np.float64 for figures in stats)
    training_errors, validation_errors = stats[1], stats[3]
    np.testing.assert_allclose(training_errors * 23, np.round(training_errors * 23), atol=1e-9)
    np.testing.assert_allclose(validation_errors * 11, np.round(validation_errors * 11), atol=1e-9)


def test_every_example_is_trained_on_once_an_epoch_in_a_new_order():
    batches = []

    class Recorder(part1.MLP):
        def backward(self, labels):
            batches.append(self.inputs[0])
            super().backward(labels)

    mlp = make_mlp()
    mlp.__class__ = Recorder
    dset = make_dset()
    part1.get_training_stats(mlp, dset, 2, 5)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3] * 2
    first, second = np.vstack(batches[:5]), np.vstack(batches[5:])
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, dset[0][0])
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(dset[0][0], axis=0))


def test_training_figures_come_from_the_batches_before_their_step():
    mlp = make_mlp(lr=1.0)
    dset = make_dset()
    before, _ = training.evaluate(mlp, dset[0], 23)
    losses, _, val_losses, _ = part1.get_training_stats(mlp, dset, 1, 23)
    assert losses[0] == pytest.approx(before, rel=1e-12)
    assert val_losses[0] == pytest.approx(training.evaluate(mlp, dset[1], 4)[0], rel=1e-12)


def test_the_data_is_not_written_to():
    dset = make_dset()
    for split in dset:
        for array in split:
            array.flags.writeable = False
    part1.get_training_stats(make_mlp(1), dset, 2, 5)
    for split, again in zip(dset, make_dset(), strict=True):
        np.testing.assert_array_equal(split[0], again[0])
        np.testing.assert_array_equal(split[1], again[1])


def test_validation_is_in_eval_mode_and_leaves_the_mode_as_it_was():
    mlp = make_mlp(num_bn_layers=1)
    part1.get_training_stats(mlp, make_dset(), 1, 5)
    assert mlp.train_mode
    x, y = make_split(11, 1)
    in_batches = training.evaluate(mlp, (x, y), 2)
    mlp.eval()
    assert training.evaluate(mlp, (x, y), 11) == pytest.approx(in_batches, rel=1e-12)
    assert not mlp.train_mode


def test_progress_is_told_of_every_epoch():
    told = []
    stats = part1.get_training_stats(make_mlp(), make_dset(), 3, 5, lambda *figures: told.append(figures))
    assert [epoch for epoch, *_ in told] == [0, 1, 2]
    np.testing.assert_array_equal(np.array([figures for _, *figures in told]).T, np.array(stats))


def test_no_epoch_at_all_gives_empty_statistics():
    assert [figures.shape for figures in part1.get_training_stats(make_mlp(), make_dset(), 0, 5)] == [
        (0,)
    ] * 4


@pytest.mark.parametrize(
    ("train", "validation", "batch_size", "message"),
    [
        (make_split(9), make_split(5), 0, "batch_size: expected 1 or more, got 0"),
        (make_split(9), (np.zeros((5, 4)), np.zeros((4, 3))), 2, "validation set: .* got 4 for 5"),
        ((np.zeros((9, 4)), np.zeros((8, 3))), make_split(5), 2, "training set: .* got 8 for 9"),
        ((np.zeros((0, 4)), np.zeros((0, 3))), make_split(5), 2, "training set: .* got 0 for 0"),
        ((np.zeros((9, 5)), np.zeros((9, 3))), make_split(5), 2, r"shape \(N, 4\), got \(2, 5\)"),
        ((np.zeros((9, 4)), np.zeros(9)), make_split(5), 2, r"one shape \(N, C\), got \(2, 3\) and \(2,\)"),
    ],
)
def test_data_that_does_not_fit_is_refused(train, validation, batch_size, message):
    with pytest.raises(ValueError, match=message):
        part1.get_training_stats(make_mlp(), (train, validation, validation), 1, batch_size)
