"""Operations with a kernel of their own on a GPU: the values and gradients of host memory, in one launch."""

import copy
import itertools

import cuda_on_cpu
import numpy as np
import nvrtc
import pytest
import strict_cupy

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.ops import kernels, row_kernels
from viz.read.expand import expanded

TOLERANCE = {"float16": 4e-3, "float32": 3e-6, "float64": 1e-13}
counts_here = pytest.mark.skipif(REAL_GPU, reason="the stand-in counts")
draw = np.random.default_rng(0).standard_normal


def special(shape):
    """Rows with infinities, with NaN, and one that is -inf throughout."""
    x = draw(shape) * 4
    x[0, 0], x[1, 1], x[2, 2] = np.inf, -np.inf, np.nan
    x[3] = -np.inf
    return x


def normed(x):
    """By weights that are computed from x, so that gradients flow to them."""
    weight = np.linspace(0.5, 2, x.shape[-1])
    gain, b = (tg.tensor(weight * s, x.dtype, x.device) * (1 + 0 * x.reshape(-1)[0]) for s in (1, -1))
    return nn.layers.layer_norm(x, gain + x.mean(), b * x.sum(), eps=1e-5)


def entropy(x, **options):
    ids = np.arange(np.prod(x.shape[:-1])).reshape(x.shape[:-1]) % x.shape[-1]
    ids.reshape(-1)[1] = -100
    return nn.cross_entropy(x, tg.tensor(ids, device=x.device), **options)


# name: a function of x
CASES = {
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "softmax": ops.softmax,
    "softmax over two axes": lambda x: ops.softmax(x, axis=(-2, -1)),
    "softmax over the first axis": lambda x: ops.softmax(x, axis=0),
    "log_softmax": ops.log_softmax,
    "log_softmax over all axes": lambda x: ops.log_softmax(x, axis=None),
    "logsumexp": ops.logsumexp,
    "logsumexp over two axes": lambda x: ops.logsumexp(x, axis=(1, 2), keepdims=True),
    "layer_norm": normed,
    "cross entropy": lambda x: entropy(x / 2),
    "summed cross entropy": lambda x: entropy(x, reduction="sum") / 4,
    "cross entropy of each": lambda x: entropy(x, reduction="none"),
    "smoothed cross entropy": lambda x: entropy(x, label_smoothing=0.1),
}
SHAPES = [(2, 3, 5), (1, 4, 1), (3, 1, 300)]


