"""ONE table of the ops: what each computes by NumPy's own function or an independent formula, in all its forms."""

import math

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import ops

rng = np.random.default_rng(0)


def R(*shape):
    """Random numbers of both signs."""
    return np.asarray(rng.standard_normal(shape))


def P(*shape):
    """Random numbers away from the poles at 0."""
    return np.asarray(np.abs(rng.standard_normal(shape)) + 0.5)


def ints(high, *shape):
    return rng.integers(0, high, shape)


def bools(*shape):
    return rng.random(shape) < 0.5


class Row(NamedTuple):
    """One form of one op: floats among the inputs are differentiated, integers and booleans are not."""

    op: str
    form: str
    call: Callable
    expected: Callable
    inputs: list


erf = np.vectorize(math.erf, otypes=[np.float64])
phi = lambda x: 0.5 * (1 + erf(x / np.sqrt(2)))
softmax = lambda x, axis: np.exp(x) / np.exp(x).sum(axis, keepdims=True)
squared = lambda x, axis, ddof: ((x - x.mean(axis, keepdims=True)) ** 2).sum(axis) / (x[0].size - ddof)


def logsumexp(x, axis=None, keepdims=False):
    return np.log(np.exp(x).sum(axis, keepdims=keepdims))


def scattered(x, index, values, axis=0):
    """x with values added one by one."""
    out = x.copy()
    for place in np.ndindex(index.shape):
        target = list(place)
        target[axis] = index[place]
        out[tuple(target)] += values[place]
    return out


def convolved(x, w, b=0.0, stride=(1, 1), margins=((0, 0), (0, 0)), dilation=(1, 1)):
    """Each window of images times each kernel, one by one."""
    x, (K, _, *size) = np.pad(x, ((0, 0), (0, 0), *margins)), w.shape
    high, wide = (
        (n - d * (k - 1) - 1) // s + 1 for n, d, k, s in zip(x.shape[2:], dilation, size, stride, strict=True)
    )
    y = np.zeros((len(x), K, high, wide)) + np.reshape(b, (-1, 1, 1))
    for p, q in np.ndindex(high, wide):
        rows, columns = (
            slice(s * at, s * at + d * (k - 1) + 1, d)
            for s, at, d, k in zip(stride, (p, q), dilation, size, strict=True)
        )
        y[:, :, p, q] += np.tensordot(x[:, :, rows, columns], w, ((1, 2, 3), (1, 2, 3)))
    return y


def convolved1(x, w, b=0.0, stride=1, margin=(0, 0), dilation=1):
    """The same of rows."""
    return convolved(x[:, :, None], w[:, :, None], b, (1, stride), ((0, 0), margin), (1, dilation))[:, :, 0]


def pieces(x, ends, axis=0):
    return np.split(x, ends, axis)


S = np.s_
C34, I5 = bools(3, 4), np.array([2, 0, 2, 2, 1])  # I5 names 2 three times

