"""The names beside the delays of a circuit have room, however long or wide they are."""

import json

from collections import namedtuple
from itertools import combinations

import pytest

from architectures import SLSTM, H, I, over_time, weights
from test_circuit_pictures import BOXES, CIRCUIT, along, corners, labelled, parsed

from tinygrad_rnn import nn, ops
from viz.graphviz import render
from viz.graphviz.dot import digraph, node

NAMES = {
    "short": ("h", "c", "m"),
    "long": ("working_memory", "long_term_memory", "h"),
    "wide": ("MMMMMMMMMM", "WWWWWWWWWW", "mmmmmmmmmm"),
    "Chinese": ("工作记忆单元", "长期记忆单元", "隐藏"),
    "narrow": ("illilliilli", "iiiiiiiiiii", "lllllll"),
    "one": ("the_only_state_that_it_has",),
    "four": ("working_memory", "long_term", "short", "x_of_the_last_step"),
}


class Named(nn.Cell):
    """Hidden states and memories with such names."""

    def __init__(self, names):
        self.input_size, self.State = I, namedtuple("State", names)
        self.U, self.Ws = weights(I, H), [weights(H, H) for _ in names]

    def initial_state(self, batch_size):
        return self.State(*(self.zeros(batch_size, H) for _ in self.Ws))

    def forward(self, x, state):
        a, new = x @ self.U, []
        for k, (W, old) in enumerate(zip(self.Ws, state, strict=True)):
            a = 0.5 * old + a if k % 2 else ops.tanh(a + old @ W)
            new.append(a)
        return a, self.State(*new)


@pytest.mark.parametrize("direction", ["right", "down"])
@pytest.mark.parametrize("view", [CIRCUIT, BOXES], ids=str)
@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_no_line_and_no_node_touches_a_name_that_is_as_wide_as_its_letters(names, view, direction):
    nodes, edges = parsed(over_time(Named(names)), **view, direction=direction)
    tags = [square for name in names for square in labelled(nodes, name) if square.endswith(".name")]
    assert len(tags) == len(names)
    for tag in tags:
        assert float(nodes[tag]["width"]) >= width(nodes[tag]["label"]) - 0.01
    assert clashes(nodes, edges, tags) == []


@pytest.mark.parametrize("view", [CIRCUIT, BOXES], ids=str)
def test_names_in_a_circuit_whose_time_runs_down_stand_close_to_their_delays(view):
    nodes, _ = parsed(over_time(SLSTM()), **view, direction="down")
    for name in (name for name in nodes if name.endswith(".name")):
        (left, _, right, high), square = corners(nodes[name]), corners(nodes[name.removesuffix(".name")])
        assert left - 12 < square[2] and square[0] < right + 12 and high < square[1] + 1 < high + 12


def clashes(nodes, edges, tags):
    """(name, what lies on it)"""
    found = []
    for tag in tags:
        left, low, right, high = corners(nodes[tag])
        found += [(tag, tail, head) for tail, head, edge in edges for x, y in along(edge)
                  if left - 1 < x < right + 1 and low + 1 < y < high - 1]  # fmt: skip
    for a, b in combinations(nodes, 2):
        (left, low, right, high), (x0, y0, x1, y1) = corners(nodes[a]), corners(nodes[b])
        if {a, b} & {*tags} and left < x1 and x0 < right and low < y1 and y0 < high:
            found.append((a, b))
    return found


def width(text):
    """What Graphviz says that a text takes, in inches."""
    statement = node("a", text, "", "text", fontsize=12, width=0)
    return float(json.loads(render.render(digraph([statement]), "json0"))["objects"][0]["width"])
