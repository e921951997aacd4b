"""Clipping: gradients of all parameters together, or each element of them, made no larger than a bound."""

from __future__ import annotations

import math

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import xp
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.optim.schedules import checked_number


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter], max_norm: float, norm_type: float = 2.0, *,
    error_if_nonfinite: bool = False,
) -> float:  # fmt: skip
    """Scale all gradients by one factor so that their common norm is at most max_norm; returns the norm before.

    norm_type: p, for the norm (Σ |g|ᵖ)^(1/p); 2 is √Σ g², math.inf the largest |g|
    Where the norm is NaN or infinite, so is what comes of scaling (NaN, or 0 where an infinity stands beside), as in
    PyTorch; with `error_if_nonfinite` a RuntimeError instead. Pascanu et al. (2013), arXiv:1211.5063.
    """
    for name, value in ("max_norm", max_norm), ("norm_type", norm_type):
        if not checked_number(value, f"clip_grad_norm_: {name}") > 0:
            raise ValueError(f"clip_grad_norm_: {name} must be greater than 0, got {value}")
    found = _with_gradient(parameters, "clip_grad_norm_")
    with np.errstate(over="ignore", invalid="ignore"):
        norm = math.sqrt(sum(_squared(p.grad) for p in found)) if norm_type == 2 else _norm(found, norm_type)
        if error_if_nonfinite and not math.isfinite(norm):
            raise RuntimeError(f"clip_grad_norm_: the norm of the gradients must be finite, got {norm}")
        factor = float(max_norm / (norm + 1e-6))
        if not factor >= 1:
            for p in found:
                p.grad = Tensor(p.grad.array * factor)  # type: ignore[union-attr]
    return norm


def clip_grad_value_(parameters: Parameter | Iterable[Parameter], clip_value: float) -> None:
    """Limit each element of each gradient to ± clip_value."""
    if not checked_number(clip_value, "clip_grad_value_: clip_value") >= 0:
        raise ValueError(f"clip_grad_value_: clip_value must be at least 0, got {clip_value}")
    for p in _with_gradient(parameters, "clip_grad_value_"):
        p.grad = Tensor(p.grad.array.clip(-clip_value, clip_value))  # type: ignore[union-attr]


def _with_gradient(parameters: Parameter | Iterable[Parameter], who: str) -> list[Parameter]:
    """Those of the parameters, or of one alone, that have a gradient, each once."""
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{who}: must get parameters, such as model.parameters(), got a {type(parameters).__name__}")
    several = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    for p in several:
        if not isinstance(p, Tensor):
            raise TypeError(f"{who}: parameters must be tensors, got {type(p).__name__}")
    return list({id(p): p for p in several if p.grad is not None}.values())


def _norm(found: list[Parameter], p: float) -> float:
    """(Σ |g|ᵖ)^(1/p) of all gradients, as multiples of the largest |g|, so that no power of it overflows."""
    arrays = [abs(parameter.grad.array) for parameter in found if parameter.size]  # type: ignore[union-attr]
    largest = float(np.max([float(a.max()) for a in arrays], initial=0.0))
    if p == math.inf or not 0 < largest < math.inf:
        return largest
    return largest * sum(float(((a.astype(np.float64) / largest) ** p).sum()) for a in arrays) ** (1 / p)


def _squared(g: Any) -> float:
    """Σ g², in float64 where that of BLAS is not exact."""
    array = g.array
    total = float(xp(array).vdot(array, array)) if array.dtype == np.float32 else math.inf
    if 1e-20 < total < 1e30:  # BLAS adds up in many parts: as exact as the gradients are
        return total
    array = array.astype(np.float64)  # in float16, and here, the sum would be infinite, or lose its small terms
    return float(xp(array).vdot(array, array))
