"""Pictures of networks unlike those of the other tests: what runs backwards, what a cell captures, what it is fed."""

import numpy as np
import pytest

from test_picture_names import READ, SAID, SOURCE, H, I, P, steps_of, translation

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from viz.style import PRIME

pytest.importorskip("graphviz")

xs = lambda steps: tg.tensor(np.random.default_rng(0).normal(size=(steps, 1, I)).astype(np.float32))


def ways(drawing):
    """(block of the tail, block of the head) of the states that go from block to block."""
    ends = ((k.tail, k.head) for k in drawing.picture.links if k.kind.endswith("over time"))
    return {tuple(item.key.partition(".")[0] for item in pair) for pair in ends}


# ---- runs from the end ----------------------------------------------------------------------------------------------


class ReadsOnlyIntoSums(nn.Cell):
    """No derivative rule keeps its inputs, so that nothing tells where in memory they were."""

    def __init__(self):
        self.input_size, self.a = I, P(I)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, I)

    def forward(self, x, h):
        h = self.a * h + x
        return h, h


class LooksUp(nn.Cell):
    """Its inputs are integers, which leave nothing in the graph."""

    def __init__(self):
        self.letters, self.cell = nn.Embedding(5, I), nn.RNNCell(I, H)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def forward(self, ids, h):
        return self.cell(self.letters(ids.reshape(-1)), h)


def repeated(data, n):
    return data.repeat(n, 0) if isinstance(data, np.ndarray) else tg.tensor(data.numpy().repeat(n, 0))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("make", "engine", "lengths"),
    [(lambda: nn.RNNCell(I, H), "eager", None), (lambda: nn.RNNCell(I, H), "numpy", [4]),
     (ReadsOnlyIntoSums, "eager", [4]), (ReadsOnlyIntoSums, "numpy", None), (LooksUp, "eager", None)],
)  # fmt: skip
def test_a_layer_that_reads_plain_data_from_its_end_is_drawn_so(make, engine, lengths, reverse):
    layer = nn.Recurrent(make(), engine=engine, reverse=reverse)
    data = np.ones((4, 1, 1), int) if make is LooksUp else xs(4)
    ys, _ = layer(data, lengths=lengths and np.array(lengths))
    steps = {(f"t{t}", f"t{t + 1}")[:: -1 if reverse else 1] for t in (1, 2, 3)}
    assert ways(viz.draw(ys, view="cells")) == steps | {("finish", "t4") if reverse else ("start", "t1")}
    long, _ = layer(repeated(data, 5))
    assert (("t20", "t19") in ways(viz.draw(long))) == reverse


# ---- what a cell holds beside its parameters ------------------------------------------------------------------------

OUTSIDE = tg.tensor(np.full(H, 0.5, np.float32))


class Holds(nn.Cell):
    """A tensor of its own, an array, one of its file, and what is computed of them at each step."""

    def __init__(self):
        self.input_size, self.U = I, P(I, H)
        self.A, self.rate = tg.tensor(np.eye(H, dtype=np.float32)), tg.tensor(np.ones(H, np.float32))
        self.k = np.full(H, 0.1, np.float32)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        decay = ops.exp(-self.rate)
        h = decay * h + ops.tanh(x @ self.U + h @ self.A) * OUTSIDE - h * self.k
        return h, h


def rails(drawing):
    return sorted(name.split()[0] for rail in drawing.picture.rails for name in rail.item.label.split("\n"))


labels = lambda drawing, kind: sorted(k.label for b in drawing.picture.blocks() for k in b.items if k.kind == kind)


