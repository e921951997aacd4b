"""The circuit: one time step of a cell, forward and backward, as values that are computed from each other.

Every value is made by `Circuit.make`, and equal values are one value: common subexpressions vanish, and what nobody
asks for is never reached. `delays` close the step onto itself: they say which value of the neighbouring step a state
(or the gradient of one) is.
"""

from __future__ import annotations

import operator

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import is_array, to_numpy
from tinygrad_rnn.compiler.ir.infer import infer
from tinygrad_rnn.compiler.ir.listing import listing
from tinygrad_rnn.compiler.ir.origin import Origin
from tinygrad_rnn.compiler.ir.value import OVER_TIME, PRIMITIVES, Value


@dataclass
class Circuit:
    """A step, its inputs and what is wanted of it.

    x        the input of the step
    states   the leaves of the state before the step
    captured tensors and arrays from outside: parameters first of all
    alive    with lengths: which sequences go on, (B,) of bool
    draws    random numbers, fresh at each step
    seeds    the gradients of the outputs, then of each leaf of the new state
    roots    what is wanted, by name: "y" (the outputs: y first), "state", "dx", "dstate", "dcaptured" (already summed
             over time), "dwatched"; None for a gradient that nobody wants or that is zero
    origin   of what is made now (see Value)
    """

    x: Value
    states: list[Value]
    captured: list[Value] = field(default_factory=list)
    draws: list[Value] = field(default_factory=list)
    alive: Value | None = None
    seeds: list[Value] = field(default_factory=list)
    roots: dict[str, list[Any]] = field(default_factory=dict)
    known: dict[tuple, Value] = field(default_factory=dict, repr=False)
    origin: Origin | None = None

    # ---- reading --------------------------------------------------------------------------------------------------

    @property
    def delays(self) -> Iterator[tuple[Value, Value, bool]]:
        """(leaf, the value of the neighbouring step that it is, is that the later step?)"""
        yield from ((s, v, False) for s, v in zip(self.states, self.roots["state"], strict=True) if v is not None)
        carried = zip(self.carried, self.roots.get("dstate", ()), strict=False)
        yield from ((s, v, True) for s, v in carried if v is not None)

    @property
    def given(self) -> list[Value]:
        """The gradients of the outputs."""
        return self.seeds[: len(self.roots["y"])]

    @property
    def carried(self) -> list[Value]:
        """The gradients of the new state."""
        return self.seeds[len(self.roots["y"]) :]

    @property
    def wanted(self) -> list[Value]:
        """All roots."""
        return [v for vs in self.roots.values() for v in vs if v is not None]

    def order(self, roots: Iterable[Value] | None = None) -> list[Value]:
        """The values that the roots are computed from, themselves included, oldest first."""
        return _ancestors(self.wanted if roots is None else roots, ())

    def users(self) -> dict[Value, list[Value | None]]:
        """Who reads each value; None stands for the caller."""
        users: dict[Value, list[Value | None]] = {v: [] for v in self.order()}
        for v in users:
            for a in v.values if len(v.values) < 2 else dict.fromkeys(v.values):
                users[a].append(v)
        for v in self.wanted:
            users[v].append(None)
        return users

    def __str__(self) -> str:
        return "\n".join(listing(self))

    def equations(self, form: str = "unicode") -> str:
        """The forward step as textbooks write it, a line for each variable that the cell's code names.

        form: "unicode", or "latex" for an `aligned` environment
        A gate whose weights are columns of one matrix has these as W_f; x @ W is written as W x; what has no name is
        written out where it is read.

        >>> import tinygrad_rnn as tg
        >>> print(tg.circuit(tg.nn.RNNCell(2, 3), tg.zeros(1, 2)).equations())
        hₜ = tanh(U xₜ + W hₜ₋₁ + b)
        """
        if form not in ("unicode", "latex"):
            raise ValueError(f'equations: form must be "unicode" or "latex", got {form!r}')
        from tinygrad_rnn.compiler.ir.equations import equations  # noqa: PLC0415 (it reads circuits)

        return equations(self, form == "latex")

    # ---- making ---------------------------------------------------------------------------------------------------

    def input(self, name: str, shape: tuple, dtype: Any, *, moves: bool, tracked: bool = True, **static: Any) -> Value:
        """A value from outside; no two are the same."""
        return Value("input", (), {"name": name, **static}, shape, np.dtype(dtype), moves, None, tracked)

    def make(self, op: str, *args: Any, tracked: bool = False, primitive: Any = None, **static: Any) -> Value:
        """The value of an operation on values and numbers."""
        primitive = primitive or PRIMITIVES.get(op)
        key = (op, id(primitive), tracked, *map(_key, args), _key(static) if static else ())
        found = self.known.get(key)
        if found is None:
            shape, dtype = infer(op, primitive, args, static)
            moves = op not in OVER_TIME and any(a.moves for a in args if isinstance(a, Value))
            found = self.known[key] = Value(op, args, static, shape, dtype, moves, primitive, tracked)
            found.origin, found.key = self.origin, key
        return found

    def remake(self, v: Value, args: tuple) -> Value:
        """The operation of v on other arguments; v itself where they are its own."""
        if v.key is not None and not v.tracked and all(map(operator.is_, args, v.args)):
            return self.known.setdefault(v.key, v)
        return self.make(v.op, *args, primitive=v.primitive, **v.static)

    def zeros(self, shape: tuple, dtype: Any) -> Value:
        """Zeros that nobody need compute."""
        return self.make("zeros", shape=tuple(shape), dtype=np.dtype(dtype))

    def rebuild(self, visit: Callable[[Value, Callable], Value]) -> None:
        """Make every value anew, oldest first; visit(value, new) says what becomes of it; new(v) what became of v."""
        made: dict[Value, Value] = {}

        def new(v: Any) -> Any:
            if not isinstance(v, Value):
                return v
            if v not in made:
                make_all(_ancestors([v], made))
            return made[v]

        def make_all(values: list[Value]) -> None:
            for v in values:
                if v not in made:
                    self.origin = v.origin
                    made[v] = v if v.op == "input" else visit(v, new)

        make_all(self.order())
        self.roots = {name: [v and made[v] for v in vs] for name, vs in self.roots.items()}


def place_of(v: Value | None) -> str:
    """The line of a user's code that a value comes from, or the last of those that it is computed from: "Cell.forward,
    line 12", or nothing."""
    found = reversed(_ancestors([] if v is None else [v], ()))  # the nearest first
    origin = next((u.origin for u in found if u.origin is not None), None)
    return f"{origin.function}, line {origin.line}" if origin is not None else ""


def _ancestors(roots: Iterable[Value], known: Collection[Value]) -> list[Value]:
    """What the roots are computed from, themselves included, but for what is known; oldest first."""
    stack = [v for v in roots if v not in known]
    seen = set(stack)
    while stack:
        for v in stack.pop().values:
            if v not in seen and v not in known:
                seen.add(v)
                stack.append(v)
    return sorted(seen, key=operator.attrgetter("index"))


def _key(x: Any) -> Any:
    """Something that equal arguments share."""
    if type(x) is Value:
        return x
    if is_array(x):
        return ("array", x.shape, x.dtype, to_numpy(x).tobytes())
    if isinstance(x, (tuple, list)):
        return tuple(map(_key, x))
    if isinstance(x, dict):
        return tuple([(k, _key(v)) for k, v in x.items()])
    return (type(x), repr(x))  # of floats, 0.0 is not -0.0
