"""A compiled layer: a recorded step, its programs, and the one node that a call of it is in the graph."""

from __future__ import annotations

import weakref

from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import random
from tinygrad_rnn.autograd.graph import Constant, Node
from tinygrad_rnn.autograd.graph import state as mode
from tinygrad_rnn.autograd.primitive import make
from tinygrad_rnn.autograd.random import replayed
from tinygrad_rnn.autograd.tensor import Tensor, grad
from tinygrad_rnn.compiler.ir.circuit import Circuit, Unsupported, Value, stand_in
from tinygrad_rnn.compiler.record.trace import record
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.programs import Programs
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming, beside, signature

Step = Callable[..., tuple[list[Any], list[Any]]]  # step(x, states[, alive]) -> (outputs, new states), y first
KNOWN = 16  # steps whose programs are looked at when another batch comes


class Layer:
    """A step recorded for one set of shapes, and the programs that run it.

    circuit   the step as it was recorded
    captured  the tensors and arrays that it reads besides its inputs, in the circuit's order
    states    the tensors of its state, in the shapes and dtypes that it keeps
    constant  the states that no step changes: they are captured
    programs  those of a step that differs by the size of its batch at most, or its own
    """

    def __init__(
        self, step: Step, x: Tensor, states: Sequence[Tensor], engines: Sequence[Any], arenas: Arenas,
        known: list[Programs], **options: Any,
    ):  # fmt: skip
        """known: programs of other recordings of the same cell, to which its own are added"""
        self.batch = len(x)
        try:
            self.circuit, self.captured, kept, self.constant = found = _settled(step, x, states, options)
            self.states = [Tensor(stand_in(s.shape, s.dtype)) for s in kept]
            fitting = [p for p in known if p.fits(self.circuit, engines, self.batch)]
            self.programs = fitting[0] if fitting else _planned(step, x, found, engines, arenas, options)
        except RecursionError:
            raise Unsupported("its step is too long") from None
        self.circuit.known = {}
        known[:] = [self.programs, *(p for p in known[: KNOWN - 1] if p is not self.programs)]

    @property
    def engine(self) -> Any:
        """What runs it."""
        return self.programs.engine

    @property
    def slower(self) -> str:
        """Why no faster engine does, or nothing."""
        return self.programs.slower

    def acquire(self, T: int, call: Any) -> Any:
        """A program for T steps whose buffers nobody uses.

        call: what has it until it is released, or until that is thrown away
        """
        return self.programs.acquire(T, self.batch, call)

    def release(self, call: Any) -> None:
        """Give back the program that a call has."""
        self.programs.arenas.take_back(weakref.ref(call))

    def draw(self, T: int) -> list[np.ndarray]:
        """The random numbers of T steps, in the order in which the eager engine draws them."""
        drawn: dict[Value, np.ndarray] = {}
        by_generator: dict[int, list[Value]] = {}
        for v in self.circuit.draws:
            by_generator.setdefault(id(v.static["rng"]), []).append(v)
        for values in by_generator.values():
            sizes = [int(np.prod(v.shape)) for v in values]
            numbers = (values[0].static["rng"] or random.default_generator()).random((T, sum(sizes)), np.float32)
            for v, end, n in zip(values, accumulate(sizes), sizes, strict=True):
                drawn[v] = np.ascontiguousarray(numbers[:, end - n : end]).reshape(T, *v.shape).astype(v.dtype)
        return [drawn[v] for v in self.circuit.draws]


def settled(step: Step, x: Tensor, states: Sequence[Tensor], **options: Any) -> tuple:
    """The circuit of a step whose states keep their shapes, what it captures, these states, and which no step changes.

    A state that starts as a broadcast or in another dtype becomes what the step makes of it. The step is recorded once
    more in the end: Unsupported if that makes another circuit.
    """
    found = _settled(step, x, states, options)
    _check_same(found, _recorded(step, x, found[2], found[3], options))
    return found


