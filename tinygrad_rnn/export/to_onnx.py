"""Recurrent models as ONNX: each cell is the body of a Scan, over sequences of any length and batches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.export.chain import Part, modules_of, of_cell, part_of, sequence_of
from tinygrad_rnn.export.onnx_nodes import Graph, Nodes
from tinygrad_rnn.export.onnx_scan import Loop, Wire, loop_of, scan
from tinygrad_rnn.export.program import Shape
from tinygrad_rnn.export.recorded import record
from tinygrad_rnn.export.sizes import program_of
from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.nn.module import Module, in_evaluation
from tinygrad_rnn.nn.rnn import Bidirectional, Layers

OPSET, IR_VERSION = 21, 10  # those of onnx 1.16, of 2024


class Ports(NamedTuple):
    """The names of what a file takes, and of what it gives, in order."""

    inputs: list[str]
    outputs: list[str]


class Start(NamedTuple):
    """A state that is given: an example of it, what it is called, and its leaves; none if they are to be inputs."""

    example: Any
    name: str
    wires: list[Wire]


def onnx(module: Any, xs: Any, file: str | Path, *, state: Any = None, lengths: bool = False) -> Ports:
    """Write a recurrent model as ONNX; any T and B can be run, whatever xs has.

    module: a cell, an nn.Recurrent, nn.Bidirectional, nn.Layers, nn.RNN, nn.LSTM, nn.GRU, what has `step` and
    `initial_state`, or a list of modules one after the other, [nn.Embedding, nn.LSTM, nn.Linear]; in evaluation
    xs: an example of what it reads, (T, B, I), or (T, B) of ids; of its values nothing is kept
    state: an example of the state before the first step: the file then takes one, `state.h`; without, it starts from
    the initial one. What attention looks at may have another S at each call. A tuple, where several of a list have one
    lengths: does it take `lengths`, (B,) int64, as nn.Recurrent does? Of a list, each part with a state does
    returns: the names of its inputs, xs first, and of its outputs: ys, and the last state, `last.h`, but not what no
    step changes

    ValueError if an operation has no form in ONNX, with its line; RuntimeError without onnx (the extra "onnx").
    """
    modules = modules_of(module, "export.onnx")
    xs = sequence_of(xs, "export.onnx")
    stateful = [m for m in modules if part_of(m) is not None or isinstance(m, (Bidirectional, Layers))]
    if state is not None and len(stateful) > 1 and not (isinstance(state, tuple) and len(state) == len(stateful)):
        got = f"{len(state)}" if isinstance(state, tuple) else type(state).__name__
        raise ValueError(f"export.onnx: state must be a tuple of {len(stateful)}, one for each part, got {got}")
    states = iter([state] if len(stateful) == 1 or state is None else state)
    writer = _File(_library(), xs, lengths)
    for i, part in enumerate(modules):
        own = next(states, None) if part in stateful else None
        with in_evaluation(part):
            writer.add(part, own, f"part{i}.", f"{i}." if len(stateful) > 1 else "")
    write_atomically(Path(file), writer.model().SerializeToString())
    return Ports([v.name for v in writer.inputs], [v.name for v in writer.outputs])


def _library() -> Any:
    """The package onnx."""
    try:
        import onnx  # noqa: PLC0415 (an extra)
    except ImportError:
        raise RuntimeError('export.onnx: onnx is not installed; pip install "tinygrad-rnn[onnx]"') from None
    return onnx


class _File:
    """A model that grows part by part.

    ys     what the last part gave: one thing, or several of a nest
    B      of the example
    alive  (T, B) of bool, which sequences go on; "" without lengths
    """

    def __init__(self, library: Any, xs: Tensor, lengths: bool):
        self.library, self.B = library, xs.shape[1]
        self.graph = g = Graph(library, {"T": "sizes.T", "B": "sizes.B"})
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.ys = [self._input("xs", ("T", "B", *xs.shape[2:]), xs.dtype)]
        for axis, letter in enumerate("TB"):
            g.node("Shape", ["xs"], g.sizes[letter], start=axis, end=axis + 1)
        self.alive = self._alive() if lengths else ""

    def _alive(self) -> str:
        g = self.graph
        self._input("lengths", ("B",), np.int64)
        zero, one = (g.constant(n, np.int64) for n in (0, 1))
        T = g.node("Squeeze", [g.sizes["T"], g.integers(0)], "alive.T")
        steps = g.node("Unsqueeze", [g.node("Range", [zero, T, one], "alive.steps"), g.integers(1)], "alive.column")
        return g.node("Less", [steps, "lengths"], "alive")

    def _info(self, w: Wire) -> Any:
        kind = self.library.helper.np_dtype_to_tensor_dtype(np.dtype(w.dtype))
        return self.library.helper.make_tensor_value_info(w.name, kind, list(w.shape))

    def _input(self, name: str, shape: Shape, dtype: Any) -> Wire:
        wire = Wire(name, shape, dtype)
        self.inputs.append(self._info(wire))
        return wire

    def _output(self, name: str, wire: Wire) -> None:
        self.graph.node("Identity", [wire.name], name)
        self.outputs.append(self._info(wire._replace(name=name)))

    def model(self) -> Any:
        """The whole, checked."""
        last, self.outputs = self.outputs, []
        for i, wire in enumerate(self.ys):
            self._output("ys" if len(self.ys) == 1 else f"ys.{i}", wire)
        self.outputs += last
        helper, numbers = self.library.helper, self.library.numpy_helper
        constants = [numbers.from_array(a, name) for name, a in self.graph.constants.items()]
        graph = helper.make_graph(self.graph.nodes, "tinygrad_rnn", self.inputs, self.outputs, initializer=constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="tinygrad_rnn", ir_version=IR_VERSION)
        self.library.checker.check_model(model)
        return model

    # ---- parts ----

    def add(self, module: Module, state: Any, prefix: str, path: str) -> None:
        """A module reads what the one before it gave. prefix: before names inside  path: before those of its state"""
        if len(self.ys) > 1:
            raise ValueError(f"export.onnx: {type(module).__name__} must read one tensor, got a nest of them")
        if isinstance(module, Layers):
            self._layers(module, state, prefix, path)
        elif isinstance(module, Bidirectional):
            states = (None, None) if state is None else state
            starts = [_starting(s, f"{path}state[{i}]") for i, s in enumerate(states)]
            for i, new in enumerate(self._pair(module, starts, prefix)):
                self._last(new, f"{path}last[{i}]")
        elif (part := part_of(module)) is not None:
            self.ys, new = self._run(part, _starting(state, f"{path}state"), prefix)
            self._last(new, f"{path}last")
        else:
            self._at_once(module, prefix)

    def _at_once(self, module: Module, prefix: str) -> None:
        """A module without a state, over all steps."""
        who, (_, _, *shape), dtype = type(module).__name__, self.ys[0].shape, self.ys[0].dtype
        step = lambda x, _: (module(x), ())
        program = program_of(lambda T, B, S: record(module, step, ((T, B, *shape), dtype), ()), module, shape)[0]
        nodes = Nodes(self.graph, program, {program.x: self.ys[0].name}, prefix)
        self.ys = [Wire(nodes.of(y), y.shape, y.dtype) for y in program.outputs]
        if any(y.shape[:2] != ("T", "B") for y in self.ys):
            raise ValueError(f"export.onnx: {who} must give a tensor (T, B, …), got {self.ys[0].shape}")

    def _run(self, part: Part, start: Start | None, prefix: str) -> tuple[list[Wire], dict[str, Wire]]:
        """A cell over all steps: ys, and the last state of what a step changes, by the paths of its leaves."""
        state = None if start is None else start.example
        loop = loop_of(part, self.ys[0], state, self.B)
        paths = nest.paths(part.initial(1) if start is None else state, "")
        if start is None:
            wires = self._initial(part, loop, prefix)
        elif start.wires:
            wires = start.wires
        else:
            wires = [self._input(f"{start.name}{p}", *leaf) for p, leaf in zip(paths, loop.leaves, strict=True)]
        wide = [self._wide(w, *leaf, f"{prefix}first.{i}")
                for i, (w, leaf) in enumerate(zip(wires, loop.leaves, strict=True))]  # fmt: skip
        if "S" not in self.graph.sizes:
            self._find_memory(wires, loop)
        ys, new = scan(self.graph, loop, wide, self.ys[0], self.alive, part.reverse, prefix)
        return ys, {paths[i]: w for i, w in zip(loop.moving, new, strict=True)}

    def _find_memory(self, wires: Sequence[Wire], loop: Loop) -> None:
        """How large what attention looks at is, S, is told by the first leaf that has such an axis."""
        for wire, (shape, _) in zip(wires, loop.leaves, strict=True):
            if "S" in shape:
                axis = shape.index("S")
                self.graph.sizes["S"] = self.graph.node("Shape", [wire.name], "sizes.S", start=axis, end=axis + 1)
                return

    def _initial(self, part: Part, loop: Loop, prefix: str) -> list[Wire]:
        """The initial state as constants, one row for all sequences."""
        found = []
        for i, s in enumerate(nest.leaves(part.initial(2))):
            numbers = to_numpy(s.array) if isinstance(s, Tensor) else np.asarray(s)
            if loop.leaves[i][0][:1] == ("B",) and numbers.shape[:1] == (2,):
                if not np.array_equal(numbers[0], numbers[1], equal_nan=numbers.dtype.kind == "f"):
                    raise ValueError("export.onnx: the initial state must be the same for each sequence; pass state=…")
                numbers = numbers[:1]
            name = self.graph.constant(numbers, loop.leaves[i][1], f"{prefix}start.{i}")
            found.append(Wire(name, numbers.shape, numbers.dtype))
        return found

    def _wide(self, wire: Wire, shape: Shape, dtype: Any, name: str) -> Wire:
        """A leaf of the first state in the shape that it keeps."""
        if wire.shape == shape:
            return wire
        return Wire(
            self.graph.node("Expand", [wire.name, self.graph.shape(shape, f"{name}.shape")], name), shape, dtype
        )

    def _last(self, new: dict[str, Wire], name: str) -> None:
        """The last state, as outputs."""
        for path, wire in new.items():
            self._output(f"{name}{path}", wire)

    def _pair(self, module: Bidirectional, starts: Sequence[Start | None], prefix: str) -> list[dict[str, Wire]]:
        """Two cells over the same, side by side."""
        read, ys, new = self.ys, [], []
        for i, (cell, start) in enumerate(zip(module.cells, starts, strict=True)):
            self.ys = read
            (y,), last = self._run(of_cell(cell, bool(i)), start, f"{prefix}{i}.")
            ys.append(y)
            new.append(last)
        name = self.graph.node("Concat", [y.name for y in ys], f"{prefix}ys", axis=-1)
        self.ys = [Wire(name, (*ys[0].shape[:-1], sum(y.shape[-1] for y in ys)), ys[0].dtype)]
        return new

    def _layers(self, module: Layers, state: Any, prefix: str, path: str) -> None:
        """Layers of cells, whose states are joined along a first axis, (L·D, B, H)."""
        n, g = len(module.cells), self.graph
        starts: list[Start | None] = [None] * n if state is None else self._rows(state, n, prefix, path)
        if module.bidirectional:
            new = []
            for i, layer in enumerate(module.layers):
                new += [list(last.values()) for last in self._pair(layer, starts[2 * i : 2 * i + 2], f"{prefix}{i}.")]
        else:
            cell = module.layers[0].cell
            self.ys, last = self._run(of_cell(cell), _together(starts), prefix)
            each = len(last) // n
            new = [list(last.values())[k * each : (k + 1) * each] for k in range(n)]
        for name, *wires in zip(nest.paths(module.initial_state(1), f"{path}last"), *new, strict=True):
            rows = [g.node("Unsqueeze", [w.name, g.integers(0)], f"{w.name}.row") for w in wires]
            whole = g.node("Concat", rows, f"{wires[0].name}.rows", axis=0)
            self._output(name, Wire(whole, (n, *wires[0].shape), wires[0].dtype))

    def _rows(self, state: Any, n: int, prefix: str, path: str) -> list[Start | None]:
        """The states of n cells out of those that are joined."""
        names = nest.paths(state, f"{path}state")
        whole = [self._input(name, (n, "B", *s.shape[2:]), s.dtype)
                 for name, s in zip(names, nest.leaves(state), strict=True)]  # fmt: skip
        found: list[Start | None] = []
        for k in range(n):
            at, wires = self.graph.constant(k, np.int64), []
            for w in whole:
                row = self.graph.node("Gather", [w.name, at], f"{prefix}{w.name}.{k}", axis=0)
                wires.append(Wire(row, w.shape[1:], w.dtype))
            found.append(Start(nest.map_leaves(lambda s, k=k: s[k], state), "", wires))
        return found


def _starting(state: Any, name: str) -> Start | None:
    return None if state is None else Start(state, name, [])


def _together(starts: Sequence[Start | None]) -> Start | None:
    """The states of the cells of a stack as that of the stack."""
    known = [s for s in starts if s is not None]
    if len(known) < 2:
        return starts[0]
    return Start(tuple(s.example for s in known), "", [w for s in known for w in s.wires])
