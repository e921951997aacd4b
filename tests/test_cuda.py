"""The engine "cuda": its kernels compute what the eager engine does, are few, and wait for each other where they must.

Here they run on the CPU, compiled by g++ behind the stand-in for CuPy; not on a GPU yet, unless there is one. The cells
of test_compiler.py run on them too: `python -m pytest -p cuda_plugin tests/test_compiler.py -k "fast or llvm"`.
"""

import re

import cuda_on_cpu
import numpy as np
import odd_cells
import pytest
import strict_cupy

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.compiler.cuda import graphs, program
from tinygrad_rnn.compiler.cuda.writer import Launch

T, B, I, H = 6, 3, 4, 5
RNG = np.random.default_rng(3)
START = RNG.bit_generator.state
needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")
pytestmark = [needs_gxx, pytest.mark.usefixtures("gpu")]


class Leaky(nn.Cell):
    """A state that decays: no product in the loop."""

    def __init__(self):
        super().__init__()
        self.a, self.U = nn.Parameter(RNG.standard_normal(H).astype("float32")), nn.Linear(I, H)
        self.input_size, self.units = I, H

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.units)

    def forward(self, x, h):
        h = ops.sigmoid(self.a) * h + ops.tanh(self.U(x))
        return h, h


class Normed(Leaky):
    """A sum over the row at each step, and no product in the loop."""

    def forward(self, x, h):
        h = ops.sigmoid(self.a) * h + self.U(x)
        h = h / ops.sqrt((h * h).sum(1, keepdims=True) + 1)
        return h, h


class Attends(nn.Cell):
    """Attention over what the state has kept: products of values of the step, a softmax."""

    def __init__(self):
        super().__init__()
        self.U, self.W = nn.Linear(I, H), nn.Parameter(RNG.standard_normal((H, H)).astype("float32"))
        self.input_size, self.units = I, H

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.units), self.zeros(batch_size, 7, self.units)

    def forward(self, x, state):
        h, memory = state
        weights = ops.softmax((memory @ h[:, :, None])[:, :, 0], 1)
        read = (weights[:, None, :] @ memory)[:, 0]
        h = ops.tanh(self.U(x) + read @ self.W)
        return h, (h, memory * 0.9 + weights[:, :, None] * h[:, None, :])


CELLS = {
    "LSTM": lambda: nn.LSTMCell(I, H),
    "GRU": lambda: nn.GRUCell(I, H),
    "layer-norm LSTM": lambda: nn.LayerNormLSTMCell(I, H),
    "attention": Attends,
    "no product": Leaky,
    "no product, but a sum": Normed,
}
SETTINGS = {
    "plain": ({}, None),
    "lengths": ({}, [6, 2, 0]),
    "in parts, from the end": ({"checkpoint_every": 4, "reverse": True}, [6, 2, 5]),
}


def made(cell, engine, **options):
    tg.manual_seed(3)
    RNG.bit_generator.state = START
    return nn.Recurrent(CELLS[cell](), engine=engine, **options)


def inputs(dtype="float64", steps=T, batch=B):
    x = np.random.default_rng(0).standard_normal((steps, batch, I)).astype(dtype)
    return tg.tensor(x, requires_grad=True)


def first_state(rnn, xs):
    """A state of random numbers, which asks for gradients."""
    rng = np.random.default_rng(1)
    draw = lambda s: tg.tensor(rng.standard_normal(s.shape).astype(s.dtype), requires_grad=s.dtype.kind == "f")
    return nest.map_leaves(draw, rnn.cell.initial_state(xs.shape[1]))


def outcome(rnn, xs, lengths=None):
    """What comes out, and the gradients of all that went in."""
    rnn.zero_grad()
    xs.grad, start = None, first_state(rnn, xs)
    ys, state = rnn(xs, start, lengths=lengths)
    out = [ys, *nest.leaves(state)]
    sum((y * y).sum() for y in out if y.requires_grad).backward()
    given = {"xs": xs, **{f"state {i}": s for i, s in enumerate(nest.leaves(start))}, **dict(rnn.named_parameters())}
    found = {f"d {name}": t.grad for name, t in given.items() if t.requires_grad}
    return {name: t.numpy() for name, t in [*enumerate(out), *found.items()]}


def same(found, expected, rtol=1e-11):
    assert found.keys() == expected.keys()
    for name, e in expected.items():
        error = np.abs(np.subtract(found[name], e, dtype=np.float64)).max()
        assert error <= rtol * max(1, np.abs(e).max()), name


