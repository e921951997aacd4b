"""Encoder–decoder networks: the model, its batches, scheduled sampling, translation; and training against PyTorch."""

import importlib.util
import itertools
import math

import numpy as np
import pytest

from cells import Nested
from comparing import all_close, by_parameters

import tinygrad_rnn as tg

from tinygrad_rnn import data, decode, nn, optim, torch_weights
from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.data import END, START, UNKNOWN, Vocabulary
from tinygrad_rnn.data.batches import IGNORED, Batch, Pairs, padded, rounded
from tinygrad_rnn.decode import Hypothesis
from tinygrad_rnn.tasks import translation
from tinygrad_rnn.tasks.config import checked
from tinygrad_rnn.tasks.translation import Config, PairTask, Translator, sampled_inputs

E, H, S, T, B = 3, 4, 5, 4, 3
SOURCES, TARGETS = 7, 6  # the sizes of the vocabularies
LENGTHS = np.array([5, 2, 3])
KINDS = ["none", "context", *nn.ATTENTIONS]
every_kind = pytest.mark.parametrize("kind", KINDS)

without_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
compiled = pytest.mark.parametrize("engine", ["numpy", pytest.param("llvm", marks=without_llvmlite)])


# ---- helpers -------------------------------------------------------------------------------------------------------


def normal(*shape, seed=1):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def randomised(module, seed=0, scale=0.7):
    """The module in float64 with every parameter random, biases too."""
    rng = np.random.default_rng(seed)
    for p in module.to("float64").parameters():
        p.data = rng.standard_normal(p.shape) * scale
    return module


