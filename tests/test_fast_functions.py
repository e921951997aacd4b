"""The functions that machine code has of its own are NumPy's, over the whole range of what they are given."""

import importlib.util

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

pytestmark = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")

# Name: (ours, NumPy's, from, to, how many units in the last place it may be off in float32)
FUNCTIONS = {
    "exp": (ops.exp, np.exp, -110, 90, 4),
    "tanh": (ops.tanh, np.tanh, -12, 12, 8),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), -110, 90, 6),
    "softplus": (ops.softplus, lambda x: np.logaddexp(0, x), -80, 200, 6),
    "log": (ops.log, np.log, 1e-30, 1e30, 2),
    "sqrt": (ops.sqrt, np.sqrt, 0, 1e30, 1),
    "sin": (ops.sin, np.sin, -3e5, 3e5, 2),
    "cos": (ops.cos, np.cos, -3e5, 3e5, 2),
    "sin of anything": (ops.sin, np.sin, -3e38, 3e38, 2),
    "expm1": (ops.expm1, np.expm1, -40, 89, 8),
    "floor": (ops.floor, np.floor, -1e8, 1e8, 0),
    "round": (ops.round, np.rint, -1e8, 1e8, 0),
    "log_sigmoid": (ops.log_sigmoid, lambda x: -np.logaddexp(0, -x), -100, 80, 6),
    "logaddexp": (lambda x: ops.logaddexp(x, 1.5), lambda x: np.logaddexp(x, 1.5), -100, 100, 4),
    "elu": (lambda x: ops.elu(x, 0.5), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)) / 2), -40, 80, 8),
    "mod": (lambda x: ops.mod(x, 0.75), lambda x: np.remainder(x, 0.75), -1e8, 1e8, 0.5),
    "mod of negative": (lambda x: ops.mod(x, -3.0), lambda x: np.remainder(x, -3.0), -1e30, 1e30, 0.5),
}


class Of(nn.Cell):
    def __init__(self, function):
        self.function = function

    def initial_state(self, batch_size):
        return tg.zeros((batch_size, 1))

    def forward(self, x, h):
        return self.function(x), h * 0.5


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize("function, exact, low, high, units", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_of_the_llvm_engine_is_numpys(function, exact, low, high, units, dtype):
    near = np.linspace(max(low, -2), min(high, 2), 501)
    xs = np.concatenate([np.linspace(low, high, 2001), near]).astype(dtype).reshape(-1, 2, 1)
    ys, _ = nn.Recurrent(Of(function), engine="compiled")(tg.tensor(xs), tg.zeros((2, 1)).astype(dtype))
    with np.errstate(all="ignore"):
        expected = exact(xs.astype(np.float64))
        rounded = expected.astype(dtype)
        spacing = np.abs(np.spacing(rounded)).astype(np.float64)
    found, whole = ys.numpy().astype(np.float64), np.isfinite(rounded)
    assert np.array_equal(found[~whole], rounded[~whole])
    off = np.abs(found - expected)[whole] / np.maximum(spacing[whole], np.finfo(dtype).tiny)
    assert off.max() <= units


SPECIAL = [np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, 3e38, 0.75, -0.75]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("other", [0.75, -np.inf, np.inf, 0.0])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_of_the_llvm_engine_take_infinity_and_nan_as_numpys_do(other, dtype):
    xs = np.array(SPECIAL, dtype).reshape(-1, 1, 1)
    for ours, numpys in (
        (lambda x: ops.logaddexp(x, other), lambda x: np.logaddexp(x, other)),
        (lambda x: ops.mod(x, other), lambda x: np.remainder(x, other)),
        (ops.sin, np.sin),
        (ops.expm1, np.expm1),
        (lambda x: ops.elu(x, 1.0), lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    ):
        ys, _ = nn.Recurrent(Of(ours), engine="llvm")(tg.tensor(xs), tg.zeros((1, 1)).astype(dtype))
        np.testing.assert_allclose(ys.numpy(), numpys(xs).astype(dtype), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("by", [0.1, -0.3, 7.0])
def test_remainders_are_right_beside_the_multiples(by, dtype):
    """Where a quotient is rounded up to the next whole number."""
    by = np.dtype(dtype).type(by)
    at = np.arange(1, 50001).astype(dtype) * by
    xs = np.concatenate([at, np.nextafter(at, 0), np.nextafter(at, np.dtype(dtype).type(np.inf))])
    for ours, numpys in ((ops.fmod, np.fmod), (ops.mod, np.remainder)):
        ys, _ = nn.Recurrent(Of(lambda x, ours=ours: ours(x, by)), engine="llvm")(
            tg.tensor(xs.reshape(-1, 2, 1)), tg.zeros((2, 1)).astype(dtype)
        )
        np.testing.assert_array_equal(ys.numpy().ravel(), numpys(xs, by))


@pytest.mark.parametrize("ours", [ops.sin, ops.cos, lambda x: ops.fmod(x, 0.75)])
def test_a_number_does_not_depend_on_the_ones_beside_it(ours):
    """One that is out of reach for the vector sends only itself to the library."""
    xs = np.random.default_rng(0).uniform(-1e4, 1e4, (50, 1, 64)).astype("f")
    far = xs.copy()
    far[..., ::3] = 1e30
    of = lambda a: nn.Recurrent(Of(ours), engine="llvm")(tg.tensor(a), tg.zeros((1, 64)))[0].numpy()
    np.testing.assert_array_equal(np.delete(of(far), np.s_[::3], -1), np.delete(of(xs), np.s_[::3], -1))


def test_sine_and_cosine_are_right_beside_their_zeros():
    xs = (np.arange(1, 100001) * (np.pi / 2)).astype("f")
    for ours, numpys in ((ops.sin, np.sin), (ops.cos, np.cos)):
        ys, _ = nn.Recurrent(Of(ours), engine="llvm")(tg.tensor(xs.reshape(-1, 2, 1)), tg.zeros((2, 1)))
        np.testing.assert_allclose(ys.numpy().ravel(), numpys(xs.astype(float)), rtol=3e-7)
