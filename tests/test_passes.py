"""Each pass by itself: what it makes of what, what it leaves alone, and that no number changes."""

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import ops
from tinygrad_rnn.autograd.graph import context
from tinygrad_rnn.compiler.ir.listing import INFIX
from tinygrad_rnn.compiler.ir.value import PRIMITIVES, Value
from tinygrad_rnn.compiler.ir.verify import Verifier
from tinygrad_rnn.compiler.llvm.pipeline import PASSES as LLVM
from tinygrad_rnn.compiler.numpy.pipeline import PASSES as NUMPY
from tinygrad_rnn.compiler.passes.normalise import OF_ZEROS
from tinygrad_rnn.compiler.passes.pipeline import COMMON
from tinygrad_rnn.compiler.record.record import record
from tinygrad_rnn.compiler.schedule.schedule import NotFusable

normalise, simplify, reassociate = COMMON
merge_products, merge_elementwise, merge_reductions, copy_transposed = NUMPY
lower_softmax, one_dtype, sum_rows, merge_products_in_order = LLVM

B, N = 3, 4


# ---- circuits of a formula, their values, and how they are written ---------------------------------------------------


def tensors():
    """What a formula can read besides x, h and r: weights, rows, a mask of what is the same at every step."""
    rng = np.random.default_rng(0)
    shapes = {"U": (N, N), "V": (N, N), "W": (N, N), "Q": (1, N), "w": (N,), "b": (N,)}
    made = {name: tg.tensor(rng.standard_normal(shape), requires_grad=True) for name, shape in shapes.items()}
    return made | {"m": tg.tensor(rng.standard_normal((B, N)) > 0), "n": tg.tensor(rng.integers(1, 4, (B, N)))}


def recorded(formula):
    """The circuit of y = formula(x, h, r, own), whose new h is y; r (B, 1) moves too."""
    own = tensors()
    names = {id(t): name for name, t in own.items()}
    stand_ins = [tg.tensor(np.zeros((B, k))) for k in (N, N, 1)]
    names |= {id(stand_ins[1]): "h", id(stand_ins[2]): "r"}

    def step(x, states):
        y = formula(x, *states, own)
        y = y if isinstance(y, tuple) else (y,)
        return list(y), [y[0] if y[0].shape == (B, N) else ops.tanh(states[0] * 1.5 + y[0].sum()), ops.tanh(states[1])]

    return record(step, stand_ins[0], stand_ins[1:], names=names, backward=False)[0]


def total(t):
    """Σ over the steps, as derivative rules say it of what is the same at every step."""
    trace = context.trace
    return trace.symbol(trace.circuit.make("tsum", trace.value(t)))


def zeros():
    """What derivative rules send where no gradient comes."""
    return context.trace.symbol(context.trace.circuit.zeros((B, N), np.float64))


def raw(op, *args):
    """An operation on operands of two dtypes, which the library's own would bring to one before."""
    trace = context.trace
    return trace.symbol(trace.circuit.make(op, *map(trace.value, args)))


def written(v):
    """A value as a formula."""
    if not isinstance(v, Value):
        return f"{v:g}" if isinstance(v, float) else str(v)
    args = [written(a) for a in v.args]
    if v.op == "input":
        return v.name
    if v.op in INFIX:
        return f"({f' {INFIX[v.op]} '.join(args)})"
    if v.op == "part":
        return f"{args[0]}[{v.static['lo']}:{v.static['hi']}{',' * (v.static['axis'] == -2)}]"
    if v.op == "permute" and v.static["axes"] == (1, 0):
        return f"{args[0]}.T"
    more = [
        f"{k}={x}" for k, x in v.static.items() if k in ("axis", "times", "parts", "shape") or (k == "keepdims" and x)
    ]
    return f"{v.op}({', '.join([*args, *more])})"


