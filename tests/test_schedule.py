"""Schedules: small circuits and what is computed when, with which others, where, and for how long."""

import re

import numpy as np
import pytest

from test_passes import B, N, tensors, total

import tinygrad_rnn as tg

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.compiler.passes.normalise import normalise
from tinygrad_rnn.compiler.record.record import record
from tinygrad_rnn.compiler.schedule.batch_rows import by_rows
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming
from tinygrad_rnn.compiler.schedule.places import Buffer, Place
from tinygrad_rnn.compiler.schedule.policy import CallByCall, Nests
from tinygrad_rnn.compiler.schedule.schedule import schedule

CALLS, NESTS = CallByCall(sink_bytes=1 << 20, steps=5), Nests()
PACKED = {"packed": True}
MANY = CallByCall(sink_bytes=1 << 20, steps=1 << 20)  # no value of so many steps stays in a cache


def circuit(step, states=1, batch=B, backward=False, packed=False):
    """The circuit of y, new = step(x, states, own weights), all (B, N). packed: packs stay as the step has them."""
    own = tensors()
    leaves = [tg.tensor(np.zeros((batch, N)), requires_grad=True) for _ in range(1 + states)]
    names = {id(t): name for name, t in own.items()} | {id(h): "hc"[i] for i, h in enumerate(leaves[1:])}

    def one(x, hs):
        y, new = step(x, hs, own)
        return [y], new

    c, _ = record(one, leaves[0], leaves[1:], names=names, backward=backward)
    if not packed:
        normalise(c)
    return c


def made(op, *args, **static):
    """An operation that only passes put into a circuit."""
    trace = context.trace
    return trace.symbol(trace.circuit.make(op, *map(trace.value, args), **static))


def elman(x, hs, o):
    h = ops.tanh(x @ o["U"] + hs[0] @ o["W"] + o["b"])
    return h, [h]


def decayed(x, hs, o):
    """What is computed from x alone is cheap, but for the product."""
    h = hs[0] * ops.sigmoid(ops.tanh(x @ o["U"]) * 2.0) + 1.0
    return h, [h]


def delayed(x, hs, o):
    """A state that is the step's input: nothing computes it."""
    return hs[0] + x, [x]


def swapped(x, hs, o):
    """Two states that are one value."""
    h = ops.tanh(hs[0] + hs[1] + x)
    return x * 1.0, [h, h]


def read_after(x, hs, o):
    """The state before the step is read once its new value is there."""
    h = ops.tanh(hs[0] + x)
    return h * hs[0], [h]


def read_afterwards(x, hs, o):
    """The state is read by what is computed for all steps at once."""
    return ops.sigmoid(hs[0]), [ops.tanh(hs[0] * 0.5 + x)]


def columns(x, hs, o):
    """Two gates of the columns of one value, put side by side again: in a short pack, and in a long one."""
    z = made("pack", x, hs[0]) * 2.0
    p, q = (made("part", z, lo=lo, hi=lo + N, axis=-1) for lo in (0, N))
    a, b = ops.tanh(p), ops.sigmoid(q)
    short = made("pack", a, b) @ ops.concat([o["U"], o["W"]], 0)
    h = made("pack", a, b, ops.exp(x)) @ ops.concat([o["U"], o["W"], o["V"]], 0) * short
    return h, [h]


def adjacent(x, hs, o, overwritten=False):
    """A short pack, and a long one of the same pieces. overwritten: before the short one is read once more"""
    a, b = ops.tanh(hs[0] + x), ops.sigmoid(hs[0])
    short = made("pack", a, b)
    long = made("pack", a, b, short @ ops.concat([o["U"], o["V"]], 0)) * 2.0
    h = ops.exp(long) @ ops.concat([o["U"], o["V"], o["W"]], 0)
    return h, [h @ o["W"] + short @ ops.concat([o["V"], o["U"]], 0) if overwritten else h]


def overwritten(x, hs, o):
    return adjacent(x, hs, o, overwritten=True)


def mixed(x, hs, o):
    """A pack of the first piece of one pack and the second of another."""
    a, b, c, d = (f(hs[0] * k) for k in (1.0, 2.0) for f in (ops.tanh, ops.sigmoid))
    UV = ops.concat([o["U"], o["V"]], 0)
    one, other = made("pack", a, b) @ UV, made("pack", c, d) @ UV
    return x * 1.0, [made("pack", a, d) @ UV * one + other]


def kept_short(x, hs, o):
    """A short pack of which all steps are read, and a long one that only the loop reads."""
    a, b = ops.tanh(hs[0] + x), ops.sigmoid(hs[0])
    short = made("pack", a, b)
    long = made("pack", a, b, short @ ops.concat([o["U"], o["V"]], 0))
    return short @ ops.concat([o["V"], o["W"]], 0), [long @ ops.concat([o["U"], o["V"], o["W"]], 0)]


def apart(x, hs, o):
    """Two gates of the columns of a product that nobody else reads, of one with columns that others read, and of one
    that is read whole too."""
    z = hs[0] @ ops.concat([o["U"], o["V"]], -1)
    p, q, r, s, t, u = (made("part", z * k, lo=lo, hi=lo + N, axis=-1) for k in (1.0, 2.0, 3.0) for lo in (0, N))
    h = ops.tanh(p) * ops.sigmoid(q) + ops.tanh(r) * ops.sigmoid(s) + r + ops.tanh(t) * ops.sigmoid(u)
    return h, [h + (z * 3.0) @ ops.concat([o["V"], o["W"]], 0)]


def late(x, hs, o):
    """The state before the step is read in the loop once its new value is there."""
    h = ops.tanh(hs[0] + x + hs[1])
    return x * 1.0, [h, (h @ o["W"]) * hs[0]]


def shifted(x, hs, o):
    """A state that is on no cycle."""
    return hs[0] + x, [x * 2.0]


def turned(x, hs, o):
    """A state that is a view of another value, and one that is the same at every step."""
    return hs[0] + hs[1], [ops.tanh(hs[0] * 0.5 + x).T, ops.exp(o["U"])]


def leaky(x, hs, o):
    h = ops.tanh(hs[0] * 0.5 + x)
    return h, [h]


def once(x, hs, o):
    """Weights that are computed at each call."""
    h = ops.tanh(hs[0] @ ops.tanh(ops.exp(o["W"])) + x)
    return h, [h]


def one_place(x, hs, o):
    """Nobody reads the old state once the new one is there, nor the states of all steps."""
    return x * 1.0, [ops.tanh(hs[0] + x)]


def shapes(x, hs, o):
    """Rows and single numbers, and a value that is read the other way round."""
    r = ops.sum(hs[0], -1, keepdims=True) * 2.0
    a = ops.tanh(hs[0] * r)
    h = ops.sigmoid(a * x) * ops.tanh(x + 1.0) * ops.exp(a.T.sum(0, keepdims=True).T)
    return h, [h]


def twice(x, hs, o):
    """Values that are read once more after an operation that could be computed in their place."""
    p = hs[0] @ o["U"]
    a = ops.tanh(p) * 2.0
    h = (a @ o["W"] + ops.exp(a)) * p
    return h, [h + x]


def both_ways(x, hs, o):
    """What is read as it is and the other way round at once."""
    a, b = ops.tanh(hs[0] @ o["U"] + x), hs[0] @ o["V"]
    h = ops.sigmoid(a.T) * (a + a.T) + b * b.T
    return h, [h]


