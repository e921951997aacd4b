"""Runs over one sequence go side by side: their steps share columns, and the inputs that both read."""

from __future__ import annotations

from tinygrad_rnn.autograd.graph import Constant, Node
from viz.read.flow import Flow, sequence_of
from viz.read.parts import in_memory


def align(flow: Flow) -> None:
    """Give runs that go side by side the same columns, and one input where both read the same."""
    place, joins = flow.place, flow.joins
    reads: dict[Node, tuple] = {n: sequence_of(n) for n in flow.nodes if n in flow.slices or n in joins}
    inputs = (n for n in flow.nodes if isinstance(n, Constant) and _is_of_one_step(flow, n))
    reads |= {node: where for node in inputs if (where := in_memory(node))}
    through = lambda node: [s for p in flow.parents(node) for s in ((p, *flow.parents(p)) if p in joins else (p,))]
    fed = flow.slices | {node for node in flow.nodes if type(node) is Constant}
    flow.runs.align(flow.nodes, through, reads, fed)
    one: dict[tuple, Node] = {}
    for node, read in reads.items():
        at = {place.get(reader) for reader in flow.readers[node]}
        if len(at) == 1:
            flow.replace(node, one.setdefault((at.pop(), read), node))
    for node in flow.nodes:
        if flow.op(node) == "flip" and _is_of_the_past(flow, *flow.parents(node)):
            flow.replace(node, *flow.parents(node))
    flow.index()


def _is_of_one_step(flow: Flow, node: Node) -> bool:
    """Does each run read it but once, as an input, and not again and again, as what its cell holds?"""
    places = {place for reader in flow.readers[node] if (place := flow.place.get(reader)) is not None}
    return len({run for run, _ in places}) == len(places)


def _is_of_the_past(flow: Flow, node: Node) -> bool:
    """Is it the outputs of a run that goes backwards? Turned round they are in the order of time."""
    return flow.op(node) == "stack" and all(flow.runs.of.get(p) in flow.runs.back for p in flow.parents(node))
