"""A compiled call once more, step by step: for second derivatives and for drawings; and its hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.capture import Inventory
from tinygrad_rnn.nn.recording import Recording, RunOptions
from tinygrad_rnn.nn.state_hooks import Hook, call_hooks, zeros
from tinygrad_rnn.ops import stack


def replay(
    recording: Recording, held: Inventory, options: RunOptions, state: Any, alive: Any, tensors: Sequence[Tensor],
    steps: Sequence[int] | None = None,
) -> list[Tensor]:  # fmt: skip
    """The call once more, step by step, from the same tensors; of all steps, or of some. held: what its cell held"""
    given, constant = nest.leaves(state), recording.compiled.constant
    n = 1 + len(given) - len(constant)
    moving = iter(tensors[1:n])
    leaves = iter([s if i in constant else next(moving) for i, s in enumerate(given)])
    captured = recording.captured(given, held.tensors)
    with held.as_it_was(), with_captured_values(captured, tensors[n:]):
        ys, states = options.eager(tensors[0], nest.map_leaves(lambda _: next(leaves), state), alive, steps)
    every = [stack(each) for each in zip(*map(nest.leaves, states), strict=True)] if options.all_states else []
    last = states[0 if options.reverse else -1]
    return [*nest.leaves(ys), *every, *(s for i, s in enumerate(nest.leaves(last)) if i not in constant)]


def show_gradients(recording: Recording, hooks: tuple[Hook, ...], T: int, grads: list[Any]) -> None:
    """Call the hooks with the gradients of the state after each of T steps. grads: one for each leaf, None for zeros"""
    pairs = zip(grads, recording.compiled.states, strict=True)
    call_hooks(hooks, recording.structure, [zeros(s, T) if g is None else Tensor(g) for g, s in pairs])


@contextmanager
def with_captured_values(tensors: Sequence[Tensor], were: Sequence[Tensor]) -> Iterator[None]:
    """Inside the block tensors have the values that they had, though they have been trained since."""
    now = [(t.array, t.node) for t in tensors]
    _put_values(tensors, [(t.array, t.node) for t in were])
    try:
        yield
    finally:
        _put_values(tensors, now)


def _put_values(tensors: Sequence[Tensor], contents: list[tuple]) -> None:
    for t, (array, node) in zip(tensors, contents, strict=True):
        t.array, t.node = array, node
