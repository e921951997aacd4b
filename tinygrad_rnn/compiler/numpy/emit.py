"""What a schedule computes, as lines of NumPy calls with `out=`."""

from __future__ import annotations

import functools

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.columns import spans
from tinygrad_rnn.compiler.ir.levels import batched
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.numpy.function import Function
from tinygrad_rnn.compiler.numpy.operands import EVERY_STEP, Operands
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.places import Place
from tinygrad_rnn.ops.convolution import CONVOLUTIONS
from tinygrad_rnn.ops.formulas import FUNCTIONS

# Formulas that are one call of NumPy
UFUNCS: dict[str, Callable] = {
    "a + b": np.add, "a - b": np.subtract, "a * b": np.multiply, "a / b": np.divide, "-x": np.negative,
    "a > b": np.greater, "a >= b": np.greater_equal, "a < b": np.less, "a <= b": np.less_equal, "a == b": np.equal,
    "a != b": np.not_equal,
}  # fmt: skip


def emitted(stages: Sequence[Stage], buffers: Buffers) -> Function:
    """A function that computes these stages of the buffers' schedule, in their order."""
    function = Function(buffers.steps)
    emitter = Emitter(function, buffers)
    for stage in stages:
        emitter.stage(stage)
    return function


class Emitter:
    """Writes the stages of a schedule into a function: views by name, and calls that write into them."""

    def __init__(self, function: Function, buffers: Buffers):
        operands = Operands(function, buffers)
        self.function, self.s, self.steps = function, buffers.s, buffers.steps
        self.call, self.operand, self.like = function.call, operands.operand, operands.like

    def stage(self, stage: Stage) -> None:
        """A loop, or a value for all steps at once or once a call."""
        if not stage.loop:
            self._value(stage.values[0], None)
            return
        for v in stage.values:
            if v.op == "tsum":
                self.call(np.copyto, self.operand(v, stage), self.operand(v.dtype.type(0), stage))
        with self.function.loop():
            for v in stage.values:
                self._value(v, stage)

    def _value(self, v: Value, loop: Stage | None) -> None:
        with self.function.about(v):
            self._statements(v, loop)

    def _statements(self, v: Value, loop: Stage | None) -> None:
        emit = {"pack": self._pack, "sum": self._sum, "sums": self._row_sums, "dots": self._row_sums}.get(v.op)
        if v.pointwise:
            self._pointwise(v, loop)
        elif emit is not None:
            emit(v, loop)
        elif v.op in ("carry", "copy"):
            self.call(np.copyto, self.operand(v, loop), self.like(v.args[0], v, loop))
        elif v.op == "tsum" and loop is not None:
            total = self.operand(v, loop)
            self.call(np.add, total, self.operand(v.args[0], loop), total)
        elif v.op == "tsum":
            self._over_time(v, v.args[0])
        elif v.op == "matmul" and len(v.values) == 2:
            self._matmul(v, loop)
        elif v.several:
            arguments = ", ".join(self.operand(a, loop) for a in v.args)
            outputs, f = self._outputs(v), self.function.name(("f", v), _called(v), "f")
            self.function.lines.append(f"    {outputs} = {f}({arguments})")
        elif v.op == "pick":
            self.call(np.copyto, self.operand(v, loop), f"{self._outputs(v.args[0])}[{v.static['index']}]")
        elif v.op in CONVOLUTIONS and loop is None and self.s.flow.moves(v):
            self._convolutions(v)
        else:
            self._general(v, loop)

    def _sum(self, v: Value, loop: Stage | None) -> None:
        lead = int(loop is None and self.s.flow.moves(v))
        axis, keep = tuple(k + lead for k in v.static["axis"]), v.static["keepdims"]
        f = lambda a, out: np.add.reduce(a, axis=axis, keepdims=keep, out=out)
        f.__name__ = "sum"
        self.call(f, self.like(v.args[0], v.args[0], loop), self.operand(v, loop))

    def _row_sums(self, v: Value, loop: Stage | None) -> None:
        """Σ over each part of the columns: as a product with ones, which BLAS is fast at."""
        parts, x = v.static["parts"], v.args[0]
        width = x.shape[-1] // parts
        apart = lambda a, lead: a.reshape(*a.shape[:-1], parts, width)
        if v.op == "dots":
            self.call(np.vecdot, *(self.operand(a, loop, apart, "parts") for a in v.args), self.operand(v, loop))
            return
        ones = self.function.name(("ones", width, v.static["scale"]), np.full((width, 1), v.static["scale"], v.dtype))
        if self.s.where(x).views or self.s.where(v).views:  # rows that do not lie behind each other
            self.call(np.matmul, self.operand(x, loop, apart, "parts"), ones,
                       self.operand(v, loop, lambda a, lead: a[..., None], "column"))  # fmt: skip
            return
        rows = lambda a, lead: a.reshape(-1, width)
        self.call(np.dot, self.operand(x, loop, rows, ("rows", width)), ones,
                   self.operand(v, loop, lambda a, lead: a.reshape(-1, 1), "column"))  # fmt: skip

    def _outputs(self, v: Value) -> str:
        """The variable with the tuple that an operation with several outputs returned."""
        return self.function.name(("outputs", v), None)

    def _pointwise(self, v: Value, loop: Stage | None) -> None:
        times = next((_parts(a) for a in v.values if a.op in REPEATED), 0)

        def operand(a: Any) -> str:
            if not isinstance(a, Value) and v.op != "pow":  # of the dtype that NumPy would give it, once
                a = np.result_type(*(b.dtype for b in v.values), a).type(a)
            if isinstance(a, Value) and a.op in REPEATED:
                return self.operand(a.args[0], loop, REPEATED[a.op], a.op)
            return self.like(a, v, loop, times)

        out, args = operand(v), [operand(a) for a in v.args]
        formula = v.primitive.formula if v.primitive else None
        if v.op == "neg" and v.dtype.kind in "fi":  # NumPy 2.4's negative is wrong in place on every 8th double
            self.call(np.multiply, args[0], self.operand(v.dtype.type(-1), loop), out)
        elif v.op == "sigmoid":
            one = self.operand(v.dtype.type(1), loop)
            self.call(np.multiply, args[0], self.operand(v.dtype.type(-1), loop), out)
            self.call(np.exp, out, out)
            self.call(np.add, out, one, out)
            self.call(np.divide, one, out, out)
        elif v.op == "relu":
            self.call(np.maximum, args[0], self.operand(v.dtype.type(0), loop), out)
        elif formula in UFUNCS:
            self.call(UFUNCS[formula], *args, out)
        elif (function := _ufunc(v)) is not None:
            self.call(function, *args, out)
        else:
            self.call(_into(v), *args, out)

    def _pack(self, v: Value, loop: Stage | None) -> None:
        for p, lo, hi in spans(v):
            there = self.s.place[v].viewed("part", -1, lo, hi)
            if p.op == "zeros" or self.s.where(p) != there:
                piece = Value("part", (v,), {"axis": -1, "lo": lo, "hi": hi}, p.shape, p.dtype, v.moves)
                self.call(np.copyto, self.operand(piece, loop), self.like(p, v, loop))

    def _matmul(self, v: Value, loop: Stage | None) -> None:
        a, b = v.args
        out = self.operand(v, loop)
        if loop is None and self.s.flow.moves(a) and not self.s.flow.moves(b) and len(b.shape) == 2:
            flat = lambda x, lead: x.reshape(-1, x.shape[-1])  # one product over all rows of all steps
            if _flat(self.s.where(v)) and self.s.flow.moves(v):
                left, out = self.operand(a, loop, flat, "rows"), self.operand(v, loop, flat, "rows")
                self.call(np.matmul, left, self.operand(b, loop), out)
                return
        plain = len(a.shape) == len(b.shape) == len(v.shape) == 2 and loop is not None and not self.s.where(v).views
        f = np.dot if plain else np.matmul  # the same, with half a microsecond less around it
        self.call(f, self.like(a, v, loop), self.like(b, v, loop), out)

    def _over_time(self, v: Value, g: Value) -> None:
        """Σₜ g: for the gradient of a weight, one contraction over time and batch."""
        out, steps = self.operand(v, None), self.steps
        if self.s.flow.contracted(g) and g.op == "matmul":
            a, b = g.args
            if len(a.shape) == 2:
                left = self.operand(a.args[0], None, lambda x, lead: x.reshape(-1, x.shape[-1]).T, "rows transposed")
                right = self.operand(b, None, lambda x, lead: x.reshape(-1, x.shape[-1]), "rows")
                self.call(np.matmul, left, right, out)
            else:
                self.call(_contract, self.operand(a, None), self.operand(b, None), out)
        elif self.s.flow.contracted(g) and g.op == "correlate":
            self.call(_into(g), *(self.operand(a, None, _images, "images") for a in g.args), out)
        elif self.s.flow.contracted(g):
            rows = self.operand(g.args[0], None, lambda x, lead: x.reshape(-1, x.shape[-1]), "rows")
            self.call(_column_sums, rows, out)
        elif self.s.flow.moves(g):
            self.call(_column_sums, self.operand(g, None), out)
        else:
            self.call(np.multiply, self.operand(g, None), self.function.sized("T", lambda: steps.T), out)

    def _general(self, v: Value, loop: Stage | None) -> None:
        """Any other operation by its own function; for all steps, with its axes moved behind that of time."""
        if loop is not None or not self.s.flow.moves(v) or v.op == "gather":
            self.call(_into(v), *(self.operand(a, loop) for a in v.args), self.operand(v, loop))
            return
        assert batched(v), v
        args, steps = [], self.steps
        for a in v.args:
            each = isinstance(a, Value) and self.s.flow.moves(a)
            spread = lambda x, lead: x if lead else np.broadcast_to(x, (steps.T, *x.shape))
            args.append(self.operand(a, None, spread, "" if each else EVERY_STEP))
        f = self.function.sized(("f", v), lambda: _into(v, _behind_time(v, steps.T)), "f")
        self.function.lines.append(f"    {f}({', '.join([*args, self.operand(v, None)])})")

    def _convolutions(self, v: Value) -> None:
        """A convolution at all steps: of the images of all steps with one weight, or each by itself."""
        moves, out = self.s.flow.moves, self.operand(v, None)
        if v.op != "correlate" and moves(v.args[0]) and not moves(v.args[1]):
            x, W = self.operand(v.args[0], None, _images, "images"), self.operand(v.args[1], None)
            self.call(_into_images(v), x, W, out)
        else:
            self.call(_step_by_step(v, [moves(a) for a in v.args]), *(self.operand(a, None) for a in v.args), out)


