"""Every op: its value against NumPy, its derivatives against differences, its dtype, and the same on the device."""

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest

from hypothesis import given, settings
from hypothesis import strategies as st
from tables import DIFFERENTIABLE, NO_DERIVATIVE, TABLE, R, ids, listed, numbers, tensors

import tinygrad_rnn as tg

from tinygrad_rnn import ops

bounded = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def close(found, expected, rtol=1e-12, atol=1e-13):
    """Equal in number, shape and value."""
    assert len(found) == len(expected)
    for t, want in zip(found, expected, strict=True):
        assert t.shape == np.shape(want)
        np.testing.assert_allclose(t.numpy(), want, rtol=rtol, atol=atol)


# ---- the table -----------------------------------------------------------------------------------------------------


def test_the_table_has_every_op():
    assert {row.op for row in TABLE} == set(ops.__all__)


@pytest.mark.parametrize("row", TABLE, ids=ids(TABLE))
def test_its_value_is_numpys(row):
    close(listed(row.call(*tensors(row))), listed(row.expected(*row.inputs)))


@pytest.mark.parametrize("row", TABLE, ids=ids(TABLE))
def test_on_plain_arrays_it_computes_the_same(row):
    if row.op in ("dropout", "transfer"):
        pytest.skip("the call asks the tensor for its device")
    found = [np.asarray(y) for y in listed(row.call(*row.inputs))]
    for y, want in zip(found, listed(row.expected(*row.inputs)), strict=True):
        np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=ids(DIFFERENTIABLE))
def test_its_first_and_second_derivatives_are_those_of_differences(row):
    assert tg.gradcheck(row.call, *tensors(row))


@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=ids(DIFFERENTIABLE))
def test_a_recorded_backward_gives_the_plain_ones_numbers(row):
    _, first, again, _ = numbers(row)
    close(first, [g.numpy() for g in again])


@pytest.mark.parametrize("dtype, tol", [(np.float32, 1e-4), (np.float16, 4e-2)], ids=["float32", "float16"])
@pytest.mark.parametrize("row", DIFFERENTIABLE, ids=ids(DIFFERENTIABLE))
def test_its_value_and_gradient_keep_the_dtype(row, dtype, tol, device):
    ys, first, again, second = numbers(row, dtype)
    assert {t.dtype for t in (*ys, *first, *again, *second)} == {np.dtype(dtype)}
    with tg.device("cpu"):
        exact, gradients, _, _ = numbers(row)
    close(ys, [y.numpy() for y in exact], tol, tol)
    close(first, [g.numpy() for g in gradients], tol, tol)


@pytest.mark.parametrize("row", TABLE, ids=ids(TABLE))
def test_the_gpu_gives_the_cpus_numbers(row, gpu):
    if row.op in NO_DERIVATIVE:
        ys = listed(row.call(*tensors(row)))
        assert {y.device for y in ys} == {"gpu:0"}
        close(ys, listed(row.expected(*row.inputs)))
        return
    found = numbers(row)
    assert {t.device for part in found for t in part} == {"gpu:0"}
    with tg.device("cpu"):
        expected = numbers(row)
    for mine, theirs in zip(found, expected, strict=True):
        close(mine, [t.numpy() for t in theirs], 1e-11, 1e-12)


@pytest.mark.parametrize("name", sorted(NO_DERIVATIVE))
def test_what_has_no_derivative_is_never_recorded(name):
    row = next(row for row in TABLE if row.op == name)
    xs = [
        tg.tensor(x.astype(float), requires_grad=True) if name.startswith(("gr", "le", "eq", "not")) else tg.tensor(x)
        for x in row.inputs
    ]
    assert not any(y.requires_grad for y in listed(row.call(*xs)))


@pytest.mark.parametrize("op", [ops.mod, ops.fmod], ids=["mod", "fmod"])
def test_remainders_of_whole_numbers_and_of_infinities_are_numpys(op, device):
    theirs = {ops.mod: np.mod, ops.fmod: np.fmod}[op]
    a, b = np.arange(-9, 10)[:, None], np.array([2, -3, 5, -7])
    np.testing.assert_array_equal(op(tg.tensor(a), tg.tensor(b)).numpy(), theirs(a, b))
    a, b = np.array([1e-20, -1e-20, 5.5, -5.5, -0.0, 1e300])[:, None], np.array([1.0, -1.0, 2.5])
    np.testing.assert_array_equal(op(tg.tensor(a), tg.tensor(b)).numpy(), theirs(a, b))


def test_an_order_is_a_stable_one(device):
    x = tg.tensor([[2.0, 1.0, 2.0, 1.0, 3.0]])
    assert ops.argsort(x).tolist() == [[1, 3, 0, 2, 4]]
    assert ops.argsort(x, descending=True).tolist() == [[4, 0, 2, 1, 3]]
    values, at = ops.topk(x, 3)
    assert (values.tolist(), at.tolist()) == ([[3, 2, 2]], [[4, 0, 2]])
    with pytest.raises(ValueError, match=r"^topk: k must be from 0 to 5, the size of axis 1, got 6"):
        ops.topk(x, 6)


