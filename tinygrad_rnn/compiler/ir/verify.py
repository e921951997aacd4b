"""Is a circuit well formed, and does it compute after a pass what it computed before? A wrong pass is told by its name.

On with TINYGRAD_RNN_VERIFY=1, as in the tests: it takes about as long as the passes themselves.
"""

from __future__ import annotations

import os

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.evaluate import Numbers
from tinygrad_rnn.compiler.ir.infer import infer
from tinygrad_rnn.compiler.ir.signature import signature
from tinygrad_rnn.compiler.ir.value import OVER_TIME, Value

COARSE = 1e-2  # float16's rounding turns comparisons and cancels in sums: its numbers tell nothing of a pass
_verified: set[int] = set()  # what was looked at in this process: the same again would tell nothing new


def verifier(circuit: Circuit, passes: Sequence[Any], who: str) -> Verifier | None:
    """What checks these passes over a circuit, if the environment asks for it, and if they did not all go well over
    one of the same step before."""
    if os.environ.get("TINYGRAD_RNN_VERIFY", "0") in ("", "0"):
        return None
    key = hash((signature(circuit), *passes))
    return None if key in _verified else Verifier(circuit, who, key)


class Verifier:
    """Checks a circuit before the first pass and after each one. AssertionError if one is wrong.

    who  whose circuit, in the error
    key  what is known once all passes went well
    """

    def __init__(self, circuit: Circuit, who: str, key: int = 0):
        self.who, self.key, self.numbers = who, key, Numbers()
        self.checked: set[Value] = set()
        self._refuse("recording", self._ill_formed(circuit, recorded=True))
        self.tolerance = _tolerance(circuit)
        self.before: dict[str, list[Any]] | None
        try:
            self.before = self.numbers(circuit) if self.tolerance < COARSE else None
        except Exception:  # an operation of a user's that takes no random numbers
            self.before = None

    def check(self, circuit: Circuit, name: str) -> None:
        """The circuit as the pass of this name left it."""
        self._refuse(f"pass {name}", self._ill_formed(circuit))
        if self.before is not None:
            after = self.numbers(circuit)
            self._refuse(f"pass {name}", _differences(self.before, after, self.tolerance))
            self.before = after

    def done(self) -> None:
        """All passes went well."""
        _verified.add(self.key)

    def _refuse(self, what: str, problems: Iterator[str]) -> None:
        for problem in problems:
            raise AssertionError(f"{self.who}: {what} is wrong: {problem}")

    def _ill_formed(self, c: Circuit, recorded: bool = False) -> Iterator[str]:
        """What is wrong with values that were not looked at yet, and with the delays."""
        inputs = {c.x, *c.states, *c.captured, *c.draws, c.alive, *c.seeds}
        for v in c.order():
            if v not in self.checked:
                self.checked.add(v)
                yield from _problems(v, recorded) if v.op != "input" else [] if v in inputs else [f"{v} is no input"]
        for leaf, v, _ in c.delays:
            if (v.shape, v.dtype) != (leaf.shape, leaf.dtype):
                yield f"{leaf.name} is {leaf.shape} {leaf.dtype}, and {v.shape} {v.dtype} at the next step: {v}"


def _problems(v: Value, recorded: bool) -> Iterator[str]:
    """recorded: some values count as moving because their gradients at each step are wanted"""
    for a in v.values:
        if a.index >= v.index:
            yield f"{v} reads {a}, which is made later"
    found = infer(v.op, v.primitive, v.args, v.static)
    if found != (v.shape, v.dtype):
        yield f"{v} is {v.shape} {v.dtype}, of its arguments follows {found[0]} {found[1]}"
    moves = v.op not in OVER_TIME and any(a.moves for a in v.values)
    if v.moves != moves and not (recorded and v.moves):
        yield f"{v} {'moves' if v.moves else 'does not move'}, but its arguments {'do' if moves else 'do not'}"


def _tolerance(c: Circuit) -> float:
    """How far numbers may be apart that are computed in another order: by the coarsest dtype."""
    dtypes = {v.dtype for v in c.order() if not v.several and v.dtype.kind == "f"}
    return max((float(np.finfo(dtype).eps) ** 0.5 for dtype in dtypes), default=0.0)


def _differences(before: dict[str, list[Any]], after: dict[str, list[Any]], tolerance: float) -> Iterator[str]:
    if before.keys() != after.keys():
        yield f"the results {[*before]} became {[*after]}"
    for name, roots in before.items():
        for i, (old, new) in enumerate(zip(roots, after[name], strict=True)):
            if (old is None) != (new is None):
                yield f"{name}[{i}] was {'nothing' if old is None else 'something'}"
            for x, y in zip(old or (), new or (), strict=True):
                if said := _difference(np.asarray(x), np.asarray(y), tolerance):
                    yield f"{name}[{i}] {said}"


def _difference(x: np.ndarray, y: np.ndarray, tolerance: float) -> str:
    if (x.shape, x.dtype) != (y.shape, y.dtype):
        return f"was {x.shape} {x.dtype}, is {y.shape} {y.dtype}"
    told = np.isfinite(x)  # behind a division by 0 another order of computing may give ∞ for NaN
    x, y = x[told].astype(float), y[told].astype(float)
    if np.allclose(x, y, tolerance, tolerance * np.abs(x).max(initial=1.0)):
        return ""
    worst = int(np.argmax(np.nan_to_num(np.abs(x - y), nan=np.inf)))
    return f"was {x[worst]:.6g}, is {y[worst]:.6g}"
