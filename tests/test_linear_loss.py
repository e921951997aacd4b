"""linear_cross_entropy is cross_entropy of a linear layer: in blocks, as machine code, on each device."""

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.nn import linear_loss, losses
from tinygrad_rnn.ops import row_kernels

TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
SHAPES = [(1, 1, 2), (5, 3, 7), (7, 20, 20), (40, 17, 33), (65, 9, 2050), (200, 40, 300)]
LARGE = pytest.param((450, 64, 4100), marks=pytest.mark.slow)


GPU_KERNEL = pytest.param("GPU", marks=pytest.mark.skipif(not REAL_GPU and bool(cuda_on_cpu.missing()), reason="g++"))


@pytest.fixture(params=["machine code", "blocks", GPU_KERNEL])
def way(request, monkeypatch):
    """By the engine "llvm", by the array library, and by a kernel of a GPU; in blocks of few rows."""
    monkeypatch.setattr(linear_loss, "ON_GPU", 1 << 14)
    if request.param == "machine code":
        pytest.importorskip("llvmlite")
    elif request.param == "blocks":
        monkeypatch.setattr(linear_loss.engines, "cross_entropy", lambda: None)
    monkeypatch.setattr(linear_loss, "BLOCK", 1 << 14)
    monkeypatch.setattr(losses, "SMALL", 0)
    if request.param == "GPU":
        request.getfixturevalue("cupy")
    with tg.device("gpu" if request.param == "GPU" else "cpu"):
        yield request.param


def problem(shape, dtype="float64", *, bias=True, ignored=False, device=None):
    """ys, W, b and targets."""
    (N, H, V), rng = shape, np.random.default_rng(sum(shape))
    made = [rng.normal(size=s).astype(dtype) for s in ((N, H), (H, V), (V,))]
    targets = rng.integers(0, V, N)
    if ignored:
        targets[:: 1 + N // 4] = -100
    ys, W, b = (tg.tensor(a, requires_grad=True, device=device) for a in made)
    return ys, W, b if bias else None, targets


def plain(ys, W, b, targets, **options):
    return nn.cross_entropy(ys @ W if b is None else ys @ W + b, targets, **options)


def results(loss, ys, W, b, targets, **options):
    """The loss and its gradients."""
    tensors = [t for t in (ys, W, b) if t is not None]
    made = loss(ys, W, b, targets, **options)
    return [made, *tg.grad(made * 3, tensors)]


def assert_equal(found, expected, dtype):
    for a, b in zip(found, expected, strict=True):
        a, b = a.numpy(), b.numpy()
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(b).max()))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [*SHAPES, LARGE], ids=str)
def test_it_is_the_cross_entropy_of_a_linear_layer(shape, dtype, way):
    shape = (*shape[:2], -(-shape[2] // 8)) if way == "GPU" and not REAL_GPU else shape  # g++'s kernels take long
    for bias, ignored, smoothing in ((True, False, 0.0), (False, True, 0.0), (True, True, 0.1)):
        given = problem(shape, dtype, bias=bias, ignored=ignored)
        for reduction in ("mean", "sum"):
            options = {"label_smoothing": smoothing, "reduction": reduction}
            pair = (results(f, *given, **options) for f in (nn.linear_cross_entropy, plain))
            assert_equal(*pair, dtype)


def test_a_gpu_s_kernel_computes_what_the_array_library_does(gpu, monkeypatch):
    monkeypatch.setattr(losses, "SMALL", 0)
    given, found = problem((9, 5, 77), ignored=True), []
    for longest in (row_kernels.LONGEST, 0):
        monkeypatch.setattr(linear_loss, "LONGEST", longest)
        found.append(results(nn.linear_cross_entropy, *given, label_smoothing=0.2))
    assert_equal(*found, "float64")


def test_a_finer_bias_is_not_rounded_to_what_it_is_added_to(way):
    rng = np.random.default_rng(0)
    whole = [tg.tensor(rng.integers(-3, 4, s).astype("f"), requires_grad=True) for s in ((20, 3), (3, 40))]
    given = [*whole, tg.tensor(rng.normal(size=40), requires_grad=True), rng.integers(0, 40, 20)]
    found, expected = (f(*given).item() for f in (nn.linear_cross_entropy, plain))
    assert found == pytest.approx(expected, rel=1e-12)  # products of whole numbers have no rounding error


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 0, 1)])
def test_it_finds_the_gradients_that_are_wanted(wanted, way):
    ys, W, b, targets = problem((70, 9, 40))
    tensors = [t if w else t.detach() for t, w in zip((ys, W, b), wanted, strict=True)]
    asked = [t for t, w in zip(tensors, wanted, strict=True) if w]
    found, expected = (tg.grad(f(*tensors, targets), asked) for f in (nn.linear_cross_entropy, plain))
    assert_equal(found, expected, "float64")


def test_without_recording_there_is_the_value_alone(way):
    given = problem((70, 9, 40))
    with tg.no_grad():
        loss = nn.linear_cross_entropy(*given)
    assert not loss.requires_grad and loss.item() == pytest.approx(plain(*given).item(), abs=1e-12)


def test_axes_in_front_and_no_reduction_are_those_of_cross_entropy(way):
    ys, W, b, targets = problem((12, 5, 9), ignored=True)
    ys, targets = ys.reshape(3, 4, 5), targets.reshape(3, 4)
    for reduction in ("none", "mean"):
        found, expected = (f(ys, W, b, targets, reduction=reduction) for f in (nn.linear_cross_entropy, plain))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-12)


