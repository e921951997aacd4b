"""All that the views know of a graph."""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_rnn.autograd.graph import Node
from viz.picture.fixed import fixed
from viz.picture.groups import Groups
from viz.picture.labels import Labels
from viz.read.flow import Flow
from viz.read.graph import flow_of
from viz.read.names import Code, names
from viz.read.reached import Reached
from viz.read.runs import Choose
from viz.read.states import States, states_of


@dataclass(frozen=True, eq=False)
class Subject:
    """What was read off a graph; views only look at it.

    names   of the parameters
    code    what the code of the modules calls things
    groups  puts operations together that are drawn as one
    fixed   of what steps read and does not change: the one that is drawn for it, at the left
    still   what is computed in a step from what leaves no graph, and may change or not: it has no number
    losses  the loss, or the losses that it is the sum of
    reached what its gradient comes to
    """

    flow: Flow
    states: States
    names: dict[Node, str]
    code: Code
    labels: Labels
    groups: Groups
    fixed: dict[Node, Node]
    still: set[Node]
    losses: set[Node]
    reached: Reached


def subject_of(nodes: list[Node], choose: Choose | None = None) -> Subject:
    """Read a graph. nodes: all of it, oldest first, the root last  choose: the steps that are drawn"""
    flow = flow_of(nodes, choose)
    states, called, code = states_of(flow), names(flow), Code(flow.runs.order)
    labels = Labels(states, called, code.called, code.operand)
    groups = Groups(flow, states.is_pinned, labels.letter)
    reached = Reached.of(flow, nodes)
    return Subject(flow, states, called, code, labels, groups, *fixed(states, code), _losses(flow), reached)


def _losses(flow: Flow) -> set[Node]:
    if flow.terms:
        return {n for n in flow.terms if n.op is not None and n.shape == ()}
    return {flow.root} if flow.root.shape == () and flow.root.op is not None else set()
