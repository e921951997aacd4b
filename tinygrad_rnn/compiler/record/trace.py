"""Tracing: symbols in place of tensors, whose operations become values of a circuit."""

from __future__ import annotations

import sys

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from types import FrameType
from typing import Any, Never

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.rules import Primitive
from tinygrad_rnn.autograd.tensor import Tensor, refuse_deep_copy
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.origin import Origin
from tinygrad_rnn.compiler.ir.value import PRIMITIVES, Unsupported, Value
from tinygrad_rnn.ops.elementwise import detach

SMALL = 1 << 16  # bytes: a larger array is read anew at each call, a smaller one is a constant of the circuit


class Symbol(Tensor):
    """A tensor of a step that is being recorded: it has a shape, and no values."""

    __slots__ = ("trace", "value")

    def __init__(self, value: Value, trace: Trace):
        self.value = value
        self.trace = trace

    shape = property(lambda self: self.value.shape)
    ndim = property(lambda self: len(self.value.shape))
    size = property(lambda self: int(np.prod(self.value.shape)))
    dtype = property(lambda self: self.value.dtype)
    device = property(lambda self: self.trace.device)
    requires_grad = property(lambda self: self.value.tracked)
    is_leaf = property(lambda self: self.value.op == "input")
    name = property(lambda self: "")

    @property
    def array(self) -> Any:
        self.trace.refuse()

    @property
    def node(self) -> Any:  # type: ignore[override]
        self.trace.end(Unsupported("a hook is set, or a gradient asked for, within its step"))

    def detach(self) -> Tensor:
        return detach(self)

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if context.recording and self.requires_grad:
            refuse_deep_copy()
        return self.detach()

    def requires_grad_(self, on: bool = True) -> Tensor:
        return self if on == self.requires_grad else self.detach()

    def _updated(self, new: Tensor) -> Tensor:
        return new

    def __repr__(self) -> str:
        return f"tensor(recorded, shape={self.shape}, dtype={self.dtype})"


