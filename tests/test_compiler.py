"""Compiled steps: under every engine, every cell computes what it does eagerly, to rounding, and its gradients too."""

import copy
import functools
import gc
import importlib.util
import itertools
import pickle
import random
import re
import threading
import tracemalloc

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cells import CELLS, H, I, Nested
from comparing import some
from comparing import values as numbers
from hypothesis import given, settings
from odd_cells import LOOSE, ODD, STRANGE, Attention, BatchMean, EinsumAttention, Leaky, Masked, Odd, random_cells

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim
from tinygrad_rnn.autograd import nest

T, B = 5, 4
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}  # relative to the largest element of an array
RAGGED = [T, 0, 2, 3]
ALL: dict[str, Callable[[], nn.Cell]] = {**{name: case.make for name, case in CELLS.items()}, **ODD}

without_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
# "compiled" is "llvm", and "numpy" where that cannot run a step
COMPILED = pytest.param("compiled", id="llvm", marks=without_llvmlite)
every_engine = pytest.mark.parametrize("engine", ["numpy", COMPILED])
one_engine = pytest.mark.parametrize("engine", [pytest.param("numpy", marks=pytest.mark.slow), COMPILED])  # each day
some_cells = pytest.mark.parametrize("name", ["LSTM", "nested state", "attention to a state", "written memory"])


# ---- running a case and comparing ------------------------------------------------------------------------------------


def made(cell, engine, dtype="float64", seed=0, **options):
    """A Recurrent with random parameters, the same for each engine. cell: a name in the tables, or what makes a cell"""
    cell = ALL[cell]() if isinstance(cell, str) else cell()
    rnn = nn.Recurrent(cell, engine=engine, **options).to(dtype)
    rng = np.random.default_rng(seed)
    for p in rnn.parameters():
        p.data = rng.standard_normal(p.shape) * 0.7
    return rnn


@functools.cache
def _shared(cell, engine, **options):
    tg.manual_seed(7)
    return made(cell, engine, **options)


def shared(name, engine, **options):
    """As `made`, but one for all tests of a cell that leave it as it was but for its parameters: it compiles once."""
    rnn, new = _shared(name, engine, **options), made(name, "eager")
    for p, first in zip(rnn.parameters(), new.parameters(), strict=True):
        p.data, p.grad = first.data, None
        p.requires_grad_(first.requires_grad)
    return rnn


def drawing(seed, dtype="float64"):
    """A function that draws random leaves of any shape."""
    rng = np.random.default_rng(seed)
    return lambda *shape: tg.tensor(np.asarray(rng.standard_normal(shape)).astype(dtype), requires_grad=True)


def sequence(steps=T, batch=B, size=I, seed=1):
    return drawing(seed)(steps, batch, size)


def random_state(cell, batch_size, seed=2):
    """A state as the cell's initial one, of random values; those that can ask for gradients do."""
    rng = np.random.default_rng(seed)

    def draw(like):
        if not isinstance(like, tg.Tensor):
            return like
        if like.dtype.kind != "f":
            return tg.tensor(rng.integers(0, 2, like.shape).astype(like.dtype))
        return tg.tensor(np.asarray(0.5 * rng.standard_normal(like.shape)).astype(like.dtype), requires_grad=True)

    return nest.map_leaves(draw, cell.initial_state(batch_size))


def weighted(tensors, seed=3):
    """Σ by fixed random weights over what asks for a gradient, or None."""
    rng = np.random.default_rng(seed)
    terms = [(t, np.asarray(rng.standard_normal(t.shape))) for t in tensors]
    terms = [(t * tg.tensor(w, t.dtype)).sum().astype("float64") for t, w in terms if t.requires_grad]
    return sum(terms) if terms else None


def tensors(state, name="state"):
    """The tensors of a state by names that tell its whole structure."""
    leaves = {f"{name}[{i}] of {nest.describe(state)}": t for i, t in enumerate(nest.leaves(state))}
    return {key: t for key, t in leaves.items() if isinstance(t, tg.Tensor)}


def gradients(loss, sources, **options):
    """d loss / d source, by name, for the sources that ask for a gradient; zeros where there is no loss."""
    sources = {key: t for key, t in sources.items() if t.requires_grad}
    if not sources:
        return {}
    if loss is None:
        found = [t.detach() * 0 for t in sources.values()]
    else:
        found = tg.grad(loss, list(sources.values()), allow_unused=True, **options)
    return {f"gradient of {key}": g for key, g in zip(sources, found, strict=True)}


def values(named):
    return {key: t.numpy() for key, t in named.items()}


def outcome(rnn, xs, state=None, lengths=None, captured=None):
    """What a call gives: outputs, last state, and all gradients of a weighted sum of them; arrays by name."""
    ys, last = rnn(xs, state, lengths)
    results = {"ys": ys, **tensors(last)}
    sources = {"xs": xs, **tensors(state, "first state"), **(captured or {}), **dict(rnn.named_parameters())}
    return values(results | gradients(weighted(results.values()), sources))


def updated(rnn, seed=4):
    """A step of an optimiser, and new values for what is not trained."""
    rng = np.random.default_rng(seed)
    for p in rnn.parameters():
        noise = tg.tensor(np.asarray(rng.standard_normal(p.shape)), p.dtype)
        if p.requires_grad:
            p.grad = noise
        else:
            p.data = p.data - 0.1 * noise.numpy()
    optim.SGD(rnn.parameters(), lr=0.1).step()
    rnn.zero_grad()


def close(found, expected, rtol=TOLERANCE["float64"]):
    assert found.keys() == expected.keys()
    for name, e in expected.items():
        f, e = numbers(found[name]), numbers(e)
        assert (f.shape, f.dtype) == (e.shape, e.dtype), name
        size = max(1.0, float(np.abs(e).max(initial=0)))
        error = float(np.abs(np.subtract(f, e, dtype=np.float64)).max(initial=0))
        assert error <= rtol * size, f"{name}: {error:.2g} away from what is at most {size:.2g} in size"


