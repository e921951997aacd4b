"""Drawings of gradients: arrows lead backward where a gradient flows, and forward where none does."""

import math
import re

from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest
import test_viz

from architectures import B, H, I, PhasedLSTM, bridged, inputs, per_step, spelled, zeros
from test_circuit_pictures import BOXES, CELLS, CIRCUIT, corners, parsed, squares
from test_viz import drawn

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from viz.layout.routes import against
from viz.style import COLOURS
from viz.write import placed_dot

BROWN = COLOURS["parameter"][1]
BACK, FORTH = "the gradient flows back", "no gradient flows back"
STEPS = {f"t{t}" for t in range(1, 5)} | {""}
step = lambda name: name.partition(".")[0]
arrows = lambda edge: "".join(mark for mark in "se" if re.search(rf"(^| ){mark},", edge["pos"]))


def arrowed(what, **look):
    """(label of the tail, label of the head, "s" or "e" for an arrow at the tail or the head) of all but the legend."""
    nodes, edges = parsed(what, gradient=True, **look)
    label = lambda name: nodes[name].get("label", "")
    return [(label(a), label(b), arrows(e)) for a, b, e in edges if not a.startswith("legend")]


def between_steps(what, **look):
    """(step of the tail, step of the head, its arrows) of what goes from step to step, or through dots."""
    _, edges = parsed(what, gradient=True, **look)
    return [(step(a), step(b), arrows(e)) for a, b, e in edges
            if re.match("t|gap", a) and re.match("t|gap", b) and step(a) != step(b)]  # fmt: skip


# ---- which way ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [{}, CELLS, CIRCUIT, BOXES], ids=str)
def test_an_arrow_leads_back_where_a_gradient_flows_and_forth_where_none_does(look):
    found = arrowed(per_step(nn.LSTMCell(I, H)), **look)
    constant = [a for a in found if re.fullmatch("[xy][₁-₄]?|[hc]₀(, c₀)?", a[0])]
    assert {ends for *_, ends in constant} == {"e"} and len(constant) == {"circuit": 2}.get(look.get("view"), 10)
    others = [a for a in found if a not in constant]
    assert {ends for tail, _, ends in others if tail not in ("", "· · ·")} <= {"s", ""}
    assert Counter(ends for *_, ends in others)["s"] > 2


@pytest.mark.parametrize("look", [{}, CELLS], ids=str)
def test_from_step_to_step_each_arrow_is_at_the_earlier_step(look):
    found = between_steps(per_step(nn.LSTMCell(I, H)), **look)
    assert Counter(found) == Counter((f"t{t}", f"t{t + 1}", "s") for t in (1, 2, 3) for _ in "hc")
    forth = {arrows(e) for a, b, e in parsed(per_step(nn.LSTMCell(I, H)), **look)[1] if step(a) != step(b)}
    assert forth == {"e"}, "in another drawing they lead forward"


def test_in_a_network_of_two_directions_gradients_flow_both_ways():
    nodes, edges = parsed(two_directions(), gradient=True, **CELLS)
    x = lambda name: float(nodes[name]["pos"].split(",")[0])
    over_time = [(x(a) - x(b), arrows(e)) for a, b, e in edges if step(a) != step(b) and {step(a), step(b)} < STEPS]
    assert {ends for _, ends in over_time} == {"s"}
    assert Counter(math.copysign(1, way) for way, _ in over_time) == {1: 3, -1: 3}


def two_directions():
    ys, _ = nn.Bidirectional(nn.GRUCell(I, H), nn.GRUCell(I, H))(inputs(4))
    return (ys * ys).sum()


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_through_steps_that_are_left_out_gradients_flow_as_dark_as_the_state_there(engine):
    ys, _ = nn.Recurrent(nn.RNNCell(I, H), engine=engine)(inputs(30))
    loss = nn.mse_loss(ys[-1], zeros(B, H))
    found = between_steps(loss, **CELLS)
    assert ("t4", "gap4", "s") in found and ("gap4", "t27", "") in found
    nodes, _ = parsed(loss, gradient=True, **CELLS)
    assert [n.get("tooltip") for n in nodes.values() if n.get("label") == "· · ·"] == [None]
    _, edges = parsed(loss, gradient=(1e-12, 1.0), **CELLS)
    width = {(step(a), step(b)): float(e["penwidth"]) for a, b, e in edges}
    assert width["t4", "gap4"] < width["gap4", "t27"] < width["t27", "t28"]


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_behind_the_last_step_that_is_drawn_the_gradient_comes_out_of_the_dots(engine):
    ys, _ = nn.Recurrent(nn.RNNCell(I, H), engine=engine)(inputs(30))
    found = between_steps(nn.mse_loss(ys, zeros(*ys.shape)), steps="3-5", **CELLS)
    assert found == [("t3", "t4", "s"), ("t4", "t5", "s"), ("gap0", "t3", ""), ("t5", "gap4", "s")]


