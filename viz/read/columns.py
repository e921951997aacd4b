"""Which operations make up each time step, and which stand outside of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from tinygrad_rnn.autograd.graph import Leaf, Node
from viz.read.flow import Flow


@dataclass(eq=False)
class Column:
    """One time step, or (t is None) what is computed between two loops. ops: oldest first."""

    t: int | None
    run: int
    ops: list[Node] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)


class Columns(NamedTuple):
    """The time steps of a graph, and what is around them.

    columns  in the order of computing
    above    what is computed from the steps and read by none
    below    what the steps read, computed before them
    column   the number of the column of each node in one
    """

    columns: list[Column]
    above: list[Node]
    below: list[Node]
    column: dict[Node, int]


def columns_of(flow: Flow) -> Columns:
    """The columns of a graph, those of each run in the order of time."""
    found: dict[tuple[int, int], Column] = {}
    for node in flow.nodes:
        place = flow.place.get(node)
        if place is None:
            continue
        column = found.setdefault(place, Column(place[1], place[0]))
        (column.leaves if node.op is None or node in flow.slices else column.ops).append(node)
    for c in found.values():
        c.leaves.sort(key=lambda leaf: _first_use(flow, leaf))
    return _with_outsiders(flow, sorted(found.values(), key=lambda c: (c.run, c.t)))


def _first_use(flow: Flow, node: Node) -> tuple[int, int]:
    """When a value is first read; for one that is cut out of a sequence, when it was cut."""
    if node.op is not None:
        return node.index, 0
    return min((r.index, i) for r in flow.readers[node] for i, a in enumerate(flow.args[r]) if a is node)


def _with_outsiders(flow: Flow, columns: list[Column]) -> Columns:
    """What stands in no step goes above, below, or into a column of its own between two loops."""
    column = {node: i for i, c in enumerate(columns) for node in (*c.ops, *c.leaves)}
    last: dict[Node, int] = {}
    for node in flow.nodes:  # the last column that it depends on
        last[node] = column.get(node, max((last[p] for p in flow.parents(node)), default=-1))
    first: dict[Node, int] = {}
    for node in reversed(flow.nodes):  # the first column that depends on it
        readers = [column.get(r, first[r]) for r in flow.readers[node]]
        first[node] = min(readers, default=len(columns))
    between: dict[int, Column] = {}
    above: list[Node] = []
    below: list[Node] = []
    for node in flow.nodes:
        if node in column:
            continue
        if first[node] == len(columns):
            if not isinstance(node, Leaf):
                above.append(node)
        elif node.op is None:
            continue  # parameters and constants that several steps read: drawn once, at the left
        elif last[node] < 0:
            below.append(node)
        elif columns[first[node]].run == columns[last[node]].run:
            columns[last[node]].ops.append(node)
        else:
            between.setdefault(first[node], Column(None, -1)).ops.append(node)
    found = [c for i, column in enumerate(columns) for c in (between.get(i), column) if c is not None]
    return Columns(found, above, below, {node: i for i, c in enumerate(found) for node in (*c.ops, *c.leaves)})
