"""From a graph to a picture: a view fills the blocks, and they stand for single steps, or one for all."""

from __future__ import annotations

from collections.abc import Sequence

from viz.picture.cells_view import CellsView
from viz.picture.circuit import AnyStep, Circuit
from viz.picture.draft import Draft
from viz.picture.first_states import FirstStates
from viz.picture.ops_view import OpsView
from viz.picture.picture import Picture
from viz.picture.subject import Subject
from viz.picture.tokens import tokens_of
from viz.picture.unrolled import Unrolled
from viz.read.columns import Column
from viz.read.runs import Choose


def picture_of(
    subject: Subject, choose: Choose | None = None, *, depth: int = 0, circuit: bool = False,
    sources: Sequence[Sequence[str]] = (), targets: Sequence[str] = (),
) -> Picture:  # fmt: skip
    """The picture of a graph.

    choose: the steps that are drawn
    depth: how many levels of modules are drawn as boxes
    circuit: one step for all, with delays
    sources: names of the inputs, of each sequence that is read, by time step
    targets: what the last of them says
    """
    draft, tokens = Draft(subject, depth > 0), tokens_of(subject, sources, targets)
    first = AnyStep(draft) if circuit else FirstStates(draft)
    view = CellsView(draft, first, tokens, depth) if depth else OpsView(draft, first, tokens)
    steps = Circuit(draft, view, first) if isinstance(first, AnyStep) else Unrolled(draft, view, tokens)
    picture = draft.picture
    view.outside(picture.below, subject.states.below)
    steps.add(_chosen(subject, choose))
    view.outside(picture.above, subject.states.above)
    steps.link()
    view.finish()
    steps.finish()
    for item in picture.items():
        item.reached = not item.nodes or any(n in subject.reached for n in item.nodes)
    return picture


def _chosen(subject: Subject, choose: Choose | None) -> list[Column]:
    columns, runs = subject.states.columns, subject.flow.runs
    if choose is None:
        return columns
    steps = {run: set(choose(sorted(ts))) for run, ts in runs.steps.items()}
    chosen = [c for c in columns if c.t is None or c.t in steps[c.run]]
    if any(c.t is not None for c in columns) and not any(c.t is not None for c in chosen):
        n = max(map(len, runs.steps.values()))
        raise ValueError(f"viz.draw: steps must name some of the {n} time steps, got none of them")
    return chosen