@pytest.mark.parametrize("steps", [2, 3, 4])
@pytest.mark.parametrize("look", [CIRCUIT, BOXES], ids=str)
def test_a_gradient_comes_through_a_delay_and_goes_on_to_what_the_state_is_made_by(look, steps):
    nodes, edges = parsed(per_step(nn.LSTMCell(I, H), steps), gradient=True, **look)
    into = [arrows(e) for a, b, e in edges if b in squares(nodes)]
    out = [arrows(e) for a, b, e in edges if a in squares(nodes)]
    assert into == ["s", "s"] and set(out) == {""}


class Late(nn.Cell):
    """It reads its state of two steps ago, and no other."""

    def __init__(self):
        self.input_size, self.U, self.W = I, nn.Linear(I, H), nn.Linear(H, H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H), self.zeros(batch_size, H)

    def forward(self, x, state):
        h = ops.tanh(self.U(x) + self.W(state[1]))
        return h, (h, state[0])


@pytest.mark.parametrize("look", [CIRCUIT, BOXES], ids=str)
def test_it_comes_through_two_delays_in_a_row(look):
    nodes, edges = parsed(per_step(Late(), 5), gradient=True, **look)
    on = squares(nodes)
    found = Counter((a in on, b in on, arrows(e), float(e["penwidth"]) > 1.3) for a, b, e in edges if {a, b} & {*on})
    assert found == {(False, True, "s", True): 1, (True, True, "", True): 1, (True, False, "", True): 1}


def test_it_goes_on_to_an_encoders_last_state():
    nodes, edges = parsed(bridged(nn.LSTMCell), gradient=True, **BOXES)
    starts = [(a, b, e) for a, b, e in edges if b in squares(nodes) and step(a) != step(b)]
    assert len(starts) == 2 and {arrows(e) for *_, e in starts} == {"s"}


# ---- where none flows -----------------------------------------------------------------------------------------------


@tg.primitive
def held(h, gate):
    return h * gate


held.vjp(h=lambda g, gate: g * gate)  # and none for the gate


class Held(nn.Cell):
    """A gate that no gradient flows to along this way."""

    def __init__(self):
        self.input_size, self.cell, self.gate = I, nn.RNNCell(I, H), nn.Linear(I, H)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def forward(self, x, h):
        gate = ops.sigmoid(self.gate(x))
        y, _ = self.cell(x, h)
        h = held(y, gate)
        return h + 0.1 * gate, h


@pytest.mark.parametrize("engine", ["eager", "numpy"])
def test_an_argument_without_a_rule_gets_no_arrow_though_it_has_a_gradient_by_another_way(engine):
    ys, _ = nn.Recurrent(Held(), engine=engine)(inputs(3))
    found = arrowed(nn.mse_loss(ys, zeros(*ys.shape)))
    of_gates = Counter((head, ends) for tail, head, ends in found if tail.endswith("σ"))
    assert of_gates == {("held", "e"): 3, ("0.1 ×", "s"): 3}


class Gated(nn.Cell):
    """Its state is a gate of the next step, along whose way no gradient flows. also: and is read by a product first"""

    def __init__(self, also=False):
        self.input_size, self.U, self.W, self.also = I, nn.Linear(I, H), nn.Linear(H, H), also

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        y = held(ops.tanh(self.U(x)), h if self.also else ops.sigmoid(h))
        h = y + self.W(h) if self.also else y
        return h, h


@pytest.mark.parametrize("look", [{}, CELLS, CIRCUIT, BOXES], ids=str)
def test_what_leads_only_to_such_an_argument_gets_none(look):
    nodes, edges = parsed(per_step(Gated(), 3), gradient=True, **look)
    if look.get("view") == "circuit":
        assert {arrows(e) for a, b, e in edges if b in squares(nodes)} == {""}
        assert {arrows(e) for a, b, e in edges if a in squares(nodes)} == {"e"}
    else:
        assert {arrows(e) for a, b, e in edges if {step(a), step(b)} < STEPS and step(a) != step(b)} == {"e"}


def test_a_line_to_a_box_that_reads_a_state_twice_has_one_if_one_of_them_has():
    assert {ends for *_, ends in between_steps(per_step(Gated(also=True), 3), **CELLS)} == {"s"}


def test_what_is_shown_as_said_is_no_way_of_a_gradient():
    nodes, edges = parsed(per_step(nn.RNNCell(I, H), 3), gradient=True, targets=["a", "b", "c"])
    assert [arrows(e) for _, b, e in edges if nodes[b]["label"] in ("a", "b", "c")] == ["e"] * 3


