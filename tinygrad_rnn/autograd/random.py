"""The library's own random generator: initial weights and dropout masks come from it unless another one is passed.

A seed means the same numbers on every device. A GPU makes uniform ones itself (see pcg64), if the generator is one that
`numpy.random.default_rng` returns; others, and normal numbers, are drawn in host memory: how many words one of these
takes depends on the words, so that none can start in the middle.
"""

from __future__ import annotations

import copy

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import pcg64
from tinygrad_rnn.autograd.arrays import Array, move
from tinygrad_rnn.autograd.graph import context

_generator: np.random.Generator | None = None  # made at the first use: importing numpy.random takes time


def manual_seed(seed: int | Sequence[int] | None) -> np.random.Generator:
    """Start the library's generator anew from `seed`, one number or several (None: from fresh entropy); returns it."""
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def default_generator() -> np.random.Generator:
    """The library's generator, seeded by chance where nobody has called `manual_seed`."""
    return _generator or manual_seed(None)


def get_rng_state() -> dict[str, Any]:
    """The state of the library's generator, for `set_rng_state`; made of strings and integers."""
    return copy.deepcopy(dict(default_generator().bit_generator.state))


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the library's generator back where `get_rng_state` found it."""
    if state.get("bit_generator") != "PCG64":
        raise ValueError(f"set_rng_state: the state must come from get_rng_state, got {state.get('bit_generator')!r}")
    default_generator().bit_generator.state = copy.deepcopy(state)


@contextmanager
def untouched() -> Iterator[None]:
    """What the block draws from the library's generator is drawn again after it."""
    state = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(state)


def uniform(shape: tuple[int, ...], rng: np.random.Generator | None = None, device: str = "cpu") -> Array:
    """float32 numbers from 0 to less than 1, from a generator or the library's; inside `replayed` the given ones."""
    if context.random_numbers is not None:
        return move(next(context.random_numbers), device)
    return drawn(shape, rng, device)


def drawn(
    shape: tuple[int, ...], rng: np.random.Generator | None = None, device: str = "cpu", dtype: Any = np.float32
) -> Array:
    """The same, float32 or float64, always fresh ones."""
    rng = rng or default_generator()
    if device != "cpu" and pcg64.can_draw(rng):
        return pcg64.uniform(shape, rng, np.dtype(dtype), device)
    return move(rng.random(shape, dtype), device)


def mask(
    shape: tuple[int, ...], p: float, rng: np.random.Generator | None = None, *, dtype: np.dtype, device: str = "cpu"
) -> Array:
    """0 with probability p, else 1 / (1 - p); of the numbers that `uniform` returns, those from p on are kept."""
    kept, least = dtype.type(1 / (1 - p)), np.promote_types(dtype, np.float32).type(p)
    rng = rng or default_generator()
    if device != "cpu" and context.random_numbers is None and pcg64.can_draw(rng):
        return pcg64.mask(shape, least, kept, rng, device)
    return (uniform(shape, rng, device) >= least).astype(dtype) * kept


@contextmanager
def replayed(numbers: Sequence[Array]) -> Iterator[None]:
    """Inside the block `uniform` returns these, in this order."""
    outer, context.random_numbers = context.random_numbers, iter(numbers)
    try:
        yield
    finally:
        context.random_numbers = outer
