"""A compiled layer: a recorded step, its programs, and the one node that a call of it is in the graph."""

from __future__ import annotations

import dataclasses
import weakref

from collections.abc import Callable, Collection, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_rnn import random
from tinygrad_rnn.compiler.algebra import simplify
from tinygrad_rnn.compiler.circuit import Circuit, Unsupported, Value, place_of, stand_in
from tinygrad_rnn.compiler.distribute import reassociate
from tinygrad_rnn.compiler.normal import normalise
from tinygrad_rnn.compiler.schedule import NotFusable
from tinygrad_rnn.compiler.spare import Arenas
from tinygrad_rnn.compiler.trace import record
from tinygrad_rnn.graph import Constant, Node
from tinygrad_rnn.graph import state as mode
from tinygrad_rnn.primitive import make
from tinygrad_rnn.random import replayed
from tinygrad_rnn.tensor import Tensor, grad

Step = Callable[..., tuple[list[Any], list[Any]]]  # step(x, states[, alive]) -> (outputs, new states), y first


class NoEngine(Unsupported):
    """Why the only engine that may cannot run a step, which others can."""


class Layer:
    """A step recorded for one set of shapes, as programs for any number of steps.

    circuit   the step as it was recorded
    captured  the tensors and arrays that it reads besides its inputs, in the circuit's order
    states    the tensors of its state, in the shapes and dtypes that it keeps
    constant  the states that no step changes: they are captured
    engine    what runs it: the first of the engines that can
    slower    why the first one cannot, or nothing
    arenas    where its programs have their buffers
    """

    def __init__(
        self, step: Step, x: Tensor, states: Sequence[Tensor], engines: Sequence[Any], arenas: Arenas, **options: Any
    ):
        try:
            self.circuit, self.captured, kept, self.constant = settled(step, x, states, **options)
            self.states = [Tensor(stand_in(s.shape, s.dtype)) for s in kept]
            self.simple = _copied(self.circuit)
            normalise(self.simple)
            simplify(self.simple)
            reassociate(self.simple)
            self.engines, self.slower, self.arenas = list(engines), "", arenas
            self.programs: list[Any] = []  # that nobody uses, the one used last comes last
            self.capacities: list[int] = []  # numbers of steps that programs were made for, each twice the one before
            self._choose()
        except RecursionError:
            raise Unsupported("its step is too long") from None
        self.circuit.known = {}

    def _choose(self) -> None:
        """The next engine that can run the step."""
        while True:
            self.engine = self.engines.pop(0)
            self.prepared = _copied(self.simple)
            try:
                self.engine.prepare(self.prepared)
                break
            except NotFusable as reason:
                self._refused(reason)
        self.prepared.known = {}

    def _refused(self, reason: NotFusable) -> None:
        """The engine cannot run the step; NoEngine if there is no other."""
        place = place_of(reason.value)
        self.slower = f"{place}: {reason}" if place else str(reason)
        if not self.engines:
            raise NoEngine(self.slower)

    def acquire(self, T: int, call: Any) -> Any:
        """A program for T steps whose buffers nobody uses: one that was made for as many steps or for more.

        call: what has it until it is released, or until that is thrown away
        """
        with self.arenas.lock:
            self.arenas.collect()
            free = [p for p in self.programs if p.capacity >= T and not p.arena.busy]
            program = min(free, key=attrgetter("capacity")) if free else self._made(self._capacity(T))
            if free:
                self.programs.remove(program)
            program.arena.busy = True
            self.arenas.lend(call, program, self.programs)
        if program.T != T:
            program.aim(T)
        return program

    def _capacity(self, T: int) -> int:
        """For how many steps to make a program: the first length as it is, later ones with room for longer ones."""
        known = [n for n in self.capacities if n >= T]
        if not known:
            known = [max([T, *(2 * n for n in self.capacities)])]
            self.capacities += known
        return known[0]

    def _made(self, capacity: int) -> Any:
        while True:
            try:
                return self.engine.Program(_copied(self.prepared), capacity, self.arenas.free())
            except NotFusable as reason:
                self._refused(reason)
                self._choose()

    def release(self, call: Any) -> None:
        """Give back the program that a call has."""
        self.arenas.take_back(weakref.ref(call))

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
    states, constant, last = list(states), frozenset[int](), None
    names = options["names"] = dict(options.get("names") or {})
    for _ in range(6):

        def fewer(x: Any, given: list[Any], *alive: Any, constant: frozenset[int] = constant) -> tuple[list, list]:
            rest = iter(given)
            ys, new = step(x, [s if i in constant else next(rest) for i, s in enumerate(states)], *alive)
            if len(new) != len(states):
                raise Unsupported(f"its state must keep its {len(states)} tensors, the new one has {len(new)}")
            return ys, [n for i, n in enumerate(new) if i not in constant]

        moving = [i for i in range(len(states)) if i not in constant]
        c, captured = record(fewer, x, [states[i] for i in moving], **options)
        if last is not None:
            _compare(*last, c, captured)
            return (*last, states, constant)
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
            last = c, captured
    raise Unsupported("its state must keep its shapes from step to step")


def _compare(c: Circuit, captured: list[Any], again: Circuit, captured_again: list[Any]) -> None:
    """Unsupported unless two recordings are of the same step, on the same tensors or on equal ones."""
    same = _signature(c) == _signature(again)
    for a, b in zip(captured, captured_again, strict=False):
        p, q = getattr(a, "array", a), getattr(b, "array", b)
        same = same and (a is b or (p.shape == q.shape and p.tobytes() == q.tobytes()))
    if not same:
        raise Unsupported(
            "two recordings of its step differ, so that it depends on something besides its inputs, its state, what is "
            "set on it, and ops.uniform"
        )


def _copied(c: Circuit) -> Circuit:
    return dataclasses.replace(c, roots={name: list(vs) for name, vs in c.roots.items()}, known=dict(c.known))


def _signature(c: Circuit) -> list[Any]:
    """What two recordings of the same step share."""
    order = c.order()
    number = {v: i for i, v in enumerate(order)}

    def plain(a: Any) -> Any:
        if isinstance(a, Value):
            return number[a]
        if isinstance(a, np.ndarray):
            return (a.shape, a.tobytes())
        if isinstance(a, (tuple, list)):
            return tuple(map(plain, a))
        return repr(a)

    lines = [(v.op, plain(v.args), [(k, plain(x)) for k, x in v.static.items()], v.shape) for v in order]
    return [lines, {name: [v and number[v] for v in vs] for name, vs in c.roots.items()}]


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
