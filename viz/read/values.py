"""The values of a graph's nodes, as far as its derivative rules kept them, or what they are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.graph import Leaf, Node, all_parents, ancestors, operands
from tinygrad_rnn.autograd.rules import PICK


def values(root: Node) -> dict[Node, Any]:
    """The array of each node for which it can be found; none is kept any more once backward has freed the graph."""
    order = ancestors([root], all_parents)
    check_kept((n for n in order if n.op is not None), "values are not known")
    known: dict[Node, Any] = {}
    for node in order:
        for other, value in _kept(node):
            known.setdefault(other, value)
    for node in order:
        if node not in known and isinstance(node, Leaf) and node.owner is not None:
            tensor = node.owner()
            known[node] = None if tensor is None else tensor.array
        if node not in known and node.op is not None:
            inputs: list[Any] = [known.get(i) if isinstance(i, Node) else i for i in operands(node)]
            if all(i is not None for i in inputs):
                known[node] = inputs[0][node.static["index"]] if node.op is PICK else _computed(node, inputs)
    return {node: value for node, value in known.items() if value is not None}


def check_kept(nodes: Iterable[Node], what: str) -> None:
    """ValueError if backward has freed what the nodes kept. what: is missing then"""
    if any(node.saved is None for node in nodes):
        raise ValueError(
            f"viz.draw: {what}: backward has freed the graph; draw before it, or let it keep the graph with "
            "backward(retain_graph=True)"
        )


def norm(value: Any) -> float | None:
    """‖v‖; None for what is no array of numbers."""
    if isinstance(value, tuple):
        return None
    array = np.asarray(to_numpy(value))
    return float(np.linalg.norm(array.astype(np.float64))) if array.dtype.kind == "f" else None


def _kept(node: Node) -> Iterator[tuple[Node, Any]]:
    """(node, its value) for what the rules of an operation kept."""
    op, saved = node.op, node.saved
    if op is None or not saved:
        return
    each = ((rule, saved[a:b]) for _, rule, a, b in node.edges)
    rules = [(op.joint_rule, saved)] if op.joint_rule is not None else each
    for rule, has in rules:
        for name, value in zip(op.rule_arguments.get(rule, ()), has, strict=False):
            if name == "y":
                yield node, value
            elif name in op.args:
                source = node.inputs[op.args.index(name)]
                if isinstance(source, Node):
                    yield source, value
            elif name == op.variadic:
                yield from ((i, v) for i, v in zip(node.inputs, value, strict=True) if isinstance(i, Node))


def _computed(node: Node, inputs: list[Any]) -> Any:
    try:
        return node.op.forward(*inputs, **(node.static or {}))
    except (TypeError, ValueError, IndexError):  # a value as it was kept is not always as it went in
        return None
