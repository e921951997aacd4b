"""The table of operations that PyTorch has too: ours, theirs, and inputs that reach borders and ties."""

from __future__ import annotations

import zlib

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from tinygrad_rnn import ops

torch = pytest.importorskip("torch")
F = torch.nn.functional


class Case(NamedTuple):
    """Two functions that must be one; inputs: arrays, the float64 ones are differentiated, twice if `order` is 2."""

    op: str
    what: str
    ours: Callable
    theirs: Callable
    inputs: tuple[np.ndarray, ...]
    order: int = 2


CASES: list[Case] = []


def case(op: str, what: str, ours: Callable, theirs: Callable, *inputs: Any, order: int = 2) -> None:
    """Add a line to the table. An input that is given as a shape is drawn from the normal distribution."""
    rng = np.random.default_rng(zlib.crc32(f"{op} {what}".encode()))
    arrays = [rng.standard_normal(x) if isinstance(x, tuple) else np.array(x) for x in inputs]
    CASES.append(Case(op, what, ours, theirs, tuple(arrays), order))


def same(op: str, what: str, f: Callable, *inputs: Any) -> None:
    """A case whose function reads the same for both libraries' tensors."""
    case(op, what, f, f, *inputs)


def positive(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(0.5, 2.0, shape)


TIES = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [-1.0, 0.0, -1.0]])
SWAPPED = TIES.T.copy()
AROUND_ZERO = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])
WIDE = np.array([-700.0, -30.0, -1.0, 0.0, 1.0, 30.0, 700.0])
MASK = np.array([[True, False, True], [False, False, True], [True, True, True]])
INF = float("inf")

# ---- arithmetic -----------------------------------------------------------------------------------------------------

