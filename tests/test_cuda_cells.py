"""The engine "cuda" on cells that are meant to break it, beside the eager engine and beside NumPy."""

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU
from cuda_cells import CASES, Made

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.autograd import nest

T = 4
needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")
pytestmark = [needs_gxx, pytest.mark.usefixtures("gpu")]


def steps_of(x, dtype, steps=T):
    """The inputs of all steps."""
    rng = np.random.default_rng(1)
    if isinstance(x, tuple):
        return rng.standard_normal((steps, *x)).astype(dtype)
    return np.stack([rng.permutation(x.ravel()).reshape(x.shape) for _ in range(steps)])


def outcome(case, engine, dtype="float64", **options):
    tg.manual_seed(3)
    rnn = nn.Recurrent(Made(case, dtype), engine=engine, **options)
    xs = tg.tensor(steps_of(case.x, dtype), requires_grad=isinstance(case.x, tuple))
    if engine != "eager":
        assert rnn.plan(xs).engine == engine
    ys, state = rnn(xs)
    out = [ys, *nest.leaves(state)]
    total = sum((y * y).sum() for y in out if y.requires_grad)
    total.backward()
    given = {"xs": xs, **dict(rnn.named_parameters())}
    found = {f"d {name}": t.grad for name, t in given.items() if t.requires_grad and t.grad is not None}
    return {name: t.numpy() for name, t in [*enumerate(out), *found.items()]}


def same(found, expected, rtol=1e-11):
    assert found.keys() >= expected.keys()
    assert not any(found[name].any() for name in found.keys() - expected.keys())  # zeros, where eager has none at all
    for name, e in expected.items():
        assert found[name].dtype == e.dtype and found[name].shape == e.shape, name
        if e.dtype.kind != "f":
            assert np.array_equal(found[name], e), name
        elif e.size:
            scale = np.abs(e[np.isfinite(e)]).max(initial=1)
            np.testing.assert_allclose(found[name], e, rtol, rtol * scale, err_msg=str(name))


# One of each kind of fault that there was; the others take a minute
FEW = (
    "no units at all", "an empty state in a kernel of rows", "columns of nothing", "items by arrays of indices",
    "sums into places", "rows of a table", "thresholds of half precision",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_cell_equals_eager_there_and_on_the_cpu(name):
    found = outcome(CASES[name], "cuda")
    same(found, outcome(CASES[name], "eager"))
    with tg.device("cpu"), np.errstate(all="ignore"):
        same(found, outcome(CASES[name], "eager"))