def doubled(x, hs, o):
    """A product on top of itself, and one on top of nothing."""
    p, zeros = hs[0] @ o["W"], made("zeros", shape=(B, N), dtype=np.dtype("float64"))
    h = ops.tanh(p + p) @ o["U"] + zeros
    return h, [h]


def reshaped(x, hs, o):
    """A value that is looked at in another shape is whole: it is no part of another."""
    a = ops.tanh(hs[0])
    p = made("pack", a, ops.exp(x)) @ ops.concat([o["U"], o["V"]], 0)
    h = p * ops.sum(a.reshape(N, B), 0).sum()
    return h, [h]


def on_a_row(x, hs, o):
    """Products on top of a row, of one row for all, and of what two read."""
    a = hs[0] @ o["U"] + o["b"]
    c = ops.tanh(a) @ o["V"] + o["Q"]
    m = ops.tanh(c) @ o["W"]
    h = ops.tanh(m + x) * m
    return h, [h]


def added_up(x, hs, o):
    """A gradient of many steps, that of a state, and a row of it."""
    h = hs[0] * 0.5 + x
    row = ops.sum(ops.tanh(x @ o["U"]), -1, keepdims=True)
    return total(ops.exp(x) * row) + total(h * 3.0) + total(x), [h]


@tg.primitive
def both(a, b):
    return a + b, a * b


def of_two_outputs(x, hs, o):
    s, p = both(o["U"], o["W"])
    return x @ s, [ops.tanh(hs[0] @ p)]