def test_where_a_norm_is_zero_so_is_its_derivative(device):
    for norm in (ops.norm, ops.std, lambda x: ops.norm(x, 3), lambda x: ops.norm(x, 1)):
        x = tg.tensor(np.zeros(4), requires_grad=True)
        (first,) = tg.grad(norm(x), [x], create_graph=True)
        assert not first.numpy().any()


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8"])
def test_whole_numbers_stay_so_when_they_are_rounded(dtype, device):
    x = tg.tensor(np.array([0, 3, 100], dtype))
    for op in (ops.floor, ops.round):
        assert op(x).dtype == dtype and op(x).tolist() == [0, 3, 100]


def test_a_number_without_axes_widens_nothing(device):
    number, x = tg.tensor(np.array(0.5)), tg.tensor(np.zeros(3, np.float32))
    for op in (ops.logaddexp, ops.fmod, ops.mod):
        assert op(number, x + 1).dtype == op(x + 1, number).dtype == np.float32


def test_functions_with_tails_are_exact_there(device):
    x = np.array([-1000.0, -50, -1e-9, 0, 1e-9, 50, 1000])
    np.testing.assert_allclose(ops.log_sigmoid(tg.tensor(x)).numpy(), -np.logaddexp(0, -x), rtol=1e-14)
    below = np.expm1(np.minimum(x, 0))
    np.testing.assert_allclose(ops.elu(tg.tensor(x)).numpy(), np.where(x > 0, x, below), rtol=1e-14)
    a, b = np.array([-np.inf, np.inf, -np.inf, 800, 1.0]), np.array([-np.inf, np.inf, 3, -800, 1.0])
    np.testing.assert_allclose(ops.logaddexp(tg.tensor(a), tg.tensor(b)).numpy(), np.logaddexp(a, b), rtol=1e-14)


# ---- operators and methods are the ops -----------------------------------------------------------------------------

