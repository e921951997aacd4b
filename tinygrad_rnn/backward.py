"""The reverse sweep: one pass over the graph, newest node first.

It runs on plain arrays (fast, nothing is recorded) or, given `lift`, on tensors: then the derivative rules record
what they compute, and the result can be differentiated again.
"""

from __future__ import annotations

import operator

from collections.abc import Callable, Collection
from typing import Any

from tinygrad_rnn.backend import Array, xp
from tinygrad_rnn.graph import Node, ancestors

Lift = Callable[[Array, Node | None], Any]

# Rows of a deferred product (see `Product`) after which it is computed: enough for a GEMM to run at full speed,
# and a bound on the memory that waiting costs.
ROWS = 1024


class Product:
    """A gradient aᵀ @ g that waits for its likes: T steps that share a weight become one GEMM over T·B rows."""

    __slots__ = ("gs", "lefts", "rows")

    def __init__(self) -> None:
        self.lefts: list[Array] = []
        self.gs: list[Array] = []
        self.rows = 0

    def add(self, left: Array, g: Array) -> None:
        """left: (N, K)  g: (N, M)"""
        self.lefts.append(left)
        self.gs.append(g)
        self.rows += len(left)

    def compute(self) -> Array:
        """Σ leftᵀ @ g: (K, M)"""
        if len(self.lefts) == 1:
            return self.lefts[0].T @ self.gs[0]
        concatenate = xp(self.gs[0]).concatenate
        return concatenate(self.lefts).T @ concatenate(self.gs)


class Gradients:
    """The gradients under way: for each node the sum of what its readers sent so far."""

    def __init__(self, lift: Lift | None):
        self.lift = lift
        self.sums: dict[Node, Any] = {}
        self.owned: set[Node] = set()  # sums that nobody else holds: these are added to in place
        self.products: dict[Node, Product] = {}
        self.slots: dict[Node, list[Any]] = {}  # for an operation with several outputs: a gradient for each, or None

    def add(self, node: Node, g: Any) -> None:
        """Add g to the gradient of node."""
        old = self.sums.get(node)
        if old is None:
            self.sums[node] = g
        elif node in self.owned:
            self.sums[node] = operator.iadd(old, g)
        else:
            self.sums[node] = old + g
            if self.lift is None:
                self.owned.add(node)

    def buffer(self, node: Node, like: Array) -> Array:
        """The gradient of node as an array to write into."""
        if node not in self.owned:
            old = self.sums.get(node)
            self.sums[node] = xp(like).zeros(node.shape, node.dtype) if old is None else old.copy()
            self.owned.add(node)
        return self.sums[node]

    def defer(self, node: Node, left: Array, g: Array) -> None:
        """Add leftᵀ @ g to the gradient of node, some time before it is read."""
        product = self.products.get(node)
        if product is None:
            product = self.products[node] = Product()
        product.add(left, g)
        if product.rows >= ROWS:
            self.add(node, self.products.pop(node).compute())

    def pop(self, node: Node) -> Any:
        """The gradient of node, complete now that all its readers are done; None if none of them sent any."""
        if node in self.products:
            self.add(node, self.products.pop(node).compute())
        if node in self.slots:
            return self._fill(node, self.slots.pop(node))
        self.owned.discard(node)
        return self.sums.pop(node, None)

    def _fill(self, node: Node, slots: list[Any]) -> tuple:
        """Outputs that nobody read have gradient zero."""
        lib = xp(next(_array(g) for g in slots if g is not None))
        lift = self.lift or (lambda array, _: array)
        return tuple(
            lift(lib.zeros(shape, node.dtype), None) if g is None else g
            for g, shape in zip(slots, node.shape, strict=True)
        )


def sweep(
    seeds: dict[Node, Any], wanted: Collection[Node] | None = None, *, lift: Lift | None = None, retain: bool = False
) -> dict[Node, Any]:
    """d Σ seeds·roots / d w for each w in `wanted`, by default for every leaf.

    Every other gradient is freed as soon as it is used, and so is what the rules kept, unless `retain`.
    """
    order = ancestors(seeds, _parents)
    useful = None if wanted is None else _leading_to(order, wanted)
    grads, found = Gradients(lift), {}
    grads.sums.update(seeds)
    for node in reversed(order):
        if useful is not None and node not in useful:
            continue
        g = grads.pop(node)
        if g is None:
            continue
        if node.hooks:
            g = _call_hooks(node, g)
        if node.op is None if wanted is None else node in wanted:
            found[node] = g
        _pull(node, g, grads, useful)
        if not retain and node.op is not None:
            node.pulls = None
    return found


def _pull(node: Node, g: Any, grads: Gradients, useful: set[Node] | None) -> None:
    """Send the gradient of a node on to its inputs."""
    op, lift = node.op, grads.lift
    if op is None:
        return
    if op.joint is not None:
        _pull_jointly(node, g, grads, useful)
        return
    for parent, rule, kept in node.pulls:
        if useful is not None and parent not in useful:
            continue
        if op.deliver is not None and op.deliver(grads, parent, rule, g, kept):
            continue
        dx = rule(g, *(kept if lift is None else op.lifted(node, rule, kept, lift)))
        grads.add(parent, fit(dx, parent) if op.fits else dx)


def _pull_jointly(node: Node, g: Any, grads: Gradients, useful: set[Node] | None) -> None:
    """The same for an operation with one rule for all its arguments."""
    op, lift, kept = node.op, grads.lift, node.pulls[0][2]
    dxs = op.joint(g, *(kept if lift is None else op.lifted(node, op.joint, kept, lift)))
    for parent, i, _ in node.pulls:
        if useful is None or parent in useful:
            grads.add(parent, fit(dxs[i], parent) if op.fits else dxs[i])


def pick(grads: Gradients, parent: Node, index: int, g: Any, _kept: tuple) -> bool:
    """The gradient of output `index` of an operation with several: it waits until all have come."""
    if parent not in grads.slots:
        grads.slots[parent] = [None] * len(parent.shape)
    grads.slots[parent][index] = g
    return True


def fit(dx: Any, node: Node) -> Any:
    """Undo broadcasting and promotion: here, once, so that no derivative rule has to."""
    if dx.shape != node.shape:
        dx = sum_to(dx, node.shape)
    return dx if dx.dtype == node.dtype else dx.astype(node.dtype)


def sum_to(g: Any, shape: tuple[int, ...]) -> Any:
    """g summed over the axes along which `shape` was broadcast."""
    lead = len(g.shape) - len(shape)
    axes = tuple(i for i, n in enumerate(g.shape) if i < lead or (shape[i - lead] == 1 and n != 1))
    if any(g.shape[i] != 1 for i in axes):
        g = g.sum(axis=axes, keepdims=True)
    return g.reshape(shape)


def _parents(node: Node) -> list[Node]:
    if node.pulls is None:
        raise RuntimeError(
            f"backward: the graph through {node.op.name!r} was freed by an earlier backward; "
            "pass retain_graph=True to that one"
        )
    return [pull[0] for pull in node.pulls]


def _leading_to(order: list[Node], wanted: Collection[Node]) -> set[Node]:
    """The nodes between the roots and the wanted ones."""
    useful: set[Node] = set()
    for node in order:
        if node in wanted or any(pull[0] in useful for pull in node.pulls):
            useful.add(node)
    return useful


def _call_hooks(node: Node, g: Any) -> Any:
    for hook in node.hooks or ():
        changed = hook(g)
        g = g if changed is None else changed
    return g


def _array(g: Any) -> Array:
    return getattr(g, "array", g)
