"""Operations from formulas: what is computed for each element.

A formula uses only what Python and C have in common, so it is written once: NumPy and CuPy evaluate it, and a compiler
can paste it into a kernel.
"""

from __future__ import annotations

import ast
import math

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.primitive import operation


def erf(x: Array) -> Array:
    """2/√π ∫₀ˣ exp(-t²) dt"""
    if xp(x) is np:
        y = np.asarray(_erf_of_numbers(x), np.float64)
        return y.astype(x.dtype) if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind == "f" else y
    from cupyx.scipy.special import erf  # noqa: PLC0415 (NumPy has none: Python's own, element by element)

    return erf(x).astype(x.dtype)  # of float16 it makes float64


_erf_of_numbers = np.frompyfunc(math.erf, 1, 1)

# NumPy's ufuncs pass cupy arrays on to CuPy.
FUNCTIONS: dict[str, Callable] = {
    "abs": np.abs,
    "cos": np.cos,
    "erf": erf,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "fmax": np.maximum,
    "fmin": np.minimum,
    "fmod": np.fmod,
    "log": np.log,
    "log1p": np.log1p,
    "pow": np.power,
    "rint": np.rint,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
WHOLE = {"abs", "fmax", "fmin", "fmod", "pow", "sign"}  # of integers these make integers
KNOWN = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.Call, ast.UnaryOp, ast.USub, ast.UAdd, ast.BinOp, ast.Add,
    ast.Sub, ast.Mult, ast.Div, ast.BitAnd, ast.BitOr, ast.Compare, ast.Gt, ast.GtE, ast.Lt, ast.LtE, ast.Eq, ast.NotEq,
)  # fmt: skip
SIGNS = (ast.operator, ast.unaryop, ast.cmpop)
LOGICAL = (ast.BitAnd, ast.BitOr)


def elementwise(name: str, formula: str, **rules: Callable) -> Any:
    """An operation whose value is `formula` of its arguments, element by element, with a derivative rule for each.

        swish = tg.elementwise("swish", "x / (1 + exp(-b * x))", x=…, b=lambda g, x, y: g * y * (x - y))

    The formula has names, numbers, + - * / comparisons & | and the functions abs, cos, erf, exp, expm1, floor, fmax,
    fmin, fmod, log, log1p, pow, rint, sign, sin, sqrt, tanh (with C's or NumPy's meaning). Its names are the
    arguments, in the order in which they appear; they broadcast. The compiled engines put it in the loop that the
    operations around it share. Of integers a formula with a quotient, a fraction or such a function makes float32.

    A rule's first parameter is ∂L/∂y, and by the names of the others it says what it needs: an argument, or y. It is
    written in ops and operators, so that it can be differentiated again; to an argument without a rule no gradient
    flows. `gradcheck` compares rules with differences.

    ValueError for a formula with anything else, or a rule for what is no argument.
    """
    names, floats = _read(name, formula)
    tree = ast.parse(formula, mode="eval")
    functions = [node for node in ast.walk(tree) if isinstance(node, (*SIGNS, ast.Call))]
    counted = ast.unparse(_Counted(names).visit(tree))
    forward = eval(f"lambda {', '.join(names)}: {counted}", {**FUNCTIONS, "_number": _number})
    call = f"{name}({', '.join(names)})"
    forward.__name__, forward.__qualname__ = name, name
    forward.__doc__ = f"{call if formula == call else f'{call} = {formula}'}, element by element."
    compares = all(isinstance(node, (ast.cmpop, *LOGICAL)) for node in functions)
    mixes = 0 if len(names) > 1 else None
    op = operation(forward, formula, mixes=mixes, floats=floats, compares=compares, single=len(functions) < 2)
    op.vjp(**rules)
    return op


def is_condition(node: ast.AST) -> bool:
    """Is a part of a formula true or false?"""
    return isinstance(node, ast.Compare) or (isinstance(node, ast.BinOp) and isinstance(node.op, LOGICAL))


class _Counted(ast.NodeTransformer):
    """Conditions that numbers are computed from as 1 and 0 of the arguments' dtype: True + True is True to NumPy; and
    functions of numbers as numbers: NumPy's are of float64, and arrays would follow them.
    """

    def __init__(self, names: Sequence[str]):
        self.names = names

    def _as_number(self, node: Any) -> Any:
        """A part of a sum, a product, … , or an argument of a function."""
        made = self.visit(node)
        like = ast.Tuple([ast.Name(name, ast.Load()) for name in self.names], ast.Load())
        return ast.Call(ast.Name("_number", ast.Load()), [made, like], []) if is_condition(made) else made

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        each = self.visit if isinstance(node.op, LOGICAL) else self._as_number
        return ast.BinOp(each(node.left), node.op, each(node.right))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        return ast.UnaryOp(node.op, self._as_number(node.operand))

    def visit_Compare(self, node: ast.Compare) -> Any:
        return ast.Compare(self._as_number(node.left), node.ops, [self._as_number(x) for x in node.comparators])

    def visit_Call(self, node: ast.Call) -> Any:
        made = ast.Call(node.func, [self._as_number(x) for x in node.args], [])
        if any(isinstance(part, ast.Name) for x in made.args for part in ast.walk(x)):
            return made
        with np.errstate(all="ignore"):
            value = eval(ast.unparse(made), {**FUNCTIONS}).item()
        return ast.Constant(value) if math.isfinite(value) else made


def _number(condition: Any, like: tuple[Any, ...]) -> Any:
    """1 where a condition holds, else 0, in the arguments' dtype."""
    dtypes = [x.dtype for x in like if hasattr(x, "dtype")]
    if not dtypes or not hasattr(condition, "astype"):
        return condition * 1.0
    dtype = np.result_type(*dtypes)
    return condition.astype(dtype if dtype.kind != "b" else np.int64)


def _read(name: str, formula: str) -> tuple[list[str], bool]:
    """The arguments of a formula, which is checked, and whether it makes floats of integers."""
    try:
        tree = ast.parse(formula, mode="eval")
    except (SyntaxError, TypeError, ValueError):
        raise ValueError(f"elementwise: {name}: the formula must be an expression, got {formula!r}") from None
    names: dict[str, None] = {}
    floats, called = False, {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in _in_order(tree):
        signs = [child for child in ast.iter_child_nodes(node) if isinstance(child, SIGNS)]
        wrong = not isinstance(node, KNOWN) or len(signs) > 1 or not all(isinstance(sign, KNOWN) for sign in signs)
        if isinstance(node, ast.Call):
            function = ast.unparse(node.func)
            wrong = function not in FUNCTIONS or bool(node.keywords)
            floats = floats or function not in WHOLE
        elif isinstance(node, ast.Name) and id(node) not in called:
            names[node.id] = None
        elif isinstance(node, ast.Constant):
            wrong = type(node.value) not in (int, float)
            floats = floats or type(node.value) is float
        floats = floats or isinstance(node, ast.Div)
        if wrong:
            raise ValueError(
                f"elementwise: {name}: a formula has names, numbers, + - * /, a comparison of two, & | and "
                f"{', '.join(FUNCTIONS)}; got {ast.unparse(node)!r}"
            )
    if not names:
        raise ValueError(f"elementwise: {name}: the formula must name an argument, got {formula!r}")
    return list(names), floats


def _in_order(node: ast.AST) -> Any:
    """The parts of a formula as they are read."""
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
