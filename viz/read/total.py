"""The sum of losses: what adds up those of all steps is one node in a drawing."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Node
from viz.read.flow import Flow


def sum_up(flow: Flow) -> None:
    """Make the chain or the stack that adds up the losses of all steps one node."""
    terms: list[Node] = []
    root, scale = _unscaled(flow)
    stack = [root]
    while stack:
        node = stack.pop()
        parts = _addends(flow, node)
        if parts is None:
            terms.append(node)
        else:
            stack.extend(reversed(parts))
    if len(terms) > 1:
        flow.terms, flow.scale = [t for t in terms if not flow.runs.is_left_out(t)], scale
        flow.set_args(flow.root, list(flow.terms))
        flow.place.pop(flow.root, None)
        flow.index()


def _unscaled(flow: Flow) -> tuple[Node, float]:
    """The sum that the root is a multiple of, and what it is divided by."""
    node, scale = flow.root, 1.0
    while node.shape == () and flow.op(node) in ("mul", "div", "neg") and len(flow.parents(node)) == 1:
        (sum_,), args = flow.parents(node), flow.args[node]
        number = next((a for a in args if not isinstance(a, Node)), -1)
        if number == 0 or (flow.op(node) == "div" and args[0] is not sum_):
            break
        scale = scale * number if flow.op(node) == "div" else scale / number
        node = sum_
    return node, scale


def _addends(flow: Flow, node: Node) -> list[Node] | None:
    """What a scalar is the sum of; None where it is no sum."""
    if node.shape != () or (node is not flow.root and len(flow.readers[node]) > 1):
        return None
    op = flow.op(node)
    nodes = flow.parents(node)
    adds = op == "add" or (op == "sub" and node in flow.place)  # loss -= … in a loop; the sign belongs to the term
    if adds and nodes and all(n.shape == () for n in nodes):
        return nodes
    if op == "sum" and nodes and flow.op(nodes[0]) == "stack":
        nodes = flow.parents(nodes[0])
        return nodes if all(n.shape == () for n in nodes) else None
    return None
