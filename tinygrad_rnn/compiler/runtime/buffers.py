"""The arrays of a program: its own, which live as long as it does, and those that are bound at each call."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.memory import Arena, recycled
from tinygrad_rnn.compiler.runtime.steps import Steps
from tinygrad_rnn.compiler.schedule.places import Buffer, Place
from tinygrad_rnn.compiler.schedule.schedule import Schedule

Fresh = dict[str, list[Buffer]]


class Buffers:
    """An array for each buffer of a schedule.

    steps      how many of those that there is room for are run: what lies behind them is never read
    capacity   the steps that there is room for
    fresh      "forward" and "backward": the bound buffers that are results, for which each call makes arrays
    arrays     of the buffers that are the program's own; kept: those of them that share memory with no other
    bound      the arrays of all others, of the call that runs, or ran last
    addresses  of those arrays whose address is known
    """

    def __init__(self, s: Schedule, capacity: int, arena: Arena, fresh: Fresh | None = None):
        self.s, self.capacity, self.steps, self.arena = s, capacity, Steps(capacity), arena
        self.fresh: Fresh = fresh or {"forward": [], "backward": []}
        self.arrays, self.kept = _allocated(s, capacity, arena)
        self.bound: dict[Buffer, Array] = {}
        self.addresses: dict[Buffer, int] = {}
        self.wanted: dict[str, list[tuple]] = {}
        self.steps.depends(self._wanted, self.wanted.update)

    def _wanted(self) -> dict[str, list[tuple]]:
        """What the fresh arrays are like, for the steps that are run."""
        return {way: [(b, b.whole(self.steps.T), b.dtype) for b in bs] for way, bs in self.fresh.items()}

    @property
    def nbytes(self) -> int:
        """The bytes that the steps take that are run."""
        return sum(b.nbytes(self.steps.T) for b in (*self.kept, *self.fresh["forward"], *self.fresh["backward"]))

    @property
    def device(self) -> str:
        """Where its arrays are."""
        return self.arena.device

    def refresh(self, direction: str) -> None:
        """Make the arrays of the results."""
        for b, shape, dtype in self.wanted[direction]:
            self.bound[b], self.addresses[b] = recycled(shape, dtype)

    def array(self, buffer: Buffer) -> Array:
        """The array of a buffer, as of this call."""
        return self.bound[buffer] if buffer.bound else self.arrays[buffer]

    def view(self, v: Value, t: Any) -> Array:
        """The array of v: at step t, for "all" steps, or (None) the only one."""
        p = self.s.where(v)
        return looked(self.array(p.buffer), p, t, self.steps.T)


def _allocated(s: Schedule, steps: int, arena: Arena) -> tuple[dict[Buffer, Array], list[Buffer]]:
    """An array for each buffer that is not bound. Also the buffers that have one of their own, or share it with later
    ones."""
    buffers = dict.fromkeys(p.buffer for p in s.place.values() if not p.buffer.bound)
    first: dict[int, Buffer] = {}
    for b in buffers:
        first.setdefault(b.memory, b)
    made = dict(zip(first, arena.arrays([(b.whole(steps), b.dtype) for b in first.values()]), strict=True))
    return {b: made[b.memory] for b in buffers}, list(first.values())


def looked(a: Array, p: Place, t: Any, steps: int) -> Array:
    """A place in the array of its buffer: at step t, for "all" steps, or (None) the only one."""
    lead = int(p.buffer.time and t == "all")
    if lead:
        a = a[p.shift : p.shift + steps]
    elif p.buffer.time:
        a = a[t + p.shift, ...]
    for kind, *args in p.views:
        a = _viewed(a, lead, kind, *args)
    return a


def _viewed(a: Array, lead: int, kind: str, *args: Any) -> Array:
    """One view step; the axes of a step stand behind `lead` others."""
    if kind == "part":
        axis, lo, hi = args
        return a[..., lo:hi] if axis == -1 else a[..., lo:hi, :]
    if kind == "permute":
        return a.transpose(*range(lead), *(k + lead for k in args[0]))
    if kind == "getitem":
        key = args[0] if isinstance(args[0], tuple) else (args[0],)
        whole = () if any(k is Ellipsis for k in key) else (Ellipsis,)  # an array, also of a single element
        return a[(*(slice(None),) * lead, *key, *whole)]
    shape = (*a.shape[:lead], *args[0])
    if kind == "broadcast_to":
        rank = len(args[0]) - (a.ndim - lead)
        return xp(a).broadcast_to(a.reshape(*a.shape[:lead], *(1,) * rank, *a.shape[lead:]) if rank else a, shape)
    return a.reshape(shape)
