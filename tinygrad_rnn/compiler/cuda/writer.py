"""Writing a schedule for a GPU: which kernels run when, and which products between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tinygrad_rnn.compiler.cuda import bodies, functions, scan, threads
from tinygrad_rnn.compiler.cuda.bodies import Body
from tinygrad_rnn.compiler.cuda.kernel import Kernel
from tinygrad_rnn.compiler.cuda.scan import Chunks
from tinygrad_rnn.compiler.cuda.threads import Grid, LaunchSteps, elements_stay
from tinygrad_rnn.compiler.cuda.types import HALF, INTEGERS
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.batch_rows import by_rows
from tinygrad_rnn.compiler.schedule.copies import is_put_together
from tinygrad_rnn.compiler.schedule.linear import recurrence
from tinygrad_rnn.compiler.schedule.nests import fusable, grouped
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.schedule import Schedule, about

MOST = 100  # bodies of a kernel: what a launch may hand over, a few of 8 bytes for each operand, has an end


@dataclass(frozen=True)
class Launch:
    """A kernel, and how many threads run it.

    scan  of a loop, what does the same as a scan over time where that pays
    """

    kernel: Kernel
    grid: Grid | Chunks
    scan: Launch | None = None


@dataclass(frozen=True)
class LibraryCall:
    """A value that a library computes: a product of rows with a matrix, a sum over time, or by its own function."""

    value: Value


Action = Launch | LibraryCall


@dataclass(frozen=True)
class Part:
    """Actions one after the other: once, or at each step of a loop.

    over_time  of what is no loop: are the values those of all steps?
    turn       of a loop that begins and ends with kernels: (what begins its first step, what ends a step and begins the
               next one, what ends its last step); the actions are those between
    """

    actions: Sequence[Action]
    loop: bool = False
    backward: bool = False
    over_time: bool = False
    turn: tuple[Launch, Launch, Launch] | None = None

    @property
    def at_each_step(self) -> Sequence[Action]:
        """What is done at each step of a loop, but for the first and the last one."""
        return [*self.actions, *(self.turn or ())[1:2]] if self.loop else ()

    @property
    def once(self) -> Sequence[Action]:
        """What is done once, also at the beginning and at the end of a loop."""
        return (self.turn or ())[::2] if self.loop else self.actions


@dataclass(frozen=True)
class Written:
    """What was written for one direction."""

    parts: Sequence[Part]

    @property
    def kernels(self) -> list[Kernel]:
        """All kernels, in the order in which they first run."""
        launches = [a for part in self.parts for a in (*(part.turn or ()), *part.actions) if isinstance(a, Launch)]
        return [way.kernel for launch in launches for way in (launch, launch.scan) if way]

    def text(self, told: bool = False) -> str:
        """The kernels as one file of CUDA C. told: with what of a user's code its lines come from"""
        if not self.kernels:
            return ""
        text = "\n".join([k.text(told) for k in self.kernels])
        half = HALF if "half16" in text else ""
        helpers = [helper for name, helper in threads.PRELUDE.items() if name in text]
        return "\n".join([INTEGERS, half, functions.PRELUDE, *helpers, text])


def written(s: Schedule, stages: Sequence[Stage]) -> Written:
    """Some stages of a schedule."""
    return Written(Writer(s).parts(stages))


