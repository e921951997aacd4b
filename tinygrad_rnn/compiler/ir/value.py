"""Value: one array of a step, and the operations that there are."""

from __future__ import annotations

import importlib
import itertools

from dataclasses import dataclass, field
from typing import Any

from tinygrad_rnn.autograd.graph import Scope, context
from tinygrad_rnn.autograd.rules import Primitive
from tinygrad_rnn.compiler.ir.origin import Origin

PRIMITIVES: dict[str, Primitive] = {
    function.op.name: function.op
    for module in ("shape", "elementwise", "matmul", "einsum", "reduce", "index", "composed", "convolution")
    for function in vars(importlib.import_module(f"tinygrad_rnn.ops.{module}")).values()
    if isinstance(getattr(function, "op", None), Primitive)
}
# Elementwise without a formula in Python's and C's common words.
POINTWISE = {name for name, p in PRIMITIVES.items() if p.formula} | {"pow", "where", "clip", "cast", "detach"}
# What the compiler itself says of values: `part` and `pack` of columns, what is 0, Σ over all steps; `splat`: all
# columns again and again, `spread`: each column so many times, `sums`, `dots`: Σ over each of so many parts of them.
INNER = {"part", "pack", "zeros", "tsum", "splat", "spread", "sums", "dots", "pick", "copy"}

OVER_TIME = {"tsum", "put_all"}  # what all steps are read for, once

_serial = itertools.count()


def is_pointwise(op: str, primitive: Primitive | None) -> bool:
    """Is each element of the result computed from the elements of the arguments at the same place?"""
    return op in POINTWISE or (primitive is not None and primitive.formula is not None)


class Unsupported(Exception):
    """Why a step cannot be compiled; the eager engine runs it."""


@dataclass(eq=False, slots=True)
class Value:
    """One array of a step.

    op        the name of the operation; "input" for what comes from outside, an INNER one, or "user.…"
    args      values and Python's numbers; `values` are those of them that are values
    static    the keyword arguments
    shape     of one step, without time; it and dtype are tuples of such where the operation has several outputs
    moves     does it differ from step to step?
    primitive the operation itself, None for inputs and inner operations
    tracked   while recording: does a gradient flow to it?
    index     the order of creation, which is a topological order
    scope     the modules that it was recorded in
    origin    the place in a user's code that it was recorded at, or None
    key       what equal operations on equal arguments share (see Circuit.make), or None
    """

    op: str
    args: tuple[Any, ...]
    static: dict[str, Any]
    shape: Any
    dtype: Any
    moves: bool
    primitive: Primitive | None = None
    tracked: bool = False
    index: int = field(default_factory=lambda: next(_serial))
    scope: Scope = field(default_factory=lambda: context.scope)
    origin: Origin | None = None
    values: list[Value] = field(init=False)
    key: tuple | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.values = [a for a in self.args if isinstance(a, Value)]

    @property
    def several(self) -> bool:
        """Is it the outputs of an operation with several? Each has a value of its own, a `pick` of this one."""
        return isinstance(self.dtype, tuple)

    @property
    def pointwise(self) -> bool:
        """Is each of its elements computed from the elements of the arguments at the same place?"""
        return is_pointwise(self.op, self.primitive)

    @property
    def name(self) -> str:
        """What a listing calls it."""
        return self.static["name"] if self.op == "input" else f"v{self.index}"

    def __repr__(self) -> str:
        return f"{self.name}: {self.op}{self.shape}"
