"""Random calls of every op, each in our words and in PyTorch's: shapes with 0 and no axes, dtypes, ties, infinities."""

from __future__ import annotations

import operator as op

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinygrad_rnn import ops

torch = pytest.importorskip("torch")
F = torch.nn.functional

FLOATS, WHOLE = ["float32", "float64", "float16"], ["int64", "int32", "int16", "int8", "uint8", "bool"]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 2.0, np.inf, -np.inf, np.nan, 5e-324, -1e-310, 1e-45, 700.0, -750.0, 1e30]


class Sample(NamedTuple):
    """One call. arrays: the tensors among its arguments, of which floats are differentiated."""

    name: str
    ours: Callable
    theirs: Callable
    arrays: tuple[np.ndarray, ...]

    def __repr__(self) -> str:
        shapes = ", ".join(f"{a.dtype}{a.shape}" for a in self.arrays)
        return f"{self.name}({shapes}) of {[a.tolist() for a in self.arrays]}"


class Draw:
    """What a sample is made of, from one generator."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def one_of(self, values: Any) -> Any:
        return values[self.rng.integers(len(values))]

    def shape(self, least: int = 0, most: int = 3) -> tuple[int, ...]:
        sizes = [0, 1, 1, 2, 3, 3, 4]
        return tuple(int(self.one_of(sizes)) for _ in range(self.rng.integers(least, most + 1)))

    def within(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts to another one."""
        return tuple(1 if self.rng.random() < 0.3 else n for n in shape[self.rng.integers(len(shape) + 1) :])

    def array(self, shape: tuple[int, ...], dtypes: Any = None) -> np.ndarray:
        dtype = np.dtype(self.one_of(dtypes or [*FLOATS[:2] * 3, "float16", *WHOLE]))
        if dtype.kind != "f":
            low, high = (0, 2) if dtype.kind == "b" else (0 if dtype.kind == "u" else -5, 6)
            return np.asarray(self.rng.integers(low, high, shape)).astype(dtype)
        kind = self.rng.random()
        values = np.asarray(self.rng.standard_normal(shape))
        if kind < 0.3:
            values = np.round(values)  # ties
        elif kind < 0.5:
            values = np.where(self.rng.random(shape) < 0.3, self.rng.choice(SPECIAL, shape), values)
        with np.errstate(all="ignore"):
            return np.asarray(values, dtype)

    def axis(self, x: np.ndarray) -> int:
        return int(self.rng.integers(-x.ndim, x.ndim))

    def axes(self, x: np.ndarray) -> Any:
        """One axis, several, or all."""
        if self.rng.random() < 0.3:
            return None
        if self.rng.random() < 0.5:
            return self.axis(x)
        return tuple(int(a) for a in self.rng.permutation(x.ndim)[: self.rng.integers(1, x.ndim + 1)])

    def number(self) -> Any:
        kinds = [float, int, bool, np.float64, np.float32, np.int64, np.float16]
        return self.one_of(kinds)(self.one_of([0.5, 2, -1.5, 3, 1, 0]))


MAKERS: dict[str, Callable[[Draw], Sample]] = {}


def maker(*names: str) -> Callable:
    """Register what draws a sample of each of these ops."""

    def register(function: Callable) -> Callable:
        for name in names:
            MAKERS[name] = lambda d, name=name: Sample(name, *function(d, name))
        return function

    return register


UNARY = {
    "abs": torch.abs, "exp": torch.exp, "log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "relu": torch.relu, "erf": torch.erf, "isnan": torch.isnan,
    "sign": lambda x: torch.sign(x.detach()), "logical_not": torch.logical_not, "neg": torch.neg, "gelu": F.gelu,
    "softplus": lambda x: F.softplus(x, threshold=30) if x.is_floating_point() else F.softplus(x.float()),
}  # fmt: skip


@maker(*UNARY)
def unary(d: Draw, name: str) -> tuple:
    dtypes = {"abs": [*FLOATS, *WHOLE[:5]], "neg": [*FLOATS, *WHOLE[:5]], "sign": [*FLOATS, *WHOLE[:5]]}
    dtypes |= {"relu": [*FLOATS, *WHOLE[:5]], "gelu": FLOATS, "softplus": [*FLOATS[:2], *WHOLE]}
    x = d.array(d.shape(), dtypes.get(name))
    if x.dtype.kind == "f" and name in ("abs", "gelu", "relu", "sign"):  # NaN has other slopes and signs in PyTorch
        x = np.nan_to_num(x, posinf=3, neginf=-3)
    return getattr(ops, name), UNARY[name], (x,)


