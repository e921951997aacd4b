"""Inventory: what a cell's step may read, to tell whether it is still the same, and to keep it so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter, is_
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.nn.capture.generators import States
from tinygrad_rnn.nn.capture.walk import BODY, Walk, kind_of
from tinygrad_rnn.nn.module import Module

TABLE = attrgetter("__dict__")
DRAWS = {"init", "default_generator", "manual_seed"}  # attributes that lead to this library's generator


class Inventory(Walk):
    """What a cell and its code can reach, and what can be asked of that."""

    def check(self) -> None:
        """Unsupported if code names something that cannot be looked into."""
        if "" in self.bare or not self.bare.isdisjoint(self.holders):
            raise Unsupported("its step reads the array of a tensor, which has other values at each call")
        for name, why in self.unseen:
            if self._is_named(name):
                raise Unsupported(f"its step {why}")

    def _is_named(self, name: str) -> bool:
        return self.anything or name in self.names or name in self.read

    def named_arrays(self) -> list[np.ndarray]:
        """The large arrays that the cell's code names, whose items it may read."""
        return [a for name, a in self.large if self._is_named(name)]

    def unchanged(self, module: Module) -> bool:
        """Would an inventory of a module have the same key? True only if that is sure; quicker than to ask it."""
        if self.module is not module or self.recording != context.recording:
            return False
        for place in self.places:
            if not place.same():
                return False
        if not self._are_the_same():
            return False
        for i, t in enumerate(self.tensors):
            array, node = t.array, t.node
            if array is not self.arrays[i] or node is not self.nodes[i]:
                if kind_of(array, node, self.recording) != self.kinds[i]:
                    return False
                self.arrays[i], self.nodes[i] = array, node
        return True

    def _are_the_same(self) -> bool:
        """Have objects the classes and attribute dicts that they had, and functions their code?"""
        if not all(map(is_, map(type, self.objects), self.classes)):
            return False
        if not all(map(is_, map(TABLE, self.owners), self.tables)):
            return False
        return all(all(map(is_, map(part, self.functions), were)) for part, were in zip(BODY, self.bodies, strict=True))

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Put back what the block sets. Unsupported if it sets anything, or draws: a recorded step would do it once."""
        states = States(self.generators, common=self.draws or not DRAWS.isdisjoint(self.names))
        changed, reason = [], None
        large = [(a, a.copy()) for _, a in self.large]
        try:
            yield
        except Unsupported as error:
            reason = error
        finally:
            drew = states.put_back()
            for place in self.places:
                changed += place.put_back()
            changed += _put_back(large, zip(self.tensors, self.arrays, self.nodes, strict=True))
        if drew:
            raise Unsupported("its step draws random numbers by itself; ops.uniform draws anew at each step")
        if changed:
            named = next((name for name in changed if name != "'_declared'"), changed[0])  # else ours, beside a buffer
            raise Unsupported(f"its step sets {named}, which is no part of its state")
        if reason is not None:
            raise reason

    @contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Inside the block everything but the values of tensors is what it was."""
        changed = [place for place in self.places if not place.same()]
        now = [place.now() for place in changed]
        for place in changed:
            place.put(place.was)
        try:
            yield
        finally:
            for place, held in zip(changed, now, strict=True):
                place.put(held)


def _put_back(large: list[tuple[np.ndarray, np.ndarray]], tensors: Any) -> Iterator[str]:
    """Undo the changes of large arrays and of tensors; their names."""
    for a, was in large:
        if a.tobytes() != was.tobytes():
            a[...] = was
            yield "an element of an array"
    for t, values, node in tensors:
        if t.array is not values or t.node is not node:
            t.array, t.node = values, node
            yield "the values of a tensor"
