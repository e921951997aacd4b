"""What the operations are called in a drawing, and of which kind they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from tinygrad_rnn.graph import Constant, Leaf, Node
from viz.fold import Group
from viz.style import NAMES, SIGNS, subscript
from viz.unroll import Spot, Unrolled

_POWERS = str.maketrans("0123456789.-", "⁰¹²³⁴⁵⁶⁷⁸⁹·⁻")


class Labels:
    """Reads the names of things off the graph. names: of the parameters  variables: of values, in the code"""

    def __init__(self, unrolled: Unrolled, names: Mapping[Node, str], variables: Mapping[Node, str]):
        self.unrolled, self.flow, self.names, self.variables = unrolled, unrolled.flow, names, variables
        self.parts: dict[Node, list[str]] = defaultdict(list)  # the names of what a value was split into
        for node, name in variables.items():
            whole = self.flow.same.get(node)
            if whole is not node and whole is not None:
                self.parts[whole].append(name)
        self.called = {spot: name for n, spot in unrolled.spot.items() if (name := self._called(n))}

    def _called(self, node: Node) -> str:
        """What the code calls a value; a mask's is what it lets through."""
        if self.flow.is_mask(node) and len(self.flow.args[node]) > 1:
            node = self.flow.args[node][1]
        return self.variables.get(node, "")

    # ---- letters of operands --------------------------------------------------------------------------------------

    def letter(self, reader: Node, i: int) -> str:
        """What an equation calls argument i of an operation: x, h or c; "" if it has no name."""
        stream = self.unrolled.stream(reader, i)
        if stream is not None:
            return self.state(stream)
        source = self.flow.args[reader][i]
        return self._letter(source) if isinstance(source, Node) else ""

    def state(self, stream: Spot) -> str:
        """What the code calls a state; else h, or c for a memory."""
        return self.called.get(stream) or ("c" if self.unrolled.states[stream] == "cell" else "h")

    def rank(self, stream: Spot) -> int:
        """The number of a state among those of one name in its kind of step: which layer's h it is."""
        name = self.state(stream)
        return sum(s[0] == stream[0] and s[1] < stream[1] and self.state(s) == name for s in self.unrolled.states)

    def gate(self, node: Node, label: str) -> str:
        """f σ: the name of a gate's value, or of what it is computed from."""
        source = node.inputs[0] if node.inputs else None
        names = [self.variables.get(node) or ", ".join(dict.fromkeys(self.parts.get(node, ())))]
        names.append(self.variables.get(source, ""))  # type: ignore[arg-type]
        name = next(filter(None, names), "")
        return f"{name}  {label}" if name else label

    def _letter(self, node: Node) -> str:
        if self.unrolled.state(node):
            return self.state(self.unrolled.spot[node])
        if node.op is None and not isinstance(node, Constant) and node not in self.flow.place:
            return ""
        if node.op is None or node in self.flow.slices:
            return self.input(node)
        if self.flow.op(node) == "getitem":
            return "x"
        if self.flow.op(node) in ("stack", "concat") and self.flow.parents(node):
            return self._letter(self.flow.parents(node)[0])
        return ""

    def input(self, node: Node) -> str:
        """The letter of an input."""
        return getattr(node, "name", "") or "x"

    # ---- operations -----------------------------------------------------------------------------------------------

    def affine(self, group: Group) -> str:
        """x·U + h·W + b"""
        return " + ".join([self._term(t, group) for t in group.terms])

    def _term(self, term: tuple, group: Group) -> str:
        if len(term) == 1:
            return self.names[term[0]] if isinstance(term[0], Node) else number(term[0])
        letter, operand, weight = term
        letters = [t[0] for t in group.terms if len(t) > 1]
        if letters.count(letter) > 1 and letter == "h" and self._is_own(operand, group.head):
            letter = "x"  # the output of the layer below is this layer's input
        return f"{letter}·{self.names[weight]}"

    def _is_own(self, operand: Node, head: Node) -> bool:
        column = self.unrolled.column
        return operand in self.unrolled.spot and column[operand] == column.get(head)

    def operation(self, node: Node) -> tuple[str, str]:
        """The label and the shape of an operation."""
        op, args = self.flow.op(node), self.flow.args[node]
        numbers = [a for a in args if not isinstance(a, Node)]
        if op in SIGNS and len(args) == 2:
            if not numbers:
                return SIGNS[op], "sign"
            left = not isinstance(args[0], Node)
            parts = (number(numbers[0]), SIGNS[op]) if left else (SIGNS[op], number(numbers[0]))
            return " ".join(parts), "box"
        if op == "pow" and numbers and args[0] is not numbers[0]:
            return f"( ){number(numbers[0]).translate(_POWERS)}", "box"
        if op == "getitem" and isinstance(args[0], Leaf):
            return f"{self.names.get(args[0], 'p')}[x]", "box"
        if op == "concat" and node in self.flow.joins:
            return "[ ; ]", "box"
        if op == "einsum":
            return node.static["spec"], "box"
        if self.flow.is_mask(node):
            return "mask", "box"
        if op == "stack":
            return self.sequence(node), "box"
        return NAMES.get(op, op.replace("_", " ")), "box"

    def sequence(self, node: Node) -> str:
        """h₁ … h₅"""
        parts, n = self.flow.args[node], node.shape[node.static["axis"]]
        letter = (self._letter(parts[0]) if parts else "") or "y"
        return f"{subscript(letter, 1)} … {subscript(letter, n)}" if n > 1 else subscript(letter, 1)

    # ---- kinds ----------------------------------------------------------------------------------------------------

    def is_gate(self, node: Node, affine: bool) -> bool:
        """Is it multiplied into something? A tanh only if it comes from weights: tanh(c) is no gate."""
        op = self.flow.op(node)
        return (op == "sigmoid" or (op == "tanh" and affine)) and any(
            self._multiplies(r) for r in self.flow.readers[node]
        )

    def _multiplies(self, node: Node) -> bool:
        if self.flow.op(node) == "sub" and not isinstance(self.flow.args[node][0], Node):  # 1 - gate
            return any(self.flow.op(r) == "mul" for r in self.flow.readers[node])
        return self.flow.op(node) == "mul"


def number(value: Any) -> str:
    """A number, short."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)[:12]


def shape(node: Node) -> str:
    """3×16"""
    return "×".join(map(str, node.shape))
