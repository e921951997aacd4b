"""One dtype: machine code knows numbers of one kind, and masks. What is said in others is brought to it, or refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.schedule import NotFusable
from tinygrad_rnn.compiler.schedule.views import is_view

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


def one_dtype(c: Circuit) -> None:
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