@pytest.mark.parametrize("options, lengths", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_equals_eager_in_values_and_gradients(cell, options, lengths):
    eager = made(cell, "eager", **{k: v for k, v in options.items() if k != "checkpoint_every"}).to("float64")
    rnn = made(cell, "cuda", **options).to("float64")
    assert rnn.plan(inputs()).engine == "cuda"
    same(outcome(rnn, inputs(), lengths), outcome(eager, inputs(), lengths))


@pytest.mark.parametrize("dtype, rtol", [("float16", 3e-2), ("float32", 1e-5)])
@pytest.mark.parametrize("cell", ["LSTM", "attention"])
def test_a_cell_of_another_dtype_equals_eager(cell, dtype, rtol):
    expected = outcome(made(cell, "eager").to(dtype), inputs(dtype))
    found = outcome(made(cell, "cuda").to(dtype), inputs(dtype))
    assert found[0].dtype == dtype
    same(found, expected, rtol)


@pytest.mark.parametrize("name", ["a state of integers", "a state of booleans", "states of two precisions"])
def test_values_of_several_dtypes_are_computed_as_they_are(name):
    found = []
    for engine in ("eager", "cuda"):
        tg.manual_seed(3)
        rnn = nn.Recurrent(odd_cells.ODD[name](I, H), engine=engine)
        assert rnn.plan(inputs("float32")).engine == engine
        found.append(outcome(rnn, inputs("float32")))
    same(found[1], found[0], 1e-5)


@pytest.mark.parametrize("lengths", [None, [5, 0, 3]])
def test_what_a_step_reads_may_lie_in_memory_in_any_order(lengths):
    found = []
    for engine in ("eager", "cuda"):
        tg.manual_seed(3)
        cell = nn.AttentionCell(nn.LSTMCell(I + H, H), nn.GeneralAttention(H, H)).to("float64")
        hs = tg.tensor(np.random.default_rng(1).standard_normal((5, B, H)), requires_grad=True)
        memory = cell.attention.remember(hs, lengths=lengths)  # views that begin with the batch
        ys, _ = nn.Recurrent(cell, engine=engine)(inputs(), cell.start(cell.cell.initial_state(B), memory))
        (ys * ys).sum().backward()
        found.append({"ys": ys.numpy(), "hs": hs.grad.numpy(), "U": cell.cell.U.grad.numpy()})
    same(found[1], found[0])


def test_the_second_derivative_is_that_of_the_eager_engine():
    found = []
    for engine in ("eager", "cuda"):
        rnn, xs = made("LSTM", engine).to("float64"), inputs()
        (dx,) = tg.grad(rnn(xs)[0].sum(), [xs], create_graph=True)
        (dx * dx).sum().backward()
        found.append({"": xs.grad.numpy()})
    same(found[1], found[0])


# ---- what is launched -----------------------------------------------------------------------------------------------

# (products, kernels) at each step, forward and backward
AT_EACH_STEP = {
    "LSTM": [(1, 1), (1, 1)],
    "GRU": [(2, 2), (2, 2)],
    "layer-norm LSTM": [(1, 1), (1, 1)],
    "attention": [(1, 1), (1, 1)],
    "no product": [(0, 0), (0, 0)],
    "no product, but a sum": [(0, 0), (0, 0)],
}


def written(rnn):
    """What was written for each direction."""
    recording, _ = rnn._recordings.recording_for(
        rnn.cell, rnn._run_options("gpu:0"), *rnn._entrance(rnn.cell, inputs("float32"), None), False
    )
    return recording.compiled.programs.code.written


def at_each_step(parts):
    actions = [a for part in parts for a in part.at_each_step]
    kernels = sum(isinstance(a, Launch) for a in actions)
    return len(actions) - kernels, kernels


@pytest.mark.parametrize("cell", CELLS)
def test_a_kernel_stands_between_two_products_and_nothing_else(cell):
    rnn = made(cell, "cuda")
    assert [at_each_step(w.parts) for w in written(rnn).values()] == AT_EACH_STEP[cell]


ATTENTION = {
    "dot": (lambda: nn.DotAttention(), "1 kernel, 2 products"),
    "additive": (lambda: nn.AdditiveAttention(H, H, 7), "2 kernels, 3 products"),
    "multi-head": (lambda: nn.MultiheadAttention(H, 1), "3 kernels, 4 products"),
}


@pytest.mark.parametrize("attention, launched", ATTENTION.values(), ids=ATTENTION)
def test_a_score_is_computed_between_two_products(attention, launched):
    cell = nn.AttentionCell(nn.LSTMCell(I + H, H), attention())
    memory = cell.attention.remember(tg.tensor(np.ones((6, B, H), np.float32)))
    told = str(
        nn.Recurrent(cell, engine="cuda").plan(inputs("float32"), cell.start(cell.cell.initial_state(B), memory))
    )
    assert told.count(f"launched at each step: {launched}\n") == 2


@pytest.mark.skipif(REAL_GPU, reason="counted on the stand-in")
@pytest.mark.parametrize("cell", CELLS)
def test_as_many_kernels_are_launched_as_are_planned_and_the_host_waits_for_nothing(cell, monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 0)  # each by itself
    rnn, launches = made(cell, "cuda"), []
    for steps in (5, 9):
        xs, dys = inputs("float32", steps), tg.tensor(np.ones((steps, B, H), np.float32))
        for _ in range(2):  # the first call records
            with strict_cupy.counted() as counts:
                ys, _ = rnn(xs)
                ys.backward(dys)
        assert (counts.syncs, counts.copies) == (0, 0), counts
        launches.append(counts.launches)
    assert launches[1] - launches[0] == 4 * sum(map(sum, AT_EACH_STEP[cell]))


@pytest.mark.parametrize("cell", CELLS)
def test_a_plan_says_what_is_launched_at_each_step(cell):
    said = re.findall(r"launched at each step: (.*)", str(made(cell, "cuda").plan(inputs("float32"))))
    expected = [(f"{k} kernel{'s' * (k > 1)}", f"{p} product{'s' * (p > 1)}") for p, k in AT_EACH_STEP[cell] if k]
    assert said == [", ".join(words) for words in expected]


def test_a_plan_names_what_no_kernel_is_written_for():
    class Sums(Leaky):
        def forward(self, x, h):
            h = ops.cumsum(ops.tanh(self.U(x) + h), 1)
            return h, h

    assert "launched at each step: 1 kernel, 1 of CuPy's own (cumsum)" in str(
        nn.Recurrent(Sums(), engine="cuda").plan(inputs("float32"))
    )


# ---- kernels --------------------------------------------------------------------------------------------------------


def text_of(cell):
    return "\n".join(w.text() for w in written(made(cell, "cuda")).values())


def test_kernels_know_neither_sizes_nor_names():
    class Other(nn.LSTMCell):
        pass

    small, large = nn.Recurrent(Other(I, H), engine="cuda"), nn.Recurrent(nn.LSTMCell(I, 7 * H), engine="cuda")
    texts = [[w.text() for w in written(rnn).values()] for rnn in (small, large)]
    assert texts[0] == texts[1]


def test_people_read_in_the_source_what_each_line_comes_from():
    source = made("no product", "cuda").plan(inputs("float32")).source
    assert re.search(r"v\d+ = \(v\d+ \* v\d+\);  // ops.sigmoid\(self.a\) \* h, Leaky.forward:\d+", source)
    assert re.search(r"// k\d: a thread for each element, one step after the other", source)


@pytest.mark.skipif(REAL_GPU, reason="a GPU runs threads in its own order")
@pytest.mark.parametrize("turns", ["reversed", 1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_threads_may_run_in_any_order(cell, turns):
    expected = outcome(made(cell, "cuda"), inputs("float32"))
    with cuda_on_cpu.turns(turns):
        found = outcome(made(cell, "cuda"), inputs("float32"))
    for name, e in expected.items():
        assert np.array_equal(found[name], e), name


@pytest.mark.skipif(REAL_GPU, reason="the stand-in says how many registers there are")
def test_a_row_has_no_more_threads_than_there_are_registers_for(monkeypatch):
    rnn, xs = nn.Recurrent(nn.LayerNormLSTMCell(I, 140), engine="cuda"), inputs("float32", 2, 2)
    expected = outcome(rnn, xs)
    monkeypatch.setattr(strict_cupy.kernels, "registers", 164)  # of a layer-norm LSTM's, on compute capability 9.0
    same(outcome(nn.Recurrent(rnn.cell, engine="cuda"), xs), expected, 1e-5)


WAIT = "__syncthreads();"
OURS = re.compile(rf"^ +{re.escape(WAIT)}$", re.MULTILINE)  # not those inside of sum_of_block


def without_wait(text, n):
    """The text without its n-th wait."""
    start, end = [m.span() for m in OURS.finditer(text)][n]
    return text[:start] + text[end:]


@pytest.mark.skipif(REAL_GPU, reason="a race shows when threads run in many orders")
@pytest.mark.parametrize("cell", ["layer-norm LSTM", "attention", "no product, but a sum"])
def test_no_wait_of_a_kernel_is_needless(cell, monkeypatch):
    compiled = program.compiled
    expected = outcome(made(cell, "cuda"), inputs("float32"))
    for direction, w in written(made(cell, "cuda")).items():
        text = w.text()
        body = text[text.index("struct k0_table") :]
        head = text[: -len(body)]
        for n in range(len(OURS.findall(body))):
            broken = head + without_wait(body, n)
            monkeypatch.setattr(program, "compiled", lambda t, d, b=broken, w=text: compiled(b if t == w else t, d))
            assert any(differs(cell, turns, expected) for turns in ("reversed", 1, 2, 3, 4)), (direction, n, body)


def differs(cell, turns, expected):
    with cuda_on_cpu.turns(turns):
        found = outcome(made(cell, "cuda"), inputs("float32"))
    return any(not np.array_equal(found[name], e) for name, e in expected.items())
