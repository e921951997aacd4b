"""Clipping: gradients of all parameters together, or each element of them, made no larger than a bound."""

from __future__ import annotations

import functools
import math

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, device_of, full, move, xp
from tinygrad_rnn.autograd.tensor import Parameter, Tensor
from tinygrad_rnn.optim.schedules import checked_number


def clip_grad_norm_(
    parameters: Parameter | Iterable[Parameter], max_norm: float, norm_type: float = 2.0, *,
    error_if_nonfinite: bool = False,
) -> Tensor:  # fmt: skip
    """Scale all gradients by one factor so that their common norm is at most max_norm; returns the norm before.

    norm_type: p, for the norm (Σ |g|ᵖ)^(1/p); 2 is √Σ g², math.inf the largest |g|
    returns: a tensor without axes, float64, where the first gradient is; on a GPU nobody waits for it
    Where the norm is NaN or infinite, so is what comes of scaling (NaN, or 0 where an infinity stands beside), as in
    PyTorch; with `error_if_nonfinite`, which reads it, a RuntimeError instead. Pascanu et al. (2013), arXiv:1211.5063.
    """
    for name, value in ("max_norm", max_norm), ("norm_type", norm_type):
        if not checked_number(value, f"clip_grad_norm_: {name}") > 0:
            raise ValueError(f"clip_grad_norm_: {name} must be greater than 0, got {value}")
    found = _with_gradient(parameters, "clip_grad_norm_")
    gradients = [p.grad.array for p in found]  # type: ignore[union-attr]
    on_host = all(type(g) is np.ndarray for g in gradients)
    with np.errstate(over="ignore", invalid="ignore"):
        norm = _norm(gradients, norm_type) if on_host else _norm_on_device(gradients, norm_type)
        if error_if_nonfinite and not math.isfinite(norm):
            raise RuntimeError(f"clip_grad_norm_: the norm of the gradients must be finite, got {float(norm)}")
        factor = float(max_norm) / (norm + 1e-6)
        if not on_host:
            _scale_on_device(found, factor)
        elif not factor >= 1:
            for p, g in zip(found, gradients, strict=True):
                p.grad = Tensor(g * factor)
    return Tensor(np.asarray(norm) if on_host else norm)


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


# ---- on the CPU: numbers of Python ----------------------------------------------------------------------------------


def _norm(gradients: list[Array], p: float) -> float:
    """(Σ |g|ᵖ)^(1/p) of all gradients, but for p = 2 as multiples of the largest |g|, so that no power overflows."""
    if p == 2:
        return math.sqrt(sum(map(_squared, gradients)))
    sizes = [abs(g) for g in gradients if g.size]
    largest = float(np.max([float(a.max()) for a in sizes], initial=0.0))
    if p == math.inf or not 0 < largest < math.inf:
        return largest
    return largest * sum(float(((a.astype(np.float64) / largest) ** p).sum()) for a in sizes) ** (1 / p)


def _squared(g: np.ndarray) -> float:
    """Σ g², in float64 where that of BLAS is not exact."""
    total = float(np.vdot(g, g)) if g.dtype == np.float32 else math.inf
    if 1e-20 < total < 1e30:  # BLAS adds up in many parts: as exact as the gradients are
        return total
    g = g.astype(np.float64)  # in float16, and here, the sum would be infinite, or lose its small terms
    return float(np.vdot(g, g))


# ---- on a GPU: arrays without axes, so that nobody waits for a number -----------------------------------------------


def _norm_on_device(gradients: list[Array], p: float) -> Array:
    """The same norm, where the first gradient on a GPU is."""
    device = next(d for d in map(device_of, gradients) if d != "cpu")
    sizes = [g for g in gradients if g.size]
    if not sizes:
        return full((), 0, np.float64, device)
    together = lambda parts: xp(parts[0]).stack(parts)
    if p == 2:
        squares = together([move(xp(g).multiply(g, g, dtype=np.float64).sum(), device) for g in sizes])
        return xp(squares).sqrt(squares.sum())
    largest = together([move(abs(g).max().astype(np.float64), device) for g in sizes]).max()
    if p == math.inf:
        return largest
    parts = [move(((abs(g).astype(np.float64) / move(largest, device_of(g))) ** p).sum(), device) for g in sizes]
    lib = xp(largest)
    usual = (largest > 0) & (largest < math.inf)
    return lib.where(usual, largest * together(parts).sum() ** (1 / p), largest)


def _scale_on_device(found: list[Parameter], factor: Array) -> None:
    """Multiply gradients by a factor of which nobody knows whether it is less than 1; else by 1."""
    factor = xp(factor).minimum(factor, 1)  # NaN stays NaN
    fitting = functools.cache(lambda device, dtype: move(factor, device).astype(dtype))
    for p in found:
        g: Any = p.grad.array  # type: ignore[union-attr]
        p.grad = Tensor(g * fitting(device_of(g), g.dtype))