LISTINGS = {
    "a recurrent layer, call by call": (elman, CALLS, {"backward": True}, """
forward, for all steps at once:
    v1 = x @ U  m1[t + 1], until v3
forward, at each step:
    v2 = h @ W  m2, until v3
    v3 = v1 + v2  m1[t + 1], until v4
    v4 = v3 + b  m1[t + 1], until v5
    v5 = tanh(v4)  m1[t + 1], until the end
backward, at each step, the last one first:
    v0 = dy + dh  m3[t], until v8
    v6 = v0 * v5  m4, until v7
    v7 = v6 * v5  m4, until v8
    v8 = v0 - v7  m3[t], until v10
    v12 = v8 @ W.T  m5, until the end
backward, for all steps at once:
    v17 = v8 @ U.T  m6[t], until the end
backward, over all steps:
    v20 = tsum(x.T @ v8)  m7, until the end
    v15 = tsum(h.T @ v8)  m8, until the end
    v10 = tsum(sum(v8, axis=(0,), keepdims=False))  m9, until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (3, 4) float64, from v2 to v3
    m3 (T, 3, 4) float64, from v0 to v10
    m4 (3, 4) float64, from v6 to v8
    m5 (3, 4) float64, from the start to the end
    m6 (T, 3, 4) float64, from v17 to the end
    m7 (4, 4) float64, from v20 to the end
    m8 (4, 4) float64, from v15 to the end
    m9 (4) float64, from v10 to the end
"""),
    "a recurrent layer, in nests": (elman, NESTS, {"backward": True}, """
forward, for all steps at once:
    v1 = x @ U  m1[t + 1], until v3
forward, at each step:
    v3 = v1 + h @ W  m1[t + 1], until v4
  | v4 = v3 + b  registers, until v5
  | v5 = tanh(v4)  m1[t + 1], until the end
backward, at each step, the last one first:
  | v0 = dy + dh  registers, until v8
  | v6 = v0 * v5  registers, until v7
  | v7 = v6 * v5  registers, until v8
  | v8 = v0 - v7  m2[t], until v10
    v12 = v8 @ W.T  m3, until the end
backward, for all steps at once:
    v17 = v8 @ U.T  m4[t], until the end
backward, over all steps:
    v20 = tsum(x.T @ v8)  m5, until the end
    v15 = tsum(h.T @ v8)  m6, until the end
    v10 = tsum(sum(v8, axis=(0,), keepdims=False))  m7, until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v0 to v10
    m3 (3, 4) float64, from the start to the end
    m4 (T, 3, 4) float64, from v17 to the end
    m5 (4, 4) float64, from v20 to the end
    m6 (4, 4) float64, from v20 to the end
    m7 (4) float64, from v20 to the end
"""),
    "cheap values of few steps are computed for all at once": (decayed, CALLS, {}, """
forward, for all steps at once:
    v0 = x @ U  m1[t + 1], until v1
    v1 = tanh(v0)  m1[t + 1], until v2
    v2 = v1 * 2.0  m1[t + 1], until v3
    v3 = sigmoid(v2)  m1[t + 1], until v4
forward, at each step:
    v4 = h * v3  m1[t + 1], until v5
    v5 = v4 + 1.0  m1[t + 1], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
"""),
    "cheap values of many steps sink into the loop that reads them": (decayed, MANY, {}, """
forward, for all steps at once:
    v0 = x @ U  m1[t + 1], until v1
forward, at each step:
    v1 = tanh(v0)  m1[t + 1], until v2
    v2 = v1 * 2.0  m1[t + 1], until v3
    v3 = sigmoid(v2)  m1[t + 1], until v4
    v4 = h * v3  m1[t + 1], until v5
    v5 = v4 + 1.0  m1[t + 1], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
"""),
    "cheap values sink into nests": (decayed, NESTS, {}, """
forward, for all steps at once:
    v0 = x @ U  m1[t + 1], until v1
forward, at each step:
  | v1 = tanh(v0)  registers, until v2
  | v2 = v1 * 2.0  registers, until v3
  | v3 = sigmoid(v2)  registers, until v4
  | v4 = h * v3  registers, until v5
  | v5 = v4 + 1.0  m1[t + 1], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
"""),
    "a state that nothing computes is copied": (delayed, CALLS, {}, """
forward, at each step:
    v1 = carry(x)  m1[t + 1], until the end
forward, for all steps at once:
    v0 = h + x  m2[t], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v0 to the end
"""),
    "of two states that are one value, one is a copy": (swapped, NESTS, {"states": 2}, """
forward, for all steps at once:
    v3 = x * 1.0  m1[t], until the end
forward, at each step:
  | v0 = h + c  registers, until v1
  | v1 = v0 + x  registers, until v2
  | v2 = tanh(v1)  m2, until the end
  | v4 = carry(v2)  m3, until the end
memory:
    m1 (T, 3, 4) float64, from v3 to the end
    m2 (3, 4) float64, from the start to the end
    m3 (3, 4) float64, from the start to the end
"""),
    "a state that is read once its next value is there is kept for all steps": (read_after, NESTS, {}, """
forward, at each step:
  | v0 = h + x  registers, until v1
  | v1 = tanh(v0)  m1[t + 1], until the end
forward, for all steps at once:
    v2 = v1 * h  m2[t], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v2 to the end
"""),
    "a product is computed on top of a row, but not if others read it": (on_a_row, NESTS, {}, """
forward, at each step:
    v1 = h @ U + b  m1, until v2
    v2 = tanh(v1)  m1, until v4
    v4 = v2 @ V + Q  m2, until v5
    v5 = tanh(v4)  m2, until v6
    v6 = v5 @ W  m3[t + 1], until v9
  | v7 = v6 + x  registers, until v8
  | v8 = tanh(v7)  registers, until v9
  | v9 = v8 * v6  m3[t + 1], until the end
memory:
    m1 (3, 4) float64, from v1 to v4
    m2 (3, 4) float64, from v4 to v6
    m3 (T + 1, 3, 4) float64, from the start to the end
"""),
    "sums of few steps are taken at the end, but for those of a loop": (added_up, CALLS, {}, """
forward, over all steps:
    v8 = tsum(x)  m1, until v12
forward, at each step:
    v0 = h * 0.5  m2, until v1
    v1 = v0 + x  m3, until the end
    v9 = tsum(v1)  m4, until v10
forward, once:
    v10 = v9 * 3.0  m5, until v11
forward, for all steps at once:
    v2 = x @ U  m6[t], until v3
    v3 = tanh(v2)  m6[t], until v4
    v4 = sum(v3, axis=(1,), keepdims=True)  m7[t], until v6
    v5 = exp(x)  m8[t], until v6
    v6 = v5 * v4  m8[t], until v7
forward, over all steps:
    v7 = tsum(v6)  m9, until v11
forward, once:
    v11 = v7 + v10  m10, until v12
    v12 = v11 + v8  m11, until the end
memory:
    m1 (3, 4) float64, from v8 to v12
    m2 (3, 4) float64, from v0 to v1
    m3 (3, 4) float64, from the start to the end
    m4 (3, 4) float64, from v0 to v10
    m5 (3, 4) float64, from v10 to v11
    m6 (T, 3, 4) float64, from v2 to v4
    m7 (T, 3, 1) float64, from v4 to v6
    m8 (T, 3, 4) float64, from v5 to v7
    m9 (3, 4) float64, from v7 to v11
    m10 (3, 4) float64, from v11 to v12
    m11 (3, 4) float64, from v12 to the end
"""),
    "sums of many steps are added up in a loop": (added_up, MANY, {}, """
forward, over all steps:
    v8 = tsum(x)  m1, until v12
forward, at each step:
    v0 = h * 0.5  m2, until v1
    v1 = v0 + x  m3, until the end
    v9 = tsum(v1)  m4, until v10
forward, once:
    v10 = v9 * 3.0  m5, until v11
forward, for all steps at once:
    v2 = x @ U  m6[t], until v3
forward, at each step:
    v5 = exp(x)  m7, until v6
    v3 = tanh(v2)  m8, until v4
    v4 = sum(v3, axis=(1,), keepdims=True)  m9, until v6
    v6 = v5 * v4  m7, until v7
    v7 = tsum(v6)  m10, until v11
forward, once:
    v11 = v7 + v10  m11, until v12
    v12 = v11 + v8  m12, until the end
memory:
    m1 (3, 4) float64, from v8 to v12
    m2 (3, 4) float64, from v0 to v1
    m3 (3, 4) float64, from the start to the end
    m4 (3, 4) float64, from v0 to v10
    m5 (3, 4) float64, from v10 to v11
    m6 (T, 3, 4) float64, from v2 to v7
    m7 (3, 4) float64, from v5 to v7
    m8 (3, 4) float64, from v3 to v4
    m9 (3, 1) float64, from v4 to v6
    m10 (3, 4) float64, from v5 to v11
    m11 (3, 4) float64, from v11 to v12
    m12 (3, 4) float64, from v12 to the end
"""),
    "sums stand together behind all that moves": (added_up, NESTS, {}, """
forward, at each step:
  | v0 = h * 0.5  registers, until v1
  | v1 = v0 + x  m1[t + 1], until the end
forward, for all steps at once:
    v2 = x @ U  m2[t], until v3
    v3 = tanh(v2)  m2[t], until v4
    v4 = sum(v3, axis=(1,), keepdims=True)  m3[t], until v6
    v5 = exp(x)  m4[t], until v6
    v6 = v5 * v4  m4[t], until v7
forward, over all steps:
    v8 = tsum(x)  m5, until v12
    v9 = tsum(v1)  m6, until v10
    v7 = tsum(v6)  m7, until v11
forward, once:
    v10 = v9 * 3.0  m8, until v11
    v11 = v7 + v10  m9, until v12
    v12 = v11 + v8  m10, until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v2 to v4
    m3 (T, 3, 1) float64, from v4 to v6
    m4 (T, 3, 4) float64, from v5 to v7
    m5 (3, 4) float64, from v8 to v12
    m6 (3, 4) float64, from v8 to v10
    m7 (3, 4) float64, from v8 to v11
    m8 (3, 4) float64, from v10 to v11
    m9 (3, 4) float64, from v11 to v12
    m10 (3, 4) float64, from v12 to the end
"""),
    "pieces are computed in their columns": (columns, CALLS, {"packed": True}, """
forward, once:
    v11 = concat(U, W, V, axis=0)  m1, until v12
forward, for all steps at once:
    v9 = exp(x)  m2[t][..., 8:12], until v10
forward, once:
    v7 = concat(U, W, axis=0)  m3, until v8
forward, at each step:
    v0 = pack(x, h)  m4, until v1
    v1 = v0 * 2.0  m4, until v5
    v4 = tanh(v1[..., 0:4])  m5[..., 0:4], until v6
    v5 = sigmoid(v1[..., 4:8])  m5[..., 4:8], until v6
    v10 = pack(v4, v5, v9)  m2[t], until v12
    v12 = v10 @ v11  m6[t + 1], until v13
    v6 = pack(v4, v5)  m5, until v8
    v8 = v6 @ v7  m7, until v13
    v13 = v12 * v8  m6[t + 1], until the end
memory:
    m1 (12, 4) float64, from v11 to v13
    m2 (T, 3, 12) float64, from v9 to v13
    m3 (8, 4) float64, from v7 to v13
    m4 (3, 8) float64, from v0 to v5
    m5 (3, 8) float64, from v4 to v8
    m6 (T + 1, 3, 4) float64, from the start to the end
    m7 (3, 4) float64, from v8 to v13
"""),
    "pieces are computed in their columns, in nests": (columns, NESTS, {"packed": True}, """
forward, once:
    v11 = concat(U, W, V, axis=0)  m1, until v12
    v7 = concat(U, W, axis=0)  m2, until v8
forward, at each step:
    v0 = pack(x, h)  m3[t], until v1
    v1 = v0 * 2.0  m4[..., 0:8], until v5
  | v4 = tanh(v1[..., 0:4])  m4[..., 0:4], until v10
  | v5 = sigmoid(v1[..., 4:8])  m4[..., 4:8], until v10
  | v9 = exp(x)  m4[..., 8:12], until v10
    v6 = pack(v4, v5)  m4[..., 0:8], until v8
    v10 = pack(v4, v5, v9)  m4, until v12
    v8 = v6 @ v7  m5[t + 1], until v13
    v12 = v10 @ v11  m6, until v13
    v13 = v12 * v8  m5[t + 1], until the end
memory:
    m1 (12, 4) float64, from v11 to v13
    m2 (8, 4) float64, from v7 to v13
    m3 (T, 3, 8) float64, from v0 to v13
    m4 (3, 12) float64, from v1 to v12
    m5 (T + 1, 3, 4) float64, from the start to the end
    m6 (3, 4) float64, from v12 to v13
"""),
    "a short pack is no part of a long one that is overwritten": (overwritten, CALLS, {"packed": True}, """
forward, once:
    v12 = concat(V, U, axis=0)  m1, until v13
    v9 = concat(U, V, W, axis=0)  m2, until v10
    v4 = concat(U, V, axis=0)  m3, until v5
forward, at each step:
    v0 = h + x  m4[..., 0:4], until v1
    v1 = tanh(v0)  m4[..., 0:4], until v6
    v2 = sigmoid(h)  m4[..., 4:8], until v6
    v3 = pack(v1, v2)  m5, until v13
    v5 = v3 @ v4  m4[..., 8:12], until v6
    v6 = pack(v1, v2, v5)  m4, until v7
    v7 = v6 * 2.0  m4, until v8
    v8 = exp(v7)  m4, until v10
    v10 = v8 @ v9  m6[t], until the end
    v11 = v10 @ W  m7, until v14
    v13 = v3 @ v12  m8, until v14
    v14 = v11 + v13  m7, until the end
memory:
    m1 (8, 4) float64, from v12 to v14
    m2 (12, 4) float64, from v9 to v14
    m3 (8, 4) float64, from v4 to v14
    m4 (3, 12) float64, from v0 to v10
    m5 (3, 8) float64, from v3 to v13
    m6 (T, 3, 4) float64, from v0 to the end
    m7 (3, 4) float64, from the start to the end
    m8 (3, 4) float64, from v13 to v14
"""),
    "a short pack is a part of a long one": (adjacent, CALLS, {"packed": True}, """
forward, once:
    v9 = concat(U, V, W, axis=0)  m1, until v10
    v4 = concat(U, V, axis=0)  m2, until v5
forward, at each step:
    v0 = h + x  m3[..., 0:4], until v1
    v1 = tanh(v0)  m3[..., 0:4], until v6
    v2 = sigmoid(h)  m3[..., 4:8], until v6
    v3 = pack(v1, v2)  m3[..., 0:8], until v5
    v5 = v3 @ v4  m3[..., 8:12], until v6
    v6 = pack(v1, v2, v5)  m3, until v7
    v7 = v6 * 2.0  m3, until v8
    v8 = exp(v7)  m3, until v10
    v10 = v8 @ v9  m4[t + 1], until the end
memory:
    m1 (12, 4) float64, from v9 to v10
    m2 (8, 4) float64, from v4 to v10
    m3 (3, 12) float64, from v0 to v10
    m4 (T + 1, 3, 4) float64, from the start to the end
"""),
    "what reads columns once is computed where they are": (apart, CALLS, {"packed": True}, """
forward, once:
    v23 = concat(V, W, axis=0)  m1, until v24
    v0 = concat(U, V, axis=1)  m2, until v1
forward, at each step:
    v1 = h @ v0  m3, until v8
    v2 = v1 * 1.0  m4, until v12
    v11 = tanh(v2[..., 0:4])  m5[t], until v13
    v12 = sigmoid(v2[..., 4:8])  m4[..., 4:8], until v13
    v13 = v11 * v12  m5[t], until v17
    v5 = v1 * 2.0  m6, until v18
    v14 = tanh(v5[..., 0:4])  m7, until v16
    v15 = sigmoid(v5[..., 4:8])  m8, until v16
    v16 = v14 * v15  m7, until v17
    v17 = v13 + v16  m5[t], until v18
    v18 = v17 + v5[..., 0:4]  m5[t], until v22
    v8 = v1 * 3.0  m3, until v24
    v19 = tanh(v8[..., 0:4])  m9, until v21
    v20 = sigmoid(v8[..., 4:8])  m10, until v21
    v21 = v19 * v20  m9, until v22
    v22 = v18 + v21  m5[t], until the end
    v24 = v8 @ v23  m11, until v25
    v25 = v22 + v24  m11, until the end
memory:
    m1 (8, 4) float64, from v23 to v25
    m2 (4, 8) float64, from v0 to v25
    m3 (3, 8) float64, from v1 to v24
    m4 (3, 8) float64, from v2 to v13
    m5 (T, 3, 4) float64, from v1 to the end
    m6 (3, 8) float64, from v5 to v18
    m7 (3, 4) float64, from v14 to v17
    m8 (3, 4) float64, from v15 to v16
    m9 (3, 4) float64, from v19 to v22
    m10 (3, 4) float64, from v20 to v21
    m11 (3, 4) float64, from the start to the end
"""),
    "products over all steps are no sums in a loop, however many": (elman, MANY, {"backward": True}, """
forward, for all steps at once:
    v1 = x @ U  m1[t + 1], until v3
forward, at each step:
    v2 = h @ W  m2, until v3
    v3 = v1 + v2  m1[t + 1], until v4
    v4 = v3 + b  m1[t + 1], until v5
    v5 = tanh(v4)  m1[t + 1], until the end
backward, at each step, the last one first:
    v0 = dy + dh  m3[t], until v8
    v6 = v0 * v5  m4, until v7
    v7 = v6 * v5  m4, until v8
    v8 = v0 - v7  m3[t], until v10
    v12 = v8 @ W.T  m5, until the end
backward, for all steps at once:
    v17 = v8 @ U.T  m6[t], until the end
backward, over all steps:
    v20 = tsum(x.T @ v8)  m7, until the end
    v15 = tsum(h.T @ v8)  m8, until the end
    v10 = tsum(sum(v8, axis=(0,), keepdims=False))  m9, until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (3, 4) float64, from v2 to v3
    m3 (T, 3, 4) float64, from v0 to v10
    m4 (3, 4) float64, from v6 to v8
    m5 (3, 4) float64, from the start to the end
    m6 (T, 3, 4) float64, from v17 to the end
    m7 (4, 4) float64, from v20 to the end
    m8 (4, 4) float64, from v15 to the end
    m9 (4) float64, from v10 to the end
"""),
    "pieces that lie in two packs are put side by side anew": (mixed, CALLS, {"packed": True}, """
forward, for all steps at once:
    v11 = x * 1.0  m1[t], until the end
forward, once:
    v6 = concat(U, V, axis=0)  m2, until v10
forward, at each step:
    v0 = h * 1.0  m3[..., 4:8], until v2
    v1 = tanh(v0)  m3[..., 0:4], until v7
    v3 = h * 2.0  m4[..., 0:4], until v4
    v5 = sigmoid(v3)  m4[..., 4:8], until v9
    v12 = pack(v1, v5)  m5, until v13
    v13 = v12 @ v6  m6, until v14
    v2 = sigmoid(v0)  m3[..., 4:8], until v7
    v7 = pack(v1, v2)  m3, until v8
    v8 = v7 @ v6  m7, until v14
    v14 = v13 * v8  m6, until v15
    v4 = tanh(v3)  m4[..., 0:4], until v9
    v9 = pack(v4, v5)  m4, until v10
    v10 = v9 @ v6  m8, until v15
    v15 = v14 + v10  m6, until the end
memory:
    m1 (T, 3, 4) float64, from v11 to the end
    m2 (8, 4) float64, from v6 to v15
    m3 (3, 8) float64, from v0 to v8
    m4 (3, 8) float64, from v3 to v10
    m5 (3, 8) float64, from v12 to v13
    m6 (3, 4) float64, from the start to the end
    m7 (3, 4) float64, from v8 to v14
    m8 (3, 4) float64, from v10 to v15
"""),
    "a pack that is kept is no part of one that is not": (kept_short, CALLS, {"packed": True}, """
forward, once:
    v7 = concat(V, W, axis=0)  m1, until v8
    v9 = concat(U, V, W, axis=0)  m2, until v10
    v4 = concat(U, V, axis=0)  m3, until v5
forward, at each step:
    v0 = h + x  m4[..., 0:4], until v1
    v1 = tanh(v0)  m4[..., 0:4], until v6
    v2 = sigmoid(h)  m4[..., 4:8], until v6
    v3 = pack(v1, v2)  m5[t], until v8
    v5 = v3 @ v4  m4[..., 8:12], until v6
    v6 = pack(v1, v2, v5)  m4, until v10
    v10 = v6 @ v9  m6, until the end
forward, for all steps at once:
    v8 = v3 @ v7  m7[t], until the end
memory:
    m1 (8, 4) float64, from v7 to v8
    m2 (12, 4) float64, from v9 to v10
    m3 (8, 4) float64, from v4 to v10
    m4 (3, 12) float64, from v0 to v10
    m5 (T, 3, 8) float64, from v0 to v8
    m6 (3, 4) float64, from the start to the end
    m7 (T, 3, 4) float64, from v8 to the end
"""),
    "a state that is read in the loop once its next value is there is kept": (late, CALLS, {"states": 2}, """
forward, for all steps at once:
    v3 = x * 1.0  m1[t], until the end
forward, at each step:
    v0 = h + x  m2[t + 1], until v1
    v1 = v0 + c  m2[t + 1], until v2
    v2 = tanh(v1)  m2[t + 1], until the end
    v4 = v2 @ W  m3, until v5
    v5 = v4 * h  m3, until the end
memory:
    m1 (T, 3, 4) float64, from v3 to the end
    m2 (T + 1, 3, 4) float64, from the start to the end
    m3 (3, 4) float64, from the start to the end
"""),
    "a state that others read for all steps is kept": (read_afterwards, NESTS, {}, """
forward, at each step:
  | v1 = h * 0.5  registers, until v2
  | v2 = v1 + x  registers, until v3
  | v3 = tanh(v2)  m1[t + 1], until the end
forward, for all steps at once:
    v0 = sigmoid(h)  m2[t], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v0 to the end
"""),
    "a state on no cycle is computed for all steps": (shifted, CALLS, {}, """
forward, for all steps at once:
    v1 = x * 2.0  m1[t + 1], until the end
    v0 = h + x  m2[t], until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v0 to the end
"""),
    "a state that is a view or moves not is copied": (turned, CALLS, {"states": 2, "batch": 4}, """
forward, once:
    v5 = exp(U)  m1, until v7
forward, at each step:
    v7 = carry(v5)  m2[t + 1], until the end
forward, at each step:
    v1 = h * 0.5  m3, until v2
    v2 = v1 + x  m3, until v3
    v3 = tanh(v2)  m3, until v6
    v6 = carry(v3.T)  m4[t + 1], until the end
forward, for all steps at once:
    v0 = h + c  m5[t], until the end
memory:
    m1 (4, 4) float64, from v5 to v7
    m2 (T + 1, 4, 4) float64, from the start to the end
    m3 (4, 4) float64, from v1 to v6
    m4 (T + 1, 4, 4) float64, from the start to the end
    m5 (T, 4, 4) float64, from v0 to the end
"""),
    "the gradients of x are kept for all steps": (leaky, CALLS, {"backward": True}, """
forward, at each step:
    v1 = h * 0.5  m1[t + 1], until v2
    v2 = v1 + x  m1[t + 1], until v3
    v3 = tanh(v2)  m1[t + 1], until the end
backward, at each step, the last one first:
    v0 = dy + dh  m2[t], until v6
    v4 = v0 * v3  m3, until v5
    v5 = v4 * v3  m3, until v6
    v6 = v0 - v5  m2[t], until the end
    v7 = v6 * 0.5  m4, until the end
memory:
    m1 (T + 1, 3, 4) float64, from the start to the end
    m2 (T, 3, 4) float64, from v0 to the end
    m3 (3, 4) float64, from v4 to v6
    m4 (3, 4) float64, from the start to the end
"""),
    "what is computed once has places of its own": (once, CALLS, {}, """
forward, once:
    v0 = exp(W)  m1, until v1
    v1 = tanh(v0)  m2, until v2
forward, at each step:
    v2 = h @ v1  m3[t + 1], until v3
    v3 = v2 + x  m3[t + 1], until v4
    v4 = tanh(v3)  m3[t + 1], until the end
memory:
    m1 (4, 4) float64, from v0 to v1
    m2 (4, 4) float64, from v1 to v4
    m3 (T + 1, 3, 4) float64, from the start to the end
"""),
    "what is read again keeps its place": (twice, CALLS, {}, """
forward, at each step:
    v0 = h @ U  m1, until v6
    v1 = tanh(v0)  m2, until v2
    v2 = v1 * 2.0  m2, until v4
    v3 = v2 @ W  m3[t], until v5
    v4 = exp(v2)  m2, until v5
    v5 = v3 + v4  m3[t], until v6
    v6 = v5 * v0  m3[t], until the end
    v7 = v6 + x  m4, until the end
memory:
    m1 (3, 4) float64, from v0 to v6
    m2 (3, 4) float64, from v1 to v5
    m3 (T, 3, 4) float64, from v0 to the end
    m4 (3, 4) float64, from the start to the end
"""),
    "what is read again keeps its place, in nests": (twice, NESTS, {}, """
forward, at each step:
    v0 = h @ U  m1[t], until v6
  | v1 = tanh(v0)  registers, until v2
  | v2 = v1 * 2.0  m2, until v5
  | v4 = exp(v2)  m3, until v5
    v5 = v2 @ W + v4  m3, until v6
  | v6 = v5 * v0  m1[t], until the end
  | v7 = v6 + x  m3, until the end
memory:
    m1 (T, 3, 4) float64, from v0 to the end
    m2 (3, 4) float64, from v1 to v5
    m3 (3, 4) float64, from the start to the end
"""),
    "what is read in two ways keeps its place": (both_ways, CALLS, {"batch": 4}, """
forward, at each step:
    v0 = h @ U  m1, until v1
    v1 = v0 + x  m1, until v2
    v2 = tanh(v1)  m1, until v6
    v5 = sigmoid(v2.T)  m2[t + 1], until v7
    v6 = v2 + v2.T  m3, until v7
    v7 = v5 * v6  m2[t + 1], until v10
    v3 = h @ V  m4, until v9
    v9 = v3 * v3.T  m5, until v10
    v10 = v7 + v9  m2[t + 1], until the end
memory:
    m1 (4, 4) float64, from v0 to v6
    m2 (T + 1, 4, 4) float64, from the start to the end
    m3 (4, 4) float64, from v6 to v7
    m4 (4, 4) float64, from v3 to v9
    m5 (4, 4) float64, from v9 to v10
"""),
    "what is read in two ways keeps its place, in nests": (both_ways, NESTS, {"batch": 4}, """
forward, at each step:
    v1 = h @ U + x  m1, until v2
    v3 = h @ V  m2, until v9
    v2 = tanh(v1)  m1, until v6
  | v5 = sigmoid(v2.T)  registers, until v7
  | v6 = v2 + v2.T  registers, until v7
  | v7 = v5 * v6  registers, until v10
  | v9 = v3 * v3.T  registers, until v10
  | v10 = v7 + v9  m3[t + 1], until the end
memory:
    m1 (4, 4) float64, from v1 to v10
    m2 (4, 4) float64, from v3 to v10
    m3 (T + 1, 4, 4) float64, from the start to the end
"""),
    "a product is not computed on top of itself, or of nothing": (doubled, NESTS, {"packed": True, "batch": B}, """
forward, at each step:
    v0 = h @ W  m1, until v2
  | v2 = v0 + v0  registers, until v3
  | v3 = tanh(v2)  m1, until v4
    v4 = v3 @ U  m2[t + 1], until v5
    v5 = v4 + 0  m2[t + 1], until the end
memory:
    m1 (3, 4) float64, from v0 to v4
    m2 (T + 1, 3, 4) float64, from the start to the end
"""),
    "what is looked at in another shape is whole": (reshaped, CALLS, {"packed": True, "batch": B}, """
forward, once:
    v3 = concat(U, V, axis=0)  m1, until v4
forward, for all steps at once:
    v1 = exp(x)  m2[t][..., 4:8], until v2
forward, at each step:
    v0 = tanh(h)  m3, until v6
    v2 = pack(v0, v1)  m2[t], until v4
    v4 = v2 @ v3  m4[t + 1], until v8
    v6 = sum(reshape(v0, shape=(4, 3)), axis=(0,), keepdims=False)  m5, until v7
    v7 = sum(v6, axis=(0,), keepdims=False)  m6, until v8
    v8 = v4 * v7  m4[t + 1], until the end
memory:
    m1 (8, 4) float64, from v3 to v8
    m2 (T, 3, 8) float64, from v1 to v8
    m3 (3, 4) float64, from v0 to v6
    m4 (T + 1, 3, 4) float64, from the start to the end
    m5 (3) float64, from v6 to v7
    m6 () float64, from v7 to v8
"""),
    "a state that is read before its next value is there needs one place": (one_place, CALLS, {}, """
forward, for all steps at once:
    v0 = x * 1.0  m1[t], until the end
forward, at each step:
    v1 = h + x  m2, until v2
    v2 = tanh(v1)  m3, until the end
memory:
    m1 (T, 3, 4) float64, from v0 to the end
    m2 (3, 4) float64, from v1 to v2
    m3 (3, 4) float64, from the start to the end
"""),
    "nests of other shapes are apart, and a view of what a nest makes is read by another": (shapes, NESTS, {}, """
forward, at each step:
    v0 = sum(h, axis=(1,), keepdims=True)  m1, until v1
    v1 = v0 * 2.0  m1, until v2
  | v2 = h * v1  registers, until v3
  | v3 = tanh(v2)  m2, until v10
  | v4 = v3 * x  m3[t + 1], until v5
    v10 = sum(v3.T, axis=(0,), keepdims=True)  m4, until v12
  | v6 = x + 1.0  registers, until v7
  | v5 = sigmoid(v4)  registers, until v8
  | v7 = tanh(v6)  registers, until v8
  | v8 = v5 * v7  m3[t + 1], until v13
    v12 = exp(v10.T)  m5, until v13
    v13 = v8 * v12  m3[t + 1], until the end
memory:
    m1 (3, 1) float64, from v0 to v4
    m2 (3, 4) float64, from v2 to v10
    m3 (T + 1, 3, 4) float64, from the start to the end
    m4 (1, 3) float64, from v10 to v12
    m5 (3, 1) float64, from v12 to v13
"""),
    "outputs of one operation are computed with it": (of_two_outputs, CALLS, {}, """
forward, once:
    v0 = user.both(U, W)  nowhere, until v2
    v1 = pick(v0, index=0)  m1, until v3
    v2 = pick(v0, index=1)  m2, until v4
forward, for all steps at once:
    v3 = x @ v1  m3[t], until the end
forward, at each step:
    v4 = h @ v2  m4, until v5
    v5 = tanh(v4)  m5, until the end
memory:
    m1 (4, 4) float64, from v1 to v3
    m2 (4, 4) float64, from v2 to v5
    m3 (T, 3, 4) float64, from v3 to the end
    m4 (3, 4) float64, from v4 to v5
    m5 (3, 4) float64, from the start to the end
"""),
}  # fmt: skip


