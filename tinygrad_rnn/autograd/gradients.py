"""Gradients as values, and whether the graph is recorded at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.graph import Node, context, recording
from tinygrad_rnn.autograd.tensor import Tensor, recorded_node, seed_of, swept


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> Any:
    """d Σ outputs / d input for each input: one tensor for one input, else a tuple. No `grad` attribute changes.

    grad_outputs: d loss / d output for each output that is not a scalar.
    create_graph: record the computation, so that its result can be differentiated again.
    allow_unused: zeros for an input that no output depends on, instead of a ValueError.
    """
    ys = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    xs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    given: Any = [None] * len(ys) if grad_outputs is None else grad_outputs
    gs = [given] if isinstance(given, Tensor) else list(given)
    seeds: dict[Node, Any] = {}
    for y, g in zip(ys, gs, strict=True):
        node, seed = recorded_node(y, "grad"), seed_of(y, g, "grad", create_graph)
        seeds[node] = seeds[node] + seed if node in seeds else seed
    wanted = {recorded_node(x, "grad") for x in xs}
    found = swept(seeds, wanted, create_graph, create_graph if retain_graph is None else retain_graph)
    unused = [i for i, x in enumerate(xs) if x.node not in found]
    if unused and not allow_unused:
        raise ValueError(
            f"grad: outputs must depend on every input, input {unused[0]} is not used; or pass allow_unused=True"
        )
    result = tuple(found[x.node] if x.node in found else Tensor(xp(x.array).zeros_like(x.array)) for x in xs)
    return result[0] if isinstance(inputs, Tensor) else result


def partials(
    function: Callable[[list[Any]], Sequence[Tensor]], xs: Sequence[Any], gs: Sequence[Tensor], tracked: Sequence[bool]
) -> tuple[list[Any], Sequence[Tensor]]:
    """Σ gs · ∂ function(xs) / ∂x for each tracked x, recorded, and function(xs): for a rule that repeats its operation.

    Each is the derivative by this argument alone, though one may be computed from another, or be another.
    """
    own = [x.reshape(x.shape) if t else x for x, t in zip(xs, tracked, strict=True)]
    ys = function(own)
    kept, seeds = zip(*[(y, g) for y, g in zip(ys, gs, strict=True) if y.requires_grad], strict=True)
    wanted = [x for x, t in zip(own, tracked, strict=True) if t]
    found = iter(grad(kept, wanted, seeds, create_graph=True, allow_unused=True))
    return [next(found) if t else None for t in tracked], ys


def no_grad() -> recording:
    """Record nothing inside the block (or the decorated function): for inference and for updates of parameters."""
    return recording(False)


def enable_grad() -> recording:
    """Record inside the block, even within `no_grad`."""
    return recording(True)


def is_grad_enabled() -> bool:
    """Is the graph being recorded here, in this thread?"""
    return context.recording
