"""A step as equations, one for each variable of the code, as textbooks write them: f = σ(W_f h + U_f x + b_f)."""

from __future__ import annotations

import itertools
import re

from collections.abc import Callable
from typing import Any, NamedTuple

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.ir.variables import variables

Columns = tuple[int, int] | None  # of the last axis, or all
SUM, PRODUCT, UNARY, ATOM = range(4)  # how tightly an expression holds together
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
SAME = {"detach", "copy", "cast", "broadcast_to", "expand_dims"}  # what an equation does not tell
UNSAID = {"axis", "axes", "keepdims", "size", "shape", "dtype", "who"}  # what the shapes tell
SIGNS = {
    "greater": ">", "greater_equal": "≥", "less": "<", "less_equal": "≤", "equal": "=", "not_equal": "≠",
}  # fmt: skip
# along other axes than the last, or element by element: a part of the columns is that of what it is computed from
BY_COLUMN = {
    "add", "sub", "mul", "div", "neg", "sigmoid", "tanh", "relu", "exp", "log", "sqrt", "abs", "softplus", "sin", "cos",
    "pow", *SAME,
}  # fmt: skip


class Text(NamedTuple):
    """An expression, and how tightly it holds together."""

    text: str
    tight: int = ATOM


def equations(c: Circuit, latex: bool = False) -> str:
    """The forward step of a circuit, a line for each variable that its code names, oldest first; latex: as an `aligned`
    environment."""
    return _Equations(c, latex).text()


