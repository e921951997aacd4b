"""What the operations are called in a drawing, and of which kind they are."""

from __future__ import annotations

import math

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from tinygrad_rnn.autograd.graph import Constant, Leaf, Node
from viz.picture.groups import Group
from viz.read.positions import Position
from viz.read.states import States
from viz.style import BACKWARD, FORWARD, NAMES, SIGNS, subscript

_POWERS = str.maketrans("0123456789.-", "⁰¹²³⁴⁵⁶⁷⁸⁹·⁻")


class Labels:
    """Reads the names of things off the graph.

    names: of the parameters  variables: of values, in the code  operand: what the code calls an operation's argument
    """

    def __init__(
        self, states: States, names: Mapping[Node, str], variables: Mapping[Node, str],
        operand: Callable[[Node, int], str | None],
    ):  # fmt: skip
        self.states, self.flow, self.names, self.variables = states, states.flow, names, dict(variables)
        self._operand = operand
        left = states.leftward
        apart = {run for a, b in self.flow.runs.beside if (a in left) != (b in left) for run in (a, b)}
        self._ways = {run: BACKWARD if run in left else FORWARD for run in apart}
        self.parts: dict[Node, list[str]] = defaultdict(list)  # the names of what a value was split into
        for node, name in variables.items():
            whole = self.flow.same.get(node)
            if whole is not node and whole is not None:
                if _size(whole) == _size(node):
                    self.variables.setdefault(whole, name)  # of another shape only
                self.parts[whole].append(name)
        self.called = {position: name for n, position in states.position.items() if (name := self._called(n))}

    def _called(self, node: Node) -> str:
        """What the code calls a value; a mask's is what it lets through."""
        if self.flow.is_mask(node) and len(self.flow.args[node]) > 1:
            node = self.flow.args[node][1]
        return self.variables.get(node, "")

    # ---- letters of operands --------------------------------------------------------------------------------------

    def letter(self, reader: Node, i: int) -> str:
        """What an equation calls argument i of an operation: as the code does, else x, h or c; "" if it has no name."""
        state = self.states.read_by(reader, i)
        if state is not None:
            is_input = state[1] < 0 or self.states.kind[state] == "said"  # the code may have a name for later
            kept = is_input and self.operand(reader, i)
            return kept or self.state(state, reader, i)
        source = self.flow.args[reader][i]
        if not isinstance(source, Node):
            return ""
        name = None if self.flow.op(source) == "stack" or source in self.flow.joins else self.operand(reader, i)
        is_input = source.op is None or source in self.flow.slices
        return name or (self._letter(source) if name is None or is_input else "")

    def operand(self, reader: Node, i: int) -> str | None:
        """What the code calls argument i of an operation; None where it is not known."""
        plain = len(self.flow.args[reader]) == len(reader.inputs) and reader not in self.flow.slices
        return self._operand(reader, i) if plain else None

    def way(self, node: Node) -> str:
        """→ for what belongs to the run from the past, of two over one sequence, ← for the one from the future."""
        return self._ways.get(self.flow.runs.of.get(node, -1), "")

    def state(self, state: Position, reader: Node | None = None, i: int = 0) -> str:
        """What the code calls a state; else h, c for a memory, or ŷ for what is said.

        reader, i: who reads it: of two directions it has an arrow there, h→ or h←; one that is handed on from step to
        step, as h₁, h₂, has the name that it has there
        """
        heard = self.states.heard.get((self.states.position[reader], i)) if reader in self.states.position else None
        return (heard or self._name(state)) + (self.way(reader) if reader is not None else "")

    def _name(self, state: Position) -> str:
        if state[1] < 0:
            return self.states.called.get(state, "x")
        default = {"cell": "c", "said": "ŷ"}.get(self.states.kind[state], "h")
        return self.states.called.get(state) or self.called.get(state) or default

    def rank(self, state: Position) -> int:
        """The number of a state among those of one name in its kind of step: which layer's h it is."""
        name = self.state(state)
        return sum(s[0] == state[0] and s[1] < state[1] and self.state(s) == name for s in self.states.kind)

    def gate(self, node: Node, label: str) -> str:
        """f  σ for a gate whose value is called f, σ(f) for one that is computed from what is called f."""
        name = self.variables.get(node) or ", ".join(dict.fromkeys(self.parts.get(node, ())))
        if name:
            return f"{name}  {label}"
        source = node.inputs[0] if node.inputs else None
        name = self.variables.get(source, "")  # type: ignore[arg-type]
        return f"{label}({name})" if name else label

    def _letter(self, node: Node) -> str:
        if self.states.kind_of(node):
            return self.state(self.states.position[node])
        if node.op is None and not isinstance(node, Constant) and node not in self.flow.place:
            return ""
        if node.op is None or node in self.flow.slices:
            return self.input(node)
        if self.flow.op(node) == "getitem":
            return "x"
        parents = self.flow.parents(node)
        if self.flow.op(node) == "stack" and parents:
            return self._letter(parents[0]) or self.variables.get(parents[0]) or "y"
        return self._letter(parents[0]) if node in self.flow.joins and parents else ""

    def input(self, node: Node, default: str = "x") -> str:
        """The letter of an input: its name, or what the first that reads it calls it."""
        if getattr(node, "name", ""):
            return node.name  # type: ignore[attr-defined]
        read = [(r, i) for r in self.flow.readers[node] for i, a in enumerate(self.flow.args[r]) if a is node]
        return next((name for r, i in read if (name := self.operand(r, i))), default)

    # ---- operations -----------------------------------------------------------------------------------------------

    def affine(self, group: Group) -> str:
        """The label of an affine map, such as x·U + h·W + b."""
        return " + ".join([self._term(t, group) for t in group.terms])

    def _term(self, term: tuple, group: Group) -> str:
        if len(term) == 1:
            return self._weight(term[0], group, None) if isinstance(term[0], Node) else number(term[0])
        letter, operand, weight = term
        letters = [t[0].rstrip(FORWARD + BACKWARD) for t in group.terms if len(t) > 1]
        if letters.count("h") > 1 and letter == "h" and self._is_of_below(operand, group.head):
            letter = "x"  # the output of the layer below is this layer's input
        return f"{letter}·{self._weight(weight, group, operand)}"

    def _weight(self, weight: Node, group: Group, operand: Node | None) -> str:
        """A parameter in an affine map: as the code calls it there, W[:, :8] for a part of it, Wᵀ for it turned."""
        for node in group.members:
            args = self.flow.args[node]
            if weight in args and (operand in args if operand is not None else self.flow.op(node) == "add"):
                return self._seen(node.inputs[args.index(weight)], self.names[weight])
        return self.names[weight]

    def _seen(self, node: Node, name: str) -> str:
        """The name of a view, by the name of what it shows: W[:8], Wᵀ."""
        if node.op is None or self.variables.get(node):
            return self.variables.get(node) or name
        name = self._seen(node.inputs[0], name)
        if node.op.name == "getitem":
            return f"{name}[{_index(node.static['key'])}]"
        return f"{name}ᵀ" if node.op.name == "permute" and len(node.shape) == 2 else name

    def _is_of_below(self, operand: Node, head: Node) -> bool:
        column = self.states.column
        same_step = operand.op is not None and operand in self.states.position and column[operand] == column.get(head)
        return same_step and operand.scope != head.scope and operand not in self.variables

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
            return self._joined(self.flow.parents(node)), "box"
        if op == "einsum":
            return node.static["spec"], "box"
        if self.flow.is_mask(node):
            return "mask", "box"
        if op == "stack":
            return self.sequence(node), "box"
        return NAMES.get(op, op.replace("_", " ")), "box"

    def sequence(self, node: Node) -> str:
        """h₁ … h₅ over time, [h ; h] of layers or directions, h₅ where it is but one."""
        n, letter, parts = node.shape[node.static["axis"]], self._letter(node) or "y", self.flow.parents(node)
        steps = [self.flow.place.get(part) for part in parts]
        if len(parts) > 1 and (len(set(steps)) < len(parts) or len({*map(self.flow.runs.of.get, parts)}) > 1):
            letters = [(self._letter(part) or "y") + self.way(part) for part in parts]
            return f"[{' ; '.join(letters if n < 4 else [letters[0], '…', letters[-1]])}]"
        letter += self.way(parts[0]) if parts else ""
        if n > 1:
            return f"{subscript(letter, 1)} … {subscript(letter, n)}"
        return subscript(letter, 1 if steps == [None] or not steps else steps[0][1] + 1)  # type: ignore[index]

    def _joined(self, parts: list[Node]) -> str:
        """[h→ ; h←] for what two directions made of one step."""
        letters = [f"{self._letter(part) or 'y'}{self.way(part)}" if self.way(part) else "" for part in parts]
        return f"[{' ; '.join(letters if all(letters) else [''] * 2)}]"

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


def _index(key: Any) -> str:
    """An index as code has it, such as :, 4:8; · for an array."""
    if isinstance(key, tuple):
        return ", ".join(map(_index, key))
    if not isinstance(key, slice):
        return "…" if key is Ellipsis else str(key) if isinstance(key, int) else "·"
    ends = [key.start, key.stop] if key.step in (None, 1) else [key.start, key.stop, key.step]
    return ":".join("" if end is None else str(end) for end in ends)


def number(value: Any) -> str:
    """A number of a label, in at most twelve characters."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)[:12]


def _size(node: Node) -> int | None:
    return math.prod(node.shape) if all(isinstance(n, int) for n in node.shape) else None


def shape(node: Node) -> str:
    """A shape as it is drawn, such as 3×16."""
    return "×".join(map(str, node.shape))
