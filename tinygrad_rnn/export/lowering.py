"""From the circuit of a step to a program: views become indices, and what is elementwise one loop for each variable."""

from __future__ import annotations

import math
import re

from collections.abc import Collection
from typing import Any, Never

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Value, place_of
from tinygrad_rnn.export.program import Alias, Apply, Array, Compute, Expression, Product, Program, Reduce, View
from tinygrad_rnn.export.step import Recorded
from tinygrad_rnn.export.variables import variables

VIEWS = {"getitem", "reshape", "permute", "broadcast_to"}
REDUCTIONS = {"sum", "max", "min"}
MASKS = {
    "greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "isnan", "logical_and", "logical_or",
    "logical_not",
}  # fmt: skip
OTHERS = {"pow", "where", "erf", "clip", "cast"}  # elementwise, without a formula


def lower(who: str, recorded: Recorded, taken: Collection[str]) -> Program:
    """The program of a step. taken: names that it must not use; ValueError for what it has no form for"""
    lowering = Lowering(who, recorded, taken)
    lowering.run()
    return lowering.program()


class Lowering:
    """A circuit on its way to a program.

    views  the values that are in an array
    names  what the code calls values  uses: who reads each value, once for each time; None for the caller
    """

    def __init__(self, who: str, recorded: Recorded, taken: Collection[str]):
        self.who, self.recorded, self.taken = who, recorded, {*taken}
        c = recorded.circuit
        self.roots = [*c.roots["y"], *c.roots["state"]]
        self.order = c.order(self.roots)
        self.names = variables(self.order)
        self.uses: dict[Value, list[Value | None]] = {v: [] for v in self.order}
        for v in self.order:
            for a in v.values:
                self.uses[a].append(v)
        for v in self.roots:
            self.uses[v].append(None)
        self.views: dict[Value, View] = {}
        self.arrays: list[Array] = []
        self.statements: list[Any] = []
        self.ids = 0

    # ---- arrays -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Fill in arrays and statements."""
        c = self.recorded.circuit
        for v in self.order:
            self._check_dtype(v)
        if c.x.dtype.kind == "f":
            self._array(c.x, "x", "input")
        for v in c.captured:
            if v in self.uses:
                self._array(v, self._free(v.name), "weight", self.recorded.held[v])
        members: set[str] = set()
        for s, new, first in zip(c.states, c.roots["state"], self.recorded.states, strict=True):
            self._array(s, f"state->{_free(self._member(s, new), members)}", "state", first)
        for v in self.order:
            if v not in self.views and v.op != "input" and not self._inlined(v):
                self._lower(v)
        self._finish()

    def program(self) -> Program:
        """What has been found."""
        of = lambda role: [a for a in self.arrays if a.role == role]
        x = next(iter(of("input")), None)
        return Program(x, self.ids, of("output")[0], of("weight"), of("state"), of("local"), self.statements)

    def _array(self, v: Value, name: str, role: str = "local", values: np.ndarray | None = None) -> View:
        if 0 in v.shape:
            self._refuse(v, f" of shape {v.shape}")
        array = Array(name, math.prod(v.shape), role, values)
        self.arrays.append(array)
        self.views[v] = View.whole(array, v.shape)
        return self.views[v]

    def _local(self, v: Value) -> View:
        return self._array(v, self._free(self.names.get(v, "t")))

    def _free(self, name: str) -> str:
        return _free(re.sub(r"\W", "_", name), self.taken)

    def _member(self, s: Value, new: Value) -> str:
        """What a leaf of the state is called: "h" of "h", "h_1" of "1.h"; as its new value, where it has no name."""
        words = re.findall(r"[A-Za-z_]\w*", s.name)
        words = [w for w in words if w != "state"] or [self.names.get(new, "state")]
        return "_".join([*words, *re.findall(r"\b\d+", s.name)])

    # ---- values -----------------------------------------------------------------------------------------------------

    def _lower(self, v: Value) -> None:
        if v.op in VIEWS:
            self._view(v)
        elif self._elementwise(v):
            self._add(Compute(self._local(v), self._apply(v), _note(v)))
        elif v.op == "matmul" and len(v.shape) == 2:
            a, b = map(self._placed, v.args)
            self._add(Product(self._local(v), a, b, _note(v)))
        elif v.op in REDUCTIONS:
            self._reduce(v)
        elif v.op in ("concat", "stack"):
            self._join(v)
        elif v.op == "gather" and v.static["key"] == ("index",) and v.args[1] is self.recorded.circuit.x:
            self._row(v)
        else:
            self._refuse(v)

    def _view(self, v: Value) -> None:
        source = self._placed(v.args[0])
        assert v.primitive is not None
        view = source.at(np.asarray(v.primitive.forward(source.positions, **v.static)))
        if view is None:
            self._refuse(v)
        if v in self.names and view.array.role != "weight" and view.contiguous:
            array = Array(self._free(self.names[v]), math.prod(v.shape), view.array.role)
            self._add(Alias(array, view, _note(v)))
            view = View.whole(array, v.shape)
        self.views[v] = view

    def _row(self, v: Value) -> None:
        """The row of a table that the id names."""
        table = self._placed(v.args[0])
        rows, *rest = table.shape
        row = table.at(table.positions[:1])
        if row is None or not table.contiguous:
            self._refuse(v)
        self.views[v] = row._replace(per_id=math.prod(rest))
        self.ids = min(self.ids or rows, rows)

    def _reduce(self, v: Value) -> None:
        (a,) = v.args
        kept = tuple(1 if i in v.static["axis"] else n for i, n in enumerate(a.shape))
        target = self._local(v)
        wide = View.whole(target.array, kept)
        self._add(Reduce(wide, v.op, self._expression(a), a.shape, _note(v)))

    def _join(self, v: Value) -> None:
        """Each operand into its part of the result."""
        target, at, axis = self._local(v), 0, v.static["axis"]
        whole = target.positions
        for a in v.args:
            n = a.shape[axis] if v.op == "concat" else 1
            lead = (slice(None),) * axis
            part = target.at(whole[(*lead, slice(at, at + n) if v.op == "concat" else at)])
            assert part is not None
            self._add(Compute(part, self._expression(a), _note(v)))
            at += n

    def _finish(self) -> None:
        """What goes out: y, then the new state, once nothing reads the old one."""
        c = self.recorded.circuit
        y = Array("y", sum(math.prod(v.shape) for v in c.roots["y"]), "output")
        self.arrays.append(y)
        at = 0
        for v in c.roots["y"]:
            self._add(Compute(View.whole(y, v.shape)._replace(offset=at), self._expression(v), "y"))
            at += math.prod(v.shape)
        pairs = list(zip(c.states, c.roots["state"], strict=True))
        new = [self._kept(v) for _, v in pairs]
        for (s, _), view in zip(pairs, new, strict=True):
            self._add(Compute(self.views[s], view, "the new state"))

    def _kept(self, v: Value) -> View:
        """Where a new state is, and stays while others are written."""
        view = self._placed(v)
        if view.array.role == "state":
            copy = Array(self._free("t"), math.prod(v.shape))
            self.arrays.append(copy)
            self._add(Compute(View.whole(copy, v.shape), view, "a part of the old state, kept"))
            view = View.whole(copy, v.shape)
        return view

    # ---- expressions ------------------------------------------------------------------------------------------------

    def _inlined(self, v: Value) -> bool:
        """Is it a part of the one expression that reads it?"""
        if not self._elementwise(v) or v in self.names or len(self.uses[v]) != 1:
            return False
        (user,) = self.uses[v]
        if user is None:
            return True
        reads = self._elementwise(user) or user.op in REDUCTIONS
        return reads and math.prod(user.values[0].shape if user.op in REDUCTIONS else user.shape) == math.prod(v.shape)

    def _elementwise(self, v: Value) -> bool:
        spelt = v.op in OTHERS or (v.pointwise and v.primitive is not None and v.primitive.formula is not None)
        return spelt and (v.dtype != bool or v.op in MASKS)

    def _apply(self, v: Value) -> Apply:
        formula = v.primitive.formula if v.primitive is not None else None
        static = {k: n for k, n in v.static.items() if v.op == "clip"}
        if v.op == "cast" and (v.args[0].dtype.kind not in "fb" or v.dtype.kind != "f"):
            self._refuse(v)
        return Apply(v.op, tuple([self._expression(a) for a in v.args]), formula, static)

    def _expression(self, a: Any) -> Expression:
        if not isinstance(a, Value):
            return float(a)
        return self.views[a] if a in self.views else self._apply(a)

    def _placed(self, v: Value) -> View:
        if v not in self.views:
            self._add(Compute(self._local(v), self._apply(v), _note(v)))
        return self.views[v]

    def _add(self, statement: Any) -> None:
        self.statements.append(statement)

    # ---- refusing ---------------------------------------------------------------------------------------------------

    def _check_dtype(self, v: Value) -> None:
        if v.dtype.kind not in "fb" and v is not self.recorded.circuit.x:
            self._refuse(v, f" of {v.dtype}")

    def _refuse(self, v: Value, what: str = "") -> Never:
        name = v.name if v.op == "input" else v.op
        where = place_of(v)
        raise ValueError(f"{self.who}: there is no form for {name}{what}{f', in {where}' if where else ''}")


def _note(v: Value) -> str:
    return "" if v.origin is None else str(v.origin)


def _free(name: str, taken: set[str]) -> str:
    """The name, or with a number that nobody has; "t" stands for none: t1, t2, …"""
    number, found = 1, f"{name}1" if name == "t" else name
    while found in taken or not re.match(r"[A-Za-z_]", found):
        number += 1
        found = (
            f"t{number}" if name == "t" else f"w{found}" if not re.match(r"[A-Za-z_]", found) else f"{name}_{number}"
        )
    taken.add(found)
    return found