def equals_eager(play, cell, engine, rtol=TOLERANCE["float64"], *, make=None, **options):
    """play(rnn) -> arrays by name: the same for a Recurrent of this engine and for an eager one of the same weights.

    make: `made` where play changes more of the Recurrent than its parameters' values; a cell that has a name is
    `shared` otherwise
    """
    make = make or (shared if isinstance(cell, str) else made)
    results = []
    for rnn in of_seed_7(made, cell, "eager"), of_seed_7(make, cell, engine, **options):
        tg.manual_seed(7)
        results.append(play(rnn))
    expected, found = results
    assert any(np.any(e) for e in expected.values())
    close(found, expected, rtol)


def of_seed_7(make, *arguments, **options):
    """What a cell draws for itself when it is made is the same for each."""
    tg.manual_seed(7)
    return make(*arguments, **options)


# ---- every cell ------------------------------------------------------------------------------------------------------

SETTINGS = {"plain": (False, None), "lengths": (False, RAGGED), "state": (True, None), "both": (True, RAGGED)}


def history(rnn, dtype):
    """All settings, twice on one Recurrent with other inputs and with parameters that are updated in between."""
    found = {}
    tg.manual_seed(7)
    for turn in (1, 2):
        for setting, (with_state, lengths) in SETTINGS.items():
            draw = drawing(len(found), dtype)
            captured = rnn.cell.capture(B, draw) if isinstance(rnn.cell, Odd) else {}
            xs, state = draw(T, B, I), random_state(rnn.cell, B, seed=len(found)) if with_state else None
            for key, array in outcome(rnn, xs, state, lengths, captured).items():
                found[f"{setting}, turn {turn}: {key}"] = array
        updated(rnn)
    return found


eager_history = functools.cache(lambda name, dtype: history(made(name, "eager", dtype), dtype))


def rows_of_all(*each_day):
    """(name, engine, *more) for every cell; each_day: (i-th cell?, engine, *more), and all others are slow."""

    def row(i, name, chosen, engine, *more):
        marks = ([without_llvmlite] if engine == "compiled" else []) + [pytest.mark.slow] * (not chosen(i))
        said = [name, engine.replace("compiled", "llvm"), *more]
        return pytest.param(name, engine, *more, marks=marks, id="-".join(said))

    return [row(i, name, *each) for i, name in enumerate(ALL) for each in each_day]


# Each day each cell by one engine, and some of those that "numpy" runs by machine code in single precision too.
all_cells = rows_of_all(
    (lambda i: True, "compiled", "float64"),
    (lambda i: i % 2 == 1, "numpy", "float64"),
    (lambda i: i % 8 == 1, "compiled", "float32"),
    (lambda i: False, "numpy", "float32"),
)


@pytest.mark.parametrize("name, engine, dtype", all_cells)
def test_a_cell_equals_eager_in_values_and_gradients(name, dtype, engine):
    expected = eager_history(name, dtype)
    assert any(array.any() for key, array in expected.items() if "gradient" in key)
    rnn = made(name, engine, dtype)
    close(history(rnn, dtype), expected, TOLERANCE["float32" if name in LOOSE else dtype])
    assert_plan_names_the_engine(rnn, name, engine, drawing(0, dtype))


def assert_plan_names_the_engine(rnn, name, engine, draw):
    """It runs as it has run; for more steps it takes more memory."""
    plan = rnn.plan(draw(T, B, I))
    assert plan.engine == engine.replace("compiled", "llvm") if name in CELLS else plan.engine in ("numpy", "llvm")
    assert plan.engine in str(plan)
    assert 0 < plan.nbytes < rnn.plan(draw(10 * T, B, I)).nbytes


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_an_engine_that_is_left_to_the_library_equals_eager(engine):
    equals_eager(lambda rnn: outcome(rnn, sequence(), random_state(rnn.cell, B), RAGGED), "LSTM", engine)
    assert made("LSTM", "compiled").plan(sequence()).engine in ("numpy", "llvm")
    assert made("LSTM", "eager").plan(sequence()).engine == "eager"


@every_engine
@pytest.mark.parametrize("cell", STRANGE.values(), ids=STRANGE)
def test_a_strange_step_equals_eager_or_is_refused(cell, engine):
    def play(rnn):
        found = {}
        for seed in (1, 2):
            draw = drawing(seed)
            captured = rnn.cell.capture(B, draw)
            found |= {f"{key} {seed}": v for key, v in outcome(rnn, draw(T, B, I), captured=captured).items()}
        return found

    try:
        equals_eager(play, cell, engine)
    except (TypeError, ValueError, RuntimeError) as refusal:
        assert 'engine="eager"' in str(refusal)


@every_engine
def test_a_step_of_a_thousand_operations_equals_eager(engine):
    class Long(Odd):
        def forward(self, x, h):
            z = self.affine(x, h)
            for k in range(500):
                z = z * 0.999 + 0.001 * k / 500
            h = ops.tanh(z)
            return h, h

    equals_eager(lambda rnn: outcome(rnn, sequence(2), random_state(rnn.cell, B)), Long, engine)


# ---- sizes -----------------------------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("name", [*CELLS, "attention to a state", "written memory", "a state of one number", "slices"])
def test_any_number_of_steps_and_sequences_equals_eager(name, engine):
    """One Recurrent for all: they change between calls."""

    def play(rnn):
        found = {}
        for steps, batch in [(3, 2), (1, 2), (0, 2), (3, 1), (3, 0), (0, 0), (7, 2), (3, 2), (1, 1)]:
            state = random_state(rnn.cell, batch)
            for key, array in outcome(rnn, sequence(steps, batch), state).items():
                found[f"{steps} steps, batch {batch}: {key}"] = array
        return found

    equals_eager(play, name, engine)


@every_engine
@pytest.mark.parametrize(
    "inputs, units, batch", [(1, 1, 1), (5, 1, 3), (3, 3, 17), (17, 17, 1), (2, 33, 3), (33, 17, 33)]
)
@pytest.mark.parametrize(
    "cell", some([nn.LSTMCell, nn.GRUCell, Nested, Attention, BatchMean]), ids=lambda c: c.__name__
)
def test_sizes_that_are_no_multiple_of_a_vector_equal_eager(cell, inputs, units, batch, engine):
    def play(rnn):
        draw = drawing(1)
        captured = rnn.cell.capture(batch, draw) if isinstance(rnn.cell, Odd) else {}
        lengths = np.arange(batch) % 4
        return outcome(rnn, draw(3, batch, inputs), random_state(rnn.cell, batch), lengths, captured)

    equals_eager(play, lambda: cell(inputs, units), engine, rtol=1e-11)


