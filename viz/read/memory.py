"""The path of a memory through a step."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Node
from viz.read.states import States


def memory_path(states: States, ops: list[Node]) -> set[Node]:
    """The operations that a memory c passes on its way to the next step: f ⊙ c and + of an LSTM."""
    path: set[Node] = set()
    for node in ops:
        for i in range(len(states.flow.args[node])):
            state = states.read_by(node, i)
            if state is not None and states.kind[state] == "cell":
                path |= _way(states, node)
    return path


def _way(states: States, node: Node) -> set[Node]:
    way = {node}
    for _ in range(3):
        if states.kind_of(node) == "cell":
            return way
        readers = [r for r in states.flow.readers[node] if states.flow.op(r) in ("add", "sub", "where")]
        if len(readers) != 1:
            break
        node = readers[0]
        way.add(node)
    return set()
