"""The reverse sweep: one pass over the graph, newest node first.

It runs on plain arrays (fast, nothing is recorded) or, given `lift`, on tensors: then the derivative rules record
what they compute, and the result can be differentiated again.
"""

from __future__ import annotations

import operator

from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.blas import matmul
from tinygrad_rnn.autograd.graph import Node, context

Lift = Callable[[Array, Node | None], Any]

# Rows of a deferred product (see `DeferredProduct`) after which it is computed: enough for a GEMM to run at full speed,
# and a bound on the memory that waiting costs.
ROWS = 1024


class DeferredProduct:
    """A gradient leftᵀ @ g, put off: those of T steps that share a weight become one GEMM over T·B rows."""

    __slots__ = ("gs", "lefts", "rows")

    def __init__(self) -> None:
        self.lefts: list[Array] = []
        self.gs: list[Array] = []
        self.rows = 0

    def complete(self, grads: Gradients, node: Node) -> Any:
        """Add Σ leftᵀ @ g to what else was sent to the node: (K, M)"""
        if len(self.lefts) == 1:
            total = matmul(self.lefts[0].T, self.gs[0])
        else:
            concatenate = xp(self.gs[0]).concatenate
            total = matmul(concatenate(self.lefts).T, concatenate(self.gs))
        return grads.plus(node, total)


class OutputGradients:
    """The gradients of the outputs of one operation, until all of them are there and its rule can be called."""

    __slots__ = ("gs",)

    def __init__(self, n: int) -> None:
        self.gs: list[Any] = [None] * n

    def complete(self, grads: Gradients, node: Node) -> Any:
        """A gradient for each output; zeros for those that nobody read."""
        lib = xp(next(getattr(g, "array", g) for g in self.gs if g is not None))
        lift = grads.lift or (lambda array, _: array)
        return tuple(
            lift(lib.zeros(shape, node.dtype), None) if g is None else g
            for g, shape in zip(self.gs, node.shape, strict=True)
        )


class Gradients:
    """The gradients under way: for each node the sum of what its readers sent so far."""

    def __init__(self, seeds: dict[Node, Any], lift: Lift | None):
        self.lift = lift
        self.sums = dict(seeds)
        self.owned: set[Node] = set()  # sums that nobody else holds: these are added to in place
        self.pending: dict[Node, Any] = {}  # completed when the node's turn comes

    def plus(self, node: Node, g: Any) -> Any:
        """The gradient of node with g added to it."""
        old = self.sums.get(node)
        if old is None:
            return g
        if node in self.owned:
            return operator.iadd(old, g)
        if self.lift is None:
            self.owned.add(node)
        return old + g

    def buffer(self, node: Node, like: Array) -> Array:
        """The gradient of node as an array to write into."""
        old = self.sums.get(node)
        if node not in self.owned or isinstance(old, np.generic):  # a NumPy scalar cannot be written into
            self.sums[node] = xp(like).zeros(node.shape, node.dtype) if old is None else xp(like).array(old)
            self.owned.add(node)
        return self.sums[node]

    def defer(self, node: Node, left: Array, g: Array) -> None:
        """Add leftᵀ @ g to the gradient of node, some time before it is read. left: (N, K)  g: (N, M)"""
        product = self.pending.get(node)
        if product is None:
            product = self.pending[node] = DeferredProduct()
        product.lefts.append(left)
        product.gs.append(g)
        product.rows += len(left)
        if product.rows >= ROWS:
            self.sums[node] = self.pending.pop(node).complete(self, node)


def sweep(
    seeds: dict[Node, Any], wanted: Collection[Node] | None = None, *, lift: Lift | None = None, retain: bool = False
) -> dict[Node, Any]:
    """d Σ seeds·roots / d w for each w in `wanted`, by default for every leaf.

    Every other gradient is freed as soon as it is used, and so is what the rules kept, unless `retain`. Functions
    that a hook appends to context.after_sweep are called in the end.
    """
    outer, context.after_sweep = context.after_sweep, []
    try:
        found = _swept(seeds, wanted, lift, retain)
        for function in context.after_sweep:
            function()
        return found
    finally:
        context.after_sweep = outer


def _swept(seeds: dict[Node, Any], wanted: Collection[Node] | None, lift: Lift | None, retain: bool) -> dict[Node, Any]:
    order = _order(seeds)
    useful = None if wanted is None else _leading_to(order, wanted)
    grads, found = Gradients(seeds, lift), {}
    sums, pending = grads.sums, grads.pending
    early = _complete_after(order)
    for node in reversed(order):
        if useful is not None and node not in useful:
            continue
        g = pending.pop(node).complete(grads, node) if node in pending else sums.get(node)
        sums.pop(node, None)
        if g is None:
            continue
        if node.hooks:
            g = _call_hooks(node, g)
        if node.op is None if wanted is None else node in wanted:
            found[node] = g
        if node.op is not None:
            _send_to_inputs(node, g, grads, useful)
            if not retain:
                node.saved = None
            if early and node in early:
                _show_early(early[node], grads, found, wanted)
    return found


