"""What goes from step to step, and from one loop to the next, in drawings: circuits and the unrolled graph."""

import html
import json
import re

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from architectures import (
    LRU,
    QRNN,
    SLSTM,
    B,
    H,
    HyperLSTM,
    I,
    InADict,
    Nested,
    PhasedLSTM,
    TwoSpeeds,
    Window,
    bridged,
    encoder_decoder,
    inputs,
    over_time,
    per_step,
    spelled,
    weights,
)  # fmt: skip

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from viz.graphviz import render
from viz.style import COLOURS

pytest.importorskip("graphviz")

CIRCUIT, BOXES, CELLS = {"view": "circuit"}, {"view": "circuit", "depth": 1}, {"view": "cells"}
SQUARE, GREEN, PURPLE = COLOURS["delay"][0], COLOURS["hidden"][1], COLOURS["cell"][1]


def parsed(what, **look):
    """Nodes by name, and edges, as Graphviz reads them."""
    found = json.loads(render.render(viz.draw(what, **look).dot, "json0"))
    names = {o["_gvid"]: o["name"] for o in found["objects"]}
    edges = [(names[e["tail"]], names[e["head"]], e) for e in found.get("edges", ())]
    return {o["name"]: o for o in found["objects"] if "pos" in o}, edges


ends = lambda edges: {(a, b) for a, b, _ in edges}
SLOW = pytest.mark.slow
ENGINES = ["eager", pytest.param("numpy", marks=SLOW)]
squares = lambda nodes: sorted(name for name, n in nodes.items() if n.get("fillcolor") == SQUARE)
labelled = lambda nodes, label: [name for name, n in nodes.items() if n.get("label") == label]
called = lambda nodes: sorted(nodes[f"{square}.name"]["label"] for square in squares(nodes))
block = lambda name: name.partition(".")[0]


def corners(node):
    x, y = map(float, node["pos"].split(","))
    w, h = float(node["width"]) * 36, float(node["height"]) * 36
    return x - w, y - h, x + w, y + h


def points(edge):
    """Those that a line runs through, and where its arrow ends."""
    tips, line = [], []
    for p in edge["pos"].split():
        (tips if p.startswith("e,") else line).append(tuple(map(float, p.removeprefix("e,").split(","))))
    return line, (tips or line[-1:])[0]


def along(edge):
    line, _ = points(edge)
    line = np.array(line)
    u = np.linspace(0, 1, 9)[:, None]
    for a, b, c, d in zip(line[:-1:3], line[1::3], line[2::3], line[3::3], strict=True):
        yield from a * (1 - u) ** 3 + 3 * b * u * (1 - u) ** 2 + 3 * c * u**2 * (1 - u) + d * u**3


def are_over_time(edge):
    return edge.get("color") in (GREEN, PURPLE) and edge.get("penwidth") == "1.8"


# ---- a circuit of two loops ------------------------------------------------------------------------------------------

LOOPS = {
    **{f"{make.__name__} {source} {target}": (make, source, target)
       for make, source, target in [(nn.RNNCell, 3, 4), (nn.LSTMCell, 3, 4), (nn.GRUCell, 2, 2), (nn.LSTMCell, 1, 4),
                                    (nn.GRUCell, 4, 1), (nn.LSTMCell, 1, 1), (TwoSpeeds, 3, 3), (InADict, 3, 3),
                                    (HyperLSTM, 3, 3)]},
}  # fmt: skip


@pytest.mark.parametrize("look", [pytest.param(CIRCUIT, marks=SLOW), BOXES], ids=str)
@pytest.mark.parametrize("make, source, target", LOOPS.values(), ids=LOOPS)
def test_the_last_state_of_the_encoder_is_what_the_delays_of_the_decoder_begin_with(make, source, target, look):
    nodes, edges = parsed(encoder_decoder(make, source, target), **look)
    n = len(nest.leaves(make(I, H).initial_state(1)))
    of = {step: [s for s in squares(nodes) if block(s) == step] for step in ("step0", "step1")}
    assert {step: len(found) for step, found in of.items()} == {"step0": n, "step1": n}
    for square in of["step1"]:
        into = sorted(block(a) for a, b in ends(edges) if b == square)
        assert into == ["step0", "step1"], "the encoder's state at first, then its own"
        assert {block(b) for a, b in ends(edges) if a == square} == {"step1"}
    assert all(block(a) == block(b) == "step0" for a, b in ends(edges) if {a, b} & {*of["step0"]})
    assert {(block(a), block(b)) for a, b in ends(edges) if block(a) != block(b)} - {
        (p, s) for p in map(block, nodes) for s in ("step0", "step1") if p.startswith("p")
    } <= {("step0", "step1"), ("step1", "above"), *(((p, "above")) for p in nodes)}


