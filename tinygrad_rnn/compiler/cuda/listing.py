"""What was written for a GPU, for people: what runs when, then the text of the kernels."""

from __future__ import annotations

from tinygrad_rnn.compiler.cuda.writer import Action, Launch, Part, Written


def listing(direction: str, w: Written) -> str:
    """One direction."""
    if not w.parts:
        return ""
    order = [line for part in w.parts for line in _said(part)]
    return "\n".join([f"// {direction}", *order, w.text(told=True)])


def _said(part: Part) -> list[str]:
    inner = [_action(a) for a in part.actions]
    if part.turn:
        first, turn, last = (launch.kernel.name for launch in part.turn)
        how = "a block for each row" if part.turn[1].grid.rows else "a thread for each element"
        inner.append(f"{turn}: {how}, the end of a step ({last}) and the beginning of the next one ({first})")
    if not part.loop:
        return [f"// {line}{', for all steps at once' * part.over_time}" for line in inner]
    last = ", the last one first" * part.backward
    return [f"// at each step{last}:", *(f"//   {line}" for line in inner)]


def _action(action: Action) -> str:
    if isinstance(action, Launch):
        steps = action.grid.steps
        who = "a block for each row" if action.grid.rows else "a thread for each element"
        turns = ", one step after the other" * steps.in_turn
        return f"{action.kernel.name}: {who}{turns}"
    v = action.value
    return f"{v.op}{f': {v.origin}' if v.origin else ''}"
