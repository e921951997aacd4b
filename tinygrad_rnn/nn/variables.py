"""What a module's code calls the values it computes, for drawings: `f = sigmoid(…)` is a gate called f.

The first call that is recorded is watched with Python's profiling hook, which sees the local variables when `forward`
returns. Later calls cost nothing.
"""

from __future__ import annotations

import inspect
import sys

from collections.abc import Callable, Iterator
from typing import Any

from tinygrad_rnn.graph import Node, ancestors, drawn, state
from tinygrad_rnn.tensor import Tensor


class Reader:
    """Calls a module once, and writes into its name in the scope which operations its code gave a name."""

    def __init__(self, forward: Callable):
        self.code = getattr(inspect.unwrap(forward), "__code__", None)
        self.variables: dict[str, Any] = {}

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
        module._name.variables = _named(self.variables, result, start)
        return result

    class Hook:
        """What Python calls at each call and return of a function."""

        def __init__(self, reader: Reader):
            self.reader = reader

        def __call__(self, frame: Any, event: str, _: Any) -> None:
            if event == "return" and frame.f_code is self.reader.code:
                self.reader.variables = dict(frame.f_locals)


def _named(variables: dict[str, Any], result: Any, start: int) -> list[tuple[str, str]]:
    """(operation, variable or "") for each operation made since `start` in the scope of now."""
    called = {node: name for name, value in variables.items() for node in _nodes(value)}
    made = ancestors([*called, *_nodes(result)], lambda node: [n for n in drawn(node) if n.index > start])
    return [(n.op.name, called.get(n, "")) for n in made if n.index > start and n.op and n.scope == state.scope]


def _nodes(value: Any) -> Iterator[Node]:
    """The nodes of a tensor, or of those in a tuple or a list."""
    if isinstance(value, Tensor) and value.node is not None:
        yield value.node
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _nodes(part)
