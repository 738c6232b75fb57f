import numpy as np
import pytest

from senone import part1

ACTIVATIONS = [part1.Identity, part1.Sigmoid, part1.Tanh, part1.ReLU]


def batch(dtype=np.float64):
    return np.random.default_rng(0).standard_normal((5, 4)).astype(dtype)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_state_is_what_forward_returns_and_derivative_leaves_it_alone(kind):
    activation = kind()
    assert activation.state is None
    out = activation(batch())
    assert activation.state is out
    before = out.copy()
    activation.derivative()
    activation.derivative()
    assert activation.state is out
    np.testing.assert_array_equal(out, before)


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_the_input_is_never_written_to(kind):
    x = batch()
    x.flags.writeable = False
    activation = kind()
    activation.forward(x)
    activation.derivative()
    np.testing.assert_array_equal(x, batch())


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_earlier_output_outlives_the_next_forward(kind):
    activation = kind()
    first = activation(batch())
    before = first.copy()
    activation(batch() + 1)
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_and_derivatives_have_the_type_of_the_input(kind, dtype):
    activation = kind()
    assert activation(batch(dtype)).dtype == dtype
    assert (batch(dtype) * activation.derivative()).dtype == dtype


@pytest.mark.parametrize("kind", [part1.Sigmoid, part1.Tanh])
def test_integers_and_single_numbers_are_taken_as_floats(kind):
    np.testing.assert_array_equal(kind()(np.array([[-2, 0, 3]])), kind()(np.array([[-2.0, 0.0, 3.0]])))
    np.testing.assert_array_equal(kind()(np.int64(3)), kind()(3.0))


@pytest.mark.parametrize("kind", ACTIVATIONS[1:])
def test_derivatives_are_slopes(kind):
    activation, width = kind(), 1e-6
    slopes = (activation(batch() + width) - activation(batch() - width)) / (2 * width)
    activation(batch())
    np.testing.assert_allclose(activation.derivative(), slopes, atol=1e-9)
    assert np.ptp(slopes) > 0.1


def test_values_are_those_of_the_formulas():
    x = batch()
    np.testing.assert_allclose(part1.Sigmoid()(x), 1 / (1 + np.exp(-x)), rtol=1e-15)
    np.testing.assert_allclose(part1.Tanh()(x), np.sinh(x) / np.cosh(x), rtol=1e-14)
    np.testing.assert_array_equal(part1.ReLU()(x), np.where(x > 0, x, 0))
    assert part1.Identity()(x) is x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_does_not_overflow(dtype):
    sigmoid = part1.Sigmoid()
    with np.errstate(all="raise"):
        assert sigmoid(np.array([[-1000, 0, 1000]], dtype)).tolist() == [[0, 0.5, 1]]
        assert sigmoid.derivative().tolist() == [[0, 0.25, 0]]


def test_sigmoid_keeps_its_digits_far_out():
    np.testing.assert_allclose(
        part1.Sigmoid()(np.array([-40.0, -300.0])), np.exp([-40.0, -300.0]), rtol=1e-12
    )


def test_the_derivative_of_identity_is_the_number_1():
    assert part1.Identity().derivative() == 1.0
    assert isinstance(part1.Identity().derivative(), float)


def check_relu_at_zero():
    relu = part1.ReLU()
    assert relu(np.array([[-1.0, -0.0, 0.0, 1.0]])).tolist() == [[0, 0, 0, 1]]
    assert relu.derivative().tolist() == [[0, 1, 1, 1]]


def test_relu_has_slope_1_at_0_as_the_handout_defines():
    check_relu_at_zero()


def test_an_activation_without_a_formula_says_so():
    with pytest.raises(NotImplementedError):
        part1.Activation()(batch())
    with pytest.raises(NotImplementedError):
        part1.Activation().derivative()
