"""How large the gradient is of every value of a graph: the norm of ∂L/∂v."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.autograd.arrays import is_array, to_numpy, xp
from tinygrad_rnn.autograd.backward import sweep
from tinygrad_rnn.autograd.graph import Node, all_parents, ancestors
from viz.read.values import check_kept


def norms(root: Node) -> dict[Node, float]:
    """‖∂L/∂v‖ for every value that a gradient flows to, in a graph that may be swept. ValueError if L is no scalar."""
    if root.shape not in ((), (1,)):
        raise ValueError(f"viz.draw: gradients are those of a loss, a single number, got shape {root.shape}")
    nodes = {n for n in ancestors([root], all_parents) if n.tracked}
    check_kept(nodes, "gradients are not computed")
    array = next((k for n in nodes for k in n.saved or () if is_array(k)), None)
    hooks = {node: node.hooks for node in nodes if node.hooks}  # of leaves, which the copy of a graph shares
    for node in hooks:
        node.hooks = None
    try:
        found = sweep({root: xp(array).ones(root.shape, root.dtype)}, nodes, retain=True)
    finally:
        for node, each in hooks.items():
            node.hooks = each
    return {node: _norm(g) for node, g in found.items() if not isinstance(g, tuple)}


def _norm(g: object) -> float:
    return float(np.linalg.norm(np.asarray(to_numpy(g), np.float64)))
