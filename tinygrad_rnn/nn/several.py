"""Several inputs at each step: side by side in one tensor over time, and apart again where the cell reads them."""

from __future__ import annotations

import math

from typing import Any

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import is_array
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.ops import concat


class Form:
    """How a nest of inputs lies in one tensor; equal for nests built alike, of parts of the same shapes.

    example  the nest, with the number of each part in its place
    shapes   what follows (T, B) in the shape of each part
    """

    def __init__(self, xs: Any):
        found = nest.leaves(xs)
        numbers = iter(range(len(found)))
        self.example = nest.map_leaves(lambda _: next(numbers), xs)
        self.shapes = [tuple(x.shape[2:]) for x in found]
        self._key = nest.structure(self.example, self.shapes.__getitem__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def apart(self, x: Tensor) -> Any:
        """The nest of one step. x: (B, all numbers of all parts)"""
        parts, at = [], 0
        for shape in self.shapes:
            size = math.prod(shape)
            part = x[:, at : at + size]
            parts.append(part if len(shape) == 1 else part.reshape(len(x), *shape))
            at += size
        return nest.map_leaves(parts.__getitem__, self.example)


class Several(Tensor):
    """Inputs of all steps, (T, B, all numbers of all parts). form: how they lie there"""

    __slots__ = ("form",)
    form: Form


def form_of(xs: Tensor) -> Form | None:
    """How several inputs lie in xs; None if it is one."""
    return xs.form if isinstance(xs, Several) else None


def are_several(xs: Any) -> bool:
    """Is it a tuple or a dict of tensors and arrays? A list is one of the steps of a single input."""
    if not isinstance(xs, (tuple, dict)) or not xs:
        return False
    return all(isinstance(x, Tensor) or is_array(x) for x in nest.leaves(xs))


def side_by_side(who: str, xs: Any) -> Several:
    """Inputs in one tensor; ValueError unless all are (T, B, …) with the same T and B and of one dtype."""
    xs = nest.map_leaves(lambda x: x if isinstance(x, Tensor) else tensor(x), xs)
    found = nest.leaves(xs)
    if any(x.ndim < 2 for x in found) or len({x.shape[:2] for x in found}) > 1:
        raise ValueError(f"{who}: several xs must each be (T, B, …) with the same T and B, got {nest.describe(xs)}")
    if len({x.dtype for x in found}) > 1:
        dtypes = ", ".join(sorted({x.dtype.name for x in found}))
        raise ValueError(f"{who}: several xs must be of one dtype, got {dtypes}; make them numbers of one, embed ids")
    T, B = found[0].shape[:2]
    whole = concat([x.reshape(T, B, math.prod(x.shape[2:])) for x in found], axis=2)
    made = Several(whole.array, whole.node)
    made.form = Form(xs)
    return made
