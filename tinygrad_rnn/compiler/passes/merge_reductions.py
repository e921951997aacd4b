"""Merging siblings with reductions, for an engine that pays by the call: four layer norms side by side become one.

    Σⱼ xₖⱼ for the parts k of x → one `sums`        xₖ - mₖ with a number mₖ for each row of a part → x - spread(m)

What is alike is found without rewriting anything: operations of one kind whose operands are neighbours in something, or
will be once their own siblings are merged. All groups are then rewritten at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import pack, part, remake
from tinygrad_rnn.compiler.ir.levels import PER_CALL, levels
from tinygrad_rnn.compiler.ir.value import Value

REDUCTIONS = ("sums", "dots")
REPEATED = ("splat", "spread")  # only elementwise operations can read them


def merge_reductions(c: Circuit) -> None:
    """Merge siblings around sums over the last axis in loops, if there are any."""
    if _as_row_sums(c):
        ReductionMerger(c).merge()


def _as_row_sums(c: Circuit) -> bool:
    """Sums over the last axis, in loops, as `sums` (with a number as factor) and as `dots` of two operands."""
    level, users = levels(c), c.users()
    found: list[Value] = []

    def reduces(v: Any) -> bool:
        keeps = isinstance(v, Value) and v.op == "sum" and v.static["axis"] == (len(v.shape) - 1,) and level[v] >= 0
        return keeps and v.static["keepdims"] and v.dtype.kind == "f"

    def visit(v: Value, new: Callable) -> Value:
        if reduces(v):
            found.append(v)
            x = v.args[0]
            product = x.op == "mul" and users[x] == [v] and all(isinstance(a, Value) for a in x.args)
            whole = lambda a: a.shape == x.shape and a.dtype == x.dtype and a.op not in REPEATED
            if product and all(map(whole, x.args)):
                return c.make("dots", *map(new, x.args), parts=1)
            return c.make("sums", new(x), parts=1, scale=1.0)
        made = remake(c, v, tuple(map(new, v.args)))
        if v.op in ("mul", "div") and isinstance(v.args[0], Value) and isinstance(v.args[1], (int, float)):
            total, k = made.args[0], v.args[1]
            if reduces(v.args[0]) and users[v.args[0]] == [v] and total.op == "sums" and k:
                return c.make("sums", *total.args, parts=1, scale=float(k if v.op == "mul" else 1 / k))
        return made

    c.rebuild(visit)
    return len(found) > 1


class Placement(NamedTuple):
    """Where a value is: columns from `lo` on of something, which may not exist yet."""

    whole: Any
    lo: int
    width: int


class ReductionMerger:
    """The groups of a circuit. A value is in one group at most."""

    def __init__(self, c: Circuit):
        self.c, self.level = c, levels(c)
        self.column: dict[Value, Placement] = {}
        for v in self.level:
            if v.op == "part" and v.static["axis"] == -1 and v.moves:
                self.column[v] = Placement(v.args[0], v.static["lo"], v.shape[-1])
        self.group: dict[Value, list[Value]] = {}
        self.packs: list[tuple] = []  # operands that will be put side by side
        self.made: dict[int, Value] = {}
        self.candidates = [v for v in c.order() if self._mergeable(v)]

    def merge(self) -> None:
        """Find all groups, and rewrite the circuit."""
        while self._round():
            pass
        if self.group:
            self.c.rebuild(self._visit)

    # ---- finding --------------------------------------------------------------------------------------------------

    def _mergeable(self, v: Value) -> bool:
        if v.op == "tsum" or (v.op == "sum" and v.moves and len(v.values[0].shape) - 1 not in v.static["axis"]):
            return len(v.shape) > 0  # over steps or rows: columns stay what they are
        if self.level[v] == PER_CALL or not v.shape or any(a.op in REPEATED for a in v.values):
            return False
        return v.op in REDUCTIONS or (v.pointwise and not v.static)

    def _round(self) -> bool:
        """Groups of what is known to be alike now; True if there are any."""
        alike: dict[Any, dict[tuple[int, ...], list[Value]]] = defaultdict(lambda: defaultdict(list))
        for v in self.candidates:
            if v not in self.group and (found := self._signature(v)) is not None:
                kinds, at = found
                alike[kinds][at].append(v)
        some = False
        for by_place in alike.values():
            for run in self._runs(by_place):
                if self._independent(run):
                    self._accept(run)
                    some = True
        return some

    def _signature(self, v: Value) -> tuple[Any, tuple[int, ...]] | None:
        """What siblings share, and the places of the operands that have one, counted in columns of their width."""
        width = (v.values[0] if v.op in REDUCTIONS else v).shape[-1]
        kinds: list[Any] = []
        at: list[int] = []
        for a in v.args:
            if not isinstance(a, Value):
                kinds.append(repr(a))
                continue
            known = self.column.get(a)
            if known is not None and a.shape[-1] in (1, width) and known.lo % known.width == 0:
                kinds.append((a.shape, a.dtype, id(known.whole)))
                at.append(known.lo // known.width)
            else:
                narrow = a.shape[-1:] != (width,)
                kinds.append((a.shape, a.dtype, id(a) if narrow else self.level[a] == PER_CALL))
        if not at:
            return None
        return (v.op, repr(v.static), self.level[v], v.shape, v.dtype, width, tuple(kinds)), tuple(at)

    def _runs(self, by_place: dict[tuple[int, ...], list[Value]]) -> Iterator[list[Value]]:
        """Neighbours, one from each place."""
        run: list[list[Value]] = []
        last: tuple[int, ...] | None = None
        for at in [*sorted(by_place), None]:
            if at is None or last is None or at != tuple(i + 1 for i in last) or len(by_place[at]) != len(run[0]):
                for siblings in zip(*run, strict=True):
                    if len(siblings) > 1 and self._side_by_side(siblings):
                        yield list(siblings)
                run = []
            if at is not None:
                run.append(by_place[at])
            last = at

    def _side_by_side(self, siblings: tuple[Value, ...]) -> bool:
        """Can operands that are in nothing yet be put side by side without a copy, or are they all the same one?"""
        for column in zip(*(v.args for v in siblings), strict=True):
            loose = [a for a in column if isinstance(a, Value) and a not in self.column and self.level[a] != PER_CALL]
            if loose and len(set(column)) > 1:
                home = self.level[siblings[0]]
                writes = all((a.pointwise or a.op == "matmul") and self.level[a] == home for a in loose)
                if not writes or len(set(loose)) < len(column):
                    return False
        return True

    def _independent(self, run: list[Value]) -> bool:
        """Is none of them computed from another, once all groups are merged?"""
        goal, seen = set(run), set()
        stack = [a for v in run for a in v.values]
        while stack:
            a = stack.pop()
            if a in goal:
                return False
            if a not in seen and self.level[a] == self.level[run[0]]:
                group = self.group.get(a, [a])
                seen.update(group)
                stack += [b for member in group for b in member.values]
        return True

    def _accept(self, run: list[Value]) -> None:
        self.group |= dict.fromkeys(run, run)
        width = run[0].shape[-1]
        for i, v in enumerate(run):
            self.column[v] = Placement(run, i * width, width)
        for column in zip(*(v.args for v in run), strict=True):
            if all(isinstance(a, Value) and a not in self.column for a in column) and len(set(column)) == len(run):
                whole = tuple(column)  # as a pack of its own
                for i, a in enumerate(column):
                    self.column[a] = Placement(whole, i * a.shape[-1], a.shape[-1])
                self.packs.append(whole)

    # ---- rewriting ------------------------------------------------------------------------------------------------

    def _visit(self, v: Value, new: Callable) -> Value:
        run = self.group.get(v)
        if run is None:
            return remake(self.c, v, tuple(map(new, v.args)))
        if id(run) not in self.made:
            width = (v.values[0] if v.op in REDUCTIONS else v).shape[-1]
            args = [self._together(column, width, new) for column in zip(*(u.args for u in run), strict=True)]
            static = {**v.static, "parts": len(run)} if v.op in REDUCTIONS else v.static
            self.made[id(run)] = self.c.make(v.op, *args, primitive=v.primitive, **static)
        lo = run.index(v) * v.shape[-1]
        return part(self.c, self.made[id(run)], lo, lo + v.shape[-1])

    def _together(self, column: tuple[Any, ...], width: int, new: Callable) -> Any:
        """The operands of siblings as one operand."""
        first = column[0]
        if not isinstance(first, Value):
            return first
        narrow = first.shape[-1:] != (width,)
        if all(a is first for a in column):
            if narrow:
                return new(first)
            if first.moves:
                return self.c.make("splat", new(first), times=len(column))
        joined = pack(self.c, [new(a) for a in column])
        return self.c.make("spread", joined, times=width) if narrow else joined
