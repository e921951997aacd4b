"""Pictures of networks that read a sequence in both directions tell the two apart: h→ and h←."""

import sys

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from architectures import B, H, I, V, bridged, encoder_decoder, inputs, spelled, zeros
from test_circuit_pictures import BOXES, CELLS, CIRCUIT, along, called, corners, labelled, parsed, squares

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from tinygrad_rnn.tasks import sketches

ARROWS = "→←"
step = lambda name: name.partition(".")[0]
labels = lambda nodes: [n["label"] for n in nodes.values() if n.get("label")]
arrowed = lambda what, **look: [label for label in labels(parsed(what, **look)[0]) if set(ARROWS) & {*label}]


def one_layer(make=nn.GRUCell, steps=3, engine="auto", state=None):
    """A loss of the outputs of both directions."""
    ys, _ = nn.Bidirectional(make(I, H), make(I, H), engine=engine)(inputs(steps), state)
    return nn.mse_loss(ys, zeros(*ys.shape))


def of_ones_own(steps=3):
    """Two loops of one's own, the second from the end."""
    xs, cells = inputs(steps), [nn.LSTMCell(I, H), nn.LSTMCell(I, H)]
    xs.requires_grad = True
    found = []
    for cell, order in zip(cells, (range(steps), reversed(range(steps))), strict=True):
        state, ys = cell.initial_state(B), {}
        for t in order:
            with tg.scope(t):
                ys[t], state = cell(xs[t], state)
        found.append(ops.stack([ys[t] for t in range(steps)]))
    return ops.concat(found, -1).sum()


@pytest.mark.parametrize("engine", ["eager", "numpy"])
@pytest.mark.parametrize("make, names", [(nn.GRUCell, "h"), (nn.LSTMCell, "hc")])
def test_first_states_say_which_way_their_run_goes(make, names, engine):
    nodes, edges = parsed(one_layer(make, engine=engine))
    x = {n["label"]: corners(n)[0] for name, n in nodes.items() if step(name) in ("start", "finish")}
    assert x.keys() == {f"{name}{arrow}₀" for name in names for arrow in ARROWS}
    steps = [corners(n)[0] for name, n in nodes.items() if step(name) == "t2"]
    assert all((place < min(steps)) == ("→" in label) for label, place in x.items())
    nodes, edges = parsed(one_layer(make, engine=engine), **CELLS)
    of = lambda arrow: ", ".join(f"{name}{arrow}₀" for name in names)
    assert {nodes[a]["label"] for a, b, _ in edges if step(a) in ("start", "finish")} == {of("→"), of("←")}
    if len(names) > 1:
        written = {e["label"] for _, _, e in edges if e.get("label")}
        assert written == {f"{name}{arrow}" for name in names for arrow in ARROWS}


@pytest.mark.parametrize("look", [CIRCUIT, BOXES], ids=str)
@pytest.mark.parametrize("steps", [2, 3, 30])
def test_delays_are_called_by_the_direction_of_their_run(look, steps):
    what = sketches.bidirectional(nn.LSTMCell, H, steps, 2)
    nodes, _ = parsed(what, **look)
    assert called(nodes) == sorted(2 * ["h→", "c→", "h←", "c←"])
    upwards = sorted(squares(nodes), key=lambda name: float(nodes[name]["pos"].split(",")[1]))
    ways = [nodes[f"{name}.name"]["label"][-1] for name in upwards]
    assert "".join(ways) == "→→←←→→←←", "of each layer the run from the past stands below"


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_an_affine_map_reads_the_state_of_its_own_direction(engine):
    nodes, _ = parsed(one_layer(nn.LSTMCell, engine=engine))
    found = Counter(label for label in labels(nodes) if label.startswith("x·"))
    assert found == {"x·U₁ + h→·W₁ + b₁": 3, "x·U₂ + h←·W₂ + b₂": 3}


def test_what_both_made_of_a_step_and_of_the_sequence_is_told_apart():
    nodes, edges = parsed(sketches.bidirectional(nn.GRUCell, H, 3, 2), **CELLS)
    assert len(labelled(nodes, "[h→ ; h←]")) == 3
    assert {label for label in labels(nodes) if "…" in label} == {"h→₁ … h→₃", "h←₁ … h←₃"}
    for label in ("h→₁ … h→₃", "h←₁ … h←₃"):
        (head,) = labelled(nodes, label)
        tails = {a for a, b, _ in edges if b == head}
        over = [(a, b) for a, b, e in edges if {a, b} <= tails and e.get("penwidth") == "1.8"]
        assert {corners(nodes[a])[0] < corners(nodes[b])[0] for a, b in over} == {"→" in label}


def test_the_last_states_of_both_are_told_apart():
    class Last(nn.Module):
        def __init__(self):
            self.layer = nn.GRU(I, H, bidirectional=True)

        def forward(self, xs):
            return (self.layer(xs)[1] ** 2).sum()

    assert "[h→ ; h←]" in arrowed(Last()(inputs(3)), **CELLS)


@pytest.mark.parametrize("look", [{}, CELLS, CIRCUIT, BOXES], ids=str)
def test_layers_that_have_not_run_and_loops_of_ones_own_are_told_apart_too(look):
    for what in (nn.LSTM(I, H, bidirectional=True), of_ones_own()):
        found = "".join(arrowed(what, **look))
        assert found.count("→") == found.count("←") > 0