def rewritten(formula, *passes):
    """y after passes over its circuit, as a formula; each must leave it well formed, and every number what it was."""
    c = recorded(formula)
    verifier = Verifier(c, "a formula")
    for each in passes:
        each.run(c)
        verifier.check(c, each.name)
    y = written(c.roots["y"][0])
    return y.removeprefix("(").removesuffix(")") if c.roots["y"][0].op in INFIX else y


S = lambda t: ops.sum(t, -1, keepdims=True)

# ---- algebra: (formula of x, h, r and own tensors) -> what it becomes ------------------------------------------------

ALGEBRA = {
    "numbers are one": (lambda x, h, r, o: (h * 2) * 3, "h * 6"),
    "a division is a factor": (lambda x, h, r, o: (h / 2) * 3, "h * 1.5"),
    "of a product": (lambda x, h, r, o: (h * 3) / 2, "h * 1.5"),
    "two divisions": (lambda x, h, r, o: h / 2 / 4, "h * 0.125"),
    "numbers that undo each other": (lambda x, h, r, o: (h / 2) * 2, "h"),
    "a sign": (lambda x, h, r, o: (-h) * x, "neg((h * x))"),
    "one of two signs": (lambda x, h, r, o: (-h) * (-x), "neg((h * neg(x)))"),
    "a sign of a quotient": (lambda x, h, r, o: (-h) / x, "neg((h / x))"),
    "a sign and a number": (lambda x, h, r, o: (-h) * 2, "h * -2"),
    "plus minus": (lambda x, h, r, o: h + (-x), "h - x"),
    "minus minus": (lambda x, h, r, o: h - (-x), "h + x"),
    "twice": (lambda x, h, r, o: (x + h) + h, "x + (h * 2)"),
    "a number where it costs least": (lambda x, h, r, o: ((h * r) * 3) * 2, "h * (r * 6)"),
    "a number of a quotient": (lambda x, h, r, o: ((r / h) * 3) * 2, "(r * 6) / h"),
    "a sum of negatives": (lambda x, h, r, o: S(-h) + x, "neg(sum(h, axis=(1,), keepdims=True)) + x"),
    "a factor of a sum": (lambda x, h, r, o: S(h * r) + x, "(sum(h, axis=(1,), keepdims=True) * r) + x"),
    "a divisor of a sum": (lambda x, h, r, o: S(h / r) + x, "(sum(h, axis=(1,), keepdims=True) / r) + x"),
    "a quotient that is there": (lambda x, h, r, o: (h / r) * x + h * ops.tanh(r),
                                 "((h / r) * x) + ((h / r) * (tanh(r) * r))"),
}  # fmt: skip
KEPT = {
    "a sum without its axis": lambda x, h, r, o: (h * r).sum(-1)[:, None] + x,
    "a row of as many as there are": lambda x, h, r, o: (h[:, :B] * o["w"][:B]).sum(-1)[:, None] + x,
    "a dividend of a sum": lambda x, h, r, o: S(r / (h * h + 1)) + x,
    "a factor of whole rows": lambda x, h, r, o: S(h * x) + x,
    "a row for all": lambda x, h, r, o: S(h * o["w"]) + x,
    "a column of a mask": lambda x, h, r, o: S(raw("mul", h > 0, r)) + x,
    "a mask with numbers": lambda x, h, r, o: raw("mul", raw("mul", h > 0, 0.5), 2.0) * x,
    "integers with numbers": lambda x, h, r, o: raw("mul", raw("mul", o["n"] * (h > 0), 0.5), 2.0) + x,
    "a sum that others read": lambda x, h, r, o: S(h * r) + h * r,
    "a remainder that is zero": lambda x, h, r, o: (h * 0) * 3 + x,
}


@pytest.mark.parametrize("formula, after", ALGEBRA.values(), ids=ALGEBRA)
def test_algebra_takes_out_signs_and_numbers(formula, after):
    assert rewritten(formula, normalise, simplify) == after


@pytest.mark.parametrize("formula", KEPT.values(), ids=KEPT)
def test_algebra_leaves_alone_what_it_must(formula):
    before = rewritten(formula, normalise)
    assert rewritten(formula, normalise, simplify) == before


