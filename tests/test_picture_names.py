"""What pictures say of a network: operands, gates, states, outputs and tokens, over cells of many kinds."""

import re

from typing import NamedTuple

import numpy as np
import pytest
import test_viz

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops

pytest.importorskip("graphviz")

I, H, V, N = 4, 4, 5, 6
P = lambda *shape: nn.Parameter(nn.init.uniform(shape, 0.5))
DIGITS = "₀₁₂₃₄₅₆₇₈₉"


class Course(nn.Cell):
    """h = tanh(b + h W + x U), o = c + h V, ŷ = softmax(o)"""

    def __init__(self):
        self.input_size = I
        self.U, self.W, self.V, self.b, self.c = P(I, H), P(H, H), P(H, V), P(H), P(V)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        h = ops.tanh(self.b + h @ self.W + x @ self.U)
        o = self.c + h @ self.V
        return ops.softmax(o, -1), h


class CourseLSTM(nn.Cell):
    """h first: the weight of h is U."""

    def __init__(self):
        self.input_size = I
        for gate in "fiao":
            setattr(self, f"W_{gate}", P(I, H)), setattr(self, f"U_{gate}", P(H, H))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, H)

    def forward(self, x, s):
        h, c = s
        f = ops.sigmoid(h @ self.U_f + x @ self.W_f)
        i = ops.sigmoid(h @ self.U_i + x @ self.W_i)
        a = ops.tanh(h @ self.U_a + x @ self.W_a)
        c = f * c + i * a
        o = ops.sigmoid(h @ self.U_o + x @ self.W_o)
        h = o * ops.tanh(c)
        return h, (h, c)


class SRU(nn.Cell):
    def __init__(self):
        self.input_size = I
        self.Wx, self.Wf, self.Wr = P(I, H), P(I, H), P(I, H)
        self.vf, self.vr = P(H), P(H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, c):
        f = ops.sigmoid(x @ self.Wf + self.vf * c)
        r = ops.sigmoid(x @ self.Wr + self.vr * c)
        c = f * c + (1 - f) * (x @ self.Wx)
        return r * c + (1 - r) * x, c


class QRNN(nn.Cell):
    def __init__(self):
        self.input_size = I
        self.Wz, self.Vz, self.Wf, self.Vf, self.Wo, self.Vo = (P(I, H) for _ in range(6))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, I), self.zeros(batch_size, H)

    def forward(self, x, state):
        last, c = state
        z = ops.tanh(x @ self.Wz + last @ self.Vz)
        f = ops.sigmoid(x @ self.Wf + last @ self.Vf)
        o = ops.sigmoid(x @ self.Wo + last @ self.Vo)
        c = f * c + (1 - f) * z
        return o * c, (x, c)


class LMU(nn.Cell):
    def __init__(self):
        self.input_size = I
        self.ex, self.em, self.Wx, self.Wh, self.Wm = P(I, 1), P(N, 1), P(I, H), P(H, H), P(N, H)
        self.A, self.B = tg.tensor(np.eye(N, dtype=np.float32)), tg.tensor(np.ones(N, np.float32))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, N)

    def forward(self, x, state):
        h, m = state
        u = x @ self.ex + m @ self.em
        m = m @ self.A + u * self.B
        h = ops.tanh(x @ self.Wx + h @ self.Wh + m @ self.Wm)
        return h, (h, m)


class SSM(nn.Cell):
    def __init__(self):
        self.input_size = I
        self.A, self.B, self.C, self.D = P(N, N), P(I, N), P(N, H), P(I, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, N)

    def forward(self, x, s):
        s = s @ self.A + x @ self.B
        return s @ self.C + x @ self.D, s


class Memory(NamedTuple):
    hidden: tg.Tensor
    long_term: tg.Tensor


class LongNames(nn.Cell):
    """With modules for some of its maps."""

    def __init__(self):
        self.input_size = I
        self.from_input, self.from_hidden = nn.Linear(I, H), nn.Linear(H, H, bias=False)
        self.W_candidate, self.readout = P(I, H), P(H, V)

    def initial_state(self, batch_size):
        return Memory(self.zeros(batch_size, H), self.zeros(batch_size, H))

    def forward(self, observation, memory):
        hidden, long_term = memory
        forget_gate = ops.sigmoid(self.from_input(observation) + self.from_hidden(hidden))
        candidate = ops.tanh(observation @ self.W_candidate)
        long_term = forget_gate * long_term + (1 - forget_gate) * candidate
        hidden = ops.tanh(long_term)
        return hidden @ self.readout, Memory(hidden, long_term)


