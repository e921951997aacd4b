"""The order: which stages compute a circuit, each a loop over the steps, or a value for all steps at once or once a
call. Each function takes what is known and returns what it finds; none changes what it is given.
"""

from __future__ import annotations

import math

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.levels import PARALLEL, Levels
from tinygrad_rnn.compiler.ir.value import OVER_TIME, Value
from tinygrad_rnn.compiler.schedule.dataflow import Dataflow
from tinygrad_rnn.compiler.schedule.views import base, is_view

LARGE = 1 << 22  # bytes of all steps that are not kept only to be summed


@dataclass(eq=False)
class Stage:
    """Values computed together: a loop over the steps, or one value for all of them, or one once a call.

    backward  of a loop: does it run from the last step to the first?
    """

    values: list[Value]
    loop: bool = False
    backward: bool = False


Body = Callable[[Dataflow, list[Value], set[Value]], list[Value]]  # of a loop: see `depth_first`


def with_own_states(c: Circuit) -> Circuit:
    """The circuit with each new state, and each gradient of one, a computed value of its own; else a copy is made."""
    roots = {name: list(vs) for name, vs in c.roots.items()}
    read = set(c.order())
    for name, leaves in (("state", c.states), ("dstate", c.carried)):
        new = roots.get(name, [])
        for k, (v, leaf) in enumerate(zip(new, leaves, strict=False)):
            if v is None and name == "dstate" and leaf in read:
                v = c.zeros(leaf.shape, leaf.dtype)
            if v is not None:
                new[k] = v if _is_own(v, new[:k]) else Value("carry", (v,), {}, v.shape, v.dtype, True)
    return replace(c, roots=roots)


def _is_own(v: Value, others: list[Value | None]) -> bool:
    """Is it computed at each step, into a place that no other new state needs?"""
    return v.moves and not is_view(v) and v.op not in ("input", "zeros", "pack", "tsum") and v not in others


# ---- levels -----------------------------------------------------------------------------------------------------


def nbytes(v: Value) -> int:
    """The size of one step."""
    return math.prod(v.shape) * v.dtype.itemsize


def sums_in_loops(flow: Dataflow, steps: int) -> tuple[Levels, int]:
    """Levels in which sums over time are added up step by step: of what a loop computes, there; of what is large for
    so many steps and no contraction, in a loop for all such sums, whose number is returned too."""
    level, sum_loop = dict(flow.level), max(flow.level.values(), default=0) + 1
    for v in flow.level:
        if v.op == "tsum" and flow.moves(v.args[0]) and not flow.contracted(v.args[0]):
            g = base(v.args[0])
            if level[g] >= 0:
                level[v] = level[g]
            elif g.op != "input" and steps * nbytes(v) > LARGE:
                level[v] = sum_loop
    return level, sum_loop


def sunk(flow: Dataflow, most: float, sum_loop: int = -1, one_shape: bool = False) -> Levels:
    """Levels in which cheap values for all steps at once that only one loop reads are computed there, if a step of
    them has more than `most` bytes.

    one_shape: a loop that computes nothing but elements of one shape stays so
    """
    level, shapes = dict(flow.level), _shapes(flow) if one_shape else {}
    for v in reversed(flow.circuit.order()):
        if level[v] == PARALLEL and not v.several:
            homes = {level[u] if u else PARALLEL for u in flow.users[v]}
            home = homes.pop() if len(homes) == 1 else PARALLEL
            fits = home not in shapes or is_view(v) or (v.pointwise and v.shape == shapes[home])
            if home >= 0 and nbytes(v) > most and (_is_summed(flow, v) if home == sum_loop else _is_cheap(v)) and fits:
                level[v] = home
    return level


def _shapes(flow: Dataflow) -> dict[int, tuple[int, ...]]:
    """For each loop that computes nothing but elements of one shape, that shape."""
    loops: dict[int, list[Value]] = {}
    for v, n in flow.level.items():
        if n >= 0 and not flow.has_no_code(v):
            loops.setdefault(n, []).append(v)
    same = lambda v, shape: v.shape == shape and (v.pointwise or v.op == "carry")
    return {n: values[0].shape for n, values in loops.items() if all(same(v, values[0].shape) for v in values)}


def _is_cheap(v: Value) -> bool:
    """Is it as well computed step by step?"""
    return v.pointwise or is_view(v) or v.op == "pack"


def _is_summed(flow: Dataflow, v: Value) -> bool:
    """Is it as well computed step by step where it is added up? All but one product of the rows of all steps."""
    return v.op not in ("input", "carry") and not (v.op == "matmul" and not flow.moves(v.args[1]))


