"""Edges of drawings begin and end on the border of their nodes, however high these became for the lines into them."""

import math

from functools import partial

import pytest
import test_viz

from architectures import (
    LRU,
    SLSTM,
    H,
    HyperLSTM,
    Nested,
    PhasedLSTM,
    Window,
    bridged,
    encoder_decoder,
    over_time,
    per_step,
    spelled,
)
from test_circuit_pictures import BOXES, CELLS, CIRCUIT, SLOW, corners, parsed, points

from tinygrad_rnn import nn
from viz.style import COLOURS

attentive = partial(bridged, attention=lambda width: nn.AdditiveAttention(H, width, H))
NETWORKS = {
    "attention": attentive,
    "attention, LSTM": lambda: attentive(nn.LSTMCell),
    "attention, two directions": lambda: attentive(nn.GRUCell, bidirectional=True),
    "encoder": lambda: encoder_decoder(nn.LSTMCell),
    "two directions": lambda: bridged(nn.GRUCell, bidirectional=True),
    "four states": lambda: over_time(SLSTM()),
    "four states, a loss at each step": lambda: per_step(SLSTM()),
    "four states, most steps left out": lambda: over_time(SLSTM(), 20),
    "three states": lambda: over_time(PhasedLSTM()),
    "memories that mix": lambda: over_time(LRU()),
    "image": spelled,
    "nested": lambda: over_time(Nested()),
    "one module, four states": lambda: over_time(HyperLSTM()),
    "window": lambda: over_time(Window()),
    "layers": lambda: per_step(nn.Stack([nn.LSTMCell(3, H), nn.GRUCell(H, H)])),
}
LOOKS = [CELLS, CIRCUIT, BOXES, {}, {**CELLS, "direction": "down"}, {**CELLS, "shapes": True, "values": True},
         {**BOXES, "direction": "down"}, {**BOXES, "unfold": True}, {**CIRCUIT, "unfold": True}]  # fmt: skip


@pytest.mark.parametrize("look", [CELLS, *(pytest.param(look, marks=SLOW) for look in LOOKS[1:])], ids=str)
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_each_edge_begins_and_ends_on_the_border_of_its_nodes(make, look):
    assert off_border(make(), look) == []


@pytest.mark.parametrize("look", [*LOOKS[1:5], *(pytest.param(look, marks=SLOW) for look in LOOKS[5:])], ids=str)
def test_so_do_those_of_attention_in_every_view(look):
    assert off_border(attentive(nn.LSTMCell), look) == []


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("name", test_viz.GRAPHS)
def test_so_do_those_of_graphs_of_many_forms(name, look):
    graph = test_viz.GRAPHS[name]
    assert off_border(graph if graph.shape == () else graph.sum(), look) == []


@pytest.mark.parametrize("look", [CELLS, BOXES], ids=str)
@pytest.mark.parametrize("make", [attentive, NETWORKS["layers"], NETWORKS["image"]])
def test_no_box_is_lower_than_usual(make, look):
    nodes, _ = parsed(make(), **look)
    heights = [
        float(n["height"]) for n in nodes.values() if n["label"] in ("RNN", "GRU", "LSTM", "Attention", "Linear")
    ]
    assert heights and min(heights) >= 0.58


def off_border(what, look):
    """The ends of edges that are more than a point from the border of their node."""
    nodes, edges = parsed(what, **look)
    found = []
    for tail, head, edge in edges:
        line, tip = points(edge)
        has_arrow, is_rail = "e," in edge["pos"], edge.get("color") == COLOURS["parameter"][1]  # rails are in pieces
        if has_arrow and distance(nodes[head], tip) > 1.2:
            found.append((tail, head, "tip", distance(nodes[head], tip)))
        if not is_rail and distance(nodes[tail], line[0]) > 1.2:
            found.append((tail, head, "start", distance(nodes[tail], line[0])))
    assert edges
    return found


def distance(node, point):
    """From the border of a box or a circle."""
    (left, low, right, high), (x, y) = corners(node), point
    if node.get("shape") == "circle":
        return abs(math.dist(point, ((left + right) / 2, (low + high) / 2)) - (right - left) / 2)
    outside = math.hypot(max(left - x, 0, x - right), max(low - y, 0, y - high))
    return outside or min(x - left, right - x, y - low, high - y)
