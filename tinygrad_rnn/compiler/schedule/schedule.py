"""The schedule of a circuit: which values are computed when, with which others, how long they live, and where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.levels import levels
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.lifetimes import Lifetimes, lifetimes
from tinygrad_rnn.compiler.schedule.listing import listing
from tinygrad_rnn.compiler.schedule.nests import Fusion
from tinygrad_rnn.compiler.schedule.order import Stage, forward_roots, with_own_states
from tinygrad_rnn.compiler.schedule.places import Place, share_memory, where
from tinygrad_rnn.compiler.schedule.policy import Policy


class NotFusable(Exception):
    """Why a circuit cannot run on an engine that fuses loops, and the value that has no form there."""

    def __init__(self, reason: str, value: Value | None = None):
        super().__init__(reason)
        self.value = value


@contextmanager
def about(v: Value) -> Iterator[None]:
    """Let what is not fusable in the block be a reason to do with v."""
    try:
        yield
    except NotFusable as reason:
        reason.value = reason.value or v
        raise


@dataclass(frozen=True, eq=False)
class Schedule:
    """All that a backend needs to know to write a program. Made by `schedule`; nothing changes it afterwards.

    flow            the circuit's values, and how often each is computed
    stages          loops, and what is computed for all steps at once or once a call; the forward pass comes first
    first_backward  the number of the first stage of the backward pass; 0 if there is nothing to do forward
    lifetimes       from when to when each value is needed
    fusion          what is computed in one nest
    place           where each value lives; views are where `where` says
    """

    flow: Dataflow
    stages: list[Stage]
    first_backward: int
    lifetimes: Lifetimes
    fusion: Fusion
    place: dict[Value, Place]

    @property
    def c(self) -> Circuit:
        """The circuit, whose new states are values of their own."""
        return self.flow.circuit

    @property
    def forward(self) -> set[Value]:
        """All values that the outputs and the new states are computed from."""
        return set(self.c.order(forward_roots(self.c)))

    def __str__(self) -> str:
        return "\n".join(listing(self))

    def where(self, v: Value) -> Place:
        """The place of a value, or of a view of one."""
        return where(self.place, v)


def schedule(circuit: Circuit, policy: Policy) -> Schedule:
    """The schedule that is best for a backend. The circuit stays as it is."""
    c = with_own_states(circuit)
    flow = policy.levels(Dataflow(c, levels(c), c.users()))
    forward, backward = policy.stages(flow)
    stages = [*forward, *backward]
    life = lifetimes(flow, stages)
    fusion = policy.fusion(flow, forward, backward)
    place = policy.places(flow, life, fusion)
    share_memory(place)
    return Schedule(flow, stages, len(forward), life, fusion, place)