def _settled(step: Step, x: Tensor, states: Sequence[Tensor], options: dict[str, Any]) -> tuple:
    """The same, recorded no more often than its state needs."""
    states, constant = list(states), frozenset[int]()
    names = options["names"] = dict(options.get("names") or {})
    for _ in range(5):
        c, captured = _recorded(step, x, states, constant, options)
        moving = [i for i in range(len(states)) if i not in constant]
        pairs = list(zip(moving, c.states, c.roots["state"], strict=True))
        fixed = {i for i, s, v in pairs if v is s}
        other = [(i, v) for i, s, v in pairs if (v.shape, v.dtype) != (s.shape, s.dtype)]
        for i, v in other:
            if v.dtype.kind != states[i].dtype.kind:  # for booleans + is "or": the first step is another one
                name, kinds = c.states[moving.index(i)].name, f"{states[i].dtype} and becomes {v.dtype}"
                raise Unsupported(f"its state must keep its dtype: {name} starts as {kinds}")
            states[i] = Tensor(np.broadcast_to(np.zeros((), v.dtype), v.shape))
            names[id(states[i])] = c.states[moving.index(i)].name
        constant |= fixed
        if not fixed and not other:
            return c, captured, states, constant
    raise Unsupported("its state must keep its shapes from step to step")


def _recorded(
    step: Step, x: Tensor, states: Sequence[Tensor], constant: frozenset[int], options: dict[str, Any]
) -> tuple[Circuit, list[Any]]:
    """The circuit of a step some of whose states no step changes, and what it captures."""

    def fewer(x: Any, given: list[Any], *alive: Any) -> tuple[list, list]:
        rest = iter(given)
        ys, new = step(x, [s if i in constant else next(rest) for i, s in enumerate(states)], *alive)
        if len(new) != len(states):
            raise Unsupported(f"its state must keep its {len(states)} tensors, the new one has {len(new)}")
        return ys, [n for i, n in enumerate(new) if i not in constant]

    return record(fewer, x, [s for i, s in enumerate(states) if i not in constant], **options)


def _planned(
    step: Step, x: Tensor, found: tuple, engines: Sequence[Any], arenas: Arenas, options: dict[str, Any]
) -> Programs:
    """The programs of a recording: for batches of any size if a second one, for another size, is the same."""
    circuit, captured, states, constant = found
    batch = beside(circuit)
    if batch and (again := _recorded_for(batch, step, x, states, constant, options)):
        same = signature(again[0], Renaming(batch, len(x)).size) == signature(circuit)
        if same and all(map(_is_same, captured, again[1])):
            programs = Programs(again[0], batch, engines, arenas)
            if programs.sound:
                return programs
    _check_same(found, _recorded(step, x, states, constant, options))
    return Programs(circuit, 0, engines, arenas)


def _recorded_for(batch: int, step: Step, x: Tensor, states: Sequence[Tensor], constant: Any, options: Any) -> Any:
    """What is recorded for a batch of another size; None if the step cannot be."""
    wide = lambda t: Tensor(stand_in((batch, *t.shape[1:]), t.dtype), t.node) if t.shape[:1] == x.shape[:1] else t
    others = [wide(s) for s in states]
    names = options["names"]
    names = names | {id(new): names[id(old)] for old, new in zip(states, others, strict=True) if id(old) in names}
    try:
        c, captured = _recorded(step, wide(x), others, constant, {**options, "names": names})
    except Exception:  # whatever a step says that has a size of its own
        return None
    were = {id(new): old for old, new in zip(states, others, strict=True)}
    return c, [were.get(id(t), t) for t in captured]


def _is_same(a: Any, b: Any) -> bool:
    """Is it the same tensor or array, or one that holds the same?"""
    p, q = getattr(a, "array", a), getattr(b, "array", b)
    return a is b or (p.shape == q.shape and p.tobytes() == q.tobytes())


