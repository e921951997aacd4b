"""Inventory: what a cell's step may read, to tell whether it is still the same, and to keep it so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.nn.capture.generators import States
from tinygrad_rnn.nn.capture.walk import Walk
from tinygrad_rnn.nn.module import Module

DRAWS = {"init", "default_generator", "manual_seed"}  # attributes that lead to this library's generator


class Inventory:
    """What a cell and its code can reach, and what can be asked of that.

    key     changes when any of that changes, other than the values of tensors
    others  what the key knows by identity: it must live as long as the key
    values, objects, places, named, generators, unseen: see Walk
    """

    def __init__(self, module: Module) -> None:
        walk = Walk(module)
        self.module, self.recording = module, walk.recording
        self.key, self.others = tuple(walk.parts), walk.others
        self.values, self.objects, self.places = walk.values, walk.objects, walk.places
        self.named, self.generators, self.unseen = walk.named, walk.generators, walk.unseen

    @property
    def tensors(self) -> list[Tensor]:
        """Those that a step may read, each once."""
        return self.values.tensors

    def check(self) -> None:
        """Unsupported if code names something that cannot be looked into."""
        bare = self.named.bare
        if "" in bare or not bare.isdisjoint(self.values.holders):
            raise Unsupported("its step reads the array of a tensor, which has other values at each call")
        for name, why in self.unseen:
            if name in self.named or not name:  # the cell itself has none
                raise Unsupported(f"its step {why}")

    def named_arrays(self) -> list[np.ndarray]:
        """The large arrays that the cell's code names, whose items it may read."""
        return [a for name, a in self.values.large if name in self.named]

    def unchanged(self, module: Module) -> bool:
        """Would an inventory of a module have the same key? True only if that is sure; quicker than to ask it."""
        if self.module is not module or self.recording != context.recording:
            return False
        for place in self.places:
            if not place.same():
                return False
        return self.objects.same() and self.values.same(self.recording)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Put back what the block sets. Unsupported if it sets anything, or draws: a recorded step would do it once."""
        states = States(self.generators, common=self.named.draws or not DRAWS.isdisjoint(self.named.attributes))
        changed, reason = [], None
        copies = [a.copy() for _, a in self.values.large]
        try:
            yield
        except Unsupported as error:
            reason = error
        finally:
            drew = states.put_back()
            for place in self.places:
                changed += place.put_back()
            changed += self.values.put_back(copies)
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
