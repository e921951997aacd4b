"""A circuit as text: one line for each value, an equation where it is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from tinygrad_rnn.autograd.arrays import is_array
from tinygrad_rnn.compiler.ir.value import Value

# ---- printing -------------------------------------------------------------------------------------------------------

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "matmul": "@", "greater": ">", "greater_equal": ">=",
    "less": "<", "less_equal": "<=", "equal": "==", "not_equal": "!=", "logical_and": "&", "logical_or": "|",
}  # fmt: skip


def listing(c: Any) -> Iterator[str]:
    """The circuit as a program, a line for each value."""
    order, names = c.order(), names_of(c)
    inputs = [v for v in names if v.op == "input"]
    forward = set(c.order([v for name in ("y", "state") for v in c.roots[name] if v is not None]))
    usual = Counter(v.dtype for v in order).most_common(1)[0][0]
    of = lambda v: f"{v.shape}{f' {v.dtype}' if v.dtype != usual else ''}"
    for title, inside in (("forward", True), ("backward", False)):
        values = [v for v in order if (v in forward) == inside]
        if values:
            yield f"{title}({', '.join(f'{names[v]} {of(v)}' for v in inputs if v in values)}):"
            yield from (f"    {f'{names[v]} = {said(v, names)}':<40}  {of(v)}" for v in values if v.op != "input")
            yield from _results(c, names, inside)


def names_of(c: Any) -> dict[Value, str]:
    """What a listing calls each value: inputs by their own names, which are made different where they are not."""
    order = c.order()
    names: dict[Value, str] = {}
    for v in (c.x, *c.states, c.alive, *c.draws, *c.captured, *c.seeds):
        if v in order:
            names[v] = v.name + "'" * sum(name.partition("'")[0] == v.name for name in names.values())
    return names | {v: f"v{i}" for i, v in enumerate(v for v in order if v.op != "input")}


def _results(c: Any, names: dict[Value, str], forward: bool) -> Iterator[str]:
    """What of one direction goes out, and what goes to the next step."""
    roots: dict[str, Value | None] = {}
    if forward:
        roots["y"] = c.roots["y"][0]
        roots |= {f"next {s.name}": v for s, v in zip(c.states, c.roots["state"], strict=True)}
    else:
        for name, leaves in (("dx", [c.x]), ("dstate", c.states), ("dcaptured", c.captured)):
            before = "previous d" if name == "dstate" else "d"
            pairs = zip(leaves, c.roots.get(name, []), strict=False)
            roots |= {before + names.get(v, v.name): g for v, g in pairs if g is not None}
    for name, v in roots.items():
        yield f"    {name} = {names[v] if v is not None else 0}"


def said(v: Value, names: dict[Value, str]) -> str:
    """An operation in Python."""
    args = [names[a] if isinstance(a, Value) else repr(a) for a in v.args]
    if v.op in INFIX:
        return f" {INFIX[v.op]} ".join(args)
    if v.op in ("getitem", "gather"):
        key, places = v.static["key"], iter(args[1:])
        keys = key if isinstance(key, tuple) else (key,)
        return f"{args[0]}[{', '.join(next(places) if isinstance(k, str) else _index(k) for k in keys)}]"
    if v.op == "part":
        cut = f"{v.static['lo']}:{v.static['hi']}"
        return f"{args[0]}[..., {cut}{', :' if v.static['axis'] == -2 else ''}]"
    if v.op == "permute" and v.static["axes"] == (1, 0):
        return f"{args[0]}.T"
    given = {k: x for k, x in v.static.items() if v.primitive is None or x != v.primitive.defaults.get(k, ...)}
    more = [f"{k}={x if isinstance(x, (tuple, int, float, str)) else _index(x)}" for k, x in given.items()]
    return f"{v.op}({', '.join([*args, *more])})"


def _index(k: Any) -> str:
    """A part of what stands in brackets."""
    if isinstance(k, slice):
        ends = ["" if x is None else str(x) for x in (k.start, k.stop, k.step)]
        return ":".join(ends if k.step is not None else ends[:2])
    return "..." if k is Ellipsis else f"array{k.shape}" if is_array(k) else str(k)
