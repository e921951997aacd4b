"""The calculus in CUDA C is NumPy's."""

import ast
import math

import numpy as np
import nvrtc
import pytest

from tinygrad_rnn.compiler.cuda import functions
from tinygrad_rnn.ops.formulas import FUNCTIONS

DTYPES = {"float32": "float", "float64": "double"}
xs = np.concatenate([np.linspace(-12, 12, 97), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 88.0]])

# Formula of a and b: how NumPy says it
FORMULAS = {
    "a + b * 2 - 0.1": lambda a, b: a + b * 2 - 0.1,
    "-a / (1 + b * b)": lambda a, b: -a / (1 + b * b),
    "1 / (1 + exp(-a))": lambda a, b: 1 / (1 + np.exp(-a)),
    "fmax(a, 0) + log1p(exp(-abs(a)))": lambda a, b: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    "(a > b) * b": lambda a, b: (a > b) * b,
    "((a != 0) & (b <= 1)) + 0.5": lambda a, b: ((a != 0) & (b <= 1)) + 0.5,
    "((a == b) | (a < b)) / 2": lambda a, b: ((a == b) | (a < b)) / 2,
    "fmin(a, b)": np.minimum,
    "fmax(a, b)": np.maximum,
    "sign(a) + sqrt(abs(b))": lambda a, b: np.sign(a) + np.sqrt(np.abs(b)),
    "tanh(a) * log(abs(b))": lambda a, b: np.tanh(a) * np.log(np.abs(b)),
    "pow(abs(a), b)": lambda a, b: np.abs(a) ** b,
    "erf(a) + 0 * b": lambda a, b: np.vectorize(math.erf)(a) + 0 * b,
}


def source(dtype):
    """All formulas as one kernel: formula i of element j at y[i n + j]."""
    kind, names = DTYPES[dtype], {"a": "a[j]", "b": "b[j]"}
    spelt = [functions.formula(ast.parse(f, mode="eval").body, names, dtype) for f in FORMULAS]
    lines = "\n".join(f"  y[{i} * n + j] = {each};" for i, each in enumerate(spelt))
    return f"""{functions.PRELUDE}
extern "C" __global__ void all(const {kind}* a, const {kind}* b, {kind}* y, int n) {{
  int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= n) return;
{lines}
}}"""


@pytest.mark.parametrize("dtype", DTYPES)
def test_formulas_in_c_are_numpys(dtype, cupy):
    a, b = (np.ascontiguousarray(x, dtype).ravel() for x in np.meshgrid(xs, xs))
    found = cupy.empty((len(FORMULAS), a.size), dtype)
    blocks = (-(-a.size // 128),)
    cupy.RawKernel(source(dtype), "all")(blocks, (128,), (cupy.asarray(a), cupy.asarray(b), found, np.int32(a.size)))
    for y, (formula, numpys) in zip(found.get(), FORMULAS.items(), strict=True):
        with np.errstate(all="ignore"):
            expected = np.asarray(numpys(a, b), dtype)
        rtol = 3e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(y, expected, rtol=rtol, atol=1e-37, err_msg=formula)


def test_every_function_of_the_calculus_has_a_spelling():
    assert set(FUNCTIONS) == functions.FUNCTIONS


@pytest.mark.parametrize("dtype", ["float16", *DTYPES])
@pytest.mark.parametrize("value", [0, 1, -0.1, 1e-30, 1e300, np.inf, -np.inf, np.nan])
def test_a_literal_has_the_type_of_what_it_meets(value, dtype):
    spelt = functions.number(value, dtype)
    assert ("f" in spelt) == (dtype != "float64")
    with np.errstate(over="ignore"):
        assert "/" in spelt or float(spelt.strip("(f)")) == np.dtype(dtype if dtype != "float16" else "f4").type(value)


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_formulas_compile_for_gpus_without_a_header(architecture):
    for dtype in DTYPES:
        assert nvrtc.compiled(source(dtype), architecture)
