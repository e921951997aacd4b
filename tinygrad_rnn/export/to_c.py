"""One step of a recurrent model as a file of C99, which allocates nothing and needs no library but the C one."""

from __future__ import annotations

import re

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.export import c_main
from tinygrad_rnn.export.c_code import TYPES, Writer, axes_of, dense, letters, loop
from tinygrad_rnn.export.chain import Chain, modules_of, sequence_of
from tinygrad_rnn.export.lower import Names, lower
from tinygrad_rnn.export.program import Array, Program
from tinygrad_rnn.export.recorded import record
from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.nn.module import in_evaluation

WORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long "
    "register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while "
    "main state output cos erf exp expm1 floor fmod log log1p pow rint sin sqrt tanh fabs cosf erff expf expm1f "
    "floorf fmodf logf log1pf powf rintf sinf sqrtf tanhf fabsf larger smaller sign_of wrapped INFINITY i j k l m n "
    "b0 b1 b2 b3 y0 y1 yn j0 j1 jn gamma index linux unix NAN stdin stdout stderr NULL EOF size_t "
    # what else the headers have
    "abort abs acos acosh asin asinh assert atan atan2 atanh atexit atof atoi atol atoll bsearch calloc cbrt ceil "
    "clearerr copysign cosh div erfc exit exp2 fclose fdim feof ferror fflush fgetc fgetpos fgets fma fmax fmin fopen "
    "fpclassify fprintf fputc fputs fread free freopen frexp fscanf fseek fsetpos ftell fwrite getc getchar getenv "
    "gets hypot ilogb imaxabs imaxdiv isfinite isinf isnan isnormal labs ldexp ldiv lgamma llabs lldiv llrint llround "
    "log10 log2 logb lrint lround malloc mblen mbtowc memchr memcmp memcpy memmove memset modf nan nearbyint "
    "nextafter perror printf putc putchar puts qsort raise rand realloc remainder remove remquo rename rewind round "
    "scalbn scanf setbuf setvbuf signbit sinh snprintf sprintf srand sscanf strcat strchr strcmp strcoll strcpy "
    "strcspn strerror strlen strncat strncmp strncpy strpbrk strrchr strspn strstr strtod strtof strtok strtol strtoll "
    "strtoul system tanh tgamma tmpfile tmpnam trunc ungetc vprintf wctomb "
    "int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t intmax_t uintmax_t"
)  # fmt: skip
FUNCTIONS = """\
static inline REAL larger(REAL a, REAL b) { return a > b || a != a ? a : b; }
static inline REAL smaller(REAL a, REAL b) { return a < b || a != a ? a : b; }
static inline REAL sign_of(REAL x) { return x > 0 ? 1 : x < 0 ? -1 : x; }
static inline int64_t wrapped(int64_t i, int64_t n) { return i < 0 ? i + n : i; }
"""
OWN = ("state", "reset", "step", "tokens", "read")  # what a file names NAME_…
WIDTH = 110  # letters of a line of numbers


