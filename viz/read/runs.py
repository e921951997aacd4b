"""Time in the graph: runs over it, their steps, and which of these are kept for a drawing.

A long sequence is cut before anything else looks at it, so that a drawing costs what it shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter

from tinygrad_rnn.autograd.graph import Node
from viz.read.loops import Place, places_of

Choose = Callable[[Sequence[int]], Iterable[int]]  # the steps of a run, in order -> those that are drawn

ADDS = {"add", "sub"}
DEEP = 8  # nodes from the root within which a sum may be scaled, stacked, cast
SUMS = {"add", "sub", "mul", "div", "neg", "sum", "stack", "cast", "reshape", "transfer"}


@dataclass(eq=False)
class Runs:
    """The runs over time in a graph, and their steps.

    order    the nodes that are kept, oldest first: those of the steps that are drawn and of their neighbours, those
             outside of time, and the sums that lead to the root
    cut      those of the steps in front of a step that is not kept: the root depends on them by ways that are cut
    place    the run and the step of each node that was computed inside one
    steps    for each run all its steps, in the order of computing
    wanted   for each run the steps that are kept
    turned   the runs that say that they read their sequence from its end
    back     the runs that do, known when the runs are aligned
    beside   pairs of runs that read the same sequence, the two directions, known then
    of       the run that a node belongs to, also where runs share columns and `place` has one number for them
    """

    order: list[Node]
    cut: list[Node]
    place: dict[Node, Place]
    steps: dict[int, list[int]]
    wanted: dict[int, set[int]]
    turned: set[int]
    back: set[int] = field(default_factory=set)
    beside: list[tuple[int, int]] = field(default_factory=list)
    of: dict[Node, int] = field(default_factory=dict)

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

    def stages(self, nodes: list[Node], parents: Callable[[Node], list[Node]], inputs: set[Node]) -> dict[int, int]:
        """For each run how many layers of two directions lie below it. inputs: what several runs may read"""
        below: dict[int, set[int]] = defaultdict(set)
        source: dict[Node, set[int]] = {}  # the runs that a node outside of them comes from
        for node in nodes:
            own = None if node in inputs else self.of.get(node)
            found = {run for p in parents(node) for run in source.get(p, ())} - {own}
            if own is not None:
                below[own] |= found
            source[node] = {own} if own is not None else found
        stage: dict[int, int] = {}
        for run in sorted(below):
            pairs = {a for pair in self.beside for a in pair}
            stage[run] = max((stage.get(a, 0) + (a in pairs) for a in below[run]), default=0)
        return stage


def runs_of(nodes: list[Node], choose: Choose | None = None) -> Runs:
    """The runs of a graph. nodes: all of it, oldest first, the root last  choose: the steps that are drawn"""
    place, steps, turned = places_of(nodes)
    wanted = {run: needed(ts, choose) for run, ts in steps.items()}
    if all(len(wanted[run]) == len(ts) for run, ts in steps.items()):
        return Runs(nodes, [], place, steps, wanted, turned)
    sums = _sums(nodes[-1])
    order = _kept(nodes, place, wanted, sums)
    ends = {(run, t) for run, ts in steps.items() for t, after in pairwise(ts)
            if t in wanted[run] and after not in wanted[run]}  # fmt: skip
    cut = [n for n in order if place.get(n) in ends and n not in sums]
    return Runs(order, cut, place, steps, wanted, turned)


def _kept(
    nodes: list[Node], place: Mapping[Node, Place], wanted: Mapping[int, set[int]], sums: set[Node]
) -> list[Node]:
    """What is kept, and the leaves that it reads."""
    kept = [
        n for n in nodes
        if n.op is not None and ((at := place.get(n)) is None or at[1] in wanted[at[0]] or n in sums)
    ]  # fmt: skip
    leaves = {i for n in kept for i in n.inputs if isinstance(i, Node) and i.op is None}
    return sorted([*kept, *leaves], key=attrgetter("index"))


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