def model_of(kind, query="output", layers=1, dropout=0.0, engine="eager", **attention):
    """An LSTM that reads in both directions, and LSTMs that write."""
    encoder = nn.LSTM(E, H // 2, layers, bidirectional=True, engine=engine)
    end = nn.state_size(encoder.cells)
    read = 0 if attention.get("feed") is False else {"none": 0, "context": end}.get(kind, H)
    cells = [nn.LSTMCell(H if i else E + read, H) for i in range(layers)]
    cell = cells[0] if layers == 1 else nn.Stack(cells)
    bridge, said = nn.Bridge(end, cell), H
    if kind == "context":
        cell = nn.ContextCell(cell)
    elif kind != "none":
        cell, said = nn.AttentionCell(cell, nn.ATTENTIONS[kind](H, H), query=query, **attention), 2 * H
    return randomised(
        nn.EncoderDecoder(
            nn.Embedding(SOURCES, E), encoder, bridge, nn.Embedding(TARGETS, E), cell, nn.Linear(said, TARGETS),
            dropout=dropout, engine=engine,
        )
    )  # fmt: skip


def writer(vector=False, context=False, layers=1):
    """A decoder that is started by a vector."""
    D = 5
    cells = [nn.GRUCell(H if i else E + D * context, H) for i in range(layers)]
    cell = cells[0] if layers == 1 else nn.Stack(cells)
    decoder = nn.ContextCell(cell) if context else cell
    return randomised(
        nn.EncoderDecoder(
            nn.Linear(2, D) if vector else None, None, nn.Bridge(D, cell), nn.Embedding(TARGETS, E), decoder,
            nn.Linear(H, TARGETS), engine="eager",
        )
    )  # fmt: skip


def ids(high, *shape, seed=0):
    return np.random.default_rng((seed, *shape)).integers(0, high, shape)


XS, YS = ids(SOURCES, S, B), ids(TARGETS, T, B)
NEXT = ids(TARGETS, T, B, seed=1)
NEXT[2:, 1] = IGNORED


def loss_of(model, xs=XS, ys=YS, targets=NEXT, lengths=LENGTHS):
    return nn.cross_entropy(model(xs, ys, lengths), targets, reduction="sum", ignore_index=IGNORED)


# ---- the bridge ----------------------------------------------------------------------------------------------------

CELLS = {
    "GRU": (lambda: nn.GRUCell(2, 3), [(3,)]),
    "LSTM": (lambda: nn.LSTMCell(2, 3), [(3,), (3,)]),
    "stack": (lambda: nn.Stack([nn.LSTMCell(2, 3), nn.GRUCell(3, 4)]), [(3,), (3,), (4,)]),
    "nested": (lambda: Nested(2, 3), [(3,), (3,), (2, 3)]),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_bridge_makes_each_part_of_a_state_from_a_vector(name):
    make, shapes = CELLS[name]
    cell = make().to("float64")
    bridge = randomised(nn.Bridge(5, cell))
    sizes = [math.prod(shape) for shape in shapes]
    assert nn.state_size([cell]) == sum(sizes)
    assert nn.state_size([cell, nn.GRUCell(1, 2)]) == sum(sizes) + 2
    v, p = normal(B, 5), bridge.state_dict()
    state = bridge(tg.tensor(v))
    assert nest.describe(state) == nest.describe(cell.initial_state(B))
    whole = np.tanh(v @ p["linear.W"] + p["linear.b"])
    for leaf, shape, part in zip(
        nest.leaves(state), shapes, np.split(whole, np.cumsum(sizes)[:-1], axis=1), strict=True
    ):
        np.testing.assert_allclose(leaf.numpy(), part.reshape(B, *shape), rtol=1e-12)
    ys, _ = nn.Recurrent(cell, engine="eager")(tg.tensor(normal(T, B, 2)), state)
    assert ys.shape == (T, B, 4 if name == "stack" else 3)
    run, values = by_parameters(bridge, lambda v: nest.leaves(bridge(v)))
    assert tg.gradcheck(run, *values, tg.tensor(v, requires_grad=True))


# ---- what the decoder starts with ----------------------------------------------------------------------------------

ENCODERS = {
    "LSTM both ways": (lambda: nn.LSTM(E, 2, 2, bidirectional=True, engine="eager"), lambda s: [*s.h, *s.c]),
    "GRU": (lambda: nn.GRU(E, 3, 2, engine="eager"), lambda s: [*s]),
    "both ways by hand": (
        lambda: nn.Bidirectional(nn.LSTMCell(E, 2), nn.GRUCell(E, 3), engine="eager"),
        lambda s: [*s[0], s[1]],
    ),
    "stack": (
        lambda: nn.Recurrent(nn.Stack([nn.GRUCell(E, 2), nn.LSTMCell(2, 3)]), engine="eager"),
        lambda s: [s[0], *s[1]],
    ),
    "a state of three axes": (lambda: nn.Recurrent(Nested(E, 2), engine="eager"), nest.leaves),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "ragged"])
def test_the_decoder_starts_with_all_that_the_encoder_ends_with(name, lengths):
    make, parts = ENCODERS[name]
    encoder = make()
    size = nn.state_size(getattr(encoder, "cells", None) or [encoder.cell])
    plain = nn.GRUCell(E, H)
    decoders = [plain, nn.ContextCell(nn.GRUCell(E + size, H))]
    for decoder in decoders:
        model = randomised(
            nn.EncoderDecoder(
                nn.Embedding(SOURCES, E), encoder, nn.Bridge(size, plain), nn.Embedding(TARGETS, E), decoder,
                nn.Linear(H, TARGETS),
            )
        )  # fmt: skip
        _, last = encoder(model.source(XS), lengths=lengths)
        end = np.concatenate([part.numpy().reshape(B, -1) for part in parts(last)], axis=1)
        p, state = model.bridge.state_dict(), model.encode(XS, lengths)
        expected = np.tanh(end @ p["linear.W"] + p["linear.b"])
        if decoder is plain:
            all_close([state], [expected], 1e-12)
        else:
            assert type(state) is nn.ContextState
            all_close([state.cell, state.context], [expected, end], 1e-12)


def test_attention_is_given_the_outputs_of_the_encoder_and_its_lengths():
    model = model_of("additive")
    state = model.encode(XS, LENGTHS)
    hs, _ = model.encoder(model.source(XS), lengths=LENGTHS)
    all_close([state.memory.values], [hs.swapaxes(0, 1)], 1e-13)
    np.testing.assert_array_equal(state.memory.mask.numpy(), np.arange(S) < LENGTHS[:, None])
    assert model.encode(XS).memory.mask is None
    assert not state.context.numpy().any()


# ---- the model -----------------------------------------------------------------------------------------------------

FORMS = {
    **{kind: lambda kind=kind: model_of(kind) for kind in KINDS},
    "additive, previous": lambda: model_of("additive", "previous"),
    "general, context": lambda: model_of("general", "context"),
    "general, not fed": lambda: model_of("general", feed=False),
    "two layers": lambda: model_of("general", layers=2),
    "two layers, previous": lambda: model_of("additive", "previous", layers=2),
    "two layers with a context": lambda: model_of("context", layers=2),
}
WRITERS = {
    "a vector": lambda: writer(),
    "a vector, read at each step": lambda: writer(context=True),
    "a vector through a layer": lambda: writer(vector=True, context=True, layers=2),
}


def vectors(model):
    return normal(B, 5 if model.source is None else 2)


@pytest.mark.parametrize("name", [*FORMS, *WRITERS])
def test_all_steps_at_once_are_the_steps_one_by_one(name):
    if name in FORMS:
        model, lengths = FORMS[name](), LENGTHS
        xs = XS
    else:
        model, lengths = WRITERS[name](), None
        xs = tg.tensor(vectors(model))
    logits = model(xs, YS, lengths)
    assert logits.shape == (T, B, TARGETS)
    state, steps = model.encode(xs, lengths), []
    for y in YS:
        logit, state = model.step(y, state)
        assert logit.shape == (B, TARGETS)
        steps.append(logit)
    one_by_one = tg.ops.stack(steps)
    all_close([one_by_one], [logits], 1e-12)
    w, parameters = tg.tensor(normal(T, B, TARGETS)), list(model.parameters())
    found, expected = (tg.grad((y * w).sum(), parameters, allow_unused=True) for y in (one_by_one, logits))
    all_close(found, expected)
    assert all(g.numpy().any() for g in expected)


@pytest.mark.parametrize("name", FORMS)
def test_a_batch_of_ragged_sources_is_its_sequences_alone_without_padding(name):
    model = FORMS[name]()
    together, alone = model(XS, YS, LENGTHS), []
    for b, n in enumerate(LENGTHS):
        alone.append(model(XS[:n, b : b + 1], YS[:, b : b + 1]))
    alone = tg.ops.concat(alone, axis=1)
    all_close([together], [alone], 1e-12)
    other = XS.copy()
    for b, n in enumerate(LENGTHS):
        other[n:, b] = (other[n:, b] + 1) % SOURCES
    np.testing.assert_array_equal(model(other, YS, LENGTHS).numpy(), together.numpy())
    w, parameters = tg.tensor(normal(T, B, TARGETS)), list(model.parameters())
    found, expected = (tg.grad((y * w).sum(), parameters) for y in (together, alone))
    all_close(found, expected)


def test_what_stands_after_a_token_does_not_change_what_is_said_before():
    model = model_of("general")
    before, ys = model(XS, YS, LENGTHS).numpy(), YS.copy()
    ys[2] = (ys[2] + 1) % TARGETS
    after = model(XS, ys, LENGTHS).numpy()
    np.testing.assert_array_equal(after[:2], before[:2])
    assert (after[2:] != before[2:]).all()


@pytest.mark.parametrize("name", FORMS)
def test_the_derivatives_of_the_loss_are_what_differences_give(name):
    model = FORMS[name]()
    run, parameters = by_parameters(model, lambda: loss_of(model))
    assert tg.gradcheck(run, *parameters, order=1)
    gradients = tg.grad(loss_of(model), list(model.parameters()))
    assert all(g.numpy().any() for g in gradients)


@pytest.mark.parametrize("name", WRITERS)
def test_the_derivatives_of_a_writer_are_what_differences_give(name):
    model = WRITERS[name]()
    run, parameters = by_parameters(model, lambda xs: loss_of(model, xs, lengths=None))
    assert tg.gradcheck(run, *parameters, tg.tensor(vectors(model), requires_grad=True))


def test_the_second_derivatives_of_the_loss_are_what_differences_give():
    model = model_of("general")
    run, parameters = by_parameters(model, lambda: loss_of(model, XS[:3, :2], YS[:2, :2], NEXT[:2, :2], [3, 1]))
    assert tg.gradcheck(run, *parameters, order=2)


@compiled
def test_a_model_under_every_engine_equals_eager(engine):
    found = []
    for kind in "eager", engine:
        model = model_of("general", engine=kind)
        logits = model(XS, YS, LENGTHS)
        gradients = tg.grad(loss_of(model), list(model.parameters()))
        found.append([logits.numpy(), *(g.numpy() for g in gradients)])
        xs = model.target(YS)
        assert model.decoder.plan(xs, model.encode(XS, LENGTHS)).engine == kind
    all_close(found[1], found[0])


class Noted(nn.Module):
    """In place of a dropout: what passes, doubled, and its shapes."""

    def __init__(self):
        self.seen = []

    def forward(self, x):
        self.seen.append(x.shape)
        return x * 2


def test_what_is_read_and_returned_is_dropped_in_training_and_nothing_else():
    model = model_of("general", dropout=0.4)
    assert model.dropout.p == 0.4
    dropped = model(XS, YS, LENGTHS).numpy()
    assert (model(XS, YS, LENGTHS).numpy() != dropped).any()
    model.eval()
    np.testing.assert_array_equal(model(XS, YS, LENGTHS).numpy(), model_of("general")(XS, YS, LENGTHS).numpy())
    model.dropout = noted = Noted()
    model(XS, YS, LENGTHS)
    assert sorted(noted.seen) == sorted([(S, B, E), (S, B, H), (T, B, E), (T, B, 2 * H)])
    noted.seen.clear()
    model.step(YS[0], model.encode(XS))
    assert sorted(noted.seen) == sorted([(S, B, E), (S, B, H), (B, E), (B, 2 * H)])


def test_attention_without_an_encoder_is_refused():
    cell = nn.AttentionCell(nn.GRUCell(E + H, H), nn.DotAttention())
    with pytest.raises(
        ValueError, match=r"^EncoderDecoder: attention looks at the outputs of an encoder, there is none$"
    ):
        nn.EncoderDecoder(None, None, nn.Bridge(2, cell.cell), nn.Embedding(3, E), cell, nn.Linear(H, 3))


# ---- a model from a config -----------------------------------------------------------------------------------------

SMALL = Config(hidden=4, embed=3, dropout=0.0, dtype="float64", batch=4)


def small(**options):
    return Config(**{**vars(SMALL), **options})


@every_kind
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_config_makes_a_model(kind, cell, layers):
    for query in translation.QUERIES:
        config = checked(small(attention=kind, cell=cell, layers=layers, query=query))
        model = translation.build(config, SOURCES, TARGETS)
        assert {p.dtype for p in model.parameters()} == {np.dtype("float64")}
        logits, _ = model.step(YS[0], model.encode(XS[:2], [2, 1, 2]))
        assert logits.shape == (B, TARGETS)
        assert len(model.encoder.cells) == 2 * layers
        inner = model.decoder.cell.cell if kind != "none" else model.decoder.cell
        assert len(getattr(inner, "cells", [inner])) == layers
        looks = isinstance(model.decoder.cell, nn.AttentionCell)
        assert looks == (kind not in ("none", "context"))
        assert not looks or model.decoder.cell.query == query


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 5}, "--hidden: must be even: .* got 5$"),
        ({"hidden": 0}, "--hidden: must be .* got 0$"),
        ({"attention": "much"}, "--attention: must be one of none, context, dot, .* got much$"),
        ({"query": "input"}, "--query: must be one of output, previous, context, got input$"),
        ({"sampling": 1.5}, "--sampling: must be from 0 to 1, got 1.5$"),
        ({"clip": -1.0}, "--clip: must be a finite number of at least 0, got -1.0$"),
        ({"min_count": 0}, "--min-count: must be at least 1, got 0$"),
        ({"layers": 0}, "--layers: must be at least 1, got 0$"),
        ({"batch": 1.5}, "--batch: must be of type int, got 1.5$"),
    ],
)
def test_a_config_that_makes_no_sense_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        checked(small(**options))