def outcome(function, values, device, order=2):
    """y, dL/dx and the gradient of the square of that, for a loss with other weights at each element."""
    x = tg.tensor(values, device=device, requires_grad=True)
    y = function(x)
    weight = tg.tensor(np.cos(np.arange(y.size)).reshape(y.shape), y.dtype, device)
    (dx,) = tg.grad((y * weight).sum(), [x], create_graph=order > 1)
    found = [y, dx]
    if order > 1:
        found += tg.grad((dx * dx).sum(), [x])
    return [t.numpy() for t in found]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_values_and_both_derivatives_are_those_of_host_memory(name, dtype, gpu):
    order = 2 if dtype == "float64" else 1
    for shape in SHAPES:
        x = draw(shape).astype(dtype)
        here, there = (outcome(CASES[name], x, device, order) for device in ("cpu", "gpu"))
        for a, b in zip(here, there, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(b, a, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_what_is_not_finite_is_as_in_host_memory(name, dtype, gpu):
    x = special((5, 40)).astype(dtype)
    with np.errstate(all="ignore"):
        here, there = (outcome(CASES[name], x, device, 1) for device in ("cpu", "gpu"))
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(b, a, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sigmoid_has_its_digits_in_the_tails(dtype, gpu):
    x = np.concatenate([np.linspace(-16, 16, 65), [-90, 90, -720, 720]]).astype(dtype)
    found, expected = ops.sigmoid(tg.tensor(x)).numpy(), ops.sigmoid(tg.tensor(x, device="cpu")).numpy()
    numbers = np.finfo(dtype)  # a GPU's exp may be two of its last digits off; CuPy has it flush small float32 to 0
    least = numbers.smallest_normal if REAL_GPU and dtype == "float32" else 2 * numbers.smallest_subnormal
    np.testing.assert_allclose(found, expected, rtol=4 * numbers.eps, atol=least)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int64"])
def test_sigmoid_of_integers_is_one_of_floats(dtype, gpu):
    x = np.array([0, 1, 0, 1]).astype(dtype)
    for of in (tg.tensor, tg.autograd.arrays.from_numpy):
        y = ops.sigmoid(of(x))
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.get() if of is not tg.tensor else y.numpy(), ops.sigmoid(x), rtol=1e-6)


def test_rows_that_do_not_lie_together_are_right_too(gpu):
    x = draw((40, 6, 3)).astype("f4")
    turned = [lambda t: t.permute((2, 1, 0)), lambda t: t[::2], lambda t: t[:, :, 1]]
    for turn, name in itertools.product(
        turned, ("sigmoid", "tanh", "softmax", "log_softmax", "logsumexp", "layer_norm")
    ):
        case = lambda x, turn=turn, name=name: CASES[name](turn(x))
        here, there = (outcome(case, x, device, 1) for device in ("cpu", "gpu"))
        for a, b in zip(here, there, strict=True):
            np.testing.assert_allclose(b, a, rtol=3e-6, atol=3e-5)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
@pytest.mark.parametrize("name", ["sigmoid", "softmax", "log_softmax"])
def test_nothing_gives_nothing(name, shape, gpu):
    assert CASES[name](tg.zeros(shape)).shape == shape


# ---- launches ----

# name: (function of (B, D), launches backward; None where that is no kernel of its own)
LAUNCHED = {
    "sigmoid": (ops.sigmoid, 1),
    "tanh": (ops.tanh, 1),
    "softmax": (ops.softmax, 1),
    "log_softmax": (ops.log_softmax, 1),
    "logsumexp": (ops.logsumexp, None),
    "layer_norm": (nn.LayerNorm(6), 2),  # one for x, and one for both weights
}


@counts_here
@pytest.mark.parametrize("name", LAUNCHED)
def test_a_kernel_is_launched_once(name, gpu):
    function, back = LAUNCHED[name]
    function = copy.deepcopy(function).to(gpu) if name == "layer_norm" else function
    x, g = (tg.tensor(draw((4, 6)), np.float32, requires_grad=True) for _ in range(2))
    with strict_cupy.counted() as counts:
        y = function(x)
    assert (counts.launches, counts.syncs, counts.copies) == (1, 0, 0), counts
    with strict_cupy.counted() as counts:
        y.backward(g.detach()) if back else None
    assert (counts.launches, counts.syncs, counts.copies) == (back or 0, 0, 0), counts


@counts_here
def test_cross_entropy_is_a_kernel_each_way_and_the_sum(gpu):
    x = tg.tensor(draw((4, 6)), np.float32, requires_grad=True)
    at, counted = (tg.tensor(a).array for a in (np.arange(4) * 6 + 1, np.ones(4, bool)))
    with strict_cupy.counted() as counts:
        loss = nn.losses.nll_of_logits(x, at=at, counts=counted, total=True)
    assert (counts.launches, counts.syncs, counts.copies) == (2, 0, 0), counts
    g = tg.tensor(1.0, np.float32)
    with strict_cupy.counted() as counts:
        loss.backward(g)
    assert (counts.launches, counts.syncs, counts.copies) == (1, 0, 0), counts


def test_a_second_backward_through_kept_rows_is_right(gpu):
    x = tg.tensor(draw((4, 6)), requires_grad=True)
    loss = (nn.LayerNorm(6).to("gpu")(x) ** 2).sum() + entropy(x)
    loss.backward(retain_graph=True)
    first = x.grad.numpy()
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * first)


def test_operands_on_two_devices_are_refused_by_the_name_of_an_operation(gpu):
    gain, b = tg.zeros(6, device="cpu"), tg.zeros(6)
    with pytest.raises(ValueError, match=r"operands must be on one device, got gpu:0 and cpu; move one with"):
        nn.layers.layer_norm(tg.zeros(4, 6), gain, b, eps=1e-5)


def test_a_drawing_shows_the_operations_that_a_kernel_stands_for(gpu):
    def names(device):
        x = tg.tensor(draw((4, 6)), device=device, requires_grad=True)
        loss = entropy(nn.LayerNorm(6).to(device)(x))
        return [node.op.name for node in expanded(loss.node) if node.op is not None]

    assert names("gpu") == names("cpu")


def test_a_target_out_of_range_is_not_read_before_it_is_an_error(gpu):
    x = tg.tensor(draw((4, 6)), requires_grad=True)
    for target in (6, -1, 10**9):
        loss = nn.cross_entropy(x, tg.tensor(np.array([0, target, 1, 2])))
        with pytest.raises(IndexError, match="from 0 to 5"):
            loss.item()


# ---- the barriers, and the compiler ----


@counts_here
@pytest.mark.parametrize("order", ["reversed", 1, 2])
def test_rows_do_not_depend_on_the_order_of_threads(order, gpu):
    for name in ("softmax", "log_softmax", "logsumexp", "layer_norm", "cross entropy"):
        x = draw((2, 1, 300))
        expected = outcome(CASES[name], x, "gpu", 1)
        with cuda_on_cpu.turns(order):
            found = outcome(CASES[name], x, "gpu", 1)
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
def test_the_kernels_compile_for_gpus(architecture):
    for dtype in (np.dtype("f4"), np.dtype("f8")):
        assert nvrtc.compiled(row_kernels.source(dtype.itemsize), architecture)
        for kernel in (kernels.SIGMOID, kernels.SIGMOID_RULE, kernels.TANH_RULE):
            assert nvrtc.compiled(nvrtc.elementwise(*kernel.of(dtype)), architecture)