# How to look at what is repeated so that it broadcasts with columns in several parts.
REPEATED: dict[str, Callable] = {"splat": lambda x, lead: x[..., None, :], "spread": lambda x, lead: x[..., None]}


def _ufunc(v: Value) -> Callable | None:
    """NumPy's function that a formula is nothing but a call of, with the arguments in their order."""
    if v.primitive is None or v.primitive.formula is None:
        return None
    name, _, rest = v.primitive.formula.partition("(")
    function = FUNCTIONS.get(name)
    return function if isinstance(function, np.ufunc) and rest == f"{', '.join(v.primitive.args)})" else None


def _parts(v: Value) -> int:
    """The parts in which something repeated is looked at."""
    times = v.static["times"]
    return times if v.op == "splat" else v.shape[-1] // times


def _flat(p: Place) -> bool:
    """Do the rows of all steps lie in memory as the rows of one matrix?"""
    return all(kind == "part" and args[0] == -1 for kind, *args in p.views)


def _into(v: Value, static: dict[str, Any] | None = None) -> Callable:
    """The operation's own function, its result written into the last argument."""
    forward = _called(v, static)

    def run(*args: Any) -> None:
        np.copyto(args[-1], forward(*args[:-1]))

    run.__name__ = v.op
    return run


def _called(v: Value, static: dict[str, Any] | None = None) -> Callable:
    """The operation's own function, with its keyword arguments."""
    assert v.primitive is not None, v
    made = functools.partial(v.primitive.forward, **(v.static if static is None else static))
    made.__name__ = v.op  # type: ignore[attr-defined]
    return made


