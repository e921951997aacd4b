"""Recording a step until it stays the same: which states no step changes, and does it hang on the batch size?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import device_of, to_numpy
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.compiler.ir.signature import signature
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.record.record import record
from tinygrad_rnn.compiler.runtime.memory import Arenas
from tinygrad_rnn.compiler.runtime.programs import Programs
from tinygrad_rnn.compiler.schedule.batch_sizes import Renaming, beside

Step = Callable[..., tuple[list[Any], list[Any]]]  # step(x, states[, alive]) -> (outputs, new states), y first


def settled(step: Step, x: Tensor, states: Sequence[Tensor], **options: Any) -> tuple:
    """The circuit of a step whose states keep their shapes, what it captures, these states, and which no step changes.

    A state that starts as a broadcast or in another dtype becomes what the step makes of it. The step is recorded once
    more in the end: Unsupported if that makes another circuit.
    """
    found = record_until_stable(step, x, states, options)
    _check_same(found, _recorded(step, x, found[2], found[3], options))
    return found


def record_until_stable(step: Step, x: Tensor, states: Sequence[Tensor], options: dict[str, Any]) -> tuple:
    """What `settled` gives, recorded no more often than its state needs, and not once more to compare."""
    states, constant = list(states), frozenset[int]()
    names = options["names"] = dict(options.get("names") or {})
    for _ in range(5):
        c, captured = _recorded(step, x, states, constant, options)
        moving = [i for i in range(len(states)) if i not in constant]
        pairs = list(zip(moving, c.states, c.roots["state"], strict=True))
        fixed = {i for i, s, v in pairs if v is s}
        other = [(i, v) for i, s, v in pairs if (v.shape, v.dtype) != (s.shape, s.dtype)]
        for i, v in other:
            if v.dtype.kind != states[i].dtype.kind:  # for booleans + is "or": the first step is another one
                name, kinds = c.states[moving.index(i)].name, f"{states[i].dtype} and becomes {v.dtype}"
                raise Unsupported(f"its state must keep its dtype: {name} starts as {kinds}")
            states[i] = Tensor(np.broadcast_to(np.zeros((), v.dtype), v.shape))
            names[id(states[i])] = c.states[moving.index(i)].name
        constant |= fixed
        if not fixed and not other:
            return c, captured, states, constant
    raise Unsupported("its state must keep its shapes from step to step")


def _recorded(
    step: Step, x: Tensor, states: Sequence[Tensor], constant: frozenset[int], options: dict[str, Any]
) -> tuple[Circuit, list[Any]]:
    """The circuit of a step some of whose states no step changes, and what it captures."""

    def fewer(x: Any, given: list[Any], *alive: Any) -> tuple[list, list]:
        rest = iter(given)
        ys, new = step(x, [s if i in constant else next(rest) for i, s in enumerate(states)], *alive)
        if len(new) != len(states):
            raise Unsupported(f"its state must keep its {len(states)} tensors, the new one has {len(new)}")
        return ys, [n for i, n in enumerate(new) if i not in constant]

    return record(fewer, x, [s for i, s in enumerate(states) if i not in constant], **options)


def programs_of(
    step: Step, x: Tensor, found: tuple, engines: Sequence[Any], arenas: Arenas, options: dict[str, Any]
) -> Programs:
    """The programs of a recording: for batches of any size if a second one, for another size, is the same."""
    circuit, captured, states, constant = found
    batch = beside(circuit)
    if batch and (again := _recorded_for(batch, step, x, states, constant, options)):
        same = signature(again[0], Renaming(batch, len(x)).size) == signature(circuit)
        if same and all(map(_is_same, captured, again[1])):
            programs = Programs(again[0], batch, engines, arenas, options.get("who", "cell"), x.device)
            if programs.sound:
                return programs
    _check_same(found, _recorded(step, x, states, constant, options))
    return Programs(circuit, 0, engines, arenas, options.get("who", "cell"), x.device)


def _recorded_for(batch: int, step: Step, x: Tensor, states: Sequence[Tensor], constant: Any, options: Any) -> Any:
    """What is recorded for a batch of another size; None if the step cannot be."""
    like = lambda t: Tensor(stand_in((batch, *t.shape[1:]), t.dtype, t.device), t.node)
    wide = lambda t: like(t) if t.shape[:1] == x.shape[:1] else t
    others = [wide(s) for s in states]
    names = options["names"]
    names = names | {id(new): names[id(old)] for old, new in zip(states, others, strict=True) if id(old) in names}
    try:
        c, captured = _recorded(step, wide(x), others, constant, {**options, "names": names})
    except Exception:  # whatever a step says that has a size of its own
        return None
    were = {id(new): old for old, new in zip(states, others, strict=True)}
    return c, [were.get(id(t), t) for t in captured]


def _is_same(a: Any, b: Any) -> bool:
    """Is it the same tensor or array, or one that holds the same?"""
    p, q = getattr(a, "array", a), getattr(b, "array", b)
    if a is b or p.shape != q.shape or device_of(p) != device_of(q):
        return a is b
    return to_numpy(p).tobytes() == to_numpy(q).tobytes()


def _check_same(found: tuple, again: tuple[Circuit, list[Any]]) -> None:
    """Unsupported unless two recordings are of the same step, on the same tensors or on equal ones."""
    if signature(found[0]) != signature(again[0]) or not all(map(_is_same, found[1], again[1])):
        raise Unsupported(
            "two recordings of its step differ, so that it depends on something besides its inputs, its state, what is "
            "set on it, and ops.uniform"
        )
