"""The products: where the time goes."""

from __future__ import annotations

import math

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import blas
from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.backward import Gradients
from tinygrad_rnn.autograd.dtypes import FLOAT
from tinygrad_rnn.autograd.graph import Node
from tinygrad_rnn.autograd.operands import check_stacked
from tinygrad_rnn.autograd.primitive import primitive


@primitive
def _matmul(a: Array, b: Array) -> Array:
    """a: (..., M, K)  b: (..., K, N)  returns: (..., M, N)"""
    if b.ndim == 2 < a.ndim:  # one GEMM over all rows, not one for each
        return blas.matmul(_rows(a), b).reshape(*a.shape[:-1], b.shape[1])
    return blas.matmul(a, b)


def _matmul_a(g: Any, b: Any) -> Any:
    return matmul(g, b.swapaxes(-1, -2))


def _matmul_b(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    if len(b_shape) == 2:
        return _rows(a).swapaxes(0, 1) @ _rows(g)
    return matmul(a.swapaxes(-1, -2), g)


_matmul.vjp(a=_matmul_a, b=_matmul_b)


def _accumulate(grads: Gradients, parent: Node, rule: Any, g: Array, kept: tuple) -> bool:
    """The gradient of a matrix waits for the other steps that use the same one (see Gradients.defer)."""
    if rule is not _matmul_b or grads.lift is not None or len(parent.shape) != 2 or kept[0].dtype != parent.dtype:
        return False
    if g.dtype != parent.dtype:
        return False
    grads.defer(parent, _rows(kept[0]), _rows(g))
    return True


_matmul.op.accumulate = _accumulate
_matmul.op.mixes = 0


def _rows(x: Any) -> Any:
    return x if len(x.shape) == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def matmul(a: Any, b: Any) -> Any:
    """a @ b, by NumPy's rules: matrices in the last two axes, the others broadcast; a vector is a row or a column.

    a: (..., M, K) or (K,)  b: (..., K, N) or (K,)
    """
    try:
        m, n = len(a.shape), len(b.shape)
    except AttributeError:
        return matmul(*operands_of("matmul", (a, b)))
    if m >= 2 and n >= 2:
        try:
            return _matmul(a, b)
        except ValueError:
            _check_length(a.shape, b.shape)
            raise
    if m == 0 or n == 0:
        raise ValueError(f"matmul: both operands must have axes, got shapes {a.shape} and {b.shape}; use * for numbers")
    _check_length(a.shape, b.shape)
    if n == 1:
        y = _matmul(a if m > 1 else a.reshape(1, -1), b.reshape(-1, 1))
        return y.reshape(a.shape[:-1])
    y = _matmul(a.reshape(1, -1), b)
    return y.reshape(*b.shape[:-2], b.shape[-1])


def _check_length(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a[-1] != b[-2:][0]:
        where = "the second's last but one" if len(b) > 1 else "the second's only one"
        raise ValueError(f"matmul: the first's last axis must be as long as {where}, got shapes {a} and {b}")


def operands_of(who: str, operands: Sequence[Any]) -> tuple[Any, ...]:
    """The operands, lists of numbers as arrays of the others' floats; TypeError for what has no axes."""
    check_stacked(who, operands)
    dtype = next((x.dtype for x in operands if hasattr(x, "dtype") and x.dtype.kind == "f"), FLOAT)
    made = tuple(np.asarray(x, dtype) if isinstance(x, (list, tuple)) else x for x in operands)
    kinds = [type(x).__name__ for x in made if not hasattr(x, "shape")]
    if kinds:
        raise TypeError(f"{who}: operands must be tensors or arrays, got {' and '.join(kinds)}; use * for numbers")
    return made