for name, f in {"add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b}.items():
    same(name, "of two tensors", f, (3, 4), (3, 4))
    same(name, "broadcast on both sides", f, (3, 1), (2, 1, 4))
    same(name, "with a number on the right", lambda a, f=f: f(a, 2.5), (3, 4))
    same(name, "with a number on the left", lambda a, f=f: f(2.5, a), (3, 4))
    same(name, "of a tensor with itself", lambda a, f=f: f(a, a), (3, 4))
same("div", "of two tensors", lambda a, b: a / b, (3, 4), positive(3, 4))
same("div", "broadcast on both sides", lambda a, b: a / b, (3, 1), positive(2, 1, 4))
same("div", "of a number", lambda a: 2.5 / a, positive(3, 4))
same("neg", "of a tensor", lambda a: -a, (3, 4))
for exponent in (0, 0.5, 1, 2, 3, -1, -2.5):
    same("pow", f"with exponent {exponent}", lambda a, n=exponent: a**n, positive(3, 4))
for exponent in (0, 1, 2, 3):
    same("pow", f"of zero and negatives with exponent {exponent}", lambda a, n=exponent: a**n, AROUND_ZERO)
same("pow", "of two tensors", lambda a, b: a**b, positive(3, 4), (3, 4))
same("pow", "of a number", lambda b: 2.0**b, (3, 4))
ZEROS, TO_ZERO = [0.0, 0.0, 0.0, 1.5], [0.0, 1.0, 3.0, 0.0]
power = lambda a, b: a**b
case("pow", "of zeros to zero", power, power, ZEROS, TO_ZERO, order=1)  # PyTorch's second derivative is NaN there

# ---- one formula for each element -----------------------------------------------------------------------------------

same("exp", "of a tensor", lambda x: x.exp(), (3, 4))
same("log", "of a tensor", lambda x: x.log(), positive(3, 4))
same("sqrt", "of a tensor", lambda x: x.sqrt(), positive(3, 4))
same("abs", "and at zero", lambda x: x.abs(), AROUND_ZERO)
same("tanh", "from -700 to 700", lambda x: x.tanh(), WIDE)
same("tanh", "of a tensor", lambda x: x.tanh(), (3, 4))
same("relu", "and at zero", lambda x: x.relu(), AROUND_ZERO)
same("sigmoid", "from -700 to 700", lambda x: x.sigmoid(), WIDE)
same("sigmoid", "of a tensor", lambda x: x.sigmoid(), (3, 4))
case("erf", "of a tensor", ops.erf, torch.erf, (3, 4))
case("gelu", "by erf", ops.gelu, F.gelu, (3, 4))
case("gelu", "by tanh", lambda x: ops.gelu(x, "tanh"), lambda x: F.gelu(x, approximate="tanh"), (3, 4))
case("floor", "times x", lambda x: ops.floor(x) * x, lambda x: x.floor() * x, AROUND_ZERO)
case("round", "times x", lambda x: ops.round(x) * x, lambda x: x.round() * x, AROUND_ZERO)
case("argsort", "of ties", ops.argsort, lambda x: x.argsort(stable=True), SWAPPED)
case("dropout", "not training", lambda x: ops.dropout(x, 0.3, False), lambda x: F.dropout(x, 0.3, False), (3, 4))
case("dropout", "of all", lambda x: ops.dropout(x, 1.0), lambda x: F.dropout(x, 1.0), (3, 4))
case("log1p", "near zero and far", lambda x: x.log1p(), torch.log1p, [-0.5, -1e-9, 0.0, 1e-9, 1e9])
for name in ("sin", "cos", "expm1"):
    case(name, "of a tensor", getattr(ops, name), getattr(torch, name), (3, 4))
case("fmod", "of both signs", ops.fmod, torch.fmod, 5 * AROUND_ZERO + 0.1, np.array([1.5, -1.5, 0.7, 2.0, -0.3]))
case("mod", "of both signs", ops.mod, torch.remainder, 5 * AROUND_ZERO + 0.1, np.array([1.5, -1.5, 0.7, 2.0, -0.3]))
case("silu", "from -700 to 700", ops.silu, F.silu, WIDE)
case("elu", "around zero", ops.elu, F.elu, AROUND_ZERO, order=1)
case("elu", "alpha", lambda x: ops.elu(x, 0.3), lambda x: F.elu(x, 0.3), (3, 4))
case("leaky_relu", "around zero", ops.leaky_relu, F.leaky_relu, np.array([-2.0, -0.5, 0.5, 2.0]))
case("log_sigmoid", "from -700 to 700", ops.log_sigmoid, F.logsigmoid, WIDE)
case("logaddexp", "ties", ops.logaddexp, torch.logaddexp, TIES, TIES, order=1)
case("logaddexp", "of tensors", ops.logaddexp, torch.logaddexp, (3, 4), (3, 4), order=1)  # of second order: noise
case("prod", "an axis", lambda x: ops.prod(x, 1), lambda x: x.prod(1), (3, 5, 2))
case("prod", "zeros", lambda x: ops.prod(x, 1), lambda x: x.prod(1), np.array([[1.0, 0, 2], [0, 3, 0], [4, 5, 6]]))
case("cumprod", "an axis", lambda x: ops.cumprod(x, 1), lambda x: x.cumprod(1), (3, 5))
case("cumprod", "a zero", lambda x: ops.cumprod(x, 0), lambda x: x.cumprod(0), np.array([1.0, 0, 2, 3]), order=1)
case("std", "an axis", lambda x: ops.std(x, 1), lambda x: x.std(1), (3, 5))
for order in (1, 2, 3, INF, 0.5):
    case("norm", f"of order {order}", lambda x, p=order: ops.norm(x, p, 1),
         lambda x, p=order: torch.linalg.vector_norm(x, p, 1), (3, 4))  # fmt: skip
case("roll", "an axis", lambda x: ops.roll(x, -2, 1), lambda x: x.roll(-2, 1), (3, 5))
case("roll", "all", lambda x: ops.roll(x, 7), lambda x: x.roll(7), (3, 5))
case("tile", "axes", lambda x: ops.tile(x, (2, 1, 3)), lambda x: x.tile((2, 1, 3)), (3, 2))
case("outer", "vectors", ops.outer, torch.outer, (3,), (4,))
case("sort", "an axis", lambda x: ops.sort(x, 0, True)[0], lambda x: x.sort(0, True)[0], (5, 3))
case("topk", "largest", lambda x: ops.topk(x, 2)[0], lambda x: x.topk(2)[0], (3, 5))
case("topk", "smallest", lambda x: ops.topk(x, 2, 0, False)[0], lambda x: x.topk(2, 0, False)[0], (5, 3))
case("softplus", "from -700 to 700", ops.softplus, lambda x: F.softplus(x, threshold=1000), WIDE)
for low, high in ((-0.5, 0.5), (None, 0.5), (-0.5, None), (0.0, 0.0)):
    f = lambda x, low=low, high=high: x.clip(low, high)
    same("clip", f"from {low} to {high}, borders included", f, AROUND_ZERO)
case("maximum", "of two tensors", ops.maximum, torch.maximum, (3, 4), (3, 4))
case("maximum", "broadcast on both sides", ops.maximum, torch.maximum, (3, 1), (2, 1, 4))
case("maximum", "of ties", ops.maximum, torch.maximum, TIES, SWAPPED)
case("maximum", "of a tensor with itself", lambda x: ops.maximum(x, x), lambda x: torch.maximum(x, x), (3, 4))
case("minimum", "of two tensors", ops.minimum, torch.minimum, (3, 4), (3, 4))
case("minimum", "of ties", ops.minimum, torch.minimum, TIES, SWAPPED)
case("where", "of two tensors", ops.where, torch.where, MASK, (3, 3), (3, 3))
case("where", "broadcast throughout", ops.where, torch.where, MASK, (1, 3), (2, 1, 1))
case("where", "with a number", lambda c, a: ops.where(c, a, 0.5), lambda c, a: torch.where(c, a, 0.5), MASK, (3, 3))
same("masked_fill", "of a tensor", lambda x, m: x.masked_fill(m, -2.0), (3, 3), MASK)
rounded = lambda x: x.to("float32").to("float64")
case("cast", "to float32 and back", lambda x: rounded(x) * x, lambda x: x.float().double() * x, (3, 4))
case("sign", "and at zero", lambda x: ops.sign(x) * x, lambda x: torch.sign(x) * x, AROUND_ZERO)
case("isnan", "of a tensor", lambda x: ops.isnan(x), torch.isnan, [0.0, np.nan, INF])
for name, theirs in {"greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"}.items():
    case(name, "of ties", getattr(ops, name), getattr(torch, theirs), TIES, SWAPPED)
case("equal", "of ties", ops.equal, torch.eq, TIES, SWAPPED)
case("not_equal", "of ties", ops.not_equal, torch.ne, TIES, SWAPPED)
case("logical_and", "of masks", ops.logical_and, torch.logical_and, MASK, MASK.T)
case("logical_or", "of masks", ops.logical_or, torch.logical_or, MASK, MASK.T)
case("logical_not", "of a mask", ops.logical_not, torch.logical_not, MASK)

# ---- products -------------------------------------------------------------------------------------------------------

SHAPES = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((2, 3), (5, 3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4)), ((0, 3), (3, 4)),
]  # fmt: skip
for a, b in SHAPES:
    same("matmul", f"of {a} and {b}", lambda a, b: a @ b, a, b)