class _Equations:
    """names: what the values are called that have an equation of their own, by value"""

    def __init__(self, c: Circuit, latex: bool):
        self.c, self.latex = c, latex
        self.wanted = [v for name in ("state", "y") for v in c.roots[name] if v is not None]
        self.order = c.order(self.wanted)
        self.new: dict[Value, Any] = dict(zip(c.states, c.roots["state"], strict=True))
        self.weights = self._weight_names()
        self.states = self._states()
        self.names = self._names()
        self.of = ""  # the variable whose equation is written
        self.ranges: dict[Value, set[Columns]] = {}  # the parts of weights in it
        gains = {v.name for v in self.order if v.op == "input" and v.name.endswith("gain")}
        self.norms = len(gains)

    def _weight_names(self) -> dict[Value, str]:
        """The last part of a weight's path, or all of it where another one has that. ValueError if there are several
        cells, whose variables have the same names."""
        weights = [v for v in self.order if v.op == "input" and not v.moves]
        found: dict[Value, str] = {}
        for v in weights:
            twice = sum(_last(v.name) == _last(other.name) for other in weights) > 1
            if twice and re.search(r"(^|\.)cells?\.(\d+\.)?", v.name):
                raise ValueError(
                    f"equations: there must be one cell, there are several with a weight {_last(v.name)!r}; ask for "
                    "those of each: tg.circuit(stack.cells[0], x).equations()"
                )
            found[v] = v.name if twice else _last(v.name)
        return found

    def _states(self) -> dict[Value, str]:
        """What each leaf of the state is called: as in the state, else as the code calls the new one, else h, h_2, …"""
        called = {v: name for v, name in variables(self.order).items() if v.op != "input"}
        found: dict[Value, str] = {}
        for s in self.c.states:
            own = "" if re.fullmatch(r"state(\[\d+\])*", s.name) else _last(s.name)
            name = base = own or called.get(self.new[s], "h")
            n = 1
            while name in (*found.values(), "x"):
                n += 1
                name = f"{base}_{n}"
            found[s] = name
        return found

    def _names(self) -> dict[Value, str]:
        """Variables, of each name the last one; not those of which parts alone are read, nor any whose name the input
        or another state has. What is left has a name with a number where it would be written out more than once."""
        taken = {"x": None, **{name: self.new[s] for s, name in self.states.items()}}
        found = {name: v for v, name in variables(self.order).items() if v.op != "input" and not _is_norm(v)}
        readers: dict[Value, list[Value]] = {}
        for v in self.order:
            for a in v.values:
                readers.setdefault(a, []).append(v)
        whole = lambda v: v in self.wanted or any(_columns_of(r) is None for r in readers.get(v, ()))
        names = {v: name for name, v in found.items() if whole(v) and taken.get(name, v) is v}
        for s, name in self.states.items():
            v = self.new[s]
            if v is not None and v.op != "input":
                names.setdefault(v, name)
        for i, v in enumerate(self.c.roots["y"]):
            if v.op != "input":
                names.setdefault(v, "y" if len(self.c.roots["y"]) == 1 else f"y_{i + 1}")
        self._number(names, [v for v in self.order if whole(v) and len(readers.get(v, ())) > 1])
        return names

    def _number(self, names: dict[Value, str], several: list[Value]) -> None:
        """Name what would be written out several times, if it is more than one operation on what has a name."""
        called = variables(self.order)
        for v in several:
            long = any(a not in names and a.op != "input" for a in v.values)
            apart = v in names or v.op == "input" or v.op in SAME or _is_norm(v) or _columns_of(v) is not None
            if long and not apart:
                base = called.get(v, "v")
                others = {"x", *self.states.values(), *names.values()}
                names[v] = next(name for n in itertools.count(1) if (name := f"{base}_{n}") not in others)

    def text(self) -> str:
        """All lines."""
        pairs = []
        for v in self.order:
            if v in self.names:
                self.of, self.ranges = self.names[v], {}
                self._computed(v, None)  # once to see which parts there are
                pairs.append((self.at(self.of, "t"), self._computed(v, None).text))
        for s, v in zip(self.c.states, self.c.roots["state"], strict=True):
            if v is not None and v is not s and self.names.get(v, "") != self.states[s]:
                pairs.append((self.at(self.states[s], "t"), self.expression(v).text))
        return self._lines(pairs)

    def _lines(self, pairs: list[tuple[str, str]]) -> str:
        if self.latex:
            lines = " \\\\\n".join(f"  {name} &= {text}" for name, text in pairs)
            return f"\\begin{{aligned}}\n{lines}\n\\end{{aligned}}"
        wide = max((len(name) for name, _ in pairs), default=0)
        return "\n".join(f"{name:<{wide}} = {text}" for name, text in pairs)

    # ---- names ----

    def at(self, name: str, time: str) -> str:
        """A variable at this step, "t", or the one before, "t-1"."""
        base, _, index = _last(name).partition("_")
        if self.latex:
            sub = ",".join(filter(None, (index, time)))
            return f"{_letters(base)}_{{{sub}}}"
        return f"{base}{'_' + index if index else ''}{'ₜ' if time == 't' else 'ₜ₋₁'}"

    def _weight(self, v: Value, columns: Columns) -> str:
        """A parameter; some of its columns are the part of the variable whose equation this is, if no others are."""
        base, _, index = self.weights[v].partition("_") if "." not in self.weights[v] else (self.weights[v], "", "")
        part = columns is not None and columns != (0, v.shape[-1])
        self.ranges.setdefault(v, set()).add(columns)
        if part and len(self.ranges[v]) > 1:
            return self._part(Text(self._weight(v, None)), v, columns).text
        sub = ",".join(filter(None, (index, self.of if part else "")))
        if self.latex:
            return f"{_letters(base)}_{{{sub}}}" if sub else _letters(base)
        return f"{base}_{sub}" if sub else base

    # ---- expressions ----

    def expression(self, v: Any, columns: Columns = None) -> Text:
        """A value, or some of its columns."""
        if not isinstance(v, Value):
            shown = _number(v)
            return Text(self.minus + shown[1:], SUM) if shown.startswith("-") else Text(shown)
        if v in self.names:
            return self._part(Text(self.at(self.names[v], "t")), v, columns)
        if _is_norm(v):
            return self._norm(v, columns)
        if v.op == "input":
            if v is self.c.x:
                return self._part(Text(self.at("x", "t")), v, columns)
            if v in self.c.states:
                return self._part(Text(self.at(self.states[v], "t-1")), v, columns)
            return Text(self._weight(v, columns))
        return self._computed(v, columns)

    def _part(self, whole: Text, v: Value, columns: Columns) -> Text:
        if columns is None or columns == (0, v.shape[-1]):
            return whole
        rows = "" if v.moves or len(v.shape) < 2 else ":, "  # of what moves there is one row for each sequence
        return Text(f"{self.held(whole, ATOM)}[{rows}{columns[0]}:{columns[1]}]")

    def held(self, x: Text, tight: int) -> str:
        """An expression, in parentheses if it must hold together more tightly."""
        return x.text if x.tight >= tight else f"({x.text})"

    def _computed(self, v: Value, columns: Columns) -> Text:
        """What a value is computed by."""
        mine = _columns_of(v)
        if mine is not None:
            first, last = mine if columns is None else (mine[0] + columns[0], mine[0] + columns[1])
            return self.expression(v.args[0], (first, last))
        if v.op == "matmul" and len(v.values) == 2:
            return self._product(v, columns)
        if v.op not in BY_COLUMN:
            return self._part(self._function(v), v, columns)
        of = lambda a: self.expression(a, columns if isinstance(a, Value) and a.shape[-1:] == v.shape[-1:] else None)
        xs = [of(a) for a in v.args]
        if v.op in SAME:
            return xs[0]
        if v.op in OPERATORS:
            return OPERATORS[v.op](self, *xs, *v.args)
        return self._named(FUNCTIONS.get(v.op, v.op), xs)

    def _norm(self, v: Value, columns: Columns) -> Text:
        """LN(x), with its gain and bias."""
        inside, waiting = {v}, [v]  # those of this call alone: what is normalised may have been computed by another
        while waiting:
            new = [a for a in waiting.pop().values if _is_norm(a) and a not in inside]
            inside.update(new)
            waiting += new
        first = next(a for a in self.order if a in inside)
        given = next(a for a in first.values if not _is_norm(a))
        name, gain = r"\operatorname{LN}" if self.latex else "LN", v.args[0].args[1] if v.op == "add" else None
        owner = gain.name.rpartition(".")[0].rpartition(".")[2] if isinstance(gain, Value) and self.norms > 1 else ""
        owner = owner.removeprefix("norm_")
        self.ranges.setdefault(v, set()).add(columns)
        several = len(self.ranges[v]) > 1
        sub = ",".join(filter(None, (owner, "" if columns is None or several else self.of)))
        shown = "" if not sub else rf"_{{\mathrm{{{_escaped(sub)}}}}}" if self.latex else f"_{sub}"
        whole = Text(f"{name}{shown}({self.expression(given).text})")
        return self._part(whole, v, columns) if several else whole

    def _product(self, v: Value, columns: Columns) -> Text:
        """x @ W as W x: the weight before what it acts on."""
        x, W = v.args
        left = self.expression(W, columns)
        right = self.expression(x)
        return Text(f"{self.held(left, UNARY)} {self.held(right, UNARY)}", PRODUCT)

    def _function(self, v: Value) -> Text:
        if v.op in SIGNS:
            a, b = (self.held(self.expression(x), PRODUCT) for x in v.args)
            return Text(f"{a} {SIGNS[v.op]} {b}", SUM)
        if v.op == "permute" and len(v.shape) == 2:
            return Text(self.held(self.expression(v.args[0]), ATOM) + (r"^\top" if self.latex else "ᵀ"), UNARY)
        if v.op == "reshape":
            if v.shape == v.args[0].shape:
                return self.expression(v.args[0])
            shape = ", ".join(
                ["B" if v.moves and v.shape[0] == self.c.x.shape[0] else str(v.shape[0]), *map(str, v.shape[1:])]
            )
            return self._named("reshape", [self.expression(v.args[0]), Text(f"({shape})")])
        if v.op == "getitem":
            key = v.static["key"]
            shown = ", ".join(map(_index, key if isinstance(key, tuple) else (key,)))
            return Text(f"{self.held(self.expression(v.args[0]), ATOM)}[{shown}]")
        if v.op == "concat":
            return Text("[" + "; ".join(self.expression(a).text for a in v.args) + "]")
        axis = v.static.get("axis")
        last = len(v.args[0].shape) - 1 if isinstance(v.args[0], Value) else 0
        axes = () if axis is None else axis if isinstance(axis, tuple) else (axis,)
        given = [self.expression(a) for a in v.args]
        if axes and tuple(a % (last + 1) for a in axes) != (last,):  # over the last one it goes without saying
            given.append(self._option("axis", ", ".join(map(str, axes))))
        usual = (None, False, (1, 1), ((0, 0), (0, 0)))
        for name, value in v.static.items():
            if name not in UNSAID and isinstance(value, (int, float, str, tuple)) and value not in usual:
                given.append(self._option(name, self.expression(value).text))
        return self._named({"sum": "Σ"}.get(v.op, v.op), given)

    def _option(self, name: str, value: str) -> Text:
        return Text(f"{_letters(name) if self.latex else name}={value}")

    def _named(self, name: str, xs: list[Text]) -> Text:
        shown = name
        if self.latex:
            shown = LATEX.get(name, rf"\operatorname{{{name}}}".replace("_", r"\_"))
        return Text(f"{shown}({', '.join(x.text for x in xs)})")

    # ---- operators ----

    def _add(self, a: Text, b: Text, *_: Any) -> Text:
        return Text(f"{a.text} + {self.held(b, SUM if not b.text.startswith(self.minus) else PRODUCT)}", SUM)

    def _sub(self, a: Text, b: Text, *_: Any) -> Text:
        return Text(f"{a.text} {self.minus} {self.held(b, PRODUCT)}", SUM)

    def _neg(self, x: Text, *_: Any) -> Text:
        return Text(f"{self.minus}{self.held(x, PRODUCT)}", SUM)

    def _mul(self, a: Text, b: Text, *values: Any) -> Text:
        numbers = any(not isinstance(v, Value) for v in values)
        between = " " if numbers else r" \odot " if self.latex else " ⊙ "
        if numbers and isinstance(values[0], Value):
            a, b = b, a
        return Text(f"{self.held(a, PRODUCT)}{between}{self.held(b, PRODUCT if not numbers else UNARY)}", PRODUCT)

    def _div(self, a: Text, b: Text, *_: Any) -> Text:
        if self.latex:
            return Text(rf"\frac{{{a.text}}}{{{b.text}}}", PRODUCT)
        return Text(f"{self.held(a, PRODUCT)} / {self.held(b, ATOM)}", PRODUCT)

    def _pow(self, a: Text, b: Text, *values: Any) -> Text:
        base = self.held(a, ATOM)
        if self.latex:
            return Text(f"{base}^{{{b.text}}}", UNARY)
        whole = isinstance(values[1], int) or (isinstance(values[1], float) and values[1].is_integer())
        return Text(base + (str(int(values[1])).translate(RAISED) if whole else f"^{self.held(b, ATOM)}"), UNARY)

    @property
    def minus(self) -> str:
        return "-" if self.latex else "−"


