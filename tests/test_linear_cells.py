"""Cells without a product in their loop: the eager engine computes what a loop of PyTorch's does, in values and
gradients, and so do all others.
"""

from types import SimpleNamespace

import cuda_on_cpu
import linear_cells
import numpy as np
import pytest

from conftest import REAL_GPU
from linear_cells import CELLS, B, T

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.autograd import nest

LENGTHS = [T, 2, 0]
needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")


def given(cell, dtype="float64"):
    """x of all steps, and the leaves of a first state."""
    rng = np.random.default_rng(1)
    draw = lambda *shape: rng.standard_normal(shape).astype(dtype)
    return draw(T, B, linear_cells.I), *(draw(B, *shape) for shape in cell.states)


def found_by(engine, cell, lengths, **options):
    """The outputs, the last state, and the gradients of Σ of their squares."""
    xs, *state = (tg.tensor(v, requires_grad=True) for v in given(cell))
    rnn = nn.Recurrent(cell, engine=engine, **options).to("float64")
    assert rnn.plan(xs).engine == engine
    ys, last = rnn(xs, tuple(state) if len(state) > 1 else state[0], lengths=lengths)
    out = [ys, *nest.leaves(last)]
    sum((v * v).sum() for v in out).backward()
    return [v.numpy() for v in (*out, *(t.grad for t in (xs, *state, *rnn.parameters())))]


def found_by_torch(cell, lengths):
    import torch

    f = SimpleNamespace(softplus=torch.nn.functional.softplus, **{n: getattr(torch, n) for n in linear_cells.FUNCTIONS})
    tensor = lambda v: torch.tensor(v, dtype=torch.float64, requires_grad=True)
    xs, *state = leaves = list(map(tensor, given(cell)))
    p = {n: tensor(w.numpy()) for n, w in cell.named_parameters()}
    lengths, ys = torch.tensor(lengths), []
    for t in range(T):
        y, new = cell.maths(f, SimpleNamespace(**p), xs[t], state if len(state) > 1 else state[0])
        alive = lambda v, t=t: (t < lengths).reshape(B, *(1,) * (v.ndim - 1))
        new = new if len(state) > 1 else [new]
        state = [torch.where(alive(n), n, s) for n, s in zip(new, state, strict=True)]
        ys.append(torch.where(alive(y), y, 0))
    out = [torch.stack(ys), *state]
    sum((v * v).sum() for v in out).backward()
    return [v.detach().numpy() for v in (*out, *(v.grad for v in (*leaves, *p.values())))]


def check(found, expected):
    for v, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(v, e, rtol=1e-11, atol=1e-11)


@pytest.mark.oracle
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_equals_a_loop_of_pytorch(name):
    check(found_by("eager", CELLS[name](), LENGTHS), found_by_torch(CELLS[name](), LENGTHS))


@pytest.mark.parametrize("engine", ["numpy", pytest.param("llvm", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CELLS)
def test_a_compiled_cell_equals_the_eager_one(name, engine):
    if engine == "llvm":
        pytest.importorskip("llvmlite")
    check(found_by(engine, CELLS[name](), LENGTHS), found_by("eager", CELLS[name](), LENGTHS))


@needs_gxx
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_compiled_for_a_gpu_equals_the_eager_one(name):
    check(found_by("cuda", CELLS[name](), LENGTHS), found_by("eager", CELLS[name](), LENGTHS))
