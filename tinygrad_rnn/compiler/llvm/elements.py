"""Elementwise operations on vectors of numbers, from the formulas of the calculus; and what these numbers are: machine
code knows one dtype, and masks.
"""

from __future__ import annotations

import ast
import functools

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.llvm.builder import Code
from tinygrad_rnn.compiler.llvm.functions import FUNCTIONS
from tinygrad_rnn.compiler.schedule.schedule import NotFusable
from tinygrad_rnn.compiler.schedule.views import is_view


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
        if v.op in ("pow", "erf"):
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
        return {ast.Add: b.fadd, ast.Sub: b.fsub, ast.Mult: b.fmul, ast.Div: b.fdiv}[type(node.op)](
            x, y, flags=("contract",)
        )


COMPARISONS = {ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!="}


@functools.cache
def parsed(formula: str) -> ast.expr:
    """A formula of the calculus as a tree."""
    return ast.parse(formula, mode="eval").body


# ---- one dtype ------------------------------------------------------------------------------------------------------

# What NumPy makes of booleans by arithmetic, said in logic.
LOGIC = {"add": "logical_or", "mul": "logical_and", "maximum": "logical_or", "minimum": "logical_and"}
# Operations with a result of booleans that masks are computed by, or moved about.
MASKS = {"greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "isnan", "logical_and", "logical_or",
         "logical_not", "where", "cast", "detach", "copy", "carry", "pack", "concat", "stack", "scatter"}  # fmt: skip
CONDITIONS = {"where": 1, "logical_and": 2, "logical_or": 2, "logical_not": 1}  # so many operands are true or false
COUNTED = {"matmul", "max", "min", "sum"}  # they read the elements of their operands as numbers


def dtype_of(c: Circuit) -> np.dtype:
    """The dtype of the numbers that move, which machine code computes in. NotFusable if there are several."""
    moving = [v for v in c.order() if (v.moves or v.op == "tsum") and v.dtype != bool]
    moving.sort(key=lambda v: v.op == "input")  # of what is wrong, rather an operation, which has a line
    for v in moving:
        if v.several:
            raise NotFusable(f"{v.op}, an operation with several results, has no form in machine code", v)
        if v.dtype not in (np.float32, np.float64):
            raise NotFusable(f"{_called(v)} of {v.dtype}; machine code has one of float32 and float64", v)
        if v.dtype != moving[0].dtype:
            raise NotFusable(
                f"{_called(v)} of {v.dtype} in a step of {moving[0].dtype}; machine code has one of them", v
            )
    return moving[0].dtype if moving else np.dtype(np.float32)


def _called(v: Value) -> str:
    return {"random": "ops.uniform"}.get(v.name, v.name) if v.op == "input" else v.op


def of_one_dtype(c: Circuit) -> None:
    """Let all that moves, and all that it reads, be numbers of one dtype or booleans: what is the same at every step is
    converted once a call, as NumPy would at each step, and masks are where they are read as numbers."""
    dtype = dtype_of(c)

    def visit(v: Value, new: Callable) -> Value:
        args = tuple(map(new, v.args))
        if not v.moves and v.op != "tsum":
            return remake(c, v, args)
        if v.op == "tsum" and v.args[0].dtype != dtype:
            raise NotFusable(f"a gradient of {v.dtype} in a step of {dtype}", v)
        return _of_dtype(c, v, args, dtype)

    c.rebuild(visit)


def _of_dtype(c: Circuit, v: Value, args: tuple, dtype: np.dtype) -> Value:
    """The operation of v, which moves, on operands of the dtype, or booleans."""
    n = CONDITIONS.get(v.op, 0)
    conditions = [_as(c, a, np.dtype(bool)) if isinstance(a, Value) and a.dtype != dtype else a for a in args[:n]]
    others = args[n:]
    kinds = [a.dtype for a in others if isinstance(a, Value) and a.dtype != bool]
    if kinds and np.result_type(*kinds, *(a for a in others if not isinstance(a, Value))) != dtype:
        raise NotFusable(f"{v.op} of {' and '.join(sorted({*map(str, kinds)}))} in a step of {dtype}", v)
    counted = v.op in COUNTED or (v.dtype != bool and not v.pointwise and not is_view(v))
    wanted = lambda a: isinstance(a, Value) and a.dtype != dtype and (counted or a.dtype != bool)
    made = (*conditions, *(_as(c, a, dtype) if wanted(a) else a for a in others))
    if v.dtype != bool or v.op in MASKS or is_view(v):
        return remake(c, v, made)
    if v.op in LOGIC:
        return c.make(LOGIC[v.op], *made)
    if v.op in COUNTED:
        return c.make("not_equal", c.make(v.op, *made, primitive=v.primitive, **v.static), 0)
    raise NotFusable(f"{v.op} of booleans has no form in machine code", v)


def _as(c: Circuit, a: Value, dtype: np.dtype) -> Value:
    """A value in a dtype; of a view, what it looks at, so that it stays a view."""
    if a.moves and is_view(a):
        return remake(c, a, (_as(c, a.args[0], dtype), *a.args[1:]))
    return a if a.dtype == dtype else c.make("cast", a, dtype=dtype)