def reaching(nodes, edges):
    """The nodes from which a way leads to the loss."""
    found = {
        name
        for name, n in nodes.items()
        if n.get("label", "").startswith("L") and n.get("fillcolor") == COLOURS["loss"][0]
    }
    while True:
        more = {a for a, b in ends(edges) if b in found} - found
        if not more:
            return found
        found |= more


additive = lambda width: nn.AdditiveAttention(H, width)
NETWORKS = {
    "bridge": lambda: bridged(),
    "bridge, LSTM": lambda: bridged(nn.LSTMCell),
    "bridge, two directions": lambda: bridged(nn.GRUCell, bidirectional=True),
    "bridge, one step": lambda: bridged(nn.GRUCell, 1, 1),
    "attention": lambda: bridged(attention=additive),
    "image": lambda: spelled(),
    "image, LSTM": lambda: spelled(nn.LSTMCell),
    "image, soft feedback": lambda: spelled(form="soft"),
    "image, free": lambda: spelled(form="free"),
}


@pytest.mark.parametrize("look", [CIRCUIT, pytest.param(BOXES, marks=SLOW)], ids=str)
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_nothing_in_a_circuit_is_a_dead_end_and_each_first_state_comes_from_somewhere(make, look):
    nodes, edges = parsed(make(), **look)
    drawn = {name for name in nodes if not name.endswith(".name")}
    assert drawn == reaching(nodes, edges)
    assert [a for a, b in ends(edges) if b in squares(nodes) and block(a) not in (block(b), "step0")]


def test_each_delay_of_a_step_has_the_name_that_the_code_has_for_its_state():
    nodes, _ = parsed(bridged(attention=additive), **CIRCUIT)
    names = {s: nodes[f"{s}.name"]["label"] for s in squares(nodes)}
    assert sorted((block(s), name) for s, name in names.items()) == [
        ("step0", "h"),
        ("step2", "context"),
        ("step2", "h"),
    ]


def test_a_first_state_that_is_learned_leads_into_its_delay():
    class Learned(nn.RNNCell):
        def __init__(self):
            super().__init__(I, H)
            self.h0 = weights(H)

        def initial_state(self, batch_size):
            return self.h0.broadcast_to((batch_size, H))

    for engine in ("eager", "numpy"):
        nodes, edges = parsed(over_time(Learned(), engine=engine), **CIRCUIT)
        (h0,), (square,) = [name for name, n in nodes.items() if n["label"] == "h0"], squares(nodes)
        assert (h0, square) in ends(edges)


# ---- states of many kinds -------------------------------------------------------------------------------------------

STATES = {  # the names of a cell's states
    QRNN: ["c", "last"], Window: ["x", "x"], PhasedLSTM: ["c", "h", "timer"], SLSTM: ["c", "h", "m", "n"],
    HyperLSTM: ["c", "h", "hc", "hh"], TwoSpeeds: ["fast", "slow"], InADict: ["fast", "slow"], LRU: ["a", "b"],
    Nested: ["c", "c", "h", "main.h"],
}  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", STATES, ids=lambda c: c.__name__)
def test_each_state_has_a_delay_with_its_name_also_one_that_has_no_gradient_or_is_an_input(cell, engine):
    for steps in (4,) if cell is Window else (2, 4):
        nodes, edges = parsed(over_time(cell(), steps, engine), **CIRCUIT)
        assert called(nodes) == STATES[cell]
        assert len([n for n in nodes.values() if n["label"] == "x" and n.get("fillcolor") == COLOURS["input"][0]]) == 1
        assert all(
            {a for a, b in ends(edges) if b == s} and {b for a, b in ends(edges) if a == s} for s in squares(nodes)
        )


@pytest.mark.parametrize("cell", STATES, ids=lambda c: c.__name__)
def test_a_cell_that_has_not_run_and_one_with_ragged_lengths_have_the_same_delays(cell):
    nodes, _ = parsed(cell(), **CIRCUIT)
    assert called(nodes) == STATES[cell] and not any(name.startswith("below") for name in nodes)
    if cell is not Window:  # of two steps that read alike nothing tells how old the second input is
        ys, _ = nn.Recurrent(cell())(inputs(4), lengths=[4, 2])
        assert called(parsed(ys.sum(), **CIRCUIT)[0]) == STATES[cell]


SINGLE = {Nested: ["c", "c", "h", "h"]}


@pytest.mark.parametrize("cell", [QRNN, PhasedLSTM, SLSTM, HyperLSTM, Nested, LRU], ids=lambda c: c.__name__)
def test_a_circuit_of_a_single_step_has_the_delays_of_any(cell):
    for loss in (over_time(cell(), 1), *([] if cell is PhasedLSTM else [per_step(cell(), 1)])):
        assert [name.rpartition(".")[2] for name in called(parsed(loss, **CIRCUIT)[0])] == SINGLE.get(
            cell, STATES[cell]
        )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cell", [c for c in STATES if c is not Nested], ids=lambda c: c.__name__)