def test_a_first_state_that_is_given_is_told_apart():
    both = tuple(nn.Parameter(np.full((B, H), k, np.float32)) for k in (1, 2))
    for look in ({}, CELLS):
        nodes, _ = parsed(one_layer(state=both), **look)
        assert [labels({name: nodes[name]})[0] for name in ("start.0", "finish.0")] == ["h→₀", "h←₀"]
    assert called(parsed(one_layer(state=both), **BOXES)[0]) == ["h←", "h→"]


@pytest.mark.parametrize("look", [{}, CELLS], ids=str)
def test_one_that_both_begin_with_is_not(look):
    h = nn.Parameter(np.ones((B, H), np.float32))
    nodes, edges = parsed(one_layer(state=(h, h)), **look)
    assert not [label for label in labels(nodes) if "₀" in label]
    (start,) = labelled(nodes, "p₁")  # it has no name in a module
    assert {step(b) for a, b, _ in edges if a == start} == {"t1", "t3"}


def test_an_arrow_has_room_in_its_circle():
    nodes, _ = parsed(one_layer())
    widths = [72 * float(n["width"]) for n in nodes.values() if n.get("label") in ("h→₀", "h←₀")]
    assert len(widths) == 2 and min(widths) > 6.8 + 9.2 + 4.6 + 8


@pytest.mark.parametrize("watched", [True, False])
def test_in_a_stack_the_layer_above_reads_the_state_below_as_its_input(watched):
    profiler = sys.getprofile()
    sys.setprofile(profiler if watched else lambda *_: None)  # then nothing is known of names in the code
    try:
        loss = one_layer(lambda _, H: nn.Stack([nn.RNNCell(I, H), nn.RNNCell(H, H)]), 3)
    finally:
        sys.setprofile(profiler)
    nodes, _ = parsed(loss)
    found = Counter(label.translate({ord(c): None for c in "₁₂₃₄"}) for label in labels(nodes) if "·" in label)
    assert found == {"x·U + h→·W + b": 6, "x·U + h←·W + b": 6}


def two_alike(steps=3):
    """Two runs from the past over the same inputs."""
    xs = nn.Embedding(V, I)(np.zeros((steps, B), int))
    ys, zs = (nn.Recurrent(nn.RNNCell(I, H))(xs)[0] for _ in range(2))
    return ops.concat([ys, zs], -1).sum()


NONE = {
    "one direction": lambda: nn.mse_loss(nn.Recurrent(nn.LSTMCell(I, H))(inputs(3))[0], zeros(3, B, H)),
    "from the end alone": lambda: nn.mse_loss(nn.Recurrent(nn.GRUCell(I, H))(inputs(3).flip(0))[0], zeros(3, B, H)),
    "two from the past": two_alike,
    "encoder and decoder": encoder_decoder,
    "fed by itself": lambda: spelled(form="free"),
}


@pytest.mark.parametrize("look", [{}, CELLS, CIRCUIT, BOXES], ids=str)
@pytest.mark.parametrize("make", NONE.values(), ids=NONE)
def test_where_there_is_one_direction_there_are_no_arrows(make, look):
    assert arrowed(make(), **look) == []


def test_of_an_encoder_and_a_decoder_only_what_reads_both_ways_has_them():
    nodes, _ = parsed(bridged(nn.GRUCell, bidirectional=True), **BOXES)
    assert called(nodes) == ["h", "h←", "h→"]


def test_the_names_of_gradients_over_time_are_as_they_were():
    assert viz.gradient_flow(one_layer()).keys() == {"h1", "h2"}


@pytest.mark.parametrize("make", [of_ones_own, one_layer])
def test_in_a_film_both_directions_start_at_once_from_both_ends(make):
    drawing = viz.draw(make(), **CELLS)
    moments = [[i.moment for i in block.items if i.shape == "module"] for block in drawing.picture.slots]
    assert moments == [[1, 3], [2, 2], [3, 1]]
    assert drawing.moments[0] == "t = 1 from the past, t = 3 from the future"


def test_of_two_layers_the_upper_one_starts_when_the_lower_one_is_through():
    drawing = viz.draw(sketches.bidirectional(nn.GRUCell, H, 3, 2), **CELLS)
    moments = [[i.moment for i in block.items if i.shape == "module"] for block in drawing.picture.slots]
    assert moments == [[1, 3, 4, 6], [2, 2, 5, 5], [3, 1, 6, 4]]


@pytest.mark.parametrize("make", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_the_lane_of_a_delay_is_its_own_where_outputs_are_led_round_it(make):
    nodes, edges = parsed(sketches.bidirectional(make, 4, 3, 1), **CIRCUIT)
    on = squares(nodes)
    lanes = [(a, b, densely(e)) for a, b, e in edges if {a, b} & {*on}]
    others = [(a, b, densely(e)) for a, b, e in edges if (step(a), step(b)) == ("step0", "above")]
    assert lanes and len(others) == 2
    for lane, other in ((lane, other) for *_, lane in lanes for *_, other in others):
        near = sum(np.hypot(*(lane - point).T).min() < 4 for point in other)
        assert near <= 30, "they cross, or begin at one node, and do no more"


def densely(edge):
    """A point for each point of a line's length, or about."""
    line = np.array([*along(edge)])
    parts = [np.linspace(a, b, max(int(np.hypot(*(b - a))), 1), endpoint=False) for a, b in pairwise(line)]
    return np.concatenate(parts)