CELLS = {
    "course": Course, "course lstm": CourseLSTM, "sru": SRU, "qrnn": QRNN, "lmu": LMU, "ssm": SSM, "long": LongNames,
    "rnn": lambda: nn.RNNCell(I, H), "lstm": lambda: nn.LSTMCell(I, H), "gru": lambda: nn.GRUCell(I, H),
    "gru after": lambda: nn.GRUCell(I, H, reset="after"),
    "two layers": lambda: nn.Stack([nn.LSTMCell(I, H), nn.RNNCell(H, H)]),
}  # fmt: skip
AFFINE = {  # what each step multiplies with weights
    "course": ["b + h·W + x·U", "c + h·V"],
    "course lstm": [f"h·U_{gate} + x·W_{gate}" for gate in "afio"],
    "sru": ["x·Wf", "x·Wr", "x·Wx"],
    "qrnn": [f"x·W{gate} + last·V{gate}" for gate in "foz"],
    "lmu": ["x·Wx + h·Wh + m·Wm", "x·ex + m·em"],
    "ssm": ["s·A + x·B", "s·C + x·D"],
    "long": ["hidden·readout", "observation·W_candidate", "observation·W₁ + b₁ + hidden·W₂"],
    "rnn": ["x·U + h·W + b"],
    "lstm": ["x·U + h·W + b"],
    "gru": ["h·W[:, :8]", "x·U + b", "·W[:, 8:]"],
    "gru after": ["h·W", "x·U + b"],
    "two layers": ["x·U₁ + h·W₁ + b₁", "x·U₂ + h·W₂ + b₂"],
}
LAST = {"course": ["c + h·V"], "qrnn": ["x·Wo + last·Vo"], "sru": ["x·Wr"], "ssm": ["s·C + x·D"],
        "long": ["hidden·readout"]}  # fmt: skip
GATES = {
    "course": [], "course lstm": ["a  tanh", "f  σ", "i  σ", "o  σ"], "sru": ["f  σ", "r  σ"],
    "qrnn": ["f  σ", "o  σ", "z  tanh"], "lmu": [], "ssm": [], "long": ["candidate  tanh", "forget_gate  σ"], "rnn": [],
    "lstm": ["f  σ", "g  tanh", "i  σ", "o  σ"], "gru": ["n  tanh", "r  σ", "z  σ"],
    "gru after": ["n  tanh", "r  σ", "z  σ"], "two layers": ["f  σ", "g  tanh", "i  σ", "o  σ"],
}  # fmt: skip
LATE = {"qrnn": ["o  σ"], "sru": ["r  σ"]}  # gates that only the output needs
STATES = {
    "course": ["h"], "course lstm": ["c", "h"], "sru": ["c"], "qrnn": ["c", "last"], "lmu": ["h", "m"], "ssm": ["s"],
    "long": ["hidden", "long_term"], "rnn": ["h"], "lstm": ["c", "h"], "gru": ["h"], "gru after": ["h"],
    "two layers": ["c", "h", "h"],
}  # fmt: skip
ENGINES = ["eager", "numpy"]


def inputs(steps=4):
    return tg.tensor(np.random.default_rng(0).normal(size=(steps, 1, I)).astype(np.float32))


def parts(drawing):
    """What is drawn, before it is laid out: items by key, and (tail, head) for each edge."""
    picture = drawing.picture
    loops = [*((k.tail, k.delay) for k in picture.loops), *((k.delay, head) for k in picture.loops for head in k.heads)]
    inner = [(a, b) for block in picture.blocks() for a, b, _ in block.edges]
    edges = [*inner, *loops, *((k.tail, k.head) for k in picture.links)]
    items = [*picture.items(), *(k.delay for k in picture.loops)]
    return {item.key: item for item in items}, [(a.key, b.key) for a, b in edges]


def steps_of(drawing):
    """The labels of each step: {"t1": […], …}."""
    found = {}
    for name, item in parts(drawing)[0].items():
        found.setdefault(name.partition(".")[0], []).append(item.label)
    return found


