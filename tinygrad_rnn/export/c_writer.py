"""A program in C99: one file, no allocation, nothing but the standard library."""

from __future__ import annotations

import ast
import os
import re

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.formula import parsed
from tinygrad_rnn.compiler.ir.value import PRIMITIVES
from tinygrad_rnn.export.lowering import lower
from tinygrad_rnn.export.program import Alias, Apply, Array, Compute, Expression, Product, Program, Reduce, View
from tinygrad_rnn.export.step import recorded
from tinygrad_rnn.files import write_atomically

LIBRARY = {"abs": "fabsf", "pow": "powf", **{n: f"{n}f" for n in ("erf", "exp", "log", "log1p", "sqrt", "tanh")}}
OWN = {"fmax": "larger", "fmin": "smaller", "sign": "signum"}  # C's own fmaxf loses NaN
HELPERS = {
    "larger": "static float larger(float a, float b) { return a > b || a != a ? a : b; }",
    "smaller": "static float smaller(float a, float b) { return a < b || a != a ? a : b; }",
    "signum": "static float signum(float x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : x; }",
}
INFIX = {
    "add": "+", "sub": "-", "mul": "*", "div": "/", "greater": ">", "greater_equal": ">=", "less": "<",
    "less_equal": "<=", "equal": "==", "not_equal": "!=",
}  # fmt: skip
SIGNS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.BitAnd: "&&", ast.BitOr: "||",
    ast.Gt: ">", ast.GtE: ">=", ast.Lt: "<", ast.LtE: "<=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
RESERVED = {*re.findall(r"\S+", """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while main
    x y id state j k n0 n1 n2 n3 k0 k1 k2 k3 got EOF NAN INFINITY stdin stdout stderr printf fprintf scanf memset memcpy
    putchar fflush exit free malloc index time signal div abs exp log sqrt tanh sinh cosh sin cos tan pow fabs erf gamma
    lgamma tgamma floor ceil round trunc fmax fmin y0 y1 yn j0 j1 jn
""")}  # fmt: skip


def c(module: Any, file: str | os.PathLike, *, example: Any = None) -> None:
    """Write one step of a recurrent model as C99: float32, one sequence, no allocation.

    module: a cell, an `nn.Recurrent`, a list [nn.Embedding,] one of these [, nn.Linear], or a module with
    `step(x, state)` and `initial_state(batch_size)`, as a language model is
    file: NAME.c  example: x of one step, (1, I) numbers or (1,) of an id, where the module does not say how large it is

    The file has `NAME_state`, `NAME_reset(state)`, which makes it the initial one, `NAME_step(state, x, y)` with x
    `const float *` or an `int`, and, unless `NAME_NO_MAIN` is defined, a `main` that reads the numbers of a step, or
    ids, from standard input and prints a line of outputs for each. Weights of other dtypes become float.

    ValueError for a step that cannot be recorded, draws random numbers, or has an operation without a form in C, with
    its line; TypeError for what is no model.
    """
    path = Path(file)
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    name = name if re.match(r"[A-Za-z_]", name) and name not in RESERVED else f"model_{name}"
    taken = {*RESERVED, *LIBRARY.values(), *HELPERS, *(f"{op}_of" for op in PRIMITIVES)}
    taken |= {*(f"{name}_{s}" for s in ("state", "reset", "step", "NO_MAIN"))}
    write_atomically(path, Writer(name, lower("export.c", recorded("export.c", module, example), taken)).text())


