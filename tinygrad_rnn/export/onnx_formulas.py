"""A formula as nodes of ONNX."""

from __future__ import annotations

import ast

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.formula import parsed

SIGNS = {
    ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Div: "Div", ast.BitAnd: "And", ast.BitOr: "Or",
    ast.Gt: "Greater", ast.GtE: "GreaterOrEqual", ast.Lt: "Less", ast.LtE: "LessOrEqual", ast.Eq: "Equal",
}  # fmt: skip
FUNCTIONS = {
    "abs": "Abs", "cos": "Cos", "erf": "Erf", "exp": "Exp", "floor": "Floor", "fmax": "Max", "fmin": "Min",
    "fmod": "Mod", "log": "Log", "pow": "Pow", "rint": "Round", "sign": "Sign", "sin": "Sin", "sqrt": "Sqrt",
    "tanh": "Tanh",
}  # fmt: skip


class Formula:
    """Adds the nodes of a formula to a graph.

    node      adds one: (kind, inputs, name, **attributes) -> name
    constant  the name of a number in the dtype that is computed in
    truth     makes a condition a number of that dtype: (name of a node, name of the new one) -> name
    """

    def __init__(self, node: Callable, constant: Callable[[float], str], truth: Callable[[str, str], str], prefix: str):
        self.add, self.constant, self.truth, self.prefix, self.count = node, constant, truth, prefix, 0

    def written(self, formula: str, arguments: Mapping[str, str]) -> tuple[str, bool]:
        """The name of what it computes of arguments with these names; is that a condition?"""
        return self._of(parsed(formula), arguments)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with a name of its own."""
        self.count += 1
        return self.add(kind, inputs, f"{self.prefix}.{self.count}", **attributes)

    def _of(self, e: ast.AST, names: Mapping[str, str]) -> tuple[str, bool]:
        number = lambda part: self._number(part, names)
        if isinstance(e, ast.Name):
            return names[e.id], False
        if isinstance(e, ast.Constant):
            return self.constant(e.value), False  # type: ignore[arg-type]
        if isinstance(e, ast.UnaryOp):
            x = number(e.operand)
            return (self.node("Neg", x) if isinstance(e.op, ast.USub) else x), False
        if isinstance(e, ast.Compare):
            a, b = number(e.left), number(e.comparators[0])
            if isinstance(e.ops[0], ast.NotEq):
                return self.node("Not", self.node("Equal", a, b)), True
            return self.node(SIGNS[type(e.ops[0])], a, b), True
        if isinstance(e, ast.BinOp):
            if isinstance(e.op, (ast.BitAnd, ast.BitOr)):
                return self.node(SIGNS[type(e.op)], *(self._of(part, names)[0] for part in (e.left, e.right))), True
            return self.node(SIGNS[type(e.op)], number(e.left), number(e.right)), False
        assert isinstance(e, ast.Call) and isinstance(e.func, ast.Name), ast.dump(e)
        return self._call(e.func.id, *map(number, e.args)), False

    def _number(self, e: ast.AST, names: Mapping[str, str]) -> str:
        name, condition = self._of(e, names)
        self.count += condition
        return self.truth(name, f"{self.prefix}.{self.count}") if condition else name

    def _call(self, name: str, *xs: str) -> str:
        if name in ("expm1", "log1p"):
            return (self._expm1 if name == "expm1" else self._log1p)(*xs)
        return self.node(FUNCTIONS[name], *xs, **({"fmod": 1} if name == "fmod" else {}))

    # ONNX has neither of these: of small x they are said so that no digit is lost

    def _expm1(self, x: str) -> str:
        """2 t / (1 - t), t = tanh(x / 2)"""
        one, t = self.constant(1), self.node("Tanh", self.node("Mul", x, self.constant(0.5)))
        near = self.node("Div", self.node("Add", t, t), self.node("Sub", one, t))
        return self._where_small(x, near, self.node("Sub", self.node("Exp", x), one))

    def _log1p(self, x: str) -> str:
        """x log u / (u - 1), u = 1 + x as it is rounded, and x where that is 1"""
        one = self.constant(1)
        u = self.node("Add", x, one)
        log, added = self.node("Log", u), self.node("Sub", u, one)
        none = self.node("Equal", added, self.constant(0))
        ratio = self.node("Div", self.node("Where", none, one, log), self.node("Where", none, one, added))
        return self._where_small(x, self.node("Mul", x, ratio), log)

    def _where_small(self, x: str, near: str, far: str) -> str:
        return self.node("Where", self.node("Less", self.node("Abs", x), self.constant(0.5)), near, far)


def written(graph: Any, formula: str, arguments: Mapping[str, str], dtype: Any, prefix: str) -> tuple[str, np.dtype]:
    """Add a formula to an `onnx_nodes.Graph`, computed in a dtype; the name of what it computes, and its dtype."""
    made = Formula(
        graph.node, lambda value: graph.constant(value, dtype), lambda x, to: graph.cast(x, dtype, to), prefix
    )
    name, condition = made.written(formula, arguments)
    return name, np.dtype(bool) if condition else np.dtype(dtype)
