"""Lines of a program in C: a loop nest for each, over arrays that are read wherever they lie."""

from __future__ import annotations

import ast
import itertools
import math
import re

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.compiler.cuda import elements, functions
from tinygrad_rnn.compiler.ir.formula import parsed
from tinygrad_rnn.compiler.ir.value import PRIMITIVES
from tinygrad_rnn.export.lower import Names
from tinygrad_rnn.export.program import Array, Line, Program, Refused, Shape
from tinygrad_rnn.ops.formulas import is_condition

TYPES = {
    "float32": "float", "float64": "double", "bool": "unsigned char", "int8": "int8_t", "int16": "int16_t",
    "int32": "int32_t", "int64": "int64_t", "uint8": "uint8_t",
}  # fmt: skip
LETTERS = "ijklmn"


class View(NamedTuple):
    """Where the elements of an array lie: name[offset + i * strides[0] + …]."""

    name: str
    offset: int
    shape: Shape
    strides: tuple[int, ...]

    def at(self, indices: Sequence[str]) -> str:
        """The element at some indices, which count from the last axis where there are too few axes."""
        pairs = zip(indices[len(indices) - len(self.shape) :], self.shape, self.strides, strict=True)
        terms = [_times(i, stride) for i, n, stride in pairs if n != 1 and stride and i != "0"]
        terms += [str(self.offset)] if self.offset or not terms else []
        return f"{self.name}[{' + '.join(terms)}]"


def dense(name: str, shape: Shape) -> View:
    """An array whose rows lie behind each other."""
    return View(name, 0, shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))


def _times(index: str, stride: int) -> str:
    return index if stride == 1 else f"{stride} * {f'({index})' if ' ' in index else index}"


def loop(indices: Iterable[tuple[str, Any]], body: str) -> str:
    """Loops around a statement; none for an axis of size 1."""
    heads = [f"for (int {i} = 0; {i} < {n}; {i}++) " for i, n in indices if n != 1]
    return "".join(heads) + body