@pytest.mark.parametrize("step, policy, options, expected", LISTINGS.values(), ids=LISTINGS)
def test_the_schedule_shows_that(step, policy, options, expected):
    assert squeezed(schedule(circuit(step, **options), policy)) == expected.strip()


def squeezed(s):
    return "\n".join(re.sub(r"(?<=\S) {2,}", "  ", line) for line in str(s).splitlines())


# ---- one rule each ---------------------------------------------------------------------------------------------------


def column(z, lo):
    return made("part", z, lo=lo, hi=lo + N, axis=-1)


def joined(o, *names, axis=0):
    return ops.concat([o[name] for name in names], axis)


def watched(x, hs, o):
    a = hs[0] * 0.5
    context.trace.watch([a])
    h = ops.tanh(a * 0.7 + x)
    return h, [h]


def read_turned(x, hs, o):
    a = ops.tanh(hs[0] + x)
    return ops.exp(a.T).T, [a * 0.5]


def unread(x, hs, o):
    return x * 1.0, [x * 2.0]


def stopped(x, hs, o):
    return hs[0] + x, [x.detach() * 2.0]


def outlived(x, hs, o):
    a = ops.tanh(hs[0])
    return x * 1.0, [(made("pack", a, ops.sigmoid(hs[0])) * 2.0) @ joined(o, "U", "V") * a]


