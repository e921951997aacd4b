"""An optimiser's formula as machine code: one pass over all parameters, instead of a few NumPy calls for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import is_
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.blas import FLOATS
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.runtime.memory import address, recycled


class Addresses:
    """Where a parameter and its state lie in memory: cached, for finding out takes longer than a small update.

    array: the parameter's, as machine code was last given it; when it is another one, this is out of date
    usable: machine code can work on them; it cannot where a parameter was moved to another dtype, and its state was not
    """

    __slots__ = ("array", "at", "dtype", "kept", "memory", "places", "usable")

    def __init__(self, p: Array, state: dict[str, Array], memory: Sequence[str]):
        self.array, self.memory, self.kept, self.dtype = p, memory, [], p.dtype
        self.usable = type(p) is np.ndarray and p.dtype in FLOATS and p.flags.c_contiguous
        if self.usable:
            state.update({k: np.zeros(p.shape, p.dtype) for k in memory if k not in state})
            self.kept = [state[k] for k in memory]
            self.usable = all(
                type(a) is np.ndarray and a.dtype == p.dtype and a.shape == p.shape and a.flags.c_contiguous
                for a in self.kept
            )
        if self.usable:
            self.at, self.places = address(p), [address(a) for a in self.kept]

    def are_of(self, p: Array, state: dict[str, Array], memory: Sequence[str]) -> bool:
        """Do the parameter and its state still lie there?"""
        return self.array is p and self.memory == memory and all(map(is_, self.kept, map(state.get, memory)))


def update(
    formula: str, memory: Sequence[str], numbers: Mapping[str, float], pairs: list[tuple], known: dict[int, Addresses]
) -> list[tuple]:
    """Let machine code update parameters, each with its state; returns the pairs that it cannot work on.

    Called once a step, where `engines.has_formula(formula)`.
    memory: the arrays of state in the formula, 0 at first  numbers: the numbers in it
    known: by the parameters' ids; kept between steps by the caller
    """
    jobs: dict[Any, list[list[int]]] = {}
    rest, made = [], []
    for parameter, state in pairs:
        p, g, seen = parameter.array, parameter.grad.array, known.get(id(parameter))
        if seen is None or not seen.are_of(p, state, memory):
            seen = known[id(parameter)] = Addresses(p, state, memory)
        if not seen.usable or type(g) is not np.ndarray or g.shape != p.shape:
            rest.append((parameter, state))
            continue
        g = np.ascontiguousarray(g, seen.dtype)
        new, at = recycled(p.shape, seen.dtype)  # p itself stays as it is: a graph may hold it
        jobs.setdefault(seen.dtype, []).append([p.size, seen.at, address(g), *seen.places, at, *seen.places])
        seen.array, seen.at = new, at
        made.append((parameter, new, g))  # g: its memory is in use until the pass has run
    for dtype, several in jobs.items():
        engines.formula(formula, ("p", "g", *memory), ("p", *memory), dtype).run(several, numbers)
    for parameter, new, _ in made:
        parameter.array = new
    return rest
