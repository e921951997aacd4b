"""What a module holds: tensors, which a recorded step reads at each call, and all else, which it is recorded for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import is_
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.circuit import Unsupported
from tinygrad_rnn.compiler.trace import SMALL
from tinygrad_rnn.graph import state as mode
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.tensor import Tensor

PLAIN = (int, float, bool, str, bytes, complex, type(None), np.generic, np.dtype, slice, range)


class Inventory:
    """What a module and the modules below it hold.

    key      changes when what they hold changes, other than the values of tensors
    tensors  in order, each once
    others   what the key knows by identity: it must live as long as the key
    places   the attributes, lists and dicts, each with a copy
    arrays   of the tensors, as they were last seen; nodes: theirs
    kinds    the shape and dtype of each tensor, and whether a gradient flows to it
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.parts: list[Any] = []
        self.tensors: list[Tensor] = []
        self.others: list[Any] = []
        self.places: list[tuple[Any, Any]] = []
        self.arrays: list[Any] = []
        self.nodes: list[Any] = []
        self.kinds: list[tuple] = []
        self.writable = False  # does the key know what is in an array?
        self.seen: dict[int, int] = {}
        self.recording = mode.recording
        self._add(module)
        self.key = tuple(self.parts)

    def _add(self, x: Any) -> None:
        key = self.parts
        if isinstance(x, Tensor):
            at = self.seen.setdefault(id(x), len(self.tensors))
            if at == len(self.tensors):
                self.tensors.append(x)
                self.arrays.append(x.array)
                self.nodes.append(x.node)
                self.kinds.append(_kind(x.array, x.node, self.recording))
            key.append((at, self.kinds[at]))
        elif isinstance(x, PLAIN):
            key.append((type(x), repr(x) if isinstance(x, (slice, range)) else x))
        elif isinstance(x, np.ndarray):
            self.writable = True
            key.append((x.shape, x.dtype, x.tobytes() if x.nbytes <= SMALL else self._known(x)))
        elif not isinstance(x, (Module, list, tuple, dict)) and not _is_settings(x):
            key.append((type(x), self._known(x)))
        elif id(x) in self.seen:
            key.append(self.seen[id(x)])
        else:
            self.seen[id(x)] = -len(self.seen) - 1
            self._add_items(x)

    def _known(self, x: Any) -> int:
        self.others.append(x)
        return id(x)

    def _add_items(self, x: Any) -> None:
        items = x if isinstance(x, (list, tuple, dict)) else x.__dict__
        self.parts.append((type(x), len(items)))
        if isinstance(items, dict):
            self.places.append((items, dict(items)))
            for name, value in items.items():
                self.parts.append(name)
                self._add(value)
        else:
            if isinstance(items, list):
                self.places.append((items, list(items)))
            for value in items:
                self._add(value)

    def unchanged(self, module: Module) -> bool:
        """Would an inventory of a module have the same key? True only if that is sure; quicker than to ask it."""
        if self.module is not module or self.writable or self.recording != mode.recording:
            return False
        for place, was in self.places:
            if not _is_same(place, was):
                return False
        for i, t in enumerate(self.tensors):
            array, node = t.array, t.node
            if array is not self.arrays[i] or node is not self.nodes[i]:
                if _kind(array, node, self.recording) != self.kinds[i]:
                    return False
                self.arrays[i], self.nodes[i] = array, node
        return True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put back what the block sets. Unsupported if it sets anything: a recorded step would set it once only."""
        changed: list[str] = []
        try:
            yield
        finally:
            for place, was in self.places:
                changed += _put_back(place, was)
        if changed:
            raise Unsupported(f"its step sets {changed[0]}, which is no part of its state")


def _is_settings(x: Any, depth: int = 3) -> bool:
    """An object that is a record of plain values, or of such records?"""
    if isinstance(x, (list, tuple, dict)):
        return all(_is_settings(v, depth) for v in (x.values() if isinstance(x, dict) else x))
    if isinstance(x, PLAIN) or not hasattr(x, "__dict__") or callable(x) or not depth:
        return isinstance(x, PLAIN)
    return all(_is_settings(v, depth - 1) for v in x.__dict__.values())


def _kind(array: Any, node: Any, recording: bool) -> tuple:
    return array.shape, array.dtype, recording and node is not None and node.tracked


def _is_same(place: Any, was: Any) -> bool:
    """Does a list or a dict hold the same objects?"""
    if len(place) != len(was):
        return False
    if isinstance(place, list):
        return all(map(is_, place, was))
    return all(map(is_, place.values(), was.values())) and list(place) == list(was)


def _put_back(place: Any, was: Any) -> Iterator[str]:
    """Undo the changes of a list or a dict; their names."""
    if isinstance(place, list):
        if len(place) != len(was) or not all(map(_same, place, was)):
            place[:] = was
            yield "an item of a list"
        return
    for name in place.keys() - was.keys():
        del place[name]
        yield repr(name)
    for name, value in was.items():
        if name not in place or not _same(place[name], value):
            place[name] = value
            yield repr(name)


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and isinstance(a, PLAIN) and a == b)
