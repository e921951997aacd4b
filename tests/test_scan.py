"""The scan of a linear recurrence over time, on a GPU: it computes what the loop computes one step after the other.

It runs on the CPU here, compiled by g++ behind the stand-in for CuPy; not on a GPU yet, unless there is one.
"""

import cuda_on_cpu
import linear_cells
import numpy as np
import nvrtc
import pytest

from conftest import REAL_GPU
from linear_cells import B, I, T

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.compiler.cuda import program, scan
from tinygrad_rnn.compiler.cuda.waits import steps_stay
from tinygrad_rnn.compiler.cuda.writer import Launch

needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")
pytestmark = [needs_gxx, pytest.mark.usefixtures("gpu")]


class Odd(nn.Cell):
    """A cell of a function of x, the state, which is one array or two, and two weights."""

    def __init__(self, step, dtypes=(None,)):
        super().__init__()
        self.input_size, self.step, self.dtypes = I, step, dtypes
        rng = np.random.default_rng(2)
        self.a, self.b = (nn.Parameter(rng.uniform(0.5, 1, I).astype("float32")) for _ in "ab")

    def initial_state(self, batch_size):
        zeros = self.zeros(batch_size, I)
        states = tuple(zeros if d is None else zeros.astype(d) for d in self.dtypes)
        return states if len(states) > 1 else states[0]

    def forward(self, x, state):
        new = self.step(x, state, self.a, self.b)
        return (new[0] if isinstance(new, tuple) else new), new


ODD = {
    "a difference and a quotient": lambda: Odd(lambda x, h, a, b: (1 - h) * a / (1 + b * b) - x),
    "a choice by x": lambda: Odd(lambda x, h, a, b: ops.where(x > 0, h * a, b - h)),
    "both sides": lambda: Odd(lambda x, h, a, b: (h + a) * x + (b - h / 2) * x * x),
    "a detached state": lambda: Odd(lambda x, h, a, b: h * a + h.detach() * x),
    "states that change places": lambda: Odd(lambda x, s, a, b: (s[1] * a, s[0] * b + x), (None, None)),
    "states of two precisions": lambda: Odd(
        lambda x, s, a, b: ((s[0] * a + s[1] * x).astype("float32"), s[1] * b + s[0].astype("float64")),
        ("float32", "float64"),
    ),
}
NOT_LINEAR = {
    "a square": lambda: Odd(lambda x, h, a, b: h * h * b / 9 + a * x),
    "a divisor": lambda: Odd(lambda x, h, a, b: a * x / (9 + b * h)),
    "a choice by h": lambda: Odd(lambda x, h, a, b: ops.where(h > 0, h * a, x)),
}
CELLS = {**linear_cells.CELLS, **ODD, **NOT_LINEAR}


def drawn(seed):
    """A cell whose new states are random expressions that are linear in the old ones."""

    numbers = np.random.default_rng(seed).integers(1000, size=1000).tolist()

    def step(x, s, a, b):
        states, rest = s if isinstance(s, tuple) else (s,), iter(numbers)
        one_of = lambda values: values[next(rest) % len(values)]
        free = lambda: one_of([x, a, b, 0.5, ops.tanh(x * a), ops.where(x > 0, a, b)])

        def linear(depth):
            if depth == 0:
                return one_of(states)
            u, v = linear(depth - 1), linear(depth - 1)
            return one_of([
                u + free(), free() - u, u * free(), free() * u, -u, u / (2 + free() * x / 9), u + v, u - v / 2,
                ops.where(x > 0.3, u, free()), ops.where(x < free(), u, v),
            ])  # fmt: skip

        new = tuple(linear(3) for _ in states)
        return new if len(new) > 1 else new[0]

    return Odd(step, (None,) * (1 + seed % 2))


SETTINGS = [
    pytest.param({}, id="plain", marks=pytest.mark.slow),
    pytest.param({"lengths": [T, 2, 0]}, id="lengths"),
    pytest.param({"checkpoint_every": 4, "reverse": True, "lengths": [T, 2, 5]}, id="in parts", marks=pytest.mark.slow),
]


@pytest.fixture
def always(monkeypatch):
    """Whatever can be scanned is, in chunks of a step or two."""
    monkeypatch.setattr(scan, "STEPS", 1)
    monkeypatch.setattr(scan, "WORTH", 1)


