"""Time in the graph: runs over it, their steps, and which of these are kept for a drawing.

A long sequence is cut before anything else looks at it, so that a drawing costs what it shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import Any

from tinygrad_rnn.autograd.graph import ModuleName, Node, StepBack

Place = tuple[int, int]  # a run over time (they are numbered) and its time step
Choose = Callable[[Sequence[int]], Iterable[int]]  # the steps of a run, in order -> those that are drawn

ADDS = {"add", "sub"}
DEEP = 8  # nodes from the root within which a sum may be scaled, stacked, cast
SUMS = {"add", "sub", "mul", "div", "neg", "sum", "stack", "cast", "reshape", "transfer"}


class Runs:
    """The steps of a graph. nodes: all of it, oldest first, the root last

    order    the nodes that are kept, oldest first: those of the steps that are drawn and of their neighbours, those
             outside of time, and the sums that lead to the root
    cut      those of the steps in front of a step that is not kept: the root depends on them by ways that are cut
    place    the run and the step of each node that was computed inside one
    steps    for each run all its steps, in the order of computing
    beside   pairs of runs that read the same sequence: the two directions
    back     the runs that read their sequence from its end, and `turned`: those that say so
    of       the run that a node belongs to, also where runs share columns and `place` has one number for them
    """

    def __init__(self, nodes: list[Node], choose: Choose | None = None):
        self.place, self.steps, self.turned = _places(nodes)
        self.wanted = {run: needed(steps, choose) for run, steps in self.steps.items()}
        self.order = nodes
        self.cut: list[Node] = []
        if any(len(self.wanted[run]) < len(steps) for run, steps in self.steps.items()):
            sums, wanted = _sums(nodes[-1]), self.wanted
            self.order = self._kept(nodes, sums)
            ends = {(run, t) for run, steps in self.steps.items() for t, after in pairwise(steps)
                    if t in wanted[run] and after not in wanted[run]}  # fmt: skip
            self.cut = [n for n in self.order if self.place.get(n) in ends and n not in sums]

    def _kept(self, nodes: list[Node], sums: set[Node]) -> list[Node]:
        """What is kept, and the leaves that it reads."""
        place, wanted = self.place, self.wanted
        kept = [
            n for n in nodes
            if n.op is not None and ((at := place.get(n)) is None or at[1] in wanted[at[0]] or n in sums)
        ]  # fmt: skip
        leaves = {i for n in kept for i in n.inputs if isinstance(i, Node) and i.op is None}
        return sorted([*kept, *leaves], key=attrgetter("index"))

    def is_left_out(self, node: Node) -> bool:
        """Does it stand in a step that is not kept?"""
        at = self.place.get(node)
        return at is not None and at[1] not in self.wanted[at[0]]

    def count(self, run: int, after: int | None, before: int | None) -> int:
        """How many steps of a run come after one and before another; None: after none, before none."""
        steps = sorted(self.steps[run])
        apart = {b - a for a, b in pairwise(steps)}
        unit = apart.pop() if len(apart) == 1 else 1  # else some were never recorded, for they are left out
        first = steps[0] - unit if after is None else after
        last = steps[-1] + unit if before is None else before
        return max((last - first) // unit - 1, 0)

    def stages(self, nodes: list[Node], parents: Callable[[Node], list[Node]]) -> dict[int, int]:
        """For each run how many layers of two directions lie below it."""
        below: dict[int, set[int]] = defaultdict(set)
        source: dict[Node, set[int]] = {}  # the runs that a node outside of them comes from
        for node in nodes:
            own = self.of.get(node)
            found = {run for p in parents(node) for run in source.get(p, ())} - {own}
            if own is not None:
                below[own] |= found
            source[node] = {own} if own is not None else found
        stage: dict[int, int] = {}
        for run in sorted(below):
            pairs = {a for pair in self.beside for a in pair}
            stage[run] = max((stage.get(a, 0) + (a in pairs) for a in below[run]), default=0)
        return stage

    # ---- runs side by side ----------------------------------------------------------------------------------------

    def align(
        self, nodes: list[Node], parents: Callable[[Node], list[Node]], reads: Mapping[Node, tuple], fed: set[Node]
    ) -> None:
        """Number the steps of runs that go backwards from the end, and give runs that share columns one number.

        reads: (sequence, index) for the nodes that are parts of one  fed: the inputs
        """
        place = self.place
        found: dict[int, dict[int, list[tuple]]] = defaultdict(lambda: defaultdict(list))
        for node in nodes:
            at = place.get(node)
            for parent in parents(node) if at is not None else ():
                if parent in reads and at is not None:
                    found[at[0]][at[1]].append(reads[parent])
        slices = defaultdict(dict, {run: _inputs(read) for run, read in found.items()})
        last = {run: n for run, each in slices.items() if (n := _last(each)) is not None}
        last |= {run: max(self.steps[run]) for run in self.turned if run not in last}
        last |= _opposite({run: each for run, each in slices.items() if run not in last})
        self.back = set(last)
        for run, n in last.items():
            slices[run] = {n - t: read for t, read in slices[run].items()}
            self.steps[run] = [n - t for t in self.steps[run]]
            self.wanted[run] = {n - t for t in self.wanted[run]}
        for node in nodes:
            if node in place and place[node][0] in last:
                run, t = place[node]
                place[node] = run, last[run] - t
        self.of = {node: place[node][0] for node in nodes if node in place}
        group, self.beside = _merged(nodes, parents, place, slices, fed)
        for node in self.of:
            place[node] = group[place[node][0]], place[node][1]
        for run, first in group.items():
            self.steps[first] = max(self.steps[first], self.steps[run], key=len)
            self.wanted[first] = self.wanted[first] | self.wanted[run]


def _inputs(read: Mapping[int, list[tuple]]) -> dict[int, tuple]:
    """What each step of a run reads as its input, of all that it reads: a part of the sequence that most steps read
    parts of, else a part of an array, else an array by itself. A first state is a part that one step reads.
    """
    of = Counter(where[0] for each in read.values() for where in set(each) if len(where) == 2)
    rank = lambda where: -of[where[0]] if of[where[0]] > 1 else 1 if where[0] == "part" else 2 + (len(where) == 2)
    return {t: min(each, key=rank) for t, each in read.items()}


def _last(read: Mapping[int, tuple]) -> int | None:
    """The number of the last step of a run whose steps read their sequence from its end; None for others."""
    sums = [t + where[1] for t, where in read.items() if len(where) == 2]
    return sums[0] if len(sums) > 1 and len(set(sums)) == 1 else None


def _opposite(slices: Mapping[int, Mapping[int, tuple]]) -> dict[int, int]:
    """Runs that read from its end what an earlier one reads from its beginning, and the number of their last step."""
    found: dict[int, int] = {}
    for run, read in slices.items():
        n = max(read, default=0)
        turned = {n - t: where for t, where in read.items()}
        if len(read) > 1 and any(a < run and a not in found and slices[a] == turned != read for a in slices):
            found[run] = n
    return found


def mirrored(t: int, n: int) -> int:
    """The number of a step when they are counted from the end."""
    return n - 1 - t


def needed(steps: Sequence[int], choose: Choose | None) -> set[int]:
    """The steps that are drawn, and their neighbours: these tell what goes from step to step."""
    if choose is None:
        return set(steps)
    number = {t: i for i, t in enumerate(steps)}
    chosen = {number[t] for t in choose(steps)}
    chosen |= {mirrored(i, len(steps)) for i in chosen}  # should the run turn out to go backwards
    near = {k for i in (0, len(steps) - 1, *chosen) for k in (i - 1, i, i + 1)}
    return {t for t, i in number.items() if i in near}


def _sums(root: Node) -> set[Node]:
    """The sum of losses: the root, what it is a multiple of, and the sums of scalars below."""
    found, stack = {root}, [root]
    while stack:
        node = stack.pop()
        op = node.op.name if node.op is not None else ""
        if node.shape != () or op not in (SUMS if node is root or len(found) <= DEEP else ADDS):
            continue
        for parent in node.inputs:
            if isinstance(parent, Node) and parent not in found and parent.op is not None and parent.op.name in SUMS:
                found.add(parent)
                if parent.op.name in ADDS or len(found) <= DEEP:
                    stack.append(parent)
    return found


def _places(order: Sequence[Node]) -> tuple[dict[Node, Place], dict[int, list[int]], set[int]]:
    """The run and the step of each node that was computed inside one, the steps of each run, the runs that go back.

    A run ends where a step comes a second time, also at once, where it comes there only: two loops that touch.
    """
    places: dict[Node, Place] = {}
    steps: dict[int, list[int]] = {}
    runs: dict[tuple, _Run] = {}  # the one under way, by the modules outside the loop
    turned: set[int] = set()
    last, here, again = None, None, None
    for node in order:  # all nodes of a graph: little may happen here
        if node.op is None:
            continue
        if node.scope is not last:
            last = node.scope
            run = _enter(last, runs, places, steps)
            here = None if run is None else (run.number, int(run.step))
            if run is not None and type(run.step) is StepBack:
                turned.add(run.number)
            again = run.again if run is not None and run.blocks > 1 else None
        if here is not None:
            places[node] = here
            if again is not None:
                again.append(node)
    return places, steps, turned


def _enter(scope: tuple, runs: dict[tuple, _Run], places: dict[Node, Place], steps: dict[int, list[int]]) -> Any:
    """The run that a scope belongs to, gone on to its step; None outside of time."""
    at = next((i for i, name in enumerate(scope) if isinstance(name, int)), None)
    if at is None:
        return None
    outside, t = tuple([id(name) if isinstance(name, ModuleName) else name for name in scope[:at]]), scope[at]
    run = runs.get(outside)
    if run is None:
        run = runs[outside] = _Run(len(steps))
        steps[run.number] = []
    if run.step is not t:
        if run.step is not None and t != run.step and int(t) in run.seen:
            run = runs[outside] = _next(run, len(steps), places, steps)
        run.enter(t, steps[run.number])
    return run


@dataclass(eq=False)
class _Run:
    """A loop that is being read.

    step    the step that it is in
    blocks  how often that was entered in a row, and `usual`: how often the first one was
    again   the nodes since it was entered last, if it was before
    """

    number: int
    step: Any = None
    blocks: int = 0
    usual: int = 0
    seen: set[int] = field(default_factory=set)
    again: list[Node] = field(default_factory=list)

    def enter(self, t: Any, steps: list[int]) -> None:
        """Go on to a step, or enter it again."""
        self.again = []
        if self.step is not None and t == self.step:
            self.blocks += 1
        else:
            self.usual = self.usual or self.blocks
            self.blocks = 1
        self.step = t
        if int(t) not in self.seen:
            self.seen.add(int(t))
            steps.append(int(t))


def _next(run: _Run, number: int, places: dict[Node, Place], steps: dict[int, list[int]]) -> _Run:
    """The run after one. If that one's last step was entered once more than the others, this is where it began."""
    new = _Run(number)
    steps[number] = []
    if run.blocks > (run.usual or 1):
        new.enter(run.step, steps[number])
        places.update(dict.fromkeys(run.again, (number, int(run.step))))
    return new


