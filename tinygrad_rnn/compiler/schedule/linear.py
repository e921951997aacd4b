"""Linear recurrences: loops whose new states are linear in the old ones, element by element,

    s' = A s + b        at each element a small matrix A and a vector b, which do not depend on the states

so that the steps of any stretch of time are one such map too, and stretches can be computed side by side (a scan).
Loops are cycles (see ir.levels): states that do not see each other are in loops of their own, of one state each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.nests import fusable
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.views import base, is_view

# Operations that are linear in all of their arguments together, and the argument of others that must be the only one
MOVED = {"carry", "copy", "detach", "cast"}
LINEAR = {"add", "sub", "neg", *MOVED}


@dataclass(frozen=True)
class Recurrence:
    """A loop that is linear in its states.

    values   all of the loop, in their order, of one shape
    states   (a state, its new value), for each
    linear   the values that depend on the states, and the states
    """

    values: Sequence[Value]
    states: Sequence[tuple[Value, Value]]
    linear: frozenset[Value]

    def factor(self, v: Value, n: int) -> bool:
        """Is the n-th argument of a linear value a factor, or a condition? Else it is a term."""
        return v.op in ("mul", "div", "where") and v.args[n] not in self.linear and (v.op != "where" or n == 0)


def recurrence(flow: Dataflow, stage: Stage) -> Recurrence | None:
    """What a loop is as a linear recurrence; None if it is none."""
    values, n = stage.values, flow.level[stage.values[0]]
    states = [(s, v) for s, v, _ in flow.circuit.delays if flow.level.get(s) == n and v in values]
    if not states or any(flow.level.get(s) == n and v not in values for s, v, _ in flow.circuit.delays):
        return None
    linear = {s for s, _ in states}
    inside = {*values, *linear}
    shape = states[0][0].shape
    for v in values:
        if v.shape != shape or v.op == "pack" or not fusable(flow, v):
            return None
        if any(is_view(a) and base(a) in inside for a in v.values):
            return None
        if not linear.isdisjoint(v.values):
            if not (_is_linear(v, linear) and v.dtype.kind == "f"):
                return None
            linear.add(v)
    return Recurrence(values, states, frozenset(linear))


def _is_linear(v: Value, seen: set[Value]) -> bool:
    """Is an operation linear in those of its arguments that depend on the states?"""
    depends = [isinstance(a, Value) and a in seen for a in v.args]
    if v.op == "mul":
        return sum(depends) == 1
    if v.op in ("div", "where"):
        return not depends[1 if v.op == "div" else 0]
    return v.op in LINEAR
