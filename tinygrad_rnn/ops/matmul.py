"""The products: where the time goes."""

from __future__ import annotations

import math

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.backward import Gradients, sum_to
from tinygrad_rnn.autograd.blas import product
from tinygrad_rnn.autograd.dtypes import FLOAT
from tinygrad_rnn.autograd.graph import Node, state
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.ops.elementwise import where
from tinygrad_rnn.ops.shape import broadcast_to


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
_matmul.op.mixes = 0


def _rows(x: Any) -> Any:
    return x if len(x.shape) == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def matmul(a: Any, b: Any) -> Any:
    """a @ b, by NumPy's rules: matrices in the last two axes, the others broadcast; a vector is a row or a column.

    a: (..., M, K) or (K,)  b: (..., K, N) or (K,)
    """
    try:
        m, n = len(a.shape), len(b.shape)
    except AttributeError:
        return matmul(*_operands("matmul", (a, b)))
    if m >= 2 and n >= 2:
        try:
            return _matmul(a, b)
        except ValueError:
            _check_length(a.shape, b.shape)
            raise
    if m == 0 or n == 0:
        raise ValueError(f"matmul: both operands must have axes, got shapes {a.shape} and {b.shape}; use * for numbers")
    _check_length(a.shape, b.shape)
    if n == 1:
        y = _matmul(a if m > 1 else a.reshape(1, -1), b.reshape(-1, 1))
        return y.reshape(a.shape[:-1])
    y = _matmul(a.reshape(1, -1), b)
    return y.reshape(*b.shape[:-2], b.shape[-1])


def _check_length(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a[-1] != b[-2:][0]:
        where = "the second's last but one" if len(b) > 1 else "the second's only one"
        raise ValueError(f"matmul: the first's last axis must be as long as {where}, got shapes {a} and {b}")


def _diagonal(x: Any, i: int, j: int) -> Any:
    """x with zeros where the positions along two axes differ."""
    n, sizes = x.shape[i], [1] * len(x.shape)
    if x.shape[j] != n:
        raise ValueError(f"einsum: axes {i} and {j} have one letter and must be equally long, got shape {x.shape}")
    sizes[i] = sizes[j] = n
    lib = np if state.trace is not None else xp(getattr(x, "array", x))
    return where(lib.eye(n, dtype=bool).reshape(sizes), x, 0)


def _operands(who: str, operands: Sequence[Any]) -> tuple[Any, ...]:
    """The operands, lists of numbers as arrays of the others' floats; TypeError for what has no axes."""
    dtype = next((x.dtype for x in operands if hasattr(x, "dtype") and x.dtype.kind == "f"), FLOAT)
    made = tuple(np.asarray(x, dtype) if isinstance(x, (list, tuple)) else x for x in operands)
    kinds = [type(x).__name__ for x in made if not hasattr(x, "shape")]
    if kinds:
        raise TypeError(f"{who}: operands must be tensors or arrays, got {' and '.join(kinds)}; use * for numbers")
    return made


@primitive
def _einsum(*xs: Array, spec: str) -> Array:
    """spec: letters only, no ellipsis, none twice in one operand."""
    return xp(xs[0]).einsum(spec, *xs, optimize=len(xs) > 1)


_einsum.op.mixes = 0


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
    if not isinstance(spec, str):
        raise TypeError(f'einsum: the first must be a string such as "ij,jk->ik", got {type(spec).__name__}')
    operands = _operands("einsum", operands)
    terms, out = _explicit(spec.replace(" ", ""), [len(x.shape) for x in operands])
    xs = list(operands)
    for i, term in enumerate(terms):
        for at, letter in enumerate(term):
            if letter in term[:at]:  # a diagonal: put zeros beside it, and sum over the second letter by another name
                fresh = next(c for c in _LETTERS if all(c not in t for t in terms) and c not in out)
                xs[i] = _diagonal(xs[i], term.index(letter), at)
                term = term[:at] + fresh + term[at + 1 :]
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
