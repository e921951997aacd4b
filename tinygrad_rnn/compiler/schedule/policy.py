"""Policies: what a backend is good at decides which schedule is the best for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.lifetimes import FOREVER, Lifetimes
from tinygrad_rnn.compiler.schedule.nest_places import NestPlaces
from tinygrad_rnn.compiler.schedule.nests import Fusion, accumulated, close_together, fused
from tinygrad_rnn.compiler.schedule.order import Stage, by_kind, depth_first, ordered, sums_in_loops, sunk
from tinygrad_rnn.compiler.schedule.places import Place, Places


@dataclass(frozen=True)
class CallByCall:
    """For a backend that calls a function for each value: each call should have much to do, and find it in the cache.

    sink_bytes  of all steps, up to which cheap values are computed for all of them at once
    steps       for how many steps the schedule is made
    """

    sink_bytes: int
    steps: int = 1

    def levels(self, flow: Dataflow) -> Dataflow:
        """Large sums over time, and what is only read in a loop and large, are computed step by step."""
        level, sum_loop = sums_in_loops(flow, self.steps)
        flow = replace(flow, level=level)
        return replace(flow, level=sunk(flow, self.sink_bytes / self.steps, sum_loop))

    def stages(self, flow: Dataflow) -> tuple[list[Stage], list[Stage]]:
        """Forward and backward: what is read soon after it is made is still in the cache."""
        return ordered(flow, depth_first)

    def fusion(self, flow: Dataflow, *directions: Sequence[Stage]) -> Fusion:
        """Nothing is computed side by side."""
        return Fusion()

    def places(self, flow: Dataflow, life: Lifetimes, fusion: Fusion) -> dict[Value, Place]:
        """Where each value lives: what dies in an operation, where its result is."""
        return Places(flow, life, fusion).place


@dataclass(frozen=True)
class Nests:
    """For a backend that writes loops: elementwise values are computed together, in registers where they can be.

    accumulate  are products computed on top of the terms that they are added to? Else those sums are in nests
    one_shape   does a loop that computes nothing but elements of one shape stay so? A thread has one of them then
    copies_in   is what each call is given, but for captured tensors, copied to where it is always looked for?
    """

    accumulate: bool = True
    one_shape: bool = False
    copies_in: bool = False

    def levels(self, flow: Dataflow) -> Dataflow:
        """All cheap values are computed in the loop that reads them, products on top of the terms they are added to."""
        flow = replace(flow, level=sunk(flow, 0, one_shape=self.one_shape))
        return replace(flow, accumulated=accumulated(flow)) if self.accumulate else flow

    def stages(self, flow: Dataflow) -> tuple[list[Stage], list[Stage]]:
        """Forward and backward: what moves stands together, between what is computed once a call."""
        forward, backward = ordered(flow, close_together)
        return by_kind(flow, forward), by_kind(flow, backward)

    def fusion(self, flow: Dataflow, *directions: Sequence[Stage]) -> Fusion:
        """The nests."""
        return fused(flow, *directions)

    def places(self, flow: Dataflow, life: Lifetimes, fusion: Fusion) -> dict[Value, Place]:
        """Where each value lives that its nest cannot keep in registers."""
        place, c = NestPlaces(flow, life, fusion).place, flow.circuit
        for v in (c.x, *c.draws, *c.given, *([c.alive] if c.alive is not None else [])) if self.copies_in else ():
            place[v].buffer.bound, place[v].buffer.span = False, (-1, FOREVER)
        return place


Policy = CallByCall | Nests
