"""The library's own random generator: initial weights and dropout masks come from it unless another one is passed.

It draws in host memory on every device, so that a seed means the same numbers on the CPU and on a GPU.
"""

from __future__ import annotations

import copy

from typing import Any

import numpy as np

_generator: np.random.Generator | None = None  # made at the first use: importing numpy.random takes time


def manual_seed(seed: int | None) -> np.random.Generator:
    """Start the library's generator anew from `seed` (None: from fresh entropy); returns it."""
    global _generator
    _generator = np.random.default_rng(seed)
    return _generator


def default_generator() -> np.random.Generator:
    """The generator in use."""
    return _generator or manual_seed(None)


def get_rng_state() -> dict[str, Any]:
    """The state of the library's generator, for `set_rng_state`; made of strings and integers."""
    return copy.deepcopy(dict(default_generator().bit_generator.state))


def set_rng_state(state: dict[str, Any]) -> None:
    """Put the library's generator back where `get_rng_state` found it."""
    if state.get("bit_generator") != "PCG64":
        raise ValueError(f"set_rng_state: the state must come from get_rng_state, got {state.get('bit_generator')!r}")
    default_generator().bit_generator.state = copy.deepcopy(state)
