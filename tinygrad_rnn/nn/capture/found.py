"""What a walk over a cell and its code finds, by kind, and whether it is still as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter, is_
from types import FunctionType
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor

TABLE = attrgetter("__dict__")
BODY: list[Callable[[FunctionType], Any]] = [attrgetter("__code__"), attrgetter("__defaults__")]
BODY += [attrgetter("__kwdefaults__"), lambda function: bool(vars(function))]


def kind_of(array: Any, node: Any, recording: bool) -> tuple:
    """What of a tensor a step is recorded for: its shape and dtype, and whether a gradient flows to it."""
    return array.shape, array.dtype, recording and node is not None and node.tracked


class Values:
    """What a step reads anew at each call, and is not recorded for.

    tensors  in order, each once; arrays, nodes: theirs, as they were last seen; kinds: see kind_of
    holders  the names that lead to tensors
    large    arrays, each with the name that leads to it
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.arrays: list[Any] = []
        self.nodes: list[Any] = []
        self.kinds: list[tuple] = []
        self.holders: set[str] = set()
        self.large: list[tuple[str, np.ndarray]] = []

    def add(self, t: Tensor, name: str, recording: bool) -> None:
        """Add a tensor that is not there yet. name: that leads to it"""
        self.tensors.append(t)
        self.arrays.append(t.array)
        self.nodes.append(t.node)
        self.kinds.append(kind_of(t.array, t.node, recording))
        self.holders.add(name)

    def same(self, recording: bool) -> bool:
        """Are the tensors of the kinds that they were? What they are now is what was last seen, then."""
        for i, t in enumerate(self.tensors):
            array, node = t.array, t.node
            if array is not self.arrays[i] or node is not self.nodes[i]:
                if kind_of(array, node, recording) != self.kinds[i]:
                    return False
                self.arrays[i], self.nodes[i] = array, node
        return True

    def put_back(self, copies: list[np.ndarray]) -> Iterator[str]:
        """Undo changes of the tensors and of the large arrays, of which there are copies; the names of what changed."""
        for (_, a), was in zip(self.large, copies, strict=True):
            if a.tobytes() != was.tobytes():
                a[...] = was
                yield "an element of an array"
        for t, values, node in zip(self.tensors, self.arrays, self.nodes, strict=True):
            if t.array is not values or t.node is not node:
                t.array, t.node = values, node
                yield "the values of a tensor"


class Objects:
    """Objects whose attributes are read, and functions whose code is followed.

    objects    and classes: theirs
    owners     those of the objects that have a `__dict__`; tables: that
    functions  and bodies: a list for each part of BODY
    """

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.classes: list[type] = []
        self.owners: list[Any] = []
        self.tables: list[dict] = []
        self.functions: list[FunctionType] = []
        self.bodies: list[list[Any]] = [[] for _ in BODY]

    def add(self, x: Any) -> dict | None:
        """Add an object; its `__dict__`, if it has one."""
        self.objects.append(x)
        self.classes.append(type(x))
        table = getattr(x, "__dict__", None)
        if table is not None:
            self.owners.append(x)
            self.tables.append(table)
        return table

    def add_function(self, function: FunctionType) -> None:
        """Add a function, with its code and defaults."""
        self.functions.append(function)
        for part, were in zip(BODY, self.bodies, strict=True):
            were.append(part(function))

    def same(self) -> bool:
        """Have objects the classes and attribute dicts that they had, and functions their code?"""
        if not all(map(is_, map(type, self.objects), self.classes)):
            return False
        if not all(map(is_, map(TABLE, self.owners), self.tables)):
            return False
        return all(all(map(is_, map(part, self.functions), were)) for part, were in zip(BODY, self.bodies, strict=True))


class Named:
    """What code names.

    attributes  and variables: the names of them
    anything    are names computed?
    bare        to what code reads `.array` of
    draws       does it name a generator of random numbers, or a module that has some?
    """

    def __init__(self) -> None:
        self.attributes = {"forward"}
        self.variables: set[str] = set()
        self.anything = False
        self.bare: set[str] = set()
        self.draws = False

    def __contains__(self, name: str) -> bool:
        return self.anything or name in self.attributes or name in self.variables