def reshaped_column(x, hs, o):
    z = made("pack", x, hs[0]) * 2.0
    a = ops.tanh(column(z, 0))
    return x * 1.0, [ops.sigmoid(column(z, N)) * ops.sum(a.reshape(N, B), 0).sum()]


def kept_factor(x, hs, o):
    return x * 1.0, [ops.tanh(hs[0] * ops.exp(o["n"].astype("float64")))]


def overlapping(x, hs, o):
    z = made("pack", x, hs[0]) * 2.0
    return x * 1.0, [(ops.tanh(column(z, 0)) @ o["W"]) * (ops.sigmoid(column(z, 2)) @ o["V"])]


def of_two_stages(x, hs, o):
    z = made("pack", x, hs[0]) * 2.0
    return ops.sigmoid(column(z, N)), [ops.tanh(column(z, 0)) * hs[0]]


def with_a_gap(x, hs, o):
    a, b, c = ops.tanh(hs[0]), ops.sigmoid(hs[0]), ops.exp(hs[0])
    long = made("pack", a, b, c) @ joined(o, "U", "V", "W")
    return x * 1.0, [(made("pack", a, c) @ joined(o, "U", "V")) * long]


def kept_column(x, hs, o):
    z = made("pack", x, hs[0]) * 2.0
    a = ops.tanh(column(z, 0))
    return a, [a * (ops.sigmoid(column(z, N)) @ o["W"])]