def _merged(
    nodes: list[Node], parents: Callable[[Node], list[Node]], place: Mapping[Node, Place], slices: Mapping[int, dict],
    fed: set[Node],
) -> tuple[dict[int, int], list[tuple[int, int]]]:  # fmt: skip
    """For each run the first of those that share its columns: layers, where step t reads step t below, and the two
    directions over one sequence; these are listed.
    """
    same: dict[tuple[int, int], set[int]] = defaultdict(set)  # where a step reads the same step of another run
    apart: set[tuple[int, int]] = set()
    steps: dict[int, set[int]] = defaultdict(set)
    own: set[int] = set()  # the runs that have inputs of their own
    for node in nodes:
        at = place.get(node)
        if at is None:
            continue
        run, t = at
        steps[run].add(t)
        for parent in parents(node):
            source = place.get(parent)
            if parent in fed:
                own.add(run)
            if source is not None and source[0] != run:
                if source[1] == t:
                    same[source[0], run].add(t)
                elif source[1] > t:
                    apart.add((source[0], run))
    group: dict[int, int] = {}
    pairs: list[tuple[int, int]] = []
    for run in sorted(steps):
        few = min(2, len(steps[run]))
        alone = len(steps[run]) == 1 and run in own  # what it reads of the other is its first state
        joined = [a for a in group if len(same[a, run]) >= few and (a, run) not in apart and not alone]
        beside = [a for a in group if steps[a] == steps[run] and (a, run) not in apart
                  and sum(slices[a].get(t) == read for t, read in slices[run].items()) >= few]  # fmt: skip
        pairs += [(a, run) for a in beside]
        group[run] = group[(joined + beside)[0]] if joined or beside else run
    return group, pairs
