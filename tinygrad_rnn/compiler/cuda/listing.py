"""What was written for a GPU, for people: what runs when, then the text of the kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tinygrad_rnn.compiler.cuda.scan import Chunks
from tinygrad_rnn.compiler.cuda.threads import Grid
from tinygrad_rnn.compiler.cuda.writer import Action, Launch, LibraryCall, Part, Written

PRODUCTS = {"matmul", "tsum"}  # a sum over time is one of all rows of all steps, mostly


def listing(direction: str, w: Written) -> str:
    """One direction."""
    if not w.parts:
        return ""
    order = [line for part in w.parts for line in _said(part)]
    return "\n".join([f"// {direction}", *order, w.text(told=True)])


def launches(w: Written) -> list[str]:
    """What is launched at each step, and what once a call: how long a GPU takes for little work."""
    lines = [f"launched at each step: {_counted(part.at_each_step)}" for part in w.parts if part.loop]
    once = [a for part in w.parts for a in part.once]
    return [*lines, f"launched once: {_counted(once)}"] if once else lines


def _counted(actions: Sequence[Action]) -> str:
    ops = [a.value.op for a in actions if isinstance(a, LibraryCall)]
    others = Counter(op for op in ops if op not in PRODUCTS)
    counts = {"kernel": len(actions) - len(ops), "product": len(ops) - others.total()}
    words = [f"{n} {what}{'s' * (n > 1)}" for what, n in counts.items() if n]
    if others:
        words.append(f"{others.total()} of CuPy's own ({', '.join(others)})")
    return ", ".join(words)


def _said(part: Part) -> list[str]:
    inner = [_action(a) for a in part.actions]
    if part.turn:
        first, turn, last = (launch.kernel.name for launch in part.turn)
        inner.append(
            f"{turn}: {_who(part.turn[1].grid)}, the end of a step ({last}) and the beginning of the next one ({first})"
        )
    if not part.loop:
        return [f"// {line}{', for all steps at once' * part.over_time}" for line in inner]
    last = ", the last one first" * part.backward
    return [f"// at each step{last}:", *(f"//   {line}" for line in inner)]


def _action(action: Action) -> str:
    if isinstance(action, Launch):
        scan = f"; or {_action(action.scan)}" if action.scan else ""
        return f"{action.kernel.name}: {_who(action.grid)}{scan}"
    v = action.value
    return f"{v.op}{f': {v.origin}' if v.origin else ''}"


def _who(grid: Grid | Chunks) -> str:
    """What each thread has to do."""
    if isinstance(grid, Chunks):
        return "a thread for each chunk of the steps of each element, where that pays"
    who = "a block for each row" if grid.rows else "a thread for each element"
    return who + ", one step after the other" * grid.steps.in_turn
