"""Places for an engine that computes elementwise values in nests: all operands of an element are read before any of its
results is written, so that a result may lie where any operand was that nobody needs any more.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.nests import Nest
from tinygrad_rnn.compiler.schedule.order import nbytes
from tinygrad_rnn.compiler.schedule.places import Buffer, Place, Places, columns_read
from tinygrad_rnn.compiler.schedule.views import base, is_view


class NestPlaces(Places):
    """Gives places to values of nests. What only its nest reads gets none: it stays in registers."""

    def _place(self, v: Value) -> None:
        nest = self.fusion.nest_of.get(v)
        if nest is None:
            super()._place(v)
        elif v is nest[-1]:  # the first one that is met
            self._place_nest(nest)

    def _place_nest(self, nest: Nest) -> None:
        stored = [u for u in nest if u not in self.fusion.in_registers]
        for u in stored:
            if u not in self.place:
                time = self.flow.moves(u) and (u in self.life.kept_over_time or not self.life.stage_of[u].loop)
                self.place[u] = Place(Buffer(u.shape, u.dtype, time))
        free = dict.fromkeys(sorted(stored, key=self._column))
        for z in sorted(self._taken_apart_by(nest), key=lambda z: -nbytes(z)):
            self._put_where_its_parts_go(z, free)
        for a in sorted(self._dying(nest), key=self._origin):
            for u in free:
                if (a.shape, a.dtype) == (u.shape, u.dtype) and self._share(a, self.place[u], u):
                    del free[u]
                    break

    def _dying(self, nest: Nest) -> Iterator[Value]:
        """What the nest is the last to read, element by element only."""
        operands = dict.fromkeys(a for u in nest for a in u.values if a not in nest)
        views = {base(a) for a in operands if is_view(a)}
        end = self.life.position[nest[-1]]
        for a in operands:
            alone = not is_view(a) and a not in views and a.op != "pack"
            if alone and a not in self.place and self.life.last.get(a, -1) <= end:
                yield a

    def _taken_apart_by(self, nest: Nest) -> Iterator[Value]:
        """What is read as columns only, by the nest only."""
        inside = set(nest)
        for z in dict.fromkeys(a.args[0] for u in nest for a in u.values if a.op == "part"):
            readers = {u for p in columns_read(self.flow.users, z) for u in self.flow.users[p]}
            if readers and readers <= inside and z not in self.place:
                yield z

    def _put_where_its_parts_go(self, z: Value, free: dict[Value, None]) -> None:
        """Place z so that each part of it is where a result of the nest will be, if there are such places."""
        parts = sorted((p.static["lo"], p.static["hi"]) for p in columns_read(self.flow.users, z))
        if [lo for lo, _ in parts] != [0, *(hi for _, hi in parts[:-1])] or parts[-1][1] != z.shape[-1]:
            return
        at = {self.place[u]: u for u in free}
        for first in list(at):
            whole = self._columns_from(first, z.shape[-1])
            if whole is None:
                continue
            results = [at[p] for p in (whole.viewed("part", -1, *p) for p in parts) if p in at]
            if len(results) == len(parts) and self._share(z, whole, min(results, key=self.life.position.__getitem__)):
                for u in results:
                    del free[u]
                return

    def _columns_from(self, place: Place, width: int) -> Place | None:
        """As many columns of a buffer, from the first that a place is; None if it is no columns of a buffer."""
        if place.columns is None or place.around.views:
            return None
        lo = place.columns[0]
        return place.around.viewed("part", -1, lo, lo + width)

    def _column(self, u: Value) -> int:
        """The first of the columns that it is, or 0."""
        return (self.place[u].columns or (0, 0))[0]

    def _origin(self, a: Value) -> tuple[bool, int]:
        """Of a value that its nest computes from one part of a value: where that part begins. Others come later."""
        inside = set(self.fusion.nest_of.get(a, ()))
        seen, stack, parts = {a}, [a], set()
        while stack:
            for b in stack.pop().values:
                if b.op == "part":
                    parts.add(b.static["lo"])
                elif b in inside and b not in seen:
                    seen.add(b)
                    stack.append(b)
        return (False, parts.pop()) if len(parts) == 1 else (True, self.life.position.get(a, 0))