for spec, *shapes in (
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("i,j->ij", (3,), (4,)),
    ("bqd,bsd->bqs", (2, 3, 4), (2, 5, 4)), ("ij->", (3, 4)), ("ij->j", (3, 4)), ("ij->ji", (3, 4)), ("ii->i", (3, 3)),
    ("ii->", (3, 3)), ("iij,jk->ik", (3, 3, 2), (2, 4)), ("...ij,jk->...ik", (2, 5, 3, 4), (4, 2)),
    ("...ij,...jk", (5, 3, 4), (2, 1, 4, 2)), ("ij,ij->i", (2, 3), (2, 1)), ("ij,kl->jk", (2, 3), (4, 5)),
    ("bi,ijk,bk->bj", (2, 3), (3, 4, 5), (2, 5)), ("ij,ij->i", (2, 3), (2, 3)),
):  # fmt: skip
    ours, theirs = lambda *xs, spec=spec: ops.einsum(spec, *xs), lambda *xs, spec=spec: torch.einsum(spec, *xs)
    case("einsum", f"{spec} of {shapes}", ours, theirs, *shapes)

# ---- convolutions ---------------------------------------------------------------------------------------------------

for what in (
    {}, {"stride": 2}, {"padding": 2}, {"dilation": 2}, {"stride": 3, "padding": 4, "dilation": 2}, {"padding": "same"},
    {"padding": "valid"},
):  # fmt: skip
    for name, shape, kernel in (
        ("conv1d", (2, 3, 9), (4, 3, 3)), ("conv1d", (2, 1, 10), (2, 1, 5)), ("conv2d", (2, 2, 6, 9), (3, 2, 3, 5)),
        ("conv2d", (1, 3, 7, 5), (2, 3, 1, 3)),
    ):  # fmt: skip
        ours = lambda x, w, b, name=name, what=what: getattr(ops, name)(x, w, b, **what)
        theirs = lambda x, w, b, name=name, what=what: getattr(F, name)(x, w, b, **what)
        case(name, f"{shape} with {kernel}, {what}", ours, theirs, shape, kernel, kernel[:1])
