"""Cells that are meant to break the engine "cuda": what their steps compute, of which dtypes and which shapes.

Each is a function of (weights, x, state) that returns y and the new state.
"""

from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

B, I, H = 3, 4, 5
RNG = np.random.default_rng(5)
normal = lambda *shape: RNG.standard_normal(shape)
zeros = np.zeros


class Case(NamedTuple):
    """A step, and what it is given.

    weights, captured  arrays by name: parameters, and plain arrays that the step reads
    states             the first state: arrays
    x                  of one step: a shape, or an array of which each step gets a permutation
    """

    step: Any
    weights: dict = {}
    states: tuple = (zeros((B, H)),)
    x: Any = (B, I)
    captured: dict = {}


class Made(nn.Cell):
    """The cell of a case, whose numbers are of a dtype unless they are whole."""

    def __init__(self, case, dtype="float64"):
        super().__init__()
        self.case, self.as_float = case, lambda a: a.astype(dtype) if a.dtype == np.float64 else a
        for name, array in case.weights.items():
            setattr(self, name, nn.Parameter(tg.tensor(self.as_float(array))))
        for name, array in case.captured.items():
            setattr(self, name, tg.tensor(array))

    def initial_state(self, batch_size):
        leaves = tuple(tg.tensor(self.as_float(a)) for a in self.case.states)
        return leaves if len(leaves) > 1 else leaves[0]

    def forward(self, x, state):
        return self.case.step(self, x, state)


W = {"U": normal(I, H) / 2, "W": normal(H, H) / 2, "b": normal(H)}
CASES: dict[str, Case] = {}


def case(name, weights=W, **given):
    """Keep a step under a name."""

    def kept(step):
        CASES[name] = Case(step, weights, **given)
        return step

    return kept


def affine(s, x, h):
    return x @ s.U + h @ s.W + s.b


# ---- shapes ----------------------------------------------------------------------------------------------------------


