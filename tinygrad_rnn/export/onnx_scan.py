"""A cell as the body of an ONNX Scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.export.chain import Part
from tinygrad_rnn.export.onnx_nodes import Graph, Nodes
from tinygrad_rnn.export.program import Array, Program, Shape
from tinygrad_rnn.export.recorded import Recorded, record
from tinygrad_rnn.export.sizes import program_of, resized


class Wire(NamedTuple):
    """Something in the file: its name, its shape with the letters of sizes, its dtype."""

    name: str
    shape: Shape
    dtype: Any


class Loop(NamedTuple):
    """A cell's step.

    leaves  the shape and dtype of each leaf of its state
    moving  the numbers of those that it changes
    given   the numbers of those that it reads and never changes
    """

    program: Program
    leaves: list[tuple[Shape, Any]]
    moving: list[int]
    given: list[int]


def loop_of(part: Part, xs: Wire, state: Any, B: int) -> Loop:
    """A cell's step for what it reads. state: an example for B sequences, or None for the initial one"""
    moving: list[int] = []
    given: list[int] = []

    def recorded(_: int, new_B: int, new_S: int) -> Recorded:
        sized = part.initial(new_B) if state is None else resized(state, B, new_B, new_S)
        found = record(part.module, part.step, ((new_B, *xs.shape[2:]), xs.dtype), sized)
        moving[:], given[:] = found.states, found.given
        return found

    others = [n for shape in (xs.shape[2:], *(s.shape for s in nest.leaves(state))) for n in shape]
    program, leaves = program_of(recorded, part.module, others)
    return Loop(program, leaves, moving, given)


def scan(
    graph: Graph, loop: Loop, start: Sequence[Wire], xs: Wire, alive: str, reverse: bool, prefix: str
) -> tuple[list[Wire], list[Wire]]:
    """Add a Scan: ys, and the leaves of the last state that move. start: the leaves of the first  alive: which
    sequences go on, or "" for all"""
    body, helper = _Body(graph, loop, start, alive, f"{prefix}step."), graph.onnx.helper
    p = loop.program
    states = [Wire(f"{prefix}last.{i}", a.shape, a.dtype) for i, a in enumerate(p.new)]
    ys = [Wire(f"{prefix}ys.{i}", ("T", *a.shape), a.dtype) for i, a in enumerate(p.outputs)]
    x = _without_rest(graph, xs, alive, f"{prefix}xs") if alive else xs.name
    scanned = [x, alive] if alive else [x]
    node = helper.make_node(
        "Scan", [*(start[i].name for i in loop.moving), *scanned], [w.name for w in (*states, *ys)],
        name=f"{prefix}Scan", body=body.graph_of(f"{prefix}step"), num_scan_inputs=len(scanned),
        scan_input_directions=[int(reverse)] * len(scanned), scan_output_directions=[int(reverse)] * len(ys),
    )  # fmt: skip
    graph.nodes.append(node)
    return ys, states


def _without_rest(graph: Graph, xs: Wire, alive: str, name: str) -> str:
    """xs with 0 behind the ends of sequences: what stands there may be NaN, and 0 times that would be too."""
    mask = graph.node("Unsqueeze", [alive, graph.integers(*range(2, len(xs.shape)))], f"{name}.alive")
    return graph.node("Where", [mask, xs.name, graph.constant(0, xs.dtype)], name)


class _Body:
    """The graph of one step.

    inputs, outputs  the states and x; the new states and y
    """

    def __init__(self, graph: Graph, loop: Loop, start: Sequence[Wire], alive: str, prefix: str):
        self.graph, self.prefix, self.program = graph.body(), prefix, loop.program
        self.alive = f"{prefix}alive" if alive else ""
        p = loop.program
        names = {a: f"{prefix}{a.name}" for a in (*p.states, p.x)}
        names |= {a: start[i].name for a, i in zip(p.given, loop.given, strict=True)}
        self.nodes = Nodes(self.graph, p, names, prefix)

    def graph_of(self, name: str) -> Any:
        """The whole of it."""
        p, of = self.program, self.nodes.of
        inputs = [(of(a), a.shape, a.dtype) for a in (*p.states, p.x)]
        inputs += [(self.alive, ("B",), np.dtype(bool))] if self.alive else []
        new = [(self._result(a, f"next.{i}", s), a.shape, a.dtype)
               for i, (a, s) in enumerate(zip(p.new, p.states, strict=True))]  # fmt: skip
        ys = [(self._result(a, f"y.{i}", None), a.shape, a.dtype) for i, a in enumerate(p.outputs)]
        return self.graph.onnx.helper.make_graph(
            self.graph.nodes, name, [self._info(*i) for i in inputs], [self._info(*o) for o in (*new, *ys)]
        )

    def _info(self, name: str, shape: Shape, dtype: Any) -> Any:
        helper = self.graph.onnx.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), list(shape))

    def _result(self, a: Array, name: str, old: Array | None) -> str:
        """Something that goes out; of the sequences that have ended what it was, or 0."""
        g, to = self.graph, f"{self.prefix}{name}"
        if not self.alive or a.shape[:1] != ("B",):
            return g.node("Identity", [self.nodes.of(a)], to)
        more = len(a.shape) - 1
        mask = g.node("Unsqueeze", [self.alive, g.integers(*range(1, more + 1))], f"{to}.alive") if more else self.alive
        rest = g.constant(0, a.dtype) if old is None else self.nodes.of(old)
        return g.node("Where", [mask, self.nodes.of(a), rest], to)
