"""Whatever a step reads may have any dtype: the compiled engines compute what eager does, or say that they cannot."""

import numpy as np
import odd_cells
import pytest

from odd_cells import ODD, Odd
from test_compiler import every_engine, outcome

import tinygrad_rnn as tg

from tinygrad_rnn import nest, nn, ops

pytestmark = pytest.mark.filterwarnings("ignore:.* it is converted, at each call:UserWarning")
DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">f8", ">i2"]
READ = ["x", "state", "parameters", "captured"]
SIZES = {"usual": (2, 3, 4), "all equal": (3, 3, 3)}  # I, H, B


class Captures(Odd):
    """Arrays and tensors of each kind: a row, a matrix, one for each sequence, a number, a mask, one that is turned."""

    def __init__(self, inputs=2, units=3):
        super().__init__(inputs, units)
        rng = np.random.default_rng(1)
        self.row, self.matrix = rng.integers(0, 3, units), rng.integers(0, 3, (units, units)).T
        self.number, self.table = np.array(2), rng.integers(0, 3, (5, 2 * units))[:, ::2]
        self.held = tg.tensor(rng.integers(0, 3, (1, units)))

    def forward(self, x, h):
        z = self.affine(x, h) * self.row + h @ self.matrix / 3
        z = ops.where(self.row, z, 0.5) - ops.where(h > self.held, h, z) / self.number
        h = ops.tanh(z / 2 + self.table[:1] * 0.1 + h @ (self.matrix.T > 0)) * 0.9
        return h + (h > self.row), h


CELLS = {**ODD, "captures": Captures}


def converted(value, dtype):
    """Whole numbers in place of others where a dtype has no others."""
    array = np.asarray(value, np.float64)
    kind = np.dtype(dtype).kind
    return (array if kind == "f" else np.rint(np.abs(array))).astype(dtype)


def convert_captured(cell, dtype):
    for module in cell.modules():
        for name, value in list(module.__dict__.items()):
            if isinstance(value, np.ndarray):
                setattr(module, name, converted(value, dtype))
            elif isinstance(value, tg.Tensor) and not isinstance(value, nn.Parameter):
                setattr(module, name, tg.tensor(converted(value.numpy(), dtype)))


def given(make, sizes, read, dtype):
    """A cell, what goes in, and what it captures, where one kind of it has a dtype, and all else is float64."""
    inputs, units, batch = sizes
    cell = make(inputs, units).to("float64") if isinstance(make, type) else make().to("float64")
    rng = np.random.default_rng(0)
    drawn = lambda shape, of="f8": tg.tensor(converted(rng.standard_normal(shape), of))
    for p in cell.parameters():
        p.data = 0.7 * rng.standard_normal(p.shape)
    if isinstance(cell, Odd):
        cell.capture(batch, lambda *shape: drawn(shape))
    if read == "parameters":
        for p in cell.parameters():
            p.requires_grad_(False)  # its node knows the dtype that it has now
            p.array = converted(p.array, dtype)
            p.requires_grad_(p.array.dtype.kind == "f")
    if read == "captured":
        convert_captured(cell, dtype)
    xs = drawn((4, batch, inputs), dtype if read == "x" else "f8")
    of = lambda s: dtype if read == "state" and s.dtype.kind == "f" else s.dtype
    state = nest.map_leaves(lambda s: drawn(s.shape, of(s)), cell.initial_state(batch))
    for t in (xs, *nest.leaves(state)):
        t.requires_grad_(t.dtype.kind == "f")
    return cell, xs, state


def result(make, sizes, read, dtype, engine):
    tg.manual_seed(0)
    cell, xs, state = given(make, sizes, read, dtype)
    return outcome(nn.Recurrent(cell, engine=engine), xs, state)


def agree(name, sizes, read, dtype, engine):
    try:
        with np.errstate(all="ignore"):
            expected = result(CELLS[name], sizes, read, dtype, "eager")
    except (TypeError, ValueError) as refusal:
        pytest.skip(f"NumPy refuses: {refusal}")
    try:
        with np.errstate(all="ignore"):
            found = result(CELLS[name], sizes, read, dtype, engine)
    except ValueError as refusal:
        assert "its state must keep its dtype" in str(refusal)
        return
    assert found.keys() == expected.keys()
    rough = max({"f2": 2e-2, "f4": 1e-5, ">f4": 1e-5}.get(dtype, 1e-9), 1e-5 if name in odd_cells.LOOSE else 0)
    for key, e in expected.items():
        f = found[key]
        assert (f.shape, f.dtype.newbyteorder("=")) == (e.shape, e.dtype.newbyteorder("=")), key
        f, e = f.astype("f8"), e.astype("f8")
        if dtype == "f2" and not np.isfinite(e).all():
            continue  # where float16 overflows hangs on the order of a sum
        np.testing.assert_allclose(f, e, rough, rough * max(1, abs(e).max(initial=0)), err_msg=key)


@every_engine
@pytest.mark.parametrize("dtype", ["?", "i1", "i8", "u2", "f2", "f4", ">f8"])
def test_captured_arrays_of_any_dtype_equal_eager(dtype, engine):
    agree("captures", SIZES["all equal"], "captured", dtype, engine)


@every_engine
@pytest.mark.parametrize("dtype", ["i8", "f4"])
@pytest.mark.parametrize("read", ["x", "state", "parameters"])
def test_whatever_a_step_reads_may_have_any_dtype(read, dtype, engine):
    agree("captures", SIZES["usual"], read, dtype, engine)


@pytest.mark.slow
@every_engine
@pytest.mark.parametrize("sizes, dtypes", [("usual", DTYPES[::2]), ("all equal", DTYPES[1::2])], ids=SIZES)
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_reads_whatever_dtype_there_is(name, read, sizes, dtypes, engine, monkeypatch):
    sizes, skipped = SIZES[sizes], []
    monkeypatch.setattr(odd_cells, "S", sizes[2])
    for dtype in dtypes:
        try:
            agree(name, sizes, read, dtype, engine)
        except pytest.skip.Exception:
            skipped.append(dtype)
    assert "f4" not in skipped