# ---- normal form -----------------------------------------------------------------------------------------------------

NORMAL = {
    "columns of a product": (lambda x, h, r, o: (x @ o["U"])[:, :2] + h[:, :2], "(x @ U[0:2]) + h[0:2]"),
    "columns of a sum": (lambda x, h, r, o: (x @ o["U"] + o["b"])[:, 1:3] * 1, "((x @ U[1:3]) + b[1:3]) * 1"),
    "columns of columns": (lambda x, h, r, o: h[:, 1:][:, :2] + 1, "h[1:3] + 1"),
    "a product of joined rows": (lambda x, h, r, o: ops.concat([x[:, :2], h[:, 2:]], 1) @ o["U"],
                                 "(x[0:2] @ U[0:2,]) + (h[2:4] @ U[2:4,])"),
    "joined weights": (lambda x, h, r, o: (x @ ops.concat([o["U"], o["V"]], 1))[:, 2:6] + 1,
                       "pack(((x @ U[2:4]) + 1), ((x @ V[0:2]) + 1))"),
    "an operation on joined columns": (lambda x, h, r, o: ops.tanh(ops.concat([x, h], 1)), "pack(tanh(x), tanh(h))"),
    "joined neighbours": (lambda x, h, r, o: ops.concat([h[:, :2], h[:, 2:]], 1) + 1, "h + 1"),
    "zeros in a choice": (lambda x, h, r, o: ops.where(h > 0, zeros(), 0) + x, "x"),
    "turned twice": (lambda x, h, r, o: h.T.T + 1, "h + 1"),
    "a cast to what it is": (lambda x, h, r, o: h.astype("float64") + 1, "h + 1"),
    "reshaped and back": (lambda x, h, r, o: h.reshape(B, 1, N).reshape(B, N) + 1, "h + 1"),
    "an Einstein sum": (lambda x, h, r, o: ops.einsum("bi,ij->bj", h, o["W"]), "h @ W"),
    "a total of a sign": (lambda x, h, r, o: total(-(h @ o["W"])) + x, "neg((tsum(h) @ W)) + x"),
    "a total of a product with what stays": (lambda x, h, r, o: total(h * o["w"]) + x, "(tsum(h) * w) + x"),
    "a total of a quotient by what stays": (lambda x, h, r, o: total(h / o["w"]) + x, "(tsum(h) / w) + x"),
    "a total of what is divided": (lambda x, h, r, o: total(o["w"] / (h * h + 1)) + x, "tsum((w / ((h * h) + 1))) + x"),
    "a total of moving values": (lambda x, h, r, o: total(h * x) + x, "tsum((h * x)) + x"),
    "a total of a mask": (lambda x, h, r, o: total(raw("mul", h > 0, o["w"])) + x, "tsum(((h > 0) * w)) + x"),
    "a total of a mask as numbers": (lambda x, h, r, o: total((h > 0).astype("float64")) + x,
                                     "tsum(cast((h > 0))) + x"),
    "a total of whole numbers": (lambda x, h, r, o: total((o["n"] * (h > 0)).astype("float64")) + x,
                                 "tsum(cast((n * (h > 0)))) + x"),
    "an Einstein sum of a mask": (lambda x, h, r, o: ops.einsum("bi,ij->bj", h > 0, o["W"]), "cast((h > 0)) @ W"),
    "an Einstein sum of masks": (lambda x, h, r, o: ops.einsum("bi,bi->b", h > 0, x > 0)[:, None] * x,
                                 "getitem(einsum((h > 0), (x > 0))) * x"),
}  # fmt: skip


@pytest.mark.parametrize("formula, after", NORMAL.values(), ids=NORMAL)
def test_the_normal_form_of(formula, after):
    assert rewritten(formula, normalise) == after


# ---- chains ----------------------------------------------------------------------------------------------------------