class Writer:
    """The statements of a program.

    views    where each array lies
    inlined  the lines whose value is written into the one expression that reads it
    int8     the weights that are kept as int8, with how their scale is found: "rows" or "columns"
    """

    def __init__(self, program: Program, places: Mapping[Array, str], int8: Mapping[Array, str], names: Names):
        """places: how what is known is called  names: gives locals their names"""
        self.program, self.int8, self.names = program, int8, names
        self.readers = program.readers()
        self.views = {a: dense(name, a.shape) for a, name in places.items()}
        self.inlined: dict[Array, Line] = {}
        self.locals: dict[str, Array] = {}

    def statements(self) -> Iterator[tuple[str, str]]:
        """(C, the place in the user's code that it comes from) for each line that computes something."""
        for line in self.program.lines:
            if self._is_view(line):
                continue
            if self._may_be_inlined(line):
                self.inlined[line.to] = line
                continue
            self.declare(line.to)
            yield self._written(line), line.place

    def declare(self, a: Array) -> None:
        """Make a local variable, by its own name if no other one has that."""
        name = self.names(re.sub(r"_\d+$", "", a.name))
        self.locals[name] = a
        self.views[a] = dense(name, a.shape)

    def _is_view(self, line: Line) -> bool:
        """Is nothing to be done, because what the line names lies there already?"""
        if line.op not in VIEWED:
            return False
        found = VIEWED[line.op](self.views[line.args[0]], line)
        if found is not None:
            self.views[line.to] = found
        return found is not None

    def _may_be_inlined(self, line: Line) -> bool:
        """It has no name in the user's code, and one elementwise line of its shape reads it, once, also as it is
        spelt: a formula may say an argument several times."""
        readers = self.readers[line.to]
        if not line.elementwise or len(readers) != 1 or not re.fullmatch(r"v\d+(_\d+)?", line.to.name):
            return False
        reader = readers[0]
        if reader is None or not reader.elementwise or reader.to.shape != line.to.shape:
            return False
        op = reader.value.primitive or PRIMITIVES.get(reader.op)
        if op is None or op.formula is None or reader.op in ("clip", "pow", "where", "cast"):
            return True
        name = op.args[reader.args.index(line.to)]
        said = [node for node in ast.walk(parsed(op.formula)) if isinstance(node, ast.Name) and node.id == name]
        return len(said) < 2

    # ---- expressions ----

    def element(self, a: Any, indices: Sequence[str], within: np.dtype) -> str:
        """An operand at some indices, as an expression in the C type that elements of `within` are computed in."""
        if not isinstance(a, Array):
            return constant(a, within)
        found = self.computed(self.inlined[a], indices) if a in self.inlined else self.views[a].at(indices)
        return cast(found, TYPES[a.dtype.name], _real(within))

    def computed(self, line: Line, indices: Sequence[str]) -> str:
        """The element of an elementwise line, in the C type of its dtype."""
        to, within = TYPES[line.to.dtype.name], line.within
        if line.op == "cast":
            x = self.element(line.args[0], indices, line.args[0].dtype)
            return f"({x} != 0)" if line.to.dtype == bool else cast(x, _real(line.args[0].dtype), to)
        if line.op == "where":
            condition, *xs = line.args
            yes, no = (self.element(x, indices, within) for x in xs)
            return cast(f"({self._condition(condition, indices)} ? {yes} : {no})", _real(within), to)
        xs = [self.element(a, indices, within) for a in line.args]
        return self._of(line, xs, within, to)

    def _condition(self, a: Array, indices: Sequence[str]) -> str:
        return self.element(a, indices, a.dtype)

    def _of(self, line: Line, xs: list[str], within: np.dtype, to: str) -> str:
        if line.op == "clip":
            for name, function in (("min", "larger"), ("max", "smaller")):
                if line.options[name] is not None:
                    xs = [f"{function}({xs[0]}, {constant(line.options[name], within)})"]
            return cast(xs[0], _real(within), to)
        if line.op == "pow":
            _check_floats(line, within)
            return cast(functions.call(line.op, within, *xs), _real(within), to)
        op = line.value.primitive or PRIMITIVES[line.op]
        assert op.formula is not None, line
        tree = parsed(op.formula)
        if any(isinstance(node, ast.Call) for node in ast.walk(tree)):
            _check_floats(line, within)
        found = _in_c(functions.formula(tree, dict(zip(op.args, xs, strict=True)), within))
        if is_condition(tree):
            return found
        return f"({found} != 0)" if line.to.dtype == bool else cast(found, _real(within), to)  # True + True is True

    # ---- statements ----

    def _written(self, line: Line) -> str:
        if line.elementwise:
            axes = axes_of(line.to.shape)
            return loop(axes, f"{self.to(line, axes)} = {stripped(self.computed(line, letters(axes)))};")
        return WRITTEN[line.op](self, line)

    def to(self, line: Line, axes: Sequence[tuple[str, Any]]) -> str:
        return self.views[line.to].at(letters(axes))

    def lying(self, a: Array) -> View:
        """Where an operand lies."""
        return self.views[a]


def axes_of(shape: Shape, first: int = 0) -> list[tuple[str, Any]]:
    """A letter for each axis, with its size."""
    used = itertools.chain(LETTERS[first:], (f"i{n}" for n in itertools.count(len(LETTERS))))
    return [(next(used) if n != 1 else "0", n) for n in shape]


def letters(axes: Iterable[tuple[str, Any]]) -> list[str]:
    """The indices of axes."""
    return [i for i, _ in axes]


def cast(x: str, kind: str, wanted: str) -> str:
    """An expression of one C type as one of another."""
    return x if kind == wanted or (kind, wanted) == ("int", "unsigned char") else f"({wanted})({stripped(x)})"


def stripped(x: str) -> str:
    """An expression without parentheses around all of it."""
    if not (x.startswith("(") and x.endswith(")")):
        return x
    depth = 0
    for i, letter in enumerate(x):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return x[1:-1] if i == len(x) - 1 else x
    return x


def _real(dtype: Any) -> str:
    """The C type in which elements of a dtype are computed."""
    return {"bool": "int", "int64": "int64_t"}.get(np.dtype(dtype).name, functions.real(dtype))


def constant(value: Any, dtype: Any) -> str:
    """A number of Python's beside operands of a dtype."""
    return _in_c(elements.constant(value, np.dtype(dtype)))


def _in_c(code: str) -> str:
    """An expression whose integers are spelt for C++, int(1LL), in C; and numbers without parentheses."""
    code = re.sub(r"\((?:int|i64|u32|u64)\((-?\d+)LL\)\)", r"\1", code)
    return re.sub(r"(?<!\w)\(([\d.]+(?:e[+-]?\d+)?f?)\)", r"\1", code)


