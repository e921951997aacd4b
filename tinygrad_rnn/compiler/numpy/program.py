"""The NumPy engine: a schedule as two straight Python functions of calls with `out=`, forward and backward.

Every view of the plan's own buffers is made before the first step; inside a loop there is nothing but NumPy calls.
"""

from __future__ import annotations

import functools
import re

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.columns import remake, spans
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.levels import batched
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.passes.merge_elementwise import merge_siblings
from tinygrad_rnn.compiler.passes.merge_products import merge_gemms
from tinygrad_rnn.compiler.passes.merge_reductions import merge_reductions
from tinygrad_rnn.compiler.runtime.memory import Arena, recycled
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming
from tinygrad_rnn.compiler.schedule.order import Stage
from tinygrad_rnn.compiler.schedule.places import Buffer, Place
from tinygrad_rnn.compiler.schedule.policy import CallByCall
from tinygrad_rnn.compiler.schedule.schedule import Schedule, schedule
from tinygrad_rnn.ops.elementwise import FUNCTIONS

# Formulas that are one call of NumPy
UFUNCS: dict[str, Callable] = {
    "a + b": np.add, "a - b": np.subtract, "a * b": np.multiply, "a / b": np.divide, "-x": np.negative,
    "a > b": np.greater, "a >= b": np.greater_equal, "a < b": np.less, "a <= b": np.less_equal, "a == b": np.equal,
    "a != b": np.not_equal,
}  # fmt: skip


NAME = "numpy"
SINK = 1 << 20  # bytes of all steps up to which cheap values are computed for all of them at once
AIMS = 1 << 12  # numbers of steps, in sum, for which a program keeps what it makes for them
EVERY_STEP = "every step"  # how an operand that does not move is looked at beside ones that do


def prepare(c: Circuit) -> None:
    """Bring a circuit into the form that pays by the call: few and long ones."""
    merge_gemms(c, by_activation=True)
    merge_siblings(c)
    merge_reductions(c)
    _transpose_once(c)


def _transpose_once(c: Circuit) -> None:
    """A transposed weight that a loop reads at each step is copied into the order of the product, once a call."""

    def visit(v: Value, new: Any) -> Value:
        args = tuple(map(new, v.args))
        if v.op == "matmul" and v.moves and len(v.values) == 2 and v.args[1].op == "permute" and not v.args[1].moves:
            args = (args[0], c.make("copy", args[1]))
        return remake(c, v, args)

    c.rebuild(visit)


class Code:
    """A circuit from which programs are made. batch: the size in it that stands for the size of any batch, or 0"""

    def __init__(self, c: Circuit, batch: int):
        self.c, self.batch = c, batch

    def schedule(self, renaming: Renaming, steps: int) -> Schedule:
        """What to compute when, for a batch of another size."""
        return schedule(renaming.circuit(self.c), CallByCall(SINK, steps))


