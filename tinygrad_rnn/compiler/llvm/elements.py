"""Elementwise operations on vectors of numbers, from the formulas of the calculus."""

from __future__ import annotations

import ast

from typing import Any

from tinygrad_rnn.compiler.ir.formula import parsed
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.functions import FUNCTIONS


class Elements:
    """Elementwise operations on vectors; the results of comparisons are masks."""

    def __init__(self, code: Code):
        self.code = code

    def number(self, x: Any) -> Any:
        """A mask as 1 and 0; a vector as it is."""
        code = self.code
        return code.b.select(x, code.constant(1.0), code.constant(0.0)) if x.type == code.mask else x

    def truth(self, x: Any) -> Any:
        """A vector as the mask of what is not 0."""
        code = self.code
        return x if x.type == code.mask else code.b.fcmp_unordered("!=", x, code.constant(0.0))

    def compute(self, v: Value, xs: list[Any]) -> Any:
        """The operation of v on vectors."""
        code = self.code
        if v.op in ("carry", "detach", "copy"):
            return xs[0]
        if v.op == "cast":
            return self.truth(xs[0]) if v.dtype == bool else self.number(xs[0])
        if v.op == "where":
            if v.dtype == bool:
                return code.b.select(self.truth(xs[0]), self.truth(xs[1]), self.truth(xs[2]))
            return code.b.select(self.truth(xs[0]), self.number(xs[1]), self.number(xs[2]))
        if v.op == "clip":
            return self._clip(self.number(xs[0]), v.static["min"], v.static["max"])
        if v.op == "pow":
            return FUNCTIONS[v.op](code, *map(self.number, xs))
        assert v.primitive is not None and v.primitive.formula is not None, v
        return self.formula(parsed(v.primitive.formula), dict(zip(v.primitive.args, xs, strict=True)))

    def _clip(self, x: Any, low: Any, high: Any) -> Any:
        code = self.code
        if low is not None:
            x = code.b.select(code.b.fcmp_ordered("<", x, code.constant(low)), code.constant(low), x)
        if high is not None:
            x = code.b.select(code.b.fcmp_ordered(">", x, code.constant(high)), code.constant(high), x)
        return x

    def formula(self, node: ast.expr, names: dict[str, Any]) -> Any:
        """The value of a formula, given those of its names."""
        code, b = self.code, self.code.b
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.Constant):
            return code.constant(float(node.value))  # type: ignore[arg-type]
        if isinstance(node, ast.UnaryOp):
            x = self.number(self.formula(node.operand, names))
            return b.fneg(x) if isinstance(node.op, ast.USub) else x
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return FUNCTIONS[node.func.id](code, *(self.number(self.formula(a, names)) for a in node.args))
        if isinstance(node, ast.Compare):
            x, y = (self.number(self.formula(a, names)) for a in (node.left, node.comparators[0]))
            sign = COMPARISONS[type(node.ops[0])]
            return b.fcmp_unordered("!=", x, y) if sign == "!=" else b.fcmp_ordered(sign, x, y)
        assert isinstance(node, ast.BinOp), ast.dump(node)
        x, y = self.formula(node.left, names), self.formula(node.right, names)
        if isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            return (b.and_ if isinstance(node.op, ast.BitAnd) else b.or_)(self.truth(x), self.truth(y))
        x, y = self.number(x), self.number(y)
        return {ast.Add: b.fadd, ast.Sub: b.fsub, ast.Mult: b.fmul, ast.Div: b.fdiv}[type(node.op)](x, y, " contract")


COMPARISONS = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!="}