FINITE = {
    "sin": torch.sin, "cos": torch.cos, "expm1": torch.expm1, "silu": F.silu, "elu": F.elu,
    "floor": lambda x: x.detach().floor(), "round": lambda x: x.detach().round(), "leaky_relu": F.leaky_relu,
    "log_sigmoid": F.logsigmoid,
}  # fmt: skip


@maker(*FINITE)
def finite_unary(d: Draw, name: str) -> tuple:
    """What PyTorch has for floats only, or of which NaN and infinity have other slopes there."""
    whole = WHOLE[1:5] if name in ("floor", "round") else WHOLE if name in ("sin", "cos", "expm1") else []
    x = d.array(d.shape(), [*(FLOATS[:2] if name == "silu" else FLOATS), *whole])  # its slope at its least is rounding
    return getattr(ops, name), FINITE[name], (np.nan_to_num(x, posinf=3, neginf=-3),)


@maker("fmod", "mod", "logaddexp", "outer")
def finite_binary(d: Draw, name: str) -> tuple:
    shape, kinds = d.shape(), FLOATS[:2]
    shapes = ((3,), (2,)) if name == "outer" else (d.within(shape), d.within(shape))
    a, b = (np.nan_to_num(d.array(s, kinds).round(3), posinf=3, neginf=-3) for s in shapes)
    b = np.where(b == 0, b.dtype.type(0.75), b) if name in ("fmod", "mod") else b
    if name in ("fmod", "mod"):  # of whole multiples but for rounding PyTorch's slope is that of another quotient
        a = a + a.dtype.type(0.0004)
    return getattr(ops, name), getattr(torch, name, torch.remainder), (a, b)


BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "maximum": torch.maximum, "minimum": torch.minimum, "greater": torch.gt, "greater_equal": torch.ge,
    "less": torch.lt, "less_equal": torch.le, "equal": torch.eq, "not_equal": torch.ne,
    "logical_and": torch.logical_and, "logical_or": torch.logical_or,
}  # fmt: skip


@maker(*BINARY)
def binary(d: Draw, name: str) -> tuple:
    ours, theirs = getattr(ops, name), BINARY[name]
    shape = d.shape()
    # unsigned: PyTorch's numbers without axes wrap around
    floats = FLOATS if name in ("sub", "pow") else [*FLOATS * 2, *WHOLE[:4], "bool"]
    a, b = (d.array(s, floats) for s in (d.within(shape), d.within(shape)))
    if name == "pow" and a.dtype.kind == "f":
        a = a + a.dtype.type(0)  # of -0.0 NumPy's and PyTorch's infinities differ in sign
    if name.startswith(("m", "l")) or d.rng.random() < 0.6:
        return ours, theirs, (a, b)
    number = d.number()
    plain = number.item() if isinstance(number, np.generic) else number
    if name in ("sub", "pow") and isinstance(plain, bool):
        number = plain = 2
    if d.rng.random() < 0.5 or name.startswith(("g", "l", "e", "n", "p")):
        return lambda x: ours(x, number), lambda x: theirs(x, plain), (a,)
    reflected = {"add": op.add, "sub": op.sub, "mul": op.mul, "div": op.truediv}[name]
    return lambda x: ours(number, x), lambda x: reflected(plain, x), (a,)


@maker("where", "masked_fill")
def where(d: Draw, name: str) -> tuple:
    shape = d.shape()
    c, a, b = d.array(d.within(shape), ["bool"]), d.array(d.within(shape)), d.array(d.within(shape))
    value = d.one_of([0.5, 0.0, -np.inf, 2.0])
    if name == "masked_fill":
        a = d.array(shape, FLOATS)
        return lambda c, a: ops.masked_fill(a, c, value), lambda c, a: a.masked_fill(c, value), (c, a)
    if d.rng.random() < 0.3:
        return lambda c, a: ops.where(c, a, value), lambda c, a: torch.where(c, a, value), (c, a)
    if d.rng.random() < 0.3:
        return lambda c: ops.where(c, value, 1.0), lambda c: torch.where(c, value, 1.0), (c,)
    return ops.where, torch.where, (c, a, b)