# ---- batches of pairs ----------------------------------------------------------------------------------------------


def test_lengths_are_rounded_up_to_four_in_an_octave():
    found = [rounded(n) for n in range(1, 100)]
    allowed = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112]
    assert found == [next(m for m in allowed if m >= n) for n in range(1, 100)]
    assert rounded(0) == 0
    assert rounded(1025) == 1280


def test_sequences_are_padded_behind_their_ends():
    found = padded([[1, 2, 3], np.array([4]), []], -7)
    np.testing.assert_array_equal(found, [[1, 4, -7], [2, -7, -7], [3, -7, -7]])
    assert found.dtype == np.int64
    np.testing.assert_array_equal(padded([[1], [2]], 0, 3), [[1, 2], [0, 0], [0, 0]])


START_ID, END_ID = 90, 91


def pairs_of(n=23, batch_size=4, seed=0):
    """Pairs whose first token is their number, of lengths from 1 to 11 and from 0 to 9."""
    rng = np.random.default_rng(3)
    tokens = lambda i, length: np.concatenate([[i], rng.integers(0, 50, length)])
    sources = [tokens(i, rng.integers(0, 11)) for i in range(n)]
    targets = [tokens(i, rng.integers(0, 9)) if i != 5 else np.zeros(0, int) for i in range(n)]
    return Pairs(sources, targets, batch_size, start=START_ID, end=END_ID, seed=seed)


def test_every_pair_comes_once_in_each_epoch_in_an_order_of_its_own():
    pairs, orders = pairs_of(), []
    for epoch in range(4):
        order = pairs.order(epoch)
        assert len(order) == len(pairs) == 6
        assert sorted(map(len, order)) == [3, 4, 4, 4, 4, 4]
        np.testing.assert_array_equal(np.sort(np.concatenate(order)), np.arange(23))
        orders.append(np.concatenate(order).tolist())
        same = pairs_of().order(epoch)
        assert all((a == b).all() for a, b in zip(order, same, strict=True))
        assert [b.tolist() for b in order] != [b.tolist() for b in pairs_of(seed=1).order(epoch)]
    assert len({tuple(order) for order in orders}) == 4


def test_the_pairs_of_a_batch_are_named_by_any_sequence():
    pairs = pairs_of(9)
    for which in [3], (3,), range(3, 4), np.array([3]):
        batch = pairs.batch(which)
        assert batch.lengths.tolist() == [len(pairs.sources[3])]
        assert batch.source[: batch.lengths[0], 0].tolist() == list(pairs.sources[3])


