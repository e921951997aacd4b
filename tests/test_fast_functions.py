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
