"""The recorded graph: plain data, written by primitive.py, read by backward.py, by the compiler and by viz."""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
import weakref

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

Scope = tuple[str | int, ...]
_serial = itertools.count()


class _Context(threading.local):
    """What holds while code runs, for each thread: is the graph recorded, and which module and time step is it in?"""

    recording: bool = True
    scope: Scope = ()
    outer: Any = None  # what `recording` was around each open block: a linked list
    random_numbers: Any = None  # an iterator over those to use, while a call is repeated
    trace: Any = None  # what takes the operations while a step is recorded for the compiler
    early: bool = False  # does somebody wait for the gradients of leaves, each as soon as it is complete?
    after_sweep: Any = ()  # functions to call when the backward pass under way has ended: a list during one


context = _Context()


class Carries(NamedTuple):
    """What goes from one call of a cell to the next.

    ops     the names of all operations of a call, oldest first, those of the modules inside it too
    leaves  for each leaf of the state: (its name or "", where the new one comes from, [where the old one is read]),
            a place is (number of an operation, number of its argument), or -1 for its result; None for nowhere
    """

    ops: list[str]
    leaves: list[tuple[str, tuple[int, int] | None, list[tuple[int, int]]]]


class ModuleName(str):
    """A module's name in a scope, with what its code says of it: here so that it can be drawn.

    kind       the name of its class
    variables  what its code calls each operation of a call, oldest first
    is_cell    did that call read a state and return a new one?
    carries    of a cell: what goes from one call to the next; None until a call was recorded
    unread     how many calls are still to be watched: in the first one less is recorded, where its state is constant
    """

    kind: str
    variables: list[Named]
    is_cell: bool
    carries: Carries | None
    unread: int

    def __new__(cls, name: str, kind: str) -> ModuleName:
        made = super().__new__(cls, name)
        made.kind, made.variables, made.is_cell, made.unread = kind, [], False, 2
        made.carries = None
        return made

    def __reduce__(self) -> tuple:
        return ModuleName, (str(self), self.kind)


class Operand(NamedTuple):
    """What a module's code calls a value from outside.

    state  the number of the leaf of the state that it is, or -1
    own    an attribute of the module, or what its code finds in outer functions and in its file
    given  an argument of the call; what is neither was computed in the call, from what leaves no graph
    """

    name: str
    state: int = -1
    own: bool = False
    given: bool = False


class Named(NamedTuple):
    """An operation of a module's call, as it was seen once: how it is known again in another call, and its name.

    op     its name
    key    (operation, static, modules within the module, for each input what is known of it)
    sign   equal where all that it is computed from is alike, back to the call's beginning
    name   what the code calls the result; "" where it has no name
    reads  what the code calls each input; None for what was computed within the call
    state  the number of the leaf of the new state that it is, or -1
    """

    op: str
    key: tuple
    sign: int
    name: str
    reads: tuple[Operand | None, ...]
    state: int = -1


def likenesses(nodes: list[Node], depth: int) -> Iterator[tuple[tuple, int]]:
    """(key, sign) of the operations of a call, oldest first, as in Named. depth: of the call's scope"""
    signs: dict[Node, int] = {}
    for node in nodes:
        op, static, inputs = node.op.name, node.static or {}, operands(node)
        if op == "pick" and inputs[0].op.name == "split":  # the slice that a recorded step has in its place
            op, static, inputs = "getitem", _slice(static["index"], **inputs[0].static), inputs[0].inputs
        plain = tuple([(k, repr(v)) for k, v in static.items() if _is_plain(v)])
        key = op, plain, tuple(map(str, node.scope[depth:])), tuple([_known(i, signs) for i in inputs])
        signs[node] = hash((key, tuple([signs.get(i, 0) for i in inputs if isinstance(i, Node)])))
        yield key, signs[node]


def _slice(index: int, sizes: tuple[int, ...], axis: int) -> dict[str, Any]:
    start = sum(sizes[:index])
    return {"key": (*(slice(None),) * axis, slice(start, start + sizes[index]))}


