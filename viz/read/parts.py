"""Parts of sequences: which sequence a node is cut out of, and which part of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Constant, Leaf, Node
from viz.read.runs import mirrored


def is_parameter(node: Any) -> bool:
    """Is it a leaf with a name, such as a module's parameters have?"""
    return isinstance(node, Leaf) and bool(node.name)


def part_of(node: Node) -> tuple[Node, int | None, int]:
    """(sequence, index, axis) of a node that is a part of one; the index is None for other views."""
    if node.op.name == "pick":
        whole = node.inputs[0]
        return whole.inputs[0], node.static["index"], whole.static["axis"]
    key = node.static["key"]
    source: Node = node.inputs[0]
    return (source, key % source.shape[0], 0) if isinstance(key, int) else (source, None, 0)


def in_memory(node: Constant) -> tuple | None:
    """Where the array of an input lies, if it is still there: parts of plain data are told apart by it."""
    array = None if node.data is None else node.data()
    if type(array) is not np.ndarray or array.size == 0:
        return None
    kind = "data" if array.base is None else "part"
    return kind, array.__array_interface__["data"][0], array.shape, array.strides


def is_weight(node: Node, reader: str) -> bool:
    """A row of a parameter is the parameter; what a parameter is unbound into are inputs."""
    return is_parameter(node) and reader == "getitem"


def unturned(node: Node, index: int, axis: int) -> tuple[Node, int]:
    """The same part, of the sequence before it was turned round, cast or moved."""
    while node.op is not None and node.op.name in ("flip", "cast", "transfer"):
        if node.op.name == "flip":
            if node.static["axis"] != (axis,):
                break
            index = mirrored(index, node.shape[axis])
        node = node.inputs[0]
    return node, index


def parts_of(node: Node, index: int, axis: int) -> list[Node] | None:
    """What stands at `index` of a sequence that was stacked from steps, or of several side by side; else None."""
    node, index = unturned(node, index, axis)
    name = node.op.name if node.op is not None else ""
    if name == "stack" and node.static["axis"] == axis:
        part = node.inputs[index]
        return [part] if isinstance(part, Node) else None
    if name == "concat" and node.static["axis"] not in (axis, axis - len(node.shape)):
        found = [parts_of(i, index, axis) for i in node.inputs if isinstance(i, Node)]
        return None if None in found else list(_flat(found))  # type: ignore[arg-type]
    return None


def _flat(lists: Iterable[list[Node]]) -> Iterable[Node]:
    return (node for nodes in lists for node in nodes)


def gathers(key: Any) -> bool:
    """Does an index pick elements one by one, as a look-up in a table does?"""
    return any(hasattr(k, "ndim") and k.ndim for k in (key if isinstance(key, tuple) else (key,)))
