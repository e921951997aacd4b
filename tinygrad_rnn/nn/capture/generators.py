"""Generators of random numbers that a step may draw from by itself: were any drawn while it was recorded?"""

from __future__ import annotations

import random as python
import threading

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import random

ACCESS = tuple[Callable[[], Any], Callable[[Any], None]]  # how to read a generator's state, and how to set it


def is_generator(x: Any) -> bool:
    """Is it a generator whose state can be read?"""
    kinds = (np.random.Generator, np.random.RandomState, np.random.BitGenerator)
    return isinstance(x, kinds) or (isinstance(x, python.Random) and not isinstance(x, python.SystemRandom))


def _access(x: Any) -> ACCESS:
    if isinstance(x, python.Random):
        return x.getstate, x.setstate
    if isinstance(x, np.random.RandomState):
        return x.get_state, x.set_state
    bits = getattr(x, "bit_generator", x)
    return lambda: bits.state, lambda state: setattr(bits, "state", state)


def _comparable(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _comparable(value) for key, value in state.items()}
    if isinstance(state, tuple):
        return tuple([s if type(s) is int else _comparable(s) for s in state])  # of Python's generator: 625 numbers
    return state.tobytes() if isinstance(state, np.ndarray) else state


class States:
    """What generators will draw next.

    common: also those that belong to nobody, of Python, NumPy and this library? Else only if no other thread runs, to
    which what they draw would be put down
    """

    def __init__(self, others: Iterable[Any], *, common: bool):
        access = list(map(_access, others))
        if common or threading.active_count() == 1:
            access.append((python.getstate, python.setstate))
            access.append((np.random.get_state, np.random.set_state))
            access.append((random.get_rng_state, random.set_rng_state))
        self.were = [(get, put, get()) for get, put in access]

    def put_back(self) -> bool:
        """Let them draw the same again. Had they moved?"""
        moved = False
        for get, put, was in self.were:
            if _comparable(get()) != _comparable(was):
                put(was)
                moved = True
        return moved
