"""Whatever a step reads may have any dtype: the compiled engines compute what eager does, or say that they cannot."""

import numpy as np
import odd_cells
import pytest

from odd_cells import ODD, Odd
from test_compiler import every_engine, outcome

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest

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
    """Does it capture anything?"""
    found = False
    for module in cell.modules():
        for name, value in list(module.__dict__.items()):
            if isinstance(value, np.ndarray):
                setattr(module, name, converted(value, dtype))
            elif isinstance(value, tg.Tensor) and not isinstance(value, nn.Parameter):
                setattr(module, name, tg.tensor(converted(value.numpy(), dtype)))
            else:
                continue
            found = True
    return found


def convert_parameters(cell, dtype):
    for p in cell.parameters():
        p.requires_grad_(False)  # its node knows the dtype that it has now
        p.array = converted(p.array, dtype)
        p.requires_grad_(p.array.dtype.kind == "f")
    return True


def layer(name, sizes, engine):
    """A Recurrent whose cell is of float64 and has drawn weights."""
    inputs, units, batch = sizes
    cell = CELLS[name](inputs, units).to("float64")
    rng = np.random.default_rng(0)
    for p in cell.parameters():
        p.data = 0.7 * rng.standard_normal(p.shape)
    if isinstance(cell, Odd):
        cell.capture(batch, lambda *shape: tg.tensor(rng.standard_normal(shape)))
    return nn.Recurrent(cell, engine=engine)


def result(rnn, sizes, read, dtype):
    """What it computes from an x or a state of a dtype, or from float64."""
    inputs, _, batch = sizes
    rng = np.random.default_rng(1)
    drawn = lambda shape, of: tg.tensor(converted(rng.standard_normal(shape), of))
    xs = drawn((4, batch, inputs), dtype if read == "x" else "f8")
    of = lambda s: dtype if read == "state" and s.dtype.kind == "f" else s.dtype
    state = nest.map_leaves(lambda s: drawn(s.shape, of(s)), rnn.cell.initial_state(batch))
    for t in (xs, *nest.leaves(state)):
        t.requires_grad_(t.dtype.kind == "f")
    tg.manual_seed(0)
    with np.errstate(all="ignore"):
        return outcome(rnn, xs, state)


def agree(rnn, eager, sizes, read, dtype, loose=False):
    """Do two layers compute the same? False if NumPy cannot compute it."""
    try:
        expected = result(eager, sizes, read, dtype)
    except (TypeError, ValueError):
        return False
    try:
        found = result(rnn, sizes, read, dtype)
    except ValueError as refusal:
        assert "its state must keep its dtype" in str(refusal)
        return True
    assert found.keys() == expected.keys()
    rough = max({"f2": 5e-2, "f4": 1e-5, ">f4": 1e-5}.get(dtype, 1e-9), 1e-5 if loose else 0)
    for key, e in expected.items():
        f = found[key]
        assert (f.shape, f.dtype.newbyteorder("=")) == (e.shape, e.dtype.newbyteorder("=")), key
        f, e = f.astype("f8"), e.astype("f8")
        if dtype == "f2" and not np.isfinite(e).all():
            continue  # where float16 overflows hangs on the order of a sum
        np.testing.assert_allclose(f, e, rough, rough * max(1, abs(e).max(initial=0)), err_msg=key)
    return True


def check(name, size, read, dtypes, engine):
    """Of all these dtypes; those that NumPy refuses."""
    sizes, loose, refused = SIZES[size], name in odd_cells.LOOSE, []
    rnn = layer(name, sizes, engine), layer(name, sizes, "eager")
    for dtype in dtypes:
        if read in ("parameters", "captured"):
            rnn = layer(name, sizes, engine), layer(name, sizes, "eager")
            convert = convert_parameters if read == "parameters" else convert_captured
            if not all(convert(each.cell, dtype) for each in rnn):
                break
        if not agree(*rnn, sizes, read, dtype, loose):
            refused.append(dtype)
    return refused


@every_engine
@pytest.mark.parametrize("dtype", ["?", "i1", "i8", "u2", "f2", "f4", ">f8"])
def test_captured_arrays_of_any_dtype_equal_eager(dtype, engine):
    assert check("captures", "all equal", "captured", [dtype], engine) == []


@every_engine
@pytest.mark.parametrize("dtype", ["i8", "f4"])
@pytest.mark.parametrize("read", ["x", "state", "parameters"])
def test_whatever_a_step_reads_may_have_any_dtype(read, dtype, engine):
    assert check("captures", "usual", read, [dtype], engine) == []


@every_engine
@pytest.mark.parametrize("name", ["comparisons", "numbers as attributes"])
@pytest.mark.parametrize("size", SIZES)
def test_rounding_of_float16_is_not_taken_for_a_wrong_pass(size, name, engine):
    """Passes are verified in each day's tests: what another order of rounding turns is no fault of theirs."""
    assert check(name, size, "parameters", ["f2"], engine) == []


@pytest.mark.slow
@every_engine
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("name", CELLS)
def test_every_cell_reads_whatever_dtype_there_is(name, read, size, engine, monkeypatch):
    """Parameters, whose dtype changes the compiled step, each at one of the two sizes with each engine."""
    monkeypatch.setattr(odd_cells, "S", SIZES[size][2])
    half = (list(SIZES).index(size) + (engine == "numpy")) % 2
    refused = check(name, size, read, DTYPES[half::2] if read == "parameters" else DTYPES, engine)
    assert "f4" not in refused
