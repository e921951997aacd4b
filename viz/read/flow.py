"""The recorded graph without its plumbing: what a reader of the equations would call an operation.

Views, casts and the parts of operations with several outputs stand for what they show: an edge goes from the whole to
the reader. One part stays: a slice of a sequence that one time step reads is that step's input.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Chosen, Constant, Leaf, Node, ancestors, operands
from viz.read.runs import Choose, Place, Runs, mirrored

VIEWS = {"reshape", "permute", "broadcast_to", "cast", "transfer", "split", "unbind"}


class Flow:
    """The graph without plumbing. nodes: as in Runs. All maps are keyed by node, all lists are oldest first.

    args     what a node reads: nodes, and numbers; None for what stands in a step that is left out
    readers  the nodes that read it
    place    for each node that belongs to one time step: which
    slices   the nodes that are one step's part of a sequence
    gates    (part: whole) for the parts of a nonlinearity: z and r of σ(…) are two gates, each with its own readers
    handed   inputs that their step hands on to the next, which reads them as a part of its state
    joins    the parts of sequences that lie side by side, as the outputs of two directions do
    terms    when the root is a sum of losses: these; else empty
    scale    what the sum of losses is divided by
    same     for each node of the whole graph the one that is drawn for it
    runs     the runs over time
    """

    def __init__(self, nodes: list[Node], choose: Choose | None = None):
        self.runs = Runs(nodes, choose)
        order, self.place = self.runs.order, self.runs.place
        self.slices: set[Node] = set()
        self.handed: set[Node] = set()
        self.joins: dict[Node, list[Node]] = {}
        self.gates: dict[Node, Node] = {}
        self.same = self._representatives(order)
        self.root = self.same[nodes[-1]]
        self.fed: dict[Node, Node] = {}
        self.args = {node: self._args(node) for node in order if self.same[node] is node}
        self._parents: dict[Node, list[Node]] = {}
        self.terms: list[Node] = []
        self.scale: float = 1
        self._index()
        self._align()
        self._sum_up()
        for node in self.nodes:
            if node.op is None or node in self.slices or node in self.joins:
                self._settle(node)

    def _args(self, node: Node) -> list[Any]:
        same = self.same
        node = self.gates.get(node, node)
        if node in self.joins:
            return [same[part] for part in self.joins[node]]
        if node in self.slices:
            whole = same[self._read(node)[0]]
            return [] if whole.op is None else [whole]
        known = [*operands(node), *(i for i in node.inputs[1:] if self.op(node) == "getitem" and not self._is_lost(i))]
        fed = [i for i in known if isinstance(i, Chosen) and not self._is_lost(i)]
        if fed:
            self.fed[node] = same[fed[0]]
        args = [same.get(i) if isinstance(i, Node) else i for i in known]
        return list(dict.fromkeys(a for a in args if a is not None)) if self.op(node) == "stack" else args

    def parents(self, node: Node) -> list[Node]:
        """The nodes that a node reads."""
        found = self._parents.get(node)
        if found is None:
            found = self._parents[node] = [a for a in self.args[node] if isinstance(a, Node)]
        return found

    def _index(self) -> None:
        """What the root still depends on, and who reads what."""
        self.nodes = ancestors({self.root, *(self.same[node] for node in self.runs.cut)}, self.parents)
        self.readers: dict[Node, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for parent in self._parents[node]:
                self.readers[parent].append(node)

    def _align(self) -> None:
        """Give runs that go side by side the same columns, and one input where both read the same."""
        place, joins = self.place, self.joins
        reads: dict[Node, tuple] = {n: self._read(n) for n in self.nodes if n in self.slices or n in joins}
        inputs = (n for n in self.nodes if isinstance(n, Constant) and self._is_of_one_step(n))
        reads |= {node: where for node in inputs if (where := _in_memory(node))}
        through = lambda node: [s for p in self.parents(node) for s in ((p, *self.parents(p)) if p in joins else (p,))]
        fed = self.slices | {node for node in self.nodes if type(node) is Constant}
        self.runs.align(self.nodes, through, reads, fed)
        one: dict[tuple, Node] = {}
        for node, read in reads.items():
            at = {place.get(reader) for reader in self.readers[node]}
            if len(at) == 1:
                self._replace(node, one.setdefault((at.pop(), read), node))
        for node in self.nodes:
            if self.op(node) == "flip" and self._is_of_the_past(*self.parents(node)):
                self._replace(node, *self.parents(node))
        self._index()

    def _is_of_one_step(self, node: Node) -> bool:
        """Does each run read it but once, as an input, and not again and again, as what its cell holds?"""
        places = {place for reader in self.readers[node] if (place := self.place.get(reader)) is not None}
        return len({run for run, _ in places}) == len(places)

    def _replace(self, node: Node, other: Node) -> None:
        """Let what reads a node read another one."""
        if node is not other:
            for reader in self.readers[node]:
                self.args[reader] = [other if a is node else a for a in self.args[reader]]
                self._parents.pop(reader, None)

    def _is_of_the_past(self, node: Node) -> bool:
        """Is it the outputs of a run that goes backwards? Turned round they are in the order of time."""
        return self.op(node) == "stack" and all(self.runs.of.get(p) in self.runs.back for p in self.parents(node))

    @staticmethod
    def _read(node: Node) -> tuple[Node, int]:
        """The sequence that a node is a part of, and which part."""
        source, index, axis = _part(node)
        assert index is not None
        return _unturned(source, index, axis)

    def _settle(self, node: Node) -> None:
        """What is not computed belongs to the step that reads it, if it is one, or first; parameters belong to none."""
        readers = sorted(self.readers[node], key=attrgetter("index"))
        places = dict.fromkeys(self.place.get(reader) for reader in readers)
        self.place.pop(node, None)
        if (len(places) == 1 or node in self.handed) and None not in places and not is_parameter(node):
            self.place[node] = next(iter(places))  # type: ignore[assignment]

    # ---- plumbing -------------------------------------------------------------------------------------------------

    def _representatives(self, order: Sequence[Node]) -> dict[Node, Node]:
        """For each node the one that is drawn for it. Fills `slices` and `joins`."""
        steps: dict[Node, set[Place]] = defaultdict(set)
        place = self.place
        for node in order:
            at = place.get(node)
            if at is not None:
                for parent in node.inputs:
                    if isinstance(parent, Node):
                        steps[parent].add(at)
        self._find_handed({n: at for n, at in steps.items() if len(at) > 1 and _may_be_handed_on(n)})
        same: dict[Node, Node] = {}
        for node in order:
            op = node.op
            if op is None:
                same[node] = same.get(node.source(), node) if isinstance(node, Chosen) else node
            elif op.name == "stack" and len(node.inputs) == 1 and node in place:
                same[node] = same.get(node.inputs[0], node)  # a layer over one step, within a step
            else:
                same[node] = node if op.name not in BEHIND else self._behind(node, same, steps)
        return same

    def _find_handed(self, steps: dict[Node, set[Place]]) -> None:
        """Of inputs that several steps read: are they read in another way each time? What a cell captured is not."""
        uses: dict[Node, dict[Place, set]] = {node: defaultdict(set) for node in steps}
        ranks: Counter[tuple] = Counter()
        for node in self.runs.order if steps else ():
            at = self.place.get(node)
            if at is None or node.op is None or node in steps:
                continue
            ranks[at, node.op.name] += 1
            for i, parent in enumerate(node.inputs):
                if isinstance(parent, Node) and parent in uses:
                    uses[parent][at].add((node.op.name, ranks[at, node.op.name], i))
        for node, places in steps.items():
            ways, (run, *others) = list(uses[node].values()), {run for run, _ in places}
            by_all = len(places) == len(self.runs.wanted[run]) > 3
            if not others and not by_all and ways[0] not in ways[1:]:
                self.handed.add(node)

    def _behind(self, node: Node, same: dict[Node, Node], steps: dict[Node, set[Place]]) -> Node:
        name = node.op.name
        if name in VIEWS:
            return same.get(node.inputs[0], node)
        if name == "getitem" and _gathers(node.static["key"]):
            return node
        gate = self._gate(node, same)
        if gate is not None:
            self.gates[node] = gate
            return node
        if name == "pick" and node.inputs[0].op.name != "unbind":
            return same.get(node.inputs[0], node)
        source, index, axis = _part(node)
        parts = None if index is None else _parts(source, index, axis)
        if parts is not None and all(p in same for p in parts):
            if len(parts) == 1:
                return same[parts[0]]
            self.joins[node] = parts
            return node
        whole = same.get(source if index is None else _unturned(source, index, axis)[0], node)
        is_sequence = index is not None and self.place.get(whole) is None and not _is_weight(whole, name)
        if is_sequence and (len(steps[node]) == 1 or node in self.handed):
            self.slices.add(node)
            return node
        return whole

    @staticmethod
    def _gate(node: Node, same: dict[Node, Node]) -> Node | None:
        """The nonlinearity that a node is one of several parts of, side by side."""
        whole = node.inputs[0]
        if node.op.name == "pick" and whole.op.name == "split":
            whole = whole.inputs[0]
        elif node.op.name != "getitem" or isinstance(node.static["key"], int):
            return None
        whole = same.get(whole, whole)
        return whole if whole.op is not None and whole.op.name in GATES else None

    # ---- the sum of losses ----------------------------------------------------------------------------------------

    def _sum_up(self) -> None:
        """Make the chain or the stack that adds up the losses of all steps one node."""
        terms: list[Node] = []
        root, scale = self._unscaled()
        stack = [root]
        while stack:
            node = stack.pop()
            parts = self._addends(node)
            if parts is None:
                terms.append(node)
            else:
                stack.extend(reversed(parts))
        if len(terms) > 1:
            self.terms, self.scale = [t for t in terms if not self.runs.is_left_out(t)], scale
            self.args[self.root] = self._parents[self.root] = list(self.terms)
            self.place.pop(self.root, None)
            self._index()

    def _unscaled(self) -> tuple[Node, float]:
        """The sum that the root is a multiple of, and what it is divided by."""
        node, scale = self.root, 1.0
        while node.shape == () and self.op(node) in ("mul", "div", "neg") and len(self.parents(node)) == 1:
            (sum_,), args = self.parents(node), self.args[node]
            number = next((a for a in args if not isinstance(a, Node)), -1)
            if number == 0 or (self.op(node) == "div" and args[0] is not sum_):
                break
            scale = scale * number if self.op(node) == "div" else scale / number
            node = sum_
        return node, scale

    def _addends(self, node: Node) -> list[Node] | None:
        """What a scalar is the sum of; None where it is no sum."""
        if node.shape != () or (node is not self.root and len(self.readers[node]) > 1):
            return None
        op = self.op(node)
        nodes = self.parents(node)
        adds = op == "add" or (op == "sub" and node in self.place)  # loss -= … in a loop; the sign belongs to the term
        if adds and nodes and all(n.shape == () for n in nodes):
            return nodes
        if op == "sum" and nodes and self.op(nodes[0]) == "stack":
            nodes = self.parents(nodes[0])
            return nodes if all(n.shape == () for n in nodes) else None
        return None

    def said(self, node: Node) -> Node | None:
        """What the letters that an operation reads were chosen from, if the graph knows; None if it reads none."""
        return self.fed.get(node)

    def _is_lost(self, node: Node) -> bool:
        """Letters that were chosen from what is no more: a look-up of them is one of an input."""
        return isinstance(node, Chosen) and self.same.get(node) is node

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


PARTS = {"getitem", "pick"}
GATES = {"sigmoid", "tanh", "relu"}
BEHIND = VIEWS | PARTS


def is_parameter(node: Any) -> bool:
    """Is it a leaf with a name?"""
    return isinstance(node, Leaf) and bool(node.name)


def _may_be_handed_on(node: Node) -> bool:
    """Is it an input of a step: an array, or a part of a sequence?"""
    return (node.op is None and not isinstance(node, Leaf)) or (
        node.op is not None and node.op.name in ("pick", "getitem")
    )


# ---- parts of sequences ---------------------------------------------------------------------------------------------


def _part(node: Node) -> tuple[Node, int | None, int]:
    """(sequence, index, axis) of a node that is a part of one; the index is None for other views."""
    if node.op.name == "pick":
        whole = node.inputs[0]
        return whole.inputs[0], node.static["index"], whole.static["axis"]
    key = node.static["key"]
    source: Node = node.inputs[0]
    return (source, key % source.shape[0], 0) if isinstance(key, int) else (source, None, 0)


def _in_memory(node: Constant) -> tuple | None:
    """Where the array of an input lies, if it is still there: parts of plain data are told apart by it."""
    array = None if node.data is None else node.data()
    if type(array) is not np.ndarray or array.size == 0:
        return None
    kind = "data" if array.base is None else "part"
    return kind, array.__array_interface__["data"][0], array.shape, array.strides


def _is_weight(node: Node, reader: str) -> bool:
    """A row of a parameter is the parameter; what a parameter is unbound into are inputs."""
    return is_parameter(node) and reader == "getitem"


def _unturned(node: Node, index: int, axis: int) -> tuple[Node, int]:
    """The same part, of the sequence before it was turned round, cast or moved."""
    while node.op is not None and node.op.name in ("flip", "cast", "transfer"):
        if node.op.name == "flip":
            if node.static["axis"] != (axis,):
                break
            index = mirrored(index, node.shape[axis])
        node = node.inputs[0]
    return node, index


def _parts(node: Node, index: int, axis: int) -> list[Node] | None:
    """What stands at `index` of a sequence that was stacked from steps, or of several side by side; else None."""
    node, index = _unturned(node, index, axis)
    name = node.op.name if node.op is not None else ""
    if name == "stack" and node.static["axis"] == axis:
        part = node.inputs[index]
        return [part] if isinstance(part, Node) else None
    if name == "concat" and node.static["axis"] not in (axis, axis - len(node.shape)):
        found = [_parts(i, index, axis) for i in node.inputs if isinstance(i, Node)]
        return None if None in found else list(_flat(found))  # type: ignore[arg-type]
    return None


def _flat(lists: Iterable[list[Node]]) -> Iterable[Node]:
    return (node for nodes in lists for node in nodes)


def _gathers(key: Any) -> bool:
    """Does an index pick elements one by one, as a look-up in a table does?"""
    return any(hasattr(k, "ndim") and k.ndim for k in (key if isinstance(key, tuple) else (key,)))
