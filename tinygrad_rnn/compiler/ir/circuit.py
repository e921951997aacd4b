"""The circuit: one time step of a cell, forward and backward, as values that are computed from each other.

Every value is made by `Circuit.make`, and equal values are one value: common subexpressions vanish, and what nobody
asks for is never reached. `delays` close the step onto itself: they say which value of the neighbouring step a state
(or the gradient of one) is.
"""

from __future__ import annotations

import importlib
import itertools
import math
import operator

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.graph import Scope, state
from tinygrad_rnn.autograd.primitive import Primitive

PRIMITIVES: dict[str, Primitive] = {
    function.op.name: function.op
    for module in ("shape", "elementwise", "matmul", "reduce", "index")
    for function in vars(importlib.import_module(f"tinygrad_rnn.ops.{module}")).values()
    if isinstance(getattr(function, "op", None), Primitive)
}
# Elementwise without a formula in Python's and C's common words.
POINTWISE = {name for name, p in PRIMITIVES.items() if p.formula} | {"pow", "where", "erf", "clip", "cast", "detach"}
# What the compiler itself says of values: `part` and `pack` of columns, what is 0, Σ over all steps; `splat`: all
# columns again and again, `spread`: each column so many times, `sums`, `dots`: Σ over each of so many parts of them.
INNER = {"part", "pack", "zeros", "tsum", "splat", "spread", "sums", "dots", "pick", "copy"}

OVER_TIME = {"tsum", "put_all"}  # what all steps are read for, once

_serial = itertools.count()


class Unsupported(Exception):
    """Why a step cannot be compiled; the eager engine runs it."""


@dataclass(eq=False, slots=True)
class Value:
    """One array of a step.

    op        the name of the operation; "input" for what comes from outside, an INNER one, or "user.…"
    args      values and Python's numbers; `values` are those of them that are values
    static    the keyword arguments
    shape     of one step, without time; it and dtype are tuples of such where the operation has several outputs
    moves     does it differ from step to step?
    primitive the operation itself, None for inputs and inner operations
    tracked   while recording: does a gradient flow to it?
    index     the order of creation, which is a topological order
    scope     the modules that it was recorded in
    origin    the code that it was recorded in: a function and a line, or None
    key       what equal operations on equal arguments share (see Circuit.make), or None
    """

    op: str
    args: tuple[Any, ...]
    static: dict[str, Any]
    shape: Any
    dtype: Any
    moves: bool
    primitive: Primitive | None = None
    tracked: bool = False
    index: int = field(default_factory=lambda: next(_serial))
    scope: Scope = field(default_factory=lambda: state.scope)
    origin: tuple[Any, int] | None = None
    values: list[Value] = field(init=False)
    key: tuple | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.values = [a for a in self.args if isinstance(a, Value)]

    @property
    def several(self) -> bool:
        """Is it the outputs of an operation with several? Each has a value of its own, a `pick` of this one."""
        return isinstance(self.dtype, tuple)

    @property
    def pointwise(self) -> bool:
        """Is each of its elements computed from the elements of the arguments at the same place?"""
        return self.op in POINTWISE

    @property
    def name(self) -> str:
        """What a listing calls it."""
        return self.static["name"] if self.op == "input" else f"v{self.index}"

    def __repr__(self) -> str:
        return f"{self.name}: {self.op}{self.shape}"


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
    origin: tuple[Any, int] | None = None

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
        return "\n".join(_listing(self))

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
    code, line = next((u.origin for u in found if u.origin is not None), (None, 0))
    return f"{code.co_qualname.rpartition('<locals>.')[2]}, line {line}" if code is not None else ""


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
    if isinstance(x, (np.ndarray, np.generic)):
        return ("array", x.shape, x.dtype, x.tobytes())
    if isinstance(x, (tuple, list)):
        return tuple(map(_key, x))
    if isinstance(x, dict):
        return tuple([(k, _key(v)) for k, v in x.items()])
    return (type(x), repr(x))  # of floats, 0.0 is not -0.0


# ---- shapes ---------------------------------------------------------------------------------------------------------


