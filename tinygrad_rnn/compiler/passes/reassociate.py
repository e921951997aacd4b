"""Loop distribution: what must run step by step, and what runs once for all steps.

The strongly connected components over the delay edges are the loops over time. A value on no cycle does not depend on
its own past: it is computed for all steps at once (or, if it does not move, once for each call).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit, Value
from tinygrad_rnn.compiler.passes.normalise import remake

PER_CALL, PARALLEL = -2, -1  # levels; 0, 1, … are loops

# Operations with a form for all steps at once; any other runs step by step, in a loop of its own.
BATCHED = {
    "matmul", "sum", "max", "min", "logsumexp", "softmax", "log_softmax", "cumsum", "concat", "stack", "permute",
    "reshape", "broadcast_to", "flip", "pad", "getitem", "scatter", "part", "pack", "splat", "spread", "sums", "dots",
    "zeros", "copy", "tsum", "input",
}  # fmt: skip

Levels = dict[Value, int]


def batched(v: Value) -> bool:
    """Has the operation a form for all steps at once?"""
    if v.op in ("getitem", "scatter"):  # NumPy puts the axes of several index arrays first
        key = v.static["key"]
        return sum(isinstance(k, np.ndarray) for k in (key if isinstance(key, tuple) else (key,))) < 2
    if v.op == "gather":
        return len(v.static["key"]) == 1 and not v.args[0].moves
    return v.pointwise or v.op in BATCHED or (v.op == "argmax" and v.static["axis"] is not None)


def levels(c: Circuit) -> Levels:
    """PER_CALL: the same at every step. PARALLEL: not on a cycle. n ≥ 0: on the cycles of loop n."""
    order = c.order()
    level = {v: PARALLEL if v.moves else PER_CALL for v in order}
    before = {v: [a for a in v.values if a.moves] for v in order if v.moves}
    for s, v, _ in c.delays:
        if s in before and v in before:
            before[s] = [*before[s], v]
    for v in before:
        if v.op == "pick":  # in the loop of the operation whose output it is
            before[v.args[0]] = [*before[v.args[0]], v]
    loops = 0
    for members in _cycles(before):
        if len(members) > 1 or members[0] in before[members[0]] or not batched(members[0]):
            level.update(dict.fromkeys(members, loops))
            loops += 1
    return level


def _cycles(before: dict[Value, list[Value]]) -> list[list[Value]]:
    """The strongly connected components of a graph. Tarjan (1972), without recursion."""
    number: dict[Value, int] = {}
    low: dict[Value, int] = {}
    stack: list[Value] = []
    on_stack: set[Value] = set()
    found: list[list[Value]] = []
    for root in before:
        if root in number:
            continue
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        work = [(root, iter(before[root]))]
        while work:
            v, rest = work[-1]
            w = next(rest, None)
            if w is not None:
                if w not in number:
                    number[w] = low[w] = len(number)
                    stack.append(w)
                    on_stack.add(w)
                    work.append((w, iter(before[w])))
                elif w in on_stack:
                    low[v] = min(low[v], number[w])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[v])
            if low[v] == number[v]:
                members = [stack.pop()]
                while members[-1] is not v:
                    members.append(stack.pop())
                found.append(members)
                on_stack.difference_update(members)
    return found


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
