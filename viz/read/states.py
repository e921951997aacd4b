"""Which values go from step to step, and what each is to its step.

Steps are compared by position. So the last step knows its state although nothing reads it, and the first one knows that
it reads an initial state.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations

from tinygrad_rnn.autograd.graph import Node
from viz.read.columns import Column
from viz.read.flow import Flow
from viz.read.positions import Kind, Position, Reading, Steps, steps_of
from viz.read.state_names import Carried, Names, names_of_states

FEW = 16  # kinds of steps that are compared with each other
POINTWISE = {"add", "sub", "mul", "div", "where", "neg", "tanh", "sigmoid", "relu", "maximum", "minimum", "clip"}


@dataclass(frozen=True, eq=False)
class States:
    """The steps of a graph, and what goes from one to another.

    columns, above, below, column  as in Columns
    position where in its step an operation stands
    kind     for the positions whose value a later column reads: "hidden" or "cell"; "said" if that is the letter of it
             alone, by look-ups: what a model says and is fed is no state
    shown    the positions that are read outside of the columns
    carried  the position of the state that is read there
    apart    how many steps ago that state was made
    called   the names of states, as the code of their cells has them
    heard    the name of the state that is read there
    back     the positions whose value an earlier column reads: states that run backwards in time
    """

    flow: Flow
    columns: list[Column]
    above: list[Node]
    below: list[Node]
    column: dict[Node, int]
    position: dict[Node, Position]
    kind: dict[Position, str]
    shown: set[Position]
    carried: Carried
    apart: dict[Reading, int]
    called: dict[Position, str]
    heard: dict[Reading, str]
    back: set[Position]

    def kind_of(self, node: Node) -> str:
        """Of which kind: "hidden", "cell" or ""; an input that goes on to the next step is an input."""
        position = self.position.get(node)
        kind = "" if position is None or position[1] < 0 else self.kind.get(position, "")
        return "" if kind == "said" else kind

    def read_by(self, node: Node, i: int) -> Position | None:
        """The position of the state that argument i of an operation is, in its step or in others of its kind."""
        position = self.position.get(node)
        return None if position is None else self.carried.get((position, i))

    @cached_property
    def leftward(self) -> set[int]:
        """The runs from the future: those that read a sequence from its end, and loops that count down."""
        runs = self.flow.runs
        return runs.back | {runs.of[n] for n, at in self.position.items() if at in self.back and n in runs.of}

    def is_pinned(self, node: Node) -> bool:
        """Must it be drawn because others than its own step read it?"""
        position = self.position.get(node)
        return node is self.flow.root or position in self.kind or position in self.shown


def states_of(flow: Flow) -> States:
    """The states of a graph whose runs are aligned, as flow_of returns it."""
    steps = steps_of(flow)
    reads = _reads(steps)
    carried, names = reads.carried, Names({}, {})
    if len(steps.kinds) <= FEW:
        _compare_beginnings(steps.kinds, carried)
        names = names_of_states(steps, carried)
    apart = _ages(steps, reads)
    shown = reads.shown | {position for reader, i, position in reads.strangers if (reader, i) not in carried}
    kind, s = _kinds(steps, reads), steps
    return States(
        flow, s.columns, s.above, s.below, s.column, s.position, kind, shown, carried, apart, *names, reads.back
    )


@dataclass(eq=False)
class _Reads:
    """Who reads what of another step.

    readers    the operations that read a state
    ages       (who reads, the state, how many steps ago it was made)
    strangers  (reader, argument, position) of what is read of another run: it may be the first state
    """

    carried: Carried = field(default_factory=dict)
    readers: dict[Position, set[str]] = field(default_factory=lambda: defaultdict(set))
    ages: list[tuple[Reading, Node, int]] = field(default_factory=list)
    strangers: list[tuple[Position, int, Position]] = field(default_factory=list)
    shown: set[Position] = field(default_factory=set)
    back: set[Position] = field(default_factory=set)


def _reads(steps: Steps) -> _Reads:
    """What is read of an earlier step, of another run, and outside of time."""
    flow, column, position, found = steps.flow, steps.column, steps.position, _Reads()
    order = {(run, t): k for run, ts in flow.runs.steps.items() for k, t in enumerate(sorted(ts))}
    for node in flow.nodes:
        for i, source in enumerate(flow.args[node]):
            at = position.get(source) if isinstance(source, Node) else None
            if at is None or column.get(node) == column[source]:
                continue
            here, there = steps.columns[column[source]], steps.columns[column[node]] if node in column else None
            if there is None or here.t is None or there.t is None:
                found.shown.add(at)
            elif here.run != there.run:
                found.strangers.append((position[node], i, at))
            else:
                found.carried[position[node], i] = at
                found.readers[at].add(flow.op(node))
                ago = abs(order[there.run, there.t] - order[here.run, here.t])
                found.ages.append(((position[node], i), source, ago))
                if column[node] < column[source]:
                    found.back.add(at)
    return found


def _compare_beginnings(kinds: dict[Kind, int], carried: Carried) -> None:
    """Where one kind of step begins as another (the same cell, then a mask), both read their states there."""
    for ((run, short), a), ((other_run, long), b) in permutations(kinds.items(), 2):
        if run == other_run and len(short) < len(long) and long[: len(short)] == short:
            for (position, i), source in list(carried.items()):
                for kind, other in ((a, b), (b, a)):
                    if position[0] == kind and position[1] < len(short):
                        carried.setdefault(((other, position[1]), i), source)


def _ages(steps: Steps, reads: _Reads) -> dict[Reading, int]:
    """How old a state is when it is read: as little as anywhere, for steps may be left out in between. What is
    read as a first state has no age.
    """
    flow, column, position = steps.flow, steps.column, steps.position
    apart: dict[Reading, int] = {}
    for place, source, ago in reads.ages:
        leaf = position[source][1] < 0 and flow.readers[source]
        mine = [(position[r], k) for r in leaf or () if column.get(r) == column[source]
                for k, a in enumerate(flow.args[r]) if a is source]  # fmt: skip
        if not any(read in reads.carried for read in mine):
            apart[place] = min(ago, apart.get(place, ago))
    for at, i in reads.carried.keys() - apart.keys():  # as in other steps that begin like it
        ages = [ago for (other, k), ago in apart.items() if (other[1], k) == (at[1], i)]
        if ages:
            apart[at, i] = min(ages)
    return apart


def _kinds(steps: Steps, reads: _Reads) -> dict[Position, str]:
    """What each state is: a memory is read by pointwise operations only."""
    flow, position = steps.flow, steps.position
    ops = {at: flow.op(node) for node, at in position.items()}
    for (reader, _), at in reads.carried.items():
        reads.readers[at].add(ops[reader])
    said: set[Position] = set()
    kept: set[Position] = set()
    fed = {(position[n], i) for n, source in flow.fed.items() if n in position
           for i, a in enumerate(flow.args[n]) if a is source}  # fmt: skip
    for read, at in reads.carried.items():
        (said if read in fed else kept).add(at)
    kind = {at: "cell" if found <= POINTWISE else "hidden" for at, found in reads.readers.items()}
    return kind | dict.fromkeys(said - kept, "said")
