"""Ops where their formulas end: too few elements, infinities, numbers near 0, borders that are tensors."""

import math

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

INF, NAN = math.inf, math.nan


def value_and_gradient(f, values):
    x = tg.tensor(np.array(values, np.float64), requires_grad=True)
    y = f(x)
    return y.numpy(), tg.grad(y, x, tg.tensor(np.ones(y.shape))).numpy()


# ---- variance -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("correction", [0, 1, 2, 3, 4, 7, 2.5])
@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [2.0, 2.0, 2.0], [3.0]])
def test_a_variance_of_too_few_is_nan_or_infinite(values, correction, device):
    x = np.array(values)
    squares = ((x - x.mean()) ** 2).sum()
    expected = squares / np.float64(max(len(x) - correction, 0))  # PyTorch's and NumPy's
    np.testing.assert_allclose(ops.var(tg.tensor(x), correction=correction).numpy(), expected)
    np.testing.assert_allclose(tg.tensor([x, x]).var(-1, True, correction=correction).numpy(), [[expected]] * 2)


# ---- along axes -----------------------------------------------------------------------------------------------------


def test_cumsum_of_all_is_numpys_and_so_is_flip_of_all(device):
    x = np.arange(6.0).reshape(2, 3)
    weights = np.arange(6.0)[::-1]
    y, g = value_and_gradient(lambda x: ops.cumsum(x, None) * tg.tensor(weights), x)
    np.testing.assert_array_equal(y, np.cumsum(x) * weights)
    np.testing.assert_array_equal(g, np.cumsum(weights[::-1])[::-1].reshape(2, 3))
    np.testing.assert_array_equal(tg.tensor(x).cumsum().numpy(), np.cumsum(x))
    np.testing.assert_array_equal(tg.tensor(x).flip().numpy(), np.flip(x))


def test_a_diagonal_does_not_see_infinities_beside_it(device):
    x = [[1.0, INF, NAN], [-INF, 2.0, 0.0], [NAN, INF, 3.0]]
    y, g = value_and_gradient(lambda x: ops.einsum("ii->i", x), x)
    np.testing.assert_array_equal(y, [1, 2, 3])
    np.testing.assert_array_equal(g, np.eye(3))
    assert ops.einsum("ii", tg.tensor(x)).item() == 6
    three = ops.einsum("iii->i", tg.tensor(np.arange(27.0).reshape(3, 3, 3))).numpy()
    np.testing.assert_array_equal(three, [0, 13, 26])


# ---- near 0 and far away --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (2, 2)], ids=str)
def test_the_tail_of_sigmoid_reaches_the_least_number_whatever_the_axes(dtype, shape):
    least = np.finfo(dtype).smallest_subnormal
    for x in (-740.0, -712.0, -100.0, -87.5, -16.0, -9.5, 0.0, 3.0, 800.0):
        y = ops.sigmoid(tg.tensor(np.full(shape, x, dtype))).numpy()
        exact = math.exp(x) / (1 + math.exp(x)) if x < 700 else 1.0
        assert y.shape == shape
        np.testing.assert_allclose(y, np.full(shape, exact), rtol=4 * np.finfo(dtype).eps, atol=least)


def test_sigmoid_of_a_number_is_right_in_the_tail():
    assert ops.sigmoid(-740.0) == pytest.approx(math.exp(-740), rel=1e-10, abs=0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_exponent_of_zero_has_pytorchs_slope():
    for base, exponent, slope in [
        (0.0, 2.0, 0),
        (0.0, 0.0, 0),
        (0.0, -1.0, -INF),
        (1.0, 3.0, 0),
        (2.0, 1.0, 2 * math.log(2)),
    ]:
        b = tg.tensor(np.array([exponent]), requires_grad=True)
        for a in (base, tg.tensor(np.array([base]))):
            g = tg.grad((a**b).sum(), b, create_graph=True)
            assert g.item() == pytest.approx(slope, rel=1e-14)
            assert g.dtype == np.float64


def test_gelu_of_float16_keeps_its_digits():
    x = np.array([-3.0, -2.0, 0.5], np.float16)
    y = ops.gelu(tg.tensor(x))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.numpy(), ops.gelu(x.astype(np.float64)), rtol=1e-3)


