"""Lines of a program as nodes of ONNX, operator set 21."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.export import onnx_formulas
from tinygrad_rnn.export.program import Array, Line, Program, Refused, Shape

ALL = np.iinfo(np.int64).max  # an end of a slice: as far as there is something
SAME = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "neg": "Neg", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "abs": "Abs", "sign": "Sign", "tanh": "Tanh", "relu": "Relu", "softplus": "Softplus",
    "sigmoid": "Sigmoid", "erf": "Erf", "maximum": "Max", "minimum": "Min", "where": "Where", "sin": "Sin",
    "cos": "Cos", "floor": "Floor", "round": "Round",
}  # fmt: skip
TRUTHS = {
    "greater": "Greater", "greater_equal": "GreaterOrEqual", "less": "Less", "less_equal": "LessOrEqual",
    "equal": "Equal", "logical_and": "And", "logical_or": "Or", "logical_not": "Not", "isnan": "IsNaN",
}  # fmt: skip
LOGICAL = {"logical_and", "logical_or", "logical_not"}
ORDERED = {"greater", "greater_equal", "less", "less_equal"}


class Graph:
    """Nodes in order, over constants that all graphs of a file share.

    constants  name -> numbers  equal: the names of those that have none of their own
    sizes      the letters of sizes, and what holds each, as integers (1,)
    """

    def __init__(self, onnx: Any, sizes: dict[str, str], outer: Graph | None = None):
        self.onnx, self.sizes = onnx, sizes
        self.constants: dict[str, np.ndarray] = {} if outer is None else outer.constants
        self.equal: dict[tuple, str] = {} if outer is None else outer.equal
        self.nodes: list[Any] = []

    def body(self) -> Graph:
        """The graph of one step, within this one."""
        return Graph(self.onnx, self.sizes, self)

    def constant(self, numbers: Any, dtype: Any, name: str = "") -> str:
        """The name of a constant; equal ones are one, but for those that have a name."""
        numbers = np.asarray(numbers, dtype)
        key = (numbers.dtype, numbers.shape, numbers.tobytes())
        name = name or self.equal.setdefault(key, f"constant.{len(self.equal)}")
        self.constants[name] = numbers
        return name

    def integers(self, *numbers: int) -> str:
        """A constant of integers (n,)."""
        return self.constant(numbers, np.int64)

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Add a node; its name is that of what it computes."""
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def cast(self, name: str, dtype: Any, to: str) -> str:
        """The same in another dtype."""
        return self.node("Cast", [name], to, to=self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def shape(self, shape: Shape, to: str) -> str:
        """A shape as integers, of which some are known when the file runs."""
        if all(isinstance(n, int) for n in shape):
            return self.integers(*shape)
        return self.node("Concat", [self.sizes[n] if n in self.sizes else self.integers(n) for n in shape], to, axis=0)


class Nodes:
    """Adds the nodes of a program to a graph.

    prefix  stands before the names of what the lines compute
    names   what each array is called in the graph
    """

    def __init__(self, graph: Graph, program: Program, names: Mapping[Array, str], prefix: str):
        self.graph, self.program, self.prefix, self.names = graph, program, prefix, dict(names)
        for a, numbers in program.weights.items():
            self.names[a] = graph.constant(numbers, a.dtype, f"{prefix}{a.name}")
        for line in program.lines:
            self._add(line)

    def of(self, a: Array) -> str:
        """What an array is called."""
        return self.names[a]

    def _add(self, line: Line) -> None:
        to = self.names[line.to] = f"{self.prefix}{line.to.name}"
        if line.elementwise:
            _elementwise(self, line, to)
        else:
            WRITTEN[line.op](self, line, to)
        if line.place:
            self.graph.nodes[-1].doc_string = line.place

    def operand(self, line: Line, i: int, dtype: Any) -> str:
        """Argument i of a line, in a dtype."""
        a = line.args[i]
        if not isinstance(a, Array):
            return self.graph.constant(a, dtype)
        return self.of(a) if a.dtype == dtype else self.graph.cast(self.of(a), dtype, f"{self.of(line.to)}.in{i}")


def _elementwise(w: Nodes, line: Line, to: str) -> None:
    g, out = w.graph, line.to.dtype
    if line.op == "cast":
        g.cast(w.of(line.args[0]), out, to)
        return
    bool_ = np.dtype(bool)
    dtypes = [bool_ if line.op in LOGICAL or (line.op == "where" and i == 0) else line.within
              for i in range(len(line.args))]  # fmt: skip
    inputs = [w.operand(line, i, dtype) for i, dtype in enumerate(dtypes)]
    if line.within == bool_ and line.op in ORDERED:
        raise Refused(line.value, "of booleans has no form in ONNX; make them numbers first")
    if line.op == "relu" and line.within.kind != "f":  # which Relu takes only by the letter
        g.node("Max", [*inputs, g.constant(0, line.within)], to)
    elif line.op in TRUTHS or line.op == "not_equal":
        inner = g.node(TRUTHS.get(line.op, "Equal"), inputs, to if line.op in TRUTHS else f"{to}.equal")
        if line.op == "not_equal":
            g.node("Not", [inner], to)
    elif line.op == "clip":
        _clip(w, line, inputs[0], to)
    elif line.op not in SAME:
        _formula(w, line, inputs, to)
    else:
        if line.within == bool_ and line.op != "where":
            raise Refused(line.value, "of booleans has no form in ONNX; make them numbers first")
        name = to if out == line.within else f"{to}.{line.within}"
        g.node(SAME[line.op], inputs, name)
        if name != to:
            g.cast(name, out, to)


def _formula(w: Nodes, line: Line, inputs: Sequence[str], to: str) -> None:
    """What ONNX has no operation for, by its formula."""
    op = line.value.primitive
    assert op is not None and op.formula is not None, line
    found, dtype = onnx_formulas.written(
        w.graph, op.formula, dict(zip(op.args, inputs, strict=True)), line.within, f"{to}.formula"
    )
    if dtype == line.to.dtype:
        w.graph.node("Identity", [found], to)
    else:
        w.graph.cast(found, line.to.dtype, to)


def _clip(w: Nodes, line: Line, x: str, to: str) -> None:
    """By Max and Min: Clip of ONNX takes no NaN."""
    bounds = [(kind, line.options[name]) for name, kind in (("min", "Max"), ("max", "Min"))]
    bounds = [(kind, bound) for kind, bound in bounds if bound is not None]
    for i, (kind, bound) in enumerate(bounds):
        x = w.graph.node(kind, [x, w.graph.constant(bound, line.within)], to if i == len(bounds) - 1 else f"{to}.low")


def _matmul(w: Nodes, line: Line, to: str) -> None:
    w.graph.node("MatMul", [w.operand(line, i, line.within) for i in range(2)], to)


def _reduced(w: Nodes, line: Line, to: str) -> None:
    kind = {"sum": "ReduceSum", "max": "ReduceMax", "min": "ReduceMin"}[line.op]
    axes = w.graph.integers(*line.options["axis"])
    w.graph.node(kind, [w.operand(line, 0, line.to.dtype), axes], to, keepdims=int(line.options["keepdims"]))


def _argmax(w: Nodes, line: Line, to: str) -> None:
    options = {"axis": line.options["axis"], "keepdims": int(line.options["keepdims"])}
    w.graph.node("ArgMax", [w.of(line.args[0])], to, **options)


def _running(w: Nodes, line: Line, to: str) -> None:
    axis = w.graph.constant(line.options["axis"], np.int64)
    w.graph.node("CumSum", [w.operand(line, 0, line.to.dtype), axis], to)


def _reshape(w: Nodes, line: Line, to: str) -> None:
    """A size that is known late is the same as before at its place (0), or what is left (-1)."""
    x, shape = line.args[0], list(line.to.shape)
    open_ = [i for i, n in enumerate(shape) if not isinstance(n, int)]
    for i in open_:
        shape[i] = 0 if x.shape[i : i + 1] == (line.to.shape[i],) else -1
    if shape.count(-1) > 1 or (0 in line.to.shape and open_):
        raise Refused(line.value, "mixes axes whose sizes a call may choose")
    if 0 in line.to.shape:
        w.graph.node("Reshape", [w.of(x), w.graph.integers(*shape)], to, allowzero=1)
    else:
        w.graph.node("Reshape", [w.of(x), w.graph.integers(*shape)], to)


def _permute(w: Nodes, line: Line, to: str) -> None:
    w.graph.node("Transpose", [w.of(line.args[0])], to, perm=list(line.options["axes"]))


def _broadcast(w: Nodes, line: Line, to: str) -> None:
    w.graph.node("Expand", [w.of(line.args[0]), w.graph.shape(line.to.shape, f"{to}.shape")], to)


def _slice(w: Nodes, line: Line, to: str) -> None:
    cut = []
    for axis, ((start, step), size, n) in enumerate(
        zip(line.options["keys"], line.to.shape, line.args[0].shape, strict=True)
    ):
        if (start, step, size) == (0, 1, n):
            continue
        if not isinstance(n, int):
            raise Refused(line.value, f"cuts along {n}, of which a call may have any number")
        end = start + step * size
        cut.append((axis, start, end if end >= 0 else -ALL, step))
    axes, starts, ends, steps = (w.graph.integers(*each) for each in zip(*cut, strict=True))
    w.graph.node("Slice", [w.of(line.args[0]), starts, ends, axes, steps], to)


def _join(w: Nodes, line: Line, to: str) -> None:
    inputs = [w.operand(line, i, line.to.dtype) for i in range(len(line.args))]
    w.graph.node("Concat", inputs, to, axis=line.options["axis"])


def _take(w: Nodes, line: Line, to: str, kind: str = "Gather") -> None:
    x, index = line.args
    inputs = [w.of(x), w.operand(line, 1, np.dtype(np.int64))]
    rows = x.shape[line.options["axis"]]
    if (
        line.options.get("ids") and index not in w.program.weights and isinstance(rows, int)
    ):  # ids below 0 as far out of bounds as those above
        low = w.graph.node("Less", [inputs[1], w.graph.constant(0, np.int64)], f"{to}.low")
        far = w.graph.constant(rows, np.int64)
        inputs[1] = w.graph.node("Where", [low, far, inputs[1]], f"{to}.ids")
    w.graph.node(kind, inputs, to, axis=line.options["axis"])


def _pick(w: Nodes, line: Line, to: str) -> None:
    """Of all places along the other axes, as many as the index has."""
    if line.args[0].shape[:-1] != line.args[1].shape[:-1] and line.options["axis"] == len(line.to.shape) - 1:
        raise Refused(line.value, "must have an index as large as what it is taken from, but along its axis")
    _take(w, line, to, "GatherElements")


def _filled(w: Nodes, line: Line, to: str) -> None:
    value = w.graph.constant(line.options["value"], line.to.dtype)
    w.graph.node("Expand", [value, w.graph.shape(line.to.shape, f"{to}.shape")], to)


WRITTEN: dict[str, Callable[[Nodes, Line, str], None]] = {
    "matmul": _matmul, **dict.fromkeys(("sum", "max", "min"), _reduced), "argmax": _argmax, "running": _running,
    "reshape": _reshape, "permute": _permute, "broadcast": _broadcast, "slice": _slice, "join": _join, "take": _take,
    "pick": _pick, "filled": _filled,
}  # fmt: skip
