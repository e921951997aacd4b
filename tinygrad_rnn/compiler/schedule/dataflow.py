"""Dataflow: how often each value is computed, from what, and who reads it. Nothing is said of the order yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import is_transpose
from tinygrad_rnn.compiler.ir.levels import PARALLEL, PER_CALL, Levels
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.views import base, is_view


@dataclass(frozen=True, eq=False)
class Dataflow:
    """What is known of a circuit's values before they are put in order.

    circuit      the values
    level        of each value: once a call, for all steps at once, or the number of its loop (see ir.levels)
    users        who reads each value; None stands for the caller
    accumulated  v = a @ W + start for each sum v that a product adds its result to: (the product, start). Such a
                 product has no code of its own
    """

    circuit: Circuit
    level: Levels
    users: dict[Value, list[Value | None]]
    accumulated: dict[Value, tuple[Value, Any]] = field(default_factory=dict)

    @cached_property
    def accumulating(self) -> set[Value]:
        """The products that are computed on top of another term, with the sum that reads them."""
        return {m for m, _ in self.accumulated.values()}

    def moves(self, v: Value) -> bool:
        """Does it differ from step to step? A view that an engine makes up does as what it looks at."""
        return v.op != "tsum" and self.level[v if v in self.level else base(v)] != PER_CALL

    def reads(self, v: Value) -> Iterator[Value]:
        """What is read when v is computed: its arguments, and those of arguments that it computes itself."""
        for a in v.values:
            yield a
            if self.contracted(a) or a in self.accumulating:
                yield from a.values

    def has_no_code(self, v: Value) -> bool:
        """Is there nothing to do for it? It is given, a view, or computed by its reader."""
        return is_view(v) or v.op in ("input", "zeros") or v in self.accumulating or self.contracted(v)

    def is_product(self, m: Any) -> bool:
        """Is it a product of rows that move with weights that do not, computed step by step or for all steps?"""
        if not (isinstance(m, Value) and m.op == "matmul" and len(m.values) == 2 and len(m.shape) == 2):
            return False
        return self.moves(m.args[0]) and not self.moves(m.args[1])

    def is_computed_as_product(self, v: Value) -> bool:
        """Is it a product of rows with weights, or one on top of another term?"""
        return v in self.accumulated or self.is_product(v)

    def contracted(self, v: Value) -> bool:
        """Is it part of a contraction over time and batch: aᵀ g, windows times g or Σ g, summed over the steps by the
        tsum that reads it? Then that computes it."""
        if not all(u is not None and u.op == "tsum" for u in self.users[v]) or self.level[v] != PARALLEL:
            return False
        if v.op == "matmul" and len(v.values) == 2 and all(self.moves(a) for a in v.args):
            a, b = v.args
            return (is_transpose(a) and len(b.shape) == 2) or (len(a.shape) > 2 and a.shape[:-2] == b.shape[:-2])
        if v.op == "correlate":
            return len(v.values) == 2 and all(self.moves(a) for a in v.args)
        return v.op == "sum" and v.static["axis"] == (0,) and not v.static["keepdims"] and len(v.args[0].shape) == 2