def test_a_step_has_one_input_and_the_first_one_its_first_states(cell, engine):
    nodes, edges = parsed(over_time(cell(), 4, engine), **CELLS)
    given = [n["label"] for n in nodes.values() if n.get("fillcolor") == COLOURS["input"][0]]
    assert given == ["x₁", "x₂", "x₃", "x₄"]
    row = labelled(nodes, cell.__name__)
    lines = [(a, b) for a, b, e in edges if are_over_time(e)]
    for step, name in enumerate(row):
        assert sum(b == name for _, b in lines) == len(STATES[cell]), step
    first = [a for a, b in lines if b == row[0] and nodes[a]["label"].rstrip("₀₁₋")]
    assert {block(a) for a in first} == {"start"}


def test_the_unrolled_window_reads_each_input_at_its_step_and_at_the_two_after_it():
    nodes, edges = parsed(over_time(Window()), **CELLS)
    reads = [(nodes[a]["label"], block(b)) for a, b, _ in edges if nodes[b]["label"] == "Window"]
    assert sorted(reads) == sorted(
        (label, f"t{t}") for k, label in enumerate(["x₋₁", "x₀", "x₁", "x₂", "x₃", "x₄"], -1)
        for t in (k, k + 1, k + 2) if 1 <= t <= 4
    )  # fmt: skip


def test_what_a_cell_captures_is_no_state():
    class Captures(nn.RNNCell):
        bias = tg.tensor(np.ones((B, H), np.float32))

        def forward(self, x, state):
            h = ops.tanh(x @ self.U + state @ self.W + self.bias)
            return h, h

    for steps in (2, 3, 5):
        assert called(parsed(per_step(Captures(I, H), steps), **CIRCUIT)[0]) == ["h"]


# ---- lines and names ------------------------------------------------------------------------------------------------

LINES = {
    "a loss at each step": lambda: per_step(nn.LSTMCell(I, H)),
    "four states": lambda: over_time(SLSTM()),
    "three states": lambda: over_time(PhasedLSTM()),
    "image": lambda: spelled(),
    "image, LSTM": lambda: spelled(nn.LSTMCell),
    "soft feedback": lambda: spelled(form="soft"),
    "bridge": lambda: bridged(nn.LSTMCell),
    "two directions": lambda: bridged(nn.GRUCell, bidirectional=True),
    "encoder": lambda: encoder_decoder(nn.LSTMCell),
    "memories that mix": lambda: over_time(LRU()),
}


@pytest.mark.parametrize("look", [CIRCUIT, *(pytest.param(k, marks=SLOW) for k in ({}, CELLS, BOXES))], ids=str)
@pytest.mark.parametrize("make", LINES.values(), ids=LINES)
def test_no_state_runs_through_a_box_or_a_name(make, look):
    nodes, edges = parsed(make(), **look)
    for tail, head, edge in edges:
        for x, y in along(edge) if are_over_time(edge) else ():
            for other in nodes.keys() - {tail, head} - {name for name in nodes if name.startswith("frame ")}:
                left, low, right, high = corners(nodes[other])
                assert not (left + 2 < x < right - 2 and low + 2 < y < high - 2), (tail, head, other)


@pytest.mark.parametrize("make", LINES.values(), ids=LINES)
def test_states_come_into_a_cell_at_its_side_each_at_a_height_of_its_own(make):
    nodes, edges = parsed(make(), **CELLS)
    heights = {}
    for _, head, edge in edges:
        if are_over_time(edge) and nodes[head]["label"] in ("LSTM", "GRU", "SLSTM", "PhasedLSTM", "LRU"):
            left, low, right, high = corners(nodes[head])
            _, (x, y) = points(edge)
            assert low < y < high and min(abs(x - left), abs(x - right)) < 3
            heights.setdefault(head, []).append(y)
    assert heights
    for found in heights.values():
        assert all(b - a > 10 for a, b in pairwise(sorted(found)))


@pytest.mark.parametrize("cell", [nn.LSTMCell, SLSTM], ids=lambda c: c.__name__)
def test_states_run_side_by_side_into_what_is_left_out_and_out_of_it(cell):
    nodes, edges = parsed(over_time(cell(I, H), 12), **CELLS)
    lines = [(a, b, points(e)[0]) for a, b, e in edges if are_over_time(e)]
    before = sorted(line[0][1] for _, b, line in lines if nodes[b]["label"] == "· · ·")
    behind = sorted(line[-1][1] for a, _, line in lines if nodes[a]["label"] == "· · ·")
    assert before == behind and len(before) == len(nest.leaves(cell(I, H).initial_state(1)))
    assert all(b - a > 10 for a, b in pairwise(before))


