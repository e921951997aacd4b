"""Hooks on the gradient of a state: ∂L/∂sₜ for every step t, shown once in each backward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.record.trace import Symbol
from tinygrad_rnn.ops import stack

Hook = Callable[[Any], None]


def copied_if_shared(new: Any, old: Any) -> Any:
    """A new state whose leaves are values of this step that gradients flow to: a leaf of the old one is copied."""
    before = {id(s) for s in nest.leaves(old)}

    def owned(s: Any) -> Any:
        if not _is_float(s):
            return s
        if s.requires_grad and not s.is_leaf and id(s) not in before:
            return s
        return s.trace.own(s) if isinstance(s, Symbol) else _followed(s) + 0

    return nest.map_leaves(owned, new)


def followed(state: Any) -> Any:
    """A first state that gradients flow to, so that they do to what is computed from it."""
    return nest.map_leaves(_followed, state)


def _followed(s: Any) -> Any:
    return s if not _is_float(s) or s.requires_grad else Tensor(s.array).requires_grad_()


def _is_float(s: Any) -> bool:
    """May a gradient flow to a leaf of a state? None does to a number, nor to an array."""
    return isinstance(s, Tensor) and s.dtype.kind == "f"


def call_hooks(hooks: tuple[Hook, ...], structure: Any, grads: list[Tensor]) -> None:
    """Call the hooks with gradients (T, ...), one for each leaf, as a nest built like the state."""
    found = iter(grads)
    gradients = nest.map_leaves(lambda _: next(found), structure)
    for hook in hooks:
        hook(gradients)


def zeros(s: Any, *steps: int) -> Tensor:
    """A gradient of zeros for a leaf of the state to which none came, (*steps, B, ...)."""
    if not isinstance(s, Tensor):
        return Tensor(np.zeros(steps, np.float32))
    dtype = s.dtype if s.dtype.kind == "f" else np.float32
    return Tensor(xp(s.array).zeros((*steps, *s.shape), dtype))


class JoinedHook:
    """One hook for several layers, called once in each backward pass through a call of them.

    It gets a list with what came to each of the n layers, None where nothing did.
    """

    def __init__(self, hook: Hook, n: int):
        self.hook, self.n = hook, n
        self.found: dict[int, Any] = {}

    def part(self, i: int) -> Hook:
        """What to register with layer i."""
        return partial(self._take, i)

    def _take(self, i: int, gradients: Any) -> None:
        if i in self.found:  # those of another call of the layers
            self._call()
        if not self.found:
            context.after_sweep.append(self._call)
        self.found[i] = gradients

    def _call(self) -> None:
        found, self.found = self.found, {}
        if found:
            self.hook([found.get(i) for i in range(self.n)])


class StateGradients:
    """The gradients of the states of a sequence that runs step by step, gathered in each backward pass."""

    def __init__(self, hooks: tuple[Hook, ...]):
        self.hooks = hooks
        self.states: list[Any] = []
        self.found: dict[tuple[int, int], Tensor] = {}

    def add(self, state: Any) -> None:
        """Gather the gradient of the state after the next step too."""
        for i, s in enumerate(nest.leaves(state)):
            if isinstance(s, Tensor) and s.requires_grad:
                s.register_hook(partial(self._take, i, len(self.states)))
        self.states.append(state)

    def _take(self, i: int, t: int, g: Tensor) -> None:
        if not self.found:
            context.after_sweep.append(self._show)
        self.found[i, t] = g

    def _show(self) -> None:
        found, self.found = self.found, {}
        per_leaf = enumerate(zip(*map(nest.leaves, self.states), strict=True))
        of = lambda i, t, s: found[i, t] if (i, t) in found else zeros(s)
        gradients = [stack([of(i, t, s) for t, s in enumerate(leaf)]) for i, leaf in per_leaf]
        call_hooks(self.hooks, self.states[-1], gradients)
