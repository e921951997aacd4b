"""What the programs of all backends share: how arrays come in, and how results are found. What they compute is given to
them as two functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.runtime.backend import Told
from tinygrad_rnn.compiler.runtime.buffers import Buffers
from tinygrad_rnn.compiler.runtime.memory import Arena
from tinygrad_rnn.compiler.schedule.places import Buffer

Run = Callable[[dict[Buffer, Array]], None]  # computes one direction, given the arrays that are bound


class Program:
    """A schedule on its buffers, in the memory of a device: see `backend.Program`.

    Its buffers are written anew by each forward; what it returns is the caller's.

    run      what computes "forward" and "backward"; None if there is nothing to compute
    texts    functions that make the text of what was generated, for people
    told     by direction what `plan` tells besides: lines, or functions that make them for so many steps as are run
    """

    def __init__(
        self,
        buffers: Buffers,
        batch: int,
        arena: Arena,
        run: dict[str, Run | None],
        texts: Sequence[Callable[[], str]],
        told: Mapping[str, Sequence[Told]] | None = None,
    ):
        s, c = buffers.s, buffers.s.c
        self.buffers, self.batch, self.arena, self.run, self.texts = buffers, batch, arena, run, texts
        self.s, self.capacity = s, buffers.capacity
        self.told: Mapping[str, Sequence[Told]] = told or {}
        self.inputs, self.seeds = inputs_of(s), [s.place[v].buffer for v in c.given]
        self.starts = {"forward": self._starts(c.states), "backward": self._starts(c.carried)}
        self.results = Results(buffers)

    @property
    def T(self) -> int:
        """The steps that it runs."""
        return self.buffers.steps.T

    @property
    def nbytes(self) -> int:
        """The bytes that so many steps take."""
        return self.buffers.nbytes

    @property
    def source(self) -> Callable[[], str]:
        """What makes the text of what was generated. It has no hold on the buffers."""
        texts = self.texts
        return lambda: "\n\n".join([text for make in texts if (text := make().rstrip())])

    def aim(self, T: int) -> None:
        """Run so many steps from now on."""
        self.buffers.steps.aim(T)

    def let_go(self) -> None:
        """Forget what was given."""
        self.buffers.bound = {}

    def forward(self, inputs: Sequence[Array], state: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """inputs: x, the captured tensors, draws and alive, as in the circuit. Returns the outputs, the new state."""
        self.buffers.bound, self.buffers.addresses = {}, {}
        self._compute("forward", self.inputs, inputs, state)
        return self.results.take("y", "all"), self.results.take("state", self.buffers.steps.T - 1)

    def backward(self, dys: Sequence[Array], dstate: Sequence[Array]) -> dict[str, list[Array | None]]:
        """The gradients by name: dx, dstate, dcaptured, dwatched."""
        for buffer in self.seeds:
            self.buffers.addresses.pop(buffer, None)
        self._compute("backward", self.seeds, dys, dstate)
        when = {"dx": "all", "dstate": 0, "dcaptured": None, "dwatched": "all"}
        return {name: self.results.take(name, t) for name, t in when.items()}

    def _compute(self, direction: str, given: list[Buffer], arrays: Sequence[Array], state: Sequence[Array]) -> None:
        buffers = self.buffers
        for buffer, array in zip(given, arrays, strict=True):
            if buffer.bound:
                buffers.bound[buffer] = array
            else:
                buffers.arrays[buffer][slice(buffers.steps.T) if buffer.time else ...] = array
        buffers.refresh(direction)
        at = 0 if direction == "forward" else buffers.steps.T
        for i, buffer in self.starts[direction]:
            buffers.array(buffer)[(at, ...) if buffer.time else ...] = state[i]
        run = self.run[direction]
        if run is not None:
            run(buffers.bound)

    def _starts(self, leaves: list[Value]) -> list[tuple[int, Buffer]]:
        """Where the first step of a loop looks for the given states: (which one, the buffer)."""
        return [(i, self.s.place[leaf].buffer) for i, leaf in enumerate(leaves) if leaf in self.s.place]


def inputs_of(s: Any) -> list[Buffer]:
    """The buffers of what a forward is given, in its order."""
    c = s.c
    return [s.place[v].buffer for v in (c.x, *c.captured, *c.draws, *([c.alive] if c.alive is not None else []))]


class _Sought(NamedTuple):
    """A root in an array that another call may have elsewhere: it is looked at anew whenever it is copied."""

    look: Callable[[], Array]

    def copy(self) -> Array:
        return self.look().copy()


class Results:
    """The roots of a circuit after a run, as arrays that are the caller's.

    ways  by name, once it was asked for: for each root the fresh buffer that it is in and where in it; or none, and
          what must be copied
    """

    def __init__(self, buffers: Buffers):
        self.buffers, self.ways = buffers, dict[str, list[Any]]()
        buffers.steps.depends(dict, self._use)

    def _use(self, ways: dict[str, list[Any]]) -> None:
        self.ways = ways

    def take(self, name: str, t: Any) -> list[Any]:
        """The roots of a kind: at step t, for "all" steps, or (None) the only ones; None where there is none."""
        ways, bound = self.ways.get(name), self.buffers.bound
        if ways is None:
            ways = self.ways[name] = [v and self._way(v, t) for v in self.buffers.s.c.roots[name]]
        return [way and (bound[way[0]][way[1]] if way[0] else way[1].copy()) for way in ways]

    def _way(self, v: Value, t: Any) -> tuple[Buffer | None, Any]:
        """Where a root is: the shortest way to it that holds for all calls of so many steps."""
        s = self.buffers.s
        if v.op == "zeros":
            shape = (self.buffers.steps.T, *v.shape) if t == "all" else v.shape
            return None, stand_in(shape, v.dtype, self.buffers.device)
        p = s.where(v)
        if not p.buffer.bound:  # nobody makes that array anew
            return None, self._look(v, t)
        fresh = any(p.buffer in buffers for buffers in self.buffers.fresh.values())
        whole = p.buffer.time == (t == "all") and t in ("all", None)
        if fresh and whole and all(view[:2] == ("part", -1) for view in p.views):  # nobody else writes there
            times = [slice(p.shift, p.shift - p.buffer.extra or None)] if p.buffer.time else []
            return p.buffer, (*times, ..., *(slice(*view[2:]) for view in p.views))
        return None, _Sought(lambda: self._look(v, t))

    def _look(self, v: Value, t: Any) -> Array:
        found = self.buffers.view(v, t)
        if t == "all" and not self.buffers.s.flow.moves(v):
            found = xp(found).broadcast_to(found, (self.buffers.steps.T, *v.shape))
        return found