products = lambda labels: sorted(label for label in labels if "·" in label and label != "· · ·")
nonlinear = lambda labels: sorted(k for k in labels if re.search(r"  (σ|tanh)$", k))
first_states = lambda labels: sorted(k.rstrip(DIGITS) for k in labels)


# ---- what a step computes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_drawn_with_all_that_it_returns_at_every_step(name):
    drawing = viz.draw(CELLS[name]())
    nodes, edges = parts(drawing)
    found = steps_of(drawing)
    for t in range(1, 5):
        assert products(found[f"t{t}"]) == AFFINE[name]
        assert nonlinear(found[f"t{t}"]) == GATES[name]
        (y,) = [n for n, it in nodes.items() if it.label == "y" + DIGITS[t]]
        assert y.startswith(f"t{t}.") and [b for a, b in edges if a == y] == []
        assert len([a for a, b in edges if b == y]) == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CELLS)
def test_operands_and_gates_are_named_at_every_step_where_only_the_last_output_is_needed(name, engine):
    ys, _ = nn.Recurrent(CELLS[name](), engine=engine)(inputs())
    found = steps_of(viz.draw((ys[-1] ** 2).sum()))
    less = sorted({*AFFINE[name]} - {*LAST.get(name, [])})
    gates = sorted({*GATES[name]} - {*LATE.get(name, [])})
    for t in range(1, 4):
        assert products(found[f"t{t}"]) == less and nonlinear(found[f"t{t}"]) == gates
    assert products(found["t4"]) == AFFINE[name] and nonlinear(found["t4"]) == GATES[name]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", CELLS)
def test_a_single_step_is_named_as_one_of_many(name, engine):
    ys, _ = nn.Recurrent(CELLS[name](), engine=engine)(inputs(1))
    found = steps_of(viz.draw(ys))
    assert products(found["t1"]) == AFFINE[name]
    assert {*GATES[name]} <= {*nonlinear(found["t1"])}
    assert first_states(found["start"]) == STATES[name]


@pytest.mark.parametrize("name", CELLS)
def test_a_single_call_outside_of_time_is_named_too(name):
    cell = CELLS[name]()
    nodes, _ = parts(viz.draw(cell(inputs()[0], cell.initial_state(1))[0]))
    labels = [n.label for n in nodes.values() if n.kind != "parameter"]
    assert products(labels) == AFFINE[name]
    assert sorted(n.label for n in nodes.values() if n.kind == "initial" and n.label != "const") == STATES[name]


@pytest.mark.parametrize("name", [name for name in CELLS if name != "qrnn"])
def test_a_circuit_has_a_delay_for_each_state_with_the_name_that_the_code_gives_it(name):
    cell = CELLS[name]()
    for what in (cell, nn.Recurrent(cell), tg.circuit(cell, inputs()[0])):
        drawing = viz.draw(what, view="circuit")
        labels = [n.label for n in parts(drawing)[0].values()]
        assert [k for k in labels if k == "y"] == ["y"]
        if what is cell:
            assert products(labels) == AFFINE[name]
        assert sorted(loop.name for loop in drawing.picture.loops) == STATES[name]


def test_the_parts_of_one_nonlinearity_are_gates_with_their_own_readers():
    nodes, edges = parts(viz.draw(nn.GRUCell(I, H), view="circuit"))
    name = {k: n.label for k, n in nodes.items()}
    readers = lambda gate: sorted(name[b] for a, b in edges if name[a] == gate)
    assert readers("z  σ") == ["1 −", "×"] and readers("r  σ") == ["×"]
    (reset,) = [b for a, b in edges if name[a] == "r  σ"]
    assert [name[b] for a, b in edges if a == reset] == ["·W[:, 8:]"]


def test_a_name_says_what_a_nonlinearity_makes_or_in_parentheses_what_it_is_made_of():
    class Both(nn.RNNCell):
        def forward(self, x, h):
            a = x @ self.U + h @ self.W + self.b
            keep = ops.sigmoid(x @ self.U)
            h = keep * h + ops.sigmoid(a) * ops.tanh(h)
            return h, h

    found = steps_of(viz.draw(Both(I, H)))
    assert {"keep  σ", "σ(a)", "tanh"} <= {*found["t2"]}


