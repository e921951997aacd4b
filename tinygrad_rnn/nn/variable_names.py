"""What a module's code calls the values it computes, for drawings: `f = sigmoid(…)` is a gate called f; and which
values a cell's code hands on from step to step.

The first calls that are recorded are watched with Python's profiling hook, which sees the local variables when
`forward` calls a function and when it returns. Later calls cost nothing.
"""

from __future__ import annotations

import inspect
import sys

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.graph import (
    Carries,
    Copied,
    Named,
    Node,
    Operand,
    Step,
    all_parents,
    ancestors,
    context,
    likenesses,
)
from tinygrad_rnn.autograd.tensor import Tensor

STATE = "state"  # a parameter of this name says nothing of what it holds


class Reader:
    """Calls a module once, and writes into its name in the scope what its code calls the operations.

    variables  the local variables when it returned, and `earlier`: (name, value) of what they held before
    """

    def __init__(self, forward: Callable):
        self.forward = inspect.unwrap(forward)
        self.code: Any = getattr(self.forward, "__code__", None)
        self.frame: Any = None
        self.variables: dict[str, Any] = {}
        self.earlier: dict[int, tuple[str, Any]] = {}

    def __call__(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        outer = sys.getprofile()
        if self.code is None or not (outer is None or isinstance(outer, Reader.Hook)):
            return module.forward(*args, **kwargs)  # somebody profiles this program
        start = Node(None, (), None, (), None, (), None).index
        sys.setprofile(Reader.Hook(self))
        try:
            result = module.forward(*args, **kwargs)
        finally:
            sys.setprofile(outer)
            self.frame = None  # it refers to this call, and so to itself
        pair = _states([*args, *kwargs.values()], result) if hasattr(module, "initial_state") else None
        mine, given = vars(module) | self._surroundings(), {*_nodes([*args, *kwargs.values()])}
        arguments = self.code.co_varnames[: self.code.co_argcount + self.code.co_kwonlyargcount]
        given |= {n for name in arguments for n in _nodes(self.variables.get(name))}  # what is made of x and called x
        found, name = list(_named(self._names(), mine, given, result, start, pair or ([], []))), module._name
        name.unread -= 1
        if len(found) >= len(name.variables):
            name.variables, name.is_cell = found, pair is not None
        if hasattr(module, "initial_state") and len(args) == 2 and isinstance(result, tuple) and len(result) == 2:
            module._name.carries = _carried(self.variables, args[1], result[1], result, start)
        return result

    def _surroundings(self) -> dict[str, Any]:
        """The tensors and arrays that its code finds in outer functions and in its file."""
        outside = self.forward.__globals__
        found = {name: outside[name] for name in self.code.co_names if name in outside}
        found |= {name: self.variables[name] for name in self.code.co_freevars if name in self.variables}
        return {name: value for name, value in found.items() if isinstance(value, (Tensor, np.ndarray))}

    def _names(self) -> dict[Node, str]:
        """What the code calls values: as it did in the end, else as it did first, else as what holds them alone."""
        held = {nodes[0]: name for name, value in self.variables.items() if len(nodes := [*_nodes(value)]) == 1}
        first = {n: name for name, value in reversed(self.earlier.values()) for n in _nodes(value)}
        last = {n: name for name, value in self.variables.items() if isinstance(value, Tensor) for n in _nodes(value)}
        return held | first | last

    class Hook:
        """What Python calls at each call and return of a function."""

        def __init__(self, reader: Reader):
            self.reader = reader

        def __call__(self, frame: Any, event: str, _: Any) -> None:
            reader = self.reader
            if frame.f_code is reader.code and reader.frame is None:
                reader.frame = frame
            elif event == "call" and frame.f_back is reader.frame:
                for name, value in frame.f_back.f_locals.items():
                    if isinstance(value, Tensor):
                        reader.earlier.setdefault(id(value), (name, value))
            if event == "return" and frame is reader.frame:
                reader.variables = dict(frame.f_locals)


def unwatched(run: Callable, *args: Any) -> Any:
    """run(*args), of which no reader is shown anything: what it calls is no line of a module's `forward`.

    Recording and compiling are a million calls; to look at each takes as long as they do.
    """
    outer = sys.getprofile()
    if not isinstance(outer, Reader.Hook):
        return run(*args)
    sys.setprofile(None)
    try:
        return run(*args)
    finally:
        sys.setprofile(outer)


States = tuple[list[tuple[str, Any]], list[tuple[str, Any]]]


def _states(given: list[Any], result: Any) -> States | None:
    """(name of its place, leaf) of the state that a cell was given and of the one that it returned."""
    if len(given) < 2 or not (isinstance(result, tuple) and len(result) == 2):
        return None
    old, new = list(_places(given[1])), list(_places(result[1]))
    return (old, new) if len(old) == len(new) else None


def _places(state: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, leaf) of a nest: its key or its field; "" in a tuple."""
    if isinstance(state, dict) or hasattr(state, "_fields"):
        for key, part in state.items() if isinstance(state, dict) else zip(state._fields, state, strict=True):
            yield from _places(part, str(key))
    elif isinstance(state, (tuple, list)):
        for part in state:
            yield from _places(part)
    elif state is not None:
        yield place, state


def _named(
    local: dict[Node, str], mine: Mapping[str, Any], given: set[Node], result: Any, start: int, states: States
) -> Iterator[Named]:
    """What is known of each operation since `start` in the scope of now, or deeper, but in no time step of its own.

    local: what variables hold  mine: what the module holds, by name  given: what the call was given
    """
    depth = len(context.scope)
    own = {n: name for name, value in mine.items() for n in _nodes(value) if isinstance(value, Tensor)}
    arrays, called = {id(value): name for name, value in mine.items() if isinstance(value, np.ndarray)}, own | local
    made = ancestors([*called, *_nodes(result)], lambda node: [n for n in all_parents(node) if n.index > start])
    made = [n for n in made if n.index > start and n.op and _is_within(n.scope, depth)]
    old, new = ({_node(leaf): k for k, (_, leaf) in reversed([*enumerate(s)])} for s in states)
    inside = set(made)
    pairs = zip(*states, strict=True)
    names = [_name([now, was] if _node(now[1]) in inside else [was], called) for was, now in pairs]

    def outside(i: Node) -> Operand:
        if i in old:
            return Operand(names[old[i]], old[i])
        array = arrays.get(id(i.data())) if type(i) is Copied and i.data is not None else None
        return Operand(array or called.get(i, ""), -1, array is not None or i in own, i in given)

    for node, (key, sign) in zip(made, likenesses(made, depth), strict=True):
        k = new.get(node, -1)
        reads = tuple([None if not isinstance(i, Node) or i in inside else outside(i) for i in node.inputs])
        yield Named(node.op.name, key, sign, called.get(node, "") or (names[k] if k >= 0 else ""), reads, k)


def _name(leaves: list[tuple[str, Any]], called: dict[Node, str]) -> str:
    """What to call a leaf of the state: as the first of (place, value) is called, else as its place."""
    names = [called.get(_node(leaf), STATE) for _, leaf in leaves]  # type: ignore[arg-type]
    return next((name for name in (*names, leaves[-1][0]) if name not in ("", STATE)), "")


def _is_within(scope: tuple, depth: int) -> bool:
    return scope[:depth] == context.scope and not any(isinstance(name, Step) for name in scope[depth:])


def _node(value: Any) -> Node | None:
    return value.node if isinstance(value, Tensor) else None


def _carried(variables: dict[str, Any], state: Any, new: Any, result: Any, start: int) -> Carries | None:
    """What a cell hands on, from a call that was watched; None where the new state is built otherwise than the old."""
    olds, news = nest.leaves(state), nest.leaves(new)
    if len(olds) != len(news):
        return None
    inside = lambda node: [n for n in all_parents(node) if n.index > start]
    made = [n for n in ancestors(_nodes(result), inside) if n.index > start and n.op]
    number = {n: k for k, n in enumerate(made)}
    paths = _leaf_names(state)
    lasts = [path.rpartition(".")[2] for path in paths]
    distinct = lambda names: len(names) == len(set(names)) == len(olds)
    names = lasts if distinct(lasts) else paths if distinct(paths) else [""] * len(olds)
    reads: dict[Node | None, list[tuple[int, int]]] = defaultdict(list)
    for n, k in number.items():
        for i, a in enumerate(n.inputs):
            reads[a if isinstance(a, Node) else None].append((k, i))
    leaves = []
    for name, old, fresh in zip(names, olds, news, strict=True):
        was, node = (getattr(s, "node", None) for s in (old, fresh))
        places = [(number[node], -1)] if node in number else [] if node is None else reads[node]
        seen = (old, fresh) if node in number else (old,)  # an input that is kept is called what it is later
        name = name or _shortest([v for v, value in variables.items() if any(value is s for s in seen)])
        leaves.append((name, next(iter(places), None), [] if was is None else reads[was]))
    return Carries([n.op.name for n in made], leaves)


def _shortest(names: list[str]) -> str:
    """m of m and m1; of names as long the last, which is the new value's."""
    return min((name for name in reversed(names) if name != "state"), key=len, default="")


def _leaf_names(state: Any, path: str = "") -> list[str]:
    """The fields and keys that lead to each leaf of a state: "main.h"."""
    if isinstance(state, dict):
        parts = [(str(key), part) for key, part in state.items()]
    elif isinstance(state, (tuple, list)):
        parts = list(zip(getattr(state, "_fields", [""] * len(state)), state, strict=True))
    else:
        return [] if state is None else [path]
    return [leaf for key, part in parts for leaf in _leaf_names(part, ".".join(filter(None, (path, key))))]


def _nodes(value: Any) -> Iterator[Node]:
    """The nodes of a tensor, or of those in a tuple or a list."""
    if isinstance(value, Tensor) and value.node is not None:
        yield value.node
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _nodes(part)
