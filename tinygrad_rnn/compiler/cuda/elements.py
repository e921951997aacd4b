"""Elementwise operations on single elements, as C expressions of their operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.cuda import functions
from tinygrad_rnn.compiler.cuda.types import c_type
from tinygrad_rnn.compiler.ir.formula import parsed
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.ops.formulas import is_condition

MOVED = {"carry", "detach", "copy"}  # the element as it is


def common_dtype(v: Value) -> np.dtype:
    """The dtype that the operands of an elementwise operation are brought to; numbers of Python's follow the others."""
    values, numbers = v.values, [a for a in v.args if not isinstance(a, Value)]
    if v.op == "where":
        return v.dtype
    found = np.result_type(*(a.dtype for a in values), *numbers)
    return v.dtype if v.dtype.kind == "f" and found.kind != "f" else found


def constant(value: Any, dtype: np.dtype) -> str:
    """A number of Python's beside operands of a dtype: first it becomes one of that dtype, as in NumPy."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = float(dtype.type(value))
    return functions.number(value, dtype)


def computed(v: Value, xs: Sequence[str]) -> str:
    """The operation of v on elements, given by C expressions, each of the C type of its dtype; so is the result."""
    out, kinds = c_type(v.dtype), [c_type(a.dtype) if isinstance(a, Value) else "" for a in v.args]
    if v.op in MOVED:
        return xs[0]
    if v.op == "cast":
        return _cast(f"({xs[0]} != 0)", "bool", out) if v.dtype == bool else _cast(xs[0], kinds[0], out)
    if v.op == "where":
        condition = xs[0] if kinds[0] == "bool" else f"({xs[0]} != 0)"
        return functions.where(
            condition,
            *(_cast(x, kind or functions.real(v.dtype), out) for x, kind in zip(xs[1:], kinds[1:], strict=True)),
        )
    dtype = common_dtype(v)
    real = functions.real(dtype)
    xs = [_cast(x, kind or real, real) for x, kind in zip(xs, kinds, strict=True)]
    if v.op == "clip":
        return _cast(_clipped(xs[0], dtype, v.static["min"], v.static["max"]), real, out)
    if v.op == "pow":
        return _cast(functions.call(v.op, dtype, *xs), real, out)
    assert v.primitive is not None and v.primitive.formula is not None, v
    tree = parsed(v.primitive.formula)
    found = functions.formula(tree, dict(zip(v.primitive.args, xs, strict=True)), dtype)
    return _cast(found, "bool" if is_condition(tree) else real, out)


def _cast(x: str, kind: str, wanted: str) -> str:
    """An expression of a C type as one of another."""
    return x if kind == wanted else f"{wanted}({x})"


def _clipped(x: str, dtype: np.dtype, low: Any, high: Any) -> str:
    """NaN stays, and what is beyond a bound becomes that."""
    if low is not None:
        x = f"({x} < {constant(low, dtype)} ? {constant(low, dtype)} : {x})"
    if high is not None:
        x = f"({x} > {constant(high, dtype)} ? {constant(high, dtype)} : {x})"
    return x