for what in ({"stride": (2, 1), "padding": (0, 2), "dilation": (1, 3)}, {"stride": (1, 3), "padding": (5, 1)}):
    ours, theirs = lambda x, w, what=what: ops.conv2d(x, w, **what), lambda x, w, what=what: F.conv2d(x, w, **what)
    case("conv2d", f"{what}", ours, theirs, (2, 2, 7, 8), (2, 2, 3, 2))

# ---- reductions -----------------------------------------------------------------------------------------------------

for axis in (None, 0, -1, (0, 2)):
    for keep in (False, True):
        what, one = f"over {axis}, keepdims={keep}", {"axis": axis, "keepdims": keep}
        all_axes = {**one, "axis": (0, 1, 2) if axis is None else axis}
        same("sum", what, lambda x, o=one: x.sum(**o), (2, 3, 4))
        same("mean", what, lambda x, o=one: x.mean(**o), (2, 3, 4))
        for n in (0, 1, 1.5):
            f = lambda x, o=one, n=n: x.var(**o, correction=n)
            same("var", f"{what}, correction={n}", f, (2, 3, 4))
        same("logsumexp", what, lambda x, o=all_axes: x.logsumexp(**o), (2, 3, 4))
        ours, theirs = lambda x, o=one: x.max(**o), lambda x, o=all_axes: torch.amax(x, o["axis"], o["keepdims"])
        case("max", what, ours, theirs, (2, 3, 4))
        ours, theirs = lambda x, o=one: x.min(**o), lambda x, o=all_axes: torch.amin(x, o["axis"], o["keepdims"])
        case("min", what, ours, theirs, (2, 3, 4))
for axis in (0, 1):
    case("max", f"of ties over {axis}", lambda x, a=axis: x.max(a), lambda x, a=axis: x.amax(a), TIES)
    case("min", f"of ties over {axis}", lambda x, a=axis: x.min(a), lambda x, a=axis: x.amin(a), TIES)
    case("argmax", f"over {axis}", lambda x, a=axis: x.argmax(a), lambda x, a=axis: x.argmax(a), (3, 4))
    same("softmax", f"over {axis}", lambda x, a=axis: x.softmax(a), (3, 4))
    same("log_softmax", f"over {axis}", lambda x, a=axis: x.log_softmax(a), (3, 4))
    same("cumsum", f"over {axis}", lambda x, a=axis: x.cumsum(a), (3, 4))
case("max", "of ties over all", lambda x: x.max(), torch.amax, TIES)
same("argmax", "over all", lambda x: x.argmax(), (3, 4))
same("softmax", "from -700 to 700", lambda x: x.softmax(-1), WIDE)
same("softmax", "with a masked place", lambda x: x.softmax(-1), [[0.5, -INF, 1.0]])
same("log_softmax", "from -700 to 700", lambda x: x.log_softmax(-1), WIDE)
same("logsumexp", "from -700 to 700", lambda x: x.logsumexp(-1), WIDE)
same("logsumexp", "with a masked place", lambda x: x.logsumexp(-1), [[0.5, -INF, 1.0]])
same("sum", "of nothing", lambda x: x.sum(0), (0, 3))

# ---- shapes ---------------------------------------------------------------------------------------------------------

same("reshape", "with -1", lambda x: x.reshape(4, -1), (2, 3, 4))
same("permute", "of three axes", lambda x: x.permute(2, 0, -2), (2, 3, 4))
same("transpose", "of two axes", lambda x: x.transpose(0, -1), (2, 3, 4))
same("swapaxes", "of two axes", lambda x: x.swapaxes(0, 1), (2, 3, 4))
same("broadcast_to", "new and old axes", lambda x: x.broadcast_to((2, 3, 4)), (3, 1))
same("broadcast_to", "with -1", lambda x: x.expand(2, -1, 4), (3, 1))
for axis in (0, 1, -1):
    same("unsqueeze", f"at {axis}", lambda x, a=axis: x.unsqueeze(a), (3, 4))
    case("expand_dims", f"at {axis}", lambda x, a=axis: ops.expand_dims(x, a), lambda x, a=axis: x.unsqueeze(a), (3, 4))
    ours, theirs = lambda *xs, a=axis: ops.concat(xs, a), lambda *xs, a=axis: torch.cat(xs, a)
    case("concat", f"along {axis}", ours, theirs, (3, 2), (3, 2))
    ours, theirs = lambda *xs, a=axis: ops.stack(xs, a), lambda *xs, a=axis: torch.stack(xs, a)
    case("stack", f"along {axis}", ours, theirs, (3, 2), (3, 2))
    same("unbind", f"along {axis}", lambda x, a=axis: x.unbind(a), (3, 4))
    same("flip", f"along {axis}", lambda x, a=axis: x.flip((a,)), (3, 4))