# ---- lengths ---------------------------------------------------------------------------------------------------------

LENGTHS = [[5, 0, 2, 3], [5, 5, 5, 5], [0, 0, 0, 0], [1, 4, 4, 4]]


@every_engine
@some_cells
def test_lengths_that_change_between_calls_equal_eager(name, engine):
    def play(rnn):
        found, xs, state = {}, sequence(), random_state(rnn.cell, B)
        for lengths in [*LENGTHS, None, np.array(RAGGED, np.int32), tg.tensor(np.array(RAGGED))]:
            found |= {f"{lengths!r}: {key}": v for key, v in outcome(rnn, xs, state, lengths).items()}
        return found

    equals_eager(play, name, engine)


@every_engine
@pytest.mark.parametrize("name", some(["LSTM", "nested state", "attention to a state", "written memory"]))
@pytest.mark.parametrize("filler", [np.nan, np.inf, 1e300], ids=["NaN", "infinity", "large"])
def test_what_stands_behind_an_end_changes_nothing(name, filler, engine):
    clean, dirty = sequence().numpy(), sequence().numpy()
    for b, n in enumerate(RAGGED):
        dirty[n:, b] = filler
    rnn = shared(name, engine)
    run = lambda xs: outcome(rnn, tg.tensor(xs, requires_grad=True), random_state(rnn.cell, B), RAGGED)
    expected = run(clean)
    assert expected["gradient of xs"].any()
    close(run(dirty), expected, 0)


# ---- what the loss reads, and what asks for a gradient ---------------------------------------------------------------

LOSSES = {
    "only the outputs": lambda ys, last: weighted([ys]),
    "only the last state": lambda ys, last: weighted(last),
    "one leaf of the last state": lambda ys, last: weighted(last[-1:]),
    "only the last output": lambda ys, last: weighted([ys[-1]]),
    "two outputs in the middle": lambda ys, last: weighted([ys[1:3]]),
    "one number": lambda ys, last: ys[2, 1, 0],
    "outputs of one sequence": lambda ys, last: weighted([ys[:, 1]]),
    "the outputs' squares and the last state": lambda ys, last: (ys * ys).sum() + weighted(last) * ys.mean(),
}


@every_engine
@pytest.mark.parametrize("name", some(["LSTM", "nested state", "attention to a state", "written memory"]))
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_loss_of_a_part_of_the_results_equals_eager(loss, name, engine):
    def play(rnn):
        xs, state = sequence(), random_state(rnn.cell, B)
        ys, last = rnn(xs, state)
        sources = {"xs": xs, **tensors(state), **dict(rnn.named_parameters())}
        return values(gradients(loss(ys, nest.leaves(last)), sources))

    equals_eager(play, name, engine)


def only(*wanted):
    """Ask for gradients of these alone: "xs", "state", or the parts of parameters' names."""

    def play(rnn):
        xs, state = sequence(), random_state(rnn.cell, B)
        xs.requires_grad_("xs" in wanted)
        if "state" not in wanted:
            state = nn.detached(state)
        for name, p in rnn.named_parameters():
            p.requires_grad_(any(part in name for part in wanted if part not in ("xs", "state")))
        found = outcome(rnn, xs, state)
        assert sum("gradient" in key for key in found) >= 1
        return found

    return play


@every_engine
@pytest.mark.parametrize("cell", ["LSTM", "nested state", "layer norm", "learned first state"])
@pytest.mark.parametrize("wanted", [("xs",), ("state",), ("cell",), ("W", "x"), ("b",), ("xs", "state")], ids=" ".join)
def test_gradients_of_some_tensors_alone_equal_eager(wanted, cell, engine):
    equals_eager(only(*wanted), cell, engine)


@every_engine
@some_cells
def test_freezing_and_thawing_between_calls_equals_eager(name, engine):
    def play(rnn):
        parameters, found = list(rnn.parameters()), {}
        for turn, frozen in enumerate([[], parameters[:1], parameters, parameters[1:], []]):
            for p in parameters:
                p.requires_grad_(not any(p is f for f in frozen))
            found |= {f"{turn}: {key}": v for key, v in outcome(rnn, sequence(), random_state(rnn.cell, B)).items()}
        return found

    equals_eager(play, name, engine)


@every_engine
@some_cells
def test_inference_equals_eager_and_records_nothing(name, engine):
    def play(rnn):
        with tg.no_grad():
            ys, last = rnn(sequence(), random_state(rnn.cell, B), RAGGED)
        results = {"ys": ys, **tensors(last)}
        assert not any(t.requires_grad for t in results.values())
        return values(results) | outcome(rnn, sequence(seed=5))

    equals_eager(play, name, engine)


@every_engine
def test_results_ask_for_no_gradient_where_nothing_does(engine):
    def play(rnn):
        for p in rnn.parameters():
            p.requires_grad_(False)
        ys, last = rnn(sequence().detach())
        assert not any(t.requires_grad for t in (ys, *last))
        return values({"ys": ys, **tensors(last)})

    equals_eager(play, "LSTM", engine)


@every_engine
def test_a_parameter_that_is_used_nowhere_is_left_without_a_gradient(engine):
    def play(rnn):
        ys, _ = rnn(sequence())
        weighted([ys]).backward()
        assert rnn.cell.unused.grad is None
        return {name: p.grad.numpy() for name, p in rnn.named_parameters() if p.grad is not None}

    equals_eager(play, "unused parameter", engine)


# ---- calls and backward passes in any order --------------------------------------------------------------------------


@every_engine
@some_cells
@pytest.mark.parametrize("sizes", [[(T, B), (T, B)], [(T, B), (3, 2), (T, B)]], ids=["equal", "different"])
def test_several_calls_before_one_backward_equal_eager(sizes, name, engine):
    def play(rnn):
        sources, results = dict(rnn.named_parameters()), {}
        for seed, (steps, batch) in enumerate(sizes):
            sources[f"xs {seed}"], state = sequence(steps, batch, seed=seed), random_state(rnn.cell, batch, seed)
            sources |= tensors(state, f"first state {seed}")
            ys, last = rnn(sources[f"xs {seed}"], state)
            results |= {f"ys {seed}": ys, **tensors(last, f"last state {seed}")}
        return values(results | gradients(weighted(results.values()), sources))

    equals_eager(play, name, engine)


