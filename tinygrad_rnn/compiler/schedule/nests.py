"""Nests: which elementwise values are computed together, element by element in one loop nest (loop fusion)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinygrad_rnn.compiler.ir.levels import PER_CALL
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.views import base, is_view

Nest = list[Value]


@dataclass(frozen=True, eq=False)
class Fusion:
    """What is computed side by side; nothing, for a backend that computes one value after the other.

    together      the values of each nest, each other value alone, and the sums over time of each direction
    nest_of       the nest of each elementwise value
    in_registers  values that only their own nest reads: they need no memory
    """

    together: list[list[Value]] = field(default_factory=list)
    nest_of: dict[Value, Nest] = field(default_factory=dict)
    in_registers: set[Value] = field(default_factory=set)


def fused(flow: Dataflow, *directions: Sequence[Stage]) -> Fusion:
    """The nests of the stages of each direction, whose values lie as `close_together` puts them."""
    together = [g for stages in directions for stage in stages for g in grouped(flow, stage.values)]
    nest_of = {v: g for g in together if g[0].op != "pack" and fusable(flow, g[0]) for v in g}
    stays = lambda v: all(u is not None and nest_of.get(u) is nest_of[v] for u in flow.users[v])
    in_registers = {v for v in nest_of if stays(v)}
    sums = [[stage.values[0] for stage in stages if stage.values[0].op == "tsum"] for stages in directions]
    return Fusion([*together, *filter(None, sums)], nest_of, in_registers)


def grouped(flow: Dataflow, values: Sequence[Value]) -> list[Nest]:
    """The values of a stage that are computed in one nest, and each other one alone."""
    groups: list[Nest] = []
    for v in values:
        if groups and fits(flow, v, groups[-1]):
            groups[-1].append(v)
        else:
            groups.append([v])
    return groups


def fusable(flow: Dataflow, v: Value) -> bool:
    """Can it be computed element by element, together with others?"""
    return (v.pointwise and v not in flow.accumulated) or v.op in ("pack", "carry")


def fits(flow: Dataflow, v: Value, nest: Nest) -> bool:
    """Can v be computed element by element together with these?"""
    if v.op == "pack" or nest[0].op == "pack" or not (fusable(flow, v) and fusable(flow, nest[0])):
        return False
    return v.shape == nest[0].shape and not any(is_view(a) and base(a) in nest for a in v.values)


# ---- products on top of other terms ---------------------------------------------------------------------------------


def accumulated(flow: Dataflow) -> dict[Value, tuple[Value, Any]]:
    """For each sum that a product is computed on top of: the product, and the other term."""
    found: dict[Value, tuple[Value, Any]] = {}
    for v in flow.circuit.order():
        if v.op == "add" and flow.level[v] != PER_CALL:
            pairs = [(m, a) for m, a in (v.args, v.args[::-1]) if _accumulates(flow, v, m, a)]
            if pairs:
                found[v] = pairs[0]
    return found


def _accumulates(flow: Dataflow, v: Value, m: Any, a: Any) -> bool:
    """Is v = m + a a product m that nobody else reads, on top of rows, or of one row for all?"""
    if not (flow.is_product(m) and flow.users[m] == [v] and flow.level[m] == flow.level[v] and m.shape == v.shape):
        return False
    if not isinstance(a, Value) or a is m or a.op == "zeros" or a.dtype != v.dtype:
        return False
    return a.shape in (v.shape, v.shape[-1:], (1, v.shape[-1]))


# ---- the order of a loop that makes few nests -----------------------------------------------------------------------


def close_together(flow: Dataflow, read: list[Value], inside: set[Value]) -> list[Value]:
    """The order of a loop in which what can be computed in one nest stands together.

    read: the values that its next step or others read; inside: all values of the loop that these need
    """
    return _joined(flow, _late(flow, [v for v in sorted(inside, key=lambda v: v.index) if not flow.has_no_code(v)]))


def _late(flow: Dataflow, body: list[Value]) -> list[Value]:
    """Elementwise values as late and as close together as they can be: fewest results between nests."""
    readers: dict[Value, set[Value]] = {v: set() for v in body}
    for v in body:
        for a in flow.reads(v):
            if base(a) in readers:
                readers[base(a)].add(v)
    out: list[Value] = []
    done: set[Value] = set()
    left = body[::-1]
    while left:
        for in_nest in (True, False):
            while batch := [v for v in left if readers[v] <= done and fusable(flow, v) == in_nest]:
                batch.sort(key=lambda v: v.op != "pack")  # not between the values of a nest
                out += batch
                done.update(batch)
                left = [v for v in left if v not in done]
                if not in_nest:
                    break
    return out[::-1]


def _joined(flow: Dataflow, body: list[Value]) -> list[Value]:
    """Each elementwise value in the nest that makes what it reads, if it can be: it is in registers there."""
    leaf = {v: s for s, v, _ in flow.circuit.delays}
    readers: dict[Value, list[Value]] = {}
    for v in body:
        for a in flow.reads(v):
            readers.setdefault(base(a), []).append(v)
    nests: list[Nest] = []
    home: dict[Value, int] = {}
    alike = lambda v, k: 0 <= k < len(nests) and fits(flow, v, nests[k])
    for v in body:
        k = len(nests) - 1
        if not alike(v, k):
            k = max((home.get(base(a), -1) for a in flow.reads(v)), default=-1)
            # what it takes the place of is read before
            late = any(home.get(u, len(nests)) > k for u in readers.get(leaf.get(v, v), ()) if u is not v)
            if not alike(v, k) or (v in leaf and late):
                nests.append([])
                k = len(nests) - 1
        nests[k].append(v)
        home[v] = k
    return [v for nest in nests for v in nest]
