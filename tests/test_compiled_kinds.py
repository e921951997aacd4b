"""Compiled engines on cells of kinds that were once wrong: masks, kept states, batches of one, sums of joins."""

import numpy as np
import pytest

from odd_cells import Odd
from test_compiler import close, every_engine, outcome

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.ops import tanh


class Kind(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,)}

    def mixed(self, x, h):
        raise NotImplementedError

    def forward(self, x, h):
        h = tanh(self.mixed(x, h))
        return h, h


class MaskTimesWeight(Kind):
    def mixed(self, x, h):
        return x @ self.U + (h > 0) @ self.W


class LargestOfAMask(Kind):
    def mixed(self, x, h):
        return self.affine(x, h) * ops.max(h > 0, -1, keepdims=True) + ops.min(h > 0, -1, keepdims=True)


class EinsumOfAMask(Kind):
    def mixed(self, x, h):
        return x @ self.U + ops.einsum("bh,hk->bk", h > 0, self.W)


class SumOfMasks(Kind):
    def mixed(self, x, h):
        z = self.affine(x, h)
        return z * ((h > 0) + (z > 0)) + z * ((h > 0) * (z > 0)) * 0.5


class MaskTimesMask(Kind):
    def mixed(self, x, h):
        return self.affine(x, h) + ((h > 0) @ (self.W.detach() > 0)) * 0.5


class MaskTwice(Kind):
    """Two masks are added to numbers, not to each other first."""

    def mixed(self, x, h):
        z = self.affine(x, h)
        return z + (x[:, :1] > 0) + (x[:, 1:2] > 0) + z * (x[:, :1] > 0) - z * z * (x[:, :1] > 0)


class MaskOnAProduct(Kind):
    def mixed(self, x, h):
        return ops.tanh(h @ self.W + (h > 0)) - (x @ self.U + (h < 0.1))


class JoinedMasks(Kind):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (2 * H, H), "b": (H,)}

    def mixed(self, x, h):
        return x @ self.U + ops.concat([h > 0, h < 0.1], -1) @ self.W


class TwoWidths(Odd):
    """y and the state are products of x and of a part of it."""

    def shapes(self, I, H):
        return {"P": (I, H), "Q": (1, H)}

    def forward(self, x, h):
        return x @ self.P, x.sum(-1, keepdims=True) @ self.Q


class HandedOn(Odd):
    def forward(self, x, h):
        return h, h


class SumOfANorm(Odd):
    def __init__(self, inputs=2, units=3):
        super().__init__(inputs, units)
        self.norm = nn.LayerNorm(2 * units)

    def shapes(self, I, H):
        return {"U": (I, H), "W": (1, H)}

    def forward(self, x, h):
        total = ops.sum(self.norm(ops.concat([h, h], -1)), -1, keepdims=True)
        h = tanh(x @ self.U + total @ self.W)
        return h, h


class KeptState(Odd):
    """A state that no step changes, in a product."""

    states = 2

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "R": (H, H)}

    def forward(self, x, state):
        h, k = state
        h = tanh(h @ self.W + (x @ self.U + k @ self.R))
        return h + (x @ self.U + k @ self.R), (h, k)


class RowForAll(Kind):
    """What is added to a product of all steps is one row at each of them."""

    def mixed(self, x, h):
        return (x @ self.U + ops.sum(x @ self.U, 0, keepdims=True)) + h @ self.W


class KeptOtherDtype(Odd):
    """A state of another dtype that no step changes."""

    def initial_state(self, batch_size):
        kept = tg.tensor(np.arange(batch_size * self.units).reshape(batch_size, self.units).astype(self.kept))
        return self.zeros(batch_size, self.units), kept

    def forward(self, x, state):
        h, k = state
        h = tanh(self.affine(x, h) * k / 4 + ops.where(k, h, 0.5))
        return h, (h, k)


KINDS = {
    c.__name__: c
    for c in (
        MaskTimesWeight,
        LargestOfAMask,
        EinsumOfAMask,
        SumOfMasks,
        MaskTimesMask,
        MaskTwice,
        MaskOnAProduct,
        JoinedMasks,
        TwoWidths,
        HandedOn,
        SumOfANorm,
        KeptState,
        RowForAll,
    )
}
KINDS |= {f"KeptOtherDtype {d}": type("Kept", (KeptOtherDtype,), {"kept": d}) for d in ("?", "i1", "i8", "f2", ">f8")}


def results(make, engine, batch, sizes, dtype, lengths, **options):
    rnn = nn.Recurrent(make(*sizes), engine=engine, **options).to(dtype)
    rng = np.random.default_rng(0)
    for p in rnn.parameters():
        p.data = rng.standard_normal(p.shape) * 0.7
    xs = tg.tensor(rng.standard_normal((5, batch, sizes[0])).astype(dtype), requires_grad=True)
    draw = lambda s: tg.tensor((0.5 * rng.standard_normal(s.shape)).astype(s.dtype), requires_grad=True)
    keep = lambda s: draw(s) if s.dtype == dtype else s
    return outcome(rnn, xs, nest.map_leaves(keep, rnn.cell.initial_state(batch)), lengths)


def agree(kind, batch, sizes, engine, dtype, lengths):
    expected = results(KINDS[kind], "eager", batch, sizes, dtype, lengths)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    close(results(KINDS[kind], engine, batch, sizes, dtype, lengths), expected, tolerance)


@every_engine
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind[-2:] not in ("i8", "f2")])
def test_a_kind_of_cell_equals_eager(kind, engine):
    agree(kind, 3, (3, 3), engine, "float64", [5, 0, 2])


@every_engine
@pytest.mark.parametrize("kind", ["KeptState", "KeptOtherDtype i1"])
def test_a_batch_of_one_equals_eager(kind, engine):
    agree(kind, 1, (2, 3), engine, "float32", None)


@pytest.mark.slow
@every_engine
@pytest.mark.parametrize("batch, sizes", [(1, (2, 3)), (3, (3, 3)), (4, (2, 3))], ids=["one", "all equal", "usual"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_cell_equals_eager_in_every_size(kind, batch, sizes, engine):
    for dtype in "float64", "float32":
        for lengths in None, [5, 0, 2, 3][:batch]:
            agree(kind, batch, sizes, engine, dtype, lengths)