CHAINS = {
    "what is known early comes first": (lambda x, h, r, o: (h @ o["W"] + x @ o["U"]) + o["b"],
                                        "((x @ U) + b) + (h @ W)"),
    "of a product": (lambda x, h, r, o: (ops.tanh(h) * x) * o["w"], "(x * w) * tanh(h)"),
    "an activation's derivative": (lambda x, h, r, o: h - h * x * x, "h * (1 - (x * x))"),
    "a quotient": (lambda x, h, r, o: ops.tanh(h) / (x * x + 1), "tanh(h) * (1 / ((x * x) + 1))"),
    "masks": (lambda x, h, r, o: (ops.tanh(h) + (x > 0)) + (x > 1), "(tanh(h) + (x > 0)) + (x > 1)"),
    "a part where a mask says": (lambda x, h, r, o: h - h * o["m"], "h - (h * m)"),
    "whole numbers": (lambda x, h, r, o: (ops.tanh(h) * o["n"]) * (x > 0), "(tanh(h) * n) * (x > 0)"),
    "a product that others read": (lambda x, h, r, o: (h - h * x * x) + 0.1 * S(h * x * x),
                                   "(h - ((x * x) * h)) + (0.1 * sum(((x * x) * h), axis=(1,), keepdims=True))"),
}  # fmt: skip


@pytest.mark.parametrize("formula, after", CHAINS.values(), ids=CHAINS)
def test_a_chain_of_a_loop_becomes(formula, after):
    assert rewritten(formula, normalise, reassociate) == after


# ---- merging ---------------------------------------------------------------------------------------------------------

MERGED = {
    "products of one operand": (lambda x, h, r, o: ops.tanh(h @ o["U"]) * ops.tanh(h @ o["V"]), "(h @ pack(U, V))"),
    "terms of one sum": (lambda x, h, r, o: (ops.tanh(h) @ o["U"].T + ops.sigmoid(h) @ o["V"].T) + x, "@ pack("),
    "a column among the terms": (lambda x, h, r, o: ops.tanh(h) @ o["Q"].T + ops.sigmoid(h) @ o["V"].T,
                                 "sigmoid(h) @ V.T"),
    "a product of a mask": (lambda x, h, r, o: h @ o["U"] + (h > 0) @ o["V"], "((h > 0) @ V)"),
    "elementwise siblings": (lambda x, h, r, o: ops.tanh(h @ o["U"]) * ops.tanh(h @ o["V"]), "tanh((h @ pack(U, V)))"),
    "siblings with rows of two dtypes": (lambda x, h, r, o: ((h @ o["U"]) * o["m"]) * ((h @ o["V"]) * o["n"]), "* m)"),
}  # fmt: skip


def staged(x, h, r, o):
    """A sum of products of d and e, and a longer one of d, e and what is computed from the first."""
    d, e = ops.tanh(h), ops.sigmoid(h)
    f = ops.tanh(d @ o["U"].T + e @ o["V"].T)
    return d @ o["W"].T + e @ o["U"].T + f @ o["V"].T


MERGED["terms of a sum that another one reads"] = (staged, "@ pack(")


@pytest.mark.parametrize("formula, part", MERGED.values(), ids=MERGED)
def test_merging_makes(formula, part):
    assert part in rewritten(formula, normalise, merge_products, merge_elementwise)


def norms(x, h, r, o, later=False):
    """Two centred gates side by side; later: the second is computed from the first."""
    p, q = h @ o["U"], h @ o["V"]
    a = p - S(p) / N
    b = (q * ops.tanh(a) if later else q) - S(q) / N
    return ops.tanh(a) * ops.tanh(b)


def chained(x, h, r, o):
    """Two products side by side whose second operand is, in the second one, computed from the first."""
    p, q = h @ o["U"], h @ o["V"]
    a = p * ops.tanh(h)
    b = q * ops.tanh(a)
    return (a + b) / (1 + S(a * a) + S(b * b))


ALL = (*COMMON, *NUMPY)