class Trace:
    """What primitives call while a step is recorded: trace(op, args, static) -> symbols.

    captured  tensors and arrays from outside, and their values; small arrays are known by what they hold
    picked    for each output of an operation with several: the value of all of them, and its number
    distinct  whether equal values stay apart: a gradient that is to be looked at is that of one of them
    watched   the values whose gradients at each step are wanted
    origin    what a derivative rule is asked for; None: the code that runs
    ended     why the step cannot be recorded, if it asked for what it cannot have
    """

    def __init__(
        self, circuit: Circuit, who: str, device: str, backward: bool, names: Mapping[int, str], distinct: bool
    ):
        self.circuit, self.who, self.device, self.backward, self.names = circuit, who, device, backward, names
        self.distinct = distinct
        self.captured: dict[Any, tuple[Any, Value]] = {}
        self.picked: dict[Value, tuple[Value, int]] = {}
        self.watched: list[Value] = []
        self.origin: Origin | None = None
        self.ended: Exception | None = None

    def __call__(self, op: Primitive, args: Sequence[Any], static: dict[str, Any]) -> Any:
        values = tuple([self.value(a) for a in args])
        tracked = context.recording and not op.flat and any(isinstance(v, Value) and v.tracked for v in values)
        static = {**op.defaults, **static}
        ours = PRIMITIVES.get(op.name) is op
        self.circuit.origin = self.origin or _origin(sys._getframe(1))
        if self.distinct:
            self.circuit.known.clear()
        try:
            made = self.circuit.make(
                op.name if ours else f"user.{op.name}", *values, tracked=tracked, primitive=op, **static
            )
        except Exception as error:
            shapes = " and ".join(str(v.shape) for v in values if isinstance(v, Value))
            reason = str(error).partition("\n")[0].removeprefix(f"{op.name}: ")
            if not ours:
                self.end(Unsupported(f"{op.name} cannot be tried on zeros of shape {shapes}: {reason}"))
            if not isinstance(error, (ValueError, TypeError, IndexError)):
                raise
            raise type(error)(f"{op.name}: operands of shape {shapes} do not fit: {reason}") from None
        made.moves = made.moves or self.distinct  # its gradient at each step; what is the same is so when made anew
        if made.several:
            return tuple([self.symbol(self.pick(made, i)) for i in range(len(made.shape))])
        return self.symbol(made)

    def symbol(self, value: Value) -> Symbol:
        """The tensor that stands for a value."""
        return Symbol(value, self)

    def pick(self, whole: Value, i: int) -> Value:
        """Output i of an operation with several; of a split, the part itself."""
        make, x = self.circuit.make, whole.args[0]
        if whole.op in ("split", "unbind"):
            sizes = whole.static.get("sizes")
            ends = [0, *accumulate(sizes or ())]
            key = (*(slice(None),) * whole.static["axis"], i if sizes is None else slice(ends[i], ends[i + 1]))
            made = make("getitem", x, key=key, tracked=whole.tracked)
        else:
            made = make("pick", whole, index=i, tracked=whole.tracked)
        self.picked[made] = whole, i
        return made

    def value(self, a: Any) -> Any:
        """What an argument is in the circuit."""
        if isinstance(a, Symbol):
            if a.trace is not self:
                self.end(Unsupported("it keeps a tensor of one step for another one outside of its state"))
            return a.value
        if isinstance(a, Tensor):
            name = self.names.get(id(a)) or a.name or f"tensor{len(self.captured)}"
            return self._captured(id(a), a, name, self.backward and a.requires_grad)
        if not arrays.is_array(a):
            return a
        large = not isinstance(a, np.generic) and (a.nbytes > SMALL or arrays.device_of(a) != "cpu")
        key = id(a) if large else (a.shape, a.dtype, a.tobytes())
        name = self.names.get(id(a)) or f"array{len(self.captured)}"
        return self._captured(key, a if large else np.array(a), name, False)

    def _captured(self, key: Any, a: Any, name: str, tracked: bool) -> Value:
        if key not in self.captured:
            self.captured[key] = a, self.circuit.input(name, a.shape, a.dtype, moves=False, tracked=tracked)
        return self.captured[key][1]

    def draw(self, shape: tuple[int, ...], dtype: Any, rng: Any) -> Symbol:
        """Random numbers from 0 to 1, fresh at each step, from a generator (None: the library's)."""
        made = self.circuit.input("random", shape, dtype, moves=True, tracked=False, rng=rng)
        made.origin = _origin(sys._getframe(1))
        self.circuit.draws.append(made)
        return self.symbol(made)

    def own(self, s: Symbol) -> Symbol:
        """A value of this step that is equal: that may be the same at every step, or nothing asks its gradient."""
        v = s.value
        return self.symbol(Value("add", (v, 0), {}, v.shape, v.dtype, True, PRIMITIVES["add"], True))

    def watch(self, tensors: Sequence[Any]) -> None:
        """The gradients of these at each step are wanted."""
        self.watched = [result_value(self, t) for t in tensors]

    def refuse(self) -> Never:
        """TypeError: a value would be read."""
        how = 'choose by ops.where, or run it with Recurrent(cell, engine="eager")'
        what = "a recorded step cannot read a value (`if tensor`, .item(), .numpy() …)"
        self.end(TypeError(f"{self.who}: {what}; {how}"))

    def refuse_change(self) -> Never:
        """Unsupported: the values of a tensor would be changed, once and for all."""
        self.end(Unsupported("its step sets the values of a tensor, which are no part of its state"))

    def end(self, error: Exception) -> Never:
        """Raise an error, which a step that catches it does not survive: what it does then is not what it would do."""
        self.ended = error
        raise error from None


@contextmanager
def tracing(trace: Trace) -> Iterator[None]:
    """Record every operation on tensors inside the block."""
    outer, context.trace = context.trace, trace
    try:
        yield
    finally:
        context.trace = outer


# of nn: what runs cells
MACHINERY = {"circuit", "module", "recording", "recordings", "recurrent", "replay", "state_hooks", "variable_names"}
RECORDS = ("tinygrad_rnn.compiler.record.record", "record")  # where a recording begins


def is_machinery(frame: FrameType) -> bool:
    """Is it the library's own code around a cell's, or below it?"""
    package, _, rest = frame.f_globals.get("__name__", "").partition(".")
    part, _, name = rest.partition(".")
    return package == "tinygrad_rnn" and (part != "nn" or name in MACHINERY)


def _origin(frame: FrameType | None) -> Origin | None:
    """Where the code of a cell is now."""
    while frame is not None and is_machinery(frame):
        if (frame.f_globals["__name__"], frame.f_code.co_name) == RECORDS:
            return None
        frame = frame.f_back
    return frame and Origin(frame.f_code, frame.f_lineno, frame.f_lasti)


def result_value(trace: Trace, t: Any) -> Value:
    """That of an output; Unsupported unless it is a tensor."""
    if not isinstance(t, Tensor):
        raise Unsupported(f"its outputs and its state must be tensors, got {type(t).__name__}")
    return trace.value(t)
