"""Shapes and dtypes of values, from those of their arguments."""

from __future__ import annotations

import math

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, device_of, from_numpy, is_array, xp
from tinygrad_rnn.autograd.rules import Primitive
from tinygrad_rnn.compiler.ir.value import INNER, Value, is_pointwise

# ---- shapes ---------------------------------------------------------------------------------------------------------


def stand_in(shape: tuple[int, ...], dtype: Any, device: str = "cpu") -> Array:
    """An array of this shape on a device, of zeros that take no memory."""
    zero: Array = np.zeros((), dtype)
    if device != "cpu":
        zero = from_numpy(zero, device)
    return xp(zero).broadcast_to(zero, shape)


def infer(op: str, primitive: Primitive | None, args: tuple, static: dict) -> tuple[Any, Any]:
    """Shape and dtype of a value. An operation that is not known here is tried on zeros."""
    values = [a for a in args if isinstance(a, Value)]
    if op == "zeros":
        return static["shape"], static["dtype"]
    if op == "pick":
        return values[0].shape[static["index"]], values[0].dtype[static["index"]]
    if op in INNER:
        return _infer_inner(op, values, static), values[0].dtype
    shape = _shape(op, primitive, args, static)
    if shape is None:
        return _computed(primitive, args, static)
    return shape, _dtype(primitive, args, static)


def _shape(op: str, primitive: Primitive | None, args: tuple, static: dict) -> tuple[int, ...] | None:
    """The shape of the most usual operations; None: run it, which also explains better what does not fit."""
    shapes: list[tuple[int, ...]] = [a.shape if isinstance(a, Value) else () for a in args]
    if is_pointwise(op, primitive):
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            return None
    if op == "matmul":
        a, b = shapes
        fits = len(a) == len(b) and len(a) >= 2 and a[:-2] == b[:-2] and a[-1] == b[-2]
        return (*a[:-1], b[-1]) if fits else None
    if op in ("sum", "max", "min") and 0 not in shapes[0]:
        kept = tuple(1 if i in static["axis"] else n for i, n in enumerate(shapes[0]))
        return kept if static["keepdims"] else tuple(n for i, n in enumerate(kept) if i not in static["axis"])
    if primitive is not None and primitive.shape is not None:
        return primitive.shape(shapes, static)
    if op == "permute":
        return tuple(shapes[0][k] for k in static["axes"])
    if op == "reshape" and math.prod(shapes[0]) == math.prod(static["shape"]):
        return static["shape"] if min(static["shape"], default=0) >= 0 else None
    return None


_dtypes: dict[tuple, Any] = {}  # found by trying; there are few operations, and few dtypes


def _dtype(primitive: Primitive | None, args: tuple, static: dict) -> Any:
    """The dtype of the result, from that of a single element."""
    if primitive is not None and primitive.shape is not None:
        return next(a.dtype for a in args if isinstance(a, Value))
    kinds = [a.dtype if isinstance(a, Value) else type(a) for a in args]
    key = (primitive, *kinds, static.get("dtype"), *map(type, static.values()))
    found = _dtypes.get(key)
    if found is None:
        one = [np.zeros((1,) * len(a.shape), a.dtype) if isinstance(a, Value) else a for a in args]
        if static.keys() & {"axes", "shape"}:  # a view
            return one[0].dtype
        found = _dtypes[key] = _computed(primitive, one, static)[1]
    return found


def _infer_inner(op: str, values: list[Value], static: dict) -> tuple[int, ...]:
    shape = list(values[0].shape)
    if op == "part":
        shape[static["axis"]] = static["hi"] - static["lo"]
    elif op == "pack":
        shape[-1] = sum(v.shape[-1] for v in values)
    elif op in ("splat", "spread"):
        shape[-1] *= static["times"]
    elif op in ("sums", "dots"):
        shape[-1] = static["parts"]
    return tuple(shape)


def _computed(primitive: Primitive | None, args: Iterable[Any], static: dict) -> tuple[Any, Any]:
    """Shape and dtype by running the operation on zeros: where its arrays of indices are, or on the host."""
    assert primitive is not None
    device = next((d for a in _arrays_in(static.values()) if (d := device_of(a)) != "cpu"), "cpu")
    zeros = [stand_in(a.shape, a.dtype, device) if isinstance(a, Value) else a for a in args]
    with np.errstate(all="ignore"):
        y = primitive.forward(*zeros, **static)
    if isinstance(y, tuple):
        return tuple(np.shape(each) for each in y), tuple(each.dtype for each in y)
    y = y if is_array(y) else np.asarray(y)
    return y.shape, y.dtype


def _arrays_in(parts: Iterable[Any]) -> Iterator[Array]:
    """The arrays among some things, and in tuples of them."""
    for part in parts:
        if isinstance(part, tuple):
            yield from _arrays_in(part)
        elif is_array(part):
            yield part