@maker("clip")
def clip(d: Draw, name: str) -> tuple:
    x = d.array(d.shape(), [*FLOATS, *WHOLE[:4]])
    low, high = sorted((d.one_of([-1.5, 0, 0.5, -1]), d.one_of([0, 1.0, 2, -0.5])))
    low, high = d.one_of([(low, high), (low, None), (None, high)])
    if d.rng.random() < 0.6:
        return lambda x: ops.clip(x, low, high), lambda x: torch.clamp(x, low, high), (x,)
    lows, highs = (np.nan_to_num(d.array(d.within(x.shape), ["float32"])) for _ in range(2))
    highs = np.abs(np.clip(highs, -5, 5)) + np.float32(6)  # where both are one PyTorch has no slope, nor has NaN
    x, lows = np.nan_to_num(x), np.clip(lows, -5, 5)
    return ops.clip, torch.clamp, (x, lows, highs)


def everything(x: Any, axis: Any) -> Any:
    return tuple(range(x.ndim)) if axis is None else axis


REDUCE = {
    "sum": lambda x, a, k: x.sum(everything(x, a), k), "mean": lambda x, a, k: floats(x).mean(everything(x, a), k),
    "max": lambda x, a, k: torch.amax(x, everything(x, a), k),
    "min": lambda x, a, k: torch.amin(x, everything(x, a), k),
    "logsumexp": lambda x, a, k: torch.logsumexp(x, everything(x, a), k),
}  # fmt: skip


def floats(x: Any) -> Any:
    """PyTorch has no mean of integers."""
    return x if x.is_floating_point() else x.float()


@maker(*REDUCE)
def reduction(d: Draw, name: str) -> tuple:
    x = d.array(d.shape(1), [*FLOATS, *WHOLE[:5]])
    axis, keep = d.axes(x), bool(d.rng.integers(2))
    if name == "logsumexp" and x.dtype.kind == "f":  # ours has slopes of 0 where all is -∞, and of NaN beside ∞
        x = np.nan_to_num(x, nan=np.nan, posinf=3, neginf=-3)
    ours, theirs = getattr(ops, name), REDUCE[name]
    return lambda x: ours(x, axis, keep), lambda x: theirs(x, axis, keep), (x,)


@maker("norm", "prod", "std")
def norms(d: Draw, name: str) -> tuple:
    x = np.nan_to_num(d.array(d.shape(1), FLOATS[:2]).round(3), posinf=3, neginf=-3)
    axis, keep, p = d.axes(x), bool(d.rng.integers(2)), d.one_of([2, 1, 3])
    if name == "norm":
        x = np.clip(x, -1e6, 1e6)  # a square is infinite otherwise; PyTorch takes none along an axis of size 1
        theirs = lambda x: torch.linalg.vector_norm(x, p, axis, keep)
        return lambda x: ops.norm(x, p, axis, keep), theirs, (x,)
    if name == "std":
        x = np.arange(24, dtype=x.dtype).reshape(2, 3, 4) * d.one_of([1, -0.3])  # 0 / 0 where there is one
        axis = d.one_of([None, 0, -1, (0, 2)])
        return lambda x: ops.std(x, axis, keep), lambda x: x.std(everything(x, axis), keepdim=keep), (x,)
    axis = d.axis(x)
    return lambda x: ops.prod(x, axis, keep), lambda x: x.prod(axis, keep), (x,)


@maker("cumprod", "argsort", "sort", "topk", "roll", "tile")
def along_an_axis(d: Draw, name: str) -> tuple:
    x = np.nan_to_num(d.array(d.shape(1), FLOATS[:2]).round(3), posinf=3, neginf=-3)
    axis, n, down = d.axis(x), int(d.rng.integers(-5, 6)), bool(d.rng.integers(2))
    if name == "cumprod":
        return lambda x: ops.cumprod(x, axis), lambda x: x.cumprod(axis), (x,)
    if name == "roll":
        axis = d.one_of([axis, None])
        return lambda x: ops.roll(x, n, axis), lambda x: torch.roll(x, n, axis), (x,)
    if name == "tile":
        reps = tuple(int(k) for k in d.rng.integers(0, 3, d.rng.integers(0, 4)))
        return lambda x: ops.tile(x, reps), lambda x: x.tile(reps), (x,)
    if name == "topk":  # of equal ones PyTorch takes any
        x = d.rng.permutation(x.size).reshape(x.shape).astype(x.dtype)
        return lambda x: ops.topk(x, abs(n), axis, down), lambda x: x.topk(abs(n), axis, down), (x,)
    if name == "argsort":
        return lambda x: ops.argsort(x, axis, down), lambda x: x.argsort(dim=axis, descending=down, stable=True), (x,)
    return lambda x: ops.sort(x, axis, down), lambda x: x.sort(dim=axis, descending=down, stable=True), (x,)