class Program:
    """A schedule in NumPy. Its buffers are written anew by each forward; what it returns is the caller's.

    capacity  the steps that it has buffers for
    T         the steps that it runs, as many at most: what lies behind them in the buffers is never read
    batch     the sequences that it runs
    """

    engine = "numpy"

    def __init__(self, code: Code, steps: int, batch: int, arena: Arena):
        self.code, self.T, self.capacity, self.batch, self.arena = code, steps, steps, batch, arena
        self.renaming = Renaming(code.batch, batch)
        self.s = code.schedule(self.renaming, steps)
        c = self.c = self.s.c
        self.arrays: dict[Buffer, np.ndarray] = {}
        self.fresh: dict[str, list[Buffer]] = {"forward": [], "backward": []}  # buffers that are made anew at each call
        self._choose_fresh()
        self.kept = _allocate(self.s, steps, arena, self.arrays)
        self.sized: list[tuple[dict, str, Callable]] = []  # what depends on T in the generated functions
        self.bound: dict[Buffer, Any] = {}
        self.sources: dict[str, str] = {}
        inputs = [c.x, *c.captured, *c.draws, *([c.alive] if c.alive is not None else [])]
        self.inputs = [self.s.place[v].buffer for v in inputs]
        self.seeds = [self.s.place[v].buffer for v in c.given]
        self.roots: dict[Any, np.ndarray] = {}  # views of the roots in the plan's own buffers
        self.direct: dict[Any, tuple[Buffer, tuple]] = {}  # the roots in fresh buffers: nobody else writes there
        self.ways: dict[str, list[Any]] = {}  # by name, where to find the roots of a kind, once all are known
        self.starts = {"forward": self._starts(c.states), "backward": self._starts(c.carried)}
        self.wanted = self._wanted()
        self.aims: dict[int, tuple] = {}  # by number of steps: what depends on it, and is not in use
        self._forward = self._compile("forward", self.s.stages[: self.s.first_backward])
        self._backward = self._compile("backward", self.s.stages[self.s.first_backward :])

    def _choose_fresh(self) -> None:
        """Every buffer is the program's own, whose views are made once; results are copied."""

    def aim(self, T: int) -> None:
        """Run so many steps from now on. What was made for other numbers of steps is kept for a while."""
        aims = self.aims
        aims[self.T] = self.wanted, self.roots, self.ways, [env[name] for env, name, _ in self.sized]
        if sum(aims) > AIMS:
            aims.pop(next(iter(aims)))
        self.T = T
        known = aims.pop(T, None)
        if known is None:
            known = self._wanted(), {}, {}, [make() for _, _, make in self.sized]
        self.wanted, self.roots, self.ways, values = known
        for (env, name, _), value in zip(self.sized, values, strict=True):
            env[name] = value

    def _wanted(self) -> dict[str, list[tuple]]:
        """The buffers that are made anew at each call, forward and backward."""
        return {phase: [(b, b.whole(self.T), b.dtype) for b in bs] for phase, bs in self.fresh.items()}

    @property
    def nbytes(self) -> int:
        """The bytes that so many steps take."""
        return sum(b.nbytes(self.T) for b in (*self.kept, *self.fresh["forward"], *self.fresh["backward"]))

    def forward(
        self, inputs: Sequence[np.ndarray], state: Sequence[np.ndarray]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """inputs: x, the captured tensors, draws and alive, as in the circuit. Returns the outputs, the new state."""
        self.bound = dict(zip(self.inputs, inputs, strict=True))
        self._refresh("forward")
        self._start("forward", state)
        self._forward(self.bound)
        return self._results("y", "all"), self._results("state", self.T - 1)

    def backward(self, dys: Sequence[np.ndarray], dstate: Sequence[np.ndarray]) -> dict[str, list[np.ndarray | None]]:
        """The gradients by name: dx, dstate, dcaptured, dwatched."""
        self.bound.update(zip(self.seeds, dys, strict=True))
        self._refresh("backward")
        self._start("backward", dstate)
        self._backward(self.bound)
        when = {"dx": "all", "dstate": 0, "dcaptured": None, "dwatched": "all"}
        return {name: self._results(name, t) for name, t in when.items()}

    def _refresh(self, phase: str) -> None:
        for b, shape, dtype in self.wanted[phase]:
            self.bound[b], _ = recycled(shape, dtype)

    def _starts(self, leaves: list[Value]) -> list[tuple[int, Buffer]]:
        """Where the first step of a loop looks for the given states: (which one, the buffer)."""
        return [(i, self.s.place[leaf].buffer) for i, leaf in enumerate(leaves) if leaf in self.s.place]

    def _start(self, phase: str, given: Sequence[np.ndarray]) -> None:
        """Put the given states there."""
        at = 0 if phase == "forward" else self.T
        for i, buffer in self.starts[phase]:
            self.array(buffer)[(at, ...) if buffer.time else ...] = given[i]

    def _results(self, name: str, t: Any) -> list[Any]:
        """The roots of a kind: for a small network, many small arrays."""
        ways, bound = self.ways.get(name), self.bound
        if ways is not None:
            return [way and (bound[way[0]][way[1]] if way[0] else way[1].copy()) for way in ways]
        roots = self.c.roots[name]
        found = [v and self.result(v, t) for v in roots]
        known = {key: (None, array) for key, array in self.roots.items()} | self.direct
        if all(v is None or (v, t) in known for v in roots):
            self.ways[name] = [v and known[v, t] for v in roots]
        return found

    def result(self, v: Value, t: Any) -> np.ndarray:
        """A root as an array that is the caller's."""
        key = self.direct.get((v, t))
        if key is not None:
            return self.bound[key[0]][key[1]]
        found = self.roots.get((v, t))
        if found is None:
            found = self._found(v, t)
        return found.copy()

    def _found(self, v: Value, t: Any) -> np.ndarray:
        """A root where it is; a shorter way to it is kept for the next time."""
        if v.op == "zeros":
            return np.zeros((self.T, *v.shape) if t == "all" else v.shape, v.dtype)
        found, p = self.view(v, t), self.s.where(v)
        if t == "all" and not self.s.flow.moves(v):
            found = np.broadcast_to(found, (self.T, *v.shape))
        fresh = p.buffer in (*self.fresh["forward"], *self.fresh["backward"])
        whole = p.buffer.time == (t == "all") and t in ("all", None)
        if not p.buffer.bound:
            self.roots[v, t] = found
        elif fresh and whole and all(step[:2] == ("part", -1) for step in p.views):
            steps = [slice(p.shift, p.shift - p.buffer.extra or None)] if p.buffer.time else []
            self.direct[v, t] = p.buffer, (*steps, ..., *(slice(*step[2:]) for step in p.views))
        return found

    # ---- views ----------------------------------------------------------------------------------------------------

    def array(self, buffer: Buffer) -> np.ndarray:
        """The array of a buffer, now."""
        return self.bound[buffer] if buffer.bound else self.arrays[buffer]

    def view(self, v: Value, t: Any) -> np.ndarray:
        """The array of v: at step t, for "all" steps, or (None) the only one."""
        p = self.s.where(v)
        return looked(self.array(p.buffer), p, t, self.T)

    # ---- generating -----------------------------------------------------------------------------------------------

    def _compile(self, name: str, stages: list[Stage]) -> Callable:
        self.env: dict[str, Any] = {}
        self.names: dict[Any, str] = {}
        self.heads: list[str] = []
        self.lines: list[str] = []
        self.lists: list[str] = []
        for stage in stages:
            if stage.loop:
                self._loop(stage)
            else:
                self._emit(stage.values[0], None)
        source = "\n".join([f"def {name}(bound):", *self.heads, *self.lines, "    return None"])
        self.sources[name] = re.sub(r"\bf\d+(?=\()", lambda m: getattr(self.env[m[0]], "__name__", m[0]), source)
        if not self.lines:
            return lambda bound: None
        exec(source, self.env)
        function = self.env[name]

        def run(bound: dict) -> None:
            # Of the exponential in a sigmoid, whose limit is right; and of products, whose vectors reach behind a row
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                function(bound)

        return run

    def _loop(self, stage: Stage) -> None:
        for v in stage.values:
            if v.op == "tsum":
                self._call(np.copyto, self.operand(v, stage), self.operand(v.dtype.type(0), stage))
        self.lists, outer, self.lines = [], self.lines, []
        for v in stage.values:
            self._emit(v, stage)
        body, self.lines = self.lines, outer
        if self.lists:
            names = ", ".join(n + "_" for n in self.lists)
            head = f"    for {names}, in zip({', '.join(self.lists)}):"
        else:
            head = f"    for _ in {self._sized('steps', lambda: range(self.T))}:"
        self.lines += [head, *("    " + line for line in body)] if body else []

    def _name(self, key: Any, value: Any, prefix: str = "v") -> str:
        """The variable that holds the value in the generated function."""
        if key not in self.names:
            self.names[key] = f"{prefix}{len(self.names)}"
            self.env[self.names[key]] = value
        return self.names[key]

    def _sized(self, key: Any, make: Callable, prefix: str = "v", depends: bool = True) -> str:
        """The variable that holds what is made, and made anew if it depends on the number of steps."""
        if key not in self.names:
            name = self._name(key, make(), prefix)
            self.sized += [(self.env, name, make)] if depends else []
        return self.names[key]

    def _call(self, f: Callable, *operands: str) -> None:
        *first, out = operands
        out = f"out={out}" if f in (np.maximum, np.minimum) else out  # these two want to be told
        self.lines.append(f"    {self._name(('f', id(f)), f, 'f')}({', '.join([*first, out])})")

    def operand(self, v: Any, loop: Stage | None, shape: Callable = lambda a, lead: a, tag: Any = "") -> str:
        """An array, or inside a loop the array of this step. shape(array, 1 if it has time) reshapes it."""
        if not isinstance(v, Value):
            return self._name((type(v), repr(v)), np.asarray(v) if isinstance(v, np.generic) else v)
        if v.op == "zeros":
            return self._sized((v, tag), lambda: shape(stand_in(v.shape, v.dtype), 0), depends=tag == EVERY_STEP)
        p = self.s.where(v)
        steps = loop is not None and p.buffer.time
        key = (v, id(loop) if steps else p.buffer.time and loop is None, tag)
        if key not in self.names:
            if tag and not p.buffer.bound and not self._is_view(p, shape):  # a copy, made anew whenever it is read
                copied = functools.partial(shape, lead=int(p.buffer.time and loop is None))
                return f"{self._name(('copied', v, tag, loop is None), copied, 'f')}({self.operand(v, loop)})"
            make = self._maker(p, loop if steps else None, loop is None, shape)
            if p.buffer.bound:  # given at each call
                maker = self._name(("make", key), make)
                self.names[key] = f"v{len(self.names)}"
                self.heads.append(
                    f"    {self.names[key]} = {maker}(bound[{self._name(('buffer', p.buffer), p.buffer)}])"
                )
            elif steps:
                self._name_steps(key, make(self.arrays[p.buffer]), loop)
            else:
                depends = tag == EVERY_STEP or (p.buffer.time and loop is None)
                self._sized(key, lambda: make(self.arrays[p.buffer]), depends=depends)
        if steps and self.names[key] not in self.lists:
            self.lists.append(self.names[key])
        return self.names[key] + "_" * steps

    def _name_steps(self, key: Any, views: list[np.ndarray], loop: Any) -> None:
        """A list of views, one for each step that there are buffers for: of T steps the first ones, or the last ones
        of a loop that begins with the last step."""
        first = lambda: self.capacity - self.T if loop.backward else 0
        self._sized(key, lambda: views[first() : first() + self.T])

    def _is_view(self, p: Place, shape: Callable) -> bool:
        """Can it be looked at in this shape without a copy?"""
        a = self.arrays[p.buffer]
        whole = looked(a, p, "all" if p.buffer.time else None, self.T)
        return np.may_share_memory(a, shape(whole, int(p.buffer.time)))

    def _maker(self, p: Place, loop: Stage | None, batch: bool, shape: Callable) -> Callable:
        """A function of the buffer's array that makes what the operand is."""
        if loop is not None:
            way = -1 if loop.backward else 1
            return lambda a: [shape(looked(a, p, t, self.T), 0) for t in range(self.T)[::way]]
        if batch and p.buffer.time:
            return lambda a: shape(looked(a, p, "all", self.T), 1)
        return lambda a: shape(looked(a, p, None, self.T), 0)

    # ---- statements -----------------------------------------------------------------------------------------------

    def _emit(self, v: Value, loop: Stage | None) -> None:
        emit = {"pack": self._pack, "sum": self._sum, "sums": self._row_sums, "dots": self._row_sums}.get(v.op)
        if v.pointwise:
            self._pointwise(v, loop)
        elif emit is not None:
            emit(v, loop)
        elif v.op in ("carry", "copy"):
            self._call(np.copyto, self.operand(v, loop), self._operand_like(v.args[0], v, loop))
        elif v.op == "tsum" and loop is not None:
            total = self.operand(v, loop)
            self._call(np.add, total, self.operand(v.args[0], loop), total)
        elif v.op == "tsum":
            self._over_time(v, v.args[0])
        elif v.op == "matmul" and len(v.values) == 2:
            self._matmul(v, loop)
        elif v.several:
            arguments = ", ".join(self.operand(a, loop) for a in v.args)
            self.lines.append(f"    {self._outputs(v)} = {self._name(('f', v), _called(v), 'f')}({arguments})")
        elif v.op == "pick":
            self._call(np.copyto, self.operand(v, loop), f"{self._outputs(v.args[0])}[{v.static['index']}]")
        else:
            self._general(v, loop)

    def _sum(self, v: Value, loop: Stage | None) -> None:
        lead = int(loop is None and self.s.flow.moves(v))
        axis, keep = tuple(k + lead for k in v.static["axis"]), v.static["keepdims"]
        f = lambda a, out: np.add.reduce(a, axis=axis, keepdims=keep, out=out)
        f.__name__ = "sum"
        self._call(f, self._operand_like(v.args[0], v.args[0], loop), self.operand(v, loop))

    def _row_sums(self, v: Value, loop: Stage | None) -> None:
        """Σ over each part of the columns: as a product with ones, which BLAS is fast at."""
        parts, x = v.static["parts"], v.args[0]
        width = x.shape[-1] // parts
        apart = lambda a, lead: a.reshape(*a.shape[:-1], parts, width)
        if v.op == "dots":
            self._call(np.vecdot, *(self.operand(a, loop, apart, "parts") for a in v.args), self.operand(v, loop))
            return
        ones = self._name(("ones", width, v.static["scale"]), np.full((width, 1), v.static["scale"], v.dtype))
        if self.s.where(x).views or self.s.where(v).views:  # rows that do not lie behind each other
            self._call(np.matmul, self.operand(x, loop, apart, "parts"), ones,
                       self.operand(v, loop, lambda a, lead: a[..., None], "column"))  # fmt: skip
            return
        rows = lambda a, lead: a.reshape(-1, width)
        self._call(np.dot, self.operand(x, loop, rows, ("rows", width)), ones,
                   self.operand(v, loop, lambda a, lead: a.reshape(-1, 1), "column"))  # fmt: skip

    def _outputs(self, v: Value) -> str:
        """The variable with the tuple that an operation with several outputs returned."""
        return self._name(("outputs", v), None)

    def _operand_like(self, a: Any, v: Value, loop: Stage | None, times: int = 0) -> str:
        """An operand that broadcasts with v: axes are added behind time where it has fewer."""
        rank = len(v.shape)

        def shape(x: np.ndarray, lead: int) -> np.ndarray:
            if x.ndim - lead < rank and (lead or set(v.shape[: rank - x.ndim]) == {1}):  # NumPy is fast at equal shapes
                x = x.reshape(*x.shape[:lead], *(1,) * (rank + lead - x.ndim), *x.shape[lead:])
            if times and x.ndim > lead:
                x = x[..., None] if x.shape[-1] == 1 else x.reshape(*x.shape[:-1], times, x.shape[-1] // times)
            return x

        fewer = isinstance(a, Value) and len(a.shape) < rank
        return self.operand(a, loop, shape, (rank, times) if fewer or times else "")

    def _pointwise(self, v: Value, loop: Stage | None) -> None:
        times = next((_parts(a) for a in v.values if a.op in REPEATED), 0)

        def operand(a: Any) -> str:
            if not isinstance(a, Value) and v.op != "pow":  # of the dtype that NumPy would give it, once
                a = np.result_type(*(b.dtype for b in v.values), a).type(a)
            if isinstance(a, Value) and a.op in REPEATED:
                return self.operand(a.args[0], loop, REPEATED[a.op], a.op)
            return self._operand_like(a, v, loop, times)

        out, args = operand(v), [operand(a) for a in v.args]
        formula = v.primitive.formula if v.primitive else None
        if v.op == "neg" and v.dtype.kind in "fi":  # NumPy 2.4's negative is wrong in place on every 8th double
            self._call(np.multiply, args[0], self.operand(v.dtype.type(-1), loop), out)
        elif v.op == "sigmoid":
            one = self.operand(v.dtype.type(1), loop)
            self._call(np.multiply, args[0], self.operand(v.dtype.type(-1), loop), out)
            self._call(np.exp, out, out)
            self._call(np.add, out, one, out)
            self._call(np.divide, one, out, out)
        elif v.op == "relu":
            self._call(np.maximum, args[0], self.operand(v.dtype.type(0), loop), out)
        elif formula in UFUNCS:
            self._call(UFUNCS[formula], *args, out)
        elif formula is not None and (name := formula.partition("(")[0]) in FUNCTIONS and formula.count("(") == 1:
            self._call(FUNCTIONS[name], *args, out)
        else:
            self._call(_into(v), *args, out)

    def _pack(self, v: Value, loop: Stage | None) -> None:
        for p, lo, hi in spans(v):
            there = self.s.place[v].viewed("part", -1, lo, hi)
            if p.op == "zeros" or self.s.where(p) != there:
                piece = Value("part", (v,), {"axis": -1, "lo": lo, "hi": hi}, p.shape, p.dtype, v.moves)
                self._call(np.copyto, self.operand(piece, loop), self._operand_like(p, v, loop))

    def _matmul(self, v: Value, loop: Stage | None) -> None:
        a, b = v.args
        out = self.operand(v, loop)
        if loop is None and self.s.flow.moves(a) and not self.s.flow.moves(b) and len(b.shape) == 2:
            flat = lambda x, lead: x.reshape(-1, x.shape[-1])  # one product over all rows of all steps
            if _flat(self.s.where(v)) and self.s.flow.moves(v):
                left, out = self.operand(a, loop, flat, "rows"), self.operand(v, loop, flat, "rows")
                self._call(np.matmul, left, self.operand(b, loop), out)
                return
        plain = len(a.shape) == len(b.shape) == len(v.shape) == 2 and loop is not None and not self.s.where(v).views
        f = np.dot if plain else np.matmul  # the same, with half a microsecond less around it
        self._call(f, self._operand_like(a, v, loop), self._operand_like(b, v, loop), out)

    def _over_time(self, v: Value, g: Value) -> None:
        """Σₜ g: for the gradient of a weight, one contraction over time and batch."""
        out = self.operand(v, None)
        if self.s.flow.contracted(g) and g.op == "matmul":
            a, b = g.args
            if len(a.shape) == 2:
                left = self.operand(a.args[0], None, lambda x, lead: x.reshape(-1, x.shape[-1]).T, "rows transposed")
                right = self.operand(b, None, lambda x, lead: x.reshape(-1, x.shape[-1]), "rows")
                self._call(np.matmul, left, right, out)
            else:
                self._call(_contract, self.operand(a, None), self.operand(b, None), out)
        elif self.s.flow.contracted(g):
            rows = self.operand(g.args[0], None, lambda x, lead: x.reshape(-1, x.shape[-1]), "rows")
            self._call(_column_sums, rows, out)
        elif self.s.flow.moves(g):
            self._call(_column_sums, self.operand(g, None), out)
        else:
            self._call(np.multiply, self.operand(g, None), self._sized("T", lambda: self.T), out)

    def _general(self, v: Value, loop: Stage | None) -> None:
        """Any other operation by its own function; for all steps, with its axes moved behind that of time."""
        if loop is not None or not self.s.flow.moves(v) or v.op == "gather":
            self._call(_into(v), *(self.operand(a, loop) for a in v.args), self.operand(v, loop))
            return
        assert batched(v), v
        args = []
        for a in v.args:
            each = isinstance(a, Value) and self.s.flow.moves(a)
            spread = lambda x, lead: x if lead else np.broadcast_to(x, (self.T, *x.shape))
            args.append(self.operand(a, None, spread, "" if each else EVERY_STEP))
        f = self._sized(("f", v), lambda: _into(v, _behind_time(v, self.T)), "f")
        self.lines.append(f"    {f}({', '.join([*args, self.operand(v, None)])})")


def _allocate(s: Schedule, steps: int, arena: Arena, arrays: dict[Buffer, np.ndarray]) -> list[Buffer]:
    """An array for each buffer; buffers of one size that are never alive together share one. Returns those that have
    one of their own, or share it with later ones."""
    shared: dict[Any, list[list]] = defaultdict(list)  # for each size: until when it is used, and its number
    wanted: list[Buffer] = []
    number: dict[Buffer, int] = {}
    buffers = dict.fromkeys(p.buffer for p in s.place.values() if not p.buffer.bound)
    for b in sorted(buffers, key=lambda b: b.span[0]):
        kind = b.time, b.extra, b.shape, b.dtype
        free = next((e for e in shared[kind] if e[0] < b.span[0]), None)
        if free is None:
            free = [0, len(wanted)]
            shared[kind].append(free)
            wanted.append(b)
        free[0], number[b] = b.span[1], free[1]
    made = arena.arrays([(b.whole(steps), b.dtype) for b in wanted])
    arrays.update((b, made[i]) for b, i in number.items())
    return wanted


def looked(a: np.ndarray, p: Place, t: Any, steps: int) -> np.ndarray:
    """A place in the array of its buffer: at step t, for "all" steps, or (None) the only one."""
    lead = int(p.buffer.time and t == "all")
    if lead:
        a = a[p.shift : p.shift + steps]
    elif p.buffer.time:
        a = a[t + p.shift, ...]
    for kind, *args in p.views:
        a = _viewed(a, lead, kind, *args)
    return a


def _viewed(a: np.ndarray, lead: int, kind: str, *args: Any) -> np.ndarray:
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
        return np.broadcast_to(a.reshape(*a.shape[:lead], *(1,) * rank, *a.shape[lead:]) if rank else a, shape)
    return a.reshape(shape)


# How to look at what is repeated so that it broadcasts with columns in several parts.
REPEATED: dict[str, Callable] = {"splat": lambda x, lead: x[..., None, :], "spread": lambda x, lead: x[..., None]}


def _parts(v: Value) -> int:
    """The parts in which something repeated is looked at."""
    times = v.static["times"]
    return times if v.op == "splat" else v.shape[-1] // times


def _flat(p: Place) -> bool:
    """Do the rows of all steps lie in memory as the rows of one matrix?"""
    return all(kind == "part" and args[0] == -1 for kind, *args in p.views)


def _into(v: Value, static: dict[str, Any] | None = None) -> Callable:
    """The operation's own function, its result written into the last argument."""
    forward = _called(v, static)

    def run(*args: Any) -> None:
        np.copyto(args[-1], forward(*args[:-1]))

    run.__name__ = v.op
    return run


def _called(v: Value, static: dict[str, Any] | None = None) -> Callable:
    """The operation's own function, with its keyword arguments."""
    assert v.primitive is not None, v
    made = functools.partial(v.primitive.forward, **(v.static if static is None else static))
    made.__name__ = v.op  # type: ignore[attr-defined]
    return made


def _behind_time(v: Value, T: int) -> dict[str, Any]:
    """The keyword arguments of an operation for arrays with a leading axis of time."""
    static = dict(v.static)
    if "axis" in static:
        axis = static["axis"]
        static["axis"] = tuple(k + 1 for k in axis) if isinstance(axis, tuple) else axis + 1
    if "axes" in static:
        static["axes"] = (0, *(k + 1 for k in static["axes"]))
    if "key" in static:
        static["key"] = (slice(None), *(static["key"] if isinstance(static["key"], tuple) else (static["key"],)))
    if "shape" in static:
        static["shape"] = (T, *static["shape"])
    if "widths" in static:
        static["widths"] = ((0, 0), *static["widths"])
    return static


def _column_sums(a: np.ndarray, out: np.ndarray) -> None:
    np.add.reduce(a, axis=0, out=out)


def _contract(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """Σₜ a[t] @ b[t], as one batched product. a: (T, …, M, K)  b: (T, …, K, N)"""
    axes = range(1, a.ndim - 2)
    left = a.transpose(*axes, a.ndim - 2, 0, a.ndim - 1).reshape(*a.shape[1:-1], -1)
    right = b.transpose(*axes, 0, b.ndim - 2, b.ndim - 1).reshape(*b.shape[1:-2], -1, b.shape[-1])
    np.matmul(left, right, out=out)