@every_engine
@some_cells
def test_backward_passes_in_the_other_order_equal_eager(name, engine):
    def play(rnn):
        calls = [(xs, rnn(xs)[0]) for xs in (sequence(seed=1), sequence(seed=2), sequence(seed=3))]
        found = {}
        for i in (1, 2, 0):
            xs, ys = calls[i]
            sources = {"xs": xs, **dict(rnn.named_parameters())}
            found |= {f"{i}: {key}": g for key, g in values(gradients(weighted([ys]), sources)).items()}
        return found

    equals_eager(play, name, engine)


@every_engine
@some_cells
@pytest.mark.parametrize("every", [None, 2], ids=["whole", "checkpointed"])
def test_backward_twice_through_a_retained_graph_equals_eager(every, name, engine):
    def play(rnn):
        xs, state = sequence(), random_state(rnn.cell, B)
        ys, last = rnn(xs, state)
        sources = {"xs": xs, **tensors(state), **dict(rnn.named_parameters())}
        first = values(gradients(weighted([ys]), sources, retain_graph=True))
        again = values(gradients(weighted([ys]), sources, retain_graph=True))
        close(again, first)
        return first | {f"other {key}": g for key, g in values(gradients(weighted(nest.leaves(last)), sources)).items()}

    equals_eager(play, name, engine, checkpoint_every=every)


@every_engine
def test_a_graph_that_was_freed_is_not_swept_again(engine):
    rnn = shared("LSTM", engine)
    ys, _ = rnn(sequence())
    loss = weighted([ys])
    loss.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        loss.backward()
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        weighted([ys], seed=5).backward()


@every_engine
@some_cells
def test_results_and_gradients_that_are_kept_stay_as_they_were(name, engine):
    rnn = shared(name, engine)

    def call(seed):
        xs, state = sequence(seed=seed), random_state(rnn.cell, B, seed)
        ys, last = rnn(xs, state)
        results = {"ys": ys, **tensors(last)}
        sources = {"xs": xs, **tensors(state, "first state"), **dict(rnn.named_parameters())}
        return results | gradients(weighted(results.values()), sources)

    kept = call(1)
    before = values(kept)
    assert any(array.any() for array in before.values())
    for seed in range(2, 6):
        call(seed)
        rnn(sequence(seed=seed), lengths=RAGGED)
    with tg.no_grad():
        rnn(sequence(seed=8))
    close(values(kept), before, 0)


@every_engine
@some_cells
def test_backward_uses_the_values_of_its_own_forward(name, engine):
    """Parameters get new values between the two."""

    def play(rnn):
        xs, state = sequence(), random_state(rnn.cell, B)
        ys, last = rnn(xs, state)
        loss = weighted([ys, *nest.leaves(last)])
        updated(rnn)
        rnn(sequence(seed=5))
        return values(gradients(loss, {"xs": xs, **tensors(state), **dict(rnn.named_parameters())}))

    equals_eager(play, name, engine)


@every_engine
@some_cells
def test_gradients_that_are_added_up_over_three_calls_equal_eager(name, engine):
    def play(rnn):
        for seed in (1, 2, 3):
            ys, last = rnn(sequence(seed=seed), lengths=RAGGED if seed == 2 else None)
            weighted([ys, *nest.leaves(last)]).backward()
        return {key: p.grad.numpy() for key, p in rnn.named_parameters() if p.grad is not None}

    equals_eager(play, name, engine)


@every_engine
@some_cells
def test_training_by_truncated_backpropagation_equals_eager(name, engine):
    def play(rnn):
        optimizer, state, found = optim.Adam(rnn.parameters(), lr=0.01), None, {}
        for chunk in range(5):
            ys, state = rnn(sequence(4, 3, seed=chunk), state)
            optimizer.zero_grad()
            loss = weighted([ys])
            loss.backward()
            optimizer.step()
            state = nn.detached(state)
            found[f"loss {chunk}"] = loss.numpy()
        return found | values(tensors(state)) | rnn.state_dict()

    equals_eager(play, name, engine, rtol=1e-9)


@every_engine
@some_cells
def test_a_sequence_in_two_calls_is_one_sequence(name, engine):
    rnn = shared(name, engine)
    xs, state = sequence(), random_state(rnn.cell, B)
    expected = outcome(rnn, xs, state)
    first, middle = rnn(xs[:2], state)
    second, last = rnn(xs[2:], middle)
    results = {"ys": ops.concat([first, second]), **tensors(last)}
    sources = {"xs": xs, **tensors(state, "first state"), **dict(rnn.named_parameters())}
    close(values(results | gradients(weighted(results.values()), sources)), expected)


# ---- as a part of something larger -----------------------------------------------------------------------------------


@every_engine
def test_both_directions_by_hand_equal_eager(engine):
    def play(engine):
        there, back, xs = made("LSTM", engine), made("GRU", engine, seed=5), sequence()
        ys = ops.concat([there(xs)[0], ops.flip(back(ops.flip(xs, 0))[0], 0)], axis=2)
        parameters = {**dict(there.named_parameters("there")), **dict(back.named_parameters("back"))}
        return values({"ys": ys, **gradients(weighted([ys]), {"xs": xs, **parameters})})

    close(play(engine), play("eager"))


@every_engine
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
def test_recurrents_on_top_of_each_other_equal_eager(lengths, engine):
    class Both(nn.Module):
        def __init__(self, engine):
            self.below = made("LSTM", engine)
            self.above = made(lambda: nn.GRUCell(H, H), engine, seed=6)

        def forward(self, xs):
            ys, _ = self.below(ops.tanh(xs), lengths=lengths)
            return self.above(ops.relu(ys) * 0.5, lengths=lengths)

    def play(model):
        xs = sequence()
        ys, last = model(xs)
        found = gradients(weighted([ys, last]), {"xs": xs, **dict(model.named_parameters())})
        return values({"ys": ys, "last": last, **found})

    close(play(Both(engine)), play(Both("eager")))