@pytest.mark.parametrize("look", [{}, {"view": "circuit"}], ids=str)
@pytest.mark.parametrize("engine", ["eager", "numpy"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_what_a_cell_holds_stands_at_the_left_by_its_name_however_many_steps_there_are(steps, engine, look):
    ys, _ = nn.Recurrent(Holds(), engine=engine)(xs(steps))
    drawing = viz.draw(ys, **look)
    once = ["decay"] if steps <= 2 else []  # too little is kept of it to tell whether it changes
    assert sorted({*rails(drawing), *once}) == ["A", "OUTSIDE", "U", "decay", "k"]
    assert {k.rstrip("₁₂₃₄₅") for k in labels(drawing, "input")} == {"x"}
    assert set(labels(drawing, "initial")) <= {"h₀", *once}


def test_so_it_does_where_a_cell_is_drawn_without_an_input_and_in_its_circuit():
    for what in (Holds(), nn.Recurrent(Holds())):
        assert rails(viz.draw(what)) == ["A", "OUTSIDE", "U", "decay", "k"]
        assert labels(viz.draw(what), "input") == ["x₁", "x₂", "x₃", "x₄"]
    circuit = tg.circuit(Holds(), xs(1)[0])
    assert "h (1, 4), rate (4,)" in str(circuit).replace("state", "h") and "k (4,)" in str(circuit)
    assert labels(viz.draw(circuit, view="circuit"), "input") == ["x"]


def test_what_a_step_computes_of_constants_is_no_input_and_has_no_number():
    cell = Holds()
    y, _ = cell(xs(1)[0], cell.initial_state(1))
    assert labels(viz.draw(y), "input") == ["x"] and "decay" not in rails(viz.draw(y))


def test_what_changes_from_step_to_step_has_the_number_of_its_step():
    class Noisy(Holds):
        def forward(self, x, h):
            mask = ops.uniform((1, H)) < 0.5
            h = ops.tanh(x @ self.U + h) * mask.astype(np.float32)
            return h, h

    ys, _ = nn.Recurrent(Noisy(), engine="eager")(xs(4))
    assert rails(viz.draw(ys)) == ["U"] and [k[-1] for k in labels(viz.draw(ys), "initial")] == [*"₀₁₂₃₄"]


# ---- what a model says and is fed -----------------------------------------------------------------------------------


class SaysAndReads(nn.Module):
    """how: what the letters that it said last become"""

    def __init__(self, how):
        self.how, self.cell, self.out = how, nn.GRUCell(I, H), nn.Linear(H, 5)
        self.letters, self.W = nn.Embedding(5, I), P(5, I)

    def forward(self, steps=4):
        state, loss, ids = self.cell.initial_state(2), 0, tg.tensor(np.zeros(2, int))
        for t in range(steps):
            with tg.scope(t):
                y, state = self.cell(self.how(self, ids), state)
                logits = self.out(y)
                loss, ids = loss + nn.cross_entropy(logits, np.full(2, t % 5)), logits.argmax(-1)
        return loss


HOW = {
    "one hot": (lambda m, ids: ops.one_hot(ids, 5) @ m.W, "ŷ·W₁"),
    "one hot of masks": (lambda m, ids: ops.one_hot(ids, 5, dtype=bool).astype(np.float32) @ m.W, "ŷ·W₁"),
    "cast": (lambda m, ids: m.letters(ids.astype(np.int32)), "E[x]"),
    "reshape": (lambda m, ids: m.letters(ids.reshape(2, 1)).reshape(2, I), "E[x]"),
    "padded": (lambda m, ids: m.letters(ops.where(np.array([True, False]), ids, 0)), "E[x]"),
    "take": (lambda m, ids: ops.take(m.W, ids), "W₁[x]"),
    "index": (lambda m, ids: m.W[ids], "W₁[x]"),
}


@pytest.mark.parametrize("name", HOW)
def test_letters_that_are_fed_in_whatever_form_are_drawn_with_where_they_come_from(name):
    how, reader = HOW[name]
    links = viz.draw(SaysAndReads(how)()).picture.links
    fed = [(k.tail.key.partition(".")[0], k.head.key.partition(".")[0]) for k in links if k.kind == "said over time"]
    assert [pair for pair in fed if pair[0] != "start"] == [("t1", "t2"), ("t2", "t3"), ("t3", "t4")]
    for steps in (2, 20):
        loops = viz.draw(SaysAndReads(how)(steps), view="circuit").picture.loops
        assert {(k.name, k.heads[0].label) for k in loops if k.kind == "said over time"} == {("ŷ", reader)}


def test_gradients_are_those_of_letters_from_outside():
    for how, _ in HOW.values():
        model, found = SaysAndReads(how), []
        for fed in (how, lambda m, ids, how=how: how(m, tg.tensor(ids.numpy()))):
            model.how = fed
            model.zero_grad()
            model().backward()
            found.append([p.grad.numpy() for p in model.parameters() if p.grad is not None])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_numbers_that_are_counted_up_from_letters_keep_no_chain_in_the_graph():
    logits, count = nn.Linear(H, 5)(xs(1)[0]), 0
    for _ in range(3):
        count = count + logits.argmax(-1)
    assert count.node is None


# ---- what states begin with -----------------------------------------------------------------------------------------


def bridged(layers, bidirectional, make=nn.GRU):
    """An encoder's last states of all layers and directions, through one map to the decoder's first ones."""
    encoder, decoder = (make(I, H, layers, bidirectional=bidirectional) for _ in range(2))
    _, state = encoder(xs(3))
    h = ops.tanh(nn.Linear(H, H)(state[0] if make is nn.LSTM else state))
    return decoder(xs(2), (h, state[1]) if make is nn.LSTM else h)[0]


def pictured(layers, bidirectional):
    """The vector of an image, as the first states of a decoder."""
    n = layers * (1 + bidirectional)
    h = ops.tanh(nn.Linear(6, n * H)(tg.tensor(np.ones((1, 6), np.float32))))
    return nn.GRU(I, H, layers, bidirectional=bidirectional)(xs(3), h.reshape(1, n, H).permute(1, 0, 2))[0]


@pytest.mark.parametrize("look", [{}, {"view": "cells"}, {"view": "circuit"}, {"view": "circuit", "depth": 1}], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("make", [bridged, pictured])
def test_what_is_made_for_all_layers_at_once_leads_into_the_first_state_of_each(make, layers, bidirectional, look):
    picture = viz.draw(make(layers, bidirectional), **look).picture
    goals = [k.head for k in picture.links if k.tail.label == "tanh" and k.kind == "hidden over time"]
    goals += [k.delay for k in picture.loops if "tanh" in [s.label for s in k.starts]]
    per_cell = 3 if look == {} else 1  # those of a GRU's operations that read its state
    assert len(goals) == len(set(goals)) == layers * (1 + bidirectional) * per_cell
    own = [i for b in picture.blocks() for i in b.items if i.kind == "initial"]
    assert bool(own) == (make is bridged and "circuit" not in look.values())  # the encoder's


def test_a_stack_of_layers_is_no_sequence_over_time():
    names = lambda loss: [
        i.label for b in viz.draw(loss, view="cells").picture.blocks() for i in b.items if not b.framed
    ]
    assert {"[h ; h]", "h₁ … h₂"} <= {*names(bridged(2, False))}  # the latter are the outputs
    assert "[h→ ; … ; h←]" in names(bridged(2, True))
    assert "h₃" in names(bridged(1, False, nn.LSTM))


@pytest.mark.parametrize("make", [nn.RNNCell, nn.LSTMCell])
def test_learned_first_states_that_share_a_box_lead_into_each_delay(make):
    class Learned(nn.Cell):
        def __init__(self):
            self.input_size, self.cell = I, make(I, H)
            self.h0, self.c0 = P(1, H), P(1, H)

        def initial_state(self, batch_size):
            return (self.h0, self.c0) if make is nn.LSTMCell else self.h0

        def forward(self, x, state):
            return self.cell(x, state)

    drawing = viz.draw(nn.Recurrent(Learned())(xs(3))[0], view="circuit", depth=1)
    (box,) = {item for loop in drawing.picture.loops for item in loop.starts}
    assert box.label == ("h0, c0" if make is nn.LSTMCell else "h0") and drawing.layout
    assert all(loop.starts == [box] for loop in drawing.picture.loops)


class Clockwork(nn.Cell):
    """Parts of its state change every 1, 2, 4, 8 steps: its clock is a state of which only comparisons are read."""

    def __init__(self):
        self.input_size, self.U, self.W = I, P(I, H), P(H, H)
        self.period = tg.tensor(np.array([1, 2, 4, 8], np.float32))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, 1)

    def forward(self, x, state):
        h, clock = state
        clock = clock + 1
        on = (clock / self.period > 1).astype(np.float32)
        h = on * ops.tanh(x @ self.U + h @ self.W) + (1 - on) * h
        return h, (h, clock)


@pytest.mark.parametrize("make", [Clockwork, lambda: nn.Recurrent(Clockwork(), engine="eager")(xs(3))[0]])
def test_a_state_that_is_only_compared_is_a_state(make):
    loops = viz.draw(make(), view="circuit").picture.loops
    assert sorted((k.name, *sorted(i.label for i in k.heads)) for k in loops) == [
        ("clock", "+ 1"), ("h", "x·U + h·W", "×"),
    ]  # fmt: skip
    drawing = viz.draw(make())
    assert "> 1" in {i.label for b in drawing.picture.blocks() for i in b.items} and "period" in rails(drawing)
    assert {k.rstrip("₁₂₃₄") for k in labels(drawing, "input")} == {"x"}
    assert sorted(labels(drawing, "initial")) == ["clock₀", "h₀"]
    boxes = viz.draw(make(), view="cells").picture
    assert {i.kind for b in boxes.blocks() for i in b.items if b.title} <= {"input", "hidden", "output"}


class ReadsOutsideFirst(Holds):
    def forward(self, x, h):
        h = OUTSIDE * h + x @ self.U
        return h, h


def test_two_layers_that_hold_the_same_are_not_two_directions():
    ys, zs = (nn.Recurrent(ReadsOutsideFirst())(xs(4) + k)[0] for k in range(2))
    drawing = viz.draw(ys.sum() + zs.sum(), view="cells")
    assert labels(drawing, "input") == ["x₁", "x₁", "x₂", "x₂", "x₃", "x₃", "x₄", "x₄"]
    assert sum(k.kind.endswith("over time") for k in drawing.picture.links) == 8


class HandsOn(nn.Cell):
    """States that are old states, and old inputs, each with a name of its own."""

    def __init__(self):
        self.input_size = I
        self.W0, self.W1, self.W2, self.R1, self.R2 = P(I, H), P(I, H), P(I, H), P(H, H), P(H, H)

    def initial_state(self, batch_size):
        return tuple(self.zeros(batch_size, n) for n in (I, I, H, H))

    def forward(self, x, state):
        last, older, h, before = state
        new = ops.tanh(x @ self.W0 + last @ self.W1 + older @ self.W2 + h @ self.R1 + before @ self.R2)
        return new, (x, last, new, h)


@pytest.mark.parametrize("make", [HandsOn, lambda: nn.Recurrent(HandsOn(), engine="eager")(xs(5))[0]])
def test_what_is_handed_on_from_state_to_state_is_called_what_it_is_where_it_is_read(make):
    drawing = viz.draw(make())
    assert {k for k in steps_of(drawing)["t2"] if "·" in k} == {"x·W0 + last·W1 + older·W2 + h·R1 + before·R2"}
    assert sorted(labels(drawing, "initial")) == ["before₋₁", "h₀", "last₀", "older₋₁"]
    loops = viz.draw(make(), view="circuit").picture.loops
    assert sorted((k.name, k.tail.label) for k in loops) == [
        ("before", ""), ("h", "tanh"), ("last", "x"), ("older", ""),
    ]  # fmt: skip
    links = viz.draw(make(), view="cells").picture.links
    into = [k.name for k in links if k.head.key.startswith("t3") and k.kind.endswith("over time")]
    assert sorted(into) == ["before", "h", "last", "older"]


@pytest.mark.parametrize("make", [bridged, pictured])
def test_two_directions_share_their_columns_whatever_they_begin_with(make):
    drawing = viz.draw(make(1, True), view="cells")
    assert len(labels(drawing, "input")) == (3 + 2 if make is bridged else 3)


def test_boxes_of_first_states_stand_clear_of_each_other():
    layout = viz.draw(nn.Recurrent(HandsOn(), engine="eager")(xs(4))[0], view="cells").layout
    boxes = [box for item, box in layout.boxes.items() if item.kind == "initial"]
    assert len(boxes) == 2 and abs(boxes[0].y - boxes[1].y) > (boxes[0].height + boxes[1].height) / 2


def test_the_first_state_of_a_run_that_goes_backwards_comes_in_from_the_right():
    layout = viz.draw(bridged(1, True), view="cells").layout
    first = [e for e in layout.edges if e.tail.label == "tanh"]
    sides = [e.curve[0][-1][0] > layout.boxes[e.head].x for e in first]
    assert sorted(sides) == [False, True]


def test_names_that_no_step_can_have_are_refused_beside_attention_too():
    loss = translation("output")
    viz.draw(loss, view="attention", tokens=[SOURCE, READ], targets=SAID)
    for tokens, message in (([SOURCE, [*READ, "?"]], "at most 4"), ([SOURCE, READ, READ], "for 2 sequences")):
        with pytest.raises(ValueError, match=rf"^viz\.draw: tokens must be {message}"):
            viz.draw(loss, view="attention", tokens=tokens)


def test_the_last_state_of_a_backward_run_does_not_leave_along_what_comes_into_it():
    layout = viz.draw(bridged(1, True), view="cells").layout
    into = [e for e in layout.edges if e.kind.endswith("over time") and e.curve[0][-1][0] > layout.boxes[e.head].x]
    for e in (e for e in layout.edges if e.head.label == "[h ; h]"):
        assert all(abs(e.curve[0][0][1] - other.curve[0][-1][1]) > 5 for other in into if other.head is e.tail)


class Zoneout(nn.Cell):
    """Parts of the state stay as they were: two masks at each step, m and 1 − m."""

    def __init__(self):
        self.input_size, self.U, self.W = I, P(I, H), P(H, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        m = (ops.uniform((1, H)) < 0.5).astype(np.float32)
        h = m * h + (1 - m) * ops.tanh(x @ self.U + h @ self.W)
        return h, h


def test_two_masks_have_two_names():
    ys, _ = nn.Recurrent(Zoneout(), engine="eager")(xs(3))
    drawing = viz.draw(ys)
    assert labels(drawing, "input") == ["x₁", "x₂", "x₃"]
    for t in "₁₂₃":
        assert {f"m{t}", f"m{PRIME}{t}"} <= {*labels(drawing, "initial")}


@pytest.mark.parametrize("make", [nn.GRU, nn.LSTM])
def test_a_layer_that_is_called_step_by_step_is_drawn_as_its_cells(make):
    layer, out, state, loss = make(I, H, 2), nn.Linear(H, 5), None, 0
    for t in range(3):
        with tg.scope(t):
            ys, state = layer(xs(1), state)
            loss = loss + nn.cross_entropy(out(ys), np.zeros((1, 1), int))
    found = steps_of(viz.draw(loss, view="cells"))
    assert found["t2"] == ["x₂", make.__name__, make.__name__, "ŷ₂", "L₂"]
    assert "h·W" in " ".join(steps_of(viz.draw(loss))["t2"]) and "h₂" not in steps_of(viz.draw(loss))["t2"]