BY_METHOD = {
    "sum": lambda x: x.sum(1, True),
    "mean": lambda x: x.mean((0, 1)),
    "var": lambda x: x.var(0, correction=0),
    "max": lambda x: x.max(1),
    "min": lambda x: x.min(),
    "argmax": lambda x: x.argmax(1),
    "cumsum": lambda x: x.cumsum(1),
    "std": lambda x: x.std(0, correction=0),
    "norm": lambda x: x.norm(1, 1),
    "prod": lambda x: x.prod(1, True),
    "cumprod": lambda x: x.cumprod(1),
    "argsort": lambda x: x.argsort(),
    "sort": lambda x: x.sort(0),
    "topk": lambda x: x.topk(2),
    "sin": lambda x: x.sin(),
    "cos": lambda x: x.cos(),
    "expm1": lambda x: x.expm1(),
    "log1p": lambda x: (x * x).log1p(),
    "floor": lambda x: (3 * x).floor(),
    "round": lambda x: (3 * x).round(),
    "mod": lambda x: x % 0.7 + 2 % x,
    "fmod": lambda x: x.fmod(0.3),
    "logaddexp": lambda x: x.logaddexp(x * 2),
    "outer": lambda x: x[0].outer(x[1]),
    "roll": lambda x: x.roll(1, 1),
    "tile": lambda x: x.tile(2, 3),
    "softmax": lambda x: x.softmax(0),
    "log_softmax": lambda x: x.log_softmax(),
    "logsumexp": lambda x: x.logsumexp(),
    "exp": lambda x: x.exp(),
    "log": lambda x: (x * x).log(),
    "sqrt": lambda x: (x * x).sqrt(),
    "abs": abs,
    "abs_": lambda x: x.abs(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: x.sigmoid(),
    "relu": lambda x: x.relu(),
    "clip": lambda x: x.clip(-1, 1),
    "reshape": lambda x: x.reshape(2, -1),
    "reshape_": lambda x: x.reshape((4, 3)),
    "transpose": lambda x: x.transpose(0, 1),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "permute": lambda x: x.permute(1, 0),
    "permute_": lambda x: x.permute((1, 0)),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "T": lambda x: x.T,
    "squeeze": lambda x: x[:1].squeeze(0),
    "broadcast_to": lambda x: x.broadcast_to((2, 3, 4)),
    "expand": lambda x: x.expand(2, 3, 4),
    "flip": lambda x: x.flip(0),
    "unbind": lambda x: x.unbind(1),
    "split": lambda x: x.split([1, 2]),
    "chunk": lambda x: x.chunk(2, 1),
    "masked_fill": lambda x: x.masked_fill(x > 0, 9),
    "neg": lambda x: -x,
    "pos": lambda x: +x,
    "add": lambda x: 2 + x + 1,
    "sub": lambda x: 2 - (x - 1),
    "mul": lambda x: 2 * x * 3,
    "div": lambda x: 1 / (x / 2),
    "pow": lambda x: 2 ** (x**2),
    "matmul": lambda x: x @ x.T,
    "items": lambda x: x[1:, ::2],
    "comparisons": lambda x: ((x > 0) & (x <= 1)) | ~(x >= -1) | (x < -2) | (x == 0) | (x != x),
}
BY_NUMPY = {
    "sum": lambda x: x.sum(1, keepdims=True),
    "mean": lambda x: x.mean(),
    "var": lambda x: x.var(0),
    "std": lambda x: x.std(0),
    "norm": lambda x: np.abs(x).sum(1),
    "prod": lambda x: x.prod(1, keepdims=True),
    "cumprod": lambda x: x.cumprod(1),
    "argsort": lambda x: np.argsort(x, -1),
    "sort": lambda x: [np.sort(x, 0), np.argsort(x, 0)],
    "topk": lambda x: [-np.sort(-x, 1)[:, :2], np.argsort(-x, 1)[:, :2]],
    "sin": np.sin,
    "cos": np.cos,
    "expm1": np.expm1,
    "log1p": lambda x: np.log1p(x * x),
    "floor": lambda x: np.floor(3 * x),
    "round": lambda x: np.rint(3 * x),
    "mod": lambda x: x % 0.7 + 2 % x,
    "fmod": lambda x: np.fmod(x, 0.3),
    "logaddexp": lambda x: np.logaddexp(x, x * 2),
    "outer": lambda x: np.outer(x[0], x[1]),
    "roll": lambda x: np.roll(x, 1, 1),
    "tile": lambda x: np.tile(x, (2, 3)),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(0),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
    "logsumexp": lambda x: np.log(np.exp(x).sum(-1)),
    "exp": np.exp,
    "log": lambda x: np.log(x * x),
    "sqrt": np.abs,
    "abs_": np.abs,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "reshape_": lambda x: x.reshape(4, 3),
    "transpose": np.transpose,
    "permute": np.transpose,
    "permute_": np.transpose,
    "unsqueeze": lambda x: x[:, None],
    "squeeze": lambda x: x[0],
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "expand": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "flip": lambda x: x[::-1],
    "unbind": lambda x: list(x.T),
    "split": lambda x: [x[:1], x[1:]],
    "chunk": lambda x: [x[:, :2], x[:, 2:]],
    "masked_fill": lambda x: np.where(x > 0, 9, x),
}


@pytest.mark.parametrize("name", BY_METHOD)
def test_a_method_or_operator_does_what_numpys_does(name):
    x = R(3, 4)
    close(listed(BY_METHOD[name](tg.tensor(x))), listed(BY_NUMPY.get(name, BY_METHOD[name])(x)))


# ---- special values ------------------------------------------------------------------------------------------------

HALF_AND_SINGLE = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])


def value_and_gradient(f, values, dtype=np.float64):
    x = tg.tensor(np.array(values, dtype), requires_grad=True)
    y = f(x)
    return y.numpy(), tg.grad(y, x, tg.tensor(np.ones(y.shape, y.dtype))).numpy()


@HALF_AND_SINGLE
def test_sigmoid_is_right_in_its_tails(dtype, device):
    tiny = np.finfo(dtype).tiny
    y, g = value_and_gradient(ops.sigmoid, [-1000, -8, 0, 8, 1000], dtype)
    small = 1 / (1 + np.exp(np.float64(8)))
    np.testing.assert_allclose(y, [0, small, 0.5, 1 - small, 1], rtol=4 * np.finfo(dtype).eps, atol=tiny)
    np.testing.assert_allclose(g[[0, 2, 4]], [0, 0.25, 0], atol=tiny)
    np.testing.assert_allclose(g[1], small * (1 - small), rtol=8 * np.finfo(dtype).eps)


@HALF_AND_SINGLE
def test_softplus_is_right_in_its_tails(dtype, device):
    tiny = np.finfo(dtype).tiny
    y, g = value_and_gradient(ops.softplus, [-1000, -8, 0, 8, 1000], dtype)
    small = np.log1p(np.exp(np.float64(-8)))
    np.testing.assert_allclose(y, [0, small, math.log(2), 8 + small, 1000], rtol=8 * np.finfo(dtype).eps, atol=tiny)
    falling = 1 / (1 + np.exp(np.float64(8)))
    np.testing.assert_allclose(g, [0, falling, 0.5, 1 - falling, 1], rtol=8 * np.finfo(dtype).eps, atol=tiny)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int64])