class Writer:
    """Spells a program. helpers: the functions that it has used, by their names"""

    def __init__(self, name: str, program: Program):
        self.name, self.program = name, program
        self.helpers: dict[str, str] = {}

    def text(self) -> str:
        """The file."""
        step = list(self._step())
        weights = [line for a in self.program.weights for line in _weight(a)]
        used = [text for name, text in self.helpers.items() if text]
        parts = [
            [f"/* {self.name}: one step of a recurrent model, written by tinygrad_rnn. cc -std=c99 -O2 … -lm */"],
            ["#include <math.h>", "#include <stdio.h>", "#include <string.h>"],
            weights,
            ["typedef struct {", *(f"    float {_member(a)}[{a.size}];" for a in self.program.states),
             *([] if self.program.states else ["    char none;"]), f"}} {self.name}_state;"],
            used, list(self._reset()), step, list(self._main()),
        ]  # fmt: skip
        return "\n\n".join("\n".join(part) for part in parts if part) + "\n"

    # ---- functions --------------------------------------------------------------------------------------------------

    def _reset(self) -> Iterator[str]:
        yield f"void {self.name}_reset({self.name}_state *state) {{"
        yield "    memset(state, 0, sizeof *state);"
        for a in self.program.states:
            assert a.values is not None
            if a.values.any():
                yield f"    static const float {_member(a)}[{a.size}] = {{{_numbers(a.values.ravel())}}};"
                yield f"    memcpy({a.name}, {_member(a)}, sizeof {_member(a)});"
        yield "}"

    def _step(self) -> Iterator[str]:
        x = "const float *x" if self.program.x else "int id"
        yield f"void {self.name}_step({self.name}_state *state, {x}, float *y) {{"
        notes = ["", *(s.note for s in self.program.step)]
        body = [line for s, told in zip(self.program.step, notes, strict=False) for line in self._statement(s, told)]
        if self.program.x and not any(re.search(r"\bx\b", re.sub(r"/\*.*?\*/", "", line)) for line in body):
            yield "    (void)x;"
        yield from (f"    float {a.name}[{a.size}];" for a in self.program.locals)
        yield from (f"    {line}" for line in body)
        yield "}"

    def _main(self) -> Iterator[str]:
        p, name = self.program, self.name
        read = _reads_numbers(p.x.size) if p.x else _reads_ids(p.ids)
        yield f"#ifndef {name}_NO_MAIN"
        yield "int main(void) {"
        yield f"    {name}_state state;"
        yield f"    float {f'x[{p.x.size}], ' if p.x else ''}y[{p.y.size}];"
        yield f"    {name}_reset(&state);"
        yield from read
        yield f"        {name}_step(&state, {'x' if p.x else 'id'}, y);"
        yield f'        for (int j = 0; j < {p.y.size}; j++) printf(j ? " %.9g" : "%.9g", (double)y[j]);'
        yield "        putchar('\\n');"
        yield "        fflush(stdout);"
        yield "    }"
        yield "}"
        yield "#endif"

    # ---- statements -------------------------------------------------------------------------------------------------

    def _statement(self, s: Any, told: str) -> Iterator[str]:
        writers: dict[Any, Any] = {Compute: self._compute, Product: self._product, Reduce: self._reduce}
        lines = writers.get(type(s), self._alias)(s)
        note = s.note.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
        yield from ([f"/* {note} */"] if s.note not in ("", told) else [])
        yield from lines

    def _compute(self, s: Compute) -> list[str]:
        loops, at = _loops(s.target.shape)
        return [f"{loops}{_element(s.target, at)} = {_bare(self._spelt(s.value, s.target.shape, at))};"]

    def _product(self, s: Product) -> list[str]:
        (M, K), N = s.a.shape, s.b.shape[1]
        rows, (i, j) = _loops((M, N))
        add = f"{_element(s.target, [i, j])} += {_element(s.a, [i, 'k'])} * {_element(s.b, ['k', j])};"
        outer, inner = _loop(i, M), _loop(j, N)
        return [f"{rows}{_element(s.target, [i, j])} = 0;", f"{outer}{_loop('k', K, always=True)}{inner}{add}"]

    def _reduce(self, s: Reduce) -> list[str]:
        outer, at = _loops(s.target.shape)
        summed = [f"k{d}" if n != t else a for d, (n, t, a) in enumerate(zip(s.shape, s.target.shape, at, strict=True))]
        inner = "".join(_loop(k, n) for k, n in zip(summed, s.shape, strict=True) if k.startswith("k"))
        value, target = self._spelt(s.value, s.shape, summed), _element(s.target, at)
        if s.op == "sum":
            return [f"{outer}{target} = 0;", f"{outer}{inner}{target} += {_bare(value)};"]
        function = self._helper({"max": "larger", "min": "smaller"}[s.op])
        first = "-INFINITY" if s.op == "max" else "INFINITY"
        return [f"{outer}{target} = {first};", f"{outer}{inner}{target} = {function}({_bare(value)}, {target});"]

    def _alias(self, s: Alias) -> list[str]:
        return [f"const float *{s.array.name} = {s.of.array.name}{f' + {s.of.offset}' if s.of.offset else ''};"]

    # ---- expressions ------------------------------------------------------------------------------------------------

    def _spelt(self, e: Expression, shape: tuple[int, ...], at: Sequence[str]) -> str:
        if isinstance(e, View):
            return _element(e.broadcast(shape), at)
        if not isinstance(e, Apply):
            return _number(e)
        args = [self._spelt(a, shape, at) for a in e.args]
        if e.op in INFIX:
            left, right = (
                _bare(a) if _binds(e, x, i) else a for i, (a, x) in enumerate(zip(args, e.args, strict=True))
            )
            return f"({left} {INFIX[e.op]} {right})"
        if e.op == "where":
            return f"({args[0]} != 0 ? {args[1]} : {args[2]})"
        if e.op == "clip":
            low, high = e.static["min"], e.static["max"]
            inner = args[0] if low is None else f"{self._helper('larger')}({_bare(args[0])}, {_number(low)})"
            return inner if high is None else f"{self._helper('smaller')}({_bare(inner)}, {_number(high)})"
        if e.op in ("cast", "detach"):
            return args[0]
        return f"(-{args[0]})" if e.op == "neg" else f"{self._function(e)}({', '.join(map(_bare, args))})"

    def _function(self, e: Apply) -> str:
        """The name of a function that computes an operation: the library's, or one made of its formula."""
        if e.op in LIBRARY or e.formula is None:
            return LIBRARY[e.op]
        if e.op not in self.helpers:
            tree = parsed(e.formula)
            names = [n for n in compile(e.formula, e.op, "eval").co_names if n not in {*LIBRARY, *OWN}]
            body = _bare(self._formula(tree))
            given = ", ".join(f"float {n}" for n in names)
            self.helpers[e.op] = f"static float {e.op}_of({given}) {{ return {body}; }}"
        return f"{e.op}_of"

    def _formula(self, tree: Any) -> str:
        if isinstance(tree, ast.Name):
            return tree.id
        if isinstance(tree, ast.Constant):
            return _number(tree.value)
        if isinstance(tree, ast.UnaryOp):
            return f"(-{self._formula(tree.operand)})"
        if isinstance(tree, ast.Call):
            assert isinstance(tree.func, ast.Name)
            name = LIBRARY.get(tree.func.id) or self._helper(OWN[tree.func.id])
            return f"{name}({', '.join(_bare(self._formula(a)) for a in tree.args)})"
        left, right = (tree.left, tree.comparators[0]) if isinstance(tree, ast.Compare) else (tree.left, tree.right)
        sign = SIGNS[type(tree.ops[0] if isinstance(tree, ast.Compare) else tree.op)]
        return f"({self._formula(left)} {sign} {self._formula(right)})"

    def _helper(self, name: str) -> str:
        self.helpers.setdefault(name, HELPERS[name])
        return name