def of_all_steps(x, hs, o):
    z = x @ joined(o, "U", "V", axis=-1)
    return x * 1.0, [ops.tanh(column(z, 0) * hs[0] + column(z, N) * hs[0])]


def read_by_both(x, hs, o):
    a = ops.exp(x)
    return ops.sigmoid(a), [ops.tanh(hs[0] * a)]


def turned_total(x, hs, o):
    return (total(ops.exp(x)).T * 2.0).T, [ops.tanh(hs[0] + x)]


def on_a_mask_and_a_column(x, hs, o):
    a = made("add", hs[0] @ o["U"], x > 0)
    return x * 1.0, [ops.tanh(a) * (hs[0] @ o["V"] + ops.sum(hs[0], -1, keepdims=True))]


def late_state(x, hs, o):
    a = ops.tanh(hs[0] + hs[1] + x)
    return x * 1.0, [a * 0.5, hs[0] * (a @ o["W"])]


def read_later(x, hs, o):
    p = hs[0] @ o["U"]
    return x * 1.0, [(ops.tanh(p) @ o["W"]) * (p @ o["V"])]


def half_read_later(x, hs, o):
    z = hs[0] @ joined(o, "U", "V", axis=-1)
    p = made("pack", ops.tanh(column(z, 0)), ops.exp(hs[0]))
    return x * 1.0, [(p @ joined(o, "U", "V")) * column(z, N)]


