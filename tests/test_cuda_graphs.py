"""What the engine "cuda" launches, replayed as CUDA graphs: whatever moves between two calls, the results are right."""

import cuda_on_cpu
import numpy as np
import pytest
import strict_cupy

from conftest import REAL_GPU
from cuda_cells import CASES
from test_cuda_cells import FEW, Made, made, same, steps_of

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.compiler.cuda import graphs

needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")
on_the_stand_in = pytest.mark.skipif(REAL_GPU, reason="counted on the stand-in")
pytestmark = [needs_gxx, pytest.mark.usefixtures("gpu")]


@pytest.fixture
def cuda_graphs(monkeypatch):
    """The CUDA graphs that are made, in their order, and how often each is launched."""
    found, make = [], graphs.cuda_graph

    def watched(launch):
        graph = make(launch)
        found.append(Watched(graph))
        return found[-1]

    monkeypatch.setattr(graphs, "cuda_graph", watched)
    return found


class Watched:
    def __init__(self, graph):
        self.graph, self.launched = graph, 0

    def launch(self):
        self.launched += 1
        self.graph.launch()


def calls(rnn, xs, lengths=(None,) * 9, kept=None):
    """Calls with the gradients of each. Nothing that was given before is thrown away, so that all of it moves."""
    kept, found = [] if kept is None else kept, []
    for x, many in zip(xs, lengths, strict=False):
        rnn.zero_grad()
        given = tg.tensor(x, requires_grad=np.asarray(x).dtype.kind == "f")
        ys, state = rnn(given, lengths=many)
        out = [ys, *nest.leaves(state)]
        sum((y * y).sum() for y in out if y.requires_grad).backward()
        grads = {f"d {name}": p.grad for name, p in [("xs", given), *rnn.named_parameters()] if p.grad is not None}
        found.append({name: t.numpy() for name, t in [*enumerate(out), *grads.items()]})
        kept.append((given, out, grads))
    return found


def random(steps, batch=3, count=4, size=4):
    return [np.random.default_rng(i).standard_normal((steps, batch, size)) for i in range(count)]


def same_calls(found, expected, rtol=1e-11):
    for f, e in zip(found, expected, strict=True):
        same(f, e, rtol)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in FEW else pytest.mark.slow) for n in CASES])
def test_a_cell_computes_the_same_whenever_it_is_called(name, monkeypatch):
    """Launched, then as a graph, each with other numbers at other addresses; beside launched every time."""
    case, found = CASES[name], []
    xs = [steps_of(case.x, "float64")] * 4
    xs = [x * (1 + i) if isinstance(case.x, tuple) else x[::-1].copy() for i, x in enumerate(xs)]
    for kept in graphs.KEPT, 0:
        monkeypatch.setattr(graphs, "KEPT", kept)
        tg.manual_seed(3)
        found.append(calls(nn.Recurrent(Made(case, "float64"), engine="cuda"), xs))
    same_calls(*found, rtol=1e-11 if REAL_GPU else 0)  # there sums into places have no order


def test_each_number_of_steps_has_a_graph_of_its_own(cuda_graphs):
    xs = [random(steps, count=1)[0] for steps in (4, 7, 4, 7, 4, 7, 1, 1, 1)]
    same_calls(*(calls(made(engine), xs) for engine in ("cuda", "eager")))
    assert len(cuda_graphs) == 6 and all(graph.launched == 2 for graph in cuda_graphs)


def test_lengths_may_change_while_the_graph_is_the_same(cuda_graphs):
    xs, lengths = random(4, count=5), ([4, 1, 0], [2, 4, 3], [1, 1, 1], [0, 0, 0], [4, 4, 3])
    same_calls(*(calls(made(engine), xs, lengths) for engine in ("cuda", "eager")))
    assert [graph.launched for graph in cuda_graphs] == [4, 4]


@pytest.mark.parametrize("moved", ["each step", "once"])
def test_weights_may_move(moved, cuda_graphs):
    """An optimiser of one's own that makes new arrays."""
    found, kept = {}, []
    for engine in "cuda", "eager":
        rnn, found[engine] = made(engine), []
        for i, x in enumerate(random(4, count=6)):
            found[engine] += calls(rnn, [x], kept=kept)
            if moved == "each step" or i == 2:
                for p in rnn.parameters():
                    kept.append(p.array)
                    p.array = p.array * 0.9
    same_calls(found["cuda"], found["eager"])
    assert sum(graph.launched for graph in cuda_graphs) >= 6