def test_sigmoid_of_integers_is_that_of_the_numbers(dtype):
    np.testing.assert_allclose(ops.sigmoid(tg.tensor(np.array([0, 1], dtype))).numpy(), [0.5, 1 / (1 + math.exp(-1))])


@HALF_AND_SINGLE
def test_softmax_and_its_logarithm_stand_large_values(dtype, device):
    x = [[1000, 0, -1000], [-1000, -1000, -1000]]
    y, _ = value_and_gradient(ops.softmax, x, dtype)
    np.testing.assert_allclose(y, [[1, 0, 0], [1 / 3] * 3], rtol=1e-3)
    y, g = value_and_gradient(ops.log_softmax, x, dtype)
    np.testing.assert_allclose(y, [[0, -1000, -2000], [-math.log(3)] * 3], rtol=1e-3)
    np.testing.assert_allclose(g, [[-2, 1, 1], [0, 0, 0]], atol=2e-3)
    y, g = value_and_gradient(ops.logsumexp, x, dtype)
    np.testing.assert_allclose(y, [1000, math.log(3) - 1000], rtol=1e-3)
    np.testing.assert_allclose(g, [[1, 0, 0], [1 / 3] * 3], rtol=2e-3)


MASKED = [[-math.inf] * 3, [-math.inf, 0.0, 0.0]]


def test_softmax_of_a_masked_row_is_zero_and_so_is_its_gradient(device):
    y, g = value_and_gradient(lambda x: ops.softmax(x) * tg.tensor(np.arange(3.0)), MASKED)
    np.testing.assert_allclose(y, [[0, 0, 0], [0, 0.5, 1]])
    np.testing.assert_allclose(g, [[0, 0, 0], [0, -0.25, 0.25]])


def test_logsumexp_of_a_masked_row_is_minus_infinity_and_its_gradient_zero(device):
    y, g = value_and_gradient(ops.logsumexp, MASKED)
    np.testing.assert_allclose(y, [-math.inf, math.log(2)])
    np.testing.assert_allclose(g, [[0, 0, 0], [0, 0.5, 0.5]])


def test_log_softmax_of_a_masked_row_is_minus_infinity(device):
    y, _ = value_and_gradient(ops.log_softmax, MASKED)
    np.testing.assert_allclose(y, [[-math.inf] * 3, [-math.inf, -math.log(2), -math.log(2)]])


def test_log_softmax_of_a_masked_element_has_no_gradient_there(device):
    y, g = value_and_gradient(lambda x: ops.log_softmax(x)[:, 1:], MASKED[1:])
    np.testing.assert_allclose(y, [[-math.log(2)] * 2])
    np.testing.assert_allclose(g, [[0, 0, 0]])


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("op", [ops.logsumexp, ops.softmax, ops.log_softmax, ops.max, ops.relu, ops.sigmoid, ops.tanh])
def test_nan_is_not_hidden(op):
    assert np.isnan(op(tg.tensor([math.nan, 1.0])).numpy()).any()


@pytest.mark.parametrize("op", [ops.max, ops.min])
def test_equal_extremes_share_the_gradient(op, device):
    _, g = value_and_gradient(lambda x: op(x, 1), [[2, 2, 2, 2], [0, 0, 0, 0]])
    np.testing.assert_array_equal(g, np.full((2, 4), 0.25))
    _, g = value_and_gradient(op, [[1, 1], [1, 1]])
    np.testing.assert_array_equal(g, np.full((2, 2), 0.25))


@pytest.mark.parametrize("op", [ops.maximum, ops.minimum])
def test_equal_operands_share_the_gradient(op, device):
    a, b = (tg.tensor(np.array([1.0, 2.0]), requires_grad=True) for _ in range(2))
    op(a, b).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [0.5, 0.5])
    np.testing.assert_array_equal(b.grad.numpy(), [0.5, 0.5])


def test_abs_and_relu_have_gradient_zero_at_their_kink(device):
    for op in (ops.abs, ops.relu):
        np.testing.assert_array_equal(value_and_gradient(op, [0.0])[1], [0.0])


@pytest.mark.parametrize("b, y, da", [(0, 1, 0), (1, 0, 1), (2, 0, 0), (3, 0, 0)])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_powers_of_zero_are_right(b, y, da, as_tensor, device):
    exponent = tg.tensor(np.array([float(b)])) if as_tensor else b
    value, g = value_and_gradient(lambda a: a**exponent, [0.0])
    np.testing.assert_array_equal((value, g), ([y], [da]))


def test_the_exponents_of_zero_and_one_have_gradient_zero(device):
    for base in (0.0, 1.0):
        _, g = value_and_gradient(lambda b, base=base: tg.tensor(np.array([base])) ** b, [2.0])
        np.testing.assert_array_equal(g, [0.0])