def test_views_of_a_weight_are_told_apart():
    class Tied(nn.RNNCell):
        def forward(self, x, h):
            first, second = ops.chunk(self.b, 2, axis=-1)
            h = ops.tanh(h @ self.W.T + x @ self.U + ops.concat([first, second], axis=-1))
            return h @ self.W[:, :2], h

    assert {"h·Wᵀ + x·U", "h·W[:, :2]"} <= {*steps_of(viz.draw(Tied(I, H)))["t2"]}


def test_names_are_right_where_a_call_takes_another_way_than_the_one_that_was_watched():
    class Switch(nn.RNNCell):
        more = False

        def forward(self, x, h):
            if self.more:
                h = h * ops.sigmoid(x @ self.U - h @ self.W)
            update = ops.sigmoid(x @ self.U + h @ self.W)
            h = update * h
            return h, h

    cell = Switch(I, H)
    for _ in range(3):
        nn.Recurrent(cell, engine="eager")(inputs(2))
    cell.more = True
    nodes, edges = parts(viz.draw(nn.Recurrent(cell, engine="eager")(inputs(2))[0]))
    (gate,) = [n for n, it in nodes.items() if n.startswith("t2") and it.label == "update  σ"]
    (below,) = [a for a, b in edges if b == gate]
    assert nodes[below].label == "x·U + h·W"


LAID_OUT = {
    "long names": lambda: viz.draw(LongNames()),
    "targets": lambda: viz.draw(PLAIN, view="cells", tokens=[SOURCE, READ], targets=SAID),
    "targets, each operation": lambda: viz.draw(PLAIN, tokens=[SOURCE, READ], targets=SAID),
    "two directions": lambda: viz.draw(nn.GRU(3, 4, bidirectional=True), view="cells"),
    "gates": lambda: viz.draw(nn.GRUCell(I, H)),
}


@pytest.mark.parametrize("name", LAID_OUT)
def test_nodes_lie_apart_and_edges_end_at_their_nodes(name, monkeypatch):
    drawing = LAID_OUT[name]()
    monkeypatch.setattr(viz, "draw", lambda _: drawing)
    monkeypatch.setitem(test_viz.GRAPHS, name, None)
    test_viz.test_no_node_lies_on_another_and_every_edge_joins_two_of_them(name)
    test_viz.test_an_edge_starts_and_ends_at_its_nodes(name)
    test_viz.test_no_line_runs_through_a_node(name)


# ---- what can be drawn ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "boxes"),
    [
        (lambda: nn.LSTM(3, 4), 1),
        (lambda: nn.RNN(3, 4, 2), 2),
        (lambda: nn.RNN(3, 4, 2, bidirectional=True), 4),
        (lambda: nn.Bidirectional(nn.RNNCell(3, 4), nn.GRUCell(3, 4)), 2),
        (lambda: nn.Layers(nn.LSTMCell, 3, 4), 1),
    ],
    ids=["lstm", "two layers", "two layers, two directions", "two directions", "layers"],
)
def test_layers_are_drawn_without_an_input(layer, boxes):
    found = steps_of(viz.draw(layer(), view="cells"))
    for t in range(1, 5):
        assert sum(k in ("RNN", "LSTM", "GRU") for k in found[f"t{t}"]) == boxes
        assert {"x" + DIGITS[t], "y" + DIGITS[t]} <= {*found[f"t{t}"]}


def test_a_wrapper_is_drawn_with_what_it_adds():
    assert "+" in steps_of(viz.draw(nn.ResidualCell(nn.RNNCell(I, I))))["t1"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (nn.LSTMCell, r"got its class; make one: viz\.draw\(LSTMCell\(…\)\)"),
        (nn.LSTM, r"got its class; make one: viz\.draw\(LSTM\(…\)\)"),
        (nn.Linear(3, 4), "got Linear; call it, and draw what it returns"),
        (nn.ContextCell(nn.RNNCell(4, 4)), "ContextCell has no initial state of its own; draw what it computes"),
    ],
    ids=["a cell's class", "a layer's class", "no cell", "a cell that must be started"],
)
def test_what_cannot_be_drawn_is_refused_with_what_to_pass(what, message):
    with pytest.raises(ValueError, match=rf"^viz\.draw: [^\n]*{message}[^\n]*$"):
        viz.draw(what)