def test_the_first_calls_launch_what_the_graph_does(cuda_graphs):
    """Bit for bit, so that a run can be repeated."""
    rnn, x = made("cuda"), random(4, count=1)[0]
    first, *others = calls(rnn, [x] * 5)
    assert all(np.array_equal(other[name], first[name]) for other in others for name in first)
    assert len(cuda_graphs) == 2


def test_so_many_launches_are_kept_and_no_more(cuda_graphs, monkeypatch):
    monkeypatch.setattr(graphs, "KEPT", 90)
    replays, done = graphs.Replays(), []
    for key in "aaabbbcccaaaccc":  # for "c" there is no room beside "a" and "b", for "a" none beside "b" and "c"
        replays.run(key, 40, lambda key=key: done.append(key))
    assert "".join(done) == "aabbccaa"  # at first, and when a graph is made
    assert [graph.launched for graph in cuda_graphs] == [2, 2, 5, 2]
    replays.run("all", 91, lambda: done.append("all"))
    assert [*replays.graphs] == ["a", "c"]


class Sorted(nn.RNNCell):
    """A step with an operation of CuPy's own."""

    def forward(self, x, h):
        y, h = super().forward(x, h)
        return y, ops.cumsum(h, -1) * 0.5


def test_what_cupy_does_by_itself_is_in_no_graph(cuda_graphs):
    found = []
    for engine in "cuda", "eager":
        tg.manual_seed(0)
        found.append(calls(nn.Recurrent(Sorted(4, 5), engine=engine).to("float64"), random(4)))
    same_calls(*found)
    assert REAL_GPU or all(len(graph.graph.work) < 8 for graph in cuda_graphs)


def test_calls_before_the_backward_pass_have_graphs_of_their_own():
    found = {}
    for engine in "cuda", "eager":
        rnn, found[engine] = made(engine), []
        for _ in range(4):
            given = [tg.tensor(x, requires_grad=True) for x in random(4)]
            rnn.zero_grad()
            sum((rnn(x)[0] ** 2).sum() for x in given).backward()
            found[engine].append({i: t.grad.numpy() for i, t in enumerate([*given, *rnn.parameters()])})
    same_calls(found["cuda"], found["eager"])


class Scaled(nn.RNNCell):
    """A step with a number from outside."""

    def __init__(self, factor):
        super().__init__(4, 5)
        self.factor = factor

    def forward(self, x, h):
        y, h = super().forward(x, h)
        return ops.where(h > 0, self.factor, 0.5) * y, h


@pytest.mark.parametrize("factor", [np.float64(3), 3.0], ids=repr)
def test_a_number_of_numpy_is_brought_to_the_device(factor, cupy, monkeypatch):
    steady, found = graphs.Steady.__call__, []

    def checked(self, buffer, given):
        assert isinstance(given, cupy.ndarray)
        return steady(self, buffer, given)

    monkeypatch.setattr(graphs.Steady, "__call__", checked)
    for engine in "cuda", "eager":
        tg.manual_seed(0)
        found.append(calls(nn.Recurrent(Scaled(factor), engine=engine).to("float64"), random(4)))
    same_calls(*found)


@pytest.mark.parametrize("where", ["array", "tensor"])
def test_what_is_on_another_device_is_refused(where):
    factor = np.ones(5) if where == "array" else tg.tensor(np.ones(5), device="cpu")
    rnn = nn.Recurrent(Scaled(factor), engine="cuda").to("float64")
    rnn.cell.factor = factor
    xs = tg.tensor(random(4)[0])
    with pytest.raises(ValueError, match="it reads numbers on cpu, and its inputs are on gpu:0"):
        rnn(xs)
    rnn.engine = "eager"
    with pytest.raises(ValueError, match="where: operands must be on one device"):
        rnn(xs)


@on_the_stand_in
def test_a_replay_launches_as_much_for_any_number_of_steps():
    rnn, launched = made("cuda"), []
    for steps in (5, 9):
        for x in random(steps):
            with strict_cupy.counted() as counts:
                calls(rnn, [x])
        launched.append(counts.launches)
        assert sum(n for place, n in counts.places("launch").items() if place.startswith("graph")) == 2
    assert launched[0] == launched[1]


@on_the_stand_in
def test_the_stand_in_records_nothing_that_makes_memory(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="records no more than"):
            cupy.ones(3) + 1
        stream.end_capture()