@pytest.mark.parametrize("learned", ["h", "c", ""])
def test_of_first_states_in_one_box_those_that_are_learned_have_one(learned):
    first = {name: nn.Parameter(np.ones((B, H), np.float32)) if name == learned else zeros(B, H) for name in "hc"}
    ys, _ = nn.Recurrent(nn.LSTMCell(I, H))(inputs(3), nn.LSTMState(**first))
    nodes, edges = parsed((ys * ys).sum(), gradient=True, **CELLS)
    assert Counter(arrows(e) for a, _, e in edges if step(a) == "start") == Counter("es" if learned else "ee")
    assert [n["style"].endswith("dashed") for name, n in nodes.items() if step(name) == "start"] == [not learned]


def test_a_state_without_a_gradient_gets_none_beside_others_that_have_one():
    _, edges = parsed(nn.Recurrent(PhasedLSTM()), **CELLS)
    over_time = [
        (a, b, "forward" in e["class"].split()) for a, b, e in edges if {step(a), step(b)} < STEPS and a[:2] != b[:2]
    ]
    assert Counter(over_time) == Counter(  # of h, c and a clock
        (f"t{t}.1", f"t{t + 1}.1", still) for t in (1, 2, 3) for still in (False, False, True)
    )


def test_what_is_cut_off_between_two_steps_gets_none():
    cell, h, loss = nn.RNNCell(I, H), zeros(B, H), 0
    for t, x in enumerate(inputs(3)):
        with tg.scope(t):
            _, h = cell(x, h if t != 2 else h.detach())
            loss = loss + (h * h).sum()
    assert [ends for a, b, ends in between_steps(loss) if (a, b) == ("t1", "t2")] == ["s"]
    assert [ends for a, b, ends in between_steps(loss) if (a, b) == ("t2", "t3")] in ([], ["e"])


@pytest.mark.parametrize("look", [{}, CELLS, CIRCUIT, BOXES], ids=str)
def test_the_way_of_a_letter_keeps_its_arrow(look):
    _, plain = parsed(spelled(form="free"), **look)
    said = {(a, b): arrows(e) for a, b, e in plain if e.get("color") == COLOURS["said"][1]}
    _, edges = parsed(spelled(form="free"), gradient=True, **look)
    assert said and {(a, b): arrows(e) for a, b, e in edges if (a, b) in said} == said


# ---- parameters -----------------------------------------------------------------------------------------------------


def test_each_parameter_gets_one_arrow_and_its_readers_none():
    nodes, edges = parsed(per_step(nn.LSTMCell(I, H)), gradient=True)
    rails = [(a, b, e) for a, b, e in edges if e.get("color") == BROWN and not a.startswith("legend")]
    assert Counter(arrows(e) for *_, e in rails) == {"s": 1, "": 3} and len({a for a, *_ in rails}) == 1
    assert {e["style"] for *_, e in rails} == {"solid"}
    (first,) = (e for *_, e in rails if arrows(e))
    _, right = corners(nodes["p0"])[0], corners(nodes["p0"])[2]
    assert drawn(first)[1][0] == pytest.approx(right, abs=1)
    assert {arrows(e) for _, _, e in parsed(per_step(nn.LSTMCell(I, H)))[1] if e.get("color") == BROWN} == {"e"}


def test_a_reader_from_which_no_gradient_comes_back_keeps_the_arrow_of_its_parameter():
    cell, gate, h, loss = nn.RNNCell(I, H), nn.Parameter(np.ones(H, np.float32)), zeros(B, H), 0
    gate.name = "gate"
    for t, x in enumerate(inputs(3)):
        with tg.scope(t):
            _, h = cell(x, h)
            h = held(h, gate) if t < 2 else h * gate
            loss = loss + (h * h).sum()
    nodes, edges = parsed(loss, gradient=True)
    (box,) = (name for name, n in nodes.items() if n.get("label", "").startswith("gate"))
    assert [arrows(e) for a, _, e in edges if a == box] == ["se", "e", ""]


# ---- how they look --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm losses", "gru after losses", "elided", "embedding", "custom losses"])
@pytest.mark.parametrize("look", [{}, CELLS, CIRCUIT, BOXES, {"direction": "down"}], ids=str)
def test_arrows_end_at_their_nodes_and_lines_begin_there(name, look):
    loss = test_viz.GRAPHS[name]
    nodes, edges = parsed(loss if loss.shape == () else loss.sum(), gradient=True, **look)
    for tail, head, edge in edges:
        line, start, end = drawn(edge)
        assert len(line) % 3 == 1 and (edge.get("dir", "forward") == "back") == (arrows(edge) == "s")
        assert near(nodes[head], end), (tail, head)
        assert near(nodes[tail], start) or edge.get("color") == BROWN, (tail, head)
        if arrows(edge) == "s":
            assert 0 < math.dist(start, line[0]) < 10


