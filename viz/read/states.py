"""Time: which operations make up a step, which values go from step to step, and what each is to its step.

Steps are compared by position: the k-th operation of one step is the k-th of every step with the same operations. So
the last step knows its state although nothing reads it, and the first one knows that it reads an initial state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from tinygrad_rnn.autograd.graph import Carries, Leaf, ModuleName, Node
from viz.read.flow import Flow

Position = tuple[
    int, int
]  # a kind of step, and the position of an operation in it; of a leaf, below 0, that of its use
Kind = tuple[int, tuple[str, ...]]  # a run, and the names of a step's operations

ARGUMENTS = 64  # of an operation that are told apart
FEW = 16  # kinds of steps that are compared with each other
POINTWISE = {"add", "sub", "mul", "div", "where", "neg", "tanh", "sigmoid", "relu", "maximum", "minimum", "clip"}


@dataclass(eq=False)
class Column:
    """One time step, or (t is None) what is computed between two loops. ops: oldest first."""

    t: int | None
    run: int
    ops: list[Node] = field(default_factory=list)
    leaves: list[Node] = field(default_factory=list)


class States:
    """The steps of a graph.

    columns  in the order of computing
    above    what is computed from the steps and read by none
    below    what the steps read, computed before them
    column   the number of the column of each node in one
    position     where in its step an operation stands
    kind     for the positions whose value a later column reads: "hidden" or "cell"; "said" if that is the letter of it
             alone, by look-ups: what a model says and is fed is no state
    shown    the positions that are read outside of the columns
    carried  (position, number of the argument): the position of the state that is read there
    apart    (position, number of the argument): how many steps ago that state was made
    called   the names of states, as the code of their cells has them
    heard    (position, number of the argument): the name of the state that is read there
    back     the positions whose value an earlier column reads: states that run backwards in time
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
        self.kinds: dict[Kind, int] = {}
        self.position: dict[Node, Position] = {}
        firsts: set[Any] = set()
        for c in self.columns:
            named = (c.run, tuple([self.flow.op(n) for n in c.ops]))
            if named not in self.kinds:
                self.kinds[named] = len(self.kinds)
                firsts.add((c.run, c.t))
            kind = self.kinds[named]
            self.position.update({node: (kind, k) for k, node in enumerate(c.ops)})
            self.position.update({leaf: (kind, self._first_read(leaf)) for leaf in c.leaves})
        self.carried: dict[tuple[Position, int], Position] = {}
        self.apart: dict[tuple[Position, int], int] = {}
        self.reads: list[tuple[tuple[Position, int], Node, int]] = []
        self.called: dict[Position, str] = {}
        self.heard: dict[tuple[Position, int], str] = {}
        self.back: set[Position] = set()
        self.shown: set[Position] = set()
        ops = {position: self.flow.op(node) for node, position in self.position.items()}
        readers: dict[Position, set[str]] = defaultdict(set)
        strangers = self._compare_reads(readers)
        self._compare_beginnings()
        self._listen(firsts)
        self._measure()
        self.shown |= {position for reader, i, position in strangers if (reader, i) not in self.carried}
        for (reader, _), position in self.carried.items():
            readers[position].add(ops[reader])
        self.kind = {position: "cell" if found <= POINTWISE else "hidden" for position, found in readers.items()}
        said: set[Position] = set()
        kept: set[Position] = set()
        flow = self.flow
        fed = {(self.position[n], i) for n, source in flow.fed.items() if n in self.position
               for i, a in enumerate(flow.args[n]) if a is source}  # fmt: skip
        for read, position in self.carried.items():
            (said if read in fed else kept).add(position)
        self.kind |= dict.fromkeys(said - kept, "said")

    def _first_read(self, leaf: Node) -> int:
        """Where in its step a leaf stands: below 0, by the argument that it is first."""
        at = self.column[leaf]
        reads = [(self.position[r][1], i) for r in self.flow.readers[leaf] if self.column.get(r) == at
                 for i, a in enumerate(self.flow.args[r]) if a is leaf]  # fmt: skip
        k, i = min(reads, default=(0, 0))
        return -1 - k * ARGUMENTS - min(i, ARGUMENTS - 1)

    def _compare_reads(self, readers: dict[Position, set[str]]) -> list[tuple[Position, int, Position]]:
        """Who reads what of an earlier step; returned is what is read of another run: it may be the first state.

        readers: filled with the operations that read a state
        """
        flow, column, strangers = self.flow, self.column, []
        order = {(run, t): k for run, ts in flow.runs.steps.items() for k, t in enumerate(sorted(ts))}
        for node in flow.nodes:
            for i, source in enumerate(flow.args[node]):
                position = self.position.get(source) if isinstance(source, Node) else None
                if position is None or column.get(node) == column[source]:
                    continue
                here, there = self.columns[column[source]], self.columns[column[node]] if node in column else None
                if there is None or here.t is None or there.t is None:
                    self.shown.add(position)
                elif here.run != there.run:
                    strangers.append((self.position[node], i, position))
                else:
                    self.carried[self.position[node], i] = position
                    readers[position].add(flow.op(node))
                    ago = abs(order[there.run, there.t] - order[here.run, here.t])
                    self.reads.append(((self.position[node], i), source, ago))
                    if column[node] < column[source]:
                        self.back.add(position)
        return strangers

    def _measure(self) -> None:
        """How old a state is when it is read: as little as anywhere, for steps may be left out in between. What is
        read as a first state has no age.
        """
        for place, source, ago in self.reads:
            leaf = self.position[source][1] < 0 and self.flow.readers[source]
            mine = [(self.position[r], k) for r in leaf or () if self.column.get(r) == self.column[source]
                    for k, a in enumerate(self.flow.args[r]) if a is source]  # fmt: skip
            if not any(read in self.carried for read in mine):
                self.apart[place] = min(ago, self.apart.get(place, ago))
        for position, i in self.carried.keys() - self.apart.keys():  # as in other steps that begin like it
            ages = [ago for (other, k), ago in self.apart.items() if (other[1], k) == (position[1], i)]
            if ages:
                self.apart[position, i] = min(ages)

    def _compare_beginnings(self) -> None:
        """Where one kind of step begins as another (the same cell, then a mask), both read their states there."""
        if len(self.kinds) > FEW:
            return
        for ((run, short), a), ((other_run, long), b) in permutations(self.kinds.items(), 2):
            if run == other_run and len(short) < len(long) and long[: len(short)] == short:
                for (position, i), source in list(self.carried.items()):
                    for kind, other in ((a, b), (b, a)):
                        if position[0] == kind and position[1] < len(short):
                            self.carried.setdefault(((other, position[1]), i), source)

    # ---- what the code of cells says ------------------------------------------------------------------------------

    def _listen(self, firsts: set[Any]) -> None:
        """What the cells' code calls their states; and of a step unlike others nothing else tells what it hands on."""
        if len(self.kinds) > FEW:
            return
        calls: dict[tuple, tuple[Carries, list[Node]]] = {}  # those of inner cells behind those of outer ones
        for node in self.flow.runs.order:
            at = self.flow.place.get(node)
            if node.op is not None and at in firsts:
                for k, name in enumerate(node.scope):
                    if isinstance(name, ModuleName) and name.carries is not None:
                        calls.setdefault((at, k, id(name)), (name.carries, []))[1].append(node)
        for carries, made in calls.values():
            self._hear(_matched(carries, made), carries)

    def _hear(self, made: Mapping[int, Node], carries: Carries) -> None:
        """The names of a call's states, and who reads them. made: its operations by number"""
        here = next((self.column[node] for node in made.values() if node in self.column), None)
        inside, states = set(made.values()), {place for _, _, reads in carries.leaves for place in reads}
        for name, new, reads in carries.leaves:
            fresh = self._argument(made, *new) if new is not None else None
            position = self.position[fresh] if fresh is not None and self.column.get(fresh) == here else None
            for place in [p for k, i in reads if k in made for p in self._readers(made[k], i)]:
                if position is not None:
                    self.carried.setdefault(place, position)
                if name and place in self.carried:
                    self.called[self.carried[place]] = self.heard[place] = name
        for k, node in made.items():  # what comes from the step before and is no state of the cell is fed to it
            fed = [
                i for i, a in enumerate(node.inputs) if isinstance(a, Node) and a not in inside and (k, i) not in states
            ]
            for place in [p for i in fed for p in self._readers(node, i) if p in self.carried]:
                self.called.setdefault(self.carried[place], "x")

    def _argument(self, made: Mapping[int, Node], k: int, i: int) -> Node | None:
        """What is drawn for an operation (i < 0), or for its argument i."""
        node = made.get(k) if i < 0 else made[k].inputs[i] if k in made else None
        drawn = self.flow.same.get(node) if isinstance(node, Node) else None
        if drawn is None:
            return None
        masks = (r for r in self.flow.readers.get(drawn, ()) if self.flow.is_mask(r) and self.flow.args[r][1] is drawn)
        return next(masks, drawn)

    def _readers(self, node: Node, i: int) -> Iterable[tuple[Position, int]]:
        """Where in its step an operation's argument is read: by itself, or by those that read it where it is a view.

        What the step computed itself is not from before it.
        """
        same, position, column = self.flow.same, self.position, self.column
        source = same.get(node.inputs[i])
        if source is None:
            return []
        if same.get(node) is node and node in position:
            found = [(node, i)]
        else:
            readers = [r for r in self.flow.readers.get(source, ()) if r in position]
            found = [(r, k) for r in readers for k, a in enumerate(self.flow.args[r]) if a is source]
        own = source in position and position[source][1] >= 0
        return [(position[r], k) for r, k in found if not (own and column[r] == column[source])]

    def state(self, node: Node) -> str:
        """Of which kind: "hidden", "cell" or ""; an input that goes on to the next step is an input."""
        position = self.position.get(node)
        kind = "" if position is None or position[1] < 0 else self.kind.get(position, "")
        return "" if kind == "said" else kind

    def stream(self, node: Node, i: int) -> Position | None:
        """The position of the state that argument i of an operation is, in its step or in others of its kind."""
        position = self.position.get(node)
        return None if position is None else self.carried.get((position, i))

    def is_pinned(self, node: Node) -> bool:
        """Must it be drawn because others than its own step read it?"""
        position = self.position.get(node)
        return node is self.flow.root or position in self.kind or position in self.shown


def _matched(carries: Carries, made: list[Node]) -> dict[int, Node]:
    """The operations of a call by their numbers in the one that was watched; some may be missing at either end."""
    known = [(k, _alike(name)) for k, name in enumerate(carries.ops) if name != "split"]
    given = [node for node in made if node.op.name != "split"]
    names, ops = [name for _, name in known], [_alike(node.op.name) for node in given]
    most = min(len(ops), len(names))
    for start in range(1 - len(ops), len(names)):
        first, last = max(start, 0), min(start + len(ops), len(names))
        if last - first == most and names[first:last] == ops[first - start : last - start]:
            return {known[k][0]: given[k - start] for k in range(first, last)}
    return {}


def _alike(op: str) -> str:
    """The parts of a split are slices in a recorded step."""
    return "getitem" if op == "pick" else op
