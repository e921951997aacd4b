"""The derivative of a recorded step, recorded by running the rules of its operations on symbols."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from tinygrad_rnn.autograd.backward import unbroadcast
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.record.trace import Trace

# ---- backward -------------------------------------------------------------------------------------------------------


def record_backward(c: Circuit, trace: Trace, outs: list[Value]) -> None:
    """Add the gradients of what is tracked to a circuit whose outputs and new states are recorded."""
    names = ["dy" if v is outs[0] else "dstate" for v in c.roots["y"]] + [f"d{s.name}" for s in c.states]
    c.seeds = [c.input(n, v.shape, v.dtype, moves=True, tracked=False) for n, v in zip(names, outs, strict=True)]
    captured = [v for _, v in trace.captured.values()]
    grads: dict[Value, Any] = {}
    for out, seed in zip(outs, c.seeds, strict=True):
        _send(trace, grads, out, trace.symbol(seed))
    forward = c.order(outs)
    wholes = {trace.picked[v][0] for v in forward if v in trace.picked}
    find = lambda v: trace.value(grads[v]) if v.tracked and v in grads else None
    watched: dict[Value, Value | None] = {}
    for v in sorted({*forward, *wholes}, key=attrgetter("index"), reverse=True):
        if v in trace.watched:
            watched[v] = find(v)
        if v.op != "input" and v in grads:
            _pull(trace, v, grads)
    c.roots["dwatched"] = [watched.get(v) for v in trace.watched]
    c.roots["dx"] = [find(c.x)]
    c.roots["dstate"] = [find(s) for s in c.states]
    c.roots["dcaptured"] = [find(v) for v in captured]
    c.roots["dcaptured"] += [None] * (len(trace.captured) - len(captured))  # captured by a derivative rule


def _send(trace: Trace, grads: dict[Value, Any], v: Value, g: Any) -> None:
    """Add to the gradient of a value. That of one which is the same at every step is summed over the steps."""
    if not v.tracked:
        return
    if not v.moves and trace.value(g).moves:
        g = trace.symbol(trace.circuit.make("tsum", trace.value(g)))
    grads[v] = grads[v] + g if v in grads else g


def _pull(trace: Trace, v: Value, grads: dict[Value, Any]) -> None:
    """Send the gradient of a value on to its arguments, by the derivative rules of its operation."""
    g = grads.pop(v)
    trace.origin = v.origin
    if v in trace.picked:
        whole, i = trace.picked[v]
        grads.setdefault(whole, [None] * len(whole.shape))[i] = g
        return
    if v.several:
        shapes = zip(g, v.shape, v.dtype, strict=True)
        g = tuple(trace.symbol(trace.circuit.zeros(s, d)) if each is None else each for each, s, d in shapes)
        y: Any = tuple(trace.symbol(trace.pick(v, i)) for i in range(len(v.shape)))
    else:
        y = trace.symbol(v)
    op = v.primitive
    assert op is not None
    args = [trace.symbol(a) if isinstance(a, Value) else a for a in v.args]
    pattern = tuple(isinstance(a, Value) and a.tracked for a in v.args)
    edges, save = op.patterns.get(pattern) or op.edges_for(pattern)
    saved = save(args, y, v.static)
    together = op.joint_rule(g, *saved) if op.joint_rule is not None else None
    for i, rule, first, last in edges:
        dx = together[i] if together is not None else rule(g, *saved[first:last])
        _send(trace, grads, v.args[i], unbroadcast(dx, v.args[i]) if op.broadcasts else dx)
