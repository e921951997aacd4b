"""The products: where the time goes."""

from __future__ import annotations

import math

from typing import Any

import numpy as np

from tinygrad_rnn.backend import Array, xp
from tinygrad_rnn.backward import Gradients, sum_to
from tinygrad_rnn.blas import product
from tinygrad_rnn.graph import Node, state
from tinygrad_rnn.ops.shape import broadcast_to
from tinygrad_rnn.primitive import primitive


@primitive
def _matmul(a: Array, b: Array) -> Array:
    """a: (..., M, K)  b: (..., K, N)  returns: (..., M, N)"""
    if b.ndim == 2 < a.ndim:  # one GEMM over all rows, not one for each
        return product(_rows(a), b).reshape(*a.shape[:-1], b.shape[1])
    return product(a, b)


def _matmul_a(g: Any, b: Any) -> Any:
    return matmul(g, b.swapaxes(-1, -2))


def _matmul_b(g: Any, a: Any, b_shape: tuple[int, ...]) -> Any:
    if len(b_shape) == 2:
        return _rows(a).swapaxes(0, 1) @ _rows(g)
    return matmul(a.swapaxes(-1, -2), g)


_matmul.vjp(a=_matmul_a, b=_matmul_b)


def _deliver(grads: Gradients, parent: Node, rule: Any, g: Array, kept: tuple) -> bool:
    """The gradient of a matrix waits for the other steps that use the same one (see Gradients.defer)."""
    if rule is not _matmul_b or grads.lift is not None or len(parent.shape) != 2 or kept[0].dtype != parent.dtype:
        return False
    if g.dtype != parent.dtype:
        return False
    grads.defer(parent, _rows(kept[0]), _rows(g))
    return True


_matmul.op.deliver = _deliver


def _rows(x: Any) -> Any:
    return x if len(x.shape) == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def matmul(a: Any, b: Any) -> Any:
    """a @ b, by NumPy's rules: matrices in the last two axes, the others broadcast; a vector is a row or a column.

    a: (..., M, K) or (K,)  b: (..., K, N) or (K,)
    """
    m, n = len(a.shape), len(b.shape)
    if m >= 2 and n >= 2:
        return _matmul(a, b)
    if m == 0 or n == 0:
        raise ValueError(f"matmul: both operands must have axes, got shapes {a.shape} and {b.shape}; use * for numbers")
    if n == 1:
        y = _matmul(a if m > 1 else a.reshape(1, -1), b.reshape(-1, 1))
        return y.reshape(a.shape[:-1])
    y = _matmul(a.reshape(1, -1), b)
    return y.reshape(*b.shape[:-2], b.shape[-1])


@primitive
def _einsum(*xs: Array, spec: str) -> Array:
    """spec: letters only, no ellipsis, none twice in one operand."""
    return xp(xs[0]).einsum(spec, *xs, optimize=len(xs) > 1)


@_einsum.vjp
def _einsum_rule(g: Any, xs: tuple, xs_shape: tuple, spec: str, tracked: tuple[bool, ...]) -> list:
    terms, out = _terms(spec)

    def pull(i: int) -> Any:
        others = [*terms[:i], *terms[i + 1 :]]
        here = "".join(c for c in terms[i] if c in out or any(c in t for t in others))  # the others were summed alone
        back = _einsum(g, *xs[:i], *xs[i + 1 :], spec=f"{','.join([out, *others])}->{here}")
        sizes = iter(back.shape)
        back = back.reshape(tuple(next(sizes) if c in here else 1 for c in terms[i]))
        full = np.broadcast_shapes(back.shape, xs_shape[i])  # an axis of size 1 was repeated along the others'
        return sum_to(back if full == back.shape else broadcast_to(back, full), xs_shape[i])

    return [pull(i) if wanted else None for i, wanted in enumerate(tracked)]


def einsum(spec: str, *operands: Any) -> Any:
    """Sums of products by Einstein's convention: einsum("bqd,bsd->bqs", q, k). As numpy.einsum, with `...` and
    repeated letters ("ii->i"), the output spelled out or implied."""
    terms, out = _explicit(spec.replace(" ", ""), [len(x.shape) for x in operands])
    xs = list(operands)
    for i, term in enumerate(terms):
        for at, letter in enumerate(term):
            if letter in term[:at]:  # a diagonal: rename the second, and tie it to the first by an identity matrix
                fresh = next(c for c in _LETTERS if all(c not in t for t in terms) and c not in out)
                term = term[:at] + fresh + term[at + 1 :]
                lib = np if state.trace is not None else xp(getattr(xs[i], "array", xs[i]))
                xs.append(lib.eye(xs[i].shape[at], dtype=xs[i].dtype))
                terms.append(letter + fresh)
        terms[i] = term
    return _einsum(*xs, spec=f"{','.join(terms)}->{out}")


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _terms(spec: str) -> tuple[list[str], str]:
    left, _, out = spec.partition("->")
    return left.split(","), out


def _explicit(spec: str, ndims: list[int]) -> tuple[list[str], str]:
    """The terms with `...` written as letters, and the output, spelled out."""
    terms, out = _terms(spec)
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {spec!r} must have a term for each operand, got {len(ndims)} operands")
    free = [c for c in _LETTERS if c not in spec]
    dots = [n - len(t.replace("...", "")) for t, n in zip(terms, ndims, strict=True)]
    for term, n, more in zip(terms, ndims, dots, strict=True):
        if more < 0 or (more > 0 and "..." not in term):
            raise ValueError(f"einsum: {term!r} must name every axis of its operand, got an operand of {n} axes")
    most = max((n for t, n in zip(terms, dots, strict=True) if "..." in t), default=0)
    batch = "".join(free[:most])
    terms = [t.replace("...", batch[most - n :] if n else "") for t, n in zip(terms, dots, strict=True)]
    if "->" not in spec:
        letters = "".join(terms)
        return terms, batch + "".join(sorted(c for c in set(letters) - set(batch) if letters.count(c) == 1))
    return terms, out.replace("...", batch)
