"""Einstein sums: products and sums by the names of axes."""

from __future__ import annotations

import functools

from typing import Any

import numpy as np

from tinygrad_rnn.autograd.arrays import Array, xp
from tinygrad_rnn.autograd.backward import sum_to
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.ops.elementwise import where
from tinygrad_rnn.ops.matmul import operands_of
from tinygrad_rnn.ops.shape import broadcast_to


def _diagonal(x: Any, i: int, j: int) -> Any:
    """x with zeros where the positions along two axes differ."""
    n, sizes = x.shape[i], [1] * len(x.shape)
    if x.shape[j] != n:
        raise ValueError(f"einsum: axes {i} and {j} have one letter and must be equally long, got shape {x.shape}")
    sizes[i] = sizes[j] = n
    lib = np if context.trace is not None else xp(getattr(x, "array", x))
    return where(lib.eye(n, dtype=bool).reshape(sizes), x, 0)


@primitive
def _einsum(*xs: Array, spec: str) -> Array:
    """spec: letters only, no ellipsis, none twice in one operand."""
    lib = xp(xs[0])
    if any(xp(x) is not lib for x in xs):  # CuPy would move the others, each time
        raise ValueError("operands must be on one device")
    return lib.einsum(spec, *xs, optimize=len(xs) > 1 and _path(spec, *[x.shape for x in xs]))


@functools.lru_cache(1 << 10)
def _path(spec: str, *shapes: tuple[int, ...]) -> Any:
    """The order in which to multiply arrays of these shapes, which einsum would look for at each call."""
    return np.einsum_path(spec, *[np.broadcast_to(0, shape) for shape in shapes], optimize=True)[0]


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
    operands = operands_of("einsum", operands)
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
