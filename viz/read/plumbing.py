"""Plumbing: views, casts, and the parts of operations with several outputs, which stand for what they show."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from tinygrad_rnn.autograd.graph import Chosen, Leaf, Node
from viz.read.loops import Place
from viz.read.parts import gathers, is_weight, part_of, parts_of, unturned
from viz.read.runs import Runs

VIEWS = {"reshape", "permute", "broadcast_to", "cast", "transfer", "split", "unbind"}
PARTS = {"getitem", "pick"}
GATES = {"sigmoid", "tanh", "relu"}
BEHIND = VIEWS | PARTS


@dataclass(frozen=True, eq=False)
class Plumbing:
    """What stands for others in a graph.

    same     for each node the one that is drawn for it
    slices   the nodes that are one step's part of a sequence
    handed   inputs that their step hands on to the next, which reads them as a part of its state
    joins    the parts of sequences that lie side by side, as the outputs of two directions do
    gates    (part: whole) for the parts of a nonlinearity: z and r of σ(…) are two gates, each with its own readers
    """

    same: dict[Node, Node]
    slices: set[Node]
    handed: set[Node]
    joins: dict[Node, list[Node]]
    gates: dict[Node, Node]


def plumbing_of(runs: Runs) -> Plumbing:
    """The plumbing of a graph, seen from the oldest node to the newest."""
    steps: dict[Node, set[Place]] = defaultdict(set)
    order, place = runs.order, runs.place
    for node in order:
        at = place.get(node)
        if at is not None:
            for parent in node.inputs:
                if isinstance(parent, Node):
                    steps[parent].add(at)
    handed = _handed(runs, {n: at for n, at in steps.items() if len(at) > 1 and _may_be_handed_on(n)})
    found = Plumbing({}, set(), handed, {}, {})
    same = found.same
    for node in order:
        op = node.op
        if op is None:
            same[node] = same.get(node.source(), node) if isinstance(node, Chosen) else node
        elif op.name == "stack" and len(node.inputs) == 1 and node in place:
            same[node] = same.get(node.inputs[0], node)  # a layer over one step, within a step
        else:
            same[node] = node if op.name not in BEHIND else _behind(node, found, runs, steps)
    return found


def _handed(runs: Runs, steps: dict[Node, set[Place]]) -> set[Node]:
    """Of inputs that several steps read: are they read in another way each time? What a cell captured is not."""
    uses: dict[Node, dict[Place, set]] = {node: defaultdict(set) for node in steps}
    handed: set[Node] = set()
    ranks: Counter[tuple] = Counter()
    for node in runs.order if steps else ():
        at = runs.place.get(node)
        if at is None or node.op is None or node in steps:
            continue
        ranks[at, node.op.name] += 1
        for i, parent in enumerate(node.inputs):
            if isinstance(parent, Node) and parent in uses:
                uses[parent][at].add((node.op.name, ranks[at, node.op.name], i))
    for node, places in steps.items():
        ways, (run, *others) = list(uses[node].values()), {run for run, _ in places}
        by_all = len(places) == len(runs.wanted[run]) > 3
        if not others and not by_all and ways[0] not in ways[1:]:
            handed.add(node)
    return handed


def _may_be_handed_on(node: Node) -> bool:
    """Is it an input of a step: an array, or a part of a sequence?"""
    return (node.op is None and not isinstance(node, Leaf)) or (
        node.op is not None and node.op.name in ("pick", "getitem")
    )


def _behind(node: Node, found: Plumbing, runs: Runs, steps: dict[Node, set[Place]]) -> Node:
    """What a view or a part is drawn as: what it shows, or itself where it is more than plumbing."""
    name, same = node.op.name, found.same
    if name in VIEWS:
        return same.get(node.inputs[0], node)
    if name == "getitem" and gathers(node.static["key"]):
        return node
    gate = _gate(node, same)
    if gate is not None:
        found.gates[node] = gate
        return node
    if name == "pick" and node.inputs[0].op.name != "unbind":
        return same.get(node.inputs[0], node)
    source, index, axis = part_of(node)
    parts = None if index is None else parts_of(source, index, axis)
    if parts is not None and all(p in same for p in parts):
        if len(parts) == 1:
            return same[parts[0]]
        found.joins[node] = parts
        return node
    whole = same.get(source if index is None else unturned(source, index, axis)[0], node)
    is_sequence = index is not None and runs.place.get(whole) is None and not is_weight(whole, name)
    if is_sequence and (len(steps[node]) == 1 or node in found.handed):
        found.slices.add(node)
        return node
    return whole


def _gate(node: Node, same: dict[Node, Node]) -> Node | None:
    """The nonlinearity that a node is one of several parts of, side by side."""
    whole = node.inputs[0]
    if node.op.name == "pick" and whole.op.name == "split":
        whole = whole.inputs[0]
    elif node.op.name != "getitem" or isinstance(node.static["key"], int):
        return None
    whole = same.get(whole, whole)
    return whole if whole.op is not None and whole.op.name in GATES else None
