"""Decoding with the state of a layer, (L, N, H), and with states that grow: which axis holds the sequences?"""

import itertools

import numpy as np
import pytest

from tinygrad_rnn import decode, nn, ops, tensor
from tinygrad_rnn.autograd import nest

ENDS = {"start": 0, "end": 4}
LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
SEARCHES = {
    "greedy": lambda *a, **k: [[h] for h in decode.greedy(*a, **ENDS, max_length=5, **k)],
    "sample": lambda *a, **k: [[h] for h in decode.sample(*a, **ENDS, max_length=5, rng=np.random.default_rng(0), **k)],
    "beam": lambda *a, **k: decode.beam_search(*a, **ENDS, max_length=5, width=3, n_best=2, **k),
    "score": lambda step, state, **k: decode.score(step, state, [[1, 2]] * batch_of(state, **k), **ENDS, **k),
}


def batch_of(state, batch_axis=0):
    return nest.leaves(state)[0].shape[batch_axis]


class Model:
    """Layers over an embedding; `step` takes their state as it is, `step_rows` with the sequences first."""

    def __init__(self, kind, layers):
        self.embedding, self.layers, self.output = nn.Embedding(5, 3), LAYERS[kind](3, 4, layers), nn.Linear(4, 5)
        self.output.W.data = 4 * self.output.W.data

    def state(self, batch):
        rng = np.random.default_rng(batch)
        draw = lambda leaf: tensor(rng.standard_normal(leaf.shape).astype(np.float32))
        return nest.map_leaves(draw, self.layers.initial_state(batch))

    def step(self, ids, state):
        ys, state = self.layers(self.embedding(ids)[None], state)
        return self.output(ys[0]), state

    def step_rows(self, ids, state):
        logits, state = self.step(ids, turned(state))
        return logits, turned(state)


def turned(state):
    return nest.map_leaves(lambda leaf: ops.permute(leaf, (1, 0, 2)), state)


def same(found, wanted):
    if isinstance(found, np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        return
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in wanted]
    for a, b in zip(itertools.chain(*found), itertools.chain(*wanted), strict=True):
        assert a.log_prob == pytest.approx(b.log_prob, rel=1e-5)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("kind", "layers", "batch"), [*itertools.product(LAYERS, (1, 2), (1, 2, 3)), ("gru", 3, 1)])
def test_the_state_of_layers_is_taken_along_its_second_axis(search, kind, layers, batch):
    model = Model(kind, layers)
    run, state = SEARCHES[search], model.state(batch)
    wanted = run(model.step_rows, turned(state))
    assert len(wanted) == batch
    same(run(model.step, state, batch_axis=1), wanted)
    try:
        found = run(model.step, state)
    except ValueError as error:
        assert "batch_axis=1" in str(error)
        assert (layers, batch) != (1, 1) or search == "beam"
    else:
        same(found, wanted)


@pytest.mark.parametrize("search", ["greedy", "sample"])
def test_layers_of_one_sequence_are_not_taken_for_sequences(search):
    for step_of in lambda m: m.step, lambda m: own_loop(m):
        model = Model("gru", 2)
        with pytest.raises(ValueError, match="pass batch_axis=1"):
            SEARCHES[search](step_of(model), model.state(1))


def own_loop(model):
    """A step of one's own, which spreads its state over the batch and takes fewer layers without a word."""
    cells = [nn.GRUCell(3, 4), nn.GRUCell(4, 4)]

    def step(ids, state):
        y, new = model.embedding(ids), []
        for cell, h in zip(cells, state, strict=False):
            y, h = cell(y, ops.broadcast_to(h, (len(ids), 4)))
            new.append(h)
        return model.output(y), ops.stack(new)

    return step


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_state_may_grow_along_its_second_axis(search, rows):
    embedding, output = nn.Embedding(5, 4), nn.Linear(4, 5)

    def step(ids, past):  # attends to all that was read
        past = ops.concat([past, embedding(ids)[:, None]], axis=1)
        return output(past.mean(1)), past

    start = embedding(np.arange(rows))[:, None]  # (N, 1, H): as long as one step, then two, …
    together = SEARCHES[search](step, start)
    assert len(together) == rows
    for i in range(rows):
        if search != "sample":
            same(together[i : i + 1], SEARCHES[search](step, start[i : i + 1]))


@pytest.mark.parametrize("axis", [-1, 2, None])
def test_a_batch_axis_that_there_is_not_is_named(axis):
    model = Model("gru", 2)
    with pytest.raises(ValueError, match=f"greedy: batch_axis must be 0 or 1, got {axis}"):
        SEARCHES["greedy"](model.step, model.state(1), batch_axis=axis)


def test_states_without_a_second_axis_are_named():
    with pytest.raises(ValueError, match=r"the state must hold tensors \(L, N, …\), all of one N, got \(3,\)"):
        decode.greedy(lambda ids, s: (None, s), tensor(np.zeros(3)), **ENDS, max_length=2, batch_axis=1)
