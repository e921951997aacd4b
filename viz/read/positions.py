"""Steps are compared by position: the k-th operation of one is the k-th of every step with the same operations."""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_rnn.autograd.graph import Node
from viz.read.columns import Column, columns_of
from viz.read.flow import Flow
from viz.read.loops import Place

Position = tuple[int, int]  # a kind of step, and the place of an operation in it; of a leaf, below 0, that of its use
Reading = tuple[Position, int]  # an operation and the number of its argument: where something is read
Kind = tuple[int, tuple[str, ...]]  # a run, and the names of a step's operations

ARGUMENTS = 64  # of an operation that are told apart


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of a graph, compared.

    columns, above, below, column  as in Columns
    position  where in its step an operation stands
    kinds     the number of each kind of step
    firsts    the first step of each kind
    """

    flow: Flow
    columns: list[Column]
    above: list[Node]
    below: list[Node]
    column: dict[Node, int]
    position: dict[Node, Position]
    kinds: dict[Kind, int]
    firsts: set[Place]


def steps_of(flow: Flow) -> Steps:
    """The steps of a graph, and the position of everything in them."""
    columns = columns_of(flow)
    position: dict[Node, Position] = {}
    kinds: dict[Kind, int] = {}
    firsts: set[Place] = set()
    for c in columns.columns:
        named = (c.run, tuple([flow.op(n) for n in c.ops]))
        if named not in kinds:
            kinds[named] = len(kinds)
            firsts.add((c.run, c.t))  # type: ignore[arg-type]
        kind = kinds[named]
        position.update({node: (kind, k) for k, node in enumerate(c.ops)})
        mine = {node: k for k, node in enumerate(c.ops)}
        position.update({leaf: (kind, _first_read(flow, leaf, mine)) for leaf in c.leaves})
    return Steps(flow, *columns, position, kinds, firsts)


def _first_read(flow: Flow, leaf: Node, mine: dict[Node, int]) -> int:
    """Where in its step a leaf stands: below 0, by the argument that it is first. mine: the operations of its step"""
    reads = [(mine[r], i) for r in flow.readers[leaf] if r in mine for i, a in enumerate(flow.args[r]) if a is leaf]
    k, i = min(reads, default=(0, 0))
    return -1 - k * ARGUMENTS - min(i, ARGUMENTS - 1)
