"""From a recorded step to its program: each operation in terms of the few that every writer knows."""

from __future__ import annotations

import re

from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import is_array, to_numpy
from tinygrad_rnn.compiler.cuda.elements import common_dtype
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake
from tinygrad_rnn.compiler.ir.evaluate import compute
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.ir.variables import variables
from tinygrad_rnn.compiler.passes.lower_softmax import lower_softmax
from tinygrad_rnn.compiler.passes.spell_einsum import spelled_out
from tinygrad_rnn.export.chain import own_name
from tinygrad_rnn.export.program import ELEMENTWISE, Array, Line, Program, Refused
from tinygrad_rnn.export.recorded import Recorded

DTYPES = {"float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8"}


def lower(recorded: Recorded, letters: Mapping[int, str], reserved: Collection[str] = ()) -> Program:
    """The program of a recorded step; Refused if it has an operation that no writer knows.

    letters: what sizes stand for, such as {101: "B"}  reserved: names that nothing in it may have
    """
    lower_softmax(recorded.circuit)
    spell_einsums(recorded.circuit)
    return _Lowering(recorded, letters, Names(reserved)).program()


def spell_einsums(c: Circuit) -> None:
    """Einstein sums as products and sums."""

    def visit(v: Value, new: Callable) -> Value:
        args = tuple(map(new, v.args))
        found = spelled_out(c, args, v.static["spec"]) if v.op == "einsum" else None
        return remake(c, v, args) if found is None else found

    c.rebuild(visit)


class Names:
    """Names that are identifiers in C, each given once."""

    def __init__(self, reserved: Collection[str] = ()):
        self.used = set(reserved)

    def __call__(self, wanted: str) -> str:
        """The name itself, or with a number behind it."""
        name = base = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "v"
        if base[0].isdigit():
            name = base = f"v{base}"
        n = 1
        while name in self.used:
            n += 1
            name = f"{base}_{n}"
        self.used.add(name)
        return name


class _Lowering:
    """One walk over a circuit.

    arrays  what each value is in the program
    known   the numbers of values that hang on weights alone: they are computed here and now
    """

    def __init__(self, recorded: Recorded, letters: Mapping[int, str], names: Names):
        self.circuit, self.letters, self.names, self.fields = recorded.circuit, letters, names, Names(names.used)
        self.captured = list(zip(self.circuit.captured, recorded.captured, strict=True))
        self.called = variables(self.circuit.order())
        self.arrays: dict[Value, Array] = {}
        self.known: dict[Value, np.ndarray] = {}
        self.weights: dict[Array, np.ndarray] = {}
        self.lines: list[Line] = []

    def program(self) -> Program:
        """The program of the circuit."""
        c = self.circuit
        x, states = self._input(c.x, "x"), [self._input(s, f"state.{s.name}") for s in c.states]
        kept = [(a, v) for v, a in self.captured if isinstance(a, int)]
        given = [self._input(v, f"state.{v.name}") for _, v in sorted(kept, key=itemgetter(0))]
        self.known |= {v: a for v, a in self.captured if not isinstance(a, int)}
        for v in c.order():
            if v.op != "input":
                self._lower(v)
        outputs, new = ([self.array(v) for v in c.roots[name]] for name in ("y", "state"))
        return Program(x, states, given, self.weights, self.lines, outputs, new)

    def _input(self, v: Value, name: str) -> Array:
        """What comes from outside; a leaf of the state is called state.h, which no variable is."""
        first, _, rest = name.partition(".")
        rest = "h" if rest == "state" else rest.removeprefix("state").removeprefix("_")
        name = f"state.{self.fields(rest)}" if rest else self.names(first)
        self.arrays[v] = found = Array(name, self._shape(v), v.dtype)
        return found

    def _shape(self, v: Value) -> tuple[Any, ...]:
        return tuple(self.letters.get(n, n) for n in v.shape)

    def _lower(self, v: Value) -> None:
        if not v.several and all(a in self.known for a in v.values):
            self.known[v] = np.asarray(compute(v, [self.known[a] if isinstance(a, Value) else a for a in v.args]))
            return
        lowered = OPERATIONS.get(v.op, _elementwise if v.pointwise else None)
        if v.several or lowered is None or v.dtype.name not in DTYPES:
            raise Refused(v)
        self.arrays[v] = lowered(self, v)

    # ---- what operations are made of ----

    def array(self, a: Any) -> Any:
        """An argument: the array that a value is, or a number."""
        if not isinstance(a, Value):
            return a
        if a not in self.arrays:
            self.arrays[a] = self._weight(a, self.known[a])
        return self.arrays[a]

    def _weight(self, v: Value, numbers: np.ndarray) -> Array:
        """Numbers that are known; as one row where they are the same for each sequence of a batch."""
        for axis, n in enumerate(v.shape):
            if n in self.letters:
                one = numbers.take([0], axis)
                if not (numbers == one).all():
                    raise Refused(v, f"differs along {self.letters[n]}, of which a call may have any number")
                numbers = one
        dtype = v.dtype
        if dtype.name not in DTYPES:
            raise Refused(v, f"is {dtype}, which has no form in an exported file")
        found = Array(self.names(self._name(v)), numbers.shape, dtype)
        self.weights[found] = np.ascontiguousarray(numbers, dtype).reshape(numbers.shape)
        return found if numbers.shape == v.shape else self.line(v, "broadcast", [found])

    def _name(self, v: Value) -> str:
        """What the code calls it; of a part of a weight, as the weight."""
        if v in self.called or v.op == "input":
            return self.called.get(v) or own_name(v.name)
        sources = [u for u in self.circuit.order([v]) if u.op == "input"]
        return own_name(sources[0].name) if len(sources) == 1 and sources[0] in self.known else f"v{len(self.lines)}"

    def line(
        self, v: Value, op: str, args: Sequence[Any], shape: Sequence[Any] | None = None, within: Any = None,
        **options: Any,
    ) -> Array:  # fmt: skip
        """Add a statement; what it computes has the shape of v if no other is given."""
        final = shape is None
        shape = self._shape(v) if shape is None else tuple(self.letters.get(n, n) for n in shape)
        name = self.called.get(v) if final else None
        to = Array(self.names(name or f"v{len(self.lines)}"), shape, v.dtype)
        self.lines.append(Line(to, op, tuple(args), options, within or v.dtype, v))
        return to

    def sized(self, v: Value, x: Array, of: Value, keys: Sequence[tuple[int, int, int]], final: bool) -> Array:
        """x at (first, how many, step) along each axis. of: the value that x is  final: is that v?"""
        if all(key == (0, n, 1) for key, n in zip(keys, of.shape, strict=True)):
            return x
        shape = [n for _, n, _ in keys]
        return self.line(v, "slice", [x], None if final else shape, keys=[(a, step) for a, _, step in keys])