def third_unread(x, hs, o):
    z = hs[0] @ joined(o, "U", "V", "W", axis=-1)
    p = made("pack", ops.tanh(column(z, 0)), ops.sigmoid(column(z, N)), hs[0] @ o["W"])
    return x * 1.0, [p @ joined(o, "U", "V", "W")]


def two_for_one(x, hs, o):
    z = hs[0] @ joined(o, "U", "V", axis=-1)
    p = made("pack", ops.tanh(column(z, 0)) * ops.sigmoid(column(z, N)), hs[0] @ o["V"])
    return x * 1.0, [p @ joined(o, "U", "V")]


def masks(x, hs, o):
    z = hs[0] @ joined(o, "U", "V", axis=-1)
    p = made("pack", column(z, 0) > 0, column(z, N) > 0)
    return x * 1.0, [ops.tanh(made("matmul", p, joined(o, "U", "V")))]


def looked_at(x, hs, o):
    p = made("pack", x, hs[0])
    a = ops.sum(column(p, N).reshape(N, B) * 1.5, 0).sum()
    b = ops.sum(column(p, 0).reshape(B, 1, N) * 2.5, 1)
    return x * 1.0, [ops.tanh(hs[0])[:, [1, 0, 2, 3]] * a * b]


def zeros_reshaped(x, hs, o):
    z = made("zeros", shape=(B, N), dtype=np.dtype("float64"))
    return x * 1.0, [hs[0] * ops.sum(z.reshape(N, B) + 3.5, 0).sum()]


def read_twice(x, hs, o):
    m = x.T @ ops.exp(x)
    return total(m) * m, [ops.tanh(hs[0] + x)]


def of_the_loop(x, hs, o):
    m = hs[0].T @ hs[0]
    return total(m), [ops.tanh(m + x)]


def sums_of_rows(x, hs, o):
    g = ops.exp(x)
    return total(ops.sum(g, 1)) + total(ops.sum(g, 0, keepdims=True)), [ops.tanh(hs[0] + x)]


def of_two_that_move(x, hs, o):
    return x * 1.0, [ops.tanh(hs[0] @ x.T + hs[0])]


# of each: a step, and lines that stand in this order among those of its schedule
RULES = {
    "what is watched is kept for all steps": (watched, CALLS, {"backward": True}, """
    v8 = v7 * 0.7  m4[t], until the end
"""),
    "what is read through a view for all steps is kept": (read_turned, CALLS, {"batch": 4}, """
    v1 = tanh(v0)  m1[t], until v3
"""),
    "a state that nobody reads is computed for all steps": (unread, CALLS, {}, """
    v1 = x * 2.0  m2[t + 1], until the end
"""),
    "a gradient that a state does not get is zero": (unread, CALLS, {"backward": True}, """
    v6 = carry(0)  m4[t], until the end
    v0 = dh * 2.0  m5[t], until v2
"""),
    "a gradient of a state goes to the step before": (stopped, CALLS, {"backward": True}, """
    v2 = carry(dy)  m3[t], until the end
    m3 (T + 1, 3, 4) float64, from the start to the end
"""),
    "a pack is not overwritten while a piece of it is read": (outlived, CALLS, PACKED, """
    v0 = tanh(h)  m3[..., 0:4], until v7
    v4 = v3 * 2.0  m4, until v6
"""),
    "what is looked at in another shape is no column": (reshaped_column, CALLS, PACKED, """
    v1 = v0 * 2.0  m2, until v3
    v3 = tanh(v1[..., 0:4])  m4, until v8
"""),
    "what is computed once is not overwritten at a step": (kept_factor, CALLS, {}, """
    v2 = exp(v1)  m3, until v3
    v3 = h * v2  m4, until v4
"""),
    "columns that overlap are not overwritten": (overlapping, CALLS, PACKED, """
    v1 = v0 * 2.0  m2, until v7
    v4 = tanh(v1[..., 0:4])  m3, until v5
"""),
    "columns of which some are read for all steps are not overwritten": (of_two_stages, CALLS, PACKED, """
    v1 = v0 * 2.0  m2[t], until v3
    v5 = tanh(v1[..., 0:4])  m3, until v6
"""),
    "pieces with others between them are put side by side anew": (with_a_gap, CALLS, PACKED, """
    v0 = tanh(h)  m4[..., 0:4], until v3
    v2 = exp(h)  m4[..., 8:12], until v3
    v7 = pack(v0, v2)  m5, until v9
"""),
    "what is kept is not computed in columns of one step": (kept_column, CALLS, PACKED, """
    v1 = v0 * 2.0  m1, until v5
    v3 = tanh(v1[..., 0:4])  m2[t], until the end
    v5 = sigmoid(v1[..., 4:8])  m1[..., 4:8], until v6
"""),
    "a loop overwrites columns of all steps one after the other": (of_all_steps, CALLS, PACKED, """
    v1 = x @ v0  m3[t], until v6
    v4 = v1[..., 0:4] * h  m3[t][..., 0:4], until v7
"""),
    "what a loop and others read is computed for all steps at once": (read_by_both, NESTS, {}, """
forward, for all steps at once:
    v0 = exp(x)  m1[t], until v2
"""),
    "what is computed from a sum over time through a view comes after it": (turned_total, NESTS, {"batch": 4}, """
    v1 = tsum(v0)  m3, until v3
    v3 = v1.T * 2.0  m4, until the end
"""),
    "a product is not computed on top of a mask or a column": (on_a_mask_and_a_column, NESTS, {}, """
    v0 = h @ U  m2, until v2
    v5 = h @ V  m3, until v7
"""),
    "a new state comes after the last reader of the old one": (late_state, NESTS, {"states": 2}, """
    v5 = v2 @ W  m3, until v6
  | v4 = v2 * 0.5  m2[t + 1], until the end
"""),
    "what is read after a nest keeps its place": (read_later, NESTS, {}, """
    v0 = h @ U  m2, until v4
    v2 = tanh(v0)  m3, until v3
"""),
    "columns that another nest reads are not overwritten": (half_read_later, NESTS, PACKED, """
    v1 = h @ v0  m4, until v10
  | v3 = tanh(v1[..., 0:4])  m5[..., 0:4], until v5
"""),
    "columns with others behind them are not overwritten": (third_unread, NESTS, PACKED, """
    v1 = h @ v0  m4, until v5
  | v5 = sigmoid(v1[..., 4:8])  m5[..., 4:8], until v7
"""),
    "columns that have fewer results than there are stay where they are": (two_for_one, NESTS, PACKED, """
    v1 = h @ v0  m4, until v5
  | v6 = v3 * v5  m5[..., 0:4], until v8
"""),
    "columns of numbers are not where masks are": (masks, NESTS, PACKED, """
    v1 = h @ v0  m4, until v5
  | v3 = v1[..., 0:4] > 0  m5[..., 0:4], until v6
"""),
    "chosen elements, and columns in another shape, are copies": (looked_at, CALLS, PACKED, """
    v12 = v11[:, array(4,)]  m3, until v13
    v2 = reshape(v0[..., 4:8], shape=(4, 3))  m5, until v3
    v8 = reshape(v0[..., 0:4], shape=(3, 1, 4)) * 2.5  m9, until v9
"""),
    "zeros in another shape are computed": (zeros_reshaped, CALLS, PACKED, """
    v2 = reshape(0, shape=(4, 3))  m2, until v3
"""),
    "a product that others read too is no contraction": (read_twice, CALLS, {"batch": 4}, """
    v2 = x.T @ v1  m2[t], until v4
    v3 = tsum(v2)  m3, until v4
"""),
    "a product of a loop is no contraction": (of_the_loop, NESTS, {"batch": 4}, """
    v1 = h.T @ h  m1[t], until v2
    v2 = tsum(v1)  m3, until the end
"""),
    "only a sum over the batch without its axis is a contraction": (sums_of_rows, CALLS, {"batch": 4}, """
    v3 = sum(v0, axis=(0,), keepdims=True)  m2[t], until v4
    v4 = tsum(v3)  m3, until v5
    v1 = sum(v0, axis=(1,), keepdims=False)  m4[t], until v2
    v2 = tsum(v1)  m5, until v5
"""),
    "a product of two that move is not computed on top of a term": (of_two_that_move, NESTS, {"batch": 4}, """
    v2 = h @ x.T  m2, until v3
  | v3 = v2 + h  registers, until v4
"""),
}  # fmt: skip


