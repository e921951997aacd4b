"""Dtypes: what an operation's result has, and to what its operands are cast, by PyTorch's rules."""

from __future__ import annotations

import functools

from typing import Any

import numpy as np

FLOAT = np.dtype(np.float32)  # of what is computed from integers, or from numbers alone
_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}
_NUMBERS = {bool: np.dtype(bool), int: np.dtype(np.int64), float: FLOAT}

Operand = tuple[np.dtype, bool] | type  # an array's dtype, and has it axes? or the type of a Python number


def is_real(dtype: np.dtype) -> bool:
    """Is it a dtype of floats, integers or booleans?"""
    return dtype.kind in _RANK


def real_dtype(dtype: Any, who: str) -> np.dtype:
    """A dtype that tensors can have; TypeError in the name of `who` for any other."""
    try:
        found = np.dtype(dtype) if dtype is not None else None  # NumPy's default is none of ours
    except TypeError:
        found = None
    if found is None or not is_real(found):
        raise TypeError(f'{who}: the dtype must be of floats, integers or booleans, as "float32", got {dtype!r}')
    return found


@functools.lru_cache(1 << 12)
def common_dtype(operands: tuple[Operand, ...], floats: bool = False) -> np.dtype:
    """The dtype that operands are brought to, by PyTorch's rule: what has axes decides.

    What has none, and a number still less, counts only where it is of a higher kind (booleans < integers < floats).
    floats: does the operation make floats of integers?
    """
    arrays = [o for o in operands if isinstance(o, tuple)]
    groups = [
        [dtype for dtype, axes in arrays if axes],
        [dtype for dtype, axes in arrays if not axes],
        [_NUMBERS[o] for o in operands if not isinstance(o, tuple)],
    ]
    found: np.dtype | None = None
    for group in filter(None, groups):
        rank = max(_RANK[dtype.kind] for dtype in group)
        if found is None or rank > _RANK[found.kind]:
            found = np.result_type(*[dtype for dtype in group if _RANK[dtype.kind] == rank])
    assert found is not None
    return FLOAT if floats and found.kind != "f" else found


@functools.lru_cache(1 << 12)
def casts(
    operands: tuple[Operand, ...], floats: bool, compares: bool, single: bool
) -> tuple[np.dtype | None, ...] | None:
    """For each operand the dtype to cast it to first, or None; None for all where the libraries do by themselves.

    floats, compares, single: as in `rules.Primitive`
    """
    dtypes = [o[0] if isinstance(o, tuple) else None for o in operands]
    if compares and any(_RANK[dtype.kind] < 2 for dtype in dtypes if dtype is not None):
        return None
    wanted = common_dtype(operands, floats)
    numbers = [o(1) for o in operands if not isinstance(o, tuple)]
    own = np.result_type(*[dtype for dtype in dtypes if dtype is not None], *numbers)
    if single and own == wanted and (not floats or own.kind == "f"):
        return None
    found = tuple(None if dtype is None or dtype == wanted else wanted for dtype in dtypes)
    return found if any(dtype is not None for dtype in found) else None
