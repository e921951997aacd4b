"""Lines of maths on arrays of one size, such as an optimiser's, as one kernel: a thread for each element."""

from __future__ import annotations

import functools

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.compiler.cuda.functions import PRELUDE, formula, real
from tinygrad_rnn.compiler.ir.formula import Lines


class Formula:
    """Lines such as "m = a * m + (1 - a) * g", for each element of arrays; one launch.

    reads, writes  the names of the arrays that it reads, and of those that it writes; all others are numbers
    """

    def __init__(self, lines: str, reads: Sequence[str], writes: Sequence[str], dtype: Any):
        self.lines, self.dtype = Lines(lines, reads), np.dtype(dtype)
        number = {"float": "float32", "double": "float64"}[real(dtype)]
        inputs = [f"{self.dtype} r{i}" for i in range(len(reads))]
        inputs += [f"{number} c{i}" for i in range(len(self.lines.names))]
        outputs = [f"{self.dtype} w{i}" for i in range(len(writes))]
        body = "\n".join(self._body(reads, writes))
        self.kernel = load_cupy().ElementwiseKernel(
            ", ".join(inputs), ", ".join(outputs), body, "formula", preamble=PRELUDE
        )

    def __call__(self, arrays: Sequence[Any], out: Sequence[Any], values: Mapping[str, float]) -> None:
        """arrays: what it reads  out: what it writes, which may be among them  values: numbers by name"""
        self.kernel(*arrays, *self.lines.numbers(values), *out)

    def _body(self, reads: Sequence[str], writes: Sequence[str]) -> list[str]:
        """Its statements: each array's element is read first, and written last, for both may be one array."""
        kind, places = real(self.dtype), {name: f"c{i}" for i, name in enumerate(self.lines.names)}
        lines = []
        for i, name in enumerate(reads):
            places[name] = f"v{i}"
            lines.append(f"{kind} v{i} = r{i};")
        for i, (name, tree) in enumerate(self.lines.assigned, len(reads)):
            value, places[name] = formula(tree, places, self.dtype), f"v{i}"
            lines.append(f"{kind} v{i} = {value};")
        return lines + [f"w{i} = {places[name]};" for i, name in enumerate(writes)]


@functools.lru_cache(64)
def formula_kernel(lines: str, reads: tuple[str, ...], writes: tuple[str, ...], dtype: np.dtype) -> Formula:
    """The kernel of lines; the same ones are compiled once."""
    return Formula(lines, reads, writes, dtype)
