"""The loops over time that left their steps in the scopes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinygrad_rnn.autograd.graph import ModuleName, Node, StepBack

Place = tuple[int, int]  # a run over time (they are numbered) and its time step


def places_of(order: Sequence[Node]) -> tuple[dict[Node, Place], dict[int, list[int]], set[int]]:
    """The run and the step of each node that was computed inside one, the steps of each run, the runs that go back.

    A run ends where a step comes a second time, also at once, where it comes there only: two loops that touch.
    """
    places: dict[Node, Place] = {}
    steps: dict[int, list[int]] = {}
    runs: dict[tuple, _Run] = {}  # the one under way, by the modules outside the loop
    turned: set[int] = set()
    last, here, again = None, None, None
    for node in order:  # all nodes of a graph: little may happen here
        if node.op is None:
            continue
        if node.scope is not last:
            last = node.scope
            run = _enter(last, runs, places, steps)
            here = None if run is None else (run.number, int(run.step))
            if run is not None and type(run.step) is StepBack:
                turned.add(run.number)
            again = run.again if run is not None and run.blocks > 1 else None
        if here is not None:
            places[node] = here
            if again is not None:
                again.append(node)
    return places, steps, turned


def _enter(scope: tuple, runs: dict[tuple, _Run], places: dict[Node, Place], steps: dict[int, list[int]]) -> Any:
    """The run that a scope belongs to, gone on to its step; None outside of time."""
    at = next((i for i, name in enumerate(scope) if isinstance(name, int)), None)
    if at is None:
        return None
    outside, t = tuple([id(name) if isinstance(name, ModuleName) else name for name in scope[:at]]), scope[at]
    run = runs.get(outside)
    if run is None:
        run = runs[outside] = _Run(len(steps))
        steps[run.number] = []
    if run.step is not t:
        if run.step is not None and t != run.step and int(t) in run.seen:
            run = runs[outside] = _next(run, len(steps), places, steps)
        run.enter(t, steps[run.number])
    return run


@dataclass(eq=False)
class _Run:
    """A loop that is being read.

    step    the step that it is in
    blocks  how often that was entered in a row, and `usual`: how often the first one was
    again   the nodes since it was entered last, if it was before
    """

    number: int
    step: Any = None
    blocks: int = 0
    usual: int = 0
    seen: set[int] = field(default_factory=set)
    again: list[Node] = field(default_factory=list)

    def enter(self, t: Any, steps: list[int]) -> None:
        """Go on to a step, or enter it again."""
        self.again = []
        if self.step is not None and t == self.step:
            self.blocks += 1
        else:
            self.usual = self.usual or self.blocks
            self.blocks = 1
        self.step = t
        if int(t) not in self.seen:
            self.seen.add(int(t))
            steps.append(int(t))


def _next(run: _Run, number: int, places: dict[Node, Place], steps: dict[int, list[int]]) -> _Run:
    """The run after one. If that one's last step was entered once more than the others, this is where it began."""
    new = _Run(number)
    steps[number] = []
    if run.blocks > (run.usual or 1):
        new.enter(run.step, steps[number])
        places.update(dict.fromkeys(run.again, (number, int(run.step))))
    return new
