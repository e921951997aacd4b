"""Algebra: signs, numbers and what is the same along an axis are taken out of products and sums, where they cost less.

    (-a) b = -(a b)      a + (-b) = a - b      (a · 2) · 3 = a · 6      Σⱼ aⱼ n = n Σⱼ aⱼ      x + t + t = x + 2 t

Derivative rules leave such things behind: each is right on its own, and together they undo each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value

Rule = Callable[[Circuit, Value, list[Any]], "Value | None"]


def simplify(c: Circuit) -> None:
    """Apply the rules to all values, what they are computed from first."""
    _use_quotients(c, c.users())
    users = c.users()

    def visit(v: Value, new: Callable) -> Value:
        args = [new(a) for a in v.args]
        if v.pointwise and any(isinstance(a, Value) and a.op != "broadcast_to" and a.shape == v.shape for a in args):
            args = [_unspread(a) for a in args]  # operands broadcast by themselves
        rule = RULES.get(v.op)
        fits = rule is not None and v.moves and v.dtype.kind == "f" and _plain(v, args)
        shared = v.op == "sum" and len(users[v.args[0]]) > 1  # it would be computed twice
        made = rule(c, v, args) if rule and fits and not shared else None
        return remake(c, v, tuple(args)) if made is None else made

    c.rebuild(visit)


def _use_quotients(c: Circuit, users: dict[Value, list[Value | None]]) -> None:
    """a n = (a / s) (n s), if there is a / s and the others are one number for each row: nobody need keep a itself."""

    def visit(v: Value, new: Callable) -> Value:
        pairs = (v.args, v.args[::-1]) if v.op == "mul" and v.moves else ()
        for a, n in pairs:
            if isinstance(a, Value) and isinstance(n, Value) and a.shape == v.shape != n.shape and n.moves:
                for u in users[a]:
                    s = u.args[1] if u is not None and u.op == "div" and u.args[0] is a and u.index < v.index else None
                    if isinstance(s, Value) and s.shape == _unspread(n).shape and s.dtype == a.dtype == n.dtype:
                        return c.make("mul", new(u), c.make("mul", new(_unspread(n)), new(s)))
        return remake(c, v, tuple(map(new, v.args)))

    c.rebuild(visit)


def _plain(v: Value, args: list[Any]) -> bool:
    """Are all operands numbers and values of one dtype?"""
    return all(a.dtype == v.dtype if isinstance(a, Value) else isinstance(a, (int, float)) for a in args)


def _inner(a: Any, op: str) -> Any:
    """The first argument, if it is such an operation's; else None."""
    return a.args[0] if isinstance(a, Value) and a.op == op else None


def _unspread(a: Any) -> Any:
    found = _inner(a, "broadcast_to")
    return a if found is None else found


def _number(a: Any) -> bool:
    return isinstance(a, (int, float)) and not isinstance(a, bool)


def _factored(a: Any) -> tuple[Any, float] | None:
    """(x, k) if a is x · k or x / k."""
    if isinstance(a, Value) and a.op in ("mul", "div"):
        x, k = a.args
        if _number(k) and k and isinstance(x, Value) and x.dtype == a.dtype:
            return x, float(k) if a.op == "mul" else 1 / float(k)
        if _number(x) and a.op == "mul" and k.dtype == a.dtype:
            return k, float(x)
    return None


def times(c: Circuit, x: Value, k: float) -> Value:
    """x · k, the number with the smallest of the factors of x."""
    found = _factored(x)
    if found is not None:
        return times(c, found[0], found[1] * k)
    if x.op == "neg":
        return times(c, x.args[0], -k)
    if x.op in ("mul", "div") and isinstance(x.args[0], Value) and isinstance(x.args[1], Value):
        a, b = x.args
        if _size(a) < _size(x) and a.dtype == x.dtype:
            return c.make(x.op, times(c, a, k), b, primitive=x.primitive)
        if x.op == "mul" and _size(b) < _size(x) and b.dtype == x.dtype:
            return c.make("mul", a, times(c, b, k))
    return x if k == 1 else c.make("neg", x) if k == -1 else c.make("mul", x, k)


def _size(x: Value) -> int:
    return int(np.prod(x.shape))


def _mul(c: Circuit, v: Value, args: list[Any]) -> Value | None:
    a, b = args
    for p, q in ((a, b), (b, a)):
        if _number(q) and isinstance(p, Value) and (p.op == "neg" or _factored(p)):
            return times(c, p, float(q))
        if (x := _inner(p, "neg")) is not None:
            return c.make("neg", remake(c, c.make("mul", x, q), (x, q)))
    return None


def _div(c: Circuit, v: Value, args: list[Any]) -> Value | None:
    a, b = args
    if _number(b) and b and isinstance(a, Value) and (a.op == "neg" or _factored(a)):
        return times(c, a, 1 / float(b))
    if (x := _inner(a, "neg")) is not None:
        return c.make("neg", c.make("div", x, b))
    return None


def _sum(c: Circuit, v: Value, args: list[Any]) -> Value | None:
    x = args[0]
    summed = lambda y: _taken_out(c, v, y) or c.make("sum", y, primitive=v.primitive, **v.static)
    if (y := _inner(x, "neg")) is not None:
        return c.make("neg", summed(y))
    return _taken_out(c, v, x)


def _taken_out(c: Circuit, v: Value, x: Value) -> Value | None:
    """Σ a n = n Σ a for what is the same along the axes of a sum that keeps them."""
    if x.op not in ("mul", "div") or not v.static["keepdims"]:
        return None
    if not all(isinstance(a, Value) and a.dtype == v.dtype for a in x.args):
        return None
    same = lambda n: n.shape == v.shape and n.shape != x.shape
    whole = lambda a: a.shape == x.shape
    for a, n in (x.args, x.args[::-1]) if x.op == "mul" else (x.args,):
        if whole(a) and same(n):
            return c.make(x.op, c.make("sum", a, primitive=v.primitive, **v.static), n, primitive=x.primitive)
    return None


def _add(c: Circuit, v: Value, args: list[Any]) -> Value | None:
    a, b = args
    for p, q in ((a, b), (b, a)):
        if (x := _inner(q, "neg")) is not None and isinstance(p, Value) and p.shape == x.shape == v.shape:
            return c.make("sub", p, x)
    for p, t in ((a, b), (b, a)):  # (x + t) + t
        if isinstance(p, Value) and p.op == "add" and isinstance(t, Value) and t.shape == v.shape and t in p.args:
            x = p.args[0] if p.args[1] is t else p.args[1]
            return c.make("add", x, times(c, t, 2.0))
    return None


def _sub(c: Circuit, v: Value, args: list[Any]) -> Value | None:
    x = _inner(args[1], "neg")
    return None if x is None else c.make("add", args[0], x)


RULES: dict[str, Rule] = {"mul": _mul, "div": _div, "sum": _sum, "add": _add, "sub": _sub}