REDUCED = {
    "one sum": (lambda x, h, r, o: S(h) * x, "sums(h, parts=1) * x"),
    "a mean": (lambda x, h, r, o: S(h) / N + x, "sums(h, parts=1) + x"),
    "a sum of products": (lambda x, h, r, o: S(h * x) + x, "dots(h, x, parts=1) + x"),
    "halves": (lambda x, h, r, o: S(h[:, :2]) * S(h[:, 2:]) + x, "(sums(h, parts=2)[0:1] * sums(h, parts=2)[1:2]) + x"),
    "halves centred": (lambda x, h, r, o: ops.concat([h[:, :2] - S(h[:, :2]), h[:, 2:] - S(h[:, 2:])], 1),
                       "h - spread(sums(h, parts=2), times=2)"),
}  # fmt: skip


@pytest.mark.parametrize("formula, after", REDUCED.values(), ids=REDUCED)
def test_sums_of_rows_become(formula, after):
    assert rewritten(formula, normalise, merge_reductions) == after


def test_norms_side_by_side_are_one_sum():
    assert "sums((h @ pack(U, V)), parts=2)" in rewritten(norms, *ALL)


@pytest.mark.parametrize("formula", [chained, lambda *a: norms(*a, later=True)], ids=["chained", "norms"])
def test_what_is_computed_from_its_sibling_is_not_merged_with_it(formula):
    rewritten(formula, *ALL)


def test_a_sum_of_one_thing_twice_is_no_product_of_repetitions():
    twice = lambda x, h, r, o: S(ops.concat([h, h], 1) * ops.concat([h, h], 1)) + S(ops.tanh(h)) + x
    assert "dots(splat" not in rewritten(twice, *ALL)


# ---- what one backend wants ------------------------------------------------------------------------------------------

COPIED = {
    "in a loop": (lambda x, h, r, o: h @ o["W"].T + x, "(h @ copy(W.T)) + x"),
    "in the order of the product": (lambda x, h, r, o: h @ o["W"] + x, "(h @ W) + x"),
    "the same at every step": (lambda x, h, r, o: h * (o["w"] + (o["U"] @ o["W"].T).sum(0)),
                               "h * (w + sum((U @ W.T), axis=(0,)))"),
}  # fmt: skip


@pytest.mark.parametrize("formula, after", COPIED.values(), ids=COPIED)
def test_a_transposed_weight_is_copied(formula, after):
    assert rewritten(formula, copy_transposed) == after


ROWS = {"softmax": ops.softmax, "log_softmax": ops.log_softmax, "logsumexp": ops.logsumexp}
GIVEN = {"numbers": lambda h: h, "minus infinities": lambda h: ops.where(h > 0, -np.inf, h), "a mask": lambda h: h > 0}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("what", GIVEN)
def test_softmax_and_its_likes_become_operations_of_a_loop(name, what):
    made = rewritten(lambda x, h, r, o: ROWS[name](GIVEN[what](h), 0) + x, lower_softmax)
    assert name not in made and "exp(" in made and "max(" in made


@pytest.mark.parametrize("keep", [False, True])
def test_logsumexp_keeps_its_axis_if_it_is_to(keep):
    made = rewritten(lambda x, h, r, o: ops.logsumexp(h, 0, keepdims=keep) + x, lower_softmax)
    assert ("reshape" in made) != keep


def test_a_softmax_of_what_stays_is_computed_once_as_it_is():
    assert rewritten(lambda x, h, r, o: ops.softmax(o["W"], 0) @ h.T, lower_softmax) == "softmax(W, axis=(0,)) @ h.T"


