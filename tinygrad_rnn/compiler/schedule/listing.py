"""A schedule as text: its stages, what is computed in one nest, where each value lives and how long it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinygrad_rnn.compiler.ir.levels import PER_CALL
from tinygrad_rnn.compiler.ir.listing import names_of, said
from tinygrad_rnn.compiler.ir.value import OVER_TIME, Value
from tinygrad_rnn.compiler.schedule.lifetimes import FOREVER
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.places import Place


def listing(s: Any) -> Iterator[str]:
    """A line for each value that has code of its own: what computes it, where it is, and its last reader.

    A bar stands before the values of a nest. m1[t] is in a buffer with all steps, m1 in one that has no time. Behind
    the stages stands from when to when each buffer is in use, which may share its memory before and after.
    """
    names, buffers = _names(s), _buffers(s)
    at = {n: names[v] for v, n in s.lifetimes.position.items()} | {-1: "the start", FOREVER: "the end"}
    title = ""
    for k, stage in enumerate(s.stages):
        before, title = title, f"{'backward' if k >= s.first_backward else 'forward'}, {_when(s, stage)}"
        if title != before or stage.loop:
            yield f"{title}:"
        for v in stage.values:
            line = f"  {'|' if len(s.fusion.nest_of.get(v, ())) > 1 else ' '} {names[v]} = {said(v, names)}"
            where = "registers" if v in s.fusion.in_registers else _said_place(s.place.get(v), buffers)
            yield f"{line:<48}  {where}, until {at.get(s.lifetimes.last.get(v), 'then')}"
    yield "memory:"
    for b, name in buffers.items():
        size = (f"T + {b.extra}" if b.extra else "T", *b.shape) if b.time else b.shape
        yield f"    {name} ({', '.join(map(str, size))}) {b.dtype}, from {at[b.span[0]]} to {at[b.span[1]]}"


def _names(s: Any) -> dict[Value, str]:
    """The names of a circuit's values; what has no code stands where it is read."""
    names = names_of(s.flow.circuit)
    for v in names:
        if v.op == "zeros":
            names[v] = "0"
        elif v.op != "input" and s.flow.has_no_code(v):
            names[v] = said(v, names)
    return names


def _when(s: Any, stage: Stage) -> str:
    if stage.loop:
        return "at each step" + ", the last one first" * stage.backward
    v = stage.values[0]
    return "over all steps" if v.op in OVER_TIME else "once" if s.flow.level[v] == PER_CALL else "for all steps at once"


def _buffers(s: Any) -> dict[Any, str]:
    """m1, m2, … for the buffers in the order in which they are written."""
    written = dict.fromkeys(s.place[v].buffer for v in s.lifetimes.position if v in s.place)
    return {b: f"m{n}" for n, b in enumerate(written, 1)}


def _said_place(p: Place | None, buffers: dict[Any, str]) -> str:
    if p is None:
        return "nowhere"
    time = f"[t{f' + {p.shift}' if p.shift else ''}]" if p.buffer.time else ""
    views = [f"[..., {view[2]}:{view[3]}]" if view[0] == "part" else f".{view[0]}" for view in p.views]
    return "".join([buffers[p.buffer], time, *views])
