"""A wrong pass is told by its name: broken by hand, line by line, each is found out."""

import importlib
import pathlib
import types

import numpy as np
import pytest
import test_passes as table

from test_passes import (
    ALGEBRA,
    CHAINS,
    COPIED,
    KEPT,
    MERGED,
    NORMAL,
    OF_ONE_DTYPE,
    OVER_ROWS,
    chained,
    recorded,
    staged,
)

from tinygrad_rnn import nn, ops
from tinygrad_rnn.compiler.ir.dump import Dump
from tinygrad_rnn.compiler.ir.value import Value
from tinygrad_rnn.compiler.passes import pipeline
from tinygrad_rnn.compiler.passes.pipeline import Pass

COMMON, NUMPY = pipeline.COMMON, table.NUMPY


@pytest.fixture(autouse=True)
def verified(monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VERIFY", "1")


def run(formula, *passes):
    pipeline.run(passes, recorded(formula), "a formula", Dump(""))


def broken(path, old, new):
    """The names of a module of the compiler one line of which is broken."""
    original = importlib.import_module(f"tinygrad_rnn.compiler.{path}")
    source = pathlib.Path(original.__file__).read_text()
    assert source.count(old) == 1, "the line has changed: break it anew"
    module = types.ModuleType(original.__name__)
    exec(compile(source.replace(old, new), original.__file__, "exec"), vars(module))
    return module


# of each: the pass, its module, a line of it, what it is broken to, a formula that shows it, and the passes before it
MUTATIONS = {
    "x / k as x · k": (
        "simplify", "passes.simplify", 'float(k) if a.op == "mul" else 1 / float(k)', "float(k)",
        ALGEBRA["a division is a factor"][0], COMMON[:1]),
    "a factor out of a sum without its axis": (
        "simplify", "passes.simplify", 'if x.op not in ("mul", "div") or not v.static["keepdims"]:',
        'if x.op not in ("mul", "div"):', KEPT["a row of as many as there are"], COMMON[:1]),
    "Σ (a / g) as linear in g": (
        "normalise", "passes.normalise", 'g.op in ("div", "put")', 'g.op in ("put",)',
        NORMAL["a total of what is divided"][0], ()),
    "a cast of whole numbers out of a sum": (
        "normalise", "passes.normalise", "return moving[0] if a == b or rounds else None", "return moving[0]",
        NORMAL["a total of a mask as numbers"][0], ()),
    "a sum of masks as one of numbers": (
        "reassociate", "passes.reassociate", 'return v.dtype.kind == "f" and all(', "return all([]) or bool(",
        lambda x, h, r, o: (ops.tanh(h) + (x > 0)) + (x > 0.5), COMMON[:1]),
    "a quotient upside down": (
        "reassociate", "passes.reassociate", 'c.make("div", 1, args[1])', 'c.make("div", args[1], 1)',
        CHAINS["a quotient"][0], COMMON[:1]),
    "siblings of which one is computed from the other": (
        "merge_reductions", "passes.merge_reductions", "if self._independent(run):", "if True:",
        chained, (*COMMON, *NUMPY[:2])),
    "columns of the wrong gate": (
        "merge_products", "passes.merge_products", "lo = sum(g.shape[-1] for g in group[: group.index(v)])", "lo = 0",
        MERGED["products of one operand"][0], COMMON),
    "a pack that needs the sum which it is for": (
        "merge_products", "passes.merge_products", "or not self.open_sums.isdisjoint(self.c.order(whole))", "",
        staged, COMMON),
    "columns of the wrong operation": (
        "merge_elementwise", "passes.merge_elementwise", "lo = sum(r.shape[-1] for r in run[: run.index(v)])", "lo = 0",
        lambda x, h, r, o: ops.tanh(h @ o["U"]) * ops.tanh(h @ o["V"]) + h, (*COMMON, *NUMPY[:1])),
    "a copy of another weight": (
        "copy_transposed", "passes.copy_transposed", 'c.make("copy", args[1])', 'c.make("copy", args[1].args[0])',
        COPIED["in a loop"][0], ()),
    "no row without numbers": (
        "lower_softmax", "passes.lower_softmax", 'c.make("equal", total, 0.0), 1.0, total)',
        'c.make("equal", total, 0.0), total, total)',
        lambda x, h, r, o: ops.softmax(ops.where(h > 0, -np.inf, h), 0) + x, ()),
    "masks added by and": (
        "one_dtype", "llvm.one_dtype", '"add": "logical_or"', '"add": "logical_and"',
        OF_ONE_DTYPE["masks added"][0], ()),
    "the largest of the others": (
        "sum_rows", "passes.sum_rows", 'c.make("sum", x, axis=others', 'c.make("max", x, axis=others',
        OVER_ROWS["a bias of channels"][0], ()),
}  # fmt: skip


@pytest.mark.parametrize("name, path, old, new, formula, before", MUTATIONS.values(), ids=MUTATIONS)
def test_a_broken_line_is_caught_and_its_pass_named(name, path, old, new, formula, before):
    wrong = getattr(broken(path, old, new), name)
    more = {"by_activation": True} if name == "merge_products" else {}
    with pytest.raises((AssertionError, RecursionError)) as caught:
        run(formula, *before, Pass(name, lambda c: wrong(c, **more)))
    assert f"pass {name}" in "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_every_pass_is_broken_once():
    names = {p.name for passes in (COMMON, NUMPY, table.LLVM) for p in passes}
    assert names == {name for name, *_ in MUTATIONS.values()}


# ---- what is well formed ---------------------------------------------------------------------------------------------


def y_of(c):
    return c.roots["y"][0]


def another_shape(c):
    y_of(c).shape = (9, 9)


def another_dtype(c):
    y_of(c).dtype = np.dtype("float32")


def stays(c):
    y_of(c).moves = False


def read_before_it_is_made(c):
    y_of(c).index = 0


def another_input(c):
    c.roots["y"] = [c.make("add", y_of(c), c.input("stray", y_of(c).shape, "float64", moves=True))]


def state_of_another_shape(c):
    c.roots["state"][1] = c.make("concat", c.states[1], c.states[1], axis=1)


def no_result(c):
    c.roots["y"] = [None]


def fewer_results(c):
    c.roots["y"] = []


ILL = {"of its arguments follows": another_shape, "float32": another_dtype, "does not move": stays,
       "is made later": read_before_it_is_made, "is no input": another_input, 
       "at the next step": state_of_another_shape, "y\\[0\\] was something": no_result}  # fmt: skip


@pytest.mark.parametrize("reason, change", ILL.items(), ids=[f.__name__ for f in ILL.values()])
def test_an_ill_formed_circuit_is_refused(reason, change):
    def spoil(c):
        c.rebuild(lambda v, new: Value(v.op, tuple(map(new, v.args)), v.static, v.shape, v.dtype, v.moves, v.primitive))
        change(c)

    with pytest.raises(AssertionError, match=f"a formula: pass spoil is wrong: .*{reason}"):
        run(lambda x, h, r, o: ops.tanh(h @ o["W"]) * x, Pass("spoil", spoil))


def test_the_same_circuit_is_verified_once(monkeypatch):
    counted = []
    formula = lambda x, h, r, o: ops.tanh(h @ o["W"]) * x * 1.75
    count = Pass("count", lambda c: counted.append(c))
    from tinygrad_rnn.compiler.ir import verify

    made = verify.Verifier
    monkeypatch.setattr(verify, "Verifier", lambda *a: (counted.append("verified"), made(*a))[1])
    run(formula, count)
    run(formula, count)
    assert counted.count("verified") == 1
    run(formula, count, COMMON[0])
    assert counted.count("verified") == 2


def test_nothing_is_verified_unless_asked_for(monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_VERIFY", "0")
    run(lambda x, h, r, o: h * x * 1.25, Pass("wrong", lambda c: c.roots.update(y=[c.x])))


def test_a_wrong_pass_stops_the_compiler(monkeypatch):
    wrong = Pass("simplify", lambda c: c.roots.update(y=[c.make("neg", y_of(c))]))
    monkeypatch.setattr(pipeline, "COMMON", (pipeline.COMMON[0], wrong))
    rnn = nn.Recurrent(nn.GRUCell(2, 3), engine="numpy")
    with pytest.raises(AssertionError, match=r"GRUCell: pass simplify is wrong: y\[0\] was .*, is "):
        rnn(np.ones((4, 2, 2), np.float32))
