"""One program serves sequences of any number of steps; what longer ones left in its buffers changes nothing."""

import functools
import gc
import tracemalloc

import numpy as np
import pytest

from cells import H, I
from odd_cells import LOOSE, Odd
from test_compiler import (
    ALL,
    B,
    close,
    drawing,
    equals_eager,
    every_engine,
    made,
    outcome,
    random_state,
    tensors,
    updated,
    values,
)

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.compiler.runtime import buffers, memory
from tinygrad_rnn.compiler.runtime.program import Program
from tinygrad_rnn.compiler.schedule.batch_sizes import PRIMES
from tinygrad_rnn.data.batches import rounded

LENGTHS = [5, 1, 3, 9, 2, 20, 1, 7, 20]  # up and down, beyond what the first program was made for, and back
SHAPES = {
    "lengths": [(T, B) for T in LENGTHS],
    "batches": [(5, 4), (3, 7), (4, 1), (6, H), (2, I), (5, 18), (7, 4), (3, 1), (4, 101)],
}
SOME = ["states that change places", "attention to a state"]
REST = [name for name in ALL if name not in (*SOME, "product of moving values")]  # that one grows without end


def poison(rnn):
    """NaN in all buffers that nobody uses: whatever is read before it is written shows."""
    for arena in rnn._recordings.arenas.arenas:
        for each in (arena, arena.scratch):
            if each is not None and not arena.busy:
                each.block.fill(255)


@pytest.fixture(autouse=True)
def results_that_start_as_nan(monkeypatch):
    def recycled(shape, dtype):
        array, at = memory.recycled(shape, dtype)
        array[...] = np.nan if array.dtype.kind == "f" else True
        return array, at

    monkeypatch.setattr(buffers, "recycled", recycled)


