"""The path of a memory through a step."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Node
from viz.read.states import Unrolled


def memory_path(unrolled: Unrolled, ops: list[Node]) -> set[Node]:
    """The operations that a memory c passes on its way to the next step: f ⊙ c and + of an LSTM."""
    path: set[Node] = set()
    for node in ops:
        for i in range(len(unrolled.flow.args[node])):
            stream = unrolled.stream(node, i)
            if stream is not None and unrolled.states[stream] == "cell":
                path |= _way(unrolled, node)
    return path


def _way(unrolled: Unrolled, node: Node) -> set[Node]:
    way = {node}
    for _ in range(3):
        if unrolled.state(node) == "cell":
            return way
        readers = [r for r in unrolled.flow.readers[node] if unrolled.flow.op(r) in ("add", "sub", "where")]
        if len(readers) != 1:
            break
        node = readers[0]
        way.add(node)
    return set()