def test_negative_exponents_are_right_for_negative_bases(device):
    y, g = value_and_gradient(lambda a: a**-3, [-2.0])
    np.testing.assert_allclose((y, g), ([-1 / 8], [-3 / 16]))


def test_clip_passes_the_gradient_at_its_borders(device):
    y, g = value_and_gradient(lambda x: ops.clip(x, -1, 1), [-1.5, -1, 0, 1, 1.5])
    np.testing.assert_array_equal((y, g), ([-1, -1, 0, 1, 1], [0, 1, 1, 1, 0]))


def test_clip_keeps_nan_and_infinity_apart():
    np.testing.assert_array_equal(ops.clip(tg.tensor([math.nan, math.inf]), 0, 1).numpy(), [math.nan, 1])


def test_where_lets_no_nan_through_from_the_side_not_taken(device):
    x = tg.tensor(np.array([0.0, 4.0]), requires_grad=True)
    safe = ops.where(x > 0, x, 1.0)
    ops.where(x > 0, ops.sqrt(safe), 0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0.25])
    x = tg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    (ops.where(tg.tensor([True, False]), x, tg.tensor(np.array([math.nan, 5.0])))).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 0])


def test_outside_their_domain_log_and_sqrt_say_what_numpy_says():
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        assert ops.log(tg.tensor([0.0])).item() == -math.inf
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert math.isnan(ops.sqrt(tg.tensor([-1.0])).item())


# ---- nothing at all ------------------------------------------------------------------------------------------------

EMPTY = {
    "elementwise": (lambda x: ops.tanh(x) * x + ops.sigmoid(x), (0, 3), (0, 3)),
    "sum": (lambda x: ops.sum(x, 0), (0, 3), (3,)),
    "sum of all": (ops.sum, (0, 3), ()),
    "softmax of no rows": (ops.softmax, (0, 3), (0, 3)),
    "softmax of no columns": (ops.softmax, (3, 0), (3, 0)),
    "log_softmax of no columns": (ops.log_softmax, (3, 0), (3, 0)),
    "rows @ matrix": (lambda x: x @ tg.tensor(np.ones((3, 2))), (0, 3), (0, 2)),
    "no batches @ matrix": (lambda x: x @ tg.tensor(np.ones((3, 2))), (0, 5, 3), (0, 5, 2)),
    "no columns @ no rows": (lambda x: x @ tg.tensor(np.ones((0, 2))), (4, 0), (4, 2)),
    "batches of no columns @ no rows": (lambda x: x @ tg.tensor(np.ones((0, 2))), (2, 4, 0), (2, 4, 2)),
    "matrix @ no columns": (lambda x: tg.tensor(np.ones((2, 5, 4))) @ x, (4, 0), (2, 5, 0)),
    "einsum": (lambda x: ops.einsum("ij,ij->j", x, x), (0, 3), (3,)),
    "no images": (lambda x: ops.conv1d(x, tg.tensor(np.ones((4, 2, 3)))), (0, 2, 5), (0, 4, 3)),
    "no channels": (lambda x: ops.conv1d(x, tg.tensor(np.ones((4, 0, 3)))), (2, 0, 5), (2, 4, 3)),
    "no kernels": (lambda x: ops.conv1d(x, tg.tensor(np.ones((0, 2, 3)))), (1, 2, 5), (1, 0, 3)),
    "concat": (lambda x: ops.concat([x, tg.tensor(np.ones((2, 3)))]), (0, 3), (2, 3)),
    "embedding of no ids": (lambda x: ops.embedding([], x), (4, 3), (0, 3)),
    "take of no ids": (lambda x: ops.take(x, np.zeros((0, 2), int)), (4, 3), (0, 2, 3)),
    "an empty list": (lambda x: x[[]], (4, 3), (0, 3)),
    "cumsum": (lambda x: ops.cumsum(x, 0), (0, 3), (0, 3)),
    "reshape": (lambda x: x.reshape(3, 0), (0, 3), (3, 0)),
    "pad": (lambda x: ops.pad(x, [(1, 0), (0, 0)]), (0, 3), (1, 3)),
}


@pytest.mark.parametrize("f, shape, result", EMPTY.values(), ids=EMPTY)
def test_empty_arrays_go_through(f, shape, result):
    x = tg.tensor(np.ones(shape), requires_grad=True)
    y = f(x)
    assert y.shape == result
    g = tg.grad(y.sum(), x)
    assert g.shape == shape
    assert not g.numpy().any() or y.size  # what has no elements passes no gradient


def test_unbind_of_nothing_is_nothing():
    assert ops.unbind(tg.tensor(np.ones((0, 3)))) == ()


# ---- integers, ids and errors --------------------------------------------------------------------------------------