# ---- stages -----------------------------------------------------------------------------------------------------


def ordered(flow: Dataflow, body: Body) -> tuple[list[Stage], list[Stage]]:
    """What is computed forward, and what backward: each value after all that it reads.

    body: the order of a loop, of its values that others read and all that are needed for these, see `depth_first`
    """
    c, level = flow.circuit, flow.level
    against = {level[s] for s, _, back in c.delays if back and s in level}  # loops from the last step to the first
    done: set[Value] = set()

    def made(roots: list[Value]) -> list[Stage]:
        return [stage for unit in _needed(flow, roots, done) for stage in _stages_of(flow, unit, against, body)]

    return made(forward_roots(c)), made(c.wanted)  # in this order: what is done forward is not needed backward


def forward_roots(c: Circuit) -> list[Value]:
    """The outputs and the new states."""
    return [v for name in ("y", "state") for v in c.roots[name] if v is not None]


def _needed(flow: Dataflow, roots: list[Value], done: set[Value]) -> Iterator[list[Value]]:
    """What the roots are computed from and is not done, themselves included: values, or all values of a loop."""
    c, level = flow.circuit, flow.level
    loops: dict[int, list[Value]] = {}
    for v in c.order():
        loops.setdefault(level[v], []).append(v)
    behind = {s: v for s, v, _ in c.delays if s in level and level[s] < 0}  # a delay on no cycle
    for root in roots:
        stack: list[tuple[Value, bool]] = [(root, False)]
        entered: set[int | Value] = set()
        while stack:
            v, ready = stack.pop()
            n = level[v]
            unit = loops[n] if n >= 0 else [v]
            if v in done:
                continue
            if ready:
                done.update(unit)
                yield unit
                done.update(_picked(flow, v))
                continue
            key = n if n >= 0 else v
            if key not in entered:
                entered.add(key)
                stack.append((v, True))
                before = [a for u in unit for a in (*u.values, *([behind[u]] if u in behind else []))]
                stack += [(a, False) for a in before if a not in done and (level[a] != n or n < 0)]


def _picked(flow: Dataflow, v: Value) -> list[Value]:
    """The outputs of an operation with several: they are computed with it, as it is kept nowhere."""
    return [u for u in flow.users[v] if u is not None] if v.several else []


def _stages_of(flow: Dataflow, unit: list[Value], against: set[int], body: Body) -> list[Stage]:
    """How to compute a loop, or a value that is in none."""
    v, n = unit[0], flow.level[unit[0]]
    if n >= 0:
        return [Stage(body(flow, *_read_of(flow, unit)), loop=True, backward=n in against)]
    return [] if flow.has_no_code(v) else [Stage([u]) for u in (v, *_picked(flow, v))]


def _read_of(flow: Dataflow, unit: list[Value]) -> tuple[list[Value], set[Value]]:
    """The values of a loop that its next step or others read, and all of its values that are needed for these."""
    level, n = flow.level, flow.level[unit[0]]
    read = [u for u in unit if any(w is None or level[w] != n for w in flow.users[u])]
    return read, {v for v in flow.circuit.order(read) if level[v] == n}


def depth_first(flow: Dataflow, read: list[Value], inside: set[Value]) -> list[Value]:
    """The order of a loop in which a value is used soon after it is made.

    read: the values that its next step or others read; inside: all values of the loop that these need
    """
    out: list[Value] = []
    seen: set[Value] = set()
    stack = [(v, False) for v in reversed(read)]
    while stack:
        v, ready = stack.pop()
        if ready:
            out.append(v)
        elif v not in seen and v in inside:
            seen.add(v)
            if not flow.has_no_code(v):
                stack.append((v, True))
            stack += [(a, False) for a in reversed(v.values)]
    return out


def by_kind(flow: Dataflow, stages: list[Stage]) -> list[Stage]:
    """First what is computed once, then what moves, the sums over time, and what is computed once from these."""
    after: set[Value] = set()
    kinds: dict[str, list[Stage]] = {"once": [], "moving": [], "sums": [], "after": []}
    for stage in stages:
        v = stage.values[0]
        if v.op in OVER_TIME or not after.isdisjoint(v.values):
            after |= {v, *_views_of(flow, v)}
        kind = "sums" if v.op in OVER_TIME else "moving" if flow.moves(v) else "after" if v in after else "once"
        kinds[kind].append(stage)
    return [stage for kind in kinds.values() for stage in kind]


def _views_of(flow: Dataflow, v: Value) -> Iterator[Value]:
    """The values that only look at v."""
    for u in flow.users[v]:
        if u is not None and is_view(u):
            yield u
            yield from _views_of(flow, u)
