"""Views: values that only look at another one in another way. They are never computed, and live where that lives."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.autograd.arrays import is_array
from tinygrad_rnn.compiler.ir.value import Value


def is_view(v: Value) -> bool:
    """Does it only look at its argument in another way?"""
    if v.op == "getitem":
        key = v.static["key"]
        return not any(map(_chooses, key if isinstance(key, tuple) else (key,)))
    if v.op == "reshape":  # of a whole buffer: of a part it would be a copy, but for axes of one element
        x = v.args[0]
        return x.op != "zeros" and (only_ones(v) or not (is_view(x) or x.op == "pack"))
    return v.op in ("part", "permute", "broadcast_to", "splat", "spread")


def _chooses(k: object) -> bool:
    """Is it a list or an array of indices? A number of NumPy's is a number."""
    return isinstance(k, list) or (is_array(k) and not isinstance(k, np.generic))


def only_ones(v: Value) -> bool:
    """Does a reshape put in or leave out axes of one element, and nothing else?"""
    return [n for n in v.shape if n != 1] == [n for n in v.args[0].shape if n != 1]


def base(v: Value) -> Value:
    """The value that a view looks at; a value that is no view itself."""
    while is_view(v):
        v = v.args[0]
    return v
