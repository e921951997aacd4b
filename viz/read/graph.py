"""From a recorded graph to what its reader would call operations, step by step."""

from __future__ import annotations

from operator import attrgetter

from tinygrad_rnn.autograd.graph import Node
from viz.read.alignment import align
from viz.read.flow import Flow
from viz.read.parts import is_parameter
from viz.read.plumbing import plumbing_of
from viz.read.runs import Choose, runs_of
from viz.read.total import sum_up


def flow_of(nodes: list[Node], choose: Choose | None = None) -> Flow:
    """The flow of a graph: without plumbing, its runs aligned, its losses summed up in one node.

    nodes: all of the graph, oldest first, the root last  choose: the steps that are drawn
    """
    runs = runs_of(nodes, choose)
    flow = Flow.of(runs, plumbing_of(runs), nodes[-1])
    align(flow)
    sum_up(flow)
    for node in flow.nodes:
        if node.op is None or node in flow.slices or node in flow.joins:
            _settle(flow, node)
    return flow


def _settle(flow: Flow, node: Node) -> None:
    """What is not computed belongs to the step that reads it, if it is one, or first; parameters belong to none."""
    readers = sorted(flow.readers[node], key=attrgetter("index"))
    places = dict.fromkeys(flow.place.get(reader) for reader in readers)
    flow.place.pop(node, None)
    if (len(places) == 1 or node in flow.handed) and None not in places and not is_parameter(node):
        flow.place[node] = next(iter(places))  # type: ignore[assignment]