def test_a_matrix_tied_to_an_embedding_is_read_where_it_is(way):
    ys, W, b, targets = problem((300, 40, 2100))
    E = tg.tensor(np.ascontiguousarray(W.numpy().T), requires_grad=True)
    found = tg.grad(nn.linear_cross_entropy(ys, E.T, b, targets), [ys, E, b])
    assert_equal([found[0], found[1].T, found[2]], tg.grad(plain(ys, W, b, targets), [ys, W, b]), "float64")


def test_a_second_backward_finds_the_same_and_leaves_the_first_alone(way):
    ys, W, b, targets = problem((70, 9, 40))
    loss = nn.linear_cross_entropy(ys, W, b, targets)
    loss.backward(retain_graph=True)
    first = W.grad.numpy().copy()
    loss.backward()
    np.testing.assert_allclose(W.grad.numpy(), 2 * first, rtol=1e-14)


def test_derivatives_of_derivatives_are_right(way):
    ys, W, b, targets = problem((4, 3, 5), ignored=True)
    tg.gradcheck(lambda *given: nn.linear_cross_entropy(*given, targets, label_smoothing=0.1), ys, W, b)


def test_large_logits_neither_overflow_nor_lose_the_small_ones(way):
    for dtype in TOLERANCE:
        W, b = tg.tensor(np.eye(3, dtype=dtype)), None
        ys = tg.tensor(np.array([[800.0, 0, 0], [-800, -800, -900]], dtype), requires_grad=True)
        loss = nn.linear_cross_entropy(ys, W, b, np.array([1, 0]), reduction="sum")
        np.testing.assert_allclose(loss.numpy(), 800 + np.log(2), rtol=1e-6)
        np.testing.assert_allclose(tg.grad(loss, ys).numpy(), [[1, -1, 0], [-0.5, 0.5, 0]], atol=1e-6)


def test_what_is_not_a_number_stays_so(way):
    ys, W, b, targets = problem((5, 3, 40))
    ys = tg.tensor(np.where(np.arange(5)[:, None] == 2, np.nan, ys.numpy()))
    assert np.isnan(nn.linear_cross_entropy(ys, W, b, targets).item())


def test_targets_that_do_not_count_cost_nothing_and_may_be_all(way):
    given = problem((6, 3, 40))
    for targets in (np.full(6, -100), np.zeros(0, int)):
        ys = given[0][: len(targets)]
        loss = nn.linear_cross_entropy(ys, *given[1:3], targets)
        assert loss.item() == 0
        assert all(not g.numpy().any() for g in tg.grad(loss, [ys, *given[1:3]]))


@pytest.mark.parametrize("narrow", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}], ids=str)
def test_operands_of_several_dtypes_are_those_of_numpy(narrow, way):
    *given, targets = problem((20, 3, 40))
    mixed = [x.detach().astype("float32").requires_grad_() if i in narrow else x for i, x in enumerate(given)]
    found, expected = (results(f, *mixed, targets) for f in (nn.linear_cross_entropy, plain))
    assert_equal(found, expected, "float32")


def test_it_runs_on_a_gpu(gpu, monkeypatch):
    monkeypatch.setattr(losses, "SMALL", 0)
    given = problem((20, 3, 40), "float32", ignored=True)
    assert_equal(*(results(f, *given) for f in (nn.linear_cross_entropy, plain)), "float32")


def test_a_step_that_is_recorded_takes_the_plain_way():
    class Surprise(nn.Cell):
        """y = -log P(0 | h)"""

        def __init__(self):
            self.U, self.V = (nn.Parameter(nn.init.xavier_uniform(s)) for s in ((3, 4), (4, 6)))

        def initial_state(self, batch_size):
            return self.zeros(batch_size, 4)

        def forward(self, x, h):
            h = tg.ops.tanh(x @ self.U + h)
            return nn.linear_cross_entropy(h, self.V, None, np.zeros(2, int), reduction="none").reshape(2, 1), h

    xs = tg.tensor(np.random.default_rng(0).normal(size=(6, 2, 3)).astype("f"))
    cell = Surprise()
    found = [nn.Recurrent(cell, engine=engine)(xs)[0].numpy() for engine in ("eager", "numpy")]
    np.testing.assert_allclose(*found, atol=1e-6)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        ([0, 40], IndexError, "from 0 to 39, got 0 to 40"),
        ([0, -1], IndexError, "from 0 to 39, got -1 to 0"),
        ([0, 1, 2], ValueError, r"^linear_cross_entropy: targets must be \(2,\) for ys \(2, 3\), got \(3,\)$"),
        ([0.0, 1.0], TypeError, "integers, got dtype float64"),
    ],
    ids=str,
)
def test_a_wrong_target_is_refused_in_a_sentence(targets, error, message):
    with pytest.raises(error, match=message):
        nn.linear_cross_entropy(*problem((2, 3, 40))[:3], np.array(targets))


def test_many_threads_give_what_one_gives(monkeypatch):
    pytest.importorskip("llvmlite")
    given = problem((300, 20, 500))
    found = [results(nn.linear_cross_entropy, *given)]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found.append(results(nn.linear_cross_entropy, *given))
    assert_equal(*found, "float64")