def outcome(name, engine="cuda", dtype=None, steps=T, lengths=None, **options):
    """What comes out, and the gradients of all that went in."""
    rng = np.random.default_rng(1)
    rnn = nn.Recurrent(CELLS[name](), engine=engine, **options)
    rnn = rnn if dtype is None else rnn.to(dtype)
    leaf = lambda like, *shape: tg.tensor(rng.standard_normal(shape).astype(like), requires_grad=True)
    xs = leaf(dtype or "float32", steps, B, I)
    first = nest.map_leaves(lambda s: leaf(s.dtype, *s.shape), rnn.cell.initial_state(B))
    ys, last = rnn(xs, first, lengths=lengths)
    out = [ys, *nest.leaves(last)]
    sum((v * v).sum().astype("float64") for v in out).backward()
    given = [xs, *nest.leaves(first), *rnn.parameters()]
    return [v.numpy() for v in out] + [np.zeros(t.shape) if t.grad is None else t.grad.numpy() for t in given]


def same(found, expected, tolerance):
    for v, e in zip(found, expected, strict=True):
        assert v.shape == e.shape and np.abs(v - e).max() <= tolerance * max(1, np.abs(e).max())


def code(name, gradients=True):
    """What the programs of a cell share."""
    rnn = nn.Recurrent(CELLS[name](), engine="cuda")
    xs = tg.tensor(np.ones((T, B, I), np.float32), requires_grad=gradients)
    recording, _ = rnn._recordings.recording_for(
        rnn.cell, rnn._run_options("gpu:0"), *rnn._entrance(rnn.cell, xs, None), False
    )
    return recording.compiled.programs.code


def written(name):
    """What was written for each direction."""
    return code(name).written


def loops(w):
    """The launches that run all steps, one after the other or as a scan."""
    launches = [a for part in w.parts for a in part.actions if isinstance(a, Launch)]
    assert not any(part.loop for part in w.parts)
    return [a for a in launches if a.grid.steps.in_turn]


# ---- what is scanned ------------------------------------------------------------------------------------------------

# Loops that can be a scan, of all loops: backward every loop is linear in the gradients, whatever it is forward.
SCANS = {
    "SRU": [(1, 1), (1, 1)],
    "SRU with peepholes": [(0, 1), (1, 1)],
    "minimal GRU": [(1, 1), (1, 1)],
    "IndRNN": [(0, 1), (1, 1)],
    "LRU": [(1, 1), (1, 1)],
    "selective SSM": [(1, 1), (1, 1)],
    "linear attention": [(1, 1), (1, 1)],
    "two leaks": [(2, 2), (2, 2)],
    **{name: [(1, 1), (1, 1)] for name in ODD},
    **{name: [(0, 1), (1, 1)] for name in NOT_LINEAR},
}


@pytest.mark.parametrize("name", CELLS)
def test_a_loop_that_is_linear_in_its_state_can_be_a_scan(name):
    found = [loops(w) for w in written(name).values()]
    assert [(sum(a.scan is not None for a in launches), len(launches)) for launches in found] == SCANS[name]


@pytest.mark.parametrize("name", linear_cells.CELLS)
def test_what_no_gradient_needs_is_computed_in_the_loop_only_if_that_stays_one_of_elements(name):
    """A gate of one number a row is computed before it."""
    with tg.no_grad():
        launches = loops(code(name, gradients=False).written["forward"])
    assert not any(a.grid.rows for a in launches)
    assert sum(a.scan is not None for a in launches) == SCANS[name][0][0]


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("name", CELLS)
def test_a_scan_computes_what_the_eager_engine_does(name, options, always):
    dtype = None if name == "states of two precisions" else "float64"
    expected = outcome(name, "eager", dtype, **{k: v for k, v in options.items() if k != "checkpoint_every"})
    same(outcome(name, dtype=dtype, **options), expected, 1e-12 if dtype else 1e-5)


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))])
def test_random_linear_cells_are_scanned_and_equal_the_eager_ones(seed, always, monkeypatch):
    monkeypatch.setitem(CELLS, "drawn", lambda: drawn(seed))
    assert any(a.scan for a in loops(written("drawn")["forward"]))
    same(outcome("drawn", dtype="float64"), outcome("drawn", "eager", "float64"), 1e-11)


