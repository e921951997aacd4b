"""Time: which operations make up a step, which values go from step to step, and what each is to its step.

Steps are compared by position: the k-th operation of one step is the k-th of every step with the same operations. So
the last step knows its state although nothing reads it, and the first one knows that it reads an initial state.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import permutations

from tinygrad_rnn.graph import Leaf, Node
from viz.contract import Flow

Spot = tuple[int, int]  # a kind of step, and the position of an operation in it

FEW = 16  # kinds of steps that are compared with each other
POINTWISE = {"add", "sub", "mul", "div", "where", "neg", "tanh", "sigmoid", "relu", "maximum", "minimum", "clip"}


@dataclass(eq=False)
class Column:
    """One time step, or (t is None) what is computed between two loops. ops: oldest first."""

    t: int | None
    run: int
    ops: list[Node] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)


class Unrolled:
    """The steps of a graph.

    columns  in the order of computing
    above    what is computed from the steps and read by none
    below    what the steps read, computed before them
    column   the number of the column of each node in one
    spot     where in its step an operation stands
    states   for the spots whose value a later column reads: "hidden" or "cell"
    shown    the spots that are read outside of the columns
    carried  (spot, number of the argument): the spot of the state that is read there
    back     the spots whose value an earlier column reads: states that run backwards in time
    """

    def __init__(self, flow: Flow):
        self.flow = flow
        self._collect()
        self._compare()

    # ---- columns --------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        flow = self.flow
        found: dict[tuple[int, int], Column] = {}
        for node in flow.nodes:
            place = flow.place.get(node)
            if place is None:
                continue
            column = found.setdefault(place, Column(place[1], place[0]))
            (column.leaves if node.op is None or node in flow.slices else column.ops).append(node)
        for c in found.values():
            c.leaves.sort(key=self._first_use)
        columns = sorted(found.values(), key=lambda c: (c.run, c.t))
        self._place_outsiders(columns)

    def _first_use(self, node: Node) -> tuple[int, int]:
        """When a value is first read; for one that is cut out of a sequence, when it was cut."""
        if node.op is not None:
            return node.index, 0
        return min((r.index, i) for r in self.flow.readers[node] for i, a in enumerate(self.flow.args[r]) if a is node)

    def _place_outsiders(self, columns: list[Column]) -> None:
        """What stands in no step goes above, below, or into a column of its own between two loops."""
        flow = self.flow
        column = {node: i for i, c in enumerate(columns) for node in (*c.ops, *c.leaves)}
        last: dict[Node, int] = {}
        for node in flow.nodes:  # the last column that it depends on
            last[node] = column.get(node, max((last[p] for p in flow.parents(node)), default=-1))
        first: dict[Node, int] = {}
        for node in reversed(flow.nodes):  # the first column that depends on it
            readers = [column.get(r, first[r]) for r in flow.readers[node]]
            first[node] = min(readers, default=len(columns))
        between: dict[int, Column] = {}
        self.above, self.below = [], []
        for node in flow.nodes:
            if node in column:
                continue
            if first[node] == len(columns):
                if not isinstance(node, Leaf):
                    self.above.append(node)
            elif node.op is None:
                continue  # parameters and constants that several steps read: drawn once, at the left
            elif last[node] < 0:
                self.below.append(node)
            elif columns[first[node]].run == columns[last[node]].run:
                columns[last[node]].ops.append(node)
            else:
                between.setdefault(first[node], Column(None, -1)).ops.append(node)
        self.columns = [c for i, column in enumerate(columns) for c in (between.get(i), column) if c is not None]
        self.column = {node: i for i, c in enumerate(self.columns) for node in (*c.ops, *c.leaves)}

    # ---- comparing steps ------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        flow, column = self.flow, self.column
        kinds: dict[tuple[str, ...], int] = {}
        self.spot: dict[Node, Spot] = {}
        for c in self.columns:
            kind = kinds.setdefault(tuple([flow.op(n) for n in c.ops]), len(kinds))
            self.spot.update({node: (kind, k) for k, node in enumerate(c.ops)})
        self.carried: dict[tuple[Spot, int], Spot] = {}
        self.shown: set[Spot] = set()
        self.back: set[Spot] = set()
        readers: dict[Spot, set[str]] = defaultdict(set)
        for node in flow.nodes:
            for i, source in enumerate(flow.args[node]):
                spot = self.spot.get(source) if isinstance(source, Node) else None
                if spot is None:
                    continue
                if column.get(node) == column[source]:
                    continue
                if node not in column or None in (self.columns[column[node]].t, self.columns[column[source]].t):
                    self.shown.add(spot)
                else:
                    self.carried[self.spot[node], i] = spot
                    if column[node] < column[source]:
                        self.back.add(spot)
                    readers[spot].add(flow.op(node))
        self._compare_beginnings(kinds)
        self.states = {spot: "cell" if ops <= POINTWISE else "hidden" for spot, ops in readers.items()}

    def _compare_beginnings(self, kinds: dict[tuple[str, ...], int]) -> None:
        """Where one kind of step begins as another (the same cell, then a mask), both read their states there."""
        if len(kinds) > FEW:
            return
        for (short, a), (long, b) in permutations(kinds.items(), 2):
            if len(short) < len(long) and long[: len(short)] == short:
                for (spot, i), source in list(self.carried.items()):
                    for kind, other in ((a, b), (b, a)):
                        if spot[0] == kind and spot[1] < len(short):
                            self.carried.setdefault(((other, spot[1]), i), source)

    def state(self, node: Node) -> str:
        """ "hidden", "cell" or "" """
        return self.states.get(self.spot.get(node, (-1, -1)), "")

    def stream(self, node: Node, i: int) -> Spot | None:
        """The spot of the state that argument i of an operation is, in its step or in others of its kind."""
        spot = self.spot.get(node)
        return None if spot is None else self.carried.get((spot, i))

    def is_pinned(self, node: Node) -> bool:
        """Must it be drawn because others than its own step read it?"""
        spot = self.spot.get(node)
        return node is self.flow.root or spot in self.states or spot in self.shown