def _reads_numbers(n: int) -> Iterator[str]:
    yield "    for (;;) {"
    yield f"        for (int j = 0; j < {n}; j++) {{"
    yield '            int got = scanf("%f", x + j);'
    yield "            if (got == EOF && j == 0) return 0;"
    yield "            if (got != 1) {"
    yield f'                fprintf(stderr, "a step must be {n} numbers\\n");'
    yield "                return 1;"
    yield "            }"
    yield "        }"


def _reads_ids(n: int) -> Iterator[str]:
    yield "    for (;;) {"
    yield "        int id;"
    yield '        int got = scanf("%d", &id);'
    yield "        if (got == EOF) return 0;"
    yield f"        if (got != 1 || id < 0 || id >= {n}) {{"
    yield f'            fprintf(stderr, "an id must be from 0 to {n - 1}\\n");'
    yield "            return 1;"
    yield "        }"


def _weight(a: Array) -> list[str]:
    """A weight, eight numbers a line."""
    assert a.values is not None
    flat = a.values.ravel()
    rows = [f"    {_numbers(flat[i : i + 8])}," for i in range(0, a.size, 8)]
    return [f"static const float {a.name}[{a.size}] = {{", *rows, "};"]


def _member(a: Array) -> str:
    return a.name.removeprefix("state->")


def _numbers(values: np.ndarray) -> str:
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if np.isfinite(rounded).all():
        return ", ".join([f"{v!s}f" for v in rounded])
    return ", ".join(map(_number, values))


def _number(value: Any) -> str:
    """A literal of float."""
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    if np.isfinite(rounded):
        return f"{rounded!s}f" if rounded >= 0 else f"({rounded!s}f)"
    return "NAN" if np.isnan(rounded) else "INFINITY" if rounded > 0 else "(-INFINITY)"


def _bare(text: str) -> str:
    """Without parentheses around all of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for i, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if not depth:
            return text[1:-1] if i == len(text) - 1 else text
    return text


def _binds(e: Apply, operand: Expression, place: int) -> bool:
    """Does an operand of + - * / need no parentheses? It binds tighter; at the left (place 0), as much."""
    levels = {"add": 1, "sub": 1, "mul": 2, "div": 2}
    inner = levels.get(operand.op, 0) if isinstance(operand, Apply) else 0
    return e.op in levels and inner >= levels[e.op] + place


def _loop(variable: str, n: int, always: bool = False) -> str:
    return f"for (int {variable} = 0; {variable} < {n}; {variable}++) " if n != 1 or always else ""


def _loops(shape: tuple[int, ...]) -> tuple[str, list[str]]:
    """The heads of loops over a shape, and the variable of each axis; axes of size 1 have none."""
    long = [d for d, n in enumerate(shape) if n != 1]
    names = ["j" if len(long) == 1 else f"n{long.index(d)}" if d in long else "0" for d in range(len(shape))]
    names = [name if d in long else "0" for d, name in enumerate(names)]
    return "".join(_loop(name, n) for name, n in zip(names, shape, strict=True)), names


def _element(view: View, at: Sequence[str]) -> str:
    """The element of a view at these loop variables."""
    steps = zip(at, view.strides, view.shape, strict=True)
    terms = [f"id * {view.per_id}"] if view.per_id else []
    terms += [i if s == 1 else f"{s} * {i}" for i, s, n in steps if s and n != 1 and i != "0"]
    terms = ([str(view.offset)] if view.offset or not terms else []) + terms
    return f"{view.array.name}[{' + '.join(terms)}]"