@pytest.mark.parametrize("cell", [SLSTM, HyperLSTM, PhasedLSTM, QRNN], ids=lambda c: c.__name__)
def test_the_names_of_states_lie_apart(cell):
    _, edges = parsed(over_time(cell()), **CELLS)
    places = sorted(float(e["lp"].split(",")[1]) for _, _, e in edges if e.get("label"))
    assert len(places) == len(STATES[cell]) and all(b - a >= 13 for a, b in pairwise(places))


def test_initial_states_of_a_later_loop_stand_in_front_of_its_first_step():
    h0 = nn.RNNCell(I, H)
    ys, _ = nn.Recurrent(nn.RNNCell(I, H))(inputs(3))
    zs, _ = nn.Recurrent(h0)(inputs(4, seed=1))
    nodes, edges = parsed(ys.sum() + zs.sum(), **CELLS)
    starts = [(a, b) for a, b in ends(edges) if nodes[a]["label"] == "h₀"]
    assert len(starts) == 2
    for a, b in starts:
        (_, low, right, high), (left, *_) = corners(nodes[a]), corners(nodes[b])
        assert right < left and low < float(nodes[b]["pos"].split(",")[1]) < high


# ---- players and notebooks ------------------------------------------------------------------------------------------


def test_on_the_way_back_each_arrow_is_at_the_tail_of_its_edge_but_where_no_gradient_flows():
    drawing = viz.draw(per_step(nn.LSTMCell(I, H)), **CELLS)
    nodes, edges = parsed(per_step(nn.LSTMCell(I, H)), **CELLS)
    with_arrows = [nodes[a]["label"].rstrip("₁₂₃₄") for a, _, e in edges if e.get("arrowhead") != "none"]
    still = [tail for tail in with_arrows if tail in ("x", "y", "h₀, c₀")]
    assert len(with_arrows) == 24 and len(still) == 4 + 4 + 2
    for text in (drawing.html(), drawing.film()):
        assert text.count('data-arrow=""') == len(with_arrows) - len(still)
        assert [len(re.findall(rf'id="[\w-]+-{name}"', text)) for name in ("back", "stub")] == [1, 1]
        assert re.search(r"\[data-arrow\] path ?{\s*(marker: none;\s*)?marker-start:", text)


def test_a_player_changes_nothing_of_the_page_that_it_is_put_into():
    page = viz.draw(per_step(nn.RNNCell(I, H), 2), **CELLS).html()
    style = re.sub(r"/\*.*?\*/", "", page.partition("<style>")[2].partition("</style>")[0], flags=re.DOTALL)
    rules = [rule.strip() for rule in re.findall(r"^([^\s@}][^{]*){", style, flags=re.MULTILINE)]
    assert len(rules) > 20 and all(rule.startswith((":where(.player)", ".")) for rule in rules)
    assert '<html lang="en" class="player">' in page


def test_in_a_notebook_a_drawing_is_not_cut_off_and_a_player_has_a_frame_of_its_own():
    drawing = viz.draw(per_step(nn.RNNCell(I, H), 2), **CELLS)
    shown = drawing._repr_html_()
    head = shown.partition("<g")[0]
    assert "overflow-x:auto" in head and "min(100%," in head and not re.search(r'(width|height)="[\d.]+pt"', head)
    assert ElementTree.fromstring(shown).find(".//{*}g") is not None
    frame = drawing.play(300)._repr_html_()
    assert frame == drawing.player(300)._repr_html_()  # its former name
    assert frame.startswith("<iframe srcdoc=") and "height:300px" in frame
    assert html.unescape(frame.split('"')[1]) == drawing.html()


def test_a_page_does_not_underline_names_with_a_tooltip():
    shown = viz.draw(per_step(nn.RNNCell(I, H), 2), gradient=True)._repr_html_()
    notes = re.findall("<a [^>]*>", shown)
    assert notes and all('style="text-decoration:none"' in note for note in notes)


def test_a_png_has_as_many_dots_as_asked_for(tmp_path):
    pytest.importorskip("graphviz")
    drawing, sizes = viz.draw(nn.GRUCell(2, 3)), {}
    for dpi in (55, 110, 220):
        drawing.save(tmp_path / "x.png", dpi=dpi)
        head = (tmp_path / "x.png").read_bytes()[16:24]
        sizes[dpi] = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
    for a, b in zip(sizes[55], sizes[220], strict=True):
        assert abs(b - 4 * a) <= 4
    drawing.save(tmp_path / "y.png")
    assert (tmp_path / "y.png").read_bytes()[16:24] == b"".join(n.to_bytes(4, "big") for n in sizes[110])
    with pytest.raises(ValueError, match=r"^viz: dpi must be from 1 to 2400, got 0$"):
        drawing.save(tmp_path / "z.png", dpi=0)
    assert not (tmp_path / "z.png").exists()
