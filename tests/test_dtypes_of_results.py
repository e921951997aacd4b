"""Which dtype comes of which operands: what has axes decides, numbers follow, floats of integers are float32."""

import copy
import itertools
import pickle

from fractions import Fraction

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

FLOATS = ["float16", "float32", "float64"]
WHOLE = ["bool", "int8", "uint8", "int16", "int32", "int64"]

# ---- functions that give floats ------------------------------------------------------------------------------------

FUNCTIONS = {
    "exp": (ops.exp, np.exp),
    "log": (ops.log, np.log),
    "sqrt": (ops.sqrt, np.sqrt),
    "tanh": (ops.tanh, np.tanh),
    "sigmoid": (ops.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "softplus": (ops.softplus, lambda x: np.logaddexp(x, 0)),
    "erf": (ops.erf, lambda x: np.asarray(ops.erf(x))),
    "gelu": (ops.gelu, lambda x: np.asarray(ops.gelu(x))),
    "softmax": (ops.softmax, lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum()),
    "log_softmax": (ops.log_softmax, lambda x: x - np.logaddexp.reduce(x)),
    "logsumexp": (ops.logsumexp, np.logaddexp.reduce),
    "mean": (ops.mean, np.mean),
    "var": (ops.var, lambda x: x.var(ddof=1)),
    "div": (lambda x: ops.div(x, x[:1]), lambda x: x / x[:1]),
    "half": (lambda x: x * 0.5, lambda x: x * 0.5),
    "power": (lambda x: x**0.5, lambda x: x**0.5),
    "clip": (lambda x: ops.clip(x, 0.5), lambda x: x.clip(0.5)),
    "clip by a tensor": (lambda x: ops.clip(x, tg.tensor([0.5])), lambda x: x.clip(0.5)),
    "choice": (lambda x: ops.where(x == 1, x, 0.5), lambda x: np.where(x == 1, x, 0.5)),
}


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_float_of_integers_is_a_float32_of_the_numbers(name, dtype, device):
    ours, expected = FUNCTIONS[name]
    wide = name in ("softmax", "log_softmax", "logsumexp", "softplus") and dtype.startswith("i")
    x = np.array([1, 0, 1] if dtype == "bool" else [-100 if wide else 1, 3, 60]).astype(dtype)
    x = x[::2] if name in ("log", "div") else x
    y = ours(tg.tensor(x))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.numpy(), expected(x.astype(np.float64)), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("name", ["softmax", "exp", "logsumexp", "softplus"])
def test_of_an_array_of_integers_too(name, dtype):
    x = np.array([0, 1], dtype)
    y = np.asarray(FUNCTIONS[name][0](x))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, FUNCTIONS[name][1](x.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_bytes_in_another_order_are_the_same_numbers(name, dtype):
    x = np.array([1.0, 3.0, 1.5], dtype)
    expected = FUNCTIONS[name][0](tg.tensor(x.astype(x.dtype.newbyteorder("="))))
    for y in FUNCTIONS[name][0](tg.tensor(x)), FUNCTIONS[name][0](tg.Tensor(x)):
        assert y.dtype.newbyteorder("=") == expected.dtype
        np.testing.assert_array_equal(y.numpy(), expected.numpy())


def test_float16_is_added_up_in_float32(device):
    x = tg.tensor(np.full(2000, 100, np.float16), requires_grad=True)
    assert (x.mean().item(), x.var().item(), x.mean().dtype) == (100, 0, np.float16)
    assert tg.grad(x.mean(), x).dtype == np.float16
    rows = tg.tensor(np.full((3000, 2), 1.25, np.float16)).sum(0)
    assert (rows.tolist(), rows.dtype) == ([3750, 3750], np.float16)


WAYS = {
    "as it is": lambda x: x,
    "bytes in another order": lambda x: x.astype(">f2"),
    "copied": copy.deepcopy,
    "pickled": lambda x: pickle.loads(pickle.dumps(x)),
    "a tensor pickled": lambda x: pickle.loads(pickle.dumps(tg.tensor(x))),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_so_is_float16_from_wherever_it_comes(way):
    x = way(np.full(70_000, 1, np.float16))
    t = x if isinstance(x, tg.Tensor) else tg.tensor(x)
    nothing = tg.zeros(70_000, dtype="float16")
    for y in (ops.mean(x), t.mean(), nn.mse_loss(t, nothing), nn.cross_entropy(t[:, None], np.zeros(70_000, int)) + 1):
        assert (float(y), y.dtype.type) == (1, np.float16)
    assert float(ops.var(x)) == float(t.var()) == 0


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int8", "int32", "int64"])
def test_whole_numbers_are_added_up_as_int64(dtype, device):
    x = tg.tensor(np.array([[1, 1], [0, 1]], dtype))
    for y in (x.sum(), x.sum(0)[0], ops.cumsum(x, 0)[1, 0], ops.cumsum(x)[1]):
        assert y.dtype == np.int64
        assert (y - 10).item() == y.item() - 10


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8", "bool"])
def test_tensors_of_pytorch_are_operands_as_arrays_are(dtype):
    torch = pytest.importorskip("torch")
    x, a = tg.tensor([1.0, 2.0], requires_grad=True), np.array([1, 1], dtype)
    for t in torch.tensor(a), torch.tensor(a)[0]:
        for f in (lambda x, t: x + t, lambda x, t: t * x, lambda x, t: ops.where(x > t, x, t), lambda x, t: t - x):
            y, expected = f(x, t), f(x, t.numpy())
            assert isinstance(y, tg.Tensor)
            assert (y.dtype, y.tolist()) == (expected.dtype, expected.tolist())
    with pytest.raises(RuntimeError, match="requires grad"):
        x * torch.ones(2, requires_grad=True)


# ---- operands that differ ------------------------------------------------------------------------------------------

RANK = {"b": 0, "i": 1, "u": 1, "f": 2}


def expected(a, b):
    """PyTorch's rule, said once more: a and b are (dtype, has it axes), or a Python type."""
    levels = [(a, b), (a,), (b,)]
    of = lambda o: np.dtype({float: "float32", int: "int64", bool: "bool"}[o] if isinstance(o, type) else o[0])
    level = lambda o: 2 if isinstance(o, type) else int(not o[1])
    if level(a) == level(b):
        levels = levels[:1]
    else:
        first, second = sorted((a, b), key=level)
        levels = [(second,)] if RANK[of(second).kind] > RANK[of(first).kind] else [(first,)]
    kinds = [of(o) for o in levels[0]]
    top = max(RANK[k.kind] for k in kinds)
    return np.result_type(*[k for k in kinds if RANK[k.kind] == top])


OPERANDS = [(d, axes) for d in [*FLOATS, "bool", "int8", "int64"] for axes in (True, False)]
MIXING = {
    "add": (ops.add, lambda a, b: a + b),
    "mul": (ops.mul, lambda a, b: a * b),
    "maximum": (ops.maximum, np.maximum),
    "where": (lambda a, b: ops.where(tg.tensor([True, False]), a, b), lambda a, b: np.where([True, False], a, b)),
    "stack": (lambda a, b: ops.stack([a, b]), lambda a, b: np.stack([a, b])),
    "concat": (lambda a, b: ops.concat([a, b]), lambda a, b: np.concatenate([a, b])),
    "einsum": (lambda a, b: ops.einsum("...,...->...", a, b), lambda a, b: a * b),
    "matmul": (ops.matmul, lambda a, b: a @ b),
}


def values(operand):
    dtype, axes = operand
    return np.array([1, 0] if axes else 1, dtype)


@pytest.mark.parametrize("name", MIXING)
def test_two_tensors_give_the_dtype_of_what_has_axes_and_of_the_higher_kind(name, device):
    ours, numpys = MIXING[name]
    for a, b in itertools.product(OPERANDS, OPERANDS):
        if (a[1] != b[1] and name == "stack") or (not (a[1] and b[1]) and name in ("concat", "matmul")):
            continue
        y = ours(tg.tensor(values(a)), tg.tensor(values(b)))
        assert y.dtype == expected(a, b), (a, b)
        np.testing.assert_array_equal(y.numpy(), numpys(values(a), values(b)))


@pytest.mark.parametrize("number", [0.5, 2, True], ids=str)
@pytest.mark.parametrize("form", ["number", "scalar", "array", "wide scalar", "list", "fraction"])
def test_numbers_in_every_form_follow_the_tensor(number, form):
    kind = type(number)
    wide = {float: np.longdouble, int: np.uint64, bool: np.bool_}[kind]
    make = {
        "number": lambda v: v,
        "scalar": lambda v: {float: np.float64, int: np.int64, bool: np.bool_}[kind](v),
        "array": lambda v: np.array(v),
        "wide scalar": wide,
        "list": lambda v: [v, v],
        "fraction": lambda v: Fraction(v) if kind is float else v,
    }
    given = make[form](number)
    for dtype in [*FLOATS, "int8", "int64"]:
        x = tg.tensor(np.ones(2, dtype), requires_grad=dtype in FLOATS)
        wanted = expected((dtype, True), kind)
        for y in (x + given, given + x, x * given, given - x, ops.maximum(x, given), ops.where(x > 5, x, given)):
            assert isinstance(y, tg.Tensor)
            assert y.dtype == wanted, dtype
        assert (x / given).dtype == (wanted if wanted.kind == "f" else np.float32)
        assert (x**given).dtype == wanted
        if dtype in FLOATS:
            assert tg.grad((x * given / given).sum(), x).dtype == dtype


@pytest.mark.parametrize("dtype", FLOATS)
def test_in_place_operators_keep_the_dtype(dtype):
    x = tg.tensor(np.ones(3, dtype))
    x += np.float64(2)
    x -= np.float64(0.5)
    x *= np.sqrt(2)
    x /= np.array(3.0)
    assert x.dtype == dtype


def test_a_comparison_sees_a_numpy_scalar_as_the_tensor_would():
    x = tg.tensor(np.array([0.1], np.float32))
    assert (x == np.float64(0.1)).item() and (x <= np.float64(0.1)).item() and not (x > 0.1).item()
    large = tg.tensor(np.array([2**24 + 1]))
    assert not (large == np.float32(2**24)).item()  # integers are compared exactly


def test_a_list_of_numbers_is_as_exact_as_the_tensor():
    np.testing.assert_array_equal((tg.tensor(np.ones(2)) * [0.1, 0.2]).numpy(), [0.1, 0.2])
    assert (tg.tensor([1.0, 2.0]) @ [0.5, 1.5]).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tensor_without_axes_gets_a_gradient_of_its_own_dtype(dtype):
    x = tg.tensor(np.ones(3, np.float32), requires_grad=True)
    scale = tg.tensor(np.asarray(2.0, dtype), requires_grad=True)
    y = (x * scale).sum()
    y.backward(create_graph=True)
    assert (y.dtype, x.grad.dtype, scale.grad.dtype) == (np.float32, np.float32, dtype)
    assert scale.grad.item() == 3


# ---- the same in a recorded step ------------------------------------------------------------------------------------

ARRAY = np.arange(1, 5)


class Written(tg.nn.Cell):
    """A cell whose step is a function of x, h and W."""

    def __init__(self, step):
        self.W = tg.nn.Parameter(np.random.default_rng(0).standard_normal((4, 4)).astype("f") / 2)
        self.step = step

    def forward(self, x, h):
        h = self.step(x, h, self.W)
        return h, h

    def initial_state(self, batch):
        return tg.zeros(batch, 4)


def changed_in_place(x, h, W):
    f = ops.tanh(x + h @ W)
    f += np.float64(1)
    f /= np.sqrt(2)
    f -= np.float64(0.1)
    return f


STEPS = {
    "divided by a NumPy scalar": lambda x, h, W: ops.tanh((x + h @ W) / np.sqrt(2)),
    "times a NumPy scalar": lambda x, h, W: np.float64(0.5) * ops.tanh(x + h @ W),
    "a choice of numbers": lambda x, h, W: ops.tanh(x + h @ W) * ops.where(x > 0, 1.0, 0.5),
    "a choice of whole numbers": lambda x, h, W: ops.tanh(x + h @ W) * ops.where(x > 0, 1, 0),
    "a choice of a scalar": lambda x, h, W: ops.tanh(x + ops.where(x > 0, h @ W, np.float64(0.25))),
    "a list": lambda x, h, W: ops.tanh(x + h @ W + [1.0, 2.0, 3.0, 4.0]),
    "an array without axes": lambda x, h, W: ops.tanh(x + h @ W) * np.array(0.5),
    "an array of integers": lambda x, h, W: ops.tanh(x + h @ W) / ARRAY,
    "a tensor of integers": lambda x, h, W: ops.tanh(x + h @ W) / tg.tensor([1, 2, 3, 4]),
    "a mask times a number": lambda x, h, W: ops.tanh(x + h @ W) * ((h > 0) * 0.5 + 0.5),
    "a mask divided": lambda x, h, W: ops.tanh(x + h @ W) + (h > 0) / 2,
    "the larger": lambda x, h, W: ops.tanh(ops.maximum(x + h @ W, np.float64(0.1))),
    "a power": lambda x, h, W: ops.tanh(x + h @ W) ** np.float64(2),
    "a comparison": lambda x, h, W: ops.where(h > np.float64(0.1), 0.5 * h, x @ W),
    "clipped by scalars": lambda x, h, W: ops.clip(x + h @ W, np.float64(-0.5), np.float32(0.5)),
    "clipped by tensors": lambda x, h, W: ops.clip(x + h @ W, x * 0.1 - 0.1, x * x + 0.2),
    "softmax of a mask": lambda x, h, W: ops.tanh(ops.softmax(h > 0) + x @ W),
    "exp of a mask": lambda x, h, W: ops.tanh(x + h @ W) / ops.exp(h > 0),
    "changed in place": changed_in_place,
}


ENGINES = [
    (name, engine)
    for name in STEPS
    for engine in ("numpy", "llvm")
    if (name, engine) != ("a choice of whole numbers", "llvm")  # machine code has no integers
]


@pytest.mark.parametrize("name, engine", ENGINES)
def test_a_recorded_step_has_the_dtypes_of_the_eager_one(name, engine):
    x = np.random.default_rng(1).standard_normal((5, 3, 4)).astype("f")
    found = {}
    for each in ("eager", engine):
        cell, xs = Written(STEPS[name]), tg.tensor(x, requires_grad=True)
        layer = tg.nn.Recurrent(cell, engine=each)
        ys, h = layer(xs)
        ys.sum().backward()
        found[each] = ys.numpy(), h.numpy(), *([] if xs.grad is None else [xs.grad.numpy()]), cell.W.grad.numpy()
    assert layer.plan(xs).engine == engine
    for a, b in zip(found["eager"], found[engine], strict=True):
        assert a.dtype == b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
