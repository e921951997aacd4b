"""An operation of one's own from a formula: checked, differentiated, and in the same loop as the library's own."""

import itertools
import math

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

mish = tg.elementwise(
    "mish",
    "x * tanh(fmax(x, 0) + log1p(exp(-abs(x))))",
    x=lambda g, x: g * (ops.tanh(ops.softplus(x)) + x * ops.sigmoid(x) * (1 - ops.tanh(ops.softplus(x)) ** 2)),
)
gate = tg.elementwise("gate", "a * (b > 0) + sin(b) / 2", a=lambda g, b: g * (b > 0), b=lambda g, b: g * ops.cos(b) / 2)
tanh = tg.elementwise("tanh", "tanh(x)", x=lambda g, y: g - g * y * y)  # of a name that there is already
shadow = tg.elementwise("mish", "x / 2", x=lambda g: g / 2)


class Own(nn.Cell):
    def __init__(self):
        self.U, self.W = (nn.Parameter(np.random.default_rng(n).normal(size=(n, 4)).astype("f") / 2) for n in (3, 4))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 4)

    def forward(self, x, h):
        a = x @ self.U + h @ self.W
        h = tanh(gate(mish(a), a) + 0.1 * shadow(a))
        return h, h


def outcome(engine):
    cell = Own()
    xs = tg.tensor(np.random.default_rng(1).normal(size=(5, 2, 3)).astype("f"), requires_grad=True)
    rnn = nn.Recurrent(cell, engine=engine)
    ys, h = rnn(xs)
    ((ys * ys).sum() + h.sum()).backward()
    return [t.numpy() for t in (ys, xs.grad, cell.U.grad, cell.W.grad)], rnn.plan(xs)


@pytest.mark.parametrize("op", [mish, gate, tanh, shadow], ids=["mish", "gate", "tanh", "shadow"])
def test_its_rules_are_those_of_differences(op):
    xs = [tg.tensor(np.random.default_rng(n).normal(size=5)) for n in range(2 if op is gate else 1)]
    assert tg.gradcheck(op, *xs)


def test_its_value_is_the_formulas_and_of_integers_a_float():
    x = np.array([-2, 0, 3])
    np.testing.assert_allclose(mish(tg.tensor(x)).numpy(), x * np.tanh(np.logaddexp(0, x)), rtol=1e-6)
    assert mish(tg.tensor(x)).dtype == np.float32
    assert tg.elementwise("twice", "x + x")(tg.tensor(x)).dtype == x.dtype