@case("all sizes are one", {"U": normal(1, 1), "W": normal(1, 1), "b": normal(1)}, states=(zeros((1, 1)),), x=(1, 1))
@case("one sequence", states=(zeros((1, H)),), x=(1, I))
@case("all sizes are equal", {"U": normal(4, 4), "W": normal(4, 4), "b": normal(4)}, states=(zeros((4, 4)),), x=(4, 4))
@case(
    "wider than a block",
    {"U": normal(1, 1030), "W": normal(1030, 1030) / 40, "b": normal(1030)},
    states=(zeros((2, 1030)),),
    x=(2, 1),
)
def plain(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return h, h


@case(
    "no units at all",
    {"U": normal(I, 0), "W": normal(0, 0), "b": normal(0), "V": normal(0, 2)},
    states=(zeros((B, 0)),),
)
def no_units(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return h @ s.V + x[:, :2], h


@case("an empty state beside another", states=(zeros((B, H)), zeros((B, 0))))
def empty_beside(s, x, state):
    h, e = state
    h = ops.tanh(affine(s, x, h))
    return h, (h, ops.tanh(e) * 2)


@case("an empty state in a kernel of rows", {**W, "V": normal(0, H)}, states=(zeros((B, H)), zeros((B, 0))))
def empty_in_rows(s, x, state):
    h, e = state
    z = affine(s, x, h) + e @ s.V
    h = ops.tanh(z - z.max(1, keepdims=True))
    return h, (h, ops.tanh(e + h.sum(1, keepdims=True)))


@case("columns of nothing", states=(zeros((B, H)), zeros((B, 0))))
def no_columns(s, x, state):
    h, e = state
    h = ops.tanh(affine(s, x, h))
    return h, (h, ops.concat([e, x[:, :0]], axis=1)[:, :0] * 2)


@case("a sum and a maximum of nothing", states=(zeros((B, H)), zeros((B, 0))))
def sum_of_nothing(s, x, state):
    h, e = state
    h = ops.tanh(affine(s, x, h) + e.sum(1, keepdims=True))
    return h, (h, e)


@case("a weight of one column", {"U": normal(I, 1), "W": normal(1, 1), "b": normal(1)}, states=(zeros((B, 1)),))
def one_column(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return h, h


@case("a weight of one row", {"U": normal(1, H), "W": normal(H, H) / 2, "b": normal(H)}, x=(B, 1))
def one_row(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return h, h


@case(
    "outer axes of the batch",
    {"W": normal(H, H) / 2, "U": normal(I, H), "b": normal(2, 1, 3, 1)},
    states=(zeros((B, 2, 2, 3, H)),),
)
def many_axes(s, x, h):
    h = ops.tanh((x @ s.U)[:, None, None, None] + h @ s.W + s.b)
    return h.sum((1, 2, 3)), h


@case("rows of a vector", {"w": normal(I), "v": normal(1)}, states=(zeros(B),))
def vector(s, x, h):
    h = ops.tanh(x @ s.w + s.v * h)
    return h[:, None], h


@case("no axes", {"w": normal(I), "v": np.array(0.3)}, states=(zeros(()),))
def no_axes(s, x, h):
    h = ops.tanh((x @ s.w).sum() * s.v + h)
    return x * h, h


@case(
    "broadcasts of every kind",
    {
        "a": np.array(0.7),
        "b": normal(1),
        "c": normal(1, 1),
        "d": normal(H),
        "e": normal(1, H),
        "f": normal(B, 1),
        "g": normal(B, H),
        "U": normal(I, H),
    },
)
def broadcasts(s, x, h):
    h = ops.tanh(s.a * (x @ s.U) + s.b - s.c * h + s.d / 2 + s.e * s.f + s.g)
    return h * s.f + (s.d + s.f), h


@case("two operands that both broadcast", {"a": normal(B, 1), "b": normal(1, H)})
def both(s, x, h):
    h = ops.tanh((x.sum(1, keepdims=True) * s.a) + s.b + h * 0.5)
    return h, h


# ---- reductions ------------------------------------------------------------------------------------------------------


@case("sums over the batch")
def over_batch(s, x, h):
    z = affine(s, x, h)
    z = (z - z.mean(0)) / ops.sqrt(z.var(0, keepdims=True) + 1)
    return ops.tanh(z), ops.tanh(z)


@case("sums over several axes", {"U": normal(I, 12), "b": normal(1)}, states=(zeros((B, 2, 3, 2)),))
def over_axes(s, x, h):
    z = (x @ s.U).reshape(-1, 2, 3, 2) + h
    h = ops.tanh(
        z - z.sum((1, 3), keepdims=True) / 4 + z.max((0, 2), keepdims=True) - z.min((2,), keepdims=True) + z.sum() / 9
    )
    return h.sum((1, 2)) * s.b, h


@case("ties of a maximum", {"U": normal(I, H)})
def ties(s, x, h):
    z = ops.sign(x @ s.U)
    h = ops.tanh(
        h
        + (x @ s.U) * 0.1
        + z.max(1, keepdims=True)
        + ops.maximum(z, ops.flip(z, 1))
        + ops.minimum(z, 0.0).min(1, keepdims=True)
    )
    return h, h


@case("NaN and infinity", {"U": normal(I, H)}, captured={"odd": np.array([np.nan, np.inf, -np.inf, 1.0, -0.0])})
def not_numbers(s, x, h):
    z = ops.tanh(x @ s.U + h)
    found = [
        ops.maximum(z, s.odd),
        ops.minimum(z, s.odd),
        ops.clip(s.odd * z, -1, 1),
        ops.relu(s.odd),
        ops.isnan(s.odd) * 1.0,
    ]
    shown = [ops.where(ops.isnan(a), 7.0, ops.clip(a, -9, 9)) for a in found]
    return ops.concat([a + z * 0 for a in shown], axis=1), ops.where(ops.isnan(s.odd.max()), 0.1, 0.9) * z


@case("a maximum of minus infinities")
def of_infinities(s, x, h):
    z = ops.where(x[:, :1] > 0, affine(s, x, h), -np.inf)
    return ops.maximum(z.max(1, keepdims=True), -5.0) + h, ops.tanh(affine(s, x, h))


@case("an argument of the maximum")
def argmax(s, x, h):
    h = ops.tanh(affine(s, x, h))
    n = ops.argmax(h, 1)
    return h * (n[:, None] + 1).astype(h.dtype), h


@case("cumulative sums")
def cumulative(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return ops.cumsum(h, 1) + ops.cumsum(h, 0), ops.cumsum(h, 1) / 5


@case("softmax over other axes", {"U": normal(I, 6), "b": normal(1)}, states=(zeros((B, 2, 3)),))
def soft(s, x, h):
    z = (x @ s.U).reshape(-1, 2, 3) + h
    h = ops.softmax(z, 1) - ops.softmax(z, 0) * ops.logsumexp(z, (1, 2), keepdims=True) + ops.log_softmax(z, 2) * s.b
    return h[:, 0], ops.tanh(h)


# ---- indices ---------------------------------------------------------------------------------------------------------

IDS = np.array([[0, 3], [2, 2], [4, 1]])


@case("items by arrays of indices", captured={"ids": IDS})
def gathered(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return ops.take_along_axis(h, s.ids, 1) + h[:, [0, 0]], h[[2, 0, 1]] + h[:, ::-1]


@case("sums into places", captured={"ids": np.array([[1, 1, 4, 0], [2, 2, 2, 2], [0, 1, 2, 3]])})
def scattered(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return ops.scatter_add(h, s.ids, x, axis=1) + h[:, [3, 0, 3]].sum(1, keepdims=True), h


@case("rows of a table", {"table": normal(6, H), "W": normal(H, H) / 2}, x=np.array([[1], [5], [3]]))
def embedded(s, x, h):
    h = ops.tanh(ops.embedding(x[:, 0], s.table) + h @ s.W)
    return h, h


@case("pads, flips and steps")
def padded(s, x, h):
    h = ops.tanh(affine(s, x, h))
    p = ops.pad(h, [(0, 0), (1, 2)], value=0.5)
    return p[:, ::2] * ops.flip(p, 1)[:, :4], ops.flip(h, (0, 1))


@case("pads with infinity")
def padded_with_infinity(s, x, h):
    h = ops.tanh(affine(s, x, h))
    p = ops.pad(h, [(0, 0), (1, 1)], value=-np.inf)
    return ops.maximum(p[:, 2:], ops.maximum(p[:, 1:-1], p[:, :-2])), h


@case("stacks and permutations")
def stacked(s, x, h):
    h = ops.tanh(affine(s, x, h))
    z = ops.stack([h, x[:, :1] + h, h * h], axis=1)
    return z.permute(2, 0, 1).sum(0) + z.permute(0, 2, 1).reshape(-1, 15)[:, 4:7], z[:, 1, ::-1] * 0.5


# ---- products --------------------------------------------------------------------------------------------------------


@case("transposed weights")
def transposed(s, x, h):
    h = ops.tanh(x @ s.U + h @ s.W.T + s.b)
    return h @ s.U.T, h


@case("parts of weights")
def parts(s, x, h):
    h = ops.tanh(x[:, 1:] @ s.U[1:] + h[:, ::2] @ s.W[::2] + s.b)
    return h @ s.W[:, 1:3], h


@case("products into a larger array")
def into_larger(s, x, h):
    z = ops.concat([h @ s.W, x, h @ s.W.T], axis=1)
    h = ops.tanh(z[:, 2:7] + z[:, -5:])
    return z * 0.5, h


@case(
    "products of every rank",
    {"U": normal(I, 6), "V": normal(2, 3), "w": normal(3), "A": normal(B, 2, 3, 3), "R": normal(B, 3, 2)},
    states=(zeros((B, 2, 3)),),
)
def ranks(s, x, h):
    m = (x @ s.U).reshape(-1, 2, 3) + h
    p = m @ m.permute(0, 2, 1)  # (B, 2, 2)
    q = s.R.permute(0, 2, 1) @ m.permute(0, 2, 1)  # (B, 2, 2)
    r = (m @ s.w)[:, :, None]  # (B, 2, 1)
    t = (m[:, None] @ s.A).sum((1, 2))  # (B, 3)
    u = p @ s.V  # (B, 2, 3)
    v = s.V @ m.permute(0, 2, 1)  # (B, 2, 2)
    h = ops.tanh(u + q @ m + r + t[:, None] + v @ s.V)
    return h[:, 0] @ s.w[:, None] + t, h


@case("products of transposed inputs", {"P": normal(B, H), "U": normal(I, H)})
def of_transposed_inputs(s, x, h):
    h = ops.tanh(x @ s.U + h + (x.T @ s.P).sum(0))
    return h, h


@case("a product of two weights")
def of_weights(s, x, h):
    h = ops.tanh(x @ (s.U @ s.W) + h @ (s.W @ s.W.T) / 5 + s.b @ s.W)
    return h, h


@case("a product over the batch")
def gram(s, x, h):
    z = affine(s, x, h)
    h = ops.tanh((z @ z.T) @ z / 9 + x.T.sum(1) @ s.U)
    return h, h


@case("an einsum", {"T": normal(I, H, 3), "U": normal(3, H)})
def einsum(s, x, h):
    z = ops.einsum("bi,ihk,bh->bk", x, s.T, h + 1)
    h = ops.tanh(z @ s.U + ops.einsum("bh,bh->b", h, h)[:, None])
    return h, h


@case(
    "arrays that are views",
    {"W": normal(H, H) / 2, "U": normal(I, H)},
    captured={
        "turned": normal(H, B).T,
        "strided": normal(B, 2 * H)[:, ::2],
        "back": normal(H)[::-1],
        "spread": np.broadcast_to(normal(1), (B, H)),
        "bare": np.array(0.4),
    },
)
def views(s, x, h):
    h = ops.tanh(x @ s.U + h @ s.W + s.turned * s.strided + s.back - s.spread * s.bare)
    return h @ s.turned.T, h


# ---- dtypes ----------------------------------------------------------------------------------------------------------


def whole(dtype):
    return np.arange(B * I).reshape(B, I).astype(dtype)


def _add_dtypes():
    for dtype in ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):

        @case(f"x of {dtype}", x=whole(dtype), states=(zeros((B, H)), zeros((B, I), dtype)))
        def of_dtype(s, x, state):
            h, n = state
            same = x == n
            n = ops.where(same, x, ops.maximum(x, n))
            h = ops.tanh(
                x.astype(h.dtype) @ s.U / 9 + h @ s.W + x.sum(1, keepdims=True) * 0.01 + n.max(1, keepdims=True) * 0.1
            )
            return h, (h, n)

    for dtype in ("int8", "int32", "int64", "uint8", "uint32", "uint64"):

        @case(f"arithmetic of {dtype}", x=whole(dtype) * 9, states=(zeros((B, H)), zeros((B, I), dtype)))
        def arithmetic(s, x, state):
            h, n = state
            m = x * n + x * 3 + n  # wraps
            h = ops.tanh(
                (m > x).astype(h.dtype) @ s.U
                + h @ s.W
                + (m / 8).astype(h.dtype).sum(1, keepdims=True) * 1e-3
                + (x * 0.5).astype(h.dtype).mean() * 0.01
            )
            n = ops.minimum(ops.abs(m - 1) - x**2, ops.sign(m) + ops.clip(x, 2, 60))
            return h, (h, n)


_add_dtypes()


@case(
    "mixtures of dtypes",
    captured={
        "n": np.arange(H, dtype=np.int8),
        "u": np.arange(H, dtype=np.uint8),
        "f": np.float32(normal(H)),
        "e": np.float16(normal(H)),
        "on": np.arange(H) % 2 == 0,
    },
)
def mixtures(s, x, h):
    z = s.n * s.u + s.e * s.n  # int16, then float16 or wider
    h = ops.tanh(affine(s, x, h) + z + s.f * s.on + (s.n > s.u) + ops.where(s.on, s.e, s.n) + s.on * 2 + (s.e >= 0.1))
    return h, h


@case(
    "states of several dtypes",
    states=(
        zeros((B, H)),
        zeros((B, H), np.float32),
        zeros(B, np.int32),
        zeros((B, 2), bool),
        zeros((B, H), np.float16),
    ),
)
def several(s, x, state):
    h, f, n, on, e = state
    h = ops.tanh(affine(s, x, h) + f * 0.5 + n[:, None] * 0.1 + on[:, :1] + e)
    return h, (
        h,
        (f * 0.5 + h).astype("float32"),
        n + 2,
        ops.logical_or(~on, h[:, :2] > 0),
        (e + h).astype("float16"),
    )


@case("thresholds of half precision", captured={"e": np.array([0.1, 0.2, 0.3, 0.7, -0.1], np.float16)})
def thresholds(s, x, h):
    near = [(s.e == v).astype(h.dtype) for v in (0.1, 0.2, 0.3, 0.7, -0.1)]
    h = ops.tanh(affine(s, x, h) + sum(near) + (s.e >= 0.1) + (s.e < 0.3))
    return h, h


@case("bytes in another order", captured={"f": normal(H).astype(">f8"), "n": np.arange(H, dtype=">i4")})
def big_endian(s, x, h):
    h = ops.tanh(affine(s, x, h) + s.f + s.n)
    return h, h


@case(
    "the largest and the least whole numbers",
    captured={"n": np.array([2**63 - 1, -(2**63), 0, 1, -1]), "u": np.array([2**64 - 1, 0, 1, 2, 2**63], np.uint64)},
    states=(zeros((B, H)), zeros((B, H), np.int64), zeros((B, H), np.uint64)),
)
def extremes(s, x, state):
    h, n, u = state
    n, u = ops.maximum(n, s.n), ops.maximum(u, s.u)
    m = n.min(1, keepdims=True) + n.max(1, keepdims=True)
    v = u.min(1, keepdims=True) + u.max(1, keepdims=True)
    h = ops.tanh(affine(s, x, h) + (m > 3) + (v > 3))
    return h, (h, ops.where(n == m, n, m), ops.where(u == v, u, v))


# ---- random numbers, and what a step does ----------------------------------------------------------------------------


@case("random numbers of the step")
def random(s, x, h):
    u = ops.uniform(h.shape)
    h = ops.tanh(affine(s, x, h)) * (u > 0.3) + u * 0.1
    return h, h


@tg.primitive
def halves(a):
    n = a.shape[1] // 2
    return a[:, :n] * 1.0, a[:, n:] * 2.0


@halves.vjp
def _halves_rule(g):
    return (ops.concat([g[0], g[1] * 2.0], axis=1),)


@case("a primitive of one's own")
def own(s, x, h):
    p, q = halves(affine(s, x, h))
    h = ops.tanh(ops.concat([q, p], axis=1))
    return p, h


@case("the output is a part of the state")
def part(s, x, h):
    h = ops.tanh(affine(s, x, h))
    return h[:, 1:3], h


@case("no gradient for the state", {"U": normal(I, H)})
def detached(s, x, h):
    h = ops.tanh(x @ s.U + h.detach())
    return h, h


@case("the state only", {"W": normal(H, H) / 2}, states=(normal(B, H),))
def state_only(s, x, h):
    h = ops.tanh(h @ s.W)
    return h, h


@case("powers", {"U": normal(I, H)})
def powers(s, x, h):
    z = ops.abs(x @ s.U) + 0.1
    h = ops.tanh(z**2 - z**-1 + z**0.5 + 2.0**h + z**h)
    return h, h