# ---- the operations -------------------------------------------------------------------------------------------------


def _elementwise(to: _Lowering, v: Value) -> Array:
    return to.line(v, v.op, [to.array(a) for a in v.args], within=common_dtype(v), **v.static)


def _same(to: _Lowering, v: Value) -> Array:
    return to.array(v.args[0])


def _plainly(op: str) -> Callable[[_Lowering, Value], Array]:
    """An operation as it is, by the name that programs have for it."""

    def lowered(to: _Lowering, v: Value) -> Array:
        static = {k: x for k, x in v.static.items() if k != "shape"}
        return to.line(v, op, [to.array(a) for a in v.args], **static)

    return lowered


def _matmul(to: _Lowering, v: Value) -> Array:
    if min(len(a.shape) for a in v.values) < 2 or len(v.values) < 2:
        raise Refused(v, "must be of two matrices; give a vector an axis by unsqueeze")
    return to.line(v, "matmul", [to.array(a) for a in v.args], within=np.result_type(*(a.dtype for a in v.values)))


def _argmax(to: _Lowering, v: Value) -> Array:
    if v.static["axis"] is None:
        raise Refused(v, "must have an axis")
    return _plainly("argmax")(to, v)


def _stack(to: _Lowering, v: Value) -> Array:
    axis = v.static["axis"] % len(v.shape)
    shape = [1 if i == axis else n for i, n in enumerate(v.shape)]
    return to.line(v, "join", [to.line(v, "reshape", [to.array(a)], shape) for a in v.args], axis=axis)


def _join(to: _Lowering, v: Value) -> Array:
    axis = v.static.get("axis", -1) % len(v.shape)
    return to.line(v, "join", [to.array(a) for a in v.args], axis=axis)


def _pad(to: _Lowering, v: Value) -> Array:
    x, shape, pads = to.array(v.args[0]), list(v.args[0].shape), list(enumerate(v.static["widths"]))
    pads = [(axis, widths) for axis, widths in pads if any(widths)]
    for axis, widths in pads:
        filled = [to.line(v, "filled", [], [*shape[:axis], n, *shape[axis + 1 :]], value=v.static["value"])
                  for n in widths]  # fmt: skip
        shape[axis] += sum(widths)
        parts = [part for part, n in ((filled[0], widths[0]), (x, 1), (filled[1], widths[1])) if n]
        x = to.line(v, "join", parts, None if axis == pads[-1][0] else shape, axis=axis)
    return x


