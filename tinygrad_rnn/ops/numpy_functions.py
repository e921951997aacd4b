"""NumPy's functions of tensors, by our ops: np.concatenate([x, h]) is ops.concat([x, h])."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import full, is_array
from tinygrad_rnn.autograd.tensor import FLAT, FUNCTIONS, OPS, Tensor, host_values, not_recorded


def _operand(x: Any) -> Any:
    """Something that has a shape."""
    return x if isinstance(x, Tensor) or is_array(x) else np.asarray(x)


def _joined(xs: Any, axis: int | None = 0) -> Tensor:
    parts = list(map(_operand, xs))
    return OPS["concat"]([OPS["reshape"](x, -1) for x in parts], 0) if axis is None else OPS["concat"](parts, axis)


def _rows(xs: Any) -> list[Any]:
    return [OPS["reshape"](x, (1, -1)) if len(x.shape) < 2 else x for x in map(_operand, xs)]


def _columns(xs: Any) -> Tensor:
    parts = [OPS["reshape"](x, -1) if not x.shape else x for x in map(_operand, xs)]
    return OPS["concat"](parts, 0 if len(parts[0].shape) == 1 else 1)


def _dot(a: Any, b: Any) -> Tensor:
    a, b = _operand(a), _operand(b)
    if not (a.shape and b.shape):
        return OPS["mul"](a, b)
    if len(b.shape) > 2:
        raise not_recorded(np.dot)
    return OPS["matmul"](a, b)


def _filled_like(a: Any, value: Any, dtype: Any = None) -> Tensor:
    return Tensor(full(a.shape, value, dtype or a.dtype, a.device))


def _take(a: Any, indices: Any, axis: int | None = None) -> Tensor:
    return OPS["take"](OPS["reshape"](a, -1), indices, 0) if axis is None else OPS["take"](a, indices, axis)


def _clipped(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return OPS["clip"](a, min if a_min is None else a_min, max if a_max is None else a_max)


def _norm(x: Any, order: Any, axis: Any, keepdims: bool) -> Tensor:
    matrix = len(x.shape) != 1 if axis is None else np.ndim(axis) == 1 and len(axis) > 1
    if isinstance(order, str) or (order is not None and matrix):
        raise not_recorded(np.linalg.norm)  # norms of matrices
    return OPS["norm"](x, 2 if order is None else order, axis, keepdims)


# NumPy's functions by our ops, with the names of NumPy's arguments
# fmt: off
FUNCTIONS.update({
    np.concatenate: lambda arrays, axis=0: _joined(arrays, axis),
    np.stack: lambda arrays, axis=0: OPS["stack"](list(map(_operand, arrays)), axis),
    np.vstack: lambda tup: OPS["concat"](_rows(tup), 0),
    np.hstack: lambda tup: _columns(tup),
    np.where: lambda condition, *xy: OPS["where"](condition, *xy) if xy else np.nonzero(host_values(condition)),
    np.dot: _dot,
    np.einsum: lambda subscripts, *operands: OPS["einsum"](subscripts, *operands),
    np.outer: lambda a, b: OPS["mul"](OPS["reshape"](_operand(a), (-1, 1)), OPS["reshape"](_operand(b), -1)),
    np.sum: lambda a, axis=None, keepdims=False: OPS["sum"](a, axis, keepdims),
    np.mean: lambda a, axis=None, keepdims=False: OPS["mean"](a, axis, keepdims),
    np.var: lambda a, axis=None, ddof=0, keepdims=False: OPS["var"](a, axis, keepdims, correction=ddof),
    np.std: lambda a, axis=None, ddof=0, keepdims=False: OPS["std"](a, axis, keepdims, correction=ddof),
    np.max: lambda a, axis=None, keepdims=False: OPS["max"](a, axis, keepdims),
    np.min: lambda a, axis=None, keepdims=False: OPS["min"](a, axis, keepdims),
    np.argmax: lambda a, axis=None, keepdims=False: OPS["argmax"](a, axis, keepdims),
    np.cumsum: lambda a, axis=None: OPS["cumsum"](OPS["reshape"](a, -1), 0) if axis is None else OPS["cumsum"](a, axis),
    np.prod: lambda a, axis=None, keepdims=False: OPS["prod"](a, axis, keepdims),
    np.cumprod: lambda a, axis=None: OPS["cumprod"](*((OPS["reshape"](a, -1), 0) if axis is None else (a, axis))),
    np.linalg.norm: lambda x, ord=None, axis=None, keepdims=False: _norm(x, ord, axis, keepdims),
    np.round: lambda a: OPS["round"](a),
    np.sort: lambda a, axis=-1: OPS["sort"](*((OPS["reshape"](a, -1), 0) if axis is None else (a, axis)))[0],
    np.clip: _clipped,
    np.reshape: lambda a, shape: OPS["reshape"](a, shape),
    np.ravel: lambda a: OPS["reshape"](a, -1),
    np.transpose: lambda a, axes=None: OPS["permute"](a, range(len(a.shape))[::-1] if axes is None else axes),
    np.swapaxes: lambda a, axis1, axis2: OPS["swapaxes"](a, axis1, axis2),
    np.expand_dims: lambda a, axis: OPS["expand_dims"](a, axis),
    np.squeeze: lambda a, axis=None: OPS["squeeze"](a, axis),
    np.broadcast_to: lambda array, shape: OPS["broadcast_to"](array, (shape,) if isinstance(shape, int) else shape),
    np.flip: lambda m, axis=None: OPS["flip"](m, range(len(m.shape)) if axis is None else axis),
    np.roll: lambda a, shift, axis=None: OPS["roll"](a, shift, axis),
    np.tile: lambda A, reps: OPS["tile"](A, reps),
    np.take: _take,
    np.take_along_axis: lambda arr, indices, axis: OPS["take_along_axis"](arr, indices, axis),
    np.zeros_like: lambda a, dtype=None: _filled_like(a, 0, dtype),
    np.ones_like: lambda a, dtype=None: _filled_like(a, 1, dtype),
    np.full_like: lambda a, fill_value, dtype=None: _filled_like(a, fill_value, dtype),
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a, axis=None: a.size if axis is None else a.shape[axis],
})
# fmt: on
FUNCTIONS[np.amax], FUNCTIONS[np.amin] = FUNCTIONS[np.max], FUNCTIONS[np.min]

# What comes of these has no gradient: truth, positions, text
FLAT |= {
    np.all, np.allclose, np.any, np.argmin, np.argsort, np.array2string, np.array_equal, np.array_equiv, np.array_repr,
    np.array_str, np.can_cast, np.count_nonzero, np.digitize, np.flatnonzero, np.isclose, np.iscomplexobj, np.isfinite,
    np.isin, np.isinf, np.isrealobj, np.may_share_memory, np.nonzero, np.result_type, np.save, np.savetxt,
    np.searchsorted, np.shares_memory, np.signbit,
}  # fmt: skip
