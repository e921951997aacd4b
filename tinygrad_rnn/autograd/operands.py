"""What operations compute with: operands of any kind, brought to one dtype where an operation mixes them."""

from __future__ import annotations

import numbers

from collections.abc import Sequence
from typing import Any

import numpy as np

from numpy import ndarray

from tinygrad_rnn.autograd.arrays import is_array, xp
from tinygrad_rnn.autograd.dtypes import FLOAT, Operand, casts, common_dtype, is_real
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.rules import Primitive
from tinygrad_rnn.autograd.tensor import OPS, Tensor

BOOL = np.dtype(bool)
NUMBERS = frozenset((float, int, bool))
_NUMBER: dict[str, Any] = {"f": float, "i": int, "u": int, "b": bool}  # by the kind of a dtype


def agreed(op: Primitive, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments, those that an operation mixes of one dtype (see common_dtype).

    Numbers, among them NumPy's scalars and arrays without axes, and lists of numbers take the dtype of the others.
    """
    first = op.mixes
    if first is None:
        return tuple(args)
    found = [_operand(op, a) for a in args[first:]]
    kinds = tuple([kind for _, kind in found])
    common = common_dtype(kinds, op.floats)
    if not any(isinstance(kind, tuple) for kind in kinds):  # nothing that numbers could follow
        return (*args[:first], *[v.astype(common) if type(v) is ndarray else common.type(v) for v, _ in found])
    dtypes: Sequence[Any] = casts(kinds, op.floats, op.compares, op.single) or (None,) * len(kinds)
    cast = [
        value.astype(common) if type(value) is ndarray and isinstance(kind, type)  # a list of numbers
        else value if dtype is None else _cast(value, dtype)
        for (value, kind), dtype in zip(found, dtypes, strict=True)
    ]  # fmt: skip
    return (*args[:first], *cast)


def alike(arrays: Sequence[Any], first: int) -> bool:
    """Are these, from the first on, arrays of one dtype, which is one of floats if there are numbers among them?"""
    dtype, number = None, False
    for a in arrays[first:] if first else arrays:
        if type(a) is ndarray or (type(a) not in NUMBERS and hasattr(a, "dtype")):
            if dtype is None:
                dtype = a.dtype
            elif a.dtype is not dtype:
                return False
        elif type(a) in NUMBERS:
            number = True
        else:
            return False
    return dtype is not None and (not number or dtype.kind == "f")


def do_agree(op: Primitive, a: Any, b: Any) -> bool:
    """Do the libraries bring these operands to the right dtype by themselves, or is the operation of another kind?"""
    if op.mixes is None:
        return True
    if type(a) in NUMBERS or type(b) in NUMBERS:
        return (b if type(a) in NUMBERS else a).dtype.kind == "f"
    if not (isinstance(getattr(a, "dtype", None), np.dtype) and isinstance(getattr(b, "dtype", None), np.dtype)):
        return False  # lists, and arrays of another library
    if not (a.ndim and b.ndim):
        return False
    if op.single and (a.dtype is BOOL or b.dtype is BOOL):  # a mask times floats
        return "f" in (a.dtype.kind, b.dtype.kind)
    if not (is_real(a.dtype) and is_real(b.dtype)):
        return False
    return casts(((a.dtype, True), (b.dtype, True)), op.floats, op.compares, op.single) is None


def _operand(op: Primitive, a: Any) -> tuple[Any, Operand]:
    """An argument as a tensor, an array or a number, and what it is when dtypes are chosen."""
    if isinstance(a, numbers.Real) and not isinstance(a, np.generic):
        a = a if type(a) in NUMBERS else int(a) if isinstance(a, numbers.Integral) else float(a)
        return a, type(a)
    made, weak = _from_elsewhere(op, a), isinstance(a, (list, tuple))
    if not is_real(made.dtype):
        raise TypeError(f"{op.name}: operands must be real numbers, got {made.dtype} in a {type(a).__name__}")
    if isinstance(made, Tensor) or xp(made) is not np or (made.ndim and not weak):
        return made, (made.dtype, made.ndim > 0)
    kind = _NUMBER[made.dtype.kind]
    return (made if made.ndim else kind(made)), kind


def _from_elsewhere(op: Primitive, a: Any) -> Any:
    """A tensor or an array, also from a list of numbers or from another library's array."""
    if isinstance(a, Tensor) or is_array(a):
        return a
    check_stacked(op.name, [a])
    if not isinstance(a, (list, tuple, complex)) and not hasattr(a, "__array__"):
        raise TypeError(f"{op.name}: operands must be tensors, arrays or numbers, got {type(a).__name__}")
    try:
        return np.asarray(a)
    except ValueError as error:
        raise ValueError(f"{op.name}: an operand must be numbers in rows of one length, got {a!r} ({error})") from None


def check_stacked(who: str, operands: Sequence[Any]) -> None:
    """TypeError if one of the operands is a list or a tuple of tensors."""
    for a in operands:
        if isinstance(a, (list, tuple)) and any(isinstance(v, Tensor) for v in a):
            raise TypeError(f"{who}: operands must be tensors, got a {type(a).__name__} of tensors; stack them first")


def _cast(a: Any, dtype: np.dtype) -> Any:
    """A tensor or an array in another dtype."""
    recorded = context.trace is not None and not isinstance(a, Tensor)
    return OPS["cast"](Tensor(a) if recorded else a, dtype)  # the step reads the array, not a copy of now


def floating(x: Any) -> Any:
    """A tensor or an array itself if it is of floats; integers and booleans as float32."""
    if getattr(x, "dtype", FLOAT).kind == "f":
        return x
    return OPS["cast"](x, FLOAT) if isinstance(x, Tensor) else x.astype(FLOAT)


def plain_arguments(op: Primitive, args: Sequence[Any]) -> Sequence[Any]:
    """Arguments without a tensor among them: lists as arrays, integers as floats where the operation makes such."""
    if op.formula is None and op.mixes is None and not op.floats:  # it may take anything
        return args
    check_stacked(op.name, args)
    found = [np.asarray(a) if isinstance(a, (list, tuple)) else a for a in args]
    if not all(is_array(a) or isinstance(a, numbers.Number) for a in found):
        kinds = " and ".join(type(a).__name__ for a in found)
        raise TypeError(f"{op.name}: operands must be tensors, arrays or numbers, got {kinds}")
    return [floating(a) for a in found] if op.floats and len(found) == 1 else found