@every_engine
def test_the_last_state_of_one_as_the_first_of_another_equals_eager(engine):
    """An encoder, and a decoder that attends to what it read."""

    def play(engine):
        encoder, decoder = made(lambda: nn.GRUCell(I, H), engine, seed=6), made(Attention, engine)
        xs, targets = sequence(6), sequence(seed=5)
        encoded, last = encoder(xs)
        decoder.cell.memory = encoded.permute(1, 0, 2)
        ys, _ = decoder(targets, last)
        parameters = {**dict(encoder.named_parameters("encoder")), **dict(decoder.named_parameters("decoder"))}
        return values({"ys": ys, **gradients(weighted([ys]), {"xs": xs, "targets": targets, **parameters})})

    close(play(engine), play("eager"))


VIEWS = {
    "batch first": lambda draw: draw(B, T, I).permute(1, 0, 2),
    "every second step": lambda draw: draw(2 * T, B, I)[::2],
    "backwards": lambda draw: draw(T, B, I)[::-1],
    "columns": lambda draw: draw(T, B, 3 * I)[:, :, I : 2 * I],
    "one step repeated": lambda draw: ops.broadcast_to(draw(1, B, I), (T, B, I)),
    "computed": lambda draw: ops.tanh(draw(T, B, 3) @ draw(3, I)),
}


@every_engine
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_inputs_that_are_views_of_others_equal_eager(view, engine):
    def play(rnn):
        source = []
        draw = lambda *shape: source.append(drawing(len(source))(*shape)) or source[-1]
        xs, h0 = view(draw), draw(1, H)
        state = nn.LSTMState(ops.broadcast_to(h0, (B, H)), draw(H, B).T)
        ys, last = rnn(xs, state)
        sources = {**{f"source {i}": t for i, t in enumerate(source)}, **dict(rnn.named_parameters())}
        return values({"ys": ys, **gradients(weighted([ys, *last]), sources)})

    equals_eager(play, "LSTM", engine)


@every_engine
@pytest.mark.filterwarnings("ignore:Recurrent. xs is float32")
def test_inputs_of_lower_precision_than_the_weights_equal_eager(engine):
    def play(rnn):
        xs = drawing(1, "float32")(T, B, I)
        return outcome(rnn, xs, random_state(rnn.cell, B))

    equals_eager(play, "LSTM", engine, rtol=1e-6)


@every_engine
def test_a_change_of_precision_between_calls_equals_eager(engine):
    def play(rnn):
        found = {}
        for dtype in ("float64", "float32", "float64"):
            rnn.to(dtype)
            found |= {f"{dtype}: {k}": v for k, v in outcome(rnn, drawing(1, dtype)(T, B, I), lengths=RAGGED).items()}
        return found

    equals_eager(play, "GRU", engine, rtol=1e-6, make=made)


@every_engine
def test_a_hook_on_the_outputs_equals_eager(engine):
    def play(rnn):
        seen, xs = {}, sequence()
        ys, last = rnn(xs)
        ys.register_hook(lambda g: seen.setdefault("seen", g) * 2)
        found = gradients(weighted([ys, *last]), {"xs": xs, "ys": ys, **dict(rnn.named_parameters())})
        assert seen.keys() == {"seen"}
        return values(seen | found)

    equals_eager(play, "LSTM", engine)


@every_engine
def test_two_threads_may_use_one_recurrent_at_once(engine):
    rnn, eager = shared("LSTM", engine), made("LSTM", "eager")
    sizes = [(T, B), (T, B), (3, 2), (T, B)]
    run = lambda rnn, seed: [outcome(rnn, sequence(*size, seed=10 * seed + i)) for i, size in enumerate(sizes * 5)]
    start = threading.Barrier(2)

    def worker(seed):
        start.wait()
        return run(rnn, seed)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(worker, (1, 2)))
    for seed, results in enumerate(found, 1):
        for f, e in zip(results, run(eager, seed), strict=True):
            close(f, e)


@every_engine
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda rnn: pickle.loads(pickle.dumps(rnn))], ids=["copy", "pickle"])
def test_a_copy_of_a_recurrent_that_has_run_equals_eager(copied, engine):
    def play(rnn):
        outcome(rnn, sequence())
        other = copied(rnn)
        updated(rnn)
        found = {f"copy: {key}": v for key, v in outcome(other, sequence()).items()}
        return found | outcome(rnn, sequence())

    equals_eager(play, "LSTM", engine, make=made)


# ---- higher derivatives ----------------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("name", [*CELLS, "written memory", "mean over the batch", "primitive of two outputs"])
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
def test_second_derivatives_equal_eager(name, lengths, engine):
    def play(rnn):
        xs, state = sequence(), random_state(rnn.cell, B)
        ys, last = rnn(xs, state, lengths)
        sources = {"xs": xs, **tensors(state), **dict(rnn.named_parameters())}
        first = gradients(weighted([ys, *nest.leaves(last)]), sources, create_graph=True)
        penalty = sum((g * g).sum() for g in first.values())
        return values(first) | {f"second {key}": g for key, g in values(gradients(penalty, sources)).items()}

    equals_eager(play, name, engine, rtol=1e-10)


@every_engine
@pytest.mark.parametrize("every", [None, 2], ids=["whole", "checkpointed"])
def test_derivatives_are_what_differences_give(every, engine):
    rnn = made("LSTM", engine, checkpoint_every=every)

    def run(xs, h, c, U, W, b):
        rnn.cell.U, rnn.cell.W, rnn.cell.b = U, W, b
        ys, last = rnn(xs, nn.LSTMState(h, c), [3, 1])
        return [ys, *last]

    draw = drawing(1)
    own = [tg.tensor(p.numpy(), requires_grad=True) for p in (rnn.cell.U, rnn.cell.W, rnn.cell.b)]
    assert tg.gradcheck(run, draw(3, 2, I), draw(2, H), draw(2, H), *own)


# ---- what changes between calls --------------------------------------------------------------------------------------


def new_parameter(cell):
    cell.W = nn.Parameter(drawing(9)(*cell.W.shape).detach())


def other_nonlinearity(cell):
    cell.nonlinearity = "relu"


def other_mask(cell):
    cell.mask = np.tril(np.ones((H, H), np.float32))


def set_to(path, value):
    """Set the attribute at this path of the cell, or the item of a list."""

    def change(cell):
        *path_to, last = path
        for step in path_to:
            cell = getattr(cell, step)
        if isinstance(cell, list):
            cell[last] = value
        else:
            setattr(cell, last, value)

    return change


