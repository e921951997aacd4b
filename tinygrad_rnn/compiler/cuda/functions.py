"""The calculus in CUDA C: how a number, a function and a formula are spelt, for elements of a dtype.

Half precision is computed in float: what is read becomes float by itself, and what is written is rounded once.
"""

from __future__ import annotations

import ast

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.ops import formulas

REAL = {
    "float16": "float", "float32": "float", "float64": "double", "bool": "int", "int8": "int", "int16": "int",
    "int32": "int", "int64": "i64", "uint8": "int", "uint16": "int", "uint32": "u32",
    "uint64": "u64",
}  # fmt: skip

# What C has no function for, or one that loses NaN; a kernel's text begins with it. It needs no header.
PRELUDE = """
template <class T> __device__ inline T larger(T a, T b) { return a > b || a != a ? a : b; }
template <class T> __device__ inline T smaller(T a, T b) { return a < b || a != a ? a : b; }
template <class T> __device__ inline T sign_of(T x) {
  return x > T(0) ? T(1) : x < T(0) ? T(-1) : x == T(0) ? T(0) : x;
}
template <class T> __device__ inline T magnitude(T x) { return x < T(0) ? -x : x; }
template <class T> __device__ inline T remainder_of(T a, T b) { return b ? a % b : T(0); }
template <class T> __device__ inline T power(T x, T n) {
  T y = 1;
  for (; n > 0; n /= 2, x *= x) if (n % 2) y *= x;
  return y;
}
"""

OWN = {"fmax": "larger", "fmin": "smaller", "sign": "sign_of"}  # of PRELUDE
LIBRARY = {**{name: name for name in formulas.FUNCTIONS if name not in OWN}, "abs": "fabs"}
WHOLE = {"abs": "magnitude", "pow": "power", "floor": "", "rint": "", "fmod": "remainder_of"}  # of whole numbers
FUNCTIONS = frozenset((*LIBRARY, *OWN))

SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.BitAnd: "&&", ast.BitOr: "||",
    ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


def real(dtype: Any) -> str:
    """The C type in which elements of a dtype are computed."""
    return REAL[np.dtype(dtype).name]


def number(value: float, dtype: Any) -> str:
    """A literal that has its type: a bare 0.5 would turn all that it touches into double."""
    kind = real(dtype)
    if kind not in ("float", "double"):
        return f"({kind}({int(value)}LL))"
    with np.errstate(over="ignore"):
        rounded = np.float32(value) if kind == "float" else np.float64(value)
    suffix = "f" if kind == "float" else ""
    if np.isfinite(rounded):
        return f"({rounded!s}{suffix})"
    top = "0.0" if np.isnan(rounded) else "1.0" if rounded > 0 else "-1.0"
    return f"({top}{suffix} / 0.0{suffix})"


def call(name: str, dtype: Any, *args: str) -> str:
    """A function of the calculus, applied to C expressions of type `real(dtype)`."""
    kind = real(dtype)
    if kind not in ("float", "double"):
        return f"{ {**OWN, **WHOLE}[name] }({', '.join(args)})"
    suffix = "f" if name in LIBRARY and kind == "float" else ""
    return f"{LIBRARY.get(name) or OWN[name]}{suffix}({', '.join(args)})"


def where(condition: str, a: str, b: str) -> str:
    """a where the condition is true, else b."""
    return f"({condition} ? {a} : {b})"


def formula(tree: ast.expr, names: Mapping[str, str], dtype: Any) -> str:
    """A formula of the calculus as a C expression, given those of its names.

    Numbers are `real(dtype)`; comparisons, and what & and | make of them, are bool.
    """
    spelt = lambda node: formula(node, names, dtype)
    if isinstance(tree, ast.Name):
        return names[tree.id]
    if isinstance(tree, ast.Constant):
        return number(tree.value, dtype)  # type: ignore[arg-type]
    if isinstance(tree, ast.UnaryOp):
        return f"({'-' if isinstance(tree.op, ast.USub) else '+'}{_numeric(tree.operand, names, dtype)})"
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name)
        return call(tree.func.id, dtype, *(_numeric(a, names, dtype) for a in tree.args))
    if isinstance(tree, ast.Compare):
        sides = (_numeric(a, names, dtype) for a in (tree.left, tree.comparators[0]))
        return f" {SIGNS[type(tree.ops[0])]} ".join(sides).join("()")
    assert isinstance(tree, ast.BinOp), ast.dump(tree)
    if isinstance(tree.op, formulas.LOGICAL):
        return f"({spelt(tree.left)} {SIGNS[type(tree.op)]} {spelt(tree.right)})"
    return f"({_numeric(tree.left, names, dtype)} {SIGNS[type(tree.op)]} {_numeric(tree.right, names, dtype)})"


def _numeric(tree: ast.expr, names: Mapping[str, str], dtype: Any) -> str:
    """A part that numbers are computed from: a mask as 1 and 0."""
    spelt = formula(tree, names, dtype)
    return f"(({real(dtype)}){spelt})" if formulas.is_condition(tree) else spelt
