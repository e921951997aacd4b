"""A compiled layer is one node in the graph and many in a drawing: what stands for others is drawn as these."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Chosen, Node, all_parents, ancestors, recording
from tinygrad_rnn.autograd.rules import PICK
from viz.read.runs import Choose, needed


def expanded(root: Node, choose: Choose | None = None, *, copy: bool = False) -> list[Node]:
    """The same graph in full, oldest node first, its root last.

    It is a copy where something in it stands for more, and the graph stays as it is.

    The copy's nodes are made in the order of computing. Leaves are not copied.
    choose: as in runs_of, to leave out time steps  copy: make one in any case
    """
    order = ancestors([root], all_parents)
    if copy:
        root = _copied(order, choose)[root]
        order = ancestors([root], all_parents)
    while any(
        op is not None and op.unroll is not None for op in {node.op for node in order}
    ):  # again, for what stands for many in what was found
        root = _copied(order, None if choose is None else lambda steps: needed(steps, choose))[root]
        order = ancestors([root], all_parents)
    return order


def _stands_for_many(node: Node) -> bool:
    return node.op is not None and node.op.unroll is not None


def _copied(order: list[Node], choose: Choose | None) -> dict[Node, Node]:
    """The copy of each node; of what stands for many that of its output."""
    copies: dict[Node, Node] = {}
    outputs: dict[Node, list[Node]] = {}
    new = lambda node: [i for i in all_parents(node) if i not in copies]
    for node in order:
        if _stands_for_many(node):
            with recording(True):
                outputs[node] = node.op.unroll(node, choose)
            for inside in ancestors(outputs[node], new):
                _copy(inside, copies)
            copies[node] = copies[outputs[node][0]]  # of an operation with several outputs nobody reads it
        elif node.op is PICK and node.inputs[0] in outputs:
            copies[node] = copies[outputs[node.inputs[0]][node.static["index"]]]
        else:
            _copy(node, copies)
    return copies


def _copy(node: Node, copies: dict[Node, Node]) -> None:
    if node in copies:
        return
    if node.op is None:
        source = copies.get(node.source()) if isinstance(node, Chosen) else None
        copies[node] = node if source is None else Chosen(node.shape, node.dtype, source)
        return
    inputs = tuple([copies[i] if isinstance(i, Node) else i for i in node.inputs])
    made = copies[node] = Node(node.op, inputs, node.static, node.edges, node.saved, node.shape, node.dtype)
    made.scope = node.scope
