"""Which thread does what: a thread for each element, or a block of threads for each row of the batch.

    elements   bodies over one shape: threads along the last axis, then along the others and the steps
    rows       bodies one after the other, all for the same row of the batch: between two of them the threads of a block
               wait for each other where one may read what another has written

Either of them for one step, for all steps at once, for one step after the other in a single launch, or for the end of a
step and the beginning of the next one.
"""

from __future__ import annotations

import math

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tinygrad_rnn.compiler.cuda import functions
from tinygrad_rnn.compiler.cuda.bodies import Body, finish, one_more, start
from tinygrad_rnn.compiler.cuda.kernel import Kernel
from tinygrad_rnn.compiler.cuda.waits import Waits
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.schedule.schedule import Schedule

BLOCK, WARP = 128, 32  # threads of a block of elements, and threads that run together
MOST = 512  # threads of a block for a row; CUDA allows WARP²


@dataclass(frozen=True)
class LaunchSteps:
    """The steps of a launch.

    every     all of them: at once, or one after the other if `in_turn`
    backward  in turn, from the last to the first
    """

    every: bool = False
    in_turn: bool = False
    backward: bool = False


ONE, AT_ONCE = LaunchSteps(), LaunchSteps(every=True)


@dataclass(frozen=True)
class Grid:
    """How many blocks of how many threads: for elements of a shape, or for rows of which the widest is the longest.

    over    values of the shapes
    rows    a block for each row of the batch?
    steps   those of the launch
    """

    over: Sequence[Value]
    rows: bool
    steps: LaunchSteps

    def of(self, shapes: Sequence[tuple[int, ...]], T: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(blocks, threads of each) for values of these shapes."""
        times = T if self.steps == AT_ONCE else 1
        if self.rows:
            most = max(math.prod(shape[1:]) for shape in shapes)
            return (shapes[0][0] * times,), (min(MOST, max(WARP, _power(most))),)
        *lead, last = shapes[0] or (1,)
        across = min(BLOCK, _power(last))
        return (-(-math.prod(lead) * times // (BLOCK // across)), -(-last // across)), (across, BLOCK // across)


def _power(n: int) -> int:
    """The least power of 2 that is not less."""
    return 1 << max(n - 1, 0).bit_length()


class KernelWriter:
    """A kernel under construction, of bodies that are written one after the other.

    k      the kernel
    grid   how it is launched
    waits  where its threads must wait for each other
    """

    def __init__(self, s: Schedule, name: str, bodies: Sequence[Body], steps: LaunchSteps, rows: bool):
        self.k, self.waits = Kernel(s, name, one_step=steps == ONE), Waits(s)
        wide = [b.reduces.args[0] if b.reduces is not None else b.over for b in bodies] if rows else [bodies[0].over]
        self.grid = Grid(tuple(wide), rows, steps)

    def begin(self) -> None:
        """Which row, or which element, and which step, is this thread's."""
        if self.grid.rows:
            self._begin_rows()
        else:
            self._begin_elements()

    def _begin_rows(self) -> None:
        k, v = self.k, self.grid.over[0]
        if self.grid.steps == AT_ONCE:
            taken_apart(k, "blockIdx.x", ["t", "i0"], [k.field("T"), k.size(v, 0)])
        else:
            k.say("const i64 i0 = blockIdx.x;")

    def _begin_elements(self) -> None:
        k, v = self.k, self.grid.over[0]
        rank = len(v.shape)
        if rank:
            k.say(f"const i64 i{rank - 1} = blockIdx.y * (i64)blockDim.x + threadIdx.x;")
            k.say(f"if (i{rank - 1} >= {k.size(v, rank - 1)}) return;")
        outer = {f"i{axis}": k.size(v, axis) for axis in range(rank - 1)}
        if self.grid.steps == AT_ONCE:
            outer = {"t": k.field("T"), **outer}
        k.say("const i64 row = blockIdx.x * (i64)blockDim.y + threadIdx.y;")
        k.say(f"if (row >= {' * '.join(outer.values()) or '1'}) return;")
        taken_apart(k, "row", list(outer), list(outer.values()))

    @contextmanager
    def steps(self) -> Iterator[None]:
        """The steps one after the other, if the launch is for those."""
        if not self.grid.steps.in_turn:
            yield
            return
        T = self.k.field("T")
        back = f"for (i64 t = {T} - 1; t >= 0; t--)"
        with self.k.block(back if self.grid.steps.backward else f"for (i64 t = 0; t < {T}; t++)"):
            yield

    def write(self, bodies: Sequence[Body], other_step: bool = False) -> None:
        """What bodies do. other_step: of another step than what was written before"""
        if other_step:
            self.k.known = {}
        for body in bodies:
            if body.single and not (self.grid.rows and not self.waits.in_place(body, self.k.known)):
                body = replace(body, single=False)  # one thread reads, and then writes
            if self.waits.before(body, other_step, self.k.known):
                self.wait()
            if self.grid.rows:
                _of_row(self.k, body)
            else:
                with self.k.block(""):
                    body.write(self.k, [f"i{axis}" for axis in range(len(body.over.shape))])

    def wait(self) -> None:
        """Let the threads of a block wait for each other."""
        assert self.grid.rows
        self.k.say("__syncthreads();")


def kernel(s: Schedule, name: str, bodies: Sequence[Body], steps: LaunchSteps, rows: bool) -> tuple[Kernel, Grid]:
    """A kernel of bodies. rows: with a block for each row of the batch, else with a thread for each element."""
    code = KernelWriter(s, name, bodies, steps, rows)
    code.begin()
    with code.steps():
        code.write(bodies)
        if steps.in_turn and code.waits.before_again():
            code.wait()
    return code.k, code.grid


def turn(
    s: Schedule, name: str, end: Sequence[Body], beginning: Sequence[Body], backward: bool, rows: bool
) -> tuple[Kernel, Grid]:
    """A kernel of the end of a step and the beginning of the next one."""
    code = KernelWriter(s, name, [*end, *beginning], ONE, rows)
    code.begin()
    code.write(end)
    with code.k.at_step(f"(t {'-' if backward else '+'} 1)"):
        code.write(beginning, other_step=True)
    return code.k, code.grid


def elements_stay(s: Schedule, bodies: Sequence[Body], *, in_turn: bool = False, other_step: int | None = None) -> bool:
    """Does each thread read only what it wrote itself, if it computes one element after the other of one shape?

    in_turn     at all steps one after the other
    other_step  the number of the first body that is one of the next step
    """
    if any(body.over.shape != bodies[0].over.shape or body.reduces is not None for body in bodies):
        return len(bodies) == 1 and not in_turn
    waits, bodies = Waits(s), [replace(body, single=False) for body in bodies]  # an element, of whatever row, a thread
    clash = [waits.before(body, other_step is not None and n >= other_step) for n, body in enumerate(bodies)]
    return not any(clash) and not (in_turn and waits.before_again())


# ---- the threads of a block for a row -------------------------------------------------------------------------------


def _of_row(k: Kernel, body: Body) -> None:
    """What a body does for this row: a single element is computed by each thread, so that all of them have it."""
    k.alone = body.single
    if body.reduces is not None:
        _together(k, body, body.reduces)
    elif body.single:
        body.write(k, ["i0", *("0" for _ in body.over.shape[1:])])
    else:
        with _each(k, body.over) as index:
            body.write(k, index)
    k.alone = False


@contextmanager
def _each(k: Kernel, v: Value) -> Iterator[list[str]]:
    """Each element of this row of v, by one of the threads."""
    rank = len(v.shape)
    sizes = [k.size(v, axis) for axis in range(1, rank)]
    with k.block(f"for (i64 j = threadIdx.x; j < {' * '.join(sizes) or '1'}; j += blockDim.x)"):
        index = [f"i{axis}" for axis in range(rank)]
        taken_apart(k, "j", index[1:], sizes)
        yield index


def _together(k: Kernel, body: Body, v: Value) -> None:
    """A reduction of this row: for each result, all threads gather, and then put together what they have."""
    rank = len(body.over.shape)
    if body.single:
        _gathered(k, v, ["i0", *("0" for _ in range(1, rank))], k.variable(functions.real(v.dtype), start(v)))
        return
    sizes = [k.size(body.over, axis) for axis in range(1, rank)]
    with k.block(f"for (i64 o = 0; o < {' * '.join(sizes) or '1'}; o++)"):
        kept = [f"i{axis}" for axis in range(rank)]
        taken_apart(k, "o", kept[1:], sizes)
        total = k.variable(functions.real(v.dtype), start(v))
        k.alone = True
        _gathered(k, v, kept, total)
        k.known.pop(v, None)


def _gathered(k: Kernel, v: Value, kept: Sequence[str], total: str) -> None:
    axes = sorted(v.static["axis"])
    inner = [k.size(v.args[0], axis) for axis in axes]
    with k.block(f"for (i64 q = threadIdx.x; q < {' * '.join(inner)}; q += blockDim.x)"):
        taken_apart(k, "q", [f"r{axis}" for axis in axes], inner)
        one_more(k, v, kept, total)
    k.say(f"{total} = {v.op}_of_block({total});")
    finish(k, v, kept, total)


def taken_apart(k: Kernel, number: str, names: Sequence[str], sizes: Sequence[str]) -> None:
    """Let the names be the indices of an element, given its number."""
    rest = number
    for name, size in zip(names[:0:-1], sizes[:0:-1], strict=True):
        k.say(f"const i64 {name} = {rest} % {size};")
        rest = f"{rest} / {size}" if rest == number else f"({rest}) / {size}"
    if names:
        k.say(f"const i64 {names[0]} = {rest};")


# Each thread gets what all threads of the block have together.
PRELUDE = {
    f"{op}_of_block": f"""
template <class T> static __device__ T {op}_of_block(T x) {{
  __shared__ T part[{WARP}];
  for (int s = {WARP // 2}; s; s /= 2) {{ T y = __shfl_xor_sync(0xffffffffu, x, s); x = {both}; }}
  if (threadIdx.x % {WARP} == 0) part[threadIdx.x / {WARP}] = x;
  __syncthreads();
  x = part[0];
  for (int w = 1; w < blockDim.x / {WARP}; w++) {{ T y = part[w]; x = {both}; }}
  __syncthreads();
  return x;
}}
"""
    for op, both in (("sum", "x + y"), ("max", "larger(x, y)"), ("min", "smaller(x, y)"))
}