@maker("var")
def var(d: Draw, name: str) -> tuple:
    x, n = d.array(d.shape(1), FLOATS), d.one_of([0, 1, 1, 2, 5, 0.5])
    x, axis, keep = np.nan_to_num(x.round(3), posinf=3, neginf=-3), d.axes(x), bool(d.rng.integers(2))
    count = np.prod([x.shape[a] for a in np.atleast_1d(everything(x, axis))])
    used = lambda x: x if count > n else x.detach()  # PyTorch's slope of Σ / 0 is not NaN
    theirs = lambda x: torch.var(used(x), everything(x, axis), correction=n, keepdim=keep)
    return lambda x: ops.var(used(x), axis, keep, correction=n), theirs, (x,)


@maker("softmax", "log_softmax", "cumsum", "argmax")
def along(d: Draw, name: str) -> tuple:
    x = d.array(d.shape(1), [*FLOATS * 2, *WHOLE[:5]])
    if name == "argmax":
        x = np.asarray(d.rng.permutation(x.size).reshape(x.shape), d.one_of(["float32", "int64", "uint8"]))  # no ties
    if "softmax" in name:  # where all is -∞ ours is 0
        x = np.where(x == -np.inf, -1000, x).astype(x.dtype)
    axis = d.axis(x)
    theirs = getattr(torch, name) if name in ("cumsum", "argmax") else getattr(F, name)
    if "softmax" in name:
        return lambda x: getattr(ops, name)(x, axis), lambda x: theirs(floats(x), axis), (x,)
    return lambda x: getattr(ops, name)(x, axis), lambda x: theirs(x, axis), (x,)


@maker("permute", "transpose", "swapaxes", "squeeze", "unsqueeze", "expand_dims", "flip", "unbind", "reshape")
def moved(d: Draw, name: str) -> tuple:
    x = d.array(d.shape(1))
    axis, other = d.axis(x), d.axis(x)
    order = tuple(int(a) for a in d.rng.permutation(x.ndim))
    some = tuple(a for a in order if d.rng.random() < 0.5)
    new = int(d.rng.integers(-x.ndim - 1, x.ndim + 1))
    sizes = (-1,) if x.size else (0, 3)
    both = {
        "permute": lambda x: x.permute(order), "transpose": lambda x: x.transpose(axis, other),
        "swapaxes": lambda x: x.swapaxes(axis, other), "squeeze": lambda x: x.squeeze(),
        "unsqueeze": lambda x: x.unsqueeze(new),
        "expand_dims": lambda x: x.unsqueeze(new), "flip": lambda x: x.flip(some), "unbind": lambda x: x.unbind(axis),
        "reshape": lambda x: x.reshape(sizes),
    }  # fmt: skip
    ours = (lambda x: ops.expand_dims(x, new)) if name == "expand_dims" else both[name]
    return ours, both[name], (x,)


@maker("split", "chunk", "broadcast_to", "pad", "concat", "stack")
def pieces(d: Draw, name: str) -> tuple:
    x = d.array(d.shape(1))
    axis, n = d.axis(x), int(d.rng.integers(1, 5))
    if name in ("split", "chunk"):
        f = lambda x: getattr(x, name)(n, axis)
        return f, f, (x,)
    if name == "broadcast_to":
        shape = d.shape()
        x = d.array(d.within(shape))
        return lambda x: ops.broadcast_to(x, shape), lambda x: torch.broadcast_to(x, shape), (x,)
    if name == "pad":
        widths = [(int(d.rng.integers(3)), int(d.rng.integers(3))) for _ in x.shape]
        flat = [w for pair in reversed(widths) for w in pair]
        return lambda x: ops.pad(x, widths, 1.5), lambda x: F.pad(x, flat, value=1.5), (x.astype("float32"),)
    if name == "stack":
        xs = tuple(d.array(x.shape) for _ in range(n))
        # PyTorch's own stack has no rule for dtypes that differ
        wide = lambda xs: [x.to(result_type(xs)) for x in xs]
        return lambda *xs: ops.stack(xs, axis), lambda *xs: torch.stack(wide(xs), axis), xs
    lead = x.shape[: axis % x.ndim], x.shape[axis % x.ndim + 1 :]
    xs = tuple(d.array((*lead[0], int(d.rng.integers(4)), *lead[1])) for _ in range(n))
    return lambda *xs: ops.concat(xs, axis), lambda *xs: torch.cat(xs, axis), xs


def result_type(xs: Any) -> Any:
    found = xs[0]
    for x in xs[1:]:
        found = torch.zeros((1,) * x.ndim, dtype=torch.result_type(found, x))
    return found.dtype


