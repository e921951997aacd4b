"""Several operations drawn as one: affine maps x·U + h·W + b, and what turns a step's output into its loss.

An affine map is one node because it is one idea (and one or two matrix products in the code, depending on how the
weights are laid out); everything that a gate does stays an operation of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tinygrad_rnn.autograd.graph import Constant, Leaf, Node
from viz.read.flow import Flow

LOSS = {
    "log_softmax", "neg", "sum", "div", "mul", "where", "pow", "mean", "sub", "abs", "log", "add",
    "logsumexp", "getitem", "clip", "nll",
}  # fmt: skip
_PAIRWISE = {"add", "sub", "mul"}


@dataclass(eq=False)
class Group:
    """Operations drawn as the last of them.

    terms  of an affine map: (letter of an operand or None, operand, weight) and (bias,)
    name   of a module
    """

    head: Node
    members: set[Node]
    terms: list[tuple] = field(default_factory=list)
    name: str = ""


class Groups:
    """Finds the groups among the operations of one step (or among those outside of all)."""

    def __init__(self, flow: Flow, pinned: Callable[[Node], bool], letter: Callable[[Node, int], str]):
        self.flow, self.pinned, self.letter = flow, pinned, letter

    def __call__(self, ops: Iterable[Node], losses: set[Node]) -> dict[Node, Group]:
        """The group of every operation that is in one."""
        inside = set(ops)
        found: dict[Node, Group] = {}
        for node in sorted(inside, key=lambda n: -n.index):
            if node in found:
                continue
            group = self.loss(node, inside) if node in losses else self.affine(node, inside)
            if group is not None:
                found.update(dict.fromkeys(group.members, group))
        return found

    # ---- losses ---------------------------------------------------------------------------------------------------

    def loss(self, head: Node, inside: set[Node]) -> Group:
        """A scalar, and the operations that only it needs: softmax is kept, its logarithm is not."""
        members, stack = {head}, [head]
        while stack:
            for parent in self.flow.parents(stack.pop()):
                if parent in members or parent not in inside or self.pinned(parent):
                    continue
                if self._is_loss(parent) and all(r in members for r in self.flow.readers[parent]):
                    members.add(parent)
                    stack.append(parent)
        return Group(head, members)

    def is_of_loss(self, node: Node, losses: set[Node]) -> bool:
        """Is it a loss, or an operation that may be one with it?"""
        return node in losses or (self._is_loss(node) and not self.pinned(node))

    def _is_loss(self, node: Node) -> bool:
        op, args = self.flow.op(node), self.flow.args[node]
        if op not in LOSS:
            return False
        if op not in _PAIRWISE or len(set(map(id, args))) == 1:
            return True
        return any(not isinstance(a, Node) or isinstance(a, Constant) for a in args) or all(
            self.flow.op(a) in LOSS for a in args
        )

    # ---- affine maps ----------------------------------------------------------------------------------------------

    def affine(self, head: Node, inside: set[Node]) -> Group | None:
        """A sum of products with weights, of biases and of numbers; None if it is not one."""
        members: set[Node] = set()
        terms: list[tuple] = []
        stack: list[object] = [head]
        while stack:
            part = stack.pop()
            if not isinstance(part, Node) or self.is_weight(part):
                terms.append((part,))
                continue
            if part is not head and (part not in inside or self.pinned(part) or len(self.flow.readers[part]) > 1):
                return None
            product = self._product(part)
            if product is not None:
                terms.append(product)
            elif self.flow.op(part) == "add":
                stack.extend(reversed(self.flow.args[part]))
            else:
                return None
            members.add(part)
        products = [t for t in terms if len(t) > 1]
        if not products or (len(products) > 1 and not all(letter for letter, *_ in products)):
            return None
        return Group(head, members, terms)

    def _product(self, node: Node) -> tuple | None:
        """x @ W for a weight W and something x that is not one."""
        if self.flow.op(node) != "matmul":
            return None
        a, b = self.flow.args[node]
        if self.is_weight(b) and (not self.is_weight(a) or self.letter(node, 0)):  # a learned state is an operand
            return self.letter(node, 0), a, b
        if self.is_weight(a) and (not self.is_weight(b) or self.letter(node, 1)):
            return self.letter(node, 1), b, a
        return None

    def is_weight(self, node: object) -> bool:
        """Is it a leaf that belongs to no step?"""
        return isinstance(node, Leaf) and node not in self.flow.place