@pytest.mark.parametrize("name", CELLS)
def test_a_circuit_of_a_cell_that_was_never_called_is_recorded(name):
    assert "forward(x (1, 4)" in str(tg.circuit(CELLS[name](), inputs()[0]))


def test_a_circuit_is_of_one_cell():
    x = inputs()[0]
    for one in (nn.LSTM(I, H), nn.Recurrent(nn.LSTMCell(I, H))):
        assert str(tg.circuit(one, x)).startswith("forward(x (1, 4), h (1, 4), c (1, 4)")
    for what, message in (
        (nn.LSTM(I, H, 2), r"must be one cell, got LSTM of 2; pass one: circuit\(….cells\[0\], x\)"),
        (nn.LSTMCell, r"must be a cell, got a class; make one: circuit\(LSTMCell\(…\), x\)"),
        (nn.Linear(I, H), "must be an nn.Cell, got Linear"),
    ):
        with pytest.raises(TypeError, match=f"^circuit: cell {message}$"):
            tg.circuit(what, x)


# ---- tokens ---------------------------------------------------------------------------------------------------------

SOURCE, READ, SAID = ["how", "are", "you"], ["<s>", "wie", "geht", "es"], ["wie", "geht", "es", "</s>"]


def translation(query=None, bidirectional=False, feed=True):
    """An encoder of three steps, a decoder of four. query: None for one without attention"""
    tg.manual_seed(0)
    decoder = nn.RNNCell(3 + 4 * (query is not None and feed), 4)
    if query is not None:
        decoder = nn.AttentionCell(decoder, nn.AdditiveAttention(4, 4), query=query, feed=feed)
    encoder = nn.GRU(3, 2, bidirectional=True) if bidirectional else nn.RNN(3, 4)
    bridge = nn.Bridge(4, decoder if query is None else decoder.cell)
    output = nn.Linear(4 if query is None else 8, 12)
    model = nn.EncoderDecoder(nn.Embedding(10, 3), encoder, bridge, nn.Embedding(12, 3), decoder, output)
    return nn.cross_entropy(model(np.ones((3, 1), int), np.ones((4, 1), int)), np.ones((4, 1), int))


read_in = lambda drawing: [n.label for n in parts(drawing)[0].values() if n.kind == "input" and "[" not in n.label]
PLAIN = translation()


@pytest.mark.parametrize("view", ["ops", "cells"])
def test_tokens_name_what_the_encoder_reads_and_a_second_list_what_the_decoder_reads(view):
    assert read_in(viz.draw(PLAIN, view=view, tokens=SOURCE)) == [*SOURCE, "x₁", "x₂", "x₃", "x₄"]
    assert read_in(viz.draw(PLAIN, view=view, tokens=[SOURCE, READ])) == [*SOURCE, *READ]


@pytest.mark.parametrize("view", ["ops", "cells"])
@pytest.mark.parametrize("loss", [PLAIN, translation("output")], ids=["plain", "attention"])
def test_targets_stand_above_what_the_decoder_returns_at_each_step(loss, view):
    nodes, edges = parts(viz.draw(loss, view=view, tokens=[SOURCE, READ], targets=SAID))
    said = [n for n, it in nodes.items() if it.label in SAID and it.kind == "output"]
    assert [nodes[n].label for n in said] == SAID
    above = {b for a, b in edges if b.startswith("above")}
    for n in said:
        (tail,) = [a for a, b in edges if b == n]
        assert tail.partition(".")[0] == n.partition(".")[0]
        assert any(a == tail and b in above for a, b in edges)  # what is said is what goes up to the loss


def test_targets_of_a_language_model_stand_above_what_its_losses_are_computed_from():
    cell, output, state, loss = nn.GRUCell(I, H), nn.Linear(H, V), tg.zeros(1, H), 0
    for t, x in enumerate(inputs()):
        with tg.scope(t):
            y, state = cell(x, state)
            loss = loss + nn.cross_entropy(output(y), np.zeros(1, int))
    nodes, edges = parts(viz.draw(loss, view="cells", tokens="abcd", targets="bcde"))
    label = {k: n.label for k, n in nodes.items()}
    ends = {(label[a], label[b]) for a, b in edges}
    assert {("ŷ₁", "b"), ("ŷ₂", "c"), ("ŷ₃", "d"), ("ŷ₄", "e")} <= ends


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tokens": [*SOURCE, "today"]}, "tokens must be at most 3, one for each time step, got 4"),
        ({"tokens": [SOURCE, [*READ, "?"]]}, "tokens must be at most 4, one for each time step, got 5"),
        ({"tokens": [SOURCE, READ, READ]}, "tokens must be for 2 sequences over time, got 3"),
        ({"targets": [*SAID, "?"]}, "targets must be at most 4, one for each time step, got 5"),
        ({"view": "circuit", "tokens": SOURCE}, 'tokens and targets are of single steps, and view="circuit" is one'),
    ],
)
def test_names_that_nothing_can_have_are_refused_in_one_line(more, message):
    with pytest.raises(ValueError, match=rf"^viz\.draw: {re.escape(message)}[^\n]*$"):
        viz.draw(PLAIN, **more)