def near(node, point, by=2.5):
    (left, low, right, high), (x, y) = corners(node), point
    return left - by <= x <= right + by and low - by <= y <= high + by


def test_a_line_is_as_it_was_but_for_its_ends():
    curve = [(0.0, 0.0), (10.0, 0.0), (20.0, 0.0), (30.0, 0.0), (35.0, 0.0), (40.0, 5.0), (40.0, 20.0)], (40.0, 26.0)
    (line, tip), start = against(curve, "flow", 2.0, tail=True, head=False)
    assert tip is None and start == pytest.approx((0.5, 0)) and line[0] == pytest.approx((6.5, 0))
    assert line[3:7] == curve[0][3:] and line[-1] == pytest.approx((40, 26.5))
    assert against(curve, "flow", 2.0, tail=False, head=True) == (curve, None)
    short = against(([(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)], None), "flow", 1.0, tail=True, head=False)
    assert 0 < short[0][0][0][0] < 3 and short[0][0][-1] == (3.0, 0.0)


def test_the_legend_says_what_arrows_mean_and_only_of_those_that_there_are():
    texts = lambda what, **look: [n["label"] for name, n in parsed(what, gradient=True, **look)[0].items()
                                  if name.startswith("legend") and n.get("label")]  # fmt: skip
    assert texts(per_step(nn.LSTMCell(I, H))) == [BACK, "to parameters, summed up", FORTH]
    assert texts(per_step(nn.LSTMCell(I, H)), parameters=False) == [BACK, FORTH]
    assert texts(bridged(), **BOXES) == [BACK]
    nodes, edges = parsed(per_step(nn.LSTMCell(I, H)), gradient=True)
    samples = [(nodes[a.split(".")[0]]["label"], arrows(e)) for a, _, e in edges if a.startswith("legend")]
    assert samples == [(BACK, "s"), ("to parameters, summed up", "s"), (FORTH, "e")]


# ---- when it plays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"gradient": True}], ids=str)
def test_what_no_gradient_comes_to_stays_as_it_is_on_the_way_back(more):
    film = ElementTree.fromstring(viz.draw(per_step(nn.LSTMCell(I, H)), **CELLS, **more).film())
    groups = [g for g in film.iter() if {"node", "edge"} & {*g.get("class", "").split()}]
    text = lambda g: "".join(g.itertext()).strip()
    still = Counter(text(g).rstrip("₁₂₃₄") for g in groups if "forward" in g.get("class").split())
    assert {k: n for k, n in still.items() if k in ("x", "y")} == {"x": 4, "y": 4}
    assert sum(n for k, n in still.items() if k not in ("x", "y")) == 4 + 4 + 2  # their lines, and those of h₀ and c₀
    assert not any("data-arrow" in g.attrib for g in groups if "forward" in g.get("class").split())
    key = film.get("class")
    (rule,) = re.findall(rf"\.{key} \.forward{{(.*?)}}", "".join(film.itertext()))
    assert rule == "--line:initial;--dashes:initial;--back:initial;--stub:initial;--fore:initial;"


def test_a_film_of_gradients_begins_with_arrows_that_lead_forward_and_has_no_legend_of_arrows():
    text = viz.draw(per_step(nn.LSTMCell(I, H)), gradient=True).film()
    root = ElementTree.fromstring(text)
    widths = [float(path.get("stroke-width", 1)) for g in root.iter() if "edge" in g.get("class", "").split()
              for path in g.iter("{http://www.w3.org/2000/svg}path")]  # fmt: skip
    assert widths and max(widths) <= 2.0 and BACK not in text and "‖∂L/∂·‖" in text
    still = viz.draw(per_step(nn.LSTMCell(I, H)), gradient=True)
    assert BACK in still.svg() and 'dir="back"' in still.dot
    assert "dir=" not in placed_dot.dot(still.layout, plays=True)


def test_a_circuit_that_was_recorded_says_where_gradients_flow():
    nodes, edges = parsed(tg.circuit(Held(), inputs(1)[0]))
    forward = {nodes[a]["label"].rstrip("₁₂₃₄") for a, _, e in edges if "forward" in e.get("class", "").split()}
    others = {nodes[a]["label"].rstrip("₁₂₃₄") for a, _, e in edges if "forward" not in e.get("class", "").split()}
    assert {"x", "h₀"} <= forward and "held" in others and not {"x", "h₀"} & others
