"""The engine "cuda" on cells that are meant to break it, beside the eager engine and beside NumPy."""

from concurrent.futures import ThreadPoolExecutor

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU
from cuda_cells import CASES, H, I, Made

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.compiler.cuda import types
from tinygrad_rnn.compiler.schedule.schedule import NotFusable

T = 4
needs_gxx = pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")
pytestmark = [needs_gxx, pytest.mark.usefixtures("gpu")]


def steps_of(x, dtype, steps=T):
    """The inputs of all steps."""
    rng = np.random.default_rng(1)
    if isinstance(x, tuple):
        return rng.standard_normal((steps, *x)).astype(dtype)
    return np.stack([rng.permutation(x.ravel()).reshape(x.shape) for _ in range(steps)])


def outcome(case, engine, dtype="float64", **options):
    tg.manual_seed(3)
    rnn = nn.Recurrent(Made(case, dtype), engine=engine, **options)
    xs = tg.tensor(steps_of(case.x, dtype), requires_grad=isinstance(case.x, tuple))
    if engine != "eager":
        assert rnn.plan(xs).engine == engine
    ys, state = rnn(xs)
    out = [ys, *nest.leaves(state)]
    total = sum((y * y).sum() for y in out if y.requires_grad)
    total.backward()
    given = {"xs": xs, **dict(rnn.named_parameters())}
    found = {f"d {name}": t.grad for name, t in given.items() if t.requires_grad and t.grad is not None}
    return {name: t.numpy() for name, t in [*enumerate(out), *found.items()]}


def same(found, expected, rtol=1e-11):
    assert found.keys() >= expected.keys()
    assert not any(found[name].any() for name in found.keys() - expected.keys())  # zeros, where eager has none at all
    for name, e in expected.items():
        assert found[name].dtype == e.dtype and found[name].shape == e.shape, name
        if e.dtype.kind != "f":
            assert np.array_equal(found[name], e), name
        elif e.size:
            scale = np.abs(e[np.isfinite(e)]).max(initial=1)
            np.testing.assert_allclose(found[name], e, rtol, rtol * scale, err_msg=str(name))


# One of each kind of fault that there was; the others take a minute
FEW = (
    "no units at all", "an empty state in a kernel of rows", "columns of nothing", "items by arrays of indices",
    "sums into places", "rows of a table", "thresholds of half precision",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_a_cell_equals_eager_there_and_on_the_cpu(name):
    found = outcome(CASES[name], "cuda")
    same(found, outcome(CASES[name], "eager"))
    with tg.device("cpu"), np.errstate(all="ignore"):
        same(found, outcome(CASES[name], "eager"))


# ---- ways to call it -------------------------------------------------------------------------------------------------

SOME = ("one sequence", "sums over the batch", "products of every rank", "states of several dtypes", "rows of a table")


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("options", [{"reverse": True}, {"checkpoint_every": 2}], ids=str)
def test_in_parts_and_from_the_end_it_equals_eager(name, options):
    found = outcome(CASES[name], "cuda", **options)
    same(found, outcome(CASES[name], "eager", **{k: v for k, v in options.items() if k == "reverse"}))


@pytest.mark.parametrize(
    "name", ["products of transposed inputs", *(pytest.param(n, marks=pytest.mark.slow) for n in SOME)]
)
def test_any_number_of_steps_equals_eager(name):
    case, found = CASES[name], []
    for engine in ("cuda", "eager"):
        tg.manual_seed(3)
        rnn, out = nn.Recurrent(Made(case), engine=engine), []
        for steps in (4, 7, 3, 1, 4):
            ys, _ = rnn(tg.tensor(steps_of(case.x, "float64", steps)))
            ys.sum().backward()
            out.append(ys.numpy())
        found.append(dict(enumerate([*out, *(p.grad.numpy() for p in rnn.parameters())])))
    same(*found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SOME, "mixtures of dtypes", "wider than a block", "softmax over other axes"])
@pytest.mark.parametrize("dtype, rtol", [("float16", 5e-2), ("float32", 1e-4)])
def test_in_another_precision_it_is_near_to_eager(name, dtype, rtol):
    same(outcome(CASES[name], "cuda", dtype), outcome(CASES[name], "eager", dtype), rtol)


def made(engine, units=H):
    tg.manual_seed(3)
    return nn.Recurrent(nn.LayerNormLSTMCell(I, units), engine=engine).to("float64")


def inputs(steps, batch, device=None):
    x = np.random.default_rng(steps * 100 + batch).standard_normal((steps, batch, I))
    return tg.tensor(x, requires_grad=True, device=device)


def gradients(rnn, *calls):
    """What comes out of some calls, and the gradients after one backward pass through all of them."""
    rnn.zero_grad()
    outs = [rnn(xs, lengths=lengths)[0] for xs, lengths in calls]
    sum((ys * ys).sum() for ys in outs).backward()
    given = [*[xs for xs, _ in calls], *rnn.parameters()]
    return dict(enumerate([*(ys.numpy() for ys in outs), *(t.grad.numpy() for t in given)]))


def test_batches_and_lengths_may_change_from_call_to_call():
    fast, eager = made("cuda"), made("eager")
    for steps, batch, lengths in [
        (4, 3, None),
        (9, 3, None),
        (2, 5, None),
        (9, 1, None),
        (3, 3, [1, 3, 0]),
        (4, 3, None),
    ]:
        same(*(gradients(rnn, (inputs(steps, batch), lengths)) for rnn in (fast, eager)))


def test_several_calls_may_come_before_the_backward_pass():
    calls = lambda: [(inputs(4, 3), None), (inputs(6, 3), [2, 6, 1]), (inputs(4, 2), None), (inputs(4, 3), None)]
    same(*(gradients(made(engine), *calls()) for engine in ("cuda", "eager")))


def test_two_layers_may_share_a_cell():
    found = []
    for engine in ("cuda", "eager"):
        first = made(engine)
        second = nn.Recurrent(first.cell, engine=engine, reverse=True)
        xs = inputs(5, 3)
        (first(xs)[0] * second(xs)[0]).sum().backward()
        found.append(dict(enumerate([xs.grad.numpy(), *(p.grad.numpy() for p in first.parameters())])))
    same(*found)


def test_the_graph_may_be_kept_and_gone_through_again():
    found = []
    for engine in ("cuda", "eager"):
        rnn, xs = made(engine), inputs(4, 3)
        ys, _ = rnn(xs)
        for _ in range(2):
            ys.sum().backward(retain_graph=True)
        found.append({0: xs.grad.numpy()})
    same(*found)


def test_each_device_has_programs_of_its_own(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    expected = gradients(made("cuda"), (inputs(4, 3), None))
    with tg.device("gpu:1"):
        rnn = made("cuda")
        same(gradients(rnn, (inputs(4, 3), None)), expected)
        assert all(p.device == "gpu:1" for p in rnn.parameters())
    rnn.to("gpu:0")
    same(gradients(rnn, (inputs(4, 3), None)), expected)


def test_threads_may_run_a_layer_at_the_same_time():
    rnn = made("cuda")
    expected = {n: rnn(inputs(4, n))[0].numpy() for n in (2, 3)}

    def run(n):
        with tg.device("gpu"):
            return all(np.array_equal(rnn(inputs(4, n))[0].numpy(), expected[n]) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, [2, 3, 2, 3, 2, 3]))


@pytest.mark.parametrize("dtype", [">f8", ">i4", "complex64", "U1"])
def test_numbers_that_a_gpu_has_no_form_for_are_refused(dtype):
    with pytest.raises(NotFusable, match="have no form in CUDA"):
        types.c_type(dtype)