def _check_same(found: tuple, again: tuple[Circuit, list[Any]]) -> None:
    """Unsupported unless two recordings are of the same step, on the same tensors or on equal ones."""
    if signature(found[0]) != signature(again[0]) or not all(map(_is_same, found[1], again[1])):
        raise Unsupported(
            "two recordings of its step differ, so that it depends on something besides its inputs, its state, what is "
            "set on it, and ops.uniform"
        )


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

    def __init__(self, layer: Layer, T: int, alive: np.ndarray | None, every: int | None, reverse: bool = False):
        self.layer, self.T, self.every, self.reverse = layer, T, every, reverse
        self.alive = alive if alive is None else self._turned(alive)
        self.draws = layer.draw(T)
        self.program: Any = None
        self.arrays: list[np.ndarray] = []
        self.starts: list[list[np.ndarray]] = []
        self.scope = mode.scope
        self.repeated: list[Node] = []

    def forward(self, arrays: Sequence[np.ndarray], keep: bool) -> tuple[np.ndarray, ...]:
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

    def _turned(self, a: np.ndarray) -> np.ndarray:
        """From the order of the steps to that in which they run, or back."""
        return a[::-1] if self.reverse else a

    def _inputs(self, start: int, end: int) -> list[np.ndarray]:
        alive = [] if self.alive is None else [self.alive[start:end]]
        return [np.ascontiguousarray(self.x[start:end]), *self.captured, *(d[start:end] for d in self.draws), *alive]

    def backward(self, gs: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        """The gradients of xs, the states and the captured tensors, from those of the outputs and the new states."""
        n = len(self.layer.circuit.roots["y"])
        dys, dstate = [np.ascontiguousarray(self._turned(g)) for g in gs[:n]], gs[n:]
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

    def _forward_in_parts(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        parts, state, self.starts = [], list(self.state), []
        for start, end in self._parts():
            self.starts.append(state)
            ys, state = self._part(start, end, state)
            parts.append(ys)
            self.release()
        return list(map(np.concatenate, zip(*parts, strict=True))), state

    def _part(self, start: int, end: int, state: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        self.program = self.layer.acquire(end - start, self)
        return self.program.forward(self._inputs(start, end), state)

    def _backward_in_parts(self, dys: Sequence[np.ndarray], dstate: Sequence[np.ndarray]) -> dict[str, list[Any]]:
        moving: list[list[Any]] = []  # gradients of all steps, part by part, the last first
        total: list[Any] = []
        for (start, end), state in zip(reversed(self._parts()), reversed(self.starts), strict=True):
            self._part(start, end, state)
            found = self.program.backward([dy[start:end] for dy in dys], dstate)
            self.release()
            dstate = [np.zeros_like(s) if g is None else g for g, s in zip(found["dstate"], state, strict=True)]
            moving.append([*found["dx"], *found["dwatched"]])
            here = found["dcaptured"]
            pairs = zip(total or [None] * len(here), here, strict=True)
            total = [a if b is None else b if a is None else a + b for a, b in pairs]
        dx, *watched = [None if g[0] is None else np.concatenate(g) for g in zip(*moving[::-1], strict=True)]
        return {"dx": [dx], "dwatched": watched, "dstate": list(dstate), "dcaptured": total}

    def repeat(self, tensors: Sequence[Tensor], steps: Sequence[int] | None = None) -> list[Tensor]:
        """The call step by step, recorded in the same scope, with the same random numbers; only some steps, if so."""
        outer, mode.scope = mode.scope, self.scope
        try:
            with replayed([d[t] for t in steps or range(self.T) for d in self.draws]):
                return self.eager(tensors, steps)
        finally:
            mode.scope = outer


def _recurrent(*xs: np.ndarray, call: Call, keep: bool) -> tuple[np.ndarray, ...]:
    """A compiled layer over all steps: xs, states, captured tensors -> outputs, new states."""
    return call.forward(xs, keep)


recurrent = make(_recurrent)


@recurrent.vjp
def _recurrent_rule(gs: tuple, xs: tuple, call: Call, tracked: tuple[bool, ...]) -> Sequence[Any]:
    if isinstance(gs[0], Tensor):
        wanted = [x for x, t in zip(xs, tracked, strict=True) if t]
        again = call.repeat(xs)
        call.repeated = _nodes(again)
        ys, gs = zip(*[(y, g) for y, g in zip(again, gs, strict=True) if y.requires_grad], strict=True)
        found = iter(grad(ys, wanted, gs, create_graph=True, allow_unused=True))
        return [next(found) if t else None for t in tracked]
    found = call.backward(gs)
    if call.watcher is not None and any(g is not None for g in found["dwatched"]):
        call.watcher(found["dwatched"])
    given = [*found["dx"], *found["dstate"], *found["dcaptured"]]
    return [np.zeros_like(x) if g is None and t else g for g, x, t in zip(given, xs, tracked, strict=True)]


def _nodes(tensors: Sequence[Tensor]) -> list[Node]:
    return [t.node or Constant(t.shape, t.dtype) for t in tensors]


def _expanded(node: Node, needed: Callable[[range], Collection[int]] | None) -> list[Node]:
    """The nodes of the outputs and the new states when the call is run step by step."""
    call = node.static["call"]
    steps = None if needed is None else sorted(needed(range(call.T)))
    tensors = [Tensor(*each) for each in zip(call.arrays, node.inputs, strict=True)]
    return call.repeated or _nodes(call.repeat(tensors, steps))


recurrent.op.expand = _expanded
