"""Loop distribution: what must run step by step, and what runs once for all steps.

The strongly connected components over the delay edges are the loops over time. A value on no cycle does not depend on
its own past: it is computed for all steps at once (or, if it does not move, once for each call).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.levels import Levels, levels
from tinygrad_rnn.compiler.ir.value import Value


def reassociate(c: Circuit) -> None:
    """Chains of + and of *: what does not move with the loop first, so that it can leave the loop.

    g - g*y*y becomes g * (1 - y*y), and so is most of an activation's derivative computed outside the backward loop.
    """
    _multiply(c)
    _factor_out(c)
    level, users = levels(c), c.users()

    def visit(v: Value, new: Any) -> Value:
        args = tuple(map(new, v.args))
        if v.op not in ("add", "mul") or level[v] < 0 or _inner(v, users[v], level):
            return remake(c, v, args)
        terms = chain(v, users)
        if not _alike(v, terms):
            return remake(c, v, args)
        here = lambda t: isinstance(t, Value) and level[t] == level[v]
        early, late = [t for t in terms if not here(t)], [t for t in terms if here(t)]
        if len(early) < 2 or not late:
            return remake(c, v, args)
        early.sort(key=lambda t: _size(t), reverse=True)  # full-size terms first, then biases and numbers
        total = new(early[0])
        for t in [*early[1:], *late]:
            total = _again(c, v, total, new(t))
        return total

    c.rebuild(visit)


def _inner(v: Value, readers: list[Value | None], level: Levels) -> bool:
    """Does a longer chain take it in?"""
    u = readers[0]
    if u is None or len(readers) > 1 or level[u] != level[v]:
        return False
    return (u.op, u.shape, u.dtype) == (v.op, v.shape, v.dtype) and u.args[0] is not u.args[1]


def _multiply(c: Circuit) -> None:
    """g / s = g * (1 / s), where the reciprocal need not be computed in the loop: as a factor it can join others."""
    level = levels(c)

    def visit(v: Value, new: Any) -> Value:
        args = tuple(map(new, v.args))
        if v.op == "div" and level[v] >= 0 and v.dtype.kind == "f" and all(isinstance(a, Value) for a in v.args):
            g, s = v.args
            if level[g] == level[v] != level[s] and g.dtype == s.dtype:
                return c.make("mul", args[0], c.make("div", 1, args[1]))
        return remake(c, v, args)

    c.rebuild(visit)


def _factor_out(c: Circuit) -> None:
    """g - g*a*b = g * (1 - a*b), where nobody else reads the product."""
    users = c.users()

    def visit(v: Value, new: Any) -> Value:
        args = tuple(map(new, v.args))
        if v.op == "sub" and all(isinstance(a, Value) and a.shape == v.shape for a in v.args):
            g, product = v.args
            if product.op == "mul" and users[product] == [v]:
                factors = chain(product, users)
                if factors.count(g) == 1 and _alike(v, factors):
                    factors.remove(g)
                    rest = new(factors[0])
                    for f in factors[1:]:
                        rest = c.make("mul", rest, new(f))
                    return c.make("mul", args[0], c.make("sub", 1, rest))
        return remake(c, v, args)

    c.rebuild(visit)


def _alike(v: Value, terms: list[Any]) -> bool:
    """Are they all of the dtype of the result, a real one? The order of others matters: for masks + is \"or\"."""
    return v.dtype.kind == "f" and all(t.dtype == v.dtype for t in terms if isinstance(t, Value))


def _again(c: Circuit, v: Value, a: Any, b: Any) -> Any:
    if not isinstance(a, Value) and not isinstance(b, Value):
        return a + b if v.op == "add" else a * b
    return remake(c, c.make(v.op, a, b), (a, b))


def _size(t: Any) -> int:
    return int(np.prod(t.shape)) if isinstance(t, Value) else 0


def chain(v: Value, users: dict[Value, list[Value | None]]) -> list[Any]:
    """The terms of a sum (the factors of a product) of any depth whose inner results nobody else reads."""
    terms: list[Any] = []
    stack = list(reversed(v.args))
    while stack:
        a = stack.pop()
        alike = isinstance(a, Value) and (a.op, a.shape, a.dtype) == (v.op, v.shape, v.dtype)
        if alike and len(users[a]) == 1 and v.args[0] is not v.args[1]:
            stack += reversed(a.args)
        else:
            terms.append(a)
    return terms