def stand_in(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of this shape that takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def infer(op: str, primitive: Primitive | None, args: tuple, static: dict) -> tuple[Any, Any]:
    """Shape and dtype of a value. An operation that is not known here is tried on zeros."""
    values = [a for a in args if isinstance(a, Value)]
    if op == "zeros":
        return static["shape"], static["dtype"]
    if op == "pick":
        return values[0].shape[static["index"]], values[0].dtype[static["index"]]
    if op in INNER:
        return _infer_inner(op, values, static), values[0].dtype
    shape = _shape(op, args, static)
    if shape is None:
        return _computed(primitive, args, static)
    return shape, _dtype(primitive, args, static)


def _shape(op: str, args: tuple, static: dict) -> tuple[int, ...] | None:
    """The shape of the most usual operations; None: run it, which also explains better what does not fit."""
    shapes: list[tuple[int, ...]] = [a.shape if isinstance(a, Value) else () for a in args]
    if op in POINTWISE:
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            return None
    if op == "matmul":
        a, b = shapes
        fits = len(a) == len(b) and len(a) >= 2 and a[:-2] == b[:-2] and a[-1] == b[-2]
        return (*a[:-1], b[-1]) if fits else None
    if op in ("sum", "max", "min") and 0 not in shapes[0]:
        kept = tuple(1 if i in static["axis"] else n for i, n in enumerate(shapes[0]))
        return kept if static["keepdims"] else tuple(n for i, n in enumerate(kept) if i not in static["axis"])
    if op == "permute":
        return tuple(shapes[0][k] for k in static["axes"])
    if op == "reshape" and math.prod(shapes[0]) == math.prod(static["shape"]):
        return static["shape"] if min(static["shape"], default=0) >= 0 else None
    return None


_dtypes: dict[tuple, Any] = {}  # found by trying; there are few operations, and few dtypes


def _dtype(primitive: Primitive | None, args: tuple, static: dict) -> Any:
    """The dtype of the result, from that of a single element."""
    kinds = [a.dtype if isinstance(a, Value) else type(a) for a in args]
    key = (primitive, *kinds, static.get("dtype"), *map(type, static.values()))
    found = _dtypes.get(key)
    if found is None:
        one = [np.zeros((1,) * len(a.shape), a.dtype) if isinstance(a, Value) else a for a in args]
        if static.keys() & {"axes", "shape"}:  # a view
            return one[0].dtype
        found = _dtypes[key] = _computed(primitive, one, static)[1]
    return found


def _infer_inner(op: str, values: list[Value], static: dict) -> tuple[int, ...]:
    shape = list(values[0].shape)
    if op == "part":
        shape[static["axis"]] = static["hi"] - static["lo"]
    elif op == "pack":
        shape[-1] = sum(v.shape[-1] for v in values)
    elif op in ("splat", "spread"):
        shape[-1] *= static["times"]
    elif op in ("sums", "dots"):
        shape[-1] = static["parts"]
    return tuple(shape)


def _computed(primitive: Primitive | None, args: Iterable[Any], static: dict) -> tuple[Any, Any]:
    """Shape and dtype by running the operation on zeros."""
    assert primitive is not None
    with np.errstate(all="ignore"):
        y = primitive.forward(*[stand_in(a.shape, a.dtype) if isinstance(a, Value) else a for a in args], **static)
    if isinstance(y, tuple):
        return tuple(np.shape(each) for each in y), tuple(each.dtype for each in y)
    y = np.asarray(y)
    return y.shape, y.dtype


# ---- printing -------------------------------------------------------------------------------------------------------

INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**", "matmul": "@", "greater": ">", "greater_equal": ">=",
    "less": "<", "less_equal": "<=", "equal": "==", "not_equal": "!=", "logical_and": "&", "logical_or": "|",
}  # fmt: skip


def _listing(c: Circuit) -> Iterator[str]:
    """The circuit as a program, a line for each value."""
    order = c.order()
    inputs = [v for v in (c.x, *c.states, c.alive, *c.draws, *c.captured, *c.seeds) if v in order]
    names: dict[Value, str] = {}
    for v in inputs:
        names[v] = v.name + "'" * sum(name.partition("'")[0] == v.name for name in names.values())
    names |= {v: f"v{i}" for i, v in enumerate(v for v in order if v.op != "input")}
    forward = set(c.order([v for name in ("y", "state") for v in c.roots[name] if v is not None]))
    usual = Counter(v.dtype for v in order).most_common(1)[0][0]
    of = lambda v: f"{v.shape}{f' {v.dtype}' if v.dtype != usual else ''}"
    for title, inside in (("forward", True), ("backward", False)):
        values = [v for v in order if (v in forward) == inside]
        if values:
            yield f"{title}({', '.join(f'{names[v]} {of(v)}' for v in inputs if v in values)}):"
            yield from (f"    {f'{names[v]} = {_said(v, names)}':<40}  {of(v)}" for v in values if v.op != "input")
            yield from _results(c, names, inside)


def _results(c: Circuit, names: dict[Value, str], forward: bool) -> Iterator[str]:
    """What of one direction goes out, and what goes to the next step."""
    roots: dict[str, Value | None] = {}
    if forward:
        roots["y"] = c.roots["y"][0]
        roots |= {f"next {s.name}": v for s, v in zip(c.states, c.roots["state"], strict=True)}
    else:
        for name, leaves in (("dx", [c.x]), ("dstate", c.states), ("dcaptured", c.captured)):
            before = "previous d" if name == "dstate" else "d"
            pairs = zip(leaves, c.roots.get(name, []), strict=False)
            roots |= {before + names.get(v, v.name): g for v, g in pairs if g is not None}
    for name, v in roots.items():
        yield f"    {name} = {names[v] if v is not None else 0}"


def _said(v: Value, names: dict[Value, str]) -> str:
    """An operation in Python."""
    args = [names[a] if isinstance(a, Value) else repr(a) for a in v.args]
    if v.op in INFIX:
        return f" {INFIX[v.op]} ".join(args)
    if v.op in ("getitem", "gather"):
        key, places = v.static["key"], iter(args[1:])
        keys = key if isinstance(key, tuple) else (key,)
        return f"{args[0]}[{', '.join(next(places) if isinstance(k, str) else _index(k) for k in keys)}]"
    if v.op == "part":
        cut = f"{v.static['lo']}:{v.static['hi']}"
        return f"{args[0]}[..., {cut}{', :' if v.static['axis'] == -2 else ''}]"
    if v.op == "permute" and v.static["axes"] == (1, 0):
        return f"{args[0]}.T"
    given = {k: x for k, x in v.static.items() if v.primitive is None or x != v.primitive.defaults.get(k, ...)}
    more = [f"{k}={x if isinstance(x, (tuple, int, float, str)) else _index(x)}" for k, x in given.items()]
    return f"{v.op}({', '.join([*args, *more])})"


def _index(k: Any) -> str:
    """A part of what stands in brackets."""
    if isinstance(k, slice):
        ends = ["" if x is None else str(x) for x in (k.start, k.stop, k.step)]
        return ":".join(ends if k.step is not None else ends[:2])
    return "..." if k is Ellipsis else f"array{k.shape}" if isinstance(k, np.ndarray) else str(k)