same("squeeze", "of all", lambda x: x.squeeze(), (1, 3, 1))
same("squeeze", "of one", lambda x: x.squeeze(-1), (1, 3, 1))
ours, theirs = lambda *xs: ops.concat(xs, 1), lambda *xs: torch.cat(xs, 1)
case("concat", "of different sizes", ours, theirs, (2, 1), (2, 0), (2, 3))
case("flip", "along two axes", lambda x: ops.flip(x, (0, 1)), lambda x: torch.flip(x, (0, 1)), (3, 4))
for n in (1, 2, 3, 7, 9):
    same("split", f"into pieces of {n}", lambda x, n=n: x.split(n, 0), (7, 2))
    same("chunk", f"into {n}", lambda x, n=n: x.chunk(n, -1), (2, 7))
same("split", "into given sizes", lambda x: x.split([2, 0, 3], 1), (2, 5))
same("split", "of nothing", lambda x: x.split(3, 0), (0, 2))
same("chunk", "6 into 4: three pieces", lambda x: x.chunk(4, 0), (6,))
same("chunk", "of nothing", lambda x: x.chunk(3, 0), (0, 2))
same("chunk", "whose pieces are not all read", lambda x: x.chunk(3, 0)[1], (7,))
case("pad", "with zeros", lambda x: ops.pad(x, ((1, 2), (0, 3))), lambda x: F.pad(x, (0, 3, 1, 2)), (2, 3))
case("pad", "with a number", lambda x: ops.pad(x, ((0, 0), (1, 1)), 2.5), lambda x: F.pad(x, (1, 1), value=2.5), (2, 3))

# ---- by position ----------------------------------------------------------------------------------------------------

IDS = np.array([[2, 0], [2, 2], [1, 4]])
for what, key in {
    "a number": 1, "a negative number": -1, "a slice": slice(1, 3), "every second": slice(None, None, 2),
    "numbers": (1, -1), "a new axis": (None, 1), "dots": (..., 0), "a mask": np.array([True, False, True, False, True]),
    "a mask of all": np.arange(20).reshape(5, 4) % 3 == 0, "indices": np.array([0, 3, 0]),
    "indices beside a slice": (slice(1, 3), np.array([0, 3, 0])),
    "two of indices": (np.array([0, 4, 0]), np.array([1, 2, 1])),
    "negative indices": np.array([-1, 0, -1]),
}.items():  # fmt: skip
    same("getitem", f"by {what}", lambda x, key=key: x[key], (5, 4))
case("embedding", "with a row twice", ops.embedding, F.embedding, IDS, (5, 3))
case("take", "along 0", lambda x, i: ops.take(x, i[:, 0]), lambda x, i: x.index_select(0, i[:, 0]), (5, 3), IDS)
case("take", "along 1", lambda x, i: ops.take(x, i[1], axis=1), lambda x, i: x.index_select(1, i[1]), (2, 5), IDS)
for axis, shape in ((0, (5, 2)), (1, (3, 5))):
    ours, theirs = lambda x, i, a=axis: ops.take_along_axis(x, i, a), lambda x, i, a=axis: torch.take_along_dim(x, i, a)
    case("take_along_axis", f"along {axis}", ours, theirs, shape, IDS)
ours, theirs = lambda x, i: ops.take_along_axis(x, i[:, :1], 0), lambda x, i: torch.take_along_dim(x, i[:, :1], 0)
case("take_along_axis", "broadcast", ours, theirs, (5, 4), IDS)
for axis, shape in ((0, (5, 2)), (1, (3, 5))):
    ours = lambda x, i, v, a=axis: ops.scatter_add(x, i, v, a)
    case("scatter_add", f"along {axis}", ours, lambda x, i, v, a=axis: x.scatter_add(a, i, v), shape, IDS, (3, 2))
case("one_hot", "of ids", lambda i: ops.one_hot(i, 5, np.int64), lambda i: F.one_hot(i, 5), IDS)