OPERATORS: dict[str, Callable[..., Text]] = {
    "add": _Equations._add, "sub": _Equations._sub, "neg": _Equations._neg, "mul": _Equations._mul,
    "div": _Equations._div, "pow": _Equations._pow,
}  # fmt: skip
FUNCTIONS = {"sigmoid": "σ", "sqrt": "√"}
LATEX = {
    "σ": r"\sigma", "tanh": r"\tanh", "exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos",
    "√": r"\operatorname{sqrt}", "max": r"\max", "min": r"\min", "Σ": r"\sum",
}  # fmt: skip
GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda", "mu", "nu", "xi", "rho",
    "sigma", "tau", "phi", "chi", "psi", "omega",
}  # fmt: skip


def _letters(name: str) -> str:
    """A name in LaTeX: one letter as it is, a Greek one by its command, a word upright."""
    if name.lower() in GREEK:
        return f"\\{name}"
    return name if len(name) == 1 else rf"\mathrm{{{_escaped(name)}}}"


def _escaped(name: str) -> str:
    return name.replace("_", r"\_")


def _last(name: str) -> str:
    """cell.W → W; state.h → h; U.0, of a list, → U_0"""
    return re.sub(r"^(?:.*\.)?(\D[^.]*)\.(\d+)$", r"\1_\2", name) if name[-1:].isdigit() else name.rpartition(".")[2]


