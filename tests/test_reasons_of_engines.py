"""An engine that cannot run a step says why, and in which line of the cell; that a slower one runs it is told once."""

import importlib.util
import inspect
import warnings

import numpy as np
import pytest

from cells import MGU
from odd_cells import Odd

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

without_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")


class Turned(Odd):
    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        return ops.tanh(h.T).T, h  # here


class Cumulated(Odd):
    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        return ops.cumsum(h, 1), h  # here


class Rounded(Odd):
    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        return h.astype("float16"), h  # here


class ByOrder(Odd):
    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        return h[:, [0, 2, 1]], h  # here


class Flipped(Odd):
    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        return self.helped(h), h

    def helped(self, h):
        return h - ops.flip(h, 0)  # here


class Asking(Odd):
    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        h.register_hook(lambda g: g)  # here
        return h, h


NOT_LLVM = {"Turned": "permute across rows", "Cumulated": "cumsum", "Rounded": "float16", "ByOrder": "getitem",
            "Flipped": "flip"}  # fmt: skip


def place(cell):
    lines, start = inspect.getsourcelines(cell)
    at = next(i for i, line in enumerate(lines) if line.endswith("# here\n"))
    function = "helped" if cell is Flipped else "forward"
    return f"{cell.__name__}.{function}, line {start + at}: "


def called(cell, engine, steps=5):
    rnn = nn.Recurrent(cell(), engine=engine)
    xs = tg.tensor(np.ones((steps, 2, 2), np.float32), requires_grad=True)
    return rnn, xs, rnn(xs)


@without_llvmlite
@pytest.mark.parametrize("name, word", NOT_LLVM.items())
def test_the_llvm_engine_says_in_which_line_it_cannot_run_a_cell(name, word):
    cell = globals()[name]
    with pytest.raises(ValueError) as refusal:
        called(cell, "llvm")
    said = str(refusal.value)
    assert said.startswith(f'Recurrent: "llvm" cannot run {name}: {place(cell)}')
    assert word in said
    assert said.endswith('; use engine="auto"')
    assert "\n" not in said


@without_llvmlite
def test_llvm_is_called_fast_too():
    rnn = nn.Recurrent(MGU(2, 3), engine="fast")
    assert rnn.engine == rnn.plan(tg.zeros(5, 2, 2)).engine == "llvm"
    rnn.engine = "fast"  # as in a module that was stored before
    assert rnn.plan(tg.zeros(5, 2, 2)).engine == "llvm"
    assert nn.GRU(2, 3, engine="fast").layers[0].engine == "llvm"
    with pytest.raises(ValueError, match='Recurrent: "fast" cannot run Turned'):
        stored = nn.Recurrent(Turned())
        stored.engine = "fast"
        stored(tg.zeros(5, 2, 2))


@without_llvmlite
def test_the_engine_auto_tells_once_for_each_class_that_it_takes_a_slower_one():
    fresh = type("Fresh", (Turned,), {})
    with pytest.warns(
        UserWarning, match=r"^Recurrent: Fresh runs slower.* engine \"numpy\".*Turned.forward, line"
    ) as told:
        rnn, xs, _ = called(fresh, "auto")
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        called(fresh, "auto")
        called(type("Other", (Turned,), {}), "compiled")
        called(type("Other", (Turned,), {}), "numpy")
    assert f'"llvm" cannot run it: {place(Turned)}permute across rows' in str(rnn.plan(xs))


def test_the_engine_auto_tells_that_it_runs_a_cell_step_by_step():
    fresh = type("Fresh", (Asking,), {})
    with pytest.warns(
        UserWarning, match="^Recurrent: Fresh runs slower.*, step by step, because.*Asking.forward, line"
    ):
        rnn, xs, _ = called(fresh, "auto")
    called(fresh, "auto")
    called(type("Short", (Asking,), {}), "auto", steps=2)
    assert place(Asking) in str(rnn.plan(xs))
    assert rnn.plan(xs).engine == "eager"


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_a_cell_that_cannot_be_compiled_is_refused_with_its_line(engine):
    with pytest.raises(ValueError, match=f"^Recurrent: Asking cannot be compiled: {place(Asking)}"):
        called(Asking, engine)


CAUGHT = {
    "a value": (lambda h: float(h[0, 0]), "cannot read a value"),
    "a truth": (lambda h: bool((h > 0).sum()), "cannot read a value"),
    "an array": (lambda h: h.numpy().mean(), "cannot read a value"),
    "a hook": (lambda h: h.register_hook(lambda g: g) and 2.0, "a hook is set"),
    "a change": (lambda h: setattr(tg.zeros(2), "data", np.ones(2)) or 2.0, "sets the values of a tensor"),
}


@pytest.mark.filterwarnings("ignore:Recurrent. Guarded runs slower")
@pytest.mark.parametrize("engine", ["auto", "compiled", "numpy"])
@pytest.mark.parametrize("asked, reason", CAUGHT.values(), ids=CAUGHT)
def test_a_step_that_catches_the_refusal_is_not_recorded_as_what_it_does_then(asked, reason, engine):
    class Guarded(Odd):
        def forward(self, x, h):
            h = ops.tanh(self.affine(x, h))
            try:
                h = h * asked(h)
            except Exception:
                h = h * 0
            return h, h

    try:
        rnn, xs, (ys, _) = called(Guarded, engine)
    except (TypeError, ValueError) as refusal:
        assert reason in str(refusal) or reason == "sets the values of a tensor"
    else:
        assert engine == "auto"
        np.testing.assert_array_equal(ys.numpy(), nn.Recurrent(rnn.cell, engine="eager")(xs)[0].numpy())


@pytest.mark.parametrize(
    "kept", [lambda x, h: h, lambda x, h: x, lambda x, h: [h, x], lambda x, h: {"h": h * 2, "n": np.ones(2)}]
)
def test_a_cell_may_keep_what_it_was_given_to_be_looked_at(kept):
    class Keeping(Odd):
        def forward(self, x, h):
            self.last = kept(x, h)
            h = ops.tanh(self.affine(x, h))
            return h, h

    with pytest.warns(UserWarning, match=r"Keeping runs slower.* its step sets 'last', which is no part of its state"):
        rnn, xs, (ys, _) = called(Keeping, "auto")
    np.testing.assert_array_equal(ys.numpy(), nn.Recurrent(rnn.cell, engine="eager")(xs)[0].numpy())


@without_llvmlite
def test_a_plan_counts_the_products_that_are_computed_on_top_of_a_sum():
    plans = [str(nn.Recurrent(MGU(2, 3), engine=e).plan(tg.zeros((5, 2, 2)))) for e in ("llvm", "numpy")]
    forward = [next(line for line in plan.splitlines() if "at each step" in line) for plan in plans]
    assert forward[0] == forward[1]
    assert "11 operations" in forward[0]
    assert "2 matmul" in forward[0]