class Number(str):
    """A plain number among the inputs of an operation."""

    __slots__ = ()


class Given(str):
    """The name of a leaf among the inputs of an operation."""

    __slots__ = ()


def _known(source: Any, inside: Mapping[Node, int]) -> Any:
    """What is known of an input: its operation (a str), a name, a number; None for what came from outside."""
    if not isinstance(source, Node):
        return Number(repr(source)[:40])
    if source.op is not None:
        return None if source not in inside else "part" if source.op.name in ("pick", "getitem") else source.op.name
    name = getattr(source, "name", "")
    return Given(name) if name else None


def _is_plain(value: Any) -> bool:
    return isinstance(value, (int, float, str, slice, type(None))) or (
        isinstance(value, tuple) and all(map(_is_plain, value))
    )


class Node:
    """One value in the graph: which operation made it, from what, and where in the model. It holds no value itself.

    op      the Primitive that made it; None for a leaf or a constant
    inputs  for each argument its node, or the number itself where a plain number was passed
    static  the operation's keyword arguments
    edges   (number of an argument, derivative rule for it, first, last) for each argument that a gradient flows to;
            the rule wants saved[first:last]. All calls of the operation on such arguments share one tuple of them.
    saved   what the rules asked to keep; None once a backward sweep has used and freed it
    shape, dtype
    scope   the modules (str) and time steps (int) it was made in, outermost first
    index   the order of creation, which is a topological order
    hooks   functions to be shown the gradient, or None
    """

    __slots__ = ("__weakref__", "dtype", "edges", "hooks", "index", "inputs", "op", "saved", "scope", "shape", "static")
    tracked: ClassVar[bool] = True  # does a gradient flow to it?
    shown: ClassVar[bool] = False  # no, but what is computed from it is recorded all the same, to be drawn

    # One for every operation of every time step: few fields, and few objects for Python's garbage collector to trace.
    def __init__(
        self, op: Any, inputs: tuple[Any, ...], static: Any, edges: tuple, saved: tuple | None, shape: Any, dtype: Any
    ):
        self.op = op
        self.inputs = inputs
        self.static = static
        self.edges = edges
        self.saved = saved
        self.shape = shape
        self.dtype = dtype
        self.scope = context.scope
        self.index = next(_serial)
        self.hooks: list[Callable] | None = None

    def __repr__(self) -> str:
        return f"<{self.op.name if self.op else type(self).__name__.lower()} {self.shape} in {self.scope}>"


class Leaf(Node):
    """A value that somebody wants the gradient of: it keeps it in `grad`. Parameters have a `name`.

    owner  a weak reference to its tensor, for drawings that tell values; or None
    """

    __slots__ = ("grad", "name", "owner")

    def __init__(self, shape: tuple[int, ...], dtype: Any, name: str = ""):
        super().__init__(None, (), None, (), (), shape, dtype)
        self.index = -1  # before everything computed from it, also when it comes out of a pickle
        self.name = name
        self.grad: Any = None
        self.owner: Any = None

    def __getstate__(self) -> Any:
        _, parts = _without(object.__getstate__(self), "owner")
        return None, {**parts, "hooks": None}  # they are for passes through this one

    def __setstate__(self, parts: Any) -> None:
        _fill(self, parts, "owner")


class Constant(Node):
    """A value that no gradient flows to: an input, a target, an initial state. Here so that it can be drawn.

    data  a weak reference to its array, by which drawings find parts of one sequence; or None
    """

    __slots__ = ("data", "name")
    tracked: ClassVar[bool] = False

    def __init__(self, shape: tuple[int, ...], dtype: Any, name: str = "", data: Any = None):
        super().__init__(None, (), None, (), (), shape, dtype)
        self.name = name
        self.data = data

    def __getstate__(self) -> Any:
        return _without(object.__getstate__(self), "data")

    def __setstate__(self, parts: Any) -> None:
        _fill(self, parts, "data")


