"""Lifetimes (liveness): from when to when each value is needed, and whether for all steps at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.views import base

FOREVER = 1 << 30  # after everything


@dataclass(frozen=True, eq=False)
class Lifetimes:
    """From when to when each value is needed. Views have no life of their own, but lengthen that of their base.

    position        when each value is computed: its number in the order of all stages
    last            the position of its last reader; FOREVER if the caller reads it
    stage_of        the stage that computes it
    loops           the first and the last position in each loop
    kept_over_time  what is needed for all steps at once, because another stage, or the caller, reads it
    """

    position: dict[Value, int]
    last: dict[Value, int]
    stage_of: dict[Value, Stage]
    loops: list[tuple[int, int]]
    kept_over_time: set[Value]


def lifetimes(flow: Dataflow, stages: Sequence[Stage]) -> Lifetimes:
    """The lifetimes of what these stages compute, one after the other."""
    stage_of = {v: stage for stage in stages for v in stage.values}
    position = {v: n for n, v in enumerate(v for stage in stages for v in stage.values)}
    loops = [(position[stage.values[0]], position[stage.values[-1]]) for stage in stages if stage.loop]
    return Lifetimes(position, _last_reads(flow, position), stage_of, loops, _kept_over_time(flow, stage_of))


def _last_reads(flow: Dataflow, position: dict[Value, int]) -> dict[Value, int]:
    last = {base(a): n for v, n in position.items() for a in flow.reads(v)}
    return last | {base(v): FOREVER for v in flow.circuit.wanted}


def _kept_over_time(flow: Dataflow, stage_of: dict[Value, Stage]) -> set[Value]:
    """What a loop reads that does not compute it, or that is computed for all steps; and the sequences that the caller
    reads. Of what comes in at each step of a loop that is its own, one step is enough."""
    found = {base(v) for name in ("y", "dx", "dwatched") for v in flow.circuit.roots.get(name, ()) if v is not None}
    for v, stage in stage_of.items():
        for a in map(base, flow.reads(v)):
            leaf = a.op == "input" and flow.level[a] == flow.level[v] >= 0
            if stage_of.get(a) is not stage and not leaf:
                found.add(a)
    return found