OF_ONE_DTYPE = {
    "masks multiplied": (lambda x, h, r, o: raw("mul", h > 0, x > 0) * x, "((h > 0) & (x > 0)) * x"),
    "masks added": (lambda x, h, r, o: raw("add", h > 0, x > 0) * x, "((h > 0) | (x > 0)) * x"),
    "a mask in a product": (lambda x, h, r, o: raw("mul", h > 0, x), "(h > 0) * x"),
    "whole numbers": (lambda x, h, r, o: raw("mul", h, o["n"]) + x, "(h * cast(n)) + x"),
    "a condition of numbers": (lambda x, h, r, o: raw("where", o["n"], h, x), "where(cast(n), h, x)"),
    "a mask times a matrix": (lambda x, h, r, o: (h > 0) @ o["W"] + x, "(cast((h > 0)) @ W) + x"),
    "the largest of a mask": (lambda x, h, r, o: ops.where(ops.max(h > 0, 0), h, x),
                              "where((max(cast((h > 0)), axis=(0,)) != 0), h, x)"),
}  # fmt: skip


@pytest.mark.parametrize("formula, after", OF_ONE_DTYPE.values(), ids=OF_ONE_DTYPE)
def test_one_dtype_is_made_of(formula, after):
    assert rewritten(formula, one_dtype) == after


cubes = lambda h: h.reshape(B, 2, 2)
OVER_ROWS = {
    "a bias of channels": (lambda x, h, r, o: total(cubes(h).sum((0, 2))) * r[:1],
                           "reshape(tsum(sum(sum(reshape(h, shape=(3, 2, 2)), axis=(2,)), axis=(0,))), shape=(2,))"),
    "one that keeps its axes": (
        lambda x, h, r, o: total(cubes(h).sum((0, 1), keepdims=True)) * r[:1],
        "reshape(tsum(sum(sum(reshape(h, shape=(3, 2, 2)), axis=(1,)), axis=(0,))), shape=(1, 1, 2))"),
    "a bias of elements": (
        lambda x, h, r, o: total(cubes(h).sum(0)) * r[:1],
        "reshape(tsum(sum(reshape(reshape(h, shape=(3, 2, 2)), shape=(3, 4)), axis=(0,))), shape=(2, 2))"),
    "rows": (lambda x, h, r, o: total(h.sum(0)) * r[:1], "tsum(sum(h, axis=(0,)))"),
    "not over the batch": (lambda x, h, r, o: total(cubes(h).sum((1, 2))) * r[:1],
                           "tsum(sum(reshape(h, shape=(3, 2, 2)), axis=(1, 2)))"),
}  # fmt: skip


@pytest.mark.parametrize("formula, after", OVER_ROWS.values(), ids=OVER_ROWS)
def test_sums_over_the_batch_are_sums_of_rows(formula, after):
    assert rewritten(formula, sum_rows).partition(" * ")[0] == after


@pytest.mark.parametrize(
    "name", sorted(OF_ZEROS & {n for n, op in PRIMITIVES.items() if op.formula and op.args == ["x"]})
)
def test_what_is_taken_to_be_zero_of_zeros_is(name):
    assert (PRIMITIVES[name].forward(np.zeros(2)) == 0).all()


TWO_DTYPES = {
    "a count": (lambda x, h, r, o: S(h > 0) + x, "sum of int64"),
    "rounded": (lambda x, h, r, o: h.astype("float32").astype("float64") * x, "cast of float64 in a step of float32"),
}  # fmt: skip


@pytest.mark.parametrize("formula, reason", TWO_DTYPES.values(), ids=TWO_DTYPES)
def test_several_dtypes_are_refused(formula, reason):
    with pytest.raises(NotFusable, match=reason):
        rewritten(formula, one_dtype)


def test_gates_lie_by_activation_or_in_the_order_of_their_weight():
    gated = lambda x, h, r, o: ops.concat([ops.tanh(h @ o["W"][:, :2]), ops.sigmoid(h @ o["W"][:, 2:])], 1)
    assert "h @ pack(W[2:4], W[0:2])" in rewritten(gated, normalise, merge_products)
    assert "h @ W)" in rewritten(gated, normalise, merge_products_in_order)


@pytest.mark.parametrize(
    "formula", [f for f, _ in {**ALGEBRA, **NORMAL, **CHAINS, **MERGED}.values()] + list(KEPT.values())
)
def test_all_passes_one_after_the_other_change_no_value(formula):
    rewritten(formula, *ALL)
