"""Derivative rules against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.gradients import grad, no_grad
from tinygrad_rnn.autograd.tensor import Tensor


def gradcheck(
    f: Callable[..., Any], *inputs: Tensor, order: int = 2, eps: float = 1e-6, rtol: float = 1e-5, seed: int = 0
) -> bool:
    """Check the derivatives of f at `inputs` against differences along random directions: True, or an error.

    For random u, v: ⟨u, (f(x + εv) - f(x - εv)) / 2ε⟩ = ⟨Jᵀu, v⟩, to rtol + rounding. It costs two runs of f for any
    size of input, and a wrong rule passes with probability 0. With order=2 (the default) the same for x ↦ Jᵀu: the
    rules' own derivatives.

    f: takes `inputs`, returns a tensor or a tuple or list of them, and computes the same each time.
    inputs: float64 tensors; all that require a gradient are varied, or all, if none does.
    Raises AssertionError that names the order and input and shows both numbers, ValueError for inputs of another dtype.
    """
    varied = [i for i, x in enumerate(inputs) if x.requires_grad] or list(range(len(inputs)))
    for i in varied:
        if inputs[i].dtype != np.float64:
            raise ValueError(f"gradcheck: inputs must be float64, input {i} is {inputs[i].dtype}; use .to('float64')")
    xs = [Tensor(x.array).requires_grad_() if i in varied else x.detach() for i, x in enumerate(inputs)]
    rng = np.random.default_rng(seed)
    _check(f, xs, varied, "first", eps, rtol, rng)
    if order >= 2:
        us = [_random(y, rng) for y in _outputs(f(*xs))]

        def gradients(*at: Tensor) -> list[Tensor]:
            live = [(y, u) for y, u in zip(_outputs(f(*at)), us, strict=True) if y.requires_grad]
            wrt = [at[i] for i in varied]
            return list(grad([y for y, _ in live], wrt, [u for _, u in live], create_graph=True, allow_unused=True))

        _check(gradients, xs, varied, "second", eps, rtol, rng)
    return True


def _check(
    f: Callable, xs: list[Tensor], varied: list[int], order: str, eps: float, rtol: float, rng: np.random.Generator
) -> None:
    """One direction for each input by itself, so that an error names it."""
    ys = _outputs(f(*xs))
    us = [_random(y, rng) for y in ys]
    live = [(y, u) for y, u in zip(ys, us, strict=True) if y.requires_grad]
    gs: Sequence[Tensor]
    if live:
        gs = grad([y for y, _ in live], [xs[i] for i in varied], [u for _, u in live], allow_unused=True)
    else:
        gs = [Tensor(xs[i].array * 0) for i in varied]
    for i, g in zip(varied, gs, strict=True):
        v = _random(xs[i], rng)
        if g.shape != xs[i].shape or g.dtype != xs[i].dtype:
            raise AssertionError(
                f"gradcheck: the gradient of input {i} must be {xs[i].shape} {xs[i].dtype}, got {g.shape} {g.dtype}"
            )
        up, down = (_dot(_moved(f, xs, i, s * eps, v, order), us) for s in (1, -1))
        numeric, analytic = (up - down) / (2 * eps), _dot([g], [v])
        rounding = 1e-15 * (abs(up) + abs(down)) / eps
        if not abs(analytic - numeric) <= rtol * max(1.0, abs(numeric)) + 10 * rounding:
            raise AssertionError(
                f"gradcheck: the {order} derivative by input {i} along a random direction is {analytic:.10g} by the "
                f"rules, {numeric:.10g} by differences"
            )


def _moved(f: Callable, xs: list[Tensor], i: int, step: float, v: Tensor, order: str) -> list[Tensor]:
    """f with input i moved along v."""
    at = list(xs)
    at[i] = Tensor(xs[i].array + step * v.array).requires_grad_()
    if order == "second":  # f itself differentiates
        return _outputs(f(*at))
    with no_grad():
        return _outputs(f(*at))


def _outputs(y: Any) -> list[Tensor]:
    return [y] if isinstance(y, Tensor) else [t for t in y if t.dtype.kind == "f"]


def _random(like: Tensor, rng: np.random.Generator) -> Tensor:
    return Tensor(arrays.move(rng.standard_normal(like.shape).astype(like.dtype), like.device))


def _dot(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> float:
    return sum(float((x.array * y.array).sum()) for x, y in zip(xs, ys, strict=True))