_FORMS = {
    "abs": [("", ops.abs, np.abs, [R(3, 4)])],
    "add": [
        ("broadcast", ops.add, np.add, [R(3, 4), R(4)]),
        ("broadcast both", ops.add, np.add, [R(2, 1, 4), R(3, 1)]),
        ("no axes", ops.add, np.add, [R(), R(3)]),
        ("number on the left", lambda x: ops.add(2.5, x), lambda x: 2.5 + x, [R(3)]),
        ("itself", lambda x: ops.add(x, x), lambda x: 2 * x, [R(3)]),
    ],
    "argmax": [
        ("all", ops.argmax, np.argmax, [R(3, 4)]),
        ("axis", lambda x: ops.argmax(x, 1), lambda x: x.argmax(1), [R(3, 4)]),
        ("keepdims", lambda x: ops.argmax(x, -2, True), lambda x: x.argmax(-2, keepdims=True), [R(3, 4)]),
        ("first of equals", lambda x: ops.argmax(x, 0), lambda x: x.argmax(0), [np.array([[1, 2], [1, 2]])]),
    ],
    "broadcast_to": [
        ("", lambda x: ops.broadcast_to(x, (2, 3, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), [R(3, 1)]),
        ("-1 keeps", lambda x: ops.broadcast_to(x, (2, -1, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), [R(3, 1)]),
        ("no axes", lambda x: ops.broadcast_to(x, (2,)), lambda x: np.broadcast_to(x, (2,)), [R()]),
    ],
    "cast": [("", lambda x: ops.cast(ops.exp(x), dtype=x.dtype), np.exp, [R(3)])],
    "chunk": [
        ("", lambda x: ops.chunk(x, 2, -1), lambda x: pieces(x, [2], -1), [R(3, 4)]),
        ("last smaller", lambda x: ops.chunk(x, 3), lambda x: pieces(x, [2, 4]), [R(5, 2)]),
    ],
    "clip": [
        ("both", lambda x: ops.clip(x, -0.5, 0.5), lambda x: np.clip(x, -0.5, 0.5), [R(5, 4)]),
        ("min", lambda x: ops.clip(x, 0.1), lambda x: np.maximum(x, 0.1), [R(5, 4)]),
        ("max", lambda x: ops.clip(x, max=0.1), lambda x: np.minimum(x, 0.1), [R(5, 4)]),
    ],
    "concat": [
        ("", lambda *xs: ops.concat(xs, 1), lambda *xs: np.concatenate(xs, 1), [R(3, 2), R(3, 1), R(3, 4)]),
        ("one, axis -1", lambda x: ops.concat([x], -1), lambda x: x, [R(3, 2)]),
        ("itself", lambda x: ops.concat([x, x]), lambda x: np.concatenate([x, x]), [R(3, 2)]),
    ],
    "cumsum": [
        ("first", lambda x: ops.cumsum(x, 0), lambda x: x.cumsum(0), [R(3, 4)]),
        ("last", lambda x: ops.cumsum(x, -1), lambda x: x.cumsum(-1), [R(2, 3, 4)]),
    ],
    "div": [
        ("broadcast", ops.div, np.divide, [R(3, 4), P(4)]),
        ("number above", lambda x: ops.div(2.0, x), lambda x: 2.0 / x, [P(3)]),
        ("number below", lambda x: ops.div(x, 3), lambda x: x / 3, [R(3)]),
    ],
    "einsum": [
        (spec, lambda *xs, spec=spec: ops.einsum(spec, *xs), lambda *xs, spec=spec: np.einsum(spec, *xs), inputs)
        for spec, inputs in {
            "ij,jk->ik": [R(3, 4), R(4, 2)],
            "bqd,bsd->bqs": [R(2, 3, 4), R(2, 5, 4)],
            "ij,jk": [R(3, 4), R(4, 2)],
            "ij->ji": [R(3, 4)],
            "ij->": [R(3, 4)],
            "ij->i": [R(3, 4)],
            "ii->i": [R(3, 3)],
            "ii": [R(3, 3)],
            "iij->j": [R(3, 3, 2)],
            "i,j->ij": [R(3), R(4)],
            "ij,ij->": [R(3, 4), R(3, 4)],
            "ij,k->k": [R(3, 4), R(2)],
            "i,ij,j->": [R(3), R(3, 4), R(4)],
            "...ij,...jk->...ik": [R(2, 3, 4), R(2, 4, 2)],
            "...i,i->...": [R(2, 3, 4), R(4)],
            "b...,b->...": [R(2, 3, 4), R(2)],
            ",i->i": [R(), R(3)],
        }.items()
    ]
    + [
        (
            "broadcast ellipsis",
            lambda *xs: ops.einsum("...ij,...jk->...ik", *xs),
            lambda *xs: np.einsum("...ij,...jk->...ik", *xs),
            [R(2, 1, 3, 4), R(5, 4, 2)],
        ),
        (
            "broadcast size 1",
            lambda *xs: ops.einsum("ij,ij->ij", *xs),
            lambda *xs: np.einsum("ij,ij->ij", *xs),
            [R(3, 4), R(1, 4)],
        ),
    ],
    "embedding": [
        ("", ops.embedding, lambda ids, W: W[ids], [I5, R(3, 4)]),
        ("two axes", ops.embedding, lambda ids, W: W[ids], [ints(6, 2, 3), R(6, 2)]),
        ("one id", ops.embedding, lambda ids, W: W[ids], [np.array(1), R(3, 4)]),
    ],
    "argsort": [
        ("", ops.argsort, lambda x: np.argsort(x, kind="stable"), [ints(3, 3, 4)]),
        (
            "descending",
            lambda x: ops.argsort(x, 0, descending=True),
            lambda x: np.argsort(-x, 0, kind="stable"),
            [ints(3, 4, 3)],
        ),
    ],
    "conv1d": [
        ("", ops.conv1d, convolved1, [R(2, 3, 6), R(4, 3, 2)]),
        (
            "all",
            lambda x, w, b: ops.conv1d(x, w, b, 2, 1, 2),
            lambda x, w, b: convolved1(x, w, b, 2, (1, 1), 2),
            [R(2, 2, 7), R(3, 2, 3), R(3)],
        ),
        (
            "same",
            lambda x, w: ops.conv1d(x, w, padding="same"),
            lambda x, w: convolved1(x, w, margin=(1, 2)),
            [R(2, 1, 5), R(2, 1, 4)],
        ),
    ],
    "conv2d": [
        ("", ops.conv2d, convolved, [R(2, 2, 4, 3), R(3, 2, 2, 3)]),
        ("valid", lambda x, w: ops.conv2d(x, w, padding="valid"), convolved, [R(1, 2, 3, 4), R(2, 2, 1, 1)]),
        (
            "all",
            lambda x, w, b: ops.conv2d(x, w, b, (2, 1), (1, 2), (1, 2)),
            lambda x, w, b: convolved(x, w, b, (2, 1), ((1, 1), (2, 2)), (1, 2)),
            [R(2, 1, 4, 5), R(2, 1, 3, 2), R(2)],
        ),
        (
            "more margin than kernel",
            lambda x, w: ops.conv2d(x, w, stride=3, padding=3),
            lambda x, w: convolved(x, w, stride=(3, 3), margins=((3, 3), (3, 3))),
            [R(1, 2, 3, 2), R(2, 2, 2, 1)],
        ),
        (
            "same",
            lambda x, w: ops.conv2d(x, w, padding="same", dilation=(1, 2)),
            lambda x, w: convolved(x, w, margins=((0, 1), (2, 2)), dilation=(1, 2)),
            [R(1, 2, 3, 3), R(1, 2, 2, 3)],
        ),
    ],
    "cos": [("", ops.cos, np.cos, [10 * R(3, 4)])],
    "cumprod": [
        ("", lambda x: ops.cumprod(x, 1), lambda x: np.cumprod(x, 1), [R(3, 5)]),
        ("zeros", lambda x: ops.cumprod(x, -2), lambda x: np.cumprod(x, -2), [R(5, 2) * (ints(3, 5, 2) > 0)]),
        ("one", lambda x: ops.cumprod(x, 0), np.copy, [R(1, 3)]),
    ],
    "elu": [
        ("", ops.elu, lambda x: np.where(x > 0, x, np.exp(x) - 1), [R(3, 4)]),
        ("alpha", lambda x: ops.elu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * (np.exp(x) - 1)), [R(3, 4)]),
    ],
    "expm1": [("", ops.expm1, np.expm1, [R(3, 4)])],
    "dropout": [
        (
            "",
            lambda x: ops.dropout(x, 0.4, rng=np.random.default_rng(5)),
            lambda x: x * (np.random.default_rng(5).random((3, 4), np.float32) >= np.float32(0.4)) / 0.6,
            [R(3, 4)],
        ),
        ("not training", lambda x: ops.dropout(x, 0.4, False), lambda x: x, [R(3)]),
        ("all", lambda x: ops.dropout(x, 1), np.zeros_like, [R(3)]),
    ],
    "floor": [("", ops.floor, np.floor, [3 * R(3, 4)]), ("integers", ops.floor, np.copy, [ints(9, 3)])],
    "fmod": [("", ops.fmod, np.fmod, [5 * R(3, 4), R(4) + 2 * np.sign(R(4))])],
    "leaky_relu": [("", lambda x: ops.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x), [R(3, 4)])],
    "log1p": [("", ops.log1p, np.log1p, [P(3, 4)])],
    "log_sigmoid": [("", ops.log_sigmoid, lambda x: -np.log(1 + np.exp(-x)), [R(3, 4)])],
    "logaddexp": [("", ops.logaddexp, np.logaddexp, [R(3, 4), R(4)])],
    "mod": [
        ("", ops.mod, np.mod, [5 * R(3, 4), 0.5 + np.abs(R(4))]),
        ("of both signs", lambda a: ops.mod(a, -1.5), lambda a: np.mod(a, -1.5), [5 * R(3, 4)]),
    ],
    "norm": [
        ("", ops.norm, lambda x: np.sqrt((x * x).sum()), [R(3, 4)]),
        ("axis", lambda x: ops.norm(x, 2, 1, True), lambda x: np.linalg.norm(x, axis=1, keepdims=True), [R(3, 4)]),
        ("1", lambda x: ops.norm(x, 1, 0), lambda x: np.abs(x).sum(0), [R(3, 4)]),
        ("3", lambda x: ops.norm(x, 3, (0, 1)), lambda x: (np.abs(x) ** 3).sum() ** (1 / 3), [R(3, 4)]),
        ("largest", lambda x: ops.norm(x, math.inf, -1), lambda x: np.abs(x).max(-1), [R(3, 4)]),
    ],
    "outer": [("", ops.outer, np.outer, [R(3), R(4)])],
    "prod": [
        ("", ops.prod, np.prod, [R(3, 3)]),
        ("axis", lambda x: ops.prod(x, 1), lambda x: x.prod(1), [R(2, 7, 3)]),
        ("zeros", lambda x: ops.prod(x, 0, True), lambda x: x.prod(0, keepdims=True), [R(5, 4) * (ints(3, 5, 4) > 0)]),
        ("nothing", lambda x: ops.prod(x, 1), lambda x: x.prod(1), [R(3, 0)]),
    ],
    "roll": [
        ("", lambda x: ops.roll(x, 5), lambda x: np.roll(x, 5), [R(3, 4)]),
        ("axis", lambda x: ops.roll(x, -1, 1), lambda x: np.roll(x, -1, 1), [R(3, 4)]),
        ("no way", lambda x: ops.roll(x, 8, 1), lambda x: np.roll(x, 8, 1), [R(3, 4)]),
    ],
    "round": [
        ("", ops.round, np.round, [np.array([-2.5, -1.5, -0.4, 0.5, 1.5, 2.6])]),
        ("integers", ops.round, np.copy, [ints(9, 3)]),
    ],
    "silu": [("", ops.silu, lambda x: x / (1 + np.exp(-x)), [R(3, 4)])],
    "sin": [("", ops.sin, np.sin, [10 * R(3, 4)]), ("no axes", ops.sin, np.sin, [R()])],
    "sort": [
        ("", lambda x: ops.sort(x)[0], np.sort, [R(3, 4)]),
        ("descending", lambda x: ops.sort(x, 0, True)[0], lambda x: -np.sort(-x, 0), [R(5, 3)]),
    ],
    "std": [
        ("", ops.std, lambda x: x.std(ddof=1), [R(3, 4)]),
        ("axis", lambda x: ops.std(x, 1, True, correction=0), lambda x: x.std(1, keepdims=True), [R(3, 4)]),
    ],
    "tile": [
        ("", lambda x: ops.tile(x, 2), lambda x: np.tile(x, 2), [R(3, 2)]),
        ("axes", lambda x: ops.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3)), [R(3, 2)]),
        ("fewer", lambda x: ops.tile(x, (2,)), lambda x: np.tile(x, (2,)), [R(2, 2)]),
    ],
    "topk": [
        ("", lambda x: ops.topk(x, 2)[0], lambda x: -np.sort(-x)[:, :2], [R(3, 4)]),
        ("smallest", lambda x: ops.topk(x, 3, 0, False)[0], lambda x: np.sort(x, 0)[:3], [R(5, 3)]),
        ("none", lambda x: ops.topk(x, 0)[0], lambda x: x[:, :0], [R(3, 4)]),
    ],
    "equal": [("", ops.equal, np.equal, [ints(3, 3, 4), ints(3, 4)])],
    "erf": [("", ops.erf, erf, [R(3, 4)]), ("no axes", ops.erf, erf, [R()])],
    "exp": [("", ops.exp, np.exp, [R(3, 4)]), ("no axes", ops.exp, np.exp, [R()])],
    "expand_dims": [("", lambda x: ops.expand_dims(x, 1), lambda x: np.expand_dims(x, 1), [R(3, 4)])],
    "flip": [
        ("axis", lambda x: ops.flip(x, 1), lambda x: np.flip(x, 1), [R(3, 4)]),
        ("axes", lambda x: ops.flip(x, (0, -1)), lambda x: np.flip(x, (0, -1)), [R(2, 3, 4)]),
    ],
    "gelu": [
        ("", ops.gelu, lambda x: x * phi(x), [R(3, 4)]),
        (
            "tanh",
            lambda x: ops.gelu(x, "tanh"),
            lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
            [R(3, 4)],
        ),
    ],
    "getitem": [
        (name, lambda x, *_, key=key: ops.getitem(x, key), lambda x, *_, key=key: x[key], [R(3, 4, 2)])
        for name, key in {
            "integer": 1,
            "negative integer": S[-1, :, -2],
            "slice": S[:, 1:3],
            "step": S[::2, ::-1],
            "ellipsis": S[..., 0],
            "new axis": S[None, :, 1, None],
            "all integers": S[1, 2, 0],
            "empty slice": S[3:],
            "list": [2, 0, 2],
            "nothing": (),
        }.items()
    ]
    + [
        (name, lambda x, *k, key=key: ops.getitem(x, key(*k)), lambda x, *k, key=key: x[key(*k)], [R(3, 4, 2), *arrays])
        for name, key, arrays in [
            ("integers twice", lambda i: i, [I5]),
            ("integers of two axes", lambda i: i, [ints(3, 2, 2)]),
            ("negative integers", lambda i: i, [np.array([-1, 2, -3])]),
            ("integers in the middle", lambda i: S[:, i], [I5]),
            ("two integer arrays", lambda i, j: S[i, j], [I5, I5]),
            ("apart", lambda i, j: S[i, :, j], [I5 % 2, I5 % 2]),
            ("integer array and integer", lambda i: S[i, 1], [I5]),
            ("integer array and slice", lambda i: S[::2, i, ..., None], [I5]),
            ("broadcast arrays", lambda i, j: S[i, j], [I5[:, None], I5[None, :2]]),
            ("mask", lambda m: m, [C34]),
            ("mask of rows", lambda m: m, [np.array([True, False, True])]),
            ("mask in the middle", lambda m: S[1:, m], [np.array([True, False, True, True])]),
            ("mask of nothing", lambda m: m, [np.zeros((3, 4), bool)]),
        ]
    ],
    "greater": [("", ops.greater, np.greater, [ints(3, 3, 4), ints(3, 4)])],
    "greater_equal": [("", ops.greater_equal, np.greater_equal, [ints(3, 3, 4), ints(3, 4)])],
    "isnan": [("", ops.isnan, np.isnan, [np.array([1.0, np.nan, np.inf])])],
    "less": [("", ops.less, np.less, [ints(3, 3, 4), ints(3, 4)])],
    "less_equal": [("", ops.less_equal, np.less_equal, [ints(3, 3, 4), ints(3, 4)])],
    "log": [("", ops.log, np.log, [P(3, 4)])],
    "log_softmax": [
        ("", ops.log_softmax, lambda x: np.log(softmax(x, -1)), [R(3, 4)]),
        ("axis", lambda x: ops.log_softmax(x, 0), lambda x: np.log(softmax(x, 0)), [R(3, 4, 2)]),
    ],
    "logical_and": [("", ops.logical_and, np.logical_and, [bools(3, 4), bools(4)])],
    "logical_not": [("", ops.logical_not, np.logical_not, [bools(3, 4)])],
    "logical_or": [("", ops.logical_or, np.logical_or, [bools(3, 4), bools(4)])],
    "logsumexp": [
        (
            f"axis {axis}, keepdims {keep}",
            lambda x, axis=axis, keep=keep: ops.logsumexp(x, axis, keep),
            lambda x, axis=axis, keep=keep: logsumexp(x, axis, keep),
            [R(2, 3, 4)],
        )
        for axis in (None, 0, -1, (0, 2))
        for keep in (False, True)
    ],
    "masked_fill": [
        ("", lambda x, m: ops.masked_fill(x, m, 7.0), lambda x, m: np.where(m, 7.0, x), [R(3, 4), C34]),
        (
            "infinity",
            lambda x, m: ops.softmax(ops.masked_fill(x, m, -math.inf)),
            lambda x, m: np.where(m, 0, np.exp(x)) / np.where(m, 0, np.exp(x)).sum(-1, keepdims=True),
            [R(3, 4), np.eye(3, 4) > 0],
        ),
    ],
    "matmul": [
        (f"{a.shape} @ {b.shape}", ops.matmul, np.matmul, [a, b])
        for a, b in [
            (R(3, 4), R(4, 2)),
            (R(2, 3, 4), R(4, 5)),
            (R(2, 6, 3, 4), R(4, 5)),
            (R(3, 4), R(2, 4, 5)),
            (R(2, 3, 4), R(2, 4, 5)),
            (R(2, 1, 3, 4), R(5, 4, 2)),
            (R(1, 3, 4), R(5, 4, 2)),
            (R(4), R(4)),
            (R(4), R(4, 2)),
            (R(3, 4), R(4)),
            (R(2, 3, 4), R(4)),
            (R(4), R(2, 4, 3)),
            (R(1, 1), R(1, 1)),
        ]
    ]
    + [("itself", lambda x: ops.matmul(x, x), lambda x: x @ x, [R(3, 3)])],
    **{
        name: [
            (
                f"axis {axis}, keepdims {keep}",
                lambda x, op=op, axis=axis, keep=keep: op(x, axis, keep),
                lambda x, f=f, axis=axis, keep=keep: f(x, axis=axis, keepdims=keep),
                [R(2, 3, 4)],
            )
            for axis in (None, 1, -1, (0, 2), (-1, 0), ())
            for keep in (False, True)
        ]
        + [("no axes", op, f, [R()])]
        for name, op, f in [
            ("max", ops.max, np.max),
            ("mean", ops.mean, np.mean),
            ("min", ops.min, np.min),
            ("sum", ops.sum, np.sum),
        ]
    },
    "maximum": [
        ("broadcast", ops.maximum, np.maximum, [R(3, 4), R(4)]),
        ("number", lambda x: ops.maximum(x, 0.1), lambda x: np.maximum(x, 0.1), [R(3, 4)]),
    ],
    "minimum": [("broadcast", ops.minimum, np.minimum, [R(3, 1), R(4)])],
    "mul": [
        ("broadcast", ops.mul, np.multiply, [R(2, 3, 4), R(3, 1)]),
        ("itself", lambda x: ops.mul(x, x), np.square, [R(3)]),
        ("number", lambda x: ops.mul(x, -2), lambda x: x * -2, [R(3)]),
    ],
    "neg": [("", ops.neg, np.negative, [R(3, 4)])],
    "not_equal": [("", ops.not_equal, np.not_equal, [ints(3, 3, 4), ints(3, 4)])],
    "one_hot": [
        ("", lambda i: ops.one_hot(i, 4), lambda i: np.eye(4)[i], [I5]),
        ("two axes", lambda i: ops.one_hot(i, 7), lambda i: (i[..., None] == np.arange(7)) * 1.0, [ints(7, 2, 3)]),
    ],
    "pad": [
        ("zeros", lambda x: ops.pad(x, [(1, 2), (0, 1)]), lambda x: np.pad(x, [(1, 2), (0, 1)]), [R(3, 4)]),
        ("value", lambda x: ops.pad(x, [(1, 0)], 2.5), lambda x: np.pad(x, [(1, 0)], constant_values=2.5), [R(3)]),
    ],
    "permute": [
        ("", lambda x: ops.permute(x, (2, 0, 1)), lambda x: x.transpose(2, 0, 1), [R(2, 3, 4)]),
        ("negative", lambda x: ops.permute(x, (-1, 0, -2)), lambda x: x.transpose(2, 0, 1), [R(2, 3, 4)]),
    ],
    "pow": [
        ("of tensors", ops.pow, np.power, [P(3, 4), R(4)]),
        ("whole number", lambda x: ops.pow(x, 3), lambda x: x * x * x, [R(3, 4)]),
        ("negative number", lambda x: ops.pow(x, -2), lambda x: 1 / (x * x), [P(3, 4)]),
        ("half", lambda x: ops.pow(x, 0.5), np.sqrt, [P(3, 4)]),
        ("zero", lambda x: ops.pow(x, 0), np.ones_like, [R(3, 4)]),
        ("of a number", lambda x: ops.pow(2, x), np.exp2, [R(3, 4)]),
        ("of integers", ops.pow, lambda a, b: a**b, [P(3, 4), ints(4, 3, 4).astype(np.int8)]),
    ],
    "relu": [("", ops.relu, lambda x: x * (x > 0), [R(3, 4)])],
    "reshape": [
        ("", lambda x: ops.reshape(x, (4, 3)), lambda x: x.reshape(4, 3), [R(3, 4)]),
        ("-1", lambda x: ops.reshape(x, (2, -1)), lambda x: x.reshape(2, 6), [R(3, 4)]),
        ("flat", lambda x: ops.reshape(x, -1), lambda x: x.reshape(12), [R(3, 4)]),
        ("no axes", lambda x: ops.reshape(x, ()), lambda x: x.reshape(()), [R(1, 1)]),
    ],
    "scatter_add": [
        (
            f"axis {axis}",
            lambda x, i, v, axis=axis: ops.scatter_add(x, i, v, axis),
            lambda x, i, v, axis=axis: scattered(x, i, v, axis),
            [R(4, 3), ints(3, 3, 2), R(3, 2)],
        )
        for axis in (0, 1)
    ]
    + [("vector", ops.scatter_add, scattered, [R(3), I5, R(5)])],
    "sigmoid": [
        ("", ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), [R(3, 4)]),
        ("no axes", ops.sigmoid, lambda x: 1 / (1 + np.exp(-x)), [R()]),
    ],
    "sign": [("", ops.sign, np.sign, [np.array([-2.0, 0.0, 3.0])])],
    "softmax": [
        ("", ops.softmax, lambda x: softmax(x, -1), [R(3, 4)]),
        ("axis", lambda x: ops.softmax(x, 1), lambda x: softmax(x, 1), [R(2, 3, 4)]),
    ],
    "softplus": [("", ops.softplus, lambda x: np.log(1 + np.exp(x)), [R(3, 4)])],
    "split": [
        ("sizes", lambda x: ops.split(x, [1, 3], 1), lambda x: pieces(x, [1], 1), [R(3, 4)]),
        ("size", lambda x: ops.split(x, 2), lambda x: pieces(x, [2, 4]), [R(5, 2)]),
        ("one unused", lambda x: ops.split(x, [2, 1, 2])[::2], lambda x: [x[:2], x[3:]], [R(5, 2)]),
    ],
    "sqrt": [("", ops.sqrt, np.sqrt, [P(3, 4)])],
    "squeeze": [
        ("all", ops.squeeze, np.squeeze, [R(1, 3, 1, 2)]),
        ("axis", lambda x: ops.squeeze(x, -2), lambda x: x.squeeze(-2), [R(1, 3, 1, 2)]),
        ("axes", lambda x: ops.squeeze(x, (0, 2)), lambda x: x.squeeze((0, 2)), [R(1, 3, 1, 2)]),
    ],
    "stack": [
        (
            f"axis {axis}",
            lambda *xs, axis=axis: ops.stack(xs, axis),
            lambda *xs, axis=axis: np.stack(xs, axis),
            [R(3, 2), R(3, 2), R(3, 2)],
        )
        for axis in (0, 1, -1)
    ],
    "sub": [
        ("broadcast", ops.sub, np.subtract, [R(3, 4), R(3, 1)]),
        ("number on the left", lambda x: ops.sub(1, x), lambda x: 1 - x, [R(3)]),
    ],
    "swapaxes": [("", lambda x: ops.swapaxes(x, -1, 0), lambda x: x.swapaxes(-1, 0), [R(2, 3, 4)])],
    "take": [
        ("rows", ops.take, lambda x, i: x.take(i, 0), [R(3, 4), I5]),
        ("axis", lambda x, i: ops.take(x, i, 1), lambda x, i: x.take(i, 1), [R(2, 3, 4), ints(3, 2, 2)]),
        ("last axis", lambda x, i: ops.take(x, i, -1), lambda x, i: x.take(i, -1), [R(2, 3), I5]),
    ],
    "take_along_axis": [
        (
            f"axis {axis}",
            lambda x, i, axis=axis: ops.take_along_axis(x, i, axis),
            lambda x, i, axis=axis: np.take_along_axis(x, i, axis),
            [R(3, 4), index],
        )
        for axis, index in ((-1, ints(4, 3, 6)), (0, ints(3, 2, 4)), (1, ints(4, 1, 2)))
    ],
    "tanh": [("", ops.tanh, np.tanh, [R(3, 4)]), ("no axes", ops.tanh, np.tanh, [R()])],
    "transfer": [
        (
            "there and back",
            lambda x: ops.transfer(ops.transfer(x, device="cpu", source=x.device) * 2, device=x.device, source="cpu"),
            lambda x: 2 * x,
            [R(3, 4)],
        )
    ],
    "transpose": [("", lambda x: ops.transpose(x, 0, 2), lambda x: x.swapaxes(0, 2), [R(2, 3, 4)])],
    "unbind": [
        ("", ops.unbind, list, [R(3, 4)]),
        ("axis", lambda x: ops.unbind(x, -1), lambda x: list(np.moveaxis(x, -1, 0)), [R(2, 3)]),
        ("one unused", lambda x: ops.unbind(x)[1:], lambda x: list(x[1:]), [R(3, 4)]),
    ],
    "uniform": [
        (
            "",
            lambda: ops.uniform((3, 4), np.random.default_rng(5)),
            lambda: np.random.default_rng(5).random((3, 4), np.float32),
            [],
        ),
        ("one axis", lambda: ops.uniform(3) * 0 + 1, lambda: np.ones(3), []),
        ("no axes", lambda: ops.uniform(()) < 1, lambda: np.asarray(True), []),
    ],
    "unsqueeze": [
        (
            f"axis {axis}",
            lambda x, axis=axis: ops.unsqueeze(x, axis),
            lambda x, axis=axis: np.expand_dims(x, axis),
            [R(3, 4)],
        )
        for axis in (0, 2, -1, -3)
    ],
    "var": [
        ("", ops.var, lambda x: x.var(ddof=1), [R(3, 4)]),
        ("axis", lambda x: ops.var(x, 0), lambda x: x.var(0, ddof=1), [R(3, 4)]),
        ("of the values", lambda x: ops.var(x, (1, -1), correction=0), lambda x: x.var((1, 2)), [R(2, 3, 4)]),
        (
            "keepdims",
            lambda x: ops.var(x, -1, True),
            lambda x: ((x - x.mean(-1, keepdims=True)) ** 2).sum(-1, keepdims=True) / 3,
            [R(3, 4)],
        ),
    ],
    "where": [
        ("broadcast", ops.where, np.where, [C34, R(3, 4), R(3, 1)]),
        ("number", lambda c, a: ops.where(c, a, 0.5), lambda c, a: np.where(c, a, 0.5), [C34, R(3, 4)]),
        ("condition of one axis", ops.where, np.where, [bools(4), R(), R(3, 4)]),
    ],
}

