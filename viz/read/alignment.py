"""Runs over one sequence go side by side: their steps share columns, and the inputs that both read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from tinygrad_rnn.autograd.graph import Constant, Node
from viz.read.flow import Flow, sequence_of
from viz.read.loops import Place
from viz.read.parts import in_memory
from viz.read.runs import Runs


def align(flow: Flow) -> None:
    """Give runs that go side by side the same columns, and one input where both read the same."""
    place, joins = flow.place, flow.joins
    reads: dict[Node, tuple] = {n: sequence_of(n) for n in flow.nodes if n in flow.slices or n in joins}
    inputs = (n for n in flow.nodes if isinstance(n, Constant) and _is_of_one_step(flow, n))
    reads |= {node: where for node in inputs if (where := in_memory(node))}
    through = lambda node: [s for p in flow.parents(node) for s in ((p, *flow.parents(p)) if p in joins else (p,))]
    fed = flow.slices | {node for node in flow.nodes if type(node) is Constant}
    _align_runs(flow.runs, flow.nodes, through, reads, fed)
    one: dict[tuple, Node] = {}
    for node, read in reads.items():
        at = {place.get(reader) for reader in flow.readers[node]}
        if len(at) == 1:
            flow.replace(node, one.setdefault((at.pop(), read), node))
    for node in flow.nodes:
        if flow.op(node) == "flip" and _is_of_the_past(flow, *flow.parents(node)):
            flow.replace(node, *flow.parents(node))
    flow.index()


def _is_of_one_step(flow: Flow, node: Node) -> bool:
    """Does each run read it but once, as an input, and not again and again, as what its cell holds?"""
    places = {place for reader in flow.readers[node] if (place := flow.place.get(reader)) is not None}
    return len({run for run, _ in places}) == len(places)


def _is_of_the_past(flow: Flow, node: Node) -> bool:
    """Is it the outputs of a run that goes backwards? Turned round they are in the order of time."""
    return flow.op(node) == "stack" and all(flow.runs.of.get(p) in flow.runs.back for p in flow.parents(node))


def _align_runs(
    runs: Runs, nodes: list[Node], parents: Callable[[Node], list[Node]], reads: Mapping[Node, tuple], fed: set[Node]
) -> None:
    """Number the steps of runs that go backwards from the end, and give runs that share columns one number.

    reads: (sequence, index) for the nodes that are parts of one  fed: the inputs
    """
    place = runs.place
    found: dict[int, dict[int, list[tuple]]] = defaultdict(lambda: defaultdict(list))
    for node in nodes:
        at = place.get(node)
        for parent in parents(node) if at is not None else ():
            if parent in reads and at is not None:
                found[at[0]][at[1]].append(reads[parent])
    slices = defaultdict(dict, {run: _inputs(read) for run, read in found.items()})
    last = {run: n for run, each in slices.items() if (n := _last(each)) is not None}
    last |= {run: max(runs.steps[run]) for run in runs.turned if run not in last}
    last |= _opposite({run: each for run, each in slices.items() if run not in last})
    runs.back = set(last)
    for run, n in last.items():
        slices[run] = {n - t: read for t, read in slices[run].items()}
        runs.steps[run] = [n - t for t in runs.steps[run]]
        runs.wanted[run] = {n - t for t in runs.wanted[run]}
    for node in nodes:
        if node in place and place[node][0] in last:
            run, t = place[node]
            place[node] = run, last[run] - t
    runs.of = {node: place[node][0] for node in nodes if node in place}
    group, runs.beside = _merged(nodes, parents, place, slices, fed)
    for node in runs.of:
        place[node] = group[place[node][0]], place[node][1]
    for run, first in group.items():
        runs.steps[first] = max(runs.steps[first], runs.steps[run], key=len)
        runs.wanted[first] = runs.wanted[first] | runs.wanted[run]


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