def test_pairs_of_like_lengths_are_together_and_batches_come_in_any_order():
    pairs, firsts = pairs_of(), []
    for epoch in range(8):
        batches = [[pairs.lengths[i].tolist() for i in batch] for batch in pairs.order(epoch)]
        ranked = sorted(batches)
        assert [pair for batch in ranked for pair in sorted(batch)] == sorted(pairs.lengths.tolist())
        for below, above in itertools.pairwise(ranked):
            assert max(below) <= min(above)
        firsts.append(ranked.index(batches[0]))
    assert len(set(firsts)) > 2


def test_which_of_pairs_of_equal_lengths_are_together_differs_between_epochs():
    pairs = Pairs([np.array([i]) for i in range(12)], [np.array([i]) for i in range(12)], 3, start=0, end=1)
    found = {tuple(sorted(tuple(sorted(batch)) for batch in pairs.order(epoch))) for epoch in range(5)}
    assert len(found) == 5


def test_a_batch_holds_its_pairs_and_padding_that_counts_for_nothing():
    pairs = pairs_of()
    count = 0
    for numbers, batch in zip(pairs.order(2), pairs.epoch(2), strict=True):
        (S, B), T = batch.source.shape, len(batch.inputs)
        assert (B, batch.inputs.shape, batch.targets.shape) == (len(numbers), (T, B), (T, B))
        np.testing.assert_array_equal(batch.lengths, [len(pairs.sources[i]) for i in numbers])
        assert rounded(int(batch.lengths.max())) == S
        assert rounded(max(len(pairs.targets[i]) for i in numbers) + 1) == T
        for b, i in enumerate(numbers):
            source, target = pairs.sources[i].tolist(), pairs.targets[i].tolist()
            n, m = len(source), len(target)
            assert batch.source[:, b].tolist() == source + [0] * (S - n)
            assert batch.inputs[:, b].tolist() == [START_ID, *target] + [END_ID] * (T - 1 - m)
            assert batch.targets[:, b].tolist() == [*target, END_ID] + [IGNORED] * (T - 1 - m)
        count += (batch.targets != IGNORED).sum()
    assert count == pairs.tokens == sum(map(len, pairs.targets)) + 23


def test_what_is_ignored_changes_neither_loss_nor_gradients():
    model, pairs = model_of("general"), pairs_of()
    source = np.array([[1, 2], [3, 0], [4, 0]])
    batch = Batch(
        source, np.array([3, 1]), np.array([[1, 1], [2, 3], [5, 0]]), np.array([[2, 3], [5, 0], [0, IGNORED]])
    )
    task = PairTask(model, pairs, pairs)
    loss, n = task.batch_loss(batch)
    assert n == 5
    other = batch._replace(inputs=np.array([[1, 1], [2, 3], [5, 4]]), source=np.array([[1, 2], [3, 6], [4, 5]]))
    same, _ = task.batch_loss(other)
    alone = [
        nn.cross_entropy(model(source[:k, b : b + 1], batch.inputs[:m, b : b + 1]), batch.targets[:m, b : b + 1])
        for b, (k, m) in enumerate([(3, 3), (1, 2)])
    ]
    total = alone[0] * 3 + alone[1] * 2
    parameters = list(model.parameters())
    expected = tg.grad(total, parameters)
    for found in loss, same:
        np.testing.assert_allclose(found.item(), total.item(), rtol=1e-12)
        all_close(tg.grad(found, parameters), expected)