def _behind_time(v: Value, T: int) -> dict[str, Any]:
    """The keyword arguments of an operation for arrays with a leading axis of time."""
    static = dict(v.static)
    if "axis" in static:
        axis = static["axis"]
        static["axis"] = tuple(k + 1 for k in axis) if isinstance(axis, tuple) else axis + 1
    if "axes" in static:
        static["axes"] = (0, *(k + 1 for k in static["axes"]))
    if "key" in static:
        static["key"] = (slice(None), *(static["key"] if isinstance(static["key"], tuple) else (static["key"],)))
    if "shape" in static:
        static["shape"] = (T, *static["shape"])
    if "widths" in static:
        static["widths"] = ((0, 0), *static["widths"])
    return static


def _images(x: np.ndarray, lead: int) -> np.ndarray:
    """The images of all steps."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _into_images(v: Value) -> Callable:
    forward = _called(v)

    def run(x: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
        np.copyto(out, forward(x, W).reshape(out.shape))

    run.__name__ = v.op
    return run


def _step_by_step(v: Value, moving: Sequence[bool]) -> Callable:
    forward = _called(v)

    def run(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        for t, each in enumerate(out):
            np.copyto(each, forward(a[t] if moving[0] else a, b[t] if moving[1] else b))

    run.__name__ = v.op
    return run


def _column_sums(a: np.ndarray, out: np.ndarray) -> None:
    np.add.reduce(a, axis=0, out=out)


def _contract(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Σₜ a[t] @ b[t], as one batched product. a: (T, …, M, K)  b: (T, …, K, N)"""
    axes = range(1, a.ndim - 2)
    left = a.transpose(*axes, a.ndim - 2, 0, a.ndim - 1).reshape(*a.shape[1:-1], -1)
    right = b.transpose(*axes, 0, b.ndim - 2, b.ndim - 1).reshape(*b.shape[1:-2], -1, b.shape[-1])
    np.matmul(left, right, out=out)
