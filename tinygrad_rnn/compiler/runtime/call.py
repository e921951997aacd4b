"""A call of a compiled step: the one node that it is in the graph, forward, backward, and what viz sees in it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array
from tinygrad_rnn.autograd.gradients import partials
from tinygrad_rnn.autograd.graph import Constant, Node, context
from tinygrad_rnn.autograd.primitive import operation
from tinygrad_rnn.autograd.random import replayed
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.runtime.compiled_step import CompiledStep


class Call:
    """One call of a layer: what went in, and the program whose buffers hold what its backward needs.

    eager     the same step by step: a function of the tensors that went in, and of the steps to run (None: all). It
              must not refer to the call
    watcher   a function that is shown the gradients of what is watched, or None
    repeated  the nodes of the outputs and the new states of a repetition that is a part of the graph, or none
    reverse   from the last step to the first? What goes in and comes out is in the order of the steps, what is between
              in the order in which they run
    """

    eager: Callable[[Sequence[Tensor], Sequence[int] | None], list[Tensor]]
    watcher: Callable[[list[Any]], None] | None = None

    def __init__(self, layer: CompiledStep, T: int, alive: np.ndarray | None, every: int | None, reverse: bool = False):
        self.layer, self.T, self.every, self.reverse = layer, T, every, reverse
        self.xp = layer.xp
        self.alive = alive if alive is None else self._turned(self.xp.asarray(alive))
        self.draws = layer.draw(T)
        self.program: Any = None
        self.arrays: list[Array] = []
        self.starts: list[list[Array]] = []
        self.scope = context.scope
        self.repeated: list[Node] = []

    def forward(self, arrays: Sequence[Array], keep: bool) -> tuple[Array, ...]:
        """xs, the states and the captured tensors -> the outputs, the new states."""
        self.arrays = list(arrays)
        n = len(self.layer.circuit.states)
        self.x, self.state, self.captured = self._turned(arrays[0]), arrays[1 : 1 + n], arrays[1 + n :]
        if self.every:
            ys, new = self._forward_in_parts()
        else:
            self.program = self.layer.acquire(self.T, self)
            ys, new = self.program.forward(self._inputs(0, self.T), self.state)
            if not keep:
                self.release()
        return (*map(self._turned, ys), *new)

    def _turned(self, a: Array) -> Array:
        """From the order of the steps to that in which they run, or back."""
        return a[::-1] if self.reverse else a

    def _inputs(self, start: int, end: int) -> list[Array]:
        alive = [] if self.alive is None else [self.alive[start:end]]
        return [
            self.xp.ascontiguousarray(self.x[start:end]),
            *self.captured,
            *(d[start:end] for d in self.draws),
            *alive,
        ]

    def backward(self, gs: Sequence[Array]) -> dict[str, list[Any]]:
        """The gradients of xs, the states and the captured tensors, from those of the outputs and the new states."""
        n = len(self.layer.circuit.roots["y"])
        dys, dstate = [self.xp.ascontiguousarray(self._turned(g)) for g in gs[:n]], gs[n:]
        if self.every:
            found = self._backward_in_parts(dys, dstate)
        else:
            if self.program is None:  # a second backward: the buffers were given back after the first
                self.forward(self.arrays, keep=True)
            found = self.program.backward(dys, dstate)
            self.release()
        if self.reverse and found["dx"][0] is not None:
            found["dx"] = [self._turned(found["dx"][0])]
        return found

    def release(self) -> None:
        """Give the buffers back."""
        self.program = None
        self.layer.release(self)

    # ---- with a state kept at every k-th step only ----------------------------------------------------------------

    def _parts(self) -> list[tuple[int, int]]:
        assert self.every is not None
        return [(a, min(a + self.every, self.T)) for a in range(0, self.T, self.every)]

    def _forward_in_parts(self) -> tuple[list[Array], list[Array]]:
        parts, state, self.starts = [], list(self.state), []
        for start, end in self._parts():
            self.starts.append(state)
            ys, state = self._part(start, end, state)
            parts.append(ys)
            self.release()
        return list(map(self.xp.concatenate, zip(*parts, strict=True))), state

    def _part(self, start: int, end: int, state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        self.program = self.layer.acquire(end - start, self)
        return self.program.forward(self._inputs(start, end), state)

    def _backward_in_parts(self, dys: Sequence[Array], dstate: Sequence[Array]) -> dict[str, list[Any]]:
        moving: list[list[Any]] = []  # gradients of all steps, part by part, the last first
        total: list[Any] = []
        for (start, end), state in zip(reversed(self._parts()), reversed(self.starts), strict=True):
            self._part(start, end, state)
            found = self.program.backward([dy[start:end] for dy in dys], dstate)
            self.release()
            dstate = [self.xp.zeros_like(s) if g is None else g for g, s in zip(found["dstate"], state, strict=True)]
            moving.append([*found["dx"], *found["dwatched"]])
            here = found["dcaptured"]
            pairs = zip(total or [None] * len(here), here, strict=True)
            total = [a if b is None else b if a is None else a + b for a, b in pairs]
        dx, *watched = [None if g[0] is None else self.xp.concatenate(g) for g in zip(*moving[::-1], strict=True)]
        return {"dx": [dx], "dwatched": watched, "dstate": list(dstate), "dcaptured": total}

    def repeat(self, tensors: Sequence[Tensor], steps: Sequence[int] | None = None) -> list[Tensor]:
        """The call step by step, recorded in the same scope, with the same random numbers; only some steps, if so."""
        outer, context.scope = context.scope, self.scope
        try:
            with replayed([d[t] for t in steps or range(self.T) for d in self.draws]):
                return self.eager(tensors, steps)
        finally:
            context.scope = outer


def _recurrent(*xs: Array, call: Call, keep: bool) -> tuple[Array, ...]:
    """A compiled layer over all steps: xs, states, captured tensors -> outputs, new states."""
    return call.forward(xs, keep)


recurrent = operation(_recurrent)


@recurrent.vjp
def _recurrent_rule(gs: tuple, xs: tuple, call: Call, tracked: tuple[bool, ...]) -> Sequence[Any]:
    if isinstance(gs[0], Tensor):
        gradients, again = partials(call.repeat, xs, gs, tracked)
        call.repeated = _nodes(again)
        return gradients
    found = call.backward(gs)
    if call.watcher is not None and any(g is not None for g in found["dwatched"]):
        call.watcher(found["dwatched"])
    given = [*found["dx"], *found["dstate"], *found["dcaptured"]]
    return [call.xp.zeros_like(x) if g is None and t else g for g, x, t in zip(given, xs, tracked, strict=True)]


def _nodes(tensors: Sequence[Tensor]) -> list[Node]:
    return [t.node or Constant(t.shape, t.dtype) for t in tensors]


def _expanded(node: Node, needed: Callable[[range], Collection[int]] | None) -> list[Node]:
    """The nodes of the outputs and the new states when the call is run step by step."""
    call = node.static["call"]
    steps = None if needed is None else sorted(needed(range(call.T)))
    tensors = [Tensor(*each) for each in zip(call.arrays, node.inputs, strict=True)]
    return call.repeated or _nodes(call.repeat(tensors, steps))


recurrent.op.unroll = _expanded