def test_more_tokens_than_steps_are_counted_where_most_steps_are_left_out():
    ys, _ = nn.Recurrent(nn.RNNCell(I, H))(inputs(30))
    assert read_in(viz.draw(ys, tokens=["a"] * 30)) == ["a"] * 8
    with pytest.raises(ValueError, match="tokens must be at most 30"):
        viz.draw(ys, tokens=["a"] * 31)


# ---- attention ------------------------------------------------------------------------------------------------------


def lines(drawing):
    """(tail, head) by label, without the weights."""
    return {(e.tail.label, e.head.label) for e in drawing.layout.edges if "tooltip" not in e.look}


WAYS = {  # of the second step: what asks, what is fed
    ("output", True): {("s₂", "c₂"), ("c₂", "s₃")},
    ("output", False): {("s₂", "c₂")},
    ("previous", True): {("c₂", "s₂")},
    ("context", True): {("c₂", "s₂")},
}


@pytest.mark.parametrize(
    ("query", "feed", "bidirectional"),
    [(*key, both) for key, both in zip(WAYS, (True, False, False, True), strict=True)],
)
def test_attention_is_drawn_the_way_it_is_computed(query, feed, bidirectional):
    loss = translation(query, bidirectional, feed)
    found = lines(viz.draw(loss, view="attention", tokens=SOURCE, targets=SAID))
    between = {(a, b) for a, b in found if "₂" in a + b and {a[0], b[0]} == {"s", "c"} and (a, b) != ("c₁", "s₂")}
    assert between == WAYS[query, feed]
    assert (("c₁", "s₂") in found) == (query == "output" and feed)
    assert {("c₂", "geht"), ("s₂", "geht"), ("s₁", "s₂"), ("h₁", "h₂"), ("h₂", "h₃")} <= found
    assert ({("h₂", "h₁"), ("h₃", "h₂")} <= found) == bidirectional


@pytest.mark.parametrize("reverse", [False, True])
def test_an_encoder_that_reads_from_the_end_is_drawn_so(reverse):
    hs, _ = nn.Recurrent(nn.RNNCell(I, H), reverse=reverse)(nn.Embedding(V, I)(np.zeros((4, 1), int)))
    cell, s, loss = nn.RNNCell(H, H), tg.zeros(1, H), 0
    for t in range(2):
        with tg.scope(t):
            context = ((hs * s).sum(-1).softmax(0).unsqueeze(-1) * hs).sum(0)
            y, s = cell(context, s)
            loss = loss + (y * y).sum()
    found = lines(viz.draw(loss, view="attention"))
    assert (("h₁", "h₂") in found, ("h₂", "h₁") in found) == (not reverse, reverse)
    assert ("c₁", "s₁") in found and ("c₁", "y₁") not in found


def test_weights_that_one_has_are_drawn_as_usual():
    found = lines(viz.attention([[0.5, 0.5], [0.1, 0.9]]))
    assert found == {("x₁", "h₁"), ("x₂", "h₂"), ("h₁", "h₂"), ("s₁", "s₂"), ("c₁", "s₁"), ("c₂", "s₂"),
                     ("s₁", "y₁"), ("s₂", "y₂")}  # fmt: skip


def test_two_calls_are_watched_for_names_and_later_ones_cost_nothing(monkeypatch):
    cell, x = LongNames(), inputs()[0]
    for _ in range(2):
        cell(x, cell.initial_state(1))
    monkeypatch.setattr("tinygrad_rnn.nn.module.Reader", None)  # what would watch
    cell(x, cell.initial_state(1))