def _check_floats(line: Line, dtype: np.dtype) -> None:
    if dtype.kind != "f":
        raise Refused(line.value, "of integers has no form in C; make them floating-point numbers first")


# ---- views ----------------------------------------------------------------------------------------------------------


def _reshaped(x: View, line: Line) -> View | None:
    """Only what lies dense can be read in another shape."""
    if x.strides == dense("", x.shape).strides or max((n for n in x.shape), default=1) == 1:
        return dense(x.name, line.to.shape)._replace(offset=x.offset)
    wide = [(n, s) for n, s in zip(x.shape, x.strides, strict=True) if n != 1]
    if [n for n, _ in wide] != [n for n in line.to.shape if n != 1]:
        return None
    strides = iter([s for _, s in wide])
    return x._replace(shape=line.to.shape, strides=tuple(0 if n == 1 else next(strides) for n in line.to.shape))


def _permuted(x: View, line: Line) -> View:
    axes = line.options["axes"]
    return x._replace(shape=line.to.shape, strides=tuple(x.strides[i] for i in axes))


def _broadcast(x: View, line: Line) -> View:
    shape, new = line.to.shape, len(line.to.shape) - len(x.shape)
    strides = [0] * new + [0 if n == 1 else s for n, s in zip(x.shape, x.strides, strict=True)]
    return x._replace(shape=shape, strides=tuple(strides))


def _sliced(x: View, line: Line) -> View:
    keys = line.options["keys"]
    offset = x.offset + sum(start * s for (start, _), s in zip(keys, x.strides, strict=True))
    return View(x.name, offset, line.to.shape, tuple(s * step for (_, step), s in zip(keys, x.strides, strict=True)))


VIEWED = {"reshape": _reshaped, "permute": _permuted, "broadcast": _broadcast, "slice": _sliced}


# ---- what has loops of its own ---------------------------------------------------------------------------------------


def _matmul(w: Writer, line: Line) -> str:
    """y = Σ x[k] W[k]: row by row of W, as it lies."""
    a, b = line.arrays
    *batch, M, N = line.to.shape
    K, p, q = a.shape[-1], w.lying(a), w.lying(b)
    outer = [(f"b{n}" if size != 1 else "0", size) for n, size in enumerate(batch)] + [("i" if M != 1 else "0", M)]
    rows = letters(outer)
    j, k = "0" if N == 1 else "j", "0" if K == 1 else "k"
    to = w.views[line.to].at([*rows, j])
    x, m = p.at([*rows, k]), q.at([*rows[:-1], k, j])
    type_ = TYPES[line.to.dtype.name]
    lines = [
        loop([(j, N)], f"{to} = 0;"),
        loop([(k, K), (j, N)], f"{to} += {cast(x, TYPES[a.dtype.name], type_)} * {m};"),
    ]
    if b in w.int8:
        lines.append(loop([(j, N)], f"{to} *= {q.name}_scale[{q._replace(name='', offset=0).at(['0', j])[1:-1]}];"))
    return _block(outer, lines)


def _block(outer: Sequence[tuple[str, Any]], lines: Sequence[str]) -> str:
    """Statements in common loops."""
    if all(n == 1 for _, n in outer):
        return "\n".join(lines)
    return loop(outer, "{\n" + "\n".join(f"  {line}" for line in lines) + "\n}")


def _reduced(w: Writer, line: Line) -> str:
    x, (axis, start, step) = line.args[0], _reduction(line)
    axes = axes_of(x.shape)
    inner = [pair for i, pair in enumerate(axes) if i in axis]
    outer = [pair for i, pair in enumerate(axes) if i not in axis]
    kept = [("0", 1) if i in axis else pair for i, pair in enumerate(axes)]
    to = w.views[line.to].at(letters(kept if line.options["keepdims"] else outer))
    element = cast(w.lying(x).at(letters(axes)), TYPES[x.dtype.name], TYPES[line.to.dtype.name])
    return _block(outer, [f"{to} = {start};", loop(inner, step.format(y=to, x=element))])


def _reduction(line: Line) -> tuple[tuple[int, ...], str, str]:
    """Its axes, what it starts with, and what it does with an element."""
    if line.op == "sum":
        return line.options["axis"], "0", "{y} += {x};"
    _check_floats(line, line.to.dtype)
    sign, function = ("-", "larger") if line.op == "max" else ("", "smaller")
    return line.options["axis"], f"{sign}INFINITY", f"{{y}} = {function}({{y}}, {{x}});"