def c(
    module: Any, xs: Any, file: str | Path, *, state: Any = None, name: str | None = None, weights: str = "float32",
    tokens: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """Write one step of a recurrent model, for one sequence, as C99: what it knows are constant arrays.

        NAME_state state; NAME_reset(&state); NAME_step(&state, x, output);

    module: a cell, an nn.Recurrent, layers in one direction, what has `step` and `initial_state`, or a list of modules
    one after the other, [nn.Embedding, nn.Recurrent, nn.Linear]; in evaluation, whatever mode it is in
    xs: an example of what it reads, (T, B, I), or (T, B) of ids; of its values nothing is kept
    state: before the first step, with B = 1; None for its initial state
    name: what its functions begin with; by default as the file
    weights: "int8" keeps the matrices of products by columns, and the tables of embeddings by rows, as integers q from
    -127 to 127, W ≈ q · scale with scale = max |W| / 127 of each column or row; all else is float32 as ever
    tokens: the text of each id: the program's `main` then reads and writes text

    ValueError if an operation has no form in C, with its line; if the module reads the future.
    """
    name = re.sub(r"\W+", "_", Path(file).stem if name is None else name, flags=re.ASCII)
    if not name or name[0].isdigit():
        raise ValueError(f"export.c: name must be a name in C, got {name!r}; pass name=…")
    made = source(module, xs, name, state=state, weights=weights, tokens=tokens)
    write_atomically(Path(file), made.text)


class Source(NamedTuple):
    """A file's text; how many numbers NAME_step gives, and their type in C; how many ids it knows, or 0."""

    text: str
    out: int
    type: str
    ids: int


def source(
    module: Any, xs: Any, name: str, *, state: Any = None, weights: str = "float32",
    tokens: Sequence[str] | None = None, who: str = "export.c",
) -> Source:  # fmt: skip
    """What `c` writes. who: what errors name"""
    if weights not in ("float32", "int8"):
        raise ValueError(f'{who}: weights must be "float32" or "int8", got {weights!r}')
    chain = Chain(modules_of(module, who), who)
    xs = sequence_of(xs, who)
    with in_evaluation(chain):
        state = chain.initial_state(1) if state is None else state
        recorded = record(chain, chain.step, ((1, *xs.shape[2:]), xs.dtype), state)
    program = lower(recorded, {}, [*WORDS.split(), *(f"{name}_{x}" for x in OWN)])
    if any(a.shape[:1] != (1,) for a in program.outputs):
        raise ValueError(f"{who}: state must be that of one sequence, B = 1; a step gives {program.outputs[0].shape}")
    ids = _table(program)
    if tokens is not None and len(tokens) != ids:
        what = f"{ids} ids" if ids else "a model that reads ids, this one reads numbers"
        raise ValueError(f"{who}: tokens must be of {what}, got {len(tokens)}")
    starts = [_start(s, *kept) for s, kept in zip(nest.leaves(state), recorded.leaves, strict=True)]
    text = _File(program, name, weights == "int8", tokens).text([*recorded.states, *recorded.given], starts)
    return Source(text, sum(map(a_size, program.outputs)), _output_type(program), ids)


def _start(s: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A leaf of the first state, as the step keeps it."""
    return np.broadcast_to(to_numpy(s.array) if isinstance(s, Tensor) else s, shape).astype(dtype)


def quantised(program: Program) -> dict[Array, str]:
    """The weights that may be int8, and which of their lines have a scale: those that are only the right side of
    products, or only tables that are looked up."""
    found = {}
    for weight, readers in program.readers().items():
        if weight not in program.weights or len(weight.shape) != 2 or weight.dtype.kind != "f":
            continue
        if all(r is not None and r.op == "matmul" and r.args[1] == weight != r.args[0] for r in readers):
            found[weight] = "columns"
        elif all(r is not None and r.op == "take" and r.args[0] == weight and r.options["axis"] == 0 for r in readers):
            found[weight] = "rows"
    return found


class _File:
    """The text of a file.

    int8: are matrices kept as integers?
    """

    def __init__(self, program: Program, name: str, int8: bool, tokens: Sequence[str] | None):
        self.program, self.name, self.tokens = program, name, tokens
        fields = {a: "state->" + a.name.removeprefix("state.") for a in (*program.states, *program.given)}
        names = {a: a.name for a in (program.x, *program.weights)} | fields
        self.int8 = quantised(program) if int8 else {}
        taken = (*WORDS.split(), *(a.name for a in program.weights), "x")
        self.writer = Writer(program, names, self.int8, Names(taken))

    def text(self, leaves: Sequence[int], starts: Sequence[np.ndarray]) -> str:
        """The whole file. leaves: the numbers of those that move and of those that are read  starts: the leaves of the
        first state"""
        p, size = self.program, sum(a_size(a) for a in self.program.outputs)
        real = "double" if any(line.within == np.float64 for line in p.lines) else "float"
        body = "\n".join(self._body())
        first = {a: starts[i] for a, i in zip((*p.states, *p.given), leaves, strict=True)}
        to = _output_type(p)
        parts = [
            f"/* One step of a recurrent model: see {self.name}_step. */",
            "#include <inttypes.h>\n#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>",
            FUNCTIONS.replace("REAL", real),
            "\n".join(self._weights()),
            self._struct(),
            "\n".join(self._reset(first)),
            f"/* x: {_sizes(p.x)}, output: {', '.join(map(_sizes, p.outputs))} */\n"
            f"void {self.name}_step({self.name}_state *state, const {TYPES[p.x.dtype.name]} *x, "
            f"{to} *output) {{\n{body}\n}}",
            c_main.main_of(self.name, p.x, size, to, _table(p), self.tokens),
        ]
        return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"

    def _struct(self) -> str:
        arrays = (*self.program.states, *self.program.given)
        lines = [f"  {TYPES[a.dtype.name]} {a.name.removeprefix('state.')}[{a_size(a)}];{_shape(a)}" for a in arrays]
        lines = lines or ["  char nothing;"]
        return "typedef struct {\n" + "\n".join(lines) + f"\n}} {self.name}_state;"

    def _weights(self) -> Iterator[str]:
        for a, numbers in self.program.weights.items():
            yield f"/* {a.name} {a.shape} */"
            if a in self.int8:
                axis = 1 if self.int8[a] == "rows" else 0
                scale = np.abs(numbers).max(axis, keepdims=True) / 127
                q = np.rint(numbers / np.where(scale == 0, 1, scale)).astype(np.int8)
                yield _constant(f"int8_t {a.name}", q)
                yield _constant(f"{TYPES[a.dtype.name]} {a.name}_scale", scale.astype(a.dtype))
            else:
                yield _constant(f"{TYPES[a.dtype.name]} {a.name}", numbers)

    def _reset(self, first: dict[Array, np.ndarray]) -> Iterator[str]:
        yield f"void {self.name}_reset({self.name}_state *state) {{"
        yield "  memset(state, 0, sizeof *state);"
        for a, numbers in first.items():
            if numbers.any():
                field = a.name.removeprefix("state.")
                yield "  " + _constant(f"{TYPES[a.dtype.name]} {field}", numbers).replace("\n", "\n  ")
                yield f"  memcpy(state->{field}, {field}, sizeof {field});"
        yield "}"

    def _body(self) -> Iterator[str]:
        """The statements of a step: what the lines compute, then what goes out, then the new state."""
        last, statements = "", []
        for statement, place in self.writer.statements():
            if place and place != last:
                statements.append(f"/* {place.replace('*/', '* /').replace('/*', '/ *')} */")
            last = place
            statements += statement.split("\n")
        statements += self._results()
        readers = self.program.readers()
        if not readers[self.program.x]:
            yield "  (void)x;"
        if not (self.program.states or self.program.given):
            yield "  (void)state;"
        for name, a in self.writer.locals.items():
            yield f"  {TYPES[a.dtype.name]} {name}[{a_size(a)}];{_shape(a)}"
        yield from (f"  {statement}" for statement in statements)

    def _results(self) -> Iterator[str]:
        at = 0
        for a in self.program.outputs:
            axes, to = axes_of(a.shape), dense("output", a.shape)._replace(offset=at)
            yield loop(axes, f"{to.at(letters(axes))} = {self.writer.lying(a).at(letters(axes))};")
            at += a_size(a)
        later = []
        for s, a in zip(self.program.states, self.program.new, strict=True):
            field, found = self.writer.lying(s), self.writer.lying(a)
            axes = axes_of(a.shape)
            if found.name.startswith("state->"):  # where another part of the state was, which is about to change
                kept = Array(f"new_{s.name.removeprefix('state.')}", a.shape, a.dtype)
                self.writer.declare(kept)
                to = self.writer.lying(kept)
                yield loop(axes, f"{to.at(letters(axes))} = {found.at(letters(axes))};")
                found = to
            later.append(loop(axes, f"{field.at(letters(axes))} = {found.at(letters(axes))};"))
        yield from later


def _table(p: Program) -> int:
    """The number of ids that a model of tokens, which reads one a step, knows; 0 for one that reads numbers."""
    if a_size(p.x) > 1:
        return 0
    tables = [line.args[0].shape[0] for line in p.lines if line.op == "take" and line.args[1] == p.x]
    return min(tables, default=0)


def _output_type(p: Program) -> str:
    """What all outputs are in C, side by side."""
    return TYPES[np.result_type(*(a.dtype for a in p.outputs)).name]


def a_size(a: Array) -> int:
    """The number of elements."""
    return int(np.prod(a.shape))


def _sizes(a: Array) -> str:
    return " × ".join(str(n) for n in a.shape[1:]) or "1"


def _shape(a: Array) -> str:
    wide = [str(n) for n in a.shape if n != 1]
    return f"  /* {' × '.join(wide)} */" if len(wide) > 1 else ""


def _constant(declared: str, numbers: np.ndarray) -> str:
    """A constant array with its numbers."""
    texts = [_number(x) for x in numbers.ravel()]
    lines, line = [], ""
    for text in texts:
        if len(line) + len(text) > WIDTH:
            lines.append(line)
            line = ""
        line += f" {text},"
    return f"static const {declared}[{len(texts)}] = {{\n" + "\n".join([*lines, line]) + "\n};"


def _number(x: Any) -> str:
    if x.dtype.kind != "f":
        return str(int(x))
    if not np.isfinite(x):
        return "NAN" if np.isnan(x) else "INFINITY" if x > 0 else "-INFINITY"
    return f"{x!s}f" if x.dtype == np.float32 else str(x)
