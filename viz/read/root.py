"""What can be drawn: a tensor's graph, a cell, a Recurrent or layers, a circuit. All become the root of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import from_numpy
from tinygrad_rnn.autograd.graph import Constant, FirstState, Leaf, Node, Shown, ancestors, recording, scope
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.autograd.tensor import Tensor
from viz.read.chosen_steps import FEW


@primitive
def _output(y: Any) -> Any:
    """What a step returns, marked so that it is drawn."""
    return y


@primitive
def _outputs(*ys: Any) -> Any:
    """What all steps return: the root of the graph, which is not drawn itself."""
    return ys[0]


_output.vjp(y=lambda g: g)
_outputs.vjp(lambda gs, ys: None)
OUTPUT, OUTPUTS = _output.op, _outputs.op


def root_of(what: Any, steps: int = FEW) -> Node:
    """The root of the graph to draw. ValueError if there is none.

    steps: of what has not run: a cell, a Recurrent or layers, a circuit
    """
    if isinstance(what, Tensor):
        if what.node is None or what.node.op is None:
            raise ValueError(
                "viz.draw: what must be a tensor with a recorded graph, such as a loss, got one without; what is "
                "computed from a parameter, outside of no_grad(), has one"
            )
        return what.node
    if hasattr(what, "roots") and hasattr(what, "states"):
        return _of_circuit(what, steps)
    if isinstance(what, type):
        raise ValueError(f"viz.draw: what must be a cell, got its class; make one: viz.draw({what.__name__}(…))")
    if hasattr(what, "layers") or hasattr(what, "forwards"):
        return _of_layers(what, steps)
    cell = what if hasattr(what, "initial_state") else getattr(what, "cell", None)
    if callable(getattr(cell, "initial_state", None)):
        return _of_cell(cell, steps)
    call = "; call it, and draw what it returns" if callable(what) else ""
    raise ValueError(
        "viz.draw: what must be a tensor with a recorded graph, such as a loss, a cell, an nn.Recurrent, an nn.LSTM or "
        f"the like, or a circuit, got {type(what).__name__}{call}"
    )


def _of_cell(cell: Any, steps: int) -> Node:
    """A few steps of a cell, on zeros: all that it returns."""
    ys: list[Tensor] = []
    with recording(True):
        xs = [*_inputs(cell, steps)]
        try:
            state = nest.map_leaves(_first, cell.initial_state(1))
        except NotImplementedError:
            raise ValueError(
                f"viz.draw: {type(cell).__name__} has no initial state of its own; draw what it computes: viz.draw(y)"
            ) from None
        for t in range(steps):
            with scope(t):
                y, state = cell(xs[t], state)
                ys += [_output(leaf) for leaf in nest.leaves(y)]
        last = [s for s in nest.leaves(state) if _is_computed(s) and all(s.node is not x.node for x in xs)]
        return _root(cell, [*ys, *last])


def _of_layers(layers: Any, steps: int) -> Node:
    """A few steps of layers of cells, on zeros."""
    each: list[Tensor] = []
    with recording(True):
        ys, _ = layers(_inputs(layers, steps))
        for t in range(steps):
            with scope(t):
                each.append(_output(ys[t]))
        return _root(layers, each)


def _inputs(module: Any, steps: int) -> Tensor:
    """Zeros to read, (steps, 1, I), I the input_size of the module. ValueError if it has none."""
    parts = [module, *(module.modules() if hasattr(module, "modules") else ())]
    size = next((part.input_size for part in parts if hasattr(part, "input_size")), None)
    if size is None:
        raise ValueError(
            f"viz.draw: {type(module).__name__} must have an attribute input_size to be drawn without an input; "
            "draw what it computes instead: viz.draw(y)"
        )
    like = next((p.dtype for p in module.parameters()), np.dtype(np.float32))
    return _tracked(Tensor(from_numpy(np.zeros((steps, 1, size), like))))


def _tracked(s: Tensor) -> Tensor:
    """The same, such that what is computed from it alone is recorded too: then all steps are alike."""
    return s if s.requires_grad or s.dtype.kind != "f" else Tensor(s.array, Leaf(s.shape, s.dtype))


def _first(s: Any) -> Any:
    """A first state, such that what is computed from it alone is recorded too, and comparisons: a clock's, say."""
    plain = isinstance(s, Tensor) and not s.requires_grad
    return Tensor(s.array, FirstState(s.shape, s.dtype)) if plain else s


def _is_computed(s: Any) -> bool:
    return isinstance(s, Tensor) and s.node is not None and (s.node.tracked or s.node.shown)


def _root(module: Any, returned: list[Tensor]) -> Node:
    if not any(True for _ in module.parameters()):
        raise ValueError(f"viz.draw: {type(module).__name__} computes nothing from parameters: there is no graph")
    return _outputs(*returned).node


def _of_circuit(circuit: Any, steps: int) -> Node:
    """A few steps of a circuit: each value of the forward pass is a node at each step."""
    made: dict[Any, Node] = {}
    for v in circuit.captured:
        named = Leaf if v.tracked else Constant
        made[v] = named(v.shape, v.dtype, v.name)
    for s in circuit.states:
        made[s] = Constant(s.shape, s.dtype)
    roots = [v for v in (*circuit.roots["y"], *circuit.roots["state"]) if v is not None]
    values = ancestors(roots, attrgetter("values"))
    ys: list[Node] = []
    for t in range(steps):
        step = dict(made)
        for v in values:
            if v not in step:
                step[v] = _node(v, step, t)
        ys.append(_marked(OUTPUT, [step[circuit.roots["y"][0]]], (t,)))
        for s, new in zip(circuit.states, circuit.roots["state"], strict=True):
            made[s] = made[s] if new is None else step[new]
    return _marked(OUTPUTS, [*ys, *(made[s] for s in circuit.states)], ())


def _marked(op: Any, inputs: list[Node], where: tuple) -> Node:
    made = Node(op, tuple(inputs), None, _edges(op, inputs), None, inputs[0].shape, inputs[0].dtype)
    made.scope = where
    return made


def _node(v: Any, step: dict[Any, Node], t: int) -> Node:
    if v.primitive is None:
        return Constant(v.shape, v.dtype, "x" if v.name == "x" else "")
    inputs = tuple([step.get(a, a) if a.__hash__ else a for a in v.args])
    kind = Node if v.tracked else Shown
    made = kind(v.primitive, inputs, v.static, _edges(v.primitive, inputs), None, v.shape, v.dtype)
    made.scope = (t, *v.scope)
    return made


def _edges(op: Any, inputs: Sequence[Any]) -> tuple:
    """Those of a node of an operation: to the inputs that a gradient flows to."""
    tracked = tuple([isinstance(i, Node) and i.tracked for i in inputs])
    if op.rules is None and op.joint_rule is None:  # one of several outputs
        return tuple([(i, None, 0, 0) for i, flows in enumerate(tracked) if flows])
    return op.edges_for(tracked)[0]
