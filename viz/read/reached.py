"""Where the gradient flows: back from the root, along the edges that have a derivative rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinygrad_rnn.autograd.graph import Node
from viz.read.flow import Flow


@dataclass(frozen=True, eq=False)
class Reached:
    """The values that the root's gradient comes to."""

    flow: Flow
    nodes: set[Node]

    @staticmethod
    def of(flow: Flow, nodes: Sequence[Node]) -> Reached:
        """nodes: all of the graph, oldest first, the root last"""
        found = {nodes[-1]}
        for node in reversed(nodes):
            if node in found:
                found.update(node.inputs[i] for i, *_ in node.edges)
        return Reached(flow, found)

    def __contains__(self, node: object) -> bool:
        return node in self.nodes

    def flows(self, reader: Node, source: Node) -> bool:
        """Does a gradient flow from an operation to what it reads? By the rule for that argument, or for a view of it;
        what is read by another way, as a part of a sequence, has its rules on the way.
        """
        if reader not in self.nodes or source not in self.nodes:
            return False
        places = [i for i, a in enumerate(reader.inputs) if isinstance(a, Node) and self.flow.same.get(a) is source]
        ruled = {i for i, *_ in reader.edges}
        return not places or any(i in ruled for i in places)