def _flip(to: _Lowering, v: Value) -> Array:
    keys = [(n - 1, n, -1) if i in v.static["axis"] else (0, n, 1) for i, n in enumerate(v.shape)]
    return to.sized(v, to.array(v.args[0]), v.args[0], keys, True)


def _part(to: _Lowering, v: Value) -> Array:
    keys = [(0, n, 1) for n in v.args[0].shape]
    keys[v.static["axis"]] = (v.static["lo"], v.static["hi"] - v.static["lo"], 1)
    return to.sized(v, to.array(v.args[0]), v.args[0], keys, True)


def _getitem(to: _Lowering, v: Value) -> Array:
    """By numbers, slices, None and …; by one array of integers; by all that take_along_axis makes of an index."""
    x: Value = v.args[0]
    key = v.static["key"]
    parts = _without_dots(key if isinstance(key, tuple) else (key,), len(x.shape))
    if any(is_array(k) and k.ndim for k in parts):
        return _at(to, v, parts, [to_numpy(k) for k in parts if is_array(k)])
    axes, keys, dropped = iter(x.shape), [], False
    for k in parts:
        if k is None:
            dropped = True
            continue
        n = next(axes)
        dropped |= not isinstance(k, slice)
        r = range(n)[k] if isinstance(k, slice) else range(int(k) % n, int(k) % n + 1)
        keys.append((r.start, len(r), r.step))
    found = to.sized(v, to.array(x), x, keys, not dropped)
    return to.line(v, "reshape", [found]) if dropped else found


def _without_dots(key: Sequence[Any], ndim: int) -> list[Any]:
    """A key with a part for each axis, and None for new ones."""
    rest = ndim - sum(k is not None and k is not Ellipsis for k in key)
    where = next((i for i, k in enumerate(key) if k is Ellipsis), len(key))
    return [*key[:where], *[slice(None)] * rest, *key[where + 1 :]]


def _gather(to: _Lowering, v: Value) -> Array:
    places = iter(v.args[1:])
    parts = [next(places) if isinstance(k, str) else k for k in v.static["key"]]
    return _at(to, v, _without_dots(parts, len(v.args[0].shape)), list(v.args[1:]))


def _at(to: _Lowering, v: Value, parts: list[Any], indices: list[Any]) -> Array:
    """x[parts] where some of them are indices: one beside full slices, or take_along_axis.

    An operation that has a name, as embedding, takes no index that counts from the end: those are its ids.
    """
    x = to.array(v.args[0])
    if len(parts) == len(x.shape) == len(v.shape) and all(not isinstance(k, slice) for k in parts):
        others = [i for i, k in enumerate(parts) if not _is_range(k, i, len(parts))]
        if len(others) == 1 and len(np.shape(parts[others[0]])) == len(parts):
            return to.line(v, "pick", [x, _index(to, v, parts[others[0]], others[0])], axis=others[0])
    axes = [i for i, k in enumerate(parts) if not (isinstance(k, slice) and k == slice(None))]
    if len(axes) != 1 or len(indices) != 1 or indices[0].dtype.kind == "b":
        raise Refused(v, "takes items by several indices, or by a mask, which has no form in an exported file")
    ids = bool(v.static.get("who"))
    return to.line(v, "take", [x, _index(to, v, parts[axes[0]], axes[0])], axis=axes[0], ids=ids)


def _is_range(k: Any, axis: int, ndim: int) -> bool:
    """Does an array say 0, 1, 2 … along an axis?"""
    shape = tuple(-1 if i == axis else 1 for i in range(ndim))
    return is_array(k) and k.ndim == ndim and np.array_equal(to_numpy(k), np.arange(k.size).reshape(shape))


def _index(to: _Lowering, v: Value, k: Any, axis: int) -> Array:
    """An index as an array of the program: one that is computed, or a constant one, which never counts from the end."""
    if isinstance(k, Value):
        return to.array(k)
    numbers = to_numpy(k).astype(np.int64)
    found = Array(to.names("index"), numbers.shape, numbers.dtype)
    to.weights[found] = np.where(numbers < 0, numbers + v.args[0].shape[axis], numbers)
    return found


def _zeros(to: _Lowering, v: Value) -> Array:
    return to.line(v, "filled", [], value=0)


OPERATIONS: dict[str, Callable[[_Lowering, Value], Array]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **{op: _plainly(op) for op in ("sum", "max", "min", "reshape", "permute")},
    "detach": _same, "copy": _same, "matmul": _matmul, "argmax": _argmax, "cumsum": _plainly("running"),
    "broadcast_to": _plainly("broadcast"), "stack": _stack, "concat": _join, "pack": _join, "pad": _pad,
    "flip": _flip, "part": _part, "getitem": _getitem, "gather": _gather, "zeros": _zeros,
}  # fmt: skip