CHANGES = {
    "a number": (Leaky, set_to(["alpha"], 0.125)),
    "a number of the class": (Leaky, set_to(["floor"], 0.75)),
    "a number that becomes 0": (Leaky, set_to(["alpha"], 0)),
    "a number in a list": (Leaky, set_to(["rates", 1], -1.5)),
    "a list of numbers": (Leaky, set_to(["rates"], [3.0, 0.3])),
    "a number of a module": (Leaky, set_to(["norm", "eps"], 0.7)),
    "the chance of a dropout": ("stack with dropout", set_to(["dropout", "p"], 0.25)),
    "a dropout that ends": ("stack with dropout", set_to(["dropout", "p"], 0)),
    "a name": ("RNN tanh", other_nonlinearity),
    "an array of numbers": (Masked, other_mask),
    "a parameter": ("RNN tanh", new_parameter),
    "a module": (Leaky, lambda cell: setattr(cell, "norm", nn.LayerNorm(H, eps=0.3).to("float64"))),
    "evaluation": ("stack with dropout", lambda cell: cell.eval()),
    "all values": ("LSTM", lambda cell: cell.load_state_dict({k: v[::-1] for k, v in cell.state_dict().items()})),
}


def row_of_change(i, name, j, engine):
    """(cell, change, engine): each change by one engine each day; by the other it is slow."""
    marks = [without_llvmlite] * j + [pytest.mark.slow] * ((i + j) % 2)
    return pytest.param(*CHANGES[name], engine, marks=marks, id=f"{name}-{engine.replace('compiled', 'llvm')}")


CHANGES_OF_EACH_DAY = [
    row_of_change(i, name, j, engine)
    for i, name in enumerate(CHANGES)
    for j, engine in enumerate(["numpy", "compiled"])
]


@pytest.mark.parametrize("cell, change, engine", CHANGES_OF_EACH_DAY)
def test_a_change_of_an_attribute_between_calls_equals_eager(cell, change, engine):
    def play(rnn):
        found = {f"before: {key}": v for key, v in outcome(rnn, sequence()).items()}
        ys, _ = rnn(xs := sequence(seed=2))  # its backward pass comes after the change, and is not changed by it
        change(rnn.cell)
        found |= {f"across: {key}": v for key, v in values(gradients(weighted([ys]), {"xs": xs})).items()}
        after = outcome(rnn, sequence())
        assert not np.array_equal(after["ys"], found["before: ys"])
        return found | after | {f"again: {key}": v for key, v in outcome(rnn, sequence(seed=3)).items()}

    equals_eager(play, cell, engine, make=made)


@every_engine
@pytest.mark.parametrize("cell", [Attention, EinsumAttention], ids=["computed", "leaf"])
def test_a_memory_that_changes_its_length_between_calls_equals_eager(cell, engine):
    def play(rnn):
        found = {}
        for turn, length in enumerate((3, 3, 8, 1)):
            memory = drawing(turn)(B, length, H)
            rnn.cell.memory = memory if cell is EinsumAttention else ops.tanh(memory)
            captured = {"memory": memory}
            found |= {f"{turn}: {key}": v for key, v in outcome(rnn, sequence(seed=turn), captured=captured).items()}
        return found

    equals_eager(play, cell, engine)


@every_engine
def test_a_memory_that_stops_asking_for_a_gradient_equals_eager(engine):
    def play(rnn):
        found = {}
        for turn in range(4):
            memory = drawing(turn)(B, 6, H).requires_grad_(turn % 2 == 0)
            rnn.cell.memory = memory
            found |= {f"{turn}: {k}": v for k, v in outcome(rnn, sequence(), captured={"memory": memory}).items()}
        return found

    equals_eager(play, EinsumAttention, engine)


@every_engine
def test_switching_between_training_and_evaluation_equals_eager(engine):
    def play(rnn):
        found = {}
        for turn, mode in enumerate([True, False, True, False]):
            rnn.train(mode)
            found |= {f"{turn}: {key}": v for key, v in outcome(rnn, sequence(), lengths=RAGGED).items()}
        assert (found["1: ys"] == found["3: ys"]).all()
        assert (found["0: ys"] != found["2: ys"]).any()
        return found

    equals_eager(play, "stack with dropout", engine, make=made)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@every_engine
@pytest.mark.parametrize("name", ["stack with dropout", "dropout twice"])
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
def test_the_masks_of_dropout_are_those_of_eager(name, lengths, engine):
    """Step for step and call for call; what is drawn after them too, and planning draws none."""

    def play(rnn):
        rnn.plan(sequence())
        found = {}
        for turn in range(3):
            xs, state = sequence(), random_state(rnn.cell, B)
            found |= {f"{turn}: {key}": v for key, v in outcome(rnn, xs, state, lengths).items()}
        with tg.no_grad():
            found["without a graph"] = rnn(sequence())[0].numpy()
        assert (found["0: ys"] != found["1: ys"]).any()
        return found | {"next": nn.init.normal((3,)).numpy()}

    equals_eager(play, name, engine)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


CHECKPOINTED = ["LSTM", "nested state", "written memory", "clockwork", "stack with dropout", "dropout twice"]


@every_engine
@pytest.mark.parametrize(
    "every, name", some([(every, name) for every in (2, 1, T, 3, 10) for name in CHECKPOINTED], one_in=4)
)
def test_recomputing_from_checkpoints_equals_eager(every, name, engine):
    def play(rnn):
        found = {}
        for turn, lengths in enumerate([None, RAGGED, None]):
            xs, state = sequence(seed=turn), random_state(rnn.cell, B)
            found |= {f"{turn}: {key}": v for key, v in outcome(rnn, xs, state, lengths).items()}
        found |= outcome(rnn, sequence(11), lengths=[11, 7, 0, 10])
        return found | {"next": nn.init.normal((3,)).numpy()}

    equals_eager(play, name, engine, checkpoint_every=every)


@every_engine
def test_checkpoints_need_less_memory(engine):
    xs = sequence(200, 8)
    whole, parts = (made("LSTM", engine, checkpoint_every=k).plan(xs).nbytes for k in (None, 15))
    assert parts < 0.5 * whole


