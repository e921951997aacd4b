"""The library's own random generator: initial weights and dropout masks come from it unless another one is passed.

It draws in host memory on every device, so that a seed means the same numbers on the CPU and on a GPU.
"""

from __future__ import annotations

import copy

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import context

_generator: np.random.Generator | None = None  # made at the first use: importing numpy.random takes time


def manual_seed(seed: int | None) -> np.random.Generator:
    """Start the library's generator anew from `seed` (None: from fresh entropy); returns it."""
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


def uniform(shape: tuple[int, ...], rng: np.random.Generator | None = None) -> np.ndarray:
    """float32 numbers from 0 to less than 1, from a generator or the library's; inside `replayed` the given ones."""
    if context.random_numbers is not None:
        return next(context.random_numbers)
    return (rng or default_generator()).random(shape, np.float32)


@contextmanager
def replayed(numbers: Sequence[np.ndarray]) -> Iterator[None]:
    """Inside the block `uniform` returns these, in this order."""
    outer, context.random_numbers = context.random_numbers, iter(numbers)
    try:
        yield
    finally:
        context.random_numbers = outer