def test_integers_compute_as_in_numpy_and_the_floats_that_come_of_them_are_float32(device):
    a, b = np.array([7, -3]), np.array([2, 5])
    x, y = tg.tensor(a), tg.tensor(b)
    for found, expected in [
        (x + y, a + b),
        (x * 2, a * 2),
        (x / y, a / b),
        (x**2, a**2),
        (x.sum(), a.sum()),
        (x.max(), 7),
        (x.cumsum(0), a.cumsum()),
        (x.mean(), a.mean()),
        (ops.abs(x), abs(a)),
    ]:
        dtype = np.asarray(expected).dtype
        dtype = np.dtype(np.float32) if dtype.kind == "f" else dtype
        np.testing.assert_array_equal(found.numpy(), np.asarray(expected, dtype))
        assert found.dtype == dtype


IDS = {
    "take": lambda i: ops.take(tg.tensor(np.ones((3, 2))), i),
    "embedding": lambda i: ops.embedding(i, tg.tensor(np.ones((3, 2)))),
    "one_hot": lambda i: ops.one_hot(i, 3),
    "take_along_axis": lambda i: ops.take_along_axis(tg.tensor(np.ones(3)), i, 0),
    "scatter_add": lambda i: ops.scatter_add(tg.tensor(np.ones(3)), i, tg.tensor(np.ones(2))),
}


@pytest.mark.parametrize("bad", [[0, 3], [-1, 0]], ids=["too large", "negative"])
@pytest.mark.parametrize("name", IDS)
def test_ids_out_of_range_raise_an_error_that_names_the_op(name, bad, device):
    with pytest.raises(IndexError, match=f"^{name}: the index must be from 0 to 2, got {min(bad)} to {max(bad)}$"):
        IDS[name](tg.tensor(np.array(bad))).numpy()  # of a GPU it is known when values are read


@pytest.mark.parametrize("name", IDS)
def test_ids_that_are_no_integers_raise_an_error_that_names_the_op(name):
    with pytest.raises(TypeError, match=f"^{name}: the index must be integers, got dtype float32"):
        IDS[name](tg.tensor([0.0, 1.0]))


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("form", [list, np.asarray], ids=["list", "numpy array"])
def test_ids_may_be_a_list_or_an_array_on_every_device(name, form, device):
    found = IDS[name](form([2, 0]))
    assert found.device == tg.default_device()
    np.testing.assert_array_equal(found.numpy(), IDS[name](tg.tensor(np.array([2, 0]))).numpy())


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint32, np.uint64])
def test_ids_of_any_integer_type_select_and_receive_rows(dtype):
    W = tg.tensor(np.zeros((300, 2)), requires_grad=True)
    ops.embedding(np.array([1, 100, 1], dtype), W).sum().backward()
    expected = np.zeros((300, 2))
    expected[1], expected[100] = 2, 1
    np.testing.assert_array_equal(W.grad.numpy(), expected)


