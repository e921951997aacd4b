"""Recurrent models as ONNX: each cell is the body of a Scan, over sequences of any length and batches of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.export.chain import Part, modules_of, of_cell, part_of
from tinygrad_rnn.export.lower import lower
from tinygrad_rnn.export.onnx_nodes import Graph, Nodes
from tinygrad_rnn.export.program import Array, Program
from tinygrad_rnn.export.recorded import Recorded, evaluating, record
from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.nn.attention import Memory
from tinygrad_rnn.nn.attention_cells import AttentionState
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.rnn import Bidirectional, Layers

OPSET, IR_VERSION = 21, 10  # of onnx 1.16 (2024), and of whatever reads newer ones
# What sizes that a call may choose are while a step is recorded: twice with other numbers, to be told from others.
SIZES = (10007, 10009, 10037), (10039, 10061, 10067)
LETTERS = "TBS"


class Ports(NamedTuple):
    """The names of what a file takes, and of what it gives, in order."""

    inputs: list[str]
    outputs: list[str]


def onnx(module: Any, xs: Any, file: str | Path, *, state: Any = None, lengths: bool = False) -> Ports:
    """Write a recurrent model as ONNX; any T and B can be run, whatever xs has.

    module: a cell, an nn.Recurrent, nn.Bidirectional, nn.Layers, nn.RNN, nn.LSTM, nn.GRU, what has `step` and
    `initial_state`, or a list of modules one after the other, [nn.Embedding, nn.LSTM, nn.Linear]; in evaluation
    xs: an example of what it reads, (T, B, I), or (T, B) of ids; of its values nothing is kept
    state: an example of the state before the first step: the file then takes one, `state.h`; without, it starts from
    the initial one. What attention looks at may have another S at each call. If several of a list have states, a tuple
    lengths: does it take `lengths`, (B,) int64, as nn.Recurrent does? Of a list, each part with a state does
    returns: the names of its inputs, xs first, and of its outputs: ys, and the last state, `last.h`; not what no step
    changes

    ValueError if an operation has no form in ONNX, with its line; ImportError without onnx (the extra "onnx").
    """
    modules = modules_of(module, "export.onnx")
    xs = xs if isinstance(xs, Tensor) else tensor(xs)
    if xs.ndim not in (2, 3):
        raise ValueError(f"export.onnx: xs must be (T, B, I), or (T, B) of ids, got {xs.shape}")
    writer = _File(_library(), xs, lengths)
    several = [m for m in modules if part_of(m) is not None or isinstance(m, (Bidirectional, Layers))]
    states = iter([state] if len(several) == 1 or state is None else state)
    for i, part in enumerate(modules):
        with evaluating(part):
            own = next(states, None) if part in several else None
            writer.add(part, own, f"{i}." if len(modules) > 1 else "", len(several) > 1)
    write_atomically(Path(file), writer.model().SerializeToString())
    return Ports([v.name for v in writer.inputs], [v.name for v in writer.outputs])


def _library() -> Any:
    """The package onnx."""
    try:
        import onnx  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ImportError('export.onnx: onnx is not installed; pip install "tinygrad-rnn[onnx]"') from None
    return onnx


class _File:
    """A model that grows part by part.

    x        what the next part reads: its name, its shape of one step and sequence, its dtype
    alive    (T, B) of bool, which sequences go on, if there are lengths
    """

    def __init__(self, library: Any, xs: Tensor, lengths: bool):
        self.library = library
        sizes = {"T": "sizes.T", "B": "sizes.B"}
        self.graph = Graph(library, {}, sizes)
        self.inputs = [self._port("xs", ("T", "B", *xs.shape[2:]), xs.dtype)]
        self.outputs: list[Any] = []
        self.x: tuple[str, tuple, Any] = ("xs", xs.shape[2:], xs.dtype)
        g = self.graph
        for letter, start in (("T", 0), ("B", 1)):
            g.node("Shape", ["xs"], sizes[letter], start=start, end=start + 1)
        self.alive = self._alive() if lengths else ""

    def _alive(self) -> str:
        g = self.graph
        self.inputs.append(self._port("lengths", ("B",), np.int64))
        zero, one = (g.constant(n, np.int64) for n in (0, 1))
        T = g.node("Squeeze", [g.sizes["T"], g.integers(0)], "alive.T")
        steps = g.node("Unsqueeze", [g.node("Range", [zero, T, one], "alive.steps"), g.integers(1)], "alive.column")
        return g.node("Less", [steps, "lengths"], "alive")

    def _port(self, name: str, shape: tuple, dtype: Any) -> Any:
        helper = self.library.helper
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))

    def model(self) -> Any:
        """The whole, checked."""
        name, shape, dtype = self.x
        if name != "ys":  # the last part has another name for it
            self.graph.node("Identity", [name], "ys")
        ys = self._port("ys", ("T", "B", *shape), dtype)
        helper, n = self.library.helper, self.library.numpy_helper
        constants = [n.from_array(numbers, name) for name, numbers in self.graph.constants.items()]
        graph = helper.make_graph(
            self.graph.nodes, "tinygrad_rnn", self.inputs, [ys, *self.outputs], initializer=constants
        )
        self.outputs.insert(0, ys)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="tinygrad_rnn", ir_version=IR_VERSION)
        self.library.checker.check_model(model, full_check=True)
        return model

    # ---- parts ----

    def add(self, module: Module, state: Any, prefix: str, several: bool) -> None:
        """A module reads what the one before it gave. several: have other parts states too?"""
        path = prefix if several else ""
        if isinstance(module, Layers) and (module.bidirectional or state is not None or module.num_layers > 1):
            self._layers(module, state, prefix, path)
        elif isinstance(module, Layers):
            self._layers(module, state, prefix, path)
        elif isinstance(module, Bidirectional):
            past, future = (None, None) if state is None else state
            cells = zip(module.cells, (past, future), ("[0]", "[1]"), (False, True), strict=True)
            self._side_by_side([(of_cell(c, back), s, f"{prefix}{n}.", f"{path}{n}") for c, s, n, back in cells])
        elif (part := part_of(module)) is not None:
            self._scanned(part, state, prefix, path)
        else:
            self._at_once(module, prefix)

    def _at_once(self, module: Module, prefix: str) -> None:
        """A module without a state, over all steps."""
        name, shape, dtype = self.x
        step = lambda x, _: (module(x), ())
        program = _program(lambda T, B, S: record(module, step, ((T, B, *shape), dtype), ()))
        nodes = Nodes(self.graph, program, {program.x: name}, prefix)
        y = program.outputs[0]
        if len(program.outputs) > 1 or y.shape[:2] != ("T", "B"):
            raise ValueError(f"export.onnx: {type(module).__name__} must give one tensor (T, B, …), got {y.shape}")
        self.x = nodes.of(y), y.shape[2:], y.dtype