@pytest.mark.parametrize("op, slopes", [(ops.maximum, [1, 0, 0.5]), (ops.minimum, [0, 1, 0.5])])
def test_an_infinite_gradient_goes_to_the_extreme_only(op, slopes):
    a, b = (tg.tensor(np.array(v), requires_grad=True) for v in ([2.0, 1.0, 3.0], [1.0, 2.0, 3.0]))
    y = op(a, b)
    found = tg.grad(y, [a, b], tg.tensor([INF, INF, 2.0]))
    expected = [np.array([INF if s == 1 else 2 * s for s in each]) for each in (slopes, [1 - s for s in slopes])]
    for g, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(g.numpy(), e)


# ---- clip by tensors ------------------------------------------------------------------------------------------------


def test_clip_by_tensors_sends_the_gradient_to_what_is_taken(device):
    x = tg.tensor(np.array([[-2.0, 0.0, 2.0], [1.0, 0.5, NAN]]), requires_grad=True)
    low = tg.tensor(np.array([-1.0, 0.0, -1.0]), requires_grad=True)
    high = tg.tensor(np.array([[1.0], [0.75]]), requires_grad=True)
    y = ops.clip(x, low, high)
    np.testing.assert_array_equal(y.numpy(), [[-1, 0, 1], [0.75, 0.5, NAN]])
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[:, :2], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(low.grad.numpy(), [1, 0, 0])
    np.testing.assert_array_equal(high.grad.numpy(), [[1], [1]])


@pytest.mark.parametrize(
    "form", [float, np.float32, np.array, lambda v: tg.tensor(v), lambda v: np.full(3, v), lambda v: [v] * 3]
)
def test_a_border_may_have_any_form(form):
    x = tg.tensor(np.array([-2.0, 0.25, 2.0], np.float32))
    for y in (ops.clip(x, form(-0.5), form(0.5)), x.clip(form(-0.5), 0.5), x.clip(max=form(0.5)).clip(min=form(-0.5))):
        np.testing.assert_array_equal(y.numpy(), [-0.5, 0.25, 0.5])


def test_the_upper_border_wins_and_nan_shows():
    assert ops.clip(tg.tensor([0.0]), tg.tensor([2.0]), tg.tensor([1.0])).item() == 1
    assert math.isnan(ops.clip(tg.tensor([0.0]), tg.tensor([NAN]), tg.tensor([1.0])).item())


# ---- rows of infinities, in every engine ----------------------------------------------------------------------------


class OfRows(nn.Cell):
    """A cell that reads a row, some of which is infinite."""

    def __init__(self, op, infinity, above):
        self.W = nn.Parameter(np.random.default_rng(0).standard_normal((4, 4)).astype("f") / 2)
        self.op, self.infinity, self.above = op, infinity, above

    def forward(self, x, h):
        row = ops.where(x > self.above, self.infinity, h @ self.W + x)
        h = ops.tanh(h @ self.W + x) + self.op(row)
        return h, h

    def initial_state(self, batch):
        return tg.zeros(batch, 4)


READERS = {
    "softmax": ops.softmax,
    "log_softmax": lambda r: ops.exp(ops.log_softmax(r)),
    "logsumexp": lambda r: ops.exp(ops.logsumexp(r, keepdims=True) / 4),
    "logsumexp below": lambda r: 1 / (2 + ops.logsumexp(ops.abs(r), keepdims=True)),
    "variance": lambda r: ops.where(ops.isnan(ops.var(r[:, :1], -1, True)), 0.5, 0.0),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("engine", ["numpy", "llvm"])
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("infinity", [-INF, INF])
def test_rows_of_infinities_are_the_same_in_every_engine(name, infinity, engine):
    above = -10.0 if infinity < 0 else 1.0  # whole rows of -∞, a few of +∞
    x = np.random.default_rng(1).standard_normal((4, 3, 4)).astype("f")
    found = []
    for each in ("eager", engine):
        cell, xs = OfRows(READERS[name], infinity, above), tg.tensor(x, requires_grad=True)
        ys, _ = nn.Recurrent(cell, engine=each)(xs)
        ys.sum().backward()
        found.append((ys.numpy(), xs.grad.numpy(), cell.W.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-4, atol=1e-5)


def test_logsumexp_of_a_masked_row_has_no_gradient_and_hides_no_infinity(device):
    y, g = value_and_gradient(ops.logsumexp, [[-INF, -INF], [-INF, 0.0]])
    np.testing.assert_array_equal((y, g[0], g[1]), ([-INF, 0], [0, 0], [0, 1]))
    assert ops.logsumexp(tg.tensor([0.0, INF])).item() == INF
    with np.errstate(invalid="ignore"):
        assert np.isnan(ops.softmax(tg.tensor([0.0, INF])).numpy()).all()  # as in PyTorch