@pytest.mark.parametrize("dtype, tol", [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_rows_that_are_named_often_get_all_their_gradients(dtype, tol, device):
    rng = np.random.default_rng(3)
    i, g = rng.integers(0, 50, (40, 60)), rng.standard_normal((40, 60, 7)).astype(dtype)
    expected = np.zeros((50, 7))
    np.add.at(expected, i, g.astype(np.float64))
    W = tg.tensor(np.zeros((50, 7), dtype), requires_grad=True)
    for gather in (lambda: ops.embedding(tg.tensor(i), W), lambda: W[tg.tensor(i)], lambda: ops.take(W, tg.tensor(i))):
        found = tg.grad(gather(), W, tg.tensor(g))
        assert found.dtype == dtype
        np.testing.assert_allclose(found.numpy(), expected, rtol=tol, atol=50 * tol)
    flat = tg.tensor(np.broadcast_to(i.reshape(-1, 1), (2400, 7)))
    added = ops.scatter_add(W, flat, tg.tensor(g.reshape(-1, 7)))
    np.testing.assert_allclose(added.numpy(), expected, rtol=tol, atol=50 * tol)


def test_negative_indices_add_to_the_rows_that_they_name():
    x = tg.tensor(np.zeros((4, 2)), requires_grad=True)
    (x[np.array([-1, 3, 0])] * tg.tensor(np.array([[1.0], [2.0], [4.0]]))).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[:, 0], [4, 0, 0, 3])


@pytest.mark.parametrize(
    "join",
    [
        lambda xs: ops.concat(xs),
        lambda xs: ops.stack(xs),
        lambda xs: ops.einsum("i,i->i", *xs),
        lambda xs: xs[0] * xs[1],
        lambda xs: xs[0] @ xs[1],
    ],
    ids=["concat", "stack", "einsum", "mul", "matmul"],
)
def test_of_mixed_dtypes_each_gradient_has_its_operands(join):
    xs = [tg.tensor(np.ones(3, dtype), requires_grad=True) for dtype in (np.float32, np.float64)]
    y = join(xs)
    assert y.dtype == np.float64
    y.sum().backward()
    assert [x.grad.dtype for x in xs] == [np.float32, np.float64]


def test_python_numbers_do_not_promote(device):
    x = tg.tensor(np.ones(3, np.float16), requires_grad=True)
    y = ops.where(x > 0, ops.maximum(2 * x**2 / 3 - 1 + 2**x, 0.5), 0.0)
    assert y.dtype == np.float16
    assert tg.grad(y.sum(), x).dtype == np.float16


ONE_LINE_ERRORS = [
    (lambda x: x + tg.tensor(np.ones(4)), ValueError, r"^add: .*\(3, 2\) and \(4,\)"),
    (lambda x: x @ x, ValueError, r"^matmul: .*\(3, 2\) and \(3, 2\)"),
    (lambda x: x @ tg.tensor(1.0), ValueError, r"^matmul: both operands must have axes"),
    (lambda x: x.reshape(4), ValueError, r"^reshape: .*\(3, 2\)"),
    (lambda x: x[3], IndexError, r"^getitem: .*\(3, 2\)"),
    (lambda x: x.sum(2), ValueError, r"^sum: axis must be one of the 2 axes of shape \(3, 2\), got 2"),
    (lambda x: x.softmax(-3), ValueError, r"^softmax: axis must be one of the 2 axes"),
    (lambda x: ops.concat([x, x[:, :1]]), ValueError, r"^concat: "),
    (lambda x: ops.concat([]), ValueError, "^concat: there must be at least one tensor, got none"),
    (lambda x: ops.stack([]), ValueError, "^stack: there must be at least one tensor, got none"),
    (lambda x: x.split([1, 1]), ValueError, r"^split: sizes must add up to the 3 of axis 0, got \[1, 1\]"),
    (lambda x: x.split(0), ValueError, "^split: the size of a piece must be positive"),
    (lambda x: x.squeeze(0), ValueError, r"^squeeze: axis 0 must have size 1, got shape \(3, 2\)"),
    (lambda x: ops.pad(x, [(1, 1)]), ValueError, "^pad: widths must hold"),
    (lambda x: x.clip(), ValueError, "^clip: one of min and max must be given"),
    (lambda x: ops.gelu(x, "sin"), ValueError, "^gelu: approximate must be"),
    (lambda x: ops.einsum("ij,jk", x), ValueError, "^einsum: .*term for each operand"),
    (lambda x: ops.einsum("ijk->i", x), ValueError, "^einsum: .*every axis"),
    (
        lambda x: ops.conv2d(x, x),
        ValueError,
        r"^conv2d: input must be \(N, C, H, W\) and weight .* the same C, got \(3, 2\)",
    ),
    (lambda x: ops.conv1d(x[None], x[None, :2]), ValueError, r"^conv1d: input must be \(N, C, L\) and weight"),
    (lambda x: ops.conv1d(x[None], x[None], x), ValueError, r"^conv1d: bias must be \(K,\) for the K = 1 of weight"),
    (lambda x: ops.conv1d(x[None], x[None], stride=0), ValueError, "^conv1d: stride must be at least 1, got 0"),
    (lambda x: ops.conv1d(x[None], x[None], dilation=2), ValueError, r"^conv1d: weight, with .* fit into the padded"),
    (lambda x: ops.conv1d(x[None], x[None], padding="all"), ValueError, "^conv1d: padding must be a number, .same. or"),
    (
        lambda x: ops.conv1d(x[None], x[None], 0, 1, 2.5),
        TypeError,
        "^conv1d: it must get a tensor or an array, got int",
    ),
    (lambda x: ops.conv1d(x[None], x[None], padding=2.5), TypeError, "^conv1d: padding must be an integer or a tuple"),
    (
        lambda x: ops.conv1d(x[None], x[None], padding="same", stride=2),
        ValueError,
        "^conv1d: padding .same. must come with a stride of 1",
    ),
    (lambda x: ops.conv1d(x[None], x[None], groups=2), TypeError, "^conv1d: there is no argument 'groups'"),
    (
        lambda x: ops.scatter_add(x, np.zeros((1, 2), int), x),
        ValueError,
        "^scatter_add: index and values must have one",
    ),
]


@pytest.mark.parametrize("call, kind, message", ONE_LINE_ERRORS, ids=[m for _, _, m in ONE_LINE_ERRORS])
def test_an_error_is_one_line_that_begins_with_the_op(call, kind, message):
    with pytest.raises(kind, match=message) as caught:
        call(tg.tensor(np.ones((3, 2))))
    assert "\n" not in str(caught.value)
    assert not str(caught.value).startswith("_")


# ---- many shapes ---------------------------------------------------------------------------------------------------

BINARY = {  # by each: d y / d a, d y / d b
    "add": (lambda a, b, y: np.ones_like(y), lambda a, b, y: np.ones_like(y)),
    "sub": (lambda a, b, y: np.ones_like(y), lambda a, b, y: -np.ones_like(y)),
    "mul": (lambda a, b, y: b, lambda a, b, y: a),
    "div": (lambda a, b, y: 1 / b, lambda a, b, y: -a / b**2),
    "pow": (lambda a, b, y: b * a ** (b - 1), lambda a, b, y: y * np.log(a)),
    "maximum": (lambda a, b, y: (a > b) * 1.0, lambda a, b, y: (b > a) * 1.0),
    "minimum": (lambda a, b, y: (a < b) * 1.0, lambda a, b, y: (b < a) * 1.0),
}


def gathered(g, operand, shape):
    """What each element of the operand gets of g, each contribution added to the place that it was broadcast from."""
    places = np.broadcast_to(np.arange(operand.size).reshape(operand.shape), shape).ravel()
    return np.bincount(places, np.broadcast_to(g, shape).ravel(), minlength=operand.size).reshape(operand.shape)


@pytest.mark.parametrize("name", BINARY)
@bounded
@given(shapes=arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=3))
def test_gradients_of_broadcast_operands_are_summed(name, shapes):
    rng = np.random.default_rng(5)
    a, b = (rng.uniform(0.5, 2, shape) for shape in shapes.input_shapes)
    x, y = (tg.tensor(v, requires_grad=True) for v in (a, b))
    z = getattr(ops, name)(x, y)
    u = rng.standard_normal(shapes.result_shape)
    found = tg.grad(z, [x, y], tg.tensor(u))
    assert z.shape == shapes.result_shape
    for g, operand, slope in zip(found, (a, b), BINARY[name], strict=True):
        np.testing.assert_allclose(
            g.numpy(), gathered(u * slope(a, b, z.numpy()), operand, u.shape), rtol=1e-10, atol=1e-12
        )