def walk(rnn, dtype, shapes):
    """Sequences of these lengths and batches one after the other, with and without a state, whole and ragged; updates
    between."""
    found = {}
    tg.manual_seed(7)
    for k, (T, batch) in enumerate(shapes):
        draw = drawing(k, dtype)
        captured = rnn.cell.capture(batch, draw) if isinstance(rnn.cell, Odd) else {}
        state = random_state(rnn.cell, batch, seed=k) if k % 2 else None
        ends = [T, 0, T // 2, 1, *[T] * batch][:batch] if k % 3 == 0 else None
        for key, array in outcome(rnn, draw(T, batch, I), state, ends, captured).items():
            found[f"call {k} of {T} steps, batch {batch}: {key}"] = array
        updated(rnn)
        poison(rnn)
    return found


@functools.cache
def eager_walk(name, dtype, shapes):
    return walk(made(name, "eager", dtype), dtype, SHAPES[shapes])


@every_engine
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize(
    "name, dtype",
    [
        *((name, "float64" if i % 2 else "float32") for i, name in enumerate(SOME)),
        *(pytest.param(name, "float32" if i % 2 else "float64", marks=pytest.mark.slow) for i, name in enumerate(REST)),
    ],
)
def test_sequences_of_any_shapes_equal_eager(name, dtype, shapes, engine):
    found = walk(made(name, engine, dtype), dtype, SHAPES[shapes])
    loose = dtype == "float32" or name in LOOSE  # rounding grows over twenty steps
    close(found, eager_walk(name, dtype, shapes), 5e-4 if loose else 1e-11)


@every_engine
@pytest.mark.parametrize("reverse, every", [(False, 4), (True, 3)])
def test_also_from_the_end_and_in_parts(reverse, every, engine):
    expected = walk(made("LSTM", "eager", reverse=reverse), "float64", SHAPES["lengths"])
    found = walk(made("LSTM", engine, reverse=reverse, checkpoint_every=every), "float64", SHAPES["lengths"])
    close(found, expected, 1e-11)


@every_engine
@pytest.mark.parametrize("all_states", [True, False])
def test_states_after_each_step_and_their_gradients_equal_eager(all_states, engine):
    def play(rnn):
        shown, found = [], {}
        if not all_states:
            rnn.register_state_hook(lambda grads: shown.append(values(tensors(grads, "shown"))))
        for k, T in enumerate(LENGTHS):
            xs = drawing(k)(T, B, I)
            ys, states = rnn(xs, all_states=all_states)
            (ys.sum() + sum((s * s).sum() for s in tensors(states).values())).backward()
            results = {"ys": ys.numpy(), "dxs": xs.grad.numpy(), **values(tensors(states)), **(shown or [{}])[-1]}
            found |= {f"{k}: {key}": array for key, array in results.items()}
            poison(rnn)
        return found

    equals_eager(play, "LSTM", engine, rtol=1e-11)


@every_engine
def test_calls_of_several_lengths_can_wait_for_their_backward_passes(engine):
    def play(rnn):
        sequences = [drawing(k)(T, B, I) for k, T in enumerate(LENGTHS)]
        outputs = [rnn(xs)[0] for xs in sequences]
        for k in (3, 8, 0, 5, 1, 7, 2, 6, 4, 3, 0):  # two of them twice
            (outputs[k] * outputs[k]).sum().backward(retain_graph=True)
            poison(rnn)
        return {f"{k}": xs.grad.numpy() for k, xs in enumerate(sequences)}

    equals_eager(play, "LSTM", engine)


@every_engine
def test_sixty_lengths_take_a_few_programs(engine, monkeypatch):
    capacities = []
    start = Program.__init__

    def counted(program, buffers, *args):
        capacities.append(buffers.capacity)
        start(program, buffers, *args)

    monkeypatch.setattr(Program, "__init__", counted)
    rnn = made("LSTM", engine, "float32")
    for T in np.random.default_rng(0).permutation(np.arange(10, 70)):
        rnn(tg.zeros(int(T), B, I))[0].sum().backward()
    assert len(capacities) <= 4 and max(capacities) < 2 * 70, capacities


class Patient(nn.RNNCell):
    """Does something else with large batches."""

    def forward(self, x, h):
        y, h = super().forward(x, h)
        return (y if len(x) < 6 else 2 * y), h


class Widths(nn.Cell):
    """Two products that are put side by side are as wide as the batch that stands for any."""

    def __init__(self, *_):
        self.A, self.B, self.W = (nn.Parameter(tg.zeros(size)) for size in ((I, 50), (I, PRIMES[0] - 50), (50, H)))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        a, b = ops.tanh(x @ self.A), ops.tanh(x @ self.B)
        h = ops.tanh(a @ self.W + h) * b.sum(-1, keepdims=True)
        return h, h


class OfItsOwnSize(nn.RNNCell):
    """Adds an array with a row for each sequence of a batch."""

    def forward(self, x, h):
        return super().forward(x, h + np.arange(len(x), dtype=x.dtype)[:, None])


@every_engine
@pytest.mark.parametrize(
    "cell, recordings",
    [(nn.LSTMCell, 1), (Patient, 5 + 1), (OfItsOwnSize, 9), (Widths, 9)],
)
def test_batches_of_all_sizes_share_programs_if_the_step_is_the_same(cell, recordings, engine):
    def play(rnn):
        found = {}
        for batch in range(9, 0, -1):
            results = outcome(rnn, drawing(batch)(3, batch, I))
            found |= {f"batch {batch}: {key}": array for key, array in results.items()}
        return found

    rnn = made(lambda: cell(I, H), engine)
    close(play(rnn), play(made(lambda: cell(I, H), "eager")))
    assert rnn._recordings.count == recordings


class Scaled(nn.RNNCell):
    def __init__(self):
        super().__init__(I, H)
        self.scale = 1.0

    def forward(self, x, h):
        return super().forward(self.scale * x, h)


def test_a_cell_that_is_compiled_again_and_again_says_so_once():
    def run(rnn):
        for _ in range(50):
            rnn.cell.scale *= 0.9
            rnn(tg.zeros(2, B, I))

    rnn = nn.Recurrent(Scaled(), engine="numpy")
    with pytest.warns(RuntimeWarning, match="Scaled should be compiled once.*its attribute 'scale'") as told:
        run(rnn)
    assert len(told) == 1
    run(nn.Recurrent(Scaled(), engine="numpy"))


@pytest.mark.slow
def test_memories_of_all_lengths_of_sentences_are_no_reason_to_say_so():
    cell = nn.AttentionCell(nn.GRUCell(I + 2, 2), nn.DotAttention(2, 2))
    rnn, sizes = nn.Recurrent(cell, engine="numpy"), {rounded(n) for n in range(1, 200)}
    assert len(sizes) > 16
    for S in sizes:
        rnn(tg.zeros(4, B, I), cell.start(cell.cell.initial_state(B), cell.attention.remember(tg.zeros(S, B, 2))))


@every_engine
def test_a_single_length_has_buffers_for_no_more_steps(engine):
    plan = made("LSTM", engine, "float32").plan(tg.zeros(33, B, I))
    rnn = made("LSTM", engine, "float32")
    for T in (20, 60, 33):
        rnn(tg.zeros(T, B, I))
    assert rnn.plan(tg.zeros(33, B, I)).nbytes == plan.nbytes  # what so many steps need, whatever there is


@every_engine
def test_memory_does_not_grow_with_the_number_of_lengths(engine):
    rnn = made(lambda: nn.LSTMCell(I, 16), engine, "float32")

    def run(lengths):
        for T in lengths:
            rnn(tg.zeros(int(T), B, I))[0].sum().backward()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        few = run([60, 30, 45, 60])
        many = run(np.random.default_rng(0).permutation(np.arange(20, 60)))
    finally:
        tracemalloc.stop()
    assert many - few < 2_000_000, (few, many)  # results of some sizes that are kept for the next ones