@maker("matmul", "einsum")
def products(d: Draw, name: str) -> tuple:
    m, k, n, b = (int(d.one_of([0, 1, 2, 3])) for _ in range(4))
    dtype = [d.one_of(FLOATS[:2])]
    if name == "matmul":
        left = d.one_of([(k,), (m, k), (b, m, k), (1, m, k), (2, b, m, k)])
        right = d.one_of([(k,), (k, n), (b, k, n), (1, k, n)])
        return ops.matmul, torch.matmul, (d.array(left, dtype), d.array(right, dtype))
    spec, shapes = d.one_of([
        ("ij,jk->ik", ((m, k), (k, n))), ("bij,bjk->bik", ((b, m, k), (b, k, n))), ("ij->", ((m, k),)),
        ("ii->i", ((m, m),)), ("i,j->ij", ((m,), (n,))), ("...i,i->...", ((b, m, k), (k,))),
        ("ij,ij->j", ((m, k), (m, k))),
    ])  # fmt: skip
    arrays = tuple(d.array(s, dtype) for s in shapes)
    return lambda *xs: ops.einsum(spec, *xs), lambda *xs: torch.einsum(spec, *xs), arrays


@maker("conv1d", "conv2d")
def convolutions(d: Draw, name: str) -> tuple:
    axes, dtype = int(name[4]), [d.one_of(FLOATS[:2])]
    several = lambda low, high: [int(n) for n in d.rng.integers(low, high, axes)]
    size, stride, dilation, padding = several(1, 4), several(1, 4), several(1, 3), several(0, 4)
    image = [k * e + int(d.rng.integers(1, 4)) for k, e in zip(size, dilation, strict=True)]
    N, C, K = (int(n) for n in d.rng.integers(1, 4, 3))
    arrays = [np.nan_to_num(d.array(s, dtype), posinf=3, neginf=-3) for s in ((N, C, *image), (K, C, *size), (K,))]
    arrays = [np.clip(a, -1e3, 1e3) for a in arrays]
    odd = all(k % 2 for k in size)  # of others PyTorch warns
    where = d.one_of(
        [{}, {"stride": stride, "padding": padding, "dilation": dilation}, {"padding": "same"} if odd else {}]
    )
    ours, theirs = getattr(ops, name), getattr(F, name)
    return lambda *xs: ours(*xs, **where), lambda *xs: theirs(*xs, **where), tuple(arrays)


@maker("take", "take_along_axis", "scatter_add", "embedding", "one_hot", "getitem", "cast")
def lookups(d: Draw, name: str) -> tuple:
    x = d.array((*d.shape(0, 2), int(d.rng.integers(1, 4))), FLOATS)
    axis = d.axis(x)
    size = x.shape[axis]
    if name == "cast":
        ours, theirs = d.one_of([("float64", torch.float64), ("float32", torch.float32), ("float16", torch.float16)])
        return lambda x: ops.cast(x, ours), lambda x: x.to(theirs), (x,)
    if name == "getitem":
        key = d.one_of([(..., 0), (..., slice(None, None, 2)), (None,), (..., [0, 0])])
        return lambda x: x[key], lambda x: x[key], (x,)
    if name == "one_hot":
        ids = d.rng.integers(0, 5, d.shape(0, 2))
        return lambda i: ops.one_hot(i, 5, np.int64), lambda i: F.one_hot(i, 5), (ids,)
    if name == "embedding":
        table, ids = d.array((5, int(d.rng.integers(4))), FLOATS), d.rng.integers(0, 5, d.shape(0, 2))
        return ops.embedding, F.embedding, (ids, table)
    if name == "take":
        ids = d.rng.integers(0, max(size, 1), int(d.rng.integers(1, 4)) if size else 0)
        return lambda x, i: ops.take(x, i, axis), lambda x, i: torch.index_select(x, axis, i), (x, ids)
    full = list(x.shape)
    full[axis] = int(d.rng.integers(4)) if size else 0
    ids = np.asarray(d.rng.integers(0, max(size, 1), full))
    if name == "take_along_axis":
        return lambda x, i: ops.take_along_axis(x, i, axis), lambda x, i: torch.take_along_dim(x, i, axis), (x, ids)
    values = d.array(tuple(full), [x.dtype])
    theirs = lambda x, i, v: x.scatter_add(axis, i, v)
    return lambda x, i, v: ops.scatter_add(x, i, v, axis), theirs, (x, ids, values)


def sample(seed: int) -> Sample:
    """The sample of a number; as many of each op."""
    names = sorted(MAKERS)
    return MAKERS[names[seed % len(names)]](Draw(seed))