@pytest.mark.parametrize("engine", ["numpy", "llvm"])
def test_a_compiled_step_computes_what_eager_does(engine):
    found, plan = outcome(engine)
    assert plan.engine == engine
    for a, b in zip(found, outcome("eager")[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_it_is_machine_code_in_the_loop_of_what_stands_around_it():
    source = str(outcome("llvm")[1].source)
    assert '@"sinf"' in source  # where numbers are too large to be reduced
    assert source.count("define void") == 2  # forward and backward


def test_on_a_gpu_it_is_in_the_kernel_of_what_stands_around_it(gpu):
    found, plan = outcome("cuda")
    assert plan.engine == "cuda" and "sinf(" in str(plan.source)
    with tg.device("cpu"):
        expected = outcome("eager")[0]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


REFUSED = {
    "x ** 2": r"got 'x \*\* 2'",
    "gamma(x)": r"got 'gamma\(x\)'",
    "x.T": r"got 'x\.T'",
    "x if x > 0 else 0": "got 'x if x > 0 else 0'",
    "0 < x < 1": "got '0 < x < 1'",
    "x > 0 and x < 1": "got 'x > 0 and x < 1'",
    "x +": r"the formula must be an expression, got 'x \+'",
    "1 + 2": r"the formula must name an argument, got '1 \+ 2'",
    "exp(x=x)": r"got 'exp\(x=x\)'",
    "True * x": "got 'True'",
}


@pytest.mark.parametrize("formula", REFUSED)
def test_what_is_no_formula_is_refused_in_one_line(formula):
    with pytest.raises(ValueError, match=f"^elementwise: f: .*{REFUSED[formula]}$") as caught:
        tg.elementwise("f", formula)
    assert "\n" not in str(caught.value)


def test_a_rule_for_what_is_no_argument_is_refused():
    with pytest.raises(ValueError, match=r"^f\.vjp: rules must be for arguments \['x'\], got one for \['y'\]"):
        tg.elementwise("f", "x + 1", y=lambda g: g)


COUNTING = {
    "counts": ("(x > -9) + (x > 0) + (x > 1)", lambda x: (x > -9) * 1.0 + (x > 0) + (x > 1)),
    "leaks": ("(x > 0) * x + (x <= 0) * 0.01 * x", lambda x: np.where(x > 0, x, 0.01 * x)),
    "turned": (
        "-(x > 0) * 0.5 + abs(x < 0) + ((x > -1) & (x < 1))",
        lambda x: -0.5 * (x > 0) + (x < 0) + ((x > -1) & (x < 1)),
    ),
    "compared": ("((x > 0) + (x > 1) > 1) * 2 - (x == (x > 1))", lambda x: 2.0 * (x > 1) - (x == (x > 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTING)
def test_a_condition_is_one_or_zero_in_the_dtype_of_the_others_in_every_engine(name):
    formula, expected = COUNTING[name]
    op = tg.elementwise(name, formula)
    x = np.array([-2.0, -0.5, 0.0, 0.5, 1.0, 2.5])
    for dtype in ("float16", "float32", "float64"):
        y = op(tg.tensor(x.astype(dtype)))
        assert y.dtype == dtype
        np.testing.assert_allclose(y.numpy(), expected(x), 1e-3)

    class Whole(nn.Cell):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, 1)

        def forward(self, x, h):
            return op(x + h), h

    xs = tg.tensor(x.astype("f")[:, None, None])
    for engine in ("eager", "numpy", "llvm"):
        ys, _ = nn.Recurrent(Whole(), engine=engine)(xs, tg.zeros(1, 1))
        assert ys.dtype == np.float32
        np.testing.assert_allclose(ys.numpy().ravel(), expected(x), 1e-6)


MIXED = {
    "exp(a) + b": lambda a, b: np.exp(a) + b,
    "(a > 0) * b": lambda a, b: (a > 0).astype(b.dtype) * b,
    "a * 100 + b": lambda a, b: a * a.dtype.type(100) + b,
    "a / 2 + b": lambda a, b: a / a.dtype.type(2) + b,
    "a + b + b": lambda a, b: a + b + b,
    "a * b": lambda a, b: a * b,
    "(a > b) & (a > 0)": lambda a, b: (a > b) & (a > 0),
}
DTYPES = ["bool", "int8", "uint8", "int64", "float16", "float32", "float64"]


@pytest.mark.parametrize("ruled", [False, True])
@pytest.mark.parametrize("formula", MIXED)
def test_operands_of_different_dtypes_are_of_one_before_the_first_function_in_every_engine(formula, ruled):
    rules = {"a": lambda g: g, "b": lambda g: g} if ruled else {}
    op = tg.elementwise("mixed", formula, **rules)
    for left, right in itertools.product(DTYPES, DTYPES):
        a, b = tg.tensor(np.array([[1, 0, 10, 5]], left)), tg.tensor(np.array([[1, 0, 2, 3]], right))
        common = (a * b).dtype
        if common.kind == "b":
            continue  # as NumPy has it
        if common.kind != "f" and ("exp" in formula or "/" in formula):
            common = np.dtype(np.float32)
        expected = MIXED[formula](a.numpy().astype(common), b.numpy().astype(common))
        y = op(a, b)
        assert y.dtype == expected.dtype, (left, right)
        np.testing.assert_allclose(y.numpy(), expected, 2e-3)

        class Mixed(nn.Cell):
            def initial_state(self, batch_size):
                return self.zeros(batch_size, 1)

            def forward(self, x, h):
                return op(x, b), h  # noqa: B023 (it is run at once)

        for engine in ("eager", "numpy", "auto"):
            ys, _ = nn.Recurrent(Mixed(), engine=engine)(tg.tensor(a.numpy()[None]), tg.zeros(1, 1))
            assert ys.dtype == expected.dtype, (left, right, engine)
            np.testing.assert_allclose(ys.numpy()[0], expected, 2e-3)


NUMBERS = {
    "x * (1 + erf(x / sqrt(2.0))) / 2": lambda x: x * (1 + ops.erf(x / 2**0.5)) / 2,
    "x * exp(-abs(-2.0) * sqrt(1 + 3))": lambda x: x * math.exp(-4),
    "fmin(x, log(0.0 + 2)) + pow(2, 3)": lambda x: ops.minimum(x, math.log(2)) + 8,
}


@pytest.mark.parametrize("formula", NUMBERS)
def test_functions_of_numbers_are_numbers(formula):
    op = tg.elementwise("f", formula)
    for dtype, rtol in (("float16", 3e-3), ("float32", 1e-6), ("float64", 1e-12)):
        x = tg.tensor(np.array([-1.5, 0.0, 0.25, 3.0], dtype))
        assert op(x).dtype == dtype
        np.testing.assert_allclose(op(x).numpy(), NUMBERS[formula](x).numpy(), rtol)
    assert tg.elementwise("f", "x * abs(-3)")(tg.tensor(np.array([2], "int8"))).dtype == "int8"

    class Cell(nn.Cell):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, 4)

        def forward(self, x, h):
            return op(x + h), h

    x = x.numpy().astype("f")[None, None]
    for engine in ("numpy", "llvm"):
        ys, _ = nn.Recurrent(Cell(), engine=engine)(x)
        np.testing.assert_allclose(ys.numpy(), NUMBERS[formula](tg.tensor(x)).numpy(), 1e-6)


def test_what_a_formula_makes_of_numbers_masks_and_integers():
    both = tg.elementwise("both", "(x > 0) + (x >= 0)")
    found = both(tg.tensor([True, False])), both(0.5), tg.elementwise("more", "x + 0.5")(tg.tensor([1, 2]))
    assert [np.asarray(y).dtype for y in found] == ["int64", "float64", "float32"]
    assert [np.asarray(y).tolist() for y in found] == [[2, 1], 2.0, [1.5, 2.5]]