@pytest.mark.parametrize("steps", [1, 2, 7, 31, 32, 33, 65])
@pytest.mark.parametrize(
    "name, dtype, tolerance", [("minimal GRU", "float32", 1e-5), ("LRU", "float64", 1e-12)], ids=["float32", "float64"]
)
def test_the_chunks_of_any_number_of_steps_make_up_the_loop(name, dtype, tolerance, steps, monkeypatch):
    in_turn = outcome(name, dtype=dtype, steps=steps)
    monkeypatch.setattr(scan, "STEPS", 1)
    monkeypatch.setattr(scan, "WORTH", 1)
    same(outcome(name, dtype=dtype, steps=steps), in_turn, tolerance)


@pytest.mark.skipif(REAL_GPU, reason="a GPU runs threads in its own order")
@pytest.mark.parametrize("turns", ["reversed", 1, 2])
@pytest.mark.parametrize("name", ["minimal GRU", "LRU", "states that change places"])
def test_threads_may_run_in_any_order(name, turns, always):
    expected = outcome(name)
    with cuda_on_cpu.turns(turns):
        found = outcome(name)
    assert all(map(np.array_equal, found, expected))


WAIT = "  __syncthreads();\n"


@pytest.mark.skipif(REAL_GPU, reason="a race shows when threads run in many orders")
def test_the_wait_of_a_scan_is_needed(always, monkeypatch):
    compiled, expected = program.compiled, outcome("minimal GRU")
    for w in written("minimal GRU").values():
        text = w.text()
        assert text.count(WAIT) == 1
        broken = text.replace(WAIT, "")
        monkeypatch.setattr(program, "compiled", lambda t, d, b=broken, w=text: compiled(b if t == w else t, d))
        with cuda_on_cpu.turns("reversed"):
            assert not all(map(np.array_equal, outcome("minimal GRU"), expected))


def test_a_state_of_0_stays_0_however_a_factor_has_grown(always):
    rnn = nn.Recurrent(Odd(lambda x, h, a, b: 2 * h + x), engine="cuda")
    steps = 6000  # in chunks of 188: 2 ** 188 is no float32
    x = np.zeros((steps, B, I), np.float32)
    x[-1] = 1
    ys, _ = rnn(tg.tensor(x))
    np.testing.assert_array_equal(ys.numpy(), x)


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize(
    "name", ["minimal GRU", *(pytest.param(n, marks=pytest.mark.slow) for n in ("LRU", "states of two precisions"))]
)
def test_the_kernels_compile_for_gpus(name, architecture):
    assert all(nvrtc.compiled(w.text(), architecture) for w in written(name).values())


def test_chunks_run_in_no_order_so_that_no_step_may_write_what_another_reads():
    s = code("minimal GRU").s
    before, after, _ = next(s.c.delays)  # in one buffer, a step apart
    assert steps_stay(s, [after], [after, s.c.x])
    assert not steps_stay(s, [after], [before])


# ---- when it pays ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, steps, threads",
    [
        ((1, 512), 4096, (16, 32)),  # few elements, many steps: as many chunks as there can be
        ((1, 512), 100, (16, 8)),  # of 8 steps or more
        ((64, 128), 4096, (16, 16)),  # as many threads as keep a GPU busy
        ((1, 512), 31, None),  # few steps
        ((64, 1024), 4096, None),  # many elements
    ],
)
def test_a_scan_is_for_few_elements_and_many_steps(shape, steps, threads):
    found = scan.Chunks([]).of([shape], steps)
    assert (found and found[1]) == threads


@pytest.mark.parametrize(
    "steps, way, scans", [(31, "one step after the other", 0), (64, "a scan over time, 8 chunks", 2)]
)
def test_a_plan_says_which_way_a_loop_runs_and_so_it_does(steps, way, scans, monkeypatch):
    compiled, launched = program.compiled, []

    class Spied:
        def __init__(self, *args):
            self.module = compiled(*args)

        def get_function(self, name):
            function = self.module.get_function(name)

            def launch(blocks, threads, args):
                launched.append(threads)
                function(blocks, threads, args)

            launch.max_threads_per_block = function.max_threads_per_block
            return launch

    monkeypatch.setattr(program, "compiled", Spied)
    rnn = nn.Recurrent(CELLS["minimal GRU"](), engine="cuda")
    xs = tg.tensor(np.ones((steps, B, I), np.float32), requires_grad=True)
    told = str(rnn.plan(xs))
    assert [told.count(f"forward: {way}"), told.count(f"backward: {way}")] == [1, 1]
    rnn(xs)[0].sum().backward()
    assert launched.count((scan.ACROSS, 8)) == scans