TABLE = [Row(op, *form) for op, forms in _FORMS.items() for form in forms]
NO_DERIVATIVE = {
    "argmax",
    "argsort",
    "floor",
    "round",
    "equal",
    "greater",
    "greater_equal",
    "isnan",
    "less",
    "less_equal",
    "logical_and",
    "logical_not",
    "logical_or",
    "not_equal",
    "one_hot",
    "sign",
    "uniform",
}
DIFFERENTIABLE = [row for row in TABLE if row.op not in NO_DERIVATIVE]
ids = lambda rows: [f"{row.op} {row.form}".strip() for row in rows]


# ---- measuring a row -----------------------------------------------------------------------------------------------


def listed(ys):
    """The results of a call, one or several, as a list."""
    return list(ys) if isinstance(ys, (tuple, list)) else [ys]


def tensors(row, dtype=np.float64):
    """The inputs as tensors on the default device, the floats in `dtype` and asking for a gradient."""
    return [tg.tensor(x.astype(dtype), requires_grad=True) if x.dtype.kind == "f" else tg.tensor(x) for x in row.inputs]


def weighted(ys, seed=1):
    """Σ of everything in ys by fixed random weights: a scalar of which each element's gradient differs."""
    rng = np.random.default_rng(seed)
    total = 0
    for y in ys:
        total = total + (y * tg.tensor(rng.standard_normal(y.shape).astype(y.dtype))).sum()
    return total


def numbers(row, dtype=np.float64):
    """The values of a row, its derivatives, the derivatives again by create_graph, and its second derivatives."""
    xs = tensors(row, dtype)
    wrt = [x for x in xs if x.requires_grad]
    ys = listed(row.call(*xs))
    first = tg.grad(weighted(ys), wrt)
    again = tg.grad(weighted(listed(row.call(*xs))), wrt, create_graph=True)
    bent = [g for g in again if g.requires_grad]
    second = tg.grad(weighted(bent, 2), wrt, allow_unused=True) if bent else ()
    return ys, first, again, second
