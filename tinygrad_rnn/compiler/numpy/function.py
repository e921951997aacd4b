"""A Python function that is written line by line: its text, and the values of the names in it."""

from __future__ import annotations

import functools
import re

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.origin import Origin
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.steps import Steps
from tinygrad_rnn.compiler.schedule.places import Buffer


class Function:
    """A function of the arrays that are bound at a call, under construction.

    env    the values of its names
    names  the name of each thing that has one, by what it is
    heads  the lines that look at bound arrays, before all others
    lines  what it computes
    loops  the names of the lists, one item a step, that the loop runs over which is being written
    origins  the places in a user's code that lines come from: each such line ends in "#" and the number of its place
    """

    def __init__(self, steps: Steps):
        self.steps = steps
        self.env: dict[str, Any] = {}
        self.names: dict[Any, str] = {}
        self.heads: list[str] = []
        self.lines: list[str] = []
        self.loops: list[str] = []
        self.origins: list[Origin] = []

    def name(self, key: Any, value: Any, prefix: str = "v") -> str:
        """The variable that holds a value."""
        if key not in self.names:
            self.names[key] = f"{prefix}{len(self.names)}"
            self.env[self.names[key]] = value
        return self.names[key]

    def sized(self, key: Any, make: Callable, prefix: str = "v", depends: bool = True) -> str:
        """The variable that holds what is made, and made anew if it depends on the number of steps."""
        if key in self.names:
            return self.names[key]
        if not depends:
            return self.name(key, make(), prefix)
        name = self.names[key] = f"{prefix}{len(self.names)}"
        self.steps.depends(make, functools.partial(self.env.__setitem__, name))
        return name

    def bound(self, key: Any, buffer: Buffer, make: Callable) -> str:
        """The variable that holds what is made of the array of a buffer at each call."""
        if key not in self.names:
            maker = self.name(("make", key), make)
            name = self.names[key] = f"v{len(self.names)}"
            self.heads.append(f"    {name} = {maker}(bound[{self.name(('buffer', buffer), buffer)}])")
        return self.names[key]

    def each(self, name: str) -> str:
        """The variable that holds this step's item of a list, inside a loop."""
        if name not in self.loops:
            self.loops.append(name)
        return name + "_"

    def call(self, f: Callable, *operands: str) -> None:
        """Write f(*operands), of which the last is written into."""
        *first, out = operands
        out = f"out={out}" if f in (np.maximum, np.minimum) else out  # these two want to be told
        self.lines.append(f"    {self.name(('f', id(f)), f, 'f')}({', '.join([*first, out])})")

    @contextmanager
    def about(self, v: Value) -> Iterator[None]:
        """What is written in the block computes v."""
        first = len(self.lines)
        yield
        if v.origin is not None and len(self.lines) > first:
            self.lines[first] += f"  #{len(self.origins)}"
            self.origins.append(v.origin)

    @contextmanager
    def loop(self) -> Iterator[None]:
        """What is written in the block is done at each step."""
        self.loops, outer, self.lines = [], self.lines, []
        yield
        body, self.lines = self.lines, outer
        if self.loops:
            names = ", ".join(n + "_" for n in self.loops)
            head = f"    for {names}, in zip({', '.join(self.loops)}):"
        else:
            head = f"    for _ in {self.sized('steps', lambda: range(self.steps.T))}:"
        self.lines += [head, *("    " + line for line in body)] if body else []

    def text(self, name: str) -> str:
        """What was written, as a function of this name."""
        return "\n".join([f"def {name}(bound):", *self.heads, *self.lines, "    return None"])

    def source(self, name: str) -> Callable[[], str]:
        """The same for people, made when they ask: with the names of the functions that it calls, and what of a user's
        code each line comes from."""
        called = {f: getattr(value, "__name__", f) for f, value in self.env.items() if f.startswith("f")}
        return functools.partial(_source, self.text(name) if self.lines else "", called, self.origins)

    def finished(self, name: str) -> Callable[[dict], None] | None:
        """What was written, ready to be called; None if that is nothing."""
        if not self.lines:
            return None
        exec(self.text(name), self.env)
        function = self.env[name]

        def run(bound: dict) -> None:
            # Of the exponential in a sigmoid, whose limit is right; and of products, whose vectors reach behind a row
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                function(bound)

        return run


def _source(text: str, called: dict[str, str], origins: list[Origin]) -> str:
    text = re.sub(r"\bf\d+(?=\()", lambda m: called[m[0]], text)
    return re.sub(r"#(\d+)$", lambda m: f"# {origins[int(m[1])]}", text, flags=re.MULTILINE)
