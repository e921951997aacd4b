"""Merging values of the same elementwise operation, for a backend that pays by the call: k of them become one."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import pack, part, remake
from tinygrad_rnn.compiler.ir.levels import PER_CALL, Levels, levels
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.passes.merge_products import Users

# ---- elementwise siblings, for an engine that pays by the call ------------------------------------------------------


def merge_elementwise(c: Circuit) -> None:
    """op(part of S), op(next part of S) → parts of op(S); pack(op(p), op(q)) → op(pack(p, q)); to the end."""
    while _merge_parts(c) or _merge_packs(c):
        pass


def _moving_part(a: Any, level: Levels) -> bool:
    return isinstance(a, Value) and a.op == "part" and a.static["axis"] == -1 and level[a] != PER_CALL


def _merge_parts(c: Circuit) -> bool:
    """One round upwards from parts; True if it changed anything."""
    level = levels(c)
    groups: dict[tuple, list[Value]] = defaultdict(list)
    for v in c.order():
        if v.pointwise and level[v] != PER_CALL and not v.static:
            parts = [a for a in v.args if _moving_part(a, level)]
            fixed = [a for a in v.values if a not in parts]
            alike = all(a.shape == v.shape for a in parts)
            if parts and alike and all(level[a] == PER_CALL and a.shape[-1:] == v.shape[-1:] for a in fixed):
                shapes = tuple((a.shape[:-1], a.dtype) for a in fixed)
                key = [a.args[0] if a in parts else "fixed" if a in fixed else repr(a) for a in v.args]
                groups[v.op, level[v], shapes, tuple(key)].append(v)
    merged: dict[Value, list[Value]] = {}
    for group in groups.values():
        for run in _runs(group, level):
            merged |= dict.fromkeys(run, run)

    def visit(v: Value, new: Any) -> Value:
        if v not in merged:
            return remake(c, v, tuple(map(new, v.args)))
        run = merged[v]
        same = zip(*(r.args for r in run), strict=True)
        args = [pack(c, [new(a) for a in column]) if isinstance(column[0], Value) else column[0] for column in same]
        lo = sum(r.shape[-1] for r in run[: run.index(v)])
        return part(c, c.make(v.op, *args, primitive=v.primitive), lo, lo + v.shape[-1])

    if merged:
        c.rebuild(visit)
    return bool(merged)


def _runs(group: list[Value], level: Levels) -> list[list[Value]]:
    """Runs of two or more values whose parts are neighbours."""
    first = lambda v: next(a.static["lo"] for a in v.args if _moving_part(a, level))
    runs: list[list[Value]] = []
    for v in sorted(group, key=first):
        last = runs[-1][-1] if runs else None
        neighbours = last is not None and all(
            not _moving_part(a, level) or a.static["hi"] == b.static["lo"]
            for a, b in zip(last.args, v.args, strict=True)
        )
        if neighbours:
            runs[-1].append(v)
        else:
            runs.append([v])
    return [run for run in runs if len(run) > 1]


def _merge_packs(c: Circuit) -> bool:
    """One round downwards from packs, where a pack of arguments is one thing already; True if it changed anything."""
    level, users = levels(c), c.users()
    changed: list[Value] = []

    def visit(v: Value, new: Any) -> Value:
        if v.op != "pack" or level[v] == PER_CALL:
            return remake(c, v, tuple(map(new, v.args)))
        pieces, out = list(v.args), []
        while pieces:
            tries = ((n, _lifted(c, pieces[:n], new, level, users)) for n in range(len(pieces), 1, -1))
            n, made = next(((n, m) for n, m in tries if m is not None), (1, None))
            out.append(new(pieces[0]) if made is None else made)
            pieces = pieces[n:]
        if len(out) < len(v.args):
            changed.append(v)
        return pack(c, out)

    c.rebuild(visit)
    return bool(changed)


def _lifted(c: Circuit, values: list[Any], new: Any, level: Levels, users: Users) -> Value | None:
    """pack(op(p₁, q₁), op(p₂, q₂)) as op(pack(p₁, p₂), pack(q₁, q₂)), if that costs no copy."""
    first = values[0]
    if not all(
        v.op == first.op and v.pointwise and not v.static and len(users[v]) == 1 and level[v] == level[first]
        for v in values
    ):
        return None
    if any(a.shape != v.shape or a.dtype != v.dtype for v in values for a in v.values):
        return None
    columns = list(zip(*(v.args for v in values), strict=True))
    together = [_together(c, column, new, level, users) for column in columns]
    if not any(isinstance(t, Value) for t in together):
        return None
    pairs = list(zip(together, columns, strict=True))
    if any(t is None and not all(_writes(a, users) for a in column) for t, column in pairs):
        return None
    args = [pack(c, [new(a) for a in column]) if t is None else t for t, column in pairs]
    return c.make(first.op, *args, primitive=first.primitive)


def _together(c: Circuit, values: tuple, new: Any, level: Levels, users: Users) -> Any:
    """The values as one thing that costs no copy, or None."""
    first = values[0]
    if not all(isinstance(v, Value) and v.shape == first.shape for v in values):
        plain = not any(isinstance(v, Value) for v in values)
        return first if plain and all(repr(v) == repr(first) for v in values) else None
    if all(v is first for v in values):
        return c.make("splat", new(first), times=len(values))
    joined = pack(c, [new(v) for v in values])
    return joined if joined.op != "pack" else _lifted(c, list(values), new, level, users)


def _writes(v: Any, users: Users) -> bool:
    """Can it write its result straight into a pack?"""
    return isinstance(v, Value) and (v.pointwise or v.op == "matmul") and len(users[v]) == 1
