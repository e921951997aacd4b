"""Values that share memory are right: a place is not taken while somebody still reads what is there."""

import importlib.util
import itertools

import numpy as np
import pytest

from test_passes import B, N, written
from test_schedule import CALLS, NESTS, STEPS, circuit

import tinygrad_rnn as tg

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.record.record import record
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.memory import Arena
from tinygrad_rnn.compiler.schedule.schedule import schedule

T = 3


def beside(*parts):
    """Columns side by side, as passes put them there."""
    trace = context.trace
    return trace.symbol(trace.circuit.make("pack", *map(trace.value, parts)))


def column(z, lo):
    trace = context.trace
    return trace.symbol(trace.circuit.make("part", trace.value(z), lo=lo, hi=lo + N, axis=-1))


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


def crossed(x, W):
    """Each result is where the other one's operand was."""
    z = x @ W[:N]
    return beside(ops.sigmoid(column(z, N)), ops.tanh(column(z, 0))) @ W


FORMULAS = {f.__name__: f for f in (overwritten, overwritten_after, read_between, crossed)}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
@pytest.mark.parametrize("loop", [False, True], ids=["at once", "in a loop"])
def test_no_place_is_taken_while_somebody_reads_what_is_there(formula, loop):
    check(formula, loop, "numpy")


@pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
def test_in_machine_code_results_are_written_when_all_operands_are_read():
    check(crossed, True, "llvm")


def check(formula, loop, engine):
    """Values of a program are those of eager steps."""
    rng = np.random.default_rng(0)
    W, xs, h = rng.standard_normal((2 * N, 2 * N)), rng.standard_normal((T, B, N)), rng.standard_normal((B, N))
    weight = tg.tensor(W)

    def step(x, states):
        y = formula(x + states[0] if loop else x, weight)
        return [y], [ops.tanh(y[:, :N])]

    stand_in = tg.tensor(np.zeros((B, N)))
    c, captured = record(step, stand_in, [stand_in], backward=False)
    program = engines.find(engine)[0].code(c, 0).program(T, B, Arena())
    (found,), _ = program.forward([xs, *(t.array for t in captured)], [h])
    for t in range(T):
        (y,), (h,) = eager(step, xs[t], h)
        np.testing.assert_allclose(found[t], y, 1e-12, 1e-12, err_msg=written(c.roots["y"][0]))


def eager(step, x, h):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "beside", lambda *parts: ops.concat(parts, -1))
        patch.setitem(globals(), "column", lambda z, lo: z[:, lo : lo + N])
        ys, new = step(tg.tensor(x), [tg.tensor(h)])
    return [y.numpy() for y in ys], [s.numpy() for s in new]


@pytest.mark.parametrize("step, options", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("policy", [CALLS, NESTS])
def test_buffers_that_share_memory_are_not_alive_at_once(step, options, policy):
    arrays = Buffers(schedule(circuit(step, **options), policy), T, Arena()).arrays
    for (a, x), (b, y) in itertools.combinations(arrays.items(), 2):
        assert not np.shares_memory(x, y) or a.span[1] < b.span[0] or b.span[1] < a.span[0]
