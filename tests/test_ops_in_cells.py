"""Operations that cells from papers need, in a step: each engine computes what the eager one does, in its loop."""

import importlib

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.ops import formulas

T, B, H = 5, 3, 4
OPERATIONS = {
    "sin": lambda a, b: ops.sin(3 * a),
    "cos": lambda a, b: ops.cos(3 * a + b),
    "expm1": lambda a, b: ops.expm1(a) * b,
    "floor": lambda a, b: a * ops.floor(3 * b + 0.27),
    "round": lambda a, b: a * ops.round(3 * b + 0.27),
    "fmod": lambda a, b: ops.fmod(5 * a, 1.7 + b * b),
    "mod": lambda a, b: ops.mod(5 * a, 1.7 + b * b),
    "silu": lambda a, b: ops.silu(2 * a),
    "elu": lambda a, b: ops.elu(a - b, 0.5),
    "leaky_relu": lambda a, b: ops.leaky_relu(a - b),
    "log_sigmoid": lambda a, b: ops.log_sigmoid(4 * a),
    "logaddexp": lambda a, b: ops.logaddexp(3 * a, b),
    "prod": lambda a, b: ops.prod(1 + a, 1, True) * b,
    "cumprod": lambda a, b: ops.cumprod(a + b, 1),
    "std": lambda a, b: b * ops.std(a, 1, True),
    "norm": lambda a, b: a / (1 + ops.norm(b, 2, 1, True)),
    "norm of order 3": lambda a, b: a / (1 + ops.norm(b, 3, 1, True)),
    "sum of what is spread": lambda a, b: a * ops.sum(ops.broadcast_to(ops.sum(b, 1, True), b.shape), 1, True),
    "sum of a spread gradient": lambda a, b: b * ops.sum((a * a)[:, :, None].broadcast_to((*a.shape, 3)), 2),
    "roll": lambda a, b: ops.roll(a, 1, 1) + b,
    "tile": lambda a, b: ops.tile(a[:, :2], (1, 2)) * b,
    "sort": lambda a, b: ops.sort(a, 1)[0] + b,
    "topk": lambda a, b: ops.topk(a, 1, 1)[0] * b,
}
BY_POSITIONS = {"sort", "topk"}  # machine code has no loop for these
ENGINES = [
    "numpy", "llvm",
    pytest.param("cuda", marks=pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="g++")),
]  # fmt: skip


class Step(nn.RNNCell):
    """h' = tanh(f(x W + h U + b, h))"""

    def __init__(self, name):
        super().__init__(H, H)
        self.f = OPERATIONS[name]

    def forward(self, x, h):
        h = ops.tanh(self.f(x @ self.W + h @ self.U + self.b, h + 0.3))
        return h, h


def outcome(name, engine, dtype):
    tg.manual_seed(1)
    rnn = nn.Recurrent(Step(name), engine=engine).to(dtype)
    xs = tg.tensor(np.random.default_rng(0).normal(size=(T, B, H)).astype(dtype), requires_grad=True)
    ys, h = rnn(xs)
    ((ys * ys).sum() + h.sum()).backward()
    plan = None if engine == "eager" else rnn.plan(xs)
    return [ys.numpy(), xs.grad.numpy(), *(p.grad.numpy() for p in rnn.parameters())], plan


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_engine_computes_what_the_eager_one_does(name, engine, request):
    if engine == "llvm":
        pytest.importorskip("llvmlite")
    if engine == "cuda":
        request.getfixturevalue("cupy")
    with tg.device("gpu" if engine == "cuda" else "cpu"):
        expected, _ = outcome(name, "eager", "float64")
        for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
            if name in BY_POSITIONS and engine == "llvm":
                with pytest.raises(ValueError, match=r"cannot run Step: .*argsort"):
                    outcome(name, engine, dtype)
                return
            found, plan = outcome(name, engine, dtype)
            for f, e in zip(found, expected, strict=True):
                np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance * np.abs(e).max())
            assert plan.engine == engine, plan
            assert name in BY_POSITIONS or "of CuPy's own" not in str(plan)


@pytest.mark.parametrize("engine", ["llvm.functions", "cuda.functions"])
def test_an_engine_has_a_form_for_each_function_of_formulas(engine):
    if engine.startswith("llvm"):
        pytest.importorskip("llvmlite")
    known = importlib.import_module(f"tinygrad_rnn.compiler.{engine}").FUNCTIONS
    assert {*formulas.FUNCTIONS} <= {*known}