def _is_norm(v: Value) -> bool:
    """Is it computed within layer normalisation?"""
    return v.origin is not None and v.origin.function == "layer_norm"


def _columns_of(v: Value) -> Columns:
    """The columns of its argument that a value is, if it is nothing else."""
    if v.op == "part":
        return (v.static["lo"], v.static["hi"]) if v.static["axis"] % len(v.shape) == len(v.shape) - 1 else None
    if v.op != "getitem":
        return None
    key = v.static["key"]
    key = key if isinstance(key, tuple) else (key,)
    x = v.args[0]
    whole = lambda k: isinstance(k, slice) and k == slice(None)
    if Ellipsis in [k for k in key if k is Ellipsis]:
        key = tuple(k for k in key if k is not Ellipsis)
        key = (slice(None),) * (len(x.shape) - len(key)) + key
    if len(key) != len(x.shape) or not all(map(whole, key[:-1])) or not isinstance(key[-1], slice):
        return None
    start, stop, step = key[-1].indices(x.shape[-1])
    return (start, stop) if step == 1 else None


def _index(k: Any) -> str:
    """A part of a key, as it is written in Python."""
    if not isinstance(k, slice):
        return "…" if k is Ellipsis else str(k)
    parts = ["" if n is None else str(n) for n in (k.start, k.stop)]
    return ":".join(parts if k.step in (None, 1) else [*parts, str(k.step)])


def _number(n: Any) -> str:
    """A number, without a point where there is nothing behind it."""
    return str(int(n)) if isinstance(n, float) and n.is_integer() and abs(n) < 1e15 else str(n)
