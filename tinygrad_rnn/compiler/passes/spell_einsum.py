"""Einstein sums as products: what is left to np.einsum finds its way anew at each step."""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.value import Value


def spelled_out(c: Circuit, args: tuple[Value, ...], spec: str) -> Value | None:
    """The sum by matmul, mul, sum, permute and reshape; None where an axis of size 1 is repeated."""
    left, _, out = spec.partition("->")
    terms = left.split(",")
    sizes: dict[str, int] = {}
    for term, a in zip(terms, args, strict=True):
        for letter, n in zip(term, a.shape, strict=True):
            if sizes.setdefault(letter, n) != n:
                return None
    work = list(zip(terms, args, strict=True))
    path: list[Any] = [tuple(range(len(work)))]
    if len(work) > 2:
        path = np.einsum_path(spec, *[stand_in(a.shape, a.dtype) for a in args], optimize="greedy")[0][1:]
    for at in path:
        first, *others = [work[i] for i in at]
        work = [w for i, w in enumerate(work) if i not in at]
        while True:
            wanted = out + "".join(term for term, _ in [*work, *others])
            first = _summed(c, first, wanted)
            if not others:
                break
            second, *others = others
            wanted = out + "".join(term for term, _ in [*work, *others])
            first = _product(c, first, _summed(c, second, wanted + first[0]), wanted, sizes)
        work.append(first)
    return _ordered(c, *work[0], out)


def _summed(c: Circuit, pair: tuple[str, Value], wanted: str) -> tuple[str, Value]:
    """Without the axes that nothing else names."""
    term, a = pair
    axes = tuple(i for i, letter in enumerate(term) if letter not in wanted)
    if not axes:
        return term, a
    return "".join(x for x in term if x in wanted), c.make("sum", a, axis=axes, keepdims=False)


def _ordered(c: Circuit, term: str, a: Value, out: str) -> Value:
    return a if term == out else c.make("permute", a, axes=tuple(term.index(x) for x in out))


def _product(c: Circuit, p: tuple[str, Value], q: tuple[str, Value], wanted: str, sizes: dict) -> tuple[str, Value]:
    """The sum of two over the axes that both have and nobody wants."""
    if q[1].moves and not p[1].moves:
        p, q = q, p  # rows of a step @ weights
    (s, a), (t, b) = p, q
    both = [x for x in s if x in t]
    inner = [x for x in both if x not in wanted]
    batch = [x for x in both if x in wanted]
    rows, columns = [x for x in s if x not in t], [x for x in t if x not in s]
    shape = lambda *letters: tuple(sizes[x] for group in letters for x in group)
    size = lambda letters: math.prod(shape(letters))
    a = _ordered(c, s, a, "".join(batch + rows + inner))
    b = _ordered(c, t, b, "".join(batch + inner + columns))
    if inner:
        a = c.make("reshape", a, shape=(*shape(batch), size(rows), size(inner)))
        b = c.make("reshape", b, shape=(*shape(batch), size(inner), size(columns)))
        y = c.make("reshape", c.make("matmul", a, b), shape=shape(batch, rows, columns))
    else:
        b = c.make("reshape", b, shape=(*shape(batch), *(1,) * len(rows), *shape(columns)))
        a = c.make("reshape", a, shape=(*shape(batch, rows), *(1,) * len(columns)))
        y = c.make("mul", a, b)
    return "".join(batch + rows + columns), y