# ---- the state after every step --------------------------------------------------------------------------------------


all_states = rows_of_all((lambda i: i % 4 == 0, "compiled"), (lambda i: i % 2 == 1, "numpy"))


@pytest.mark.parametrize("lengths", [pytest.param(None, id="full", marks=pytest.mark.slow), RAGGED])
@pytest.mark.parametrize("name, engine", all_states)
def test_all_states_and_their_gradients_equal_eager(name, lengths, engine):
    def play(rnn):
        captured = rnn.cell.capture(B, drawing(5)) if isinstance(rnn.cell, Odd) else {}
        xs, state, seen = sequence(), random_state(rnn.cell, B), {}
        rnn.register_state_hook(lambda grads: seen.update(tensors(grads, "gradient of the states")))
        ys, states = rnn(xs, state, lengths, all_states=True)
        results = {"ys": ys, **tensors(states, "states")}
        sources = {"xs": xs, **tensors(state), **captured, **dict(rnn.named_parameters())}
        found = gradients(weighted(results.values()), sources)
        return values(results | found | seen)

    equals_eager(play, name, engine, rtol=TOLERANCE["float32"] if name in LOOSE else 1e-11, make=made)


@pytest.mark.parametrize("engine", ["eager", "numpy", pytest.param("llvm", marks=without_llvmlite)])
def test_a_state_hook_is_shown_what_a_loop_by_hand_finds(engine):
    rnn, xs, w = made("LSTM", engine), sequence(), drawing(8)(T, B, H).detach()
    state, loss, after = rnn.cell.initial_state(B), 0, []
    for t in range(T):
        h, state = rnn.cell(xs[t], state)
        loss = loss + (h * w[t]).sum()
        after.append(state)
    expected = tg.grad(loss, [s.h for s in after] + [s.c for s in after[:-1]])
    seen = []
    remove = rnn.register_state_hook(seen.append)
    ys, states = rnn(xs, all_states=True)
    (ys * w).sum().backward()
    (grads,) = seen
    assert type(grads) is nn.LSTMState
    close(values(dict(enumerate([*grads.h, *grads.c[:-1]]))), values(dict(enumerate(expected))))
    close(values({"h": states.h, "c": states.c}), {k: np.stack([getattr(s, k).numpy() for s in after]) for k in "hc"})
    remove()
    ys, _ = rnn(xs)
    (ys * w).sum().backward()
    assert len(seen) == 1


@every_engine
def test_a_state_hook_sees_each_pass_through_each_call(engine):
    def play(rnn):
        seen, xs = [], sequence()
        rnn.register_state_hook(lambda grads: seen.append(grads.h))
        ys, last = rnn(xs)
        again, _ = rnn(xs, last)
        rnn.register_state_hook(lambda grads: seen.append(None))  # too late for these calls
        weighted([ys, again]).backward(retain_graph=True)
        weighted([ys]).backward()
        assert len(seen) == 3
        first = tg.grad(weighted([rnn(xs)[0]], seed=6), xs, create_graph=True)
        (first * first).sum().backward()
        found = [g for g in seen[:4] if g is not None]
        assert len(found) == 4
        return values(dict(enumerate(found)))

    equals_eager(play, "LSTM", engine, rtol=1e-10, make=made)


@every_engine
def test_all_states_from_checkpoints_equal_eager(engine):
    def play(rnn):
        seen, xs = {}, sequence()
        rnn.register_state_hook(lambda grads: seen.update(tensors(grads, "gradient")))
        ys, states = rnn(xs, lengths=RAGGED, all_states=True)
        found = {"ys": ys, **tensors(states)}
        return values(found | gradients(weighted(found.values()), {"xs": xs, **dict(rnn.named_parameters())}) | seen)

    equals_eager(play, "LSTM", engine, checkpoint_every=2, make=made)


@pytest.mark.parametrize("engine", ["eager", "auto"])
def test_the_states_of_no_steps_are_none(engine):
    ys, states = made("LSTM", engine)(sequence(0), all_states=True)
    assert [t.shape for t in (ys, *states)] == [(0, B, H)] * 3


# ---- what is refused -------------------------------------------------------------------------------------------------


class Reads(Odd):
    """A step that looks at a value."""

    def __init__(self, read):
        super().__init__()
        self.read = read

    def forward(self, x, h):
        h = ops.tanh(self.affine(x, h))
        return h, h * self.read(h)


READS = {
    "if": lambda h: 2.0 if h.sum() > 0 else 1.0,
    "bool": lambda h: bool(h[0, 0] > 0),
    "while": lambda h: next(k for k in range(9) if not h.sum() > k),
    "item": lambda h: h.sum().item(),
    "float": lambda h: float(h[0, 0]),
    "int": lambda h: int(h[0, 0] * 10),
    "numpy": lambda h: h.numpy().max(),
    "tolist": lambda h: h.tolist()[0][0],
    "asarray": lambda h: np.asarray(h.detach()).max(),
    "data": lambda h: h.data.max(),
    "format": lambda h: float(f"{h.sum():.3f}"),
    "Python's max": lambda h: max(h[0, 0], h[0, 1]),
    "range": lambda h: len(range(h[0].argmax())),
    "detached": lambda h: h.detach().sum().item(),
}


@every_engine
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_step_that_reads_a_value_is_refused(read, engine):
    ys, _ = made(lambda: Reads(read), "eager")(sequence())
    assert ys.numpy().any()
    rnn = made(lambda: Reads(read), engine)
    for _ in range(2):
        with pytest.raises(TypeError, match=r"ops\.where") as caught:
            rnn(sequence())
        assert 'engine="eager"' in str(caught.value)
        assert "\n" not in str(caught.value)


@every_engine
def test_a_step_that_reads_a_parameter_is_refused(engine):
    class Sign(Odd):
        def forward(self, x, h):
            h = ops.tanh(self.affine(x, h))
            return h, h if self.b.sum() > 0 else -h

    made(Sign, "eager")(sequence())
    with pytest.raises(TypeError, match=r"ops\.where.*engine=\"eager\"|engine=\"eager\".*ops\.where"):
        made(Sign, engine)(sequence())


