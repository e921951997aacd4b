"""An optimiser's formula on a GPU: one kernel for each parameter, instead of one for each operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.compiler import engines


def update(formula: str, memory: Sequence[str], numbers: Mapping[str, float], pairs: list[tuple]) -> list[tuple]:
    """Let a kernel update each parameter on a GPU, with its state; returns the other pairs.

    memory: the arrays of state in the formula, 0 at first  numbers: the numbers in it
    """
    return [pair for pair in pairs if not _updated(formula, tuple(memory), numbers, *pair)]


def _updated(
    formula: str, memory: tuple[str, ...], numbers: Mapping[str, float], parameter: Any, state: dict[str, Array]
) -> bool:
    """Did the kernel update it? It does not in host memory, nor where a parameter and its state differ in dtype."""
    p, g, lib = parameter.array, parameter.grad.array, xp(parameter.array)
    if lib is np or p.dtype.kind != "f" or not engines.has_formula(formula, "gpu"):
        return False
    state.update({k: lib.zeros(p.shape, p.dtype) for k in memory if k not in state})
    kept = [state[k] for k in memory]
    if any(a.dtype != p.dtype or a.shape != p.shape for a in (g, *kept)):
        return False
    new = lib.empty_like(p)  # p itself stays as it is: a graph may hold it
    kernel = engines.formula(formula, ("p", "g", *memory), ("p", *memory), p.dtype, "gpu")
    kernel((p, g, *kept), (new, *kept), numbers)
    parameter.array = new
    return True