def _argmax(w: Writer, line: Line) -> str:
    x, axis = line.args[0], line.options["axis"] % len(line.args[0].shape)
    axes = axes_of(x.shape)
    outer = [pair for i, pair in enumerate(axes) if i != axis]
    kept = [("0", 1) if i == axis else pair for i, pair in enumerate(axes)]
    to = w.views[line.to].at(letters(kept if line.options["keepdims"] else outer))
    best = letters(axes)
    best[axis] = to
    here, there = w.lying(x).at(letters(axes)), w.lying(x).at(best)
    return _block(outer, [f"{to} = 0;", loop([axes[axis]], f"if ({here} > {there}) {to} = {axes[axis][0]};")])


def _running(w: Writer, line: Line) -> str:
    axis, axes = line.options["axis"] % len(line.to.shape), axes_of(line.to.shape)
    outer = [pair for i, pair in enumerate(axes) if i != axis]
    t, n = axes[axis]
    before = letters(axes)
    before[axis] = f"{t} - 1"
    to, x = w.views[line.to].at(letters(axes)), w.lying(line.args[0]).at(letters(axes))
    if n == 1:
        return loop(outer, f"{to} = {x};")
    return loop([*outer, (t, n)], f"{to} = {x} + ({t} ? {w.views[line.to].at(before)} : 0);")


def _joined(w: Writer, line: Line) -> str:
    lines, at = [], 0
    axis = line.options["axis"]
    for a in line.arrays:
        axes = axes_of(a.shape)
        to = w.views[line.to]
        to = to._replace(offset=at * to.strides[axis], shape=a.shape)
        x = cast(w.lying(a).at(letters(axes)), TYPES[a.dtype.name], TYPES[line.to.dtype.name])
        lines.append(loop(axes, f"{to.at(letters(axes))} = {x};"))
        at += a.shape[axis]
    return "\n".join(lines)


def _taken(w: Writer, line: Line) -> str:
    """x[…, index, …], by a loop over what comes out."""
    x, index = line.arrays
    axis, n = line.options["axis"], len(index.shape)
    axes = axes_of(line.to.shape)
    place = w.lying(index).at(letters(axes[axis : axis + n]))
    place = place if line.options["ids"] else _place(place, index, x.shape[axis])
    indices = [*letters(axes[:axis]), place, *letters(axes[axis + n :])]
    scale = f" * {w.lying(x).name}_scale[{place}]" if x in w.int8 else ""
    return loop(axes, f"{w.views[line.to].at(letters(axes))} = {_element_of(w.lying(x), indices, axis)}{scale};")


def _picked(w: Writer, line: Line) -> str:
    x, index = line.arrays
    axis, axes = line.options["axis"], axes_of(line.to.shape)
    indices = letters(axes)
    indices[axis] = _place(w.lying(index).at(letters(axes)), index, x.shape[axis])
    return loop(axes, f"{w.views[line.to].at(letters(axes))} = {_element_of(w.lying(x), indices, axis)};")


def _place(element: str, index: Array, n: int) -> str:
    """An index that may count from the end."""
    return f"wrapped({element}, {n})" if index.dtype.kind == "i" else element


def _element_of(x: View, indices: list[str], axis: int) -> str:
    """x at indices; the one along an axis is there even where that axis has one place."""
    return x.at(
        ["0" if n == 1 and i == axis else each for i, (each, n) in enumerate(zip(indices, x.shape, strict=True))]
    )


def _filled(w: Writer, line: Line) -> str:
    axes = axes_of(line.to.shape)
    return loop(axes, f"{w.to(line, axes)} = {constant(line.options['value'], line.to.dtype)};")


def _copied(w: Writer, line: Line) -> str:
    """A reshape of what does not lie dense: element by element, in its own order."""
    x = line.args[0]
    axes = axes_of(x.shape)
    to = dense(w.views[line.to].name, x.shape)
    return loop(axes, f"{to.at(letters(axes))} = {w.lying(x).at(letters(axes))};")


WRITTEN: dict[str, Any] = {
    "matmul": _matmul, **dict.fromkeys(("sum", "max", "min"), _reduced), "argmax": _argmax, "running": _running,
    "join": _joined, "take": _taken, "pick": _picked, "filled": _filled, "reshape": _copied,
}  # fmt: skip