class Writer:
    """Writes stages as kernels and calls; kernels are numbered."""

    def __init__(self, s: Schedule):
        self.s, self.by_rows, self.count = s, by_rows(s), 0

    def parts(self, stages: Sequence[Stage]) -> list[Part]:
        """A part for each loop, each call, and each run of kernels for all steps at once or once a call."""
        found: list[Part] = []
        together: list[Value] = []  # for all steps at once, in one kernel
        for stage in stages:
            v = stage.values[0]
            made = None if stage.loop or v.op == "tsum" else self._bodies_of([v])
            if made is not None and self.s.flow.moves(v) and self._rows_stay(made):
                if len(together) == MOST or not self._join([*together, v]):
                    found += self._at_once(together)
                    together = []
                together.append(v)
                continue
            found += [*self._at_once(together), self._loop(stage) if stage.loop else self._once(v, made)]
            together = []
        return found + self._at_once(together)

    def _once(self, v: Value, made: Sequence[Body] | None) -> Part:
        """A value for all steps at once, or once a call."""
        over_time = self.s.flow.moves(v)
        if made is None:
            return Part([LibraryCall(v)], over_time=over_time)
        steps = threads.AT_ONCE if over_time else threads.ONE
        return Part([self._launch([body], steps) for body in made], over_time=over_time)

    def _at_once(self, values: Sequence[Value]) -> list[Part]:
        """Values for all steps at once, whose rows are computed from the same rows of the same step."""
        made = self._together(values)
        return [Part([self._launch(made, threads.AT_ONCE)], over_time=True)] if made else []

    def _together(self, values: Sequence[Value]) -> list[Body]:
        return [body for group in grouped(self.s.flow, values) for body in self._bodies_of(group) or ()]

    def _join(self, values: Sequence[Value]) -> bool:
        """Can they be computed in one kernel for all steps at once? Not if one reads another step of what another
        writes, or of what shares its memory: steps have no order."""
        where, bodies = self.s.where, self._together(values)
        written = [where(v) for body in bodies for v in body.writes]
        read = [where(v) for body in bodies for v in (*body.reads, *body.strays)]
        return not any(p.buffer.shares(q.buffer) and p.shift != q.shift for p in written for q in (*written, *read))

    def _bodies_of(self, group: Sequence[Value]) -> list[Body] | None:
        with about(group[0]):
            return self._bodies(group)

    def _loop(self, stage: Stage) -> Part:
        """What is done at each step; what needs no library, for all steps in one launch."""
        segments = list(self._segments(stage))
        if len(segments) == 1 and isinstance(segments[0], list):
            whole = segments[0]
            if self._rows_stay(whole) or elements_stay(self.s, whole, in_turn=True):
                in_turn = self._launch(whole, LaunchSteps(True, True, stage.backward))
                return Part([replace(in_turn, scan=self._scan(stage))])
        if len(segments) > 2 and isinstance(segments[0], list) and isinstance(segments[-1], list):
            beginning, end = segments[0], segments[-1]
            if self._rows_stay([*end, *beginning]):
                turn = self._turn(beginning, end, stage.backward)
                return Part(self._actions(segments[1:-1]), True, stage.backward, turn=turn)
        return Part(self._actions(segments), True, stage.backward)

    def _scan(self, stage: Stage) -> Launch | None:
        """A loop as a scan over time, if it can be one."""
        loop = recurrence(self.s.flow, stage)
        if loop is None or not scan.can_scan(self.s, loop):
            return None
        return Launch(*scan.kernel(self.s, self._name(), loop, stage.backward))

    def _actions(self, segments: Sequence[list[Body] | LibraryCall]) -> list[Action]:
        actions: list[Action] = []
        for segment in segments:
            if isinstance(segment, LibraryCall):
                actions.append(segment)
            elif self._rows_stay(segment):
                actions.append(self._launch(segment, threads.ONE))
            else:
                actions += [self._launch([body], threads.ONE) for body in segment]
        return actions

    def _turn(self, beginning: list[Body], end: list[Body], backward: bool) -> tuple[Launch, Launch, Launch]:
        rows = not elements_stay(self.s, [*end, *beginning], other_step=len(end))
        first, last = self._launch(beginning, threads.ONE), self._launch(end, threads.ONE)
        return first, Launch(*threads.turn(self.s, self._name(), end, beginning, backward, rows)), last

    def _segments(self, stage: Stage) -> Iterator[list[Body] | LibraryCall]:
        """What lies between calls of a library, and these calls."""
        segment: list[Body] = []
        for group in grouped(self.s.flow, stage.values):
            found = self._bodies_of(group)
            if found is not None:
                if len(segment) > MOST:
                    yield segment
                    segment = []
                segment += found
                continue
            if segment:
                yield segment
            segment = []
            yield from map(LibraryCall, group)
        if segment:
            yield segment

    def _bodies(self, group: Sequence[Value]) -> list[Body] | None:
        """A group of values as kernels compute them; None: it is a library's."""
        v = group[0]
        if is_put_together(v):
            return list(bodies.pieces(self.s, v))
        if fusable(self.s.flow, v):
            return [bodies.nest(self.s, group)]
        if v.op in ("sum", "max", "min") and v.args[0].shape and 0 not in v.args[0].shape:
            return [bodies.reduction(v)]
        if v.op == "matmul" and is_small_product(v):
            return [bodies.product(v)]
        return None

    def _rows_stay(self, segment: Sequence[Body]) -> bool:
        """Does each body compute rows from the same rows?"""
        return self.by_rows and all(len(body.over.shape) > 0 for body in segment)

    def _launch(self, segment: Sequence[Body], steps: LaunchSteps) -> Launch:
        """A thread for each element, if that is enough; else a block for each row."""
        reduced = segment[0].reduces
        alone = len(segment) == 1 and reduced is not None and 0 not in reduced.static["axis"]
        rows = alone or not elements_stay(self.s, segment, in_turn=steps.in_turn)
        return Launch(*threads.kernel(self.s, self._name(), segment, steps, rows))

    def _name(self) -> str:
        self.count += 1
        return f"k{self.count - 1}"


def is_small_product(v: Value) -> bool:
    """Is it a product of many small matrices, or of them with one row or one column? Rows times one matrix are a
    library's."""
    if len(v.values) != 2 or len(v.args[0].shape) != len(v.shape) or len(v.shape) < 3:
        return False
    b = v.args[1]
    return len(b.shape) == len(v.shape) or (len(b.shape) == 2 and 1 in b.shape)
