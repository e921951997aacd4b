"""The recorded graph without its plumbing: what a reader of the equations would call an operation.

Views, casts and the parts of operations with several outputs stand for what they show: an edge goes from the whole to
the reader. One part stays: a slice of a sequence that one time step reads is that step's input.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tinygrad_rnn.autograd.graph import Chosen, Constant, Node, ancestors, operands
from viz.read.loops import Place
from viz.read.parts import part_of, unturned
from viz.read.plumbing import PARTS, Plumbing
from viz.read.runs import Runs


@dataclass(eq=False)
class Flow:
    """The graph without plumbing. All maps are keyed by node, all lists are oldest first.

    runs     the runs over time
    place    for each node that belongs to one time step: which
    same, slices, handed, joins, gates  as in Plumbing
    root     what the graph is drawn for
    args     what a node reads: nodes, and numbers; None for what stands in a step that is left out
    fed      for a look-up of letters that were chosen: what they were chosen from
    terms    when the root is a sum of losses: these; else empty
    scale    what the sum of losses is divided by
    nodes    what the root depends on
    readers  the nodes that read a node
    """

    runs: Runs
    place: dict[Node, Place]
    same: dict[Node, Node]
    slices: set[Node]
    handed: set[Node]
    joins: dict[Node, list[Node]]
    gates: dict[Node, Node]
    root: Node
    args: dict[Node, list[Any]]
    fed: dict[Node, Node]
    terms: list[Node] = field(default_factory=list)
    scale: float = 1

    def __post_init__(self) -> None:
        self._parents: dict[Node, list[Node]] = {}
        self.index()

    @staticmethod
    def of(runs: Runs, plumbing: Plumbing, root: Node) -> Flow:
        """The flow of a graph as it was recorded: its runs are not aligned, and its losses not summed up."""
        p, fed = plumbing, dict[Node, Node]()
        args = {node: _args(p, node, fed) for node in runs.order if p.same[node] is node}
        return Flow(runs, runs.place, p.same, p.slices, p.handed, p.joins, p.gates, p.same[root], args, fed)

    def index(self) -> None:
        """Find `nodes` and `readers` again, after `args` have changed."""
        self.nodes = ancestors({self.root, *(self.same[node] for node in self.runs.cut)}, self.parents)
        self.readers: dict[Node, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for parent in self._parents[node]:
                self.readers[parent].append(node)

    def replace(self, node: Node, other: Node) -> None:
        """Let what reads a node read another one; `index` is to be called when all is replaced."""
        if node is not other:
            for reader in self.readers[node]:
                self.set_args(reader, [other if a is node else a for a in self.args[reader]])

    def set_args(self, node: Node, args: list[Any]) -> None:
        """Let a node read something else; `index` is to be called when all is done."""
        self.args[node] = args
        self._parents.pop(node, None)

    def parents(self, node: Node) -> list[Node]:
        """The nodes that a node reads, without the numbers among its arguments."""
        found = self._parents.get(node)
        if found is None:
            found = self._parents[node] = [a for a in self.args[node] if isinstance(a, Node)]
        return found

    def said(self, node: Node) -> Node | None:
        """What the letters that an operation reads were chosen from, if the graph knows; None if it reads none."""
        return self.fed.get(node)

    def is_mask(self, node: Node) -> bool:
        """Does it choose by a constant, as for sequences that have ended?"""
        return self.op(node) == "where" and isinstance(self.args[node][0], Constant)

    def op(self, node: Any) -> str:
        """The name of the operation that made a node; "" for a leaf, a constant or a number."""
        if not isinstance(node, Node) or node.op is None:
            return ""
        name: str = node.op.name
        if name in PARTS:
            return "concat" if node in self.joins else self.gates.get(node, node).op.name
        return name


def _args(plumbing: Plumbing, node: Node, fed: dict[Node, Node]) -> list[Any]:
    """What a node reads; what it was fed, if it looks up a choice, goes into `fed`."""
    same, joins = plumbing.same, plumbing.joins
    node = plumbing.gates.get(node, node)
    if node in joins:
        return [same[part] for part in joins[node]]
    if node in plumbing.slices:
        whole = same[sequence_of(node)[0]]
        return [] if whole.op is None else [whole]
    op = "" if node.op is None else node.op.name
    is_lost = lambda i: isinstance(i, Chosen) and same.get(i) is i  # chosen from what is no more: as of an input
    known = [*operands(node), *(i for i in node.inputs[1:] if op == "getitem" and not is_lost(i))]
    chosen = [i for i in known if isinstance(i, Chosen) and not is_lost(i)]
    if chosen:
        fed[node] = same[chosen[0]]
    args = [same.get(i) if isinstance(i, Node) else i for i in known]
    return list(dict.fromkeys(a for a in args if a is not None)) if op == "stack" else args


def sequence_of(node: Node) -> tuple[Node, int]:
    """The sequence that a slice or a join is a part of, and which part."""
    source, index, axis = part_of(node)
    assert index is not None
    return unturned(source, index, axis)