@pytest.mark.parametrize("step, policy, options, expected", RULES.values(), ids=RULES)
def test_the_schedule_says_that(step, policy, options, expected):
    lines = squeezed(schedule(circuit(step, **options), policy)).splitlines()
    rest = iter(lines)
    assert [line for line in expected.strip("\n").splitlines() if line not in rest] == [], "\n".join(lines)


def test_columns_that_have_one_in_common_overlap():
    buffer = Buffer((B, 12), np.dtype("float64"), time=True)
    whole = Place(buffer, 1)
    first, second, both = (whole.viewed("part", -1, *at) for at in ((0, 4), (4, 8), (2, 6)))
    assert not first.overlaps(second) and not first.viewed("permute", (1, 0)).overlaps(second)
    assert all(p.overlaps(both) and both.overlaps(p) for p in (first, second, second.viewed("reshape", (4, B)), whole))
    assert not whole.overlaps(Place(Buffer((B, 12), np.dtype("float64"), time=True), 1))


# ---- rows of the batch -----------------------------------------------------------------------------------------------


def halves(v):
    return v.reshape(2 * B, N // 2)


def matrices(x, h):
    """Of each row the products of each of its elements with each other's: (B, N, N)."""
    return x[:, :, None] * h[:, None, :]


# y = formula(x, h, own weights), which is the new h unless it has another shape
ROW_BY_ROW = {
    "a product with weights": lambda x, h, o: ops.tanh(x @ o["U"] + h @ o["W"] + o["b"]),
    "a sum over columns": lambda x, h, o: h * ops.sum(x, 1, keepdims=True),
    "the largest of columns": lambda x, h, o: h * ops.max(x, 1, keepdims=True),
    "columns put together": lambda x, h, o: ops.concat([x[:, :2], h[:, 2:]], 1) * h,
    "some of the columns": lambda x, h, o: h[:, ::2] @ o["U"][:2],
    "rows stacked on columns": lambda x, h, o: ops.sum(ops.stack([x, h], 1), 1),
    "columns as a matrix": lambda x, h, o: ops.max(h.reshape(len(h), 2, 2) * 1.5, 2) @ o["U"][:2],
    "a product of each row's own matrices": lambda x, h, o: ops.sum(matrices(x, h) @ matrices(h, x), 1),
    "a sum over time of products of rows": lambda x, h, o: total(x.T @ ops.exp(x)),
    "a sum over time of products of halves of rows": lambda x, h, o: total(halves(x).T @ halves(ops.exp(x))),
    "a sum over time": lambda x, h, o: total(ops.exp(x)),
}  # fmt: skip
# in these as many rows as columns
ACROSS_ROWS = {
    "a sum": lambda x, h, o: h * ops.sum(matrices(x, h), 0),
    "the largest": lambda x, h, o: h * ops.max(matrices(x, h), 0),
    "the least": lambda x, h, o: h * ops.min(matrices(x, h), 0),
    "rows the other way round": lambda x, h, o: h[::-1] * x,
    "chosen rows": lambda x, h, o: h * x[[1, 0, 2, 3]],
    "one row for all": lambda x, h, o: h + (x[:1] * 1.5),
    "rows put on rows": lambda x, h, o: ops.sum(ops.stack([x, h, x, h], 0) * 1.5, 1),
    "columns as rows": lambda x, h, o: ops.tanh(x @ o["U"]) * h.T,
    "some columns of columns as rows": lambda x, h, o: ops.exp(h.T[:, ::2]) @ o["U"][:2],
    "a number of each row as one of each column": lambda x, h, o: h * ops.sum(x, 1),
    "all of these in every row": lambda x, h, o: h * ops.sum(ops.broadcast_to(ops.sum(x, 1), (N, N)) + x, 1)[:, None],
    "a product of rows with rows": lambda x, h, o: h @ x,
    "a product with weights from the left": lambda x, h, o: o["U"] @ h,
    "a product of all rows with each row's own matrix": lambda x, h, o: ops.sum(h @ matrices(x, h), 1),
}  # fmt: skip


def is_row_by_row(formula, batch):
    def step(x, hs, o):
        y = formula(x, hs[0], o)
        return y, [y if y.shape == x.shape else ops.tanh(hs[0] + x)]

    return by_rows(schedule(circuit(step, batch=batch), NESTS))


@pytest.mark.parametrize("formula", ROW_BY_ROW.values(), ids=ROW_BY_ROW)
def test_the_rows_of_a_batch_can_be_shared_out(formula):
    assert is_row_by_row(formula, B)


@pytest.mark.parametrize("formula", ACROSS_ROWS.values(), ids=ACROSS_ROWS)
def test_the_rows_of_a_batch_cannot_be_shared_out(formula):
    assert not is_row_by_row(formula, N)


def test_rows_that_are_not_those_of_the_batch_are_not_shared_out():
    assert not is_row_by_row(lambda x, h, o: total(x.reshape(N, B).T @ ops.exp(x).reshape(N, B)), B)


@pytest.mark.parametrize("policy", [CALLS, NESTS])
def test_a_circuit_stays_as_it_is(policy):
    c = circuit(delayed)
    before = {name: list(roots) for name, roots in c.roots.items()}
    schedule(c, policy)
    assert c.roots == before


STEPS = {f.__name__: (f, options) for f, _, options, _ in LISTINGS.values() if "batch" not in options}


@pytest.mark.parametrize("step, options", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("policy", [CALLS, NESTS])
def test_a_schedule_renamed_for_another_batch_is_that_of_the_renamed_circuit(step, options, policy):
    renaming = Renaming(101, 7)
    c = circuit(step, batch=101, **options)
    renamed, anew = renaming.schedule(schedule(c, policy)), schedule(renaming.circuit(c), policy)
    assert str(renamed) == str(anew)
    assert [facts(renamed, v) for v in renamed.lifetimes.position] == [facts(anew, v) for v in anew.lifetimes.position]


def facts(s, v):
    """What is known of a value, but for who it is."""
    place, life, flow = s.place.get(v), s.lifetimes, s.flow
    buffer = place and (place.buffer.shape, place.buffer.span, place.views)
    readers = [u and (u.op, u.shape) for u in flow.users.get(v, ())]
    kept, stage = v in life.kept_over_time, [u.op for u in life.stage_of[v].values]
    return v.op, v.shape, buffer, flow.level.get(v), readers, life.last.get(v), kept, stage