class Copied(Constant):
    """An array that an operation was given. data: a weak reference to it, not to the copy that was made"""

    __slots__ = ()


class Chosen(Constant):
    """Positions that were chosen among values, as by argmax: here so that drawings show what a model feeds itself.

    So are they in another dtype or shape, some of them, and one_hot of them; what is computed with them is not.

    source  a weak reference to what they were chosen from: positions that somebody keeps do not keep a graph
    """

    __slots__ = ("source",)
    shown: ClassVar[bool] = True

    def __init__(self, shape: tuple[int, ...], dtype: Any, source: Node):
        super().__init__(shape, dtype)
        self.source: Any = weakref.ref(source)

    def like(self, shape: tuple[int, ...], dtype: Any) -> Chosen | None:
        """The same choice in another shape; None where what it was made among is gone."""
        source = self.source()
        return None if source is None else Chosen(shape, dtype, source)

    def __reduce__(self) -> tuple:
        return Constant, (self.shape, self.dtype, self.name)  # a copy is of another graph


class FirstState(Constant):
    """An initial state that no gradient flows to. A clock, or a sum of two such states, is computed from it alone."""

    __slots__ = ()
    shown: ClassVar[bool] = True


class Shown(Node):
    """What an operation made of such a state: here so that it can be drawn."""

    __slots__ = ()
    tracked: ClassVar[bool] = False
    shown: ClassVar[bool] = True


def _without(parts: Any, reference: str) -> Any:
    """The state of a node to pickle: a weak reference cannot be."""
    return None, {key: value for key, value in parts[1].items() if key != reference}


def _fill(node: Node, parts: Any, reference: str) -> None:
    for key, value in (parts[1] | {reference: None}).items():
        setattr(node, key, value)


class Step(int):
    """A time step in a scope. Each `with scope(t):` has one of its own, so that loops that touch can be told apart."""

    __slots__ = ()


class StepBack(Step):
    """A step of a run from the end of its sequence to the beginning: 0 is the last in time."""

    __slots__ = ()


@contextmanager
def scope(name: str | int) -> Iterator[None]:
    """Everything recorded inside belongs to module `name` (a str) or to time step `name` (an int)."""
    outer = context.scope
    kind = StepBack if isinstance(name, StepBack) else Step
    context.scope = (*outer, kind(name) if isinstance(name, int) else name)
    try:
        yield
    finally:
        context.scope = outer


class recording:
    """Record the graph inside the block, or do not: `with recording(False):`, or as a decorator."""

    def __init__(self, on: bool):
        self.on = on

    def __enter__(self) -> None:
        context.outer = (context.recording, context.outer)
        context.recording = self.on

    def __exit__(self, *_: Any) -> None:
        context.recording, context.outer = context.outer

    def __call__(self, function: Callable) -> Callable:
        if inspect.isgeneratorfunction(function):
            raise TypeError(f"{function.__name__}: a generator runs after its call; use `with no_grad():` inside it")

        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            with recording(self.on):
                return function(*args, **kwargs)

        return inner


def ancestors(roots: Iterable[Node], parents: Callable[[Node], Iterable[Any]]) -> list[Node]:
    """The nodes that the roots depend on, themselves included, oldest first. Any depth: no recursion."""
    seen = set(roots)
    stack = list(seen)
    while stack:
        for parent in parents(stack.pop()):
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=attrgetter("index"))


def operands(node: Node) -> tuple[Any, ...]:
    """What an operation computes with: its inputs but those that are there to be drawn only, as a look-up's letters."""
    return node.inputs[:1] if node.op is not None and node.op.name == "getitem" else node.inputs


def all_parents(node: Node) -> list[Node]:
    """The nodes that a node was made from, constants included: the parents that a reader of the graph sees."""
    return [i for i in node.inputs if isinstance(i, Node)]