def _complete_after(order: list[Node]) -> dict[Node, list[Node]]:
    """Leaves that have hooks, by the oldest node that reads each: when that is done, the leaf's gradient is complete.

    order: oldest first. Else hooks of leaves would all be called in the end: what they begin could not go on beside the
    backward pass.
    """
    waiting = {node for node in order if node.op is None and node.hooks}
    found: dict[Node, list[Node]] = {}
    for node in order if waiting else ():
        for i, _, _, _ in node.edges:
            if node.inputs[i] in waiting:
                waiting.remove(node.inputs[i])
                found.setdefault(node, []).append(node.inputs[i])
    return found


def _show_early(
    leaves: Iterable[Node], grads: Gradients, found: dict[Node, Any], wanted: Collection[Node] | None
) -> None:
    """Call the hooks of leaves whose gradients are complete; those that nothing was sent to have none."""
    for leaf in leaves:
        g = grads.pending.pop(leaf).complete(grads, leaf) if leaf in grads.pending else grads.sums.get(leaf)
        grads.sums.pop(leaf, None)
        if g is not None:
            g = _call_hooks(leaf, g)
            if wanted is None or leaf in wanted:
                found[leaf] = g


def _send_to_inputs(node: Node, g: Any, grads: Gradients, useful: set[Node] | None) -> None:
    """Send the gradient of a node on to its inputs. It runs for every operation: a line here costs milliseconds."""
    op, inputs, saved, lift, sums = node.op, node.inputs, node.saved or (), grads.lift, grads.sums
    if op.joint_rule is not None:
        _send_to_inputs_jointly(node, g, grads, useful)
        return
    accumulate, broadcasts = op.accumulate, op.broadcasts
    for i, rule, first, last in node.edges:
        parent, needs = inputs[i], saved[first:last]
        if useful is not None and parent not in useful:
            continue
        if accumulate is not None and accumulate(grads, parent, rule, g, needs):
            continue
        dx = rule(g, *needs) if lift is None else rule(g, *op.lifted(node, rule, needs, lift))
        if broadcasts and (dx.shape != parent.shape or dx.dtype is not parent.dtype):
            dx = unbroadcast(dx, parent)
        sums[parent] = grads.plus(parent, dx) if parent in sums else dx


def _send_to_inputs_jointly(node: Node, g: Any, grads: Gradients, useful: set[Node] | None) -> None:
    """The same for an operation with one rule for all its arguments."""
    op, lift, saved = node.op, grads.lift, node.saved or ()
    dxs = op.joint_rule(g, *(saved if lift is None else op.lifted(node, op.joint_rule, saved, lift)))
    inputs, sums = node.inputs, grads.sums
    for i, _, _, _ in node.edges:
        parent = inputs[i]
        if useful is None or parent in useful:
            dx = dxs[i]
            if op.broadcasts and (dx.shape != parent.shape or dx.dtype is not parent.dtype):
                dx = unbroadcast(dx, parent)
            sums[parent] = grads.plus(parent, dx) if parent in sums else dx


def collect_output(grads: Gradients, parent: Node, index: int, g: Any, _needs: tuple) -> bool:
    """Note the gradient of output `index` of an operation with several outputs."""
    slots = grads.pending.get(parent)
    if slots is None:
        slots = grads.pending[parent] = OutputGradients(len(parent.shape))
    slots.gs[index] = g
    return True


def unbroadcast(dx: Any, node: Node) -> Any:
    """Undo broadcasting and promotion: here, once, so that no derivative rule has to."""
    if dx.shape != node.shape:
        dx = sum_to(dx, node.shape)
    return dx if dx.dtype == node.dtype else dx.astype(node.dtype)


def sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """g summed over the axes along which `shape` was broadcast."""
    lead = len(g.shape) - len(shape)
    if lead == 1 and g.shape[1:] == shape:  # the usual case: a bias (recorded in one way for any batch)
        return g.reshape(shape) if len(g) == 1 and context.trace is None else g.sum(axis=0)
    axes = tuple(i for i, n in enumerate(g.shape) if i < lead or (shape[i - lead] == 1 and n != 1))
    if any(g.shape[i] != 1 for i in axes):
        g = g.sum(axis=axes, keepdims=True)
    return g.reshape(shape)


def _order(roots: Iterable[Node]) -> list[Node]:
    """The nodes that a gradient flows to, oldest first (see graph.ancestors; this one runs at every backward)."""
    order = list(roots)
    seen = set(order)
    for node in order:  # it grows
        if node.saved is None:
            raise RuntimeError(
                f"backward: the graph through {node.op.name!r} was freed by an earlier backward; "
                "pass retain_graph=True to that one, or detach what goes on to the next, as nn.detached(state) does"
            )
        for i, _, _, _ in node.edges:
            parent = node.inputs[i]
            if parent not in seen:
                seen.add(parent)
                order.append(parent)
    order.sort(key=attrgetter("index"))
    return order


def _leading_to(order: list[Node], wanted: Collection[Node]) -> set[Node]:
    """The nodes between the roots and the wanted ones."""
    useful: set[Node] = set()
    for node in order:
        if node in wanted or any(node.inputs[i] in useful for i, *_ in node.edges):
            useful.add(node)
    return useful


def _call_hooks(node: Node, g: Any) -> Any:
    for hook in node.hooks or ():
        changed = hook(g)
        g = g if changed is None else changed
    return g
