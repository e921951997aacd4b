"""Thousands of random calls of every op beside PyTorch's: values, dtypes, gradients, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import ops

torch = pytest.importorskip("torch")

from torch_samples import MAKERS, Sample, sample  # noqa: E402 (it needs torch)

pytestmark = pytest.mark.oracle
torch.set_num_threads(1)  # the arrays are small
TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-11}
BLOCK = 500


def called(f: Any, xs: list) -> Any:
    """The results as a list, or None where the call is refused."""
    try:
        y = f(*xs)
    except (ValueError, TypeError, IndexError, RuntimeError):
        return None
    return list(y) if isinstance(y, (tuple, list)) else [y]


def assert_same(ours: Any, theirs: Any, tolerance: float, what: str) -> None:
    a, b = ours.numpy(), theirs.numpy(force=True)
    assert (a.shape, a.dtype) == (b.shape, b.dtype), what
    if a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return
    largest = float(np.abs(b[np.isfinite(b)]).max(initial=0))
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest, err_msg=what)


def compare(case: Sample) -> None:
    what = repr(case)
    tolerance = max([TOLERANCE[str(a.dtype)] for a in case.arrays if a.dtype.kind == "f"], default=2e-5)
    xs = [tg.tensor(a, requires_grad=a.dtype.kind == "f") for a in case.arrays]
    ts = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in case.arrays]
    ours, theirs = called(case.ours, xs), called(case.theirs, ts)
    assert (ours is None) == (theirs is None), what
    if ours is None:
        return
    assert [y.requires_grad for y in ours] == [y.requires_grad for y in theirs], what
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b, max(tolerance, TOLERANCE.get(str(a.dtype), 0)), what)
    live = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.requires_grad]
    if not live:
        return
    rng = np.random.default_rng(0)
    us = [np.asarray(rng.standard_normal(a.shape)).astype(a.dtype) for a, _ in live]
    g = tg.grad([a for a, _ in live], [x for x in xs if x.requires_grad], [tg.tensor(u) for u in us], allow_unused=True)
    h = torch.autograd.grad(
        [b for _, b in live],
        [t for t in ts if t.requires_grad],
        [torch.tensor(u) for u in us],
        allow_unused=True,
        materialize_grads=True,
    )
    for a, b in zip(g, h, strict=True):
        assert_same(a, b, 10 * tolerance, what)


def compare_block(block: int) -> None:
    with np.errstate(all="ignore"):
        for seed in range(block * BLOCK, (block + 1) * BLOCK):
            compare(sample(seed))


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("block", range(10))
def test_random_calls_are_those_of_pytorch(block):
    compare_block(block)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("block", range(10, 70))
def test_many_more_random_calls_are_those_of_pytorch(block):
    compare_block(block)


def test_every_op_is_drawn():
    assert set(ops.__all__) - set(MAKERS) == {"dropout", "transfer", "uniform"}  # a GPU, and random numbers
