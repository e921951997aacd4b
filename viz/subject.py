"""What can be drawn: a tensor's graph, a cell or a Recurrent, a circuit. All become the root of a graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.backend import from_numpy
from tinygrad_rnn.graph import Constant, Leaf, Node, recording, scope
from tinygrad_rnn.tensor import Tensor

STEPS = 4  # of a network that has not run: enough to tell what goes from step to step


def root_of(what: Any) -> Node:
    """The root of the graph to draw. ValueError if there is none."""
    if isinstance(what, Tensor):
        if what.node is None or what.node.op is None:
            raise ValueError(
                "viz.draw: what must be a tensor with a recorded graph, such as a loss, got one without; what is "
                "computed from a parameter, outside of no_grad(), has one"
            )
        return what.node
    if hasattr(what, "roots") and hasattr(what, "states"):
        return _of_circuit(what)
    cell = getattr(what, "cell", what)
    if callable(getattr(cell, "initial_state", None)):
        return _of_cell(cell)
    raise ValueError(
        "viz.draw: what must be a tensor with a recorded graph, such as a loss, a cell, an nn.Recurrent or a circuit, "
        f"got {type(what).__name__}"
    )


def _of_cell(cell: Any) -> Node:
    """A few steps of a cell, on zeros."""
    parts = [cell, *(cell.modules() if hasattr(cell, "modules") else ())]
    size = next((part.input_size for part in parts if hasattr(part, "input_size")), None)
    if size is None:
        raise ValueError(
            f"viz.draw: {type(cell).__name__} must have an attribute input_size to be drawn without an input; "
            "draw what it computes instead: viz.draw(y)"
        )
    with recording(True):
        state = cell.initial_state(1)
        like = next((p.dtype for p in cell.parameters()), np.dtype(np.float32))
        for t in range(STEPS):
            with scope(t):
                y, state = cell(Tensor(from_numpy(np.zeros((1, size), like))), state)
    if y.node is None or y.node.op is None:
        raise ValueError(f"viz.draw: {type(cell).__name__} computes nothing from its parameters: there is no graph")
    return y.node


def _of_circuit(circuit: Any) -> Node:
    """A few steps of a circuit: each value of the forward pass is a node at each step."""
    made: dict[Any, Node] = {}
    for v in circuit.captured:
        named = Leaf if v.tracked else Constant
        made[v] = named(v.shape, v.dtype, v.name)
    for s in circuit.states:
        made[s] = Constant(s.shape, s.dtype)
    roots = [v for v in (*circuit.roots["y"], *circuit.roots["state"]) if v is not None]
    for t in range(STEPS):
        step = dict(made)
        for v in _needed(roots, step):
            step[v] = _node(v, step, t)
        for s, new in zip(circuit.states, circuit.roots["state"], strict=True):
            made[s] = made[s] if new is None else step[new]
    return step[circuit.roots["y"][0]]


def _needed(roots: list[Any], known: dict[Any, Node]) -> list[Any]:
    """The values that are still to be made, oldest first."""
    seen, stack = set(roots), list(roots)
    while stack:
        for v in stack.pop().values:
            if v not in seen:
                seen.add(v)
                stack.append(v)
    return sorted((v for v in seen if v not in known), key=lambda v: v.index)


def _node(v: Any, step: dict[Any, Node], t: int) -> Node:
    if v.primitive is None:
        return Constant(v.shape, v.dtype, "x" if v.name == "x" else "")
    inputs = tuple([step.get(a, a) if a.__hash__ else a for a in v.args])
    made = Node(v.primitive, inputs, v.static, (), None, v.shape, v.dtype)
    made.scope = (t, *v.scope)
    return made