@st.composite
def indexed(draw):
    """An array's shape and a key for it: slices, numbers, ..., None and up to two integer arrays."""
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=3, max_side=4))
    basic = arrays.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    several = arrays.integer_array_indices(shape, result_shape=arrays.array_shapes(max_dims=2, max_side=3))
    mask = arrays.arrays(bool, shape)
    return shape, draw(st.one_of(basic, several, mask))


@bounded
@given(indexed())
def test_items_and_their_gradients_are_those_of_numpy(case):
    shape, key = case
    rng = np.random.default_rng(6)
    x = rng.standard_normal(shape)
    t = tg.tensor(x, requires_grad=True)
    y = t[key]
    u = rng.standard_normal(y.shape)
    expected = np.zeros(shape)
    np.add.at(expected, key, u)
    np.testing.assert_array_equal(y.numpy(), x[key])
    np.testing.assert_allclose(tg.grad(y, t, tg.tensor(u), retain_graph=True).numpy(), expected, rtol=1e-12)
    g = tg.grad(y * y, t, tg.tensor(u), create_graph=True)
    twice = np.zeros(shape)
    np.add.at(twice, key, 2 * u)
    np.testing.assert_allclose(tg.grad(g.sum(), t).numpy(), twice, rtol=1e-12)


@st.composite
def einsum_case(draw):
    """A spec of up to three terms with repeated letters and `...`, and the shapes of its operands."""
    sizes = dict(zip("abcd", draw(st.lists(st.integers(1, 3), min_size=4, max_size=4)), strict=True))
    terms = draw(st.lists(st.text("abcd", max_size=3), min_size=1, max_size=3))
    dots = [draw(st.booleans()) for _ in terms]
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    shapes, left = [], []
    for term, dot in zip(terms, dots, strict=True):
        lead = batch[draw(st.integers(0, len(batch))) :] if dot else []
        lead = [1 if draw(st.booleans()) else n for n in lead]
        shapes.append((*lead, *(sizes[c] for c in term)))
        left.append(("..." if dot else "") + term)
    letters = sorted(set("".join(terms)))
    out = draw(st.permutations(letters))[: draw(st.integers(0, len(letters)))]
    right = draw(st.sampled_from(["", "->" + ("..." if any(dots) else "") + "".join(out)]))
    return ",".join(left) + right, shapes


@settings(bounded, max_examples=60)
@given(einsum_case())
def test_einsum_is_numpys_for_any_spec(case):
    spec, shapes = case
    rng = np.random.default_rng(7)
    xs = [np.asarray(rng.standard_normal(shape)) for shape in shapes]
    ts = [tg.tensor(x, requires_grad=True) for x in xs]
    np.testing.assert_allclose(ops.einsum(spec, *ts).numpy(), np.einsum(spec, *xs), rtol=1e-9, atol=1e-12)
    assert tg.gradcheck(lambda *ts: ops.einsum(spec, *ts), *ts, rtol=1e-4)
