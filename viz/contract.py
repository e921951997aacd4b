"""The recorded graph without its plumbing: what a reader of the equations would call an operation.

Views, casts and the parts of operations with several outputs stand for what they show: an edge goes from the whole to
the reader. One part stays: a slice of a sequence that one time step reads is that step's input.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.graph import Leaf, Node, ancestors, drawn
from viz.style import PRIME, subscript

Place = tuple[int, int]  # a run over time (they are numbered) and its time step

VIEWS = {"reshape", "permute", "broadcast_to", "cast", "transfer", "split", "unbind"}


class Flow:
    """The graph without plumbing. All maps are keyed by node, all lists are oldest first.

    args     what a node reads: nodes, and numbers
    readers  the nodes that read it
    place    for each node that belongs to one time step: which
    slices   the nodes that are one step's part of a sequence
    terms    when the root is a sum of losses: these; else empty
    scale    what the sum of losses is divided by
    """

    def __init__(self, root: Node):
        order = ancestors([root], drawn)
        self.place = _places(order)
        self.slices: set[Node] = set()
        same = _representatives(order, self.place, self.slices)
        self.root = same[root]
        self.args = {node: self._args(node, same) for node in order if same[node] is node}
        self._parents: dict[Node, list[Node]] = {}
        self.terms: list[Node] = []
        self.scale: float = 1
        self._index()
        self._sum_up()
        for node in self.nodes:
            if node.op is None or node in self.slices:
                self._settle(node)

    def _args(self, node: Node, same: dict[Node, Node]) -> list[Any]:
        if node in self.slices:
            whole = same[node.inputs[0]]
            return [] if whole.op is None else [whole]
        return [same[i] if isinstance(i, Node) else i for i in node.inputs]

    def parents(self, node: Node) -> list[Node]:
        """The nodes that a node reads."""
        found = self._parents.get(node)
        if found is None:
            found = self._parents[node] = [a for a in self.args[node] if isinstance(a, Node)]
        return found

    def _index(self) -> None:
        """What the root still depends on, and who reads what."""
        self.nodes = ancestors([self.root], self.parents)
        self.readers: dict[Node, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for parent in self.parents(node):
                self.readers[parent].append(node)

    def _settle(self, node: Node) -> None:
        """What is not computed belongs to the step that reads it, if it is one; parameters belong to none."""
        places = {self.place.get(reader) for reader in self.readers[node]}
        self.place.pop(node, None)
        if len(places) == 1 and None not in places and not is_parameter(node):
            self.place[node] = places.pop()  # type: ignore[assignment]

    # ---- the sum of losses ----------------------------------------------------------------------------------------

    def _sum_up(self) -> None:
        """Make the chain or the stack that adds up the losses of all steps one node."""
        terms, stack, scale = [], [self.root], 1.0
        while stack:
            node = stack.pop()
            parts = self._addends(node)
            if parts is None:
                terms.append(node)
                continue
            if self.op(node) == "div":
                scale *= self.args[node][1]
            stack.extend(reversed(parts))
        if len(terms) > 1:
            self.terms, self.scale = terms, scale
            self.args[self.root] = self._parents[self.root] = list(terms)
            self.place.pop(self.root, None)
            self._index()

    def _addends(self, node: Node) -> list[Node] | None:
        """What a scalar is the sum of; None where it is no sum."""
        if node.shape != () or (node is not self.root and len(self.readers[node]) > 1):
            return None
        op, args = self.op(node), self.args[node]
        nodes = self.parents(node)
        adds = op == "add" or (op == "sub" and node in self.place)  # loss -= … in a loop; the sign belongs to the term
        if adds and nodes and all(n.shape == () for n in nodes):
            return nodes
        if op == "div" and len(nodes) == 1 and nodes[0] is args[0] and self._addends(nodes[0]):
            return nodes
        if op == "sum" and self.op(nodes[0]) == "stack" and all(n.shape == () for n in self.parents(nodes[0])):
            return self.parents(nodes[0])
        return None

    def op(self, node: Any) -> str:
        """The name of the operation that made a node; "" for a leaf, a constant or a number."""
        return node.op.name if isinstance(node, Node) and node.op is not None else ""


def is_parameter(node: Any) -> bool:
    """Is it a leaf with a name?"""
    return isinstance(node, Leaf) and bool(node.name)


# ---- places ---------------------------------------------------------------------------------------------------------


def _places(order: Sequence[Node]) -> dict[Node, Place]:
    """The run and the step of each node that was computed inside one. A run ends where a step comes a second time."""
    places: dict[Node, Place] = {}
    current: dict[tuple, tuple[int, int, set[int]]] = {}  # modules outside the loop: run, step, steps seen
    runs = 0
    for node in order:
        at = next((i for i, name in enumerate(node.scope) if isinstance(name, int)), None)
        if at is None or node.op is None:
            continue
        outside, t = node.scope[:at], int(node.scope[at])
        run, now, seen = current.get(outside, (-1, t, {t}))
        if run < 0 or (t != now and t in seen):
            run, seen, runs = runs, {t}, runs + 1
        seen.add(t)
        current[outside] = run, t, seen
        places[node] = run, t
    return places


# ---- plumbing -------------------------------------------------------------------------------------------------------


def _representatives(order: Sequence[Node], place: dict[Node, Place], slices: set[Node]) -> dict[Node, Node]:
    """For each node the one that is drawn for it. Fills `slices`."""
    steps: dict[Node, set[Place]] = defaultdict(set)
    for node in order:
        if node in place:
            for parent in drawn(node):
                steps[parent].add(place[node])
    same: dict[Node, Node] = {}
    for node in order:
        same[node] = _behind(node, same, place, steps, slices)
    return same


def _behind(node: Node, same: dict, place: dict, steps: dict, slices: set[Node]) -> Node:
    name = node.op.name if node.op is not None else ""
    if name in VIEWS:
        return same[node.inputs[0]]
    if name == "getitem" and not _gathers(node.static["key"]):
        key = node.static["key"]
        index, axis = (key, 0) if isinstance(key, int) else (None, 0)
        source = node.inputs[0]
    elif name == "pick":
        whole = node.inputs[0]
        if whole.op.name != "unbind":
            return same[whole]
        index, axis, source = node.static["index"], whole.static["axis"], whole.inputs[0]
    else:
        return node
    part = None if index is None else _stacked(source, index, axis)
    if part is not None:
        return same[part]
    whole = same[source]
    if index is not None and place.get(whole) is None and not _is_weight(whole, name) and len(steps[node]) == 1:
        slices.add(node)
        return node
    return whole


def _is_weight(node: Node, reader: str) -> bool:
    """A row of a parameter is the parameter; what a parameter is unbound into are inputs."""
    return is_parameter(node) and reader == "getitem"


def _stacked(node: Node, index: int, axis: int) -> Node | None:
    """What was stacked at `index`, when the node is a stack along `axis`, perhaps turned round."""
    while node.op is not None and node.op.name in ("flip", "cast", "transfer"):
        if node.op.name == "flip":
            if node.static["axis"] != (axis,):
                return None
            index = node.shape[axis] - 1 - index
        node = node.inputs[0]
    if node.op is not None and node.op.name == "stack" and node.static["axis"] == axis:
        part = node.inputs[index]
        return part if isinstance(part, Node) else None
    return None


def _gathers(key: Any) -> bool:
    """Does an index pick elements one by one, as a look-up in a table does?"""
    return any(hasattr(k, "ndim") and k.ndim for k in (key if isinstance(key, tuple) else (key,)))


# ---- names ----------------------------------------------------------------------------------------------------------


def names(flow: Flow) -> dict[Node, str]:
    """What the parameters are called: by their own names, with a number for the module where a name comes twice."""
    leaves: list[Node] = [node for node in flow.nodes if isinstance(node, Leaf) and node not in flow.place]
    first: dict[Node, Node] = {leaf: min(flow.readers[leaf], key=lambda n: n.index, default=leaf) for leaf in leaves}
    leaves.sort(key=lambda leaf: first[leaf].index)
    module: dict[Node, tuple] = {}
    seen: Counter[tuple] = Counter()
    for leaf in leaves:
        scope = tuple(s for s in first[leaf].scope if isinstance(s, str))
        module[leaf] = (*scope, seen[scope, _short(leaf)])  # a second W where there is one is another module's
        seen[scope, _short(leaf)] += 1
    taken: dict[str, set[tuple]] = defaultdict(set)
    for leaf in leaves:
        taken[_short(leaf)].add(module[leaf])
    clashing = {m for found in taken.values() if len(found) > 1 for m in found}
    modules = {m: i for i, m in enumerate((m for m in dict.fromkeys(module.values()) if m in clashing), 1)}
    result: dict[Node, str] = {
        n: subscript(_short(n), modules[module[n]]) if module[n] in clashing else _short(n) for n in leaves
    }
    return _distinct(result)


def _short(leaf: Node) -> str:
    return getattr(leaf, "name", "") or "p"


def _distinct(found: dict[Node, str]) -> dict[Node, str]:
    """Primes where two are still called alike."""
    seen: dict[str, int] = {}
    for node, name in found.items():
        found[node] = name + PRIME * seen.get(name, 0) if seen.get(name, 0) < 3 else f"{name}({seen[name]})"
        seen[name] = seen.get(name, 0) + 1
    return found
