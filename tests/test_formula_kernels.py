"""An optimiser's formula on a GPU: one kernel for each parameter, and the steps of host memory."""

import numpy as np
import nvrtc
import pytest
import strict_cupy

from conftest import REAL_GPU
from test_optim import TABLE

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.cuda.formula import Formula

counts_here = pytest.mark.skipif(REAL_GPU, reason="the stand-in counts")
TOLERANCE = {"float16": 2e-2, "float32": 1e-5, "float64": 1e-13}
SHAPES = [(), (1,), (0, 3), (16,), (5, 7), (130, 3)]


class Signs(optim.Optimizer):
    """With every function of formulas, a name that C keeps for itself, one that is no ASCII, and numbers of numbers."""

    memory, long = ("double_", "μ"), 3.0
    formula = """
float_ = fmax(g, -long) + 0 * fmin(g, lr)
μ = 0.5 * μ + (1 - 0.5) * float_
double_ = double_ + abs(tanh(μ)) / (1 + exp(-g)) + log1p(abs(g))
register = sqrt(double_ + 1e-6) + erf_free * log(1 + abs(μ))
p = +p - lr * sign(μ) / register
"""

    def numbers(self, lr):
        return {"lr": lr, "long": self.long, "erf_free": 0.25}


class Temporary(optim.Optimizer):
    """Assigns what is no array of state, and state that it only reads."""

    memory = ("never",)
    formula = "half = 0.5\ng = half * g\np = p - lr * g + never"


CASES = {**{name: (cls, options) for name, (cls, _, options) in TABLE.items()}, "signs": (Signs, {"lr": 0.1}),
         "temporary": (Temporary, {"lr": 0.1})}  # fmt: skip


def run(cls, options, device, dtype, steps=4):
    rng = np.random.default_rng(0)
    parameters = []
    for shape in SHAPES:
        p = nn.Parameter(tg.tensor(rng.standard_normal(shape), dtype, device))
        p.array = tg.tensor(p.numpy(), dtype, device).array
        parameters.append(p)
    optimizer = cls(parameters, **options)
    for _ in range(steps):
        for p in parameters:
            p.grad = tg.tensor(rng.standard_normal(p.shape), dtype, device)
        optimizer.step()
    return parameters, optimizer


SOME = [(name, dtype) for name in ("adam", "signs") for dtype in ("float32", "float16")]


@pytest.mark.parametrize("name, dtype", [*((name, "float64") for name in CASES), *SOME])
def test_steps_on_a_gpu_are_those_of_host_memory(name, dtype, gpu):
    (here, a), (there, b) = (run(*CASES[name], device, dtype) for device in ("cpu", "gpu"))
    for p, q in zip(here, there, strict=True):
        assert q.device == "gpu:0"
        assert p.dtype == q.dtype == dtype
        np.testing.assert_allclose(q.numpy(), p.numpy(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    for key, value in a.state_dict().items():
        found = b.state_dict()[key]
        assert found.dtype == dtype or not key.partition(".")[2]
        np.testing.assert_allclose(found, value, rtol=TOLERANCE[dtype], atol=2 * TOLERANCE[dtype])


@counts_here
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_one_launch_for_each_parameter(name, gpu):
    cls, options = CASES[name]
    parameters, optimizer = run(cls, options, "gpu", "float64", 1)
    for p in parameters:
        p.grad = tg.tensor(np.ones(p.shape))
    with strict_cupy.counted() as counts:
        optimizer.step()
    some = sum(p.size > 0 for p in parameters)
    assert (counts.launches, counts.syncs, counts.copies) == (some, 0, 0), counts


def test_old_values_stay_as_they_are(gpu):
    (p,), optimizer = [nn.Parameter(np.ones(3))], None
    optimizer = optim.Adam([p], 0.1)
    old, copy = p.array, p.numpy()
    for _ in range(2):
        p.grad = tg.tensor(np.ones(3))
        optimizer.step()
    np.testing.assert_array_equal(old.get(), copy)
    assert (p.numpy() != copy).all()


def test_parameters_of_both_devices_can_be_in_one_optimiser(gpu):
    here, there = (tg.tensor(np.ones(3), device=d, requires_grad=True) for d in ("cpu", "gpu"))
    optimizer = optim.AdamW([here, there], 0.1)
    for _ in range(3):
        here.grad, there.grad = (tg.tensor(np.arange(3.0), device=d) for d in ("cpu", "gpu"))
        optimizer.step()
    np.testing.assert_allclose(here.numpy(), there.numpy(), rtol=1e-12)


def test_a_gradient_that_does_not_lie_together_is_right_too(gpu):
    p, q = (nn.Parameter(np.ones((3, 4))) for _ in range(2))
    g = np.random.default_rng(0).standard_normal((4, 3))
    p.grad, q.grad = tg.tensor(g).T, tg.tensor(np.ascontiguousarray(g.T))
    optim.RMSprop([p, q], 0.1).step()
    np.testing.assert_array_equal(p.numpy(), q.numpy())


@pytest.mark.parametrize("formula", ["p -= lr * g ** 1", "p = p - lr * (g if 1 else g)", "p = p - lr * g[...]"])
def test_what_is_no_formula_is_computed_by_python_as_before(formula, gpu):
    p = nn.Parameter(np.ones(3))
    p.grad = tg.tensor(np.arange(3.0))
    type("Mine", (optim.Optimizer,), {"formula": formula})([p], 0.1).step()
    np.testing.assert_allclose(p.numpy(), 1 - 0.1 * np.arange(3.0))


def test_without_llvmlite_a_gpu_has_its_kernel(gpu, monkeypatch):
    monkeypatch.setattr(engines, "has_llvm", lambda: False)
    test_a_step_is_one_launch_for_each_parameter("adam", gpu) if not REAL_GPU else None


# ---- NVIDIA's compiler ----


@pytest.mark.skipif(nvrtc.library() is None or REAL_GPU, reason="NVRTC is not installed")
@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("name", CASES)
def test_formulas_compile_for_gpus(name, architecture, cupy, monkeypatch):
    cls, options = CASES[name]
    mine, texts = cls([nn.Parameter(np.ones(1))], **options), []
    kept = lambda inputs, outputs, body, _, preamble: texts.append(nvrtc.elementwise(inputs, outputs, body, preamble))
    monkeypatch.setattr(strict_cupy, "ElementwiseKernel", kept)
    for dtype in ("float32", "float64"):
        Formula(mine.formula, ("p", "g", *mine.memory), ("p", *mine.memory), dtype)
        assert nvrtc.compiled(texts[-1], architecture)
