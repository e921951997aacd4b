"""Values that share memory are right: a place is not taken while somebody still reads what is there."""

import numpy as np
import pytest

from test_passes import B, N, written

import tinygrad_rnn as tg

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.compiler.numpy.program import Code
from tinygrad_rnn.compiler.record.record import record
from tinygrad_rnn.compiler.runtime.memory import Arena

T = 3


def beside(*parts):
    """Columns side by side, as passes put them there."""
    trace = context.trace
    return trace.symbol(trace.circuit.make("pack", *map(trace.value, parts)))


def pieces(x):
    return ops.tanh(x), ops.sigmoid(x), ops.exp(x)


def overwritten(x, W):
    """A long pack is overwritten where it is between two readers of a short one of the same pieces."""
    a, b, c = pieces(x)
    short = beside(a, b)
    long = beside(a, b, c) * ops.sum(short @ W, -1, keepdims=True)
    return long[:, : 2 * N] + short @ W.T


def overwritten_after(x, W):
    a, b, c = pieces(x)
    short = beside(a, b)
    return short @ W + ops.tanh(beside(a, b, c))[:, : 2 * N]


def read_between(x, W):
    """Its pieces are read once more after it was overwritten."""
    a, b, c = pieces(x)
    long = beside(a, b, c) * ops.sum(beside(b, c) @ W, -1, keepdims=True)
    return long[:, : 2 * N] * beside(b, c) + beside(a, b)


FORMULAS = {f.__name__: f for f in (overwritten, overwritten_after, read_between)}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
@pytest.mark.parametrize("loop", [False, True], ids=["at once", "in a loop"])
def test_a_short_pack_is_no_part_of_a_long_one_that_is_overwritten_before(formula, loop):
    rng = np.random.default_rng(0)
    W, xs, h = rng.standard_normal((2 * N, 2 * N)), rng.standard_normal((T, B, N)), rng.standard_normal((B, N))
    weight = tg.tensor(W)

    def step(x, states):
        y = formula(x + states[0] if loop else x, weight)
        return [y], [ops.tanh(y[:, :N])]

    stand_in = tg.tensor(np.zeros((B, N)))
    c, captured = record(step, stand_in, [stand_in], backward=False)
    program = Code(c, 0).program(T, B, Arena())
    (found,), _ = program.forward([xs, *(t.array for t in captured)], [h])
    for t in range(T):
        (y,), (h,) = eager(step, xs[t], h)
        np.testing.assert_allclose(found[t], y, 1e-12, 1e-12, err_msg=written(c.roots["y"][0]))


def eager(step, x, h):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "beside", lambda *parts: ops.concat(parts, -1))
        ys, new = step(tg.tensor(x), [tg.tensor(h)])
    return [y.numpy() for y in ys], [s.numpy() for s in new]