@every_engine
def test_a_step_that_takes_another_way_each_time_is_refused(engine):
    seed = next(s for s in range(10_000) if _alternates(random.Random(s)))

    class Fickle(Odd):
        def forward(self, x, h):
            z = self.affine(x, h)
            h = ops.tanh(z) if random.random() < 0.5 else ops.sigmoid(z)
            return h, h

    before = random.getstate()
    try:
        random.seed(seed)
        rnn = made(Fickle, engine)
        with pytest.raises((ValueError, RuntimeError), match='engine="eager"'):
            for _ in range(4):
                rnn(sequence())
    finally:
        random.setstate(before)


def _alternates(generator):
    draws = [generator.random() < 0.5 for _ in range(8)]
    return all(a != b for a, b in itertools.pairwise(draws))


def test_an_unknown_engine_is_refused_with_a_list_of_engines():
    with pytest.raises(ValueError, match="turbo") as caught:
        nn.Recurrent(nn.LSTMCell(I, H), engine="turbo")(sequence())
    for engine in ("auto", "eager", "compiled", "numpy", "llvm"):
        assert engine in str(caught.value)
    assert "\n" not in str(caught.value)


@every_engine
def test_a_call_that_fails_leaves_no_trace(engine):
    def play(rnn):
        found = {f"before: {key}": v for key, v in outcome(rnn, sequence()).items()}
        with pytest.raises(ValueError, match="5"):
            rnn(sequence(size=5))
        with pytest.raises(ValueError, match=r"^Recurrent: lengths must be from 0 to T = 5, got 0 to 6$"):
            rnn(sequence(), lengths=[6, 0, 1, 2])
        with pytest.raises(ValueError, match=r"^Recurrent: xs must be \(T, B, I\), got \(4, 2\)$"):
            rnn(sequence()[0])
        return found | outcome(rnn, sequence(seed=2))

    equals_eager(play, "LSTM", engine)


# ---- random cells ----------------------------------------------------------------------------------------------------


def random_cell_equals_eager(engine, cell):
    def play(rnn):
        found = {}
        for turn, lengths in enumerate([None, [4, 0, 2]]):
            xs, state = sequence(4, 3, seed=turn), random_state(rnn.cell, 3, seed=turn)
            found |= {f"{turn}: {key}": v for key, v in outcome(rnn, xs, state, lengths).items()}
        return found

    equals_eager(play, lambda: cell, engine, rtol=1e-10)


@every_engine
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(cell=random_cells)
def test_a_random_cell_equals_eager(engine, cell):
    random_cell_equals_eager(engine, cell)


@pytest.mark.slow
@every_engine
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(cell=random_cells)
def test_many_random_cells_equal_eager(engine, cell):
    random_cell_equals_eager(engine, cell)


# ---- what a plan says ------------------------------------------------------------------------------------------------


class Normed(Odd):
    """`count` layer norms side by side, with gates of different kinds."""

    def __init__(self, count):
        super().__init__()
        self.norms = [nn.LayerNorm(H) for _ in range(count)]
        self.weights = [nn.Linear(I + H, H) for _ in range(count)]

    def forward(self, x, h):
        gates = [norm(weight(ops.concat([x, h], -1))) for norm, weight in zip(self.norms, self.weights, strict=True)]
        first, *others = [ops.sigmoid(g) if i % 2 else ops.tanh(g) for i, g in enumerate(gates)]
        for g in others:
            first = first * g + g
        return first, first


def steps_of(plan):
    """The operations in each loop of a plan."""
    return [int(n) for n in re.findall(r"at each step.*?: (\d+) operation", str(plan))]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("lengths", [None, RAGGED], ids=["full", "ragged"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_norms_side_by_side_equal_eager(count, lengths, dtype):
    play = lambda rnn: outcome(rnn.to(dtype), drawing(1, dtype)(T, B, I), lengths=lengths)
    equals_eager(play, lambda: Normed(count), "numpy", rtol=1e-4 if dtype == "float32" else 1e-11)


def test_norms_side_by_side_are_one():
    few, many = (steps_of(made(functools.partial(Normed, count), "numpy").plan(sequence())) for count in (2, 6))
    for a, b in zip(few, many, strict=True):
        assert b - a <= 4 * 4  # what joins four more gates to the others; a norm alone would be nine more each


@without_llvmlite
def test_gates_and_their_gradients_share_one_array():
    steps, batch, units = 100, 8, 32
    rnn = made(lambda: nn.LSTMCell(16, units), "llvm", "float32")
    more = [rnn.plan(drawing(0, "float32")(n * steps, batch, 16)).nbytes for n in (1, 2)]
    per_step = (more[1] - more[0]) / (4 * steps * batch)
    assert per_step <= 4 * units + 3 * units + 16  # four gates, c, tanh c, h; dx


# ---- memory ----------------------------------------------------------------------------------------------------------


def train(rnn, optimizer, xs):
    ys, _ = rnn(xs)
    optimizer.zero_grad()
    (ys * ys).sum().backward()
    optimizer.step()


def call_and_forget(rnn, optimizer, xs):
    rnn(xs)


def infer(rnn, optimizer, xs):
    with tg.no_grad():
        rnn(xs)


@one_engine
@pytest.mark.parametrize(
    "step, steps, size",
    [(train, 1000, (5, 2, 2)), (train, 200, (60, 16, 2)), (call_and_forget, 400, (5, 2, 2)), (infer, 400, (5, 2, 2))],
    ids=["training", "long sequences", "forward alone", "inference"],
)
def test_steps_of_a_long_run_take_no_more_memory(step, steps, size, engine):
    rnn = made(lambda: nn.LSTMCell(2, 4), engine, "float32")
    optimizer, xs = optim.SGD(rnn.parameters(), lr=1e-3), drawing(1, "float32")(*size).detach()
    weights = rnn.cell.W.numpy()

    def traced():
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    marks = [steps // 5, steps * 3 // 5, steps - 1]
    held = []
    try:
        for k in range(steps):
            if k == marks[0] - 20:
                tracemalloc.start()  # a little before: what it traces first is its own
            if k in marks:
                held.append(traced())
            step(rnn, optimizer, xs)
        grown = [b - a for a, b in itertools.pairwise(held)]
        assert min(grown) < 20_000, grown  # Python may enlarge a table of its own once
    finally:
        tracemalloc.stop()
    assert (rnn.cell.W.numpy() != weights).any() == (step is train)