@pytest.mark.parametrize(
    ("sources", "targets", "message"),
    [
        ([[1], [2]], [[1]], "Pairs: there must be a target for each source, got 2 sources, 1 targets$"),
        ([], [], "Pairs: there must be a target for each source, got 0 sources, 0 targets$"),
        ([[1], []], [[1], [1]], "Pairs: a source must have at least one token, got an empty one$"),
    ],
)
def test_pairs_that_are_none_are_named(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        Pairs([np.array(s) for s in sources], [np.array(t) for t in targets], 2, start=0, end=1)


# ---- scheduled sampling --------------------------------------------------------------------------------------------


def batch_of(seed=0):
    inputs = ids(TARGETS, 7, B, seed=seed)
    return Batch(XS, LENGTHS, inputs, np.roll(inputs, -1, axis=0))


def peaked(kind="general"):
    """A model that is sure of what it says."""
    model = model_of(kind)
    model.output.W.data = model.output.W.numpy() * 1e4
    model.output.b.data = model.output.b.numpy() * 1e4
    return model


def test_a_share_of_nothing_leaves_the_inputs():
    batch = batch_of()
    found = sampled_inputs(model_of("general"), batch, 0.0)
    np.testing.assert_array_equal(found, batch.inputs)
    assert found is not batch.inputs


@every_kind
def test_a_share_of_all_feeds_what_a_sure_model_says(kind):
    model, batch = peaked(kind), batch_of()
    before = batch.inputs.copy()
    found = sampled_inputs(model, batch, 1.0)
    np.testing.assert_array_equal(batch.inputs, before)
    np.testing.assert_array_equal(found[0], before[0])
    logits = model(XS, found, LENGTHS).numpy()
    np.testing.assert_array_equal(found[1:], logits[:-1].argmax(-1))
    assert (found[1:] != before[1:]).any()
    assert found.dtype == before.dtype


def test_a_share_of_some_is_fed_where_a_coin_says_so():
    model, batch = peaked(), batch_of()
    tg.manual_seed(4)
    own = random.uniform(batch.inputs.shape) < 0.5
    tg.manual_seed(4)
    found = sampled_inputs(model, batch, 0.5)
    said = model(XS, found, LENGTHS).numpy()[:-1].argmax(-1)
    np.testing.assert_array_equal(found[1:], np.where(own[1:], said, batch.inputs[1:]))
    assert own[1:].any()
    assert not own[1:].all()


def test_tokens_are_drawn_as_likely_as_the_model_holds_them():
    model = model_of("none")
    for p in model.output.parameters():
        p.data = p.numpy() * 0
    P = np.array([0.1, 0.2, 0.3, 0.4, 0.0, 0.0])
    model.output.b.data = np.log(np.maximum(P, 1e-30))
    n = 400
    batch = Batch(np.tile(XS[:, :1], (1, n)), np.full(n, S), np.zeros((3, n), int), np.zeros((3, n), int))
    found = sampled_inputs(model, batch, 1.0)[1:]
    shares = np.bincount(found.ravel(), minlength=TARGETS) / found.size
    np.testing.assert_allclose(shares, P, atol=0.06)
    assert not shares[4:].any()


def test_sampling_records_nothing_and_its_gradient_is_that_of_the_loss_on_what_was_drawn():
    model, batch = model_of("additive"), batch_of()
    tg.manual_seed(2)
    inputs = sampled_inputs(model, batch, 1.0)
    assert type(inputs) is np.ndarray
    assert all(p.grad is None for p in model.parameters())
    pairs = Pairs([XS[: LENGTHS[b], b] for b in range(B)], [batch.inputs[1:, b] for b in range(B)], B, start=0, end=1)
    tg.manual_seed(2)
    task = PairTask(model, pairs, pairs, sampling=1.0, epochs=1)
    task.share = 1.0
    given = pairs.batch(task.order[0])
    loss, n, _ = task.loss(0, None)
    tg.manual_seed(2)
    drawn = sampled_inputs(model, given, 1.0)
    state, total = model.encode(given.source, given.lengths), 0
    for x, target in zip(drawn, given.targets, strict=True):  # token by token, each fed as a number
        logits, state = model.step(x, state)
        total = total + nn.cross_entropy(logits, target, reduction="sum", ignore_index=IGNORED)
    assert n == (given.targets != IGNORED).sum() == 3 * 7
    assert (drawn[1:7] != given.inputs[1:7]).any()
    np.testing.assert_allclose(loss.item(), total.item(), rtol=1e-12)
    parameters = list(model.parameters())
    all_close(tg.grad(loss, parameters), tg.grad(total, parameters))


def test_the_share_of_own_tokens_grows_from_none_to_what_was_asked_for():
    pairs = pairs_of()
    task = PairTask(model_of("none"), pairs, pairs, sampling=0.6, epochs=4)
    shares = []
    for epoch in range(6):
        task.start(epoch)
        shares.append(task.share)
        assert all((a == b).all() for a, b in zip(task.order, pairs.order(epoch), strict=True))
    np.testing.assert_allclose(shares, [0, 0.2, 0.4, 0.6, 0.6, 0.6])
    assert (len(task), task.tokens()) == (6, pairs.tokens)


def test_labels_are_smoothed_while_training_and_never_in_what_is_validated():
    pairs = Pairs([XS[: LENGTHS[b], b] for b in range(B)], [YS[: b + 1, b] for b in range(B)], 2, start=0, end=1)
    model = model_of("general")
    plain, smooth = PairTask(model, pairs, pairs), PairTask(model, pairs, pairs, label_smoothing=0.2)
    batch = next(iter(pairs.epoch(0)))
    logits = model(batch.source, batch.inputs, batch.lengths)
    logp = logits.log_softmax().numpy()
    counts = batch.targets != IGNORED
    target = np.take_along_axis(logp, np.where(counts, batch.targets, 0)[..., None], -1)[..., 0]
    expected = -((0.8 * target + 0.2 * logp.mean(-1)) * counts).sum()
    assert smooth.batch_loss(batch)[0].item() == pytest.approx(expected, rel=1e-12)
    assert smooth.batch_loss(batch)[0].item() != pytest.approx(plain.batch_loss(batch)[0].item(), rel=1e-3)
    assert smooth.validate() == plain.validate()


def test_a_model_is_validated_by_nats_per_token_without_dropout():
    pairs = Pairs([XS[: LENGTHS[b], b] for b in range(B)], [YS[: b + 1, b] for b in range(B)], 2, start=0, end=1)
    model = model_of("general", dropout=0.5)
    task = PairTask(model, pairs, pairs)
    found = task.validate()
    assert model.training
    plain, nats = model_of("general"), 0.0
    for b in range(B):
        batch = pairs.batch([b])
        nats += loss_of(plain, batch.source, batch.inputs, batch.targets, batch.lengths).item()
    assert found == pytest.approx(nats / (1 + 2 + 3 + 3), rel=1e-12)
    assert task.measure(found) == pytest.approx(math.exp(found))


# ---- texts ---------------------------------------------------------------------------------------------------------


def test_special_tokens_come_first_and_are_no_part_of_the_text():
    vocabulary = Vocabulary.of(["ba", "cab"], special=[UNKNOWN, START, END])
    assert vocabulary.tokens == [UNKNOWN, START, END, "a", "b", "c"]
    np.testing.assert_array_equal(vocabulary.encode("cxa"), [5, 0, 3])
    words = Vocabulary.of(["to be or not to be", "to do"], True, min_count=1, special=[START, END])
    assert words.tokens == [UNKNOWN, START, END, "to", "be", "do", "not", "or"]
    assert len(words) == 8
    assert Vocabulary.of("ab", special=["b"]).tokens == ["b", "a"]
    assert Vocabulary.of("<s>ab", special=[START]).tokens == [START, "<", ">", "a", "b", "s"]


@pytest.mark.parametrize("words", [False, True])
def test_tokens_that_come_too_rarely_are_unknown(words):
    texts = ["a b b", "b c c c"] if words else ["abb", "bccc"]
    for least, kept in (1, ["c", "b", "a"]), (2, ["c", "b"]), (3, ["c", "b"]), (4, []):
        vocabulary = Vocabulary.of(texts, words, min_count=least, special=[UNKNOWN])
        assert sorted(vocabulary.tokens) == sorted([UNKNOWN, *kept])
        assert vocabulary.tokens[0] == UNKNOWN
        found = vocabulary.encode("a b c d" if words else "abcd")
        assert [vocabulary.tokens[i] for i in found] == [t if t in kept else UNKNOWN for t in "abcd"]
    assert (UNKNOWN in Vocabulary.of(texts, words).ids) == words  # of words, those that come once are unknown
    assert ("a" in Vocabulary.of(texts, words).ids) != words


def test_an_unknown_token_is_added_where_something_may_be_left_out():
    assert Vocabulary.of("aab", min_count=2).tokens == [UNKNOWN, "a"]
    assert Vocabulary.of("aab", min_count=2, special=[START]).tokens == [UNKNOWN, START, "a"]
    assert Vocabulary.of("aab").tokens == ["a", "b"]
    with pytest.raises(ValueError, match="no token may come twice"):
        Vocabulary([START, "a", START], False)


def test_a_vocabulary_comes_back_from_what_is_saved():
    for words in False, True:
        vocabulary = Vocabulary.of(["ab cd", "ab"], words, min_count=1, special=[UNKNOWN, START])
        again = Vocabulary(**vocabulary.as_dict())
        assert (again.tokens, again.words, again.ids) == (vocabulary.tokens, words, vocabulary.ids)


def test_pairs_are_read_line_by_line(tmp_path):
    path = tmp_path / "pairs"
    path.write_bytes("\ufeff a b \t x y\r\n\n  \nc\t\n  d\tz  ".encode())
    assert data.read_pairs(path) == [("a b", "x y"), ("c", ""), ("d", "z")]


@pytest.mark.parametrize(
    ("text", "line", "shown"),
    [
        ("a\tb\nc\n", 2, "'c'"),
        ("a\tb\tc\n", 1, r"'a\\tb\\tc'"),
        ("a\tb\n\n \tb\n", 3, r"' \\tb'"),
        ("a b\n", 1, "'a b'"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, text, line, shown):
    (tmp_path / "pairs").write_text(text)
    with pytest.raises(ValueError, match=f"^pairs: line {line} of .* must be source TAB target, got {shown}$"):
        data.read_pairs(tmp_path / "pairs")


def test_a_line_that_is_no_pair_is_shown_in_part(tmp_path):
    (tmp_path / "pairs").write_text("x" * 100)
    with pytest.raises(ValueError, match=rf"got '{'x' * 60}'$"):
        data.read_pairs(tmp_path / "pairs")
    with pytest.raises(ValueError, match=r"^text: there is no file"):
        data.read_pairs(tmp_path / "other")


def test_a_line_ends_at_a_line_feed_and_nowhere_else(tmp_path):
    (tmp_path / "pairs").write_text("a\u2028b\tc\x0bd\n", encoding="utf-8")
    assert data.read_pairs(tmp_path / "pairs") == [("a\u2028b", "c\x0bd")]


def test_no_source_is_on_both_sides_of_what_is_held_out():
    pairs = [(f"source {i % 20}", f"target {i}") for i in range(50)]
    for share, held in (0.1, 2), (0.5, 10), (0.001, 1), (0.9, 18):
        sides = translation.hold_out(pairs, share, seed=3)
        assert sorted([*sides[0], *sides[1]]) == sorted(pairs)
        sources = [{source for source, _ in side} for side in sides]
        assert not sources[0] & sources[1]
        assert len(sources[1]) == held
        assert all(side == [p for p in pairs if p in side] for side in sides)  # in the order of the file
        assert translation.hold_out(pairs, share, seed=3) == sides
    assert translation.hold_out(pairs, 0.5, seed=4) != translation.hold_out(pairs, 0.5, seed=3)
    shuffled = [pairs[i] for i in np.random.default_rng(0).permutation(50)]
    assert {s for s, _ in translation.hold_out(shuffled, 0.5, 3)[1]} == {
        s for s, _ in translation.hold_out(pairs, 0.5, 3)[1]
    }
    with pytest.raises(ValueError, match=r"^pairs: there must be sources beside those held out, got 1 different ones"):
        translation.hold_out([("a", "b"), ("a", "c")], 0.5, 0)


def test_a_share_that_leaves_nothing_to_learn_from_is_not_called_too_few_sources():
    pairs = [(f"source {i}", "target") for i in range(20)]
    with pytest.raises(ValueError, match=r"^pairs: there must be sources beside those held out, got 20"):
        translation.hold_out(pairs, 0.99, seed=0)


def test_pairs_of_texts_become_pairs_of_numbers():
    pairs = [("ab", "x y"), ("b", "y"), ("cab", "y z y")]
    source, target = translation.vocabularies_of(small(target_words=True), pairs)
    assert source.tokens == [UNKNOWN, "a", "b", "c"]
    assert target.tokens == [UNKNOWN, START, END, "y", "x", "z"]
    found = translation.numbered(pairs, source, target, 2, seed=7)
    assert [s.tolist() for s in found.sources] == [[1, 2], [2], [3, 1, 2]]
    assert [t.tolist() for t in found.targets] == [[4, 3], [3], [3, 5, 3]]
    assert (found.start, found.end, found.seed, found.batch_size) == (1, 2, 7, 2)


# ---- translation ---------------------------------------------------------------------------------------------------

SOURCE = Vocabulary.of("abcd", special=[UNKNOWN])
TARGET = Vocabulary.of("uvwxyz", special=[UNKNOWN, START, END])
TEXTS = ["abcdabc", "a", "dcb", "ba", "cccc", "d", "abab", "dd", "acbd"]


def translator_of(attention="general", end=3.0):
    """An untrained model that says different things of different sources; the larger `end`, the shorter."""
    model = translation.build(small(attention=attention, hidden=8, embed=6), len(SOURCE), len(TARGET))
    for layer in randomised(model, seed=2, scale=1.5).encoder.layers:
        layer.forwards.engine = layer.backwards.engine = "eager"
    bias = model.output.b.numpy()
    bias[TARGET.ids[END]] += end
    bias[[TARGET.ids[UNKNOWN], TARGET.ids[START]]] -= 50
    model.output.b.data = bias
    return Translator(model.eval(), SOURCE, TARGET)


@pytest.mark.parametrize("attention", ["none", "context", "general", "additive"])
def test_each_text_is_translated_in_its_place_whatever_the_batches(attention):
    translator = translator_of(attention)
    alone = [translator([text])[0][0] for text in TEXTS]
    assert len({tuple(h.tokens) for h in alone}) > 2
    for batch in 1, 2, 4, 256:
        found = translator(TEXTS, batch=batch)
        assert [len(each) for each in found] == [1] * len(TEXTS)
        for (best,), one in zip(found, alone, strict=True):
            assert best.tokens[: len(one.tokens)] == one.tokens  # one that does not end is cut
            if one.finished:
                assert best.tokens == one.tokens
                assert best.log_prob == pytest.approx(one.log_prob, rel=1e-10)
    assert translator([]) == []


def test_greedy_is_a_beam_of_one():
    translator = translator_of("additive")
    for text in TEXTS[:4]:
        ((best,),) = translator([text])
        sequence = SOURCE.encode(text)[:, None]
        state = translator.model.encode(sequence, [len(sequence)])
        options = {"start": TARGET.ids[START], "end": TARGET.ids[END], "max_length": 2 * len(sequence) + 10}
        ((beam,),) = decode.beam_search(translator.model.step, state, width=1, **options)
        assert (best.tokens, best.finished) == (beam.tokens, beam.finished)
        np.testing.assert_allclose([best.log_prob, best.score], [beam.log_prob, beam.score], rtol=1e-12)


def test_a_hypothesis_is_as_likely_as_the_model_says_and_a_wider_beam_finds_likelier_ones():
    translator, options = translator_of(), {"start": TARGET.ids[START], "end": TARGET.ids[END]}
    for text in TEXTS:
        (best,) = translator([text])[0]
        several = translator([text], beam=6, n_best=4, length_penalty=0.0)[0]
        assert 1 < len(several) <= 4
        assert several[0].log_prob >= best.log_prob - 1e-12
        assert [h.score for h in several] == sorted((h.score for h in several), reverse=True)
        sequence = SOURCE.encode(text)[:, None]
        for h in (best, *several):
            if h.finished:
                state = translator.model.encode(sequence)
                (log_prob,) = decode.score(translator.model.step, state, [h.tokens], **options)
                assert h.log_prob == pytest.approx(log_prob, rel=1e-10)


@pytest.mark.parametrize("attention", ["general", "multihead", "none"])
def test_a_hypothesis_tells_where_the_model_looked(attention):
    translator = translator_of(attention)
    for beam in 1, 3:
        for text, (best,) in zip(TEXTS, translator(TEXTS, beam=beam, batch=4), strict=True):
            if attention == "none":
                assert best.weights is None
                continue
            heads = (4,) if attention == "multihead" else ()
            n = len(best.tokens) + best.finished
            assert best.weights.shape[:-1] == (n, *heads)
            np.testing.assert_allclose(best.weights.sum(-1), 1, rtol=1e-12)
            assert not best.weights[..., len(text) :].any()


def test_a_translation_that_does_not_end_is_cut_at_the_same_length_in_every_batch():
    translator = translator_of(end=-50.0)
    (alone,), ((together,), _) = translator(["a"])[0], translator(["a", "abcdabc"])
    assert not alone.finished
    assert together.tokens == alone.tokens


def test_a_source_without_tokens_is_named():
    translator = translator_of()
    with pytest.raises(ValueError, match=r"^source: must have at least one token, got ''$"):
        translator(["ab", ""])
    words = Vocabulary.of(["a b"], True, min_count=1, special=[UNKNOWN])
    with pytest.raises(ValueError, match=r"^source: must have at least one token, got '  '$"):
        Translator(translator.model, words, TARGET)(["  "])


def test_unknown_letters_are_translated_as_one_another():
    translator = translator_of()
    (known,), (unknown,), (other,) = translator(["aba", "aqa", "aéa"])
    assert unknown.tokens == other.tokens
    assert unknown.log_prob == other.log_prob != known.log_prob


def test_a_hypothesis_is_text():
    translator = translator_of()
    said = lambda *tokens: Hypothesis(list(tokens), -1.0, -1.0, True)
    assert translator.text(said(*(TARGET.ids[c] for c in "wax" if c in TARGET.ids))) == "wx"
    words = Vocabulary([UNKNOWN, START, END, "Wait", ",", "please", "!"], True)
    assert Translator(translator.model, SOURCE, words).text(said(3, 4, 5, 6)) == "Wait, please!"
    assert translator.text(said()) == ""


class Saying(Translator):
    """Says what it is told, and remembers what it was asked for."""

    def __init__(self, answers, words):
        texts = ["ab ba", *answers.values()]
        super().__init__(None, SOURCE, Vocabulary.of(texts, words, min_count=1, special=[UNKNOWN, START, END]))
        self.answers, self.asked = answers, []

    def __call__(self, texts, **options):
        self.asked.append((list(texts), options))
        return [[Hypothesis([int(i) for i in self.target.encode(self.answers[t])], -1.0, -1.0, True)] for t in texts]


def test_a_model_is_evaluated_by_its_closest_answers():
    pairs = [("one", "a b"), ("two", "b a"), ("one", "a b b"), ("three", "a"), ("four", "a a a")]
    answers = {"one": "a b b", "two": "b b", "three": "b a a", "four": "a a a"}
    translator = Saying(answers, words=True)
    found = translation.evaluate(translator, pairs, beam=3, length_penalty=0.5)
    assert found["accuracy"] == pytest.approx(2 / 4)
    assert found["token error rate"] == pytest.approx((0 + 1 + 2 + 0) / (3 + 2 + 1 + 3))
    assert translator.asked == [(["one", "two", "three", "four"], {"beam": 3, "length_penalty": 0.5})]
    letters = translation.evaluate(Saying({"x": "abc"}, words=False), [("x", "abcd"), ("x", "bbb")])
    assert letters == {"accuracy": 0.0, "token error rate": pytest.approx(1 / 4)}


def test_a_translator_is_evaluated_on_what_it_says():
    translator = translator_of()
    said = {text: translator.text(best) for text, (best,) in zip(TEXTS, translator(TEXTS), strict=True)}
    right = [(text, answer) for text, answer in said.items() if answer]
    assert len(right) > 4
    assert translation.evaluate(translator, right) == {"accuracy": 1.0, "token error rate": 0.0}
    wrong = [*right, ("abcd", "q" * 500)]
    assert translation.evaluate(translator, wrong)["accuracy"] == pytest.approx(len(right) / len(wrong))


# ---- training, against the same model written in PyTorch -----------------------------------------------------------

ORACLES = {
    "no attention": {"attention": "none"},
    "a context": {"attention": "context"},
    "general": {"attention": "general"},
    "additive": {"attention": "additive"},
    "additive, previous": {"attention": "additive", "query": "previous"},
    "two layers": {"attention": "general", "layers": 2},
}


def their_layers(config):
    """The layers of the same network in PyTorch."""
    import torch

    E, H, L, kind = config.embed, config.hidden, config.layers, config.attention
    end, attends = 2 * L * H, kind in ("general", "additive")
    read = {"none": 0, "context": end}.get(kind, H)
    layers = {
        "source": torch.nn.Embedding(SOURCES, E),
        "encoder": torch.nn.LSTM(E, H // 2, L, bidirectional=True),
        "bridge": torch.nn.Linear(end, 2 * L * H),
        "target": torch.nn.Embedding(TARGETS, E),
        "cells": torch.nn.ModuleList([torch.nn.LSTMCell(H if i else E + read, H) for i in range(L)]),
        "output": torch.nn.Linear(2 * H if attends else H, TARGETS),
    }
    if attends:
        layers["W"] = torch.nn.Linear(H, H, bias=False)
    if kind == "additive":
        layers |= {"U": torch.nn.Linear(H, H), "a": torch.nn.Linear(H, 1, bias=False)}
    return torch.nn.ModuleDict(layers)


def their_attention(kind, m, query, hs, mask):
    """The mixture of hs (S, B, H), those that the mask (S, B) allows."""
    import torch

    if kind == "general":
        scores = (m["W"](hs) * query).sum(-1)
    else:
        scores = m["a"](torch.tanh(m["W"](query) + m["U"](hs))).squeeze(-1)
    return (scores.masked_fill(~mask, -math.inf).softmax(0)[..., None] * hs).sum(0)


def their_encoding(m, batch):
    """hs (S, B, H), the mask (S, B), and what the encoder ends with, (B, D)."""
    import torch

    xs, lengths = torch.tensor(batch.source), torch.tensor(batch.lengths)
    packed = torch.nn.utils.rnn.pack_padded_sequence(m["source"](xs), lengths, enforce_sorted=False)
    hs, (h, c) = m["encoder"](packed)
    hs, _ = torch.nn.utils.rnn.pad_packed_sequence(hs, total_length=len(xs))
    last = torch.cat([s.transpose(0, 1).flatten(1) for s in (h, c)], 1)
    return hs, torch.arange(len(xs))[:, None] < lengths, last


def their_loss(config, m, batch):
    """Nats of a batch, summed."""
    import torch

    kind, attends = config.attention, "W" in m
    hs, mask, last = their_encoding(m, batch)
    parts = torch.tanh(m["bridge"](last)).split(config.hidden, 1)
    states = list(zip(parts[::2], parts[1::2], strict=True))
    seen, y, logits = torch.zeros(len(last), config.hidden), states[-1][0], []
    for ids in torch.tensor(batch.inputs):
        if attends and config.query == "previous":
            seen = their_attention(kind, m, y, hs, mask)
        y = torch.cat([m["target"](ids), *([seen] if attends else [last] if kind == "context" else [])], 1)
        for i, cell in enumerate(m["cells"]):
            states[i] = cell(y, states[i])
            y = states[i][0]
        if attends and config.query == "output":
            seen = their_attention(kind, m, y, hs, mask)
        logits.append(m["output"](torch.cat([y, seen], 1) if attends else y))
    targets = torch.tensor(batch.targets).flatten()
    return torch.nn.functional.cross_entropy(torch.stack(logits).flatten(0, 1), targets, reduction="sum")


def their_copy(config, ours):
    """The network in PyTorch, with our weights; of the two biases that its cells add one is not trained."""
    import torch

    theirs = their_layers(config).double()
    theirs.load_state_dict({name: torch.tensor(value) for name, value in as_theirs(config, ours).items()})
    for name, p in theirs.named_parameters():
        p.requires_grad_("bias_hh" not in name)
    return theirs


def as_theirs(config, ours):
    """Our weights by the names of the model above."""
    found = {}
    put = lambda path, module: found.update({f"{path}.{k}": v for k, v in torch_weights.export(module).items()})
    for name in "source", "encoder", "target", "output":
        put(name, getattr(ours, name))
    put("bridge", ours.bridge.linear)
    cell = ours.decoder.cell
    inner = cell if config.attention == "none" else cell.cell
    for i, each in enumerate(inner.cells if config.layers > 1 else [inner]):
        put(f"cells.{i}", each)
    if config.attention == "general":
        found["W.weight"] = cell.attention.W.numpy().T
    elif config.attention == "additive":
        p = cell.attention.state_dict()
        found |= {"W.weight": p["W"].T, "U.weight": p["U"].T, "U.bias": p["b"], "a.weight": p["a"][None]}
    return found


def some_pairs():
    """Pairs of 1 to 8 tokens: each target is its source from the last to the first, with some noise."""
    rng, sources, targets = np.random.default_rng(5), [], []
    for _ in range(12):
        source = rng.integers(1, SOURCES, rng.integers(1, 9))
        sources.append(source)
        targets.append(2 + (source[::-1][: rng.integers(1, 9)] + rng.integers(0, 2)) % (TARGETS - 2))
    return Pairs(sources, targets, 4, start=0, end=1, seed=2)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ORACLES)
def test_twenty_training_steps_follow_pytorchs(name):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        config = small(**{"hidden": 6, "embed": 5, "epochs": 7, **ORACLES[name]})
        ours = randomised(translation.build(config, SOURCES, TARGETS), scale=0.5)
        theirs = their_copy(config, ours)
        start = theirs.state_dict()["encoder.weight_hh_l0"].clone()
        pairs = some_pairs()
        task, losses = PairTask(ours, pairs, pairs), ([], [])
        optimizer = optim.Adam(ours.parameters(), lr=0.02)
        trained = [p for p in theirs.parameters() if p.requires_grad]
        other = torch.optim.Adam(trained, lr=0.02)
        clipped = 0
        for step in range(20):
            epoch, i = divmod(step, len(task))
            task.start(epoch)
            loss, n, _ = task.loss(i, None)
            optimizer.zero_grad()
            (loss / n).backward()
            clipped += float(optim.clip_grad_norm_(ours.parameters(), 0.5)) > 0.5
            optimizer.step()
            losses[0].append(loss.item() / n)
            batch = pairs.batch(pairs.order(epoch)[i])
            total = their_loss(config, theirs, batch) / int((batch.targets != IGNORED).sum())
            other.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(trained, 0.5)
            other.step()
            losses[1].append(total.item())
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert 0 < clipped <= 20
    assert np.mean(losses[0][-3:]) < 0.9 * np.mean(losses[0][:3]), "the test should learn something"
    found, expected = as_theirs(config, ours), theirs.state_dict()
    assert found.keys() == expected.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key].numpy(), rtol=1e-7, atol=1e-9, err_msg=key)
    assert not torch.equal(start, expected["encoder.weight_hh_l0"])
