"""Attention in a graph: the weights of each decoder step, and which way things go besides them."""

from __future__ import annotations

import math

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autograd.arrays import to_numpy
from tinygrad_rnn.autograd.graph import Node, ancestors
from viz.read.flow import Flow
from viz.read.names import Code
from viz.read.states import states_of


class Wiring(NamedTuple):
    """Which way things go, besides the weights.

    ahead, back  does the encoder read from the beginning, from the end?
    asks         does a decoder state ask, and get its context: s_t → c_t? else c_t → s_t
    feeds        does the next state read the context?
    seen         does the output read it, beside the state?
    """

    ahead: bool = True
    back: bool = False
    asks: bool = False
    feeds: bool = False
    seen: bool = False


USUAL = Wiring()


def weights(flow: Flow, known: Mapping[Node, Any]) -> np.ndarray:
    """α of every decoder step, (T, S), as the graph has it: a softmax in each step, over what lies outside of the step.

    Of a batch the first sequence, of several heads their mean. ValueError if there is none, or none that is known.
    """
    rows: dict[int, list[np.ndarray]] = defaultdict(list)
    for t, node in _softmaxes(flow):
        if known.get(node) is None:
            raise ValueError("viz.draw: the attention weights of this graph are not known")
        rows[t].append(_row(node, np.asarray(to_numpy(known[node]), np.float64)))
    return np.stack([np.mean(rows[t], axis=0) for t in sorted(rows)])


def wiring(flow: Flow) -> Wiring:
    """Which way things go in the graph, as its decoder's steps say."""
    found, states = [alpha for _, alpha in _softmaxes(flow)], _new_states(flow)
    asks, feeds, seen = (any(way) for way in zip(*[_ways(flow, alpha, states) for alpha in found], strict=True))
    decoder = flow.place[found[0]][0]
    memories = {memory for alpha in found for _, memory in _mixing(flow, alpha)}
    back = {run in flow.runs.back for memory in memories for run in _runs(flow, memory, decoder)}
    return Wiring(False in back, True in back, asks, feeds and asks, seen)


def _ways(flow: Flow, alpha: Node, states: set[Node]) -> tuple[bool, bool, bool]:
    """Of one step: does its new state ask, does a later step read the context, does the output?"""
    place = flow.place[alpha]
    inside = lambda n: flow.place.get(n) == place
    contexts = {m for m, _ in _mixing(flow, alpha)}
    contexts |= {r for m in contexts for r in flow.readers[m] if flow.op(r) == "sum"}
    states = states - contexts - {alpha}
    asked = ancestors({alpha}, lambda n: filter(inside, flow.parents(n)))
    shown = {*ancestors(contexts, lambda n: () if n in states else filter(inside, flow.readers[n]))} - states
    read = {r for n in shown for r in flow.readers[n] if not inside(r)}
    later = {r for r in read if r in flow.place and flow.place[r][0] == place[0]}
    is_lost = any(n.shape == () for n in shown)  # a loss of this step
    return not states.isdisjoint(asked), bool(later), bool(read - later) or is_lost


def _new_states(flow: Flow) -> set[Node]:
    """What goes on to the next step: as the steps read it, as the cells return it."""
    states = states_of(flow)
    return {n for n in flow.nodes if states.kind_of(n)} | {flow.same.get(n, n) for n in Code(flow.runs.order).new}


def _runs(flow: Flow, node: Node, decoder: int) -> set[int]:
    """The runs over time that a memory comes from, those nearest to it."""
    run = flow.runs.of
    within = lambda n: () if n in run and flow.place.get(n, (decoder,))[0] != decoder else flow.parents(n)
    return {run[n] for n in ancestors([node], within) if n in run and flow.place.get(n, (decoder,))[0] != decoder}


def _softmaxes(flow: Flow) -> list[tuple[int, Node]]:
    """(step, node) for the weights of the decoder with the most of them. ValueError if there is none."""
    found: dict[int, list[tuple[int, Node]]] = defaultdict(list)
    for node in flow.nodes:
        place = flow.place.get(node)
        if place is not None and flow.op(node) == "softmax" and _mixing(flow, node):
            found[place[0]].append((place[1], node))
    if not found:
        raise ValueError(
            'viz.draw: view="attention" needs a softmax in each decoder step whose weights are multiplied with a '
            "sequence; there is none in this graph; viz.attention draws weights that you have"
        )
    return max(found.values(), key=len)


def _mixing(flow: Flow, node: Node) -> list[tuple[Node, Node]]:
    """(product, memory) where weights are multiplied with something that was there before the step."""
    return [
        (reader, p)
        for reader in flow.readers[node]
        if flow.op(reader) in ("mul", "matmul", "einsum")
        for p in flow.parents(reader)
        if p is not node and (flow.place.get(p) is None or len(flow.readers[p]) > 1)
    ]


def _row(node: Node, value: np.ndarray) -> np.ndarray:
    """The weights of the first sequence, the mean of several heads: (S,)"""
    over = _over(node)
    if value.ndim == 1:
        return value
    batch = _batch_axis(node)
    first, left = value.take(0, axis=batch), over - (batch < over)
    return first.mean(axis=tuple(k for k in range(first.ndim) if k != left))


def _over(node: Node) -> int:
    """The axis along which weights add up to 1."""
    (axis,) = np.atleast_1d((node.static or {}).get("axis", -1))
    return int(axis) % len(node.shape)


def _batch_axis(node: Node) -> int:
    """Which axis of attention weights tells sequences apart: the one that comes from the first axis of a (B, H)."""
    others = [k for k in range(len(node.shape)) if k != _over(node)]
    if len(others) < 2:
        return next(iter(others), 0)
    return next((k for k in others if _comes_from_first(node, k)), others[0])


def _comes_from_first(node: Node, axis: int) -> bool:
    """Does an axis of a value come from the first axis of one with two?"""
    seen: set[tuple[Node, int]] = set()
    stack = [(node, axis)]
    while stack:
        at = node, axis = stack.pop()
        if at in seen or not all(isinstance(n, int) for n in node.shape):
            continue
        seen.add(at)
        if len(node.shape) == 2:
            if axis == 0:
                return True
            continue
        sources = [(i, p) for i, p in enumerate(node.inputs) if isinstance(p, Node)]
        stack += [(p, k) for i, p in sources if (k := _before(node, i, axis)) is not None]
    return False


def _before(node: Node, i: int, axis: int) -> int | None:
    """Which axis of argument i an axis of a result is; None where it is none, or a part of one."""
    op, static, was, now = node.op.name, node.static or {}, node.inputs[i].shape, node.shape
    if op == "permute":
        return static["axes"][axis]
    if op == "reshape":
        same = (k for k, n in enumerate(was) if math.prod(was[:k]) == math.prod(now[:axis]) and n == now[axis])
        return next(same, None)
    if op == "einsum":
        operands, _, out = static["spec"].replace(" ", "").partition("->")
        k = operands.split(",")[i].find(out[axis])
        return k if k >= 0 else None
    if op in ("sum", "mean", "max") and len(was) > len(now):
        gone = {int(a) % len(was) for a in np.atleast_1d(static["axis"])}
        return [k for k in range(len(was)) if k not in gone][axis]
    if op == "matmul" and len(node.inputs[1].shape) == 1:
        return axis if i == 0 else None
    if op == "matmul" and axis >= len(now) - 2 and (i == 0) == (axis == len(now) - 1):
        return None
    k = axis - len(now) + len(was)
    return k if k >= 0 and was[k] == now[axis] else None
