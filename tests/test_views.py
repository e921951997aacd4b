"""viz.draw: its views (cells, circuit, attention) and what is shown on them (gradients, values, names)."""

import math
import os
import re
import subprocess
import sys

from collections import Counter
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import test_viz

from hypothesis import given, settings
from hypothesis import strategies as st
from test_viz import CELLS, GRAPHS, B, H, I, T, V, inputs, of_kind, read, state_of, summed_losses

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.nn.variable_names import Reader
from viz.read.runs import needed
from viz.style import COLOURS

CELLS = CELLS | {"three layers": lambda: nn.Stack([nn.LSTMCell(I, H), nn.GRUCell(H, H), nn.RNNCell(H, H)])}
BOXES = {  # lowest first, with the kinds of their states
    "rnn": [("RNN", "h")],
    "lstm": [("LSTM", "hc")],
    "gru": [("GRU", "h")],
    "gru after": [("GRU", "h")],
    "custom": [("MinimalGatedUnit", "h")],
    "stack": [("LSTM", "hc"), ("LSTM", "hc")],
    "three layers": [("LSTM", "hc"), ("GRU", "h"), ("RNN", "h")],
}
TITLES = {title for boxes in BOXES.values() for title, _ in boxes}
KIND = {COLOURS["hidden"][1]: "h", COLOURS["cell"][1]: "c"}
ENGINES = ["eager", "numpy"]


step = lambda name: name.partition(".")[0]
place = lambda node: tuple(map(float, node["pos"].split(",")))


def boxes(nodes):
    """The names of the modules' boxes, lowest first, by step."""
    found = {}
    for name in sorted((n for n in nodes if nodes[n]["label"] in TITLES), key=lambda n: place(nodes[n])[1]):
        found.setdefault(step(name), []).append(name)
    return found


def over_time(edges):
    """(tail, head, h or c) of what goes from step to step."""
    return [(a, b, KIND[e["color"]]) for a, b, e in edges if step(a) != step(b) and e.get("penwidth") == "1.8"]


heights = lambda what: {t: len(k) for t, k in boxes(read(viz.draw(what, view="cells"))[0]).items()}
squares = lambda what, **more: len(of_kind(read(viz.draw(what, view="circuit", **more))[0], "delay"))


def last_loss(engine, steps, lengths=None):
    tg.manual_seed(0)
    _, state = nn.Recurrent(nn.LSTMCell(I, H), engine=engine)(inputs(steps), lengths=lengths)
    return nn.cross_entropy(nn.Linear(H, V)(state.h), np.zeros(B, int))


def two_directions(engine="eager", steps=T, layers=2):
    tg.manual_seed(0)
    ys = nn.Embedding(V, I)(np.zeros((steps, B), int))
    for size in (I, 2 * H)[:layers]:
        ahead, back = (nn.Recurrent(nn.LSTMCell(size, H), engine=engine) for _ in range(2))
        ys = tg.ops.concat([ahead(ys)[0], back(ys.flip(0))[0].flip(0)], -1)
    return nn.cross_entropy(nn.Linear(2 * H, V)(ys), np.zeros((steps, B), int))


def loop(cells, order, xs=None):
    """A user's own loop, layer upon layer."""
    xs, states, loss = inputs(len(order)) if xs is None else xs, [state_of(c) for c in cells], 0
    for t in order:
        with tg.scope(t):
            y = xs[t]
            for k, cell in enumerate(cells):
                y, states[k] = cell(y, states[k])
            loss = loss + (y * y).sum()
    return loss


# ---- cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOXES)
def test_each_cell_is_one_box_a_step_and_each_of_its_states_one_line_to_the_next(name):
    nodes, edges, _ = read(viz.draw(summed_losses(CELLS[name]()), view="cells"))
    found, ends = boxes(nodes), {(a, b) for a, b, _ in edges}
    assert list(found) == [f"t{t}" for t in range(1, T + 1)]
    for names in found.values():
        assert [nodes[n]["label"] for n in names] == [title for title, _ in BOXES[name]]
        assert {nodes[n]["fillcolor"] for n in names} == {COLOURS["hidden"][0]}
        assert all(place(nodes[low])[1] < place(nodes[high])[1] for low, high in pairwise(names))
        assert {*pairwise(names)} <= ends
    expected = Counter()
    for k, (_, kinds) in enumerate(BOXES[name]):
        row = [names[k] for names in found.values()]
        (start,) = {a for a, b, _ in over_time(edges) if b == row[0]}
        assert nodes[start]["label"] == ", ".join(f"{kind}₀" for kind in kinds)
        expected.update((a, b, kind) for a, b in pairwise([start, *row]) for kind in kinds)
    assert Counter(over_time(edges)) == expected
    assert all(place(nodes[a])[0] < place(nodes[b])[0] for a, b, _ in expected)
    assert [n["label"] for n in of_kind(nodes, "input")] == ["x₁", "x₂", "x₃", "x₄"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("steps", [2, 3])
def test_two_directions_share_a_column_and_join_below_the_next_layer(steps, engine):
    nodes, edges, _ = read(viz.draw(two_directions(engine, steps), view="cells"))
    columns, ends = [f"t{t}" for t in range(1, steps + 1)], {(a, b) for a, b, _ in edges}
    found = boxes(nodes)
    assert list(found) == columns and {step(n) for n in nodes} == {*columns, "start", "finish", "above", "below"}
    for t, (ahead, back, *upper) in found.items():
        (join,) = [n for n in nodes if step(n) == t and nodes[n]["label"] == "[h→ ; h←]"]
        assert {(ahead, join), (back, join), *((join, box) for box in upper)} <= ends and len(upper) == 2
    expected = Counter()
    for k in range(4):
        row = [found[t][k] for t in columns][:: -1 if k % 2 else 1]
        (start,) = {a for a, b, _ in over_time(edges) if b == row[0]}
        assert nodes[start]["label"] == ("h←₀, c←₀" if k % 2 else "h→₀, c→₀")
        assert all((place(nodes[a])[0] > place(nodes[b])[0]) == k % 2 for a, b in pairwise([start, *row]))
        expected.update((a, b, kind) for a, b in pairwise([start, *row]) for kind in "hc")
    assert Counter(over_time(edges)) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_a_loop_of_ones_own_is_drawn_in_the_order_of_time(sign):
    nodes, edges, _ = read(viz.draw(loop([nn.LSTMCell(I, H)], range(T)[::sign]), view="cells"))
    row = sorted((name for names in boxes(nodes).values() for name in names), key=lambda n: place(nodes[n])[0])
    assert [step(n) for n in row] == ["t1", "t2", "t3", "t4"]
    path = ["start.0" if sign > 0 else "finish.0", *row[::sign]]
    assert Counter(over_time(edges)) == Counter((a, b, kind) for a, b in pairwise(path) for kind in "hc")
    assert all(sign * place(nodes[a])[0] < sign * place(nodes[b])[0] for a, b in pairwise(path))


FORMS = {
    "cells": {"view": "cells"},
    "cells, notes": {"view": "cells", "shapes": True, "values": True, "tokens": ["a long token"] * T},
    "cells, gradient": {"view": "cells", "gradient": True},
    "circuit": {"view": "circuit"},
    "circuit of cells, unfolded": {"view": "circuit", "depth": 1, "unfold": True},
    "down": {"shapes": True, "values": True, "direction": "down"},
    "cells, down": {"view": "cells", "tokens": ["a long token"] * T, "direction": "down"},
}
SOME = {name: GRAPHS[name] for name in ("custom losses", "stack losses", "lengths", "one loss", "elided", "embedding")}
SOME |= {"two directions": two_directions(), "many steps, two directions": two_directions(steps=30)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SOME)
def test_in_every_view_nodes_lie_apart_and_edges_end_at_their_nodes(name, form, monkeypatch):
    monkeypatch.setattr(viz, "draw", partial(viz.draw, **FORMS[form]))
    monkeypatch.setitem(GRAPHS, name, SOME[name] if SOME[name].shape == () else SOME[name].sum())
    test_viz.test_no_node_lies_on_another_and_every_edge_joins_two_of_them(name)
    test_viz.test_an_edge_starts_and_ends_at_its_nodes(name)


@pytest.mark.parametrize("name", GRAPHS)
def test_no_line_is_drawn_twice(name):
    _, edges, _ = read(viz.draw(GRAPHS[name]))
    found = Counter((a, b) for a, b, e in edges if e["color"] != COLOURS["parameter"][1])  # their rails are in pieces
    assert {*found.values()} == {1}


# ---- circuit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [None, 1])
@pytest.mark.parametrize("name", BOXES)
def test_a_circuit_has_one_delay_for_each_part_of_the_state_however_long_it_runs(name, depth):
    cell = CELLS[name]()
    long = nn.Recurrent(cell, engine="numpy")(inputs(2000), state_of(cell))[0]
    found = [squares(what, depth=depth) for what in (*(summed_losses(cell, n) for n in (2, 3, 10)), long)]
    assert found == [len(nest.leaves(state_of(cell)))] * 4
    assert name != "lstm" or [squares(two_directions(steps=n), depth=depth) for n in (3, 30)] == [8, 8]


@pytest.mark.parametrize("name", BOXES)
def test_in_a_circuit_states_come_back_to_their_boxes_and_nothing_has_the_number_of_a_step(name):
    nodes, edges, _ = read(viz.draw(summed_losses(CELLS[name]()), view="circuit", depth=1))
    labels = [n["label"] for n in nodes.values()]
    assert {"x", "ŷ", "L"} <= {*labels} and not re.search("[₀-₉]", "".join(labels))
    back = [(a, e) for square in of_kind(nodes, "delay") for a, b, e in edges if b == square["name"]]
    again = [b for square in of_kind(nodes, "delay") for a, b, _ in edges if a == square["name"]]
    (row,) = boxes(nodes).values()
    expected = Counter((box, kind) for box, (_, kinds) in zip(row, BOXES[name], strict=True) for kind in kinds)
    assert Counter((a, KIND[e["color"]]) for a, e in back) == expected and again == [a for a, _ in back]


def test_a_state_with_several_readers_has_one_square_and_a_line_to_each_of_them():
    nodes, edges, _ = read(viz.draw(summed_losses(nn.GRUCell(I, H)), view="circuit"))
    (square,) = [n["name"] for n in of_kind(nodes, "delay")]
    assert [a for a, b, _ in edges if b == square] == [n["name"] for n in of_kind(nodes, "hidden")]
    heads = [b for a, b, _ in edges if a == square]
    assert len(heads) == len(set(heads)) == 3  # h·W, r ⊙ h, z ⊙ h


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_loss_of_all_steps_is_one_circle(reduction):
    ys = nn.Linear(H, V)(nn.Recurrent(nn.RNNCell(I, H))(inputs(T))[0])
    nodes, edges, _ = read(viz.draw(nn.cross_entropy(ys, np.zeros((T, B), int), reduction=reduction), view="cells"))
    (loss,) = (n for n, it in nodes.items() if it.get("label") == "L")
    assert [nodes[a]["label"] for a, b, _ in edges if b == loss] == ["ŷ"]


def test_an_unfolded_circuit_holds_the_folded_one_and_each_step():
    loss, more = summed_losses(nn.LSTMCell(I, H)), {"view": "circuit", "depth": 1}
    (nodes, edges, _), (folded, _, _) = (read(viz.draw(loss, unfold=unfold, **more)) for unfold in (True, False))
    ends = {(a, b) for a, b, e in edges if e.get("label") == "unfold"}
    assert len(ends) == 1 and folded.keys() < nodes.keys()
    added = nodes.keys() - folded.keys() - {name for pair in ends for name in pair}
    assert {n.split(".")[1] for n in added} == {"start", "t1", "t2", "t3", "t4", "above"}
    assert len(of_kind(nodes, "delay")) == 2
    assert max(place(nodes[n])[0] for n in folded) < min(place(nodes[n])[0] for n in added)


# ---- long sequences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["ops", "cells"])
def test_of_a_long_sequence_with_one_loss_both_ends_are_drawn_and_states_run_through_the_dots(view):
    drawing = viz.draw(last_loss("numpy", 2000), view=view)
    assert len(drawing.dot) < 1.02 * len(viz.draw(last_loss("numpy", 40), view=view).dot)
    nodes, edges, _ = read(drawing)
    shown = {f"t{t}" for t in (1, 2, 3, 4, 1997, 1998, 1999, 2000)}
    assert {step(n) for n in nodes if re.match(r"t\d", n)} == shown
    assert "… 1,992 more\\nsteps …" in [n["label"] for n in nodes.values()]
    dots = {n for n in nodes if nodes[n]["label"] == "· · ·"}
    lines = over_time(edges)
    assert Counter((step(a), kind) for a, b, kind in lines if b in dots) == Counter(("t4", kind) for kind in "hc")
    assert Counter((step(b), kind) for a, b, kind in lines if a in dots) == Counter(("t1997", kind) for kind in "hc")


def test_of_chosen_steps_the_neighbours_are_looked_at_too_and_the_ends():
    steps = list(range(100, 120))
    assert needed(steps, lambda _: [105]) == {100, 101, 104, 105, 106, 113, 114, 115, 118, 119}
    assert needed(steps, None) == set(steps)


@pytest.mark.parametrize("steps, shown, left_out", [("3-5", [3, 4, 5], [2, 25]), ([1, 30], [1, 30], [28])])
@pytest.mark.parametrize("engine", ENGINES)
def test_in_two_directions_the_chosen_steps_are_drawn_and_the_others_counted(steps, shown, left_out, engine):
    nodes, edges, _ = read(viz.draw(two_directions(engine, 30), view="cells", steps=steps))
    found = boxes(nodes)
    assert {t: len(names) for t, names in found.items()} == {f"t{t}": 4 for t in shown}
    assert [n["label"] for n in nodes.values() if "more" in n["label"]] == [f"… {n} more\\nsteps …" for n in left_out]
    every = {name for names in found.values() for name in names}
    heads = Counter((b, kind) for _, b, kind in over_time(edges) if b in every)
    assert heads == Counter((name, kind) for name in every for kind in "hc")


SAME = {
    "short, two directions": lambda engine: two_directions(engine, 3),
    "long, two directions": lambda engine: two_directions(engine, 40),
    "long": lambda engine: last_loss(engine, 2000),
    "ragged": lambda engine: last_loss(engine, 30, [30, 12]),
    "ragged, empty": lambda engine: last_loss(engine, 30, [3, 0]),
}


@pytest.mark.parametrize("more", [{}, {"view": "cells"}, {"view": "circuit"}], ids=str)
@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_both_engines_give_the_same_picture(make, more):
    assert viz.draw(make("eager"), **more).dot == viz.draw(make("numpy"), **more).dot


# ---- gradients ------------------------------------------------------------------------------------------------------


def trained(name, engine, steps=5, lengths=None):
    """A loss in float64, its modules, and what a hook on the states will see."""
    tg.manual_seed(0)
    rnn, linear = nn.Recurrent(CELLS[name](), engine=engine).to("float64"), nn.Linear(H, V).to("float64")
    seen = []
    rnn.register_state_hook(seen.append)
    xs = tg.tensor(np.random.default_rng(1).normal(size=(steps, B, I)))
    return nn.cross_entropy(linear(rnn(xs, lengths=lengths)[0]), np.zeros((steps, B), int)), (rnn, linear), seen


per_step = lambda g: np.linalg.norm(g.numpy().reshape(len(g), -1), axis=1)
light = lambda colour: sum(w * int(colour[i : i + 2], 16) for i, w in ((1, 0.30), (3, 0.59), (5, 0.11)))


def tinted(nodes):
    """(norm, colour) of each node."""
    tips = [(n.get("tooltip", ""), n.get("fillcolor")) for n in nodes.values()]
    return [(float(tip.split("= ")[1]), colour) for tip, colour in tips if tip.startswith("‖∂L/∂·‖ =")]


def darker_is_more(pairs):
    return all(light(low) >= light(high) - 1 for (a, low), (b, high) in combinations(sorted(pairs), 2) if b > 1.02 * a)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", BOXES)
def test_the_flow_of_the_gradient_is_what_a_hook_on_the_states_sees(name, engine):
    loss, _, seen = trained(name, engine)
    found = viz.gradient_flow(loss)
    assert not seen  # the hook is for the user's own backward passes
    loss.backward()
    kinds = "".join(kinds for _, kinds in BOXES[name])
    names = [f"{k}{kinds[: i + 1].count(k)}" if kinds.count(k) > 1 else k for i, k in enumerate(kinds)]
    assert found.keys() == {*names}
    for k, g in zip(names, nest.leaves(seen[0]), strict=True):
        np.testing.assert_allclose(found[k], per_step(g), rtol=1e-12, err_msg=k)


def test_the_flow_of_two_directions_is_in_the_order_of_time():
    seen = [], []
    ahead, back = (nn.Recurrent(nn.GRUCell(I, H)).to("float64") for _ in range(2))
    ahead.register_state_hook(seen[0].append), back.register_state_hook(seen[1].append)
    xs = nn.Embedding(V, I).to("float64")(np.arange(5 * B).reshape(5, B) % V)
    loss = (tg.ops.concat([ahead(xs)[0], back(xs.flip(0))[0].flip(0)], -1) ** 2).sum()
    found = viz.gradient_flow(loss)
    loss.backward()
    np.testing.assert_allclose(found["h1"], per_step(seen[0][0]), rtol=1e-12)
    np.testing.assert_allclose(found["h2"], per_step(seen[1][0])[::-1], rtol=1e-12)


def test_colours_are_in_the_order_of_the_norms_and_what_has_no_gradient_is_empty():
    cell, states, loss = nn.RNNCell(I, H).to("float64"), [], 0
    h = tg.tensor(np.zeros((B, H)))
    for t, x in enumerate(inputs().astype("float64")):
        with tg.scope(t):
            _, h = cell(x, h)
            states.append(h)
            loss = loss + ((h * (h > 0)) ** 2).sum()
    nodes, _, _ = read(viz.draw(loss, gradient=True))
    found = tinted(nodes)
    assert darker_is_more(found) and len({colour for _, colour in found}) > 8
    grads = tg.grad(loss, states, retain_graph=True)
    tips = [n["tooltip"] for n in nodes.values() if n["label"] == "tanh"]
    assert tips == [f"‖∂L/∂·‖ = {np.linalg.norm(g.numpy()):.3g}" for g in grads]
    without = [n for n in nodes.values() if n.get("tooltip") == "no gradient"]
    assert Counter(n["label"].rstrip("₁₂₃₄") for n in without) == {"x": T, "h₀": 1, "y": T}  # y: h > 0
    assert {(n["fillcolor"], "dashed" in n["style"]) for n in without} == {("transparent", True)}
    swatches = [n["fillcolor"] for name, n in nodes.items() if re.fullmatch(r"scale\d+", name)]
    assert swatches == sorted(swatches, key=light, reverse=True) and len(set(swatches)) > 10
    ticks = [float(n["label"]) for name, n in nodes.items() if name.startswith("tick")]
    drawn = [value for value, _ in tinted({k: n for k, n in nodes.items() if not k.startswith("p")})]
    assert min(ticks) <= min(drawn) < max(drawn) <= max(ticks)
    assert nodes["scale"]["label"] == "‖∂L/∂·‖"


def test_a_given_scale_makes_the_colours_of_two_drawings_comparable():
    loss, _, _ = trained("lstm", "eager")
    for gradient in (True, (1e-5, 1.0)):
        first, second = (tinted(read(viz.draw(what, gradient=gradient))[0]) for what in (loss, loss / 50))
        assert darker_is_more(first + second) == (gradient is not True)


@pytest.mark.parametrize("view", ["ops", "cells", "circuit"])
@pytest.mark.parametrize("name", ["lstm", "gru after", "three layers", "custom"])
def test_a_compiled_layer_has_the_gradients_and_values_of_the_eager_one(name, view):
    runs = [trained(name, engine, 12) for engine in ENGINES]  # the values of parameters are known while there are any
    dots = [viz.draw(loss, view=view, gradient=True, values=True).dot for loss, *_ in runs]
    assert dots[0] == dots[1] and "‖∂L/∂·‖ = " in dots[0] and "‖·‖ " in dots[0]


@pytest.mark.parametrize("engine", ENGINES)
def test_drawing_gradients_leaves_the_graph_as_it_is(engine):
    grads = []
    for draws in (False, True):
        loss, modules, _ = trained("stack", engine)
        parameters = [p for m in modules for p in m.parameters()]
        dot = draws and viz.draw(loss, gradient=True, values=True).dot
        assert not draws or viz.gradient_flow(loss)
        assert all(p.grad is None for p in parameters)
        loss.backward(retain_graph=True)
        grads.append([p.grad.numpy().tobytes() for p in parameters])
        assert not draws or viz.draw(loss, gradient=True, values=True).dot == dot
        loss.backward()
        for show in (lambda loss: viz.draw(loss, gradient=True), viz.gradient_flow):
            with pytest.raises(ValueError, match=r"^viz\.draw: gradients are not computed: backward has freed .*$"):
                show(loss)
    assert grads[0] == grads[1]


# ---- values, shapes, colours, parameters ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_the_norms_of_an_lstm_are_those_of_its_equations(engine):
    cell, xs = nn.LSTMCell(I, H), inputs(3)
    ys, _ = nn.Recurrent(cell, engine=engine)(xs)
    nodes, _, _ = read(viz.draw(ys.sum(), values=True, shapes=True))
    shown = {}
    for name, n in nodes.items():
        label, *notes = n["label"].split("\\n")
        shown.setdefault((step(name), label, n["fillcolor"]), []).append(notes)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    U, W, b = (p.numpy().astype(np.float64) for p in (cell.U, cell.W, cell.b))
    h = c = np.zeros((B, H))
    for t, x in enumerate(xs.numpy(), 1):
        a = x @ U + h @ W + b
        i, f, g, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), np.tanh(a[:, 2 * H : 3 * H]), sigmoid(a[:, 3 * H :])
        kept, c = f * c, f * c + i * g
        h = o * np.tanh(c)
        expected = {("xx₁x₂x₃"[2 * t - 1 :][:2], "input"): x, ("x·U + h·W + b", "op"): a, ("tanh", "op"): np.tanh(c)}
        expected |= {("i  σ", "gate"): i, ("f  σ", "gate"): f, ("o  σ", "gate"): o, ("g  tanh", "gate"): g}
        expected |= {("+", "cell"): c, ("×", "hidden"): h, ("×", "cell"): kept, ("×", "op"): i * g}
        for (label, kind), value in expected.items():
            ((form, norm),) = shown.pop((f"t{t}", label, COLOURS[kind][0]))
            assert form == "×".join(map(str, value.shape)) + " f4"
            assert float(norm.removeprefix("‖·‖ ")) == pytest.approx(np.linalg.norm(value), rel=0.06), (t, label)
    assert not [key for key in shown if re.match(r"t\d", key[0])]
    (parameters,) = of_kind(nodes, "parameter")
    assert f"\\nW  4×16  ‖·‖ {np.linalg.norm(W):.2g}\\n" in parameters["label"]
    assert of_kind(nodes, "loss")[0]["label"].startswith("L\\nscalar f4\\n")


def coloured(drawing):
    channels = lambda colour: [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return {c for c in re.findall("#[0-9a-f]{6}", drawing.dot) if max(channels(c)) - min(channels(c)) > 0x20}


@pytest.mark.parametrize("more", [{}, {"view": "circuit"}, {"view": "circuit", "depth": 1}], ids=str)
def test_without_colours_all_is_grey_and_without_parameters_only_they_are_gone(more):
    loss = summed_losses(nn.LSTMCell(I, H))
    assert len(coloured(viz.draw(loss, **more))) > 5 and not coloured(viz.draw(loss, colors=False, **more))
    (every, _, _), (nodes, edges, _) = (read(viz.draw(loss, parameters=p, **more)) for p in (True, False))
    gone = {n["name"] for n in of_kind(every, "parameter")}
    assert nodes.keys() == every.keys() - gone and (gone or "depth" in more)
    assert COLOURS["parameter"][1] not in {e["color"] for _, _, e in edges}


# ---- attention ------------------------------------------------------------------------------------------------------

split = lambda a, *axes: a.reshape(*a.shape[:-1], 2, H // 2).permute(*axes)  # two heads
LAYOUTS = {  # of the weights: these for a query (B, H) and keys (S, B, H), and the context (B, H) that they make
    "(S, B)": (lambda q, k: (k * q).sum(-1).softmax(0), lambda a, k: (a.unsqueeze(-1) * k).sum(0)),
    "(B, S)": (
        lambda q, k: (k.transpose(0, 1) @ q.unsqueeze(-1)).squeeze(-1).softmax(-1),
        lambda a, k: (a.unsqueeze(1) @ k.transpose(0, 1)).squeeze(1),
    ),
    "(B, heads, 1, S)": (
        lambda q, k: (split(q.unsqueeze(0), 1, 2, 0, 3) @ split(k, 1, 2, 3, 0)).softmax(-1),
        lambda a, k: (a @ split(k, 1, 2, 0, 3)).reshape(B, H),
    ),
    "(heads, B, S)": (
        lambda q, k: (split(q, 1, 0, 2).unsqueeze(2) @ split(k, 2, 1, 3, 0)).squeeze(2).softmax(-1),
        lambda a, k: (a.unsqueeze(2) @ split(k, 2, 1, 0, 3)).squeeze(2).transpose(0, 1).reshape(B, H),
    ),
}


def attentive(layout, steps=3):
    """A loss, and the weights of the first sequence by hand, (T, S)."""
    weigh, mix = LAYOUTS[layout]
    keys, h = nn.Recurrent(nn.RNNCell(I, H))(inputs())
    cell, loss, expected, heads = nn.RNNCell(H, H), 0, [], 2 if "heads" in layout else 1
    for t in range(steps):
        with tg.scope(t):
            first = np.split(keys.numpy()[:, 0] * h.numpy()[0], heads, -1)
            scores = [product.sum(-1) for product in first]
            expected.append(np.mean([np.exp(s) / np.exp(s).sum() for s in scores], 0))
            y, h = cell(mix(weigh(h, keys), keys), h)
            loss = loss + (y * y).sum()
    return loss, np.array(expected)


# What is said of each line, and how thick it is.
alphas = lambda drawing: {e["tooltip"]: float(e["penwidth"]) for *_, e in read(drawing)[1] if "tooltip" in e}
tooltips = lambda rows: {f"α({t + 1}, {s + 1}) = {a:.2f}" for (t, s), a in np.ndenumerate(rows) if a >= 0.005}


@pytest.mark.parametrize("layout", [k for k in LAYOUTS if k != "(heads, B, S)"])
def test_attention_is_drawn_with_the_weights_of_the_graph(layout):
    loss, expected = attentive(layout)
    drawing = viz.draw(loss, view="attention", tokens="abcd", targets=["A", "B", "C"])
    nodes, edges, _ = read(drawing)
    assert [n["label"] for n in nodes.values() if len(n["label"]) == 1] == [*"abcdABC"]
    ends = {(nodes[a]["label"], nodes[b]["label"]): e.get("tooltip") for a, b, e in edges}
    assert ends["h₄", "c₂"].startswith("α(2, 4) = ")
    found = alphas(drawing)
    assert found.keys() == tooltips(expected) and expected.std() > 0.01
    widths = [width for _, width in sorted((float(tip.split("= ")[1]), width) for tip, width in found.items())]
    assert widths == sorted(widths) and widths[0] < widths[-1]


def test_one_step_of_attention_has_only_its_own_weights():
    loss, expected = attentive("(S, B)")
    only = {tip for tip in tooltips(expected) if tip.startswith("α(2,")}
    assert alphas(viz.draw(loss, view="attention", steps=[2])).keys() == only
    assert alphas(viz.attention(expected, step=2)).keys() == only


ONE, OUTPUTS = summed_losses(nn.RNNCell(I, H)), GRAPHS["rnn outputs"]
REFUSED = {  # a call, and what its error says
    **{f"weights {w}": (lambda w=w: viz.attention(w), "viz.attention: weights must be .* got shape")
       for w in ([[[0.5]]], [0.5], [[]], [[1.5]], [[-0.1]], [[math.nan]])},
    "source": (lambda: viz.attention(np.eye(3), "ab"), "viz.attention: source must have 3 tokens, .* got 2"),
    "target": (lambda: viz.attention(np.eye(3), (), "ab"), "viz.attention: target must have 3 tokens, .* got 2"),
    "no attention": (lambda: viz.draw(ONE, view="attention"), 'viz.draw: view="attention" needs a softmax'),
    "no time": (lambda: viz.draw(GRAPHS["no time"], view="attention"), "viz.draw: .* needs a softmax"),
    "no loss": (lambda: viz.draw(OUTPUTS, gradient=True), "viz.draw: .* single number, got .*4, 2, 4"),
    "flow of none": (lambda: viz.gradient_flow(OUTPUTS), "viz.draw: .* single number, got .*4, 2, 4"),
    "steps": (lambda: viz.draw(ONE, view="cells", steps=[9]), "viz.draw: steps must name some of the 4 time steps"),
}  # fmt: skip


@pytest.mark.parametrize("call, message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=rf"^{message}.*$"):
        call()


# ---- names that others chose ----------------------------------------------------------------------------------------

PIECES = [*'"\\<>&|{}[];%$\n אé😀語\u202e\u0301', r"\N", r"\l", "<b>", "</b>", "-->", "<!--", "&lt;", "&#60;", "&x;"]
LETTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
VIEW = {"parameter": "ops", "token": "ops", "title": "ops", "class": "cells", "scope": "cells", "source": "attention"}


def named(text, where):
    """A drawing with a name somewhere."""
    if where == "source":
        return viz.attention(np.eye(2), [text, "b"], title="title")
    cell = type(text if where == "class" else "Mine", (nn.RNNCell,), {})(I, H)
    cell.U.name = text if where == "parameter" else "U"
    h, loss = state_of(None), 0
    for t, x in enumerate(inputs(2)):
        with tg.scope(t):
            _, h = cell(x, h)
            with tg.scope(text if where == "scope" else "within"):
                z = h.tanh()
            loss = loss + (z.exp() * z).sum()
    tokens, title = (text if where == "token" else "a", "b"), text if where == "title" else "title"
    return viz.draw(loss, view=VIEW[where], tokens=tokens, title=title)


def parts(drawing):
    """Numbers of nodes, edges, elements of each kind, and scripts of its page; and the texts."""
    nodes, edges, frames = read(drawing)
    elements = list(ElementTree.fromstring(drawing.svg()).iter())
    texts = [e.text or "" for e in elements if e.tag.endswith("}text")]
    tags = Counter(e.tag for e in elements if not e.tag.endswith("}text"))
    return (len(nodes), len(edges), len(frames), tags, drawing.html().count("<script")), texts


HARMLESS = {where: parts(named("harmless", where)) for where in VIEW}


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(st.lists(st.sampled_from(PIECES) | LETTERS, min_size=1, max_size=6).map("".join), st.sampled_from(sorted(VIEW)))
def test_a_name_is_drawn_as_it_is_written_and_is_nothing_but_text(text, where):
    form, texts = parts(named(text, where))
    expected, as_many = HARMLESS[where]
    assert form == expected
    assert "\n" in text or len(texts) == len(as_many)
    blank = str.maketrans("\xa0␣", "  ")
    assert all(line in "\n".join(texts).translate(blank) for line in text.translate(blank).split("\n"))


@pytest.mark.parametrize("where", VIEW)
@pytest.mark.parametrize("character", "\x01\x07\x0b\x1b\x7f\ufffe\uffff", ids=ascii)
def test_a_name_with_what_xml_cannot_hold_is_drawn_without_it(character, where):
    form, texts = parts(named(f"a{character}b", where))
    assert form == HARMLESS[where][0] and any("a" in t and "b" in t for t in texts)


# ---- names of gates -------------------------------------------------------------------------------------------------


class Own(nn.Cell):
    twice = False

    def __init__(self):
        self.U, self.W, self.P, self.R = nn.Linear(I, H), nn.Linear(H, H), nn.Linear(I, H), nn.Linear(H, H)

    def initial_state(self, batch_size):
        return state_of(None)

    def forward(self, x, h):
        if self.twice:
            h = h * (self.U(x) - self.W(h)).sigmoid()
        keep = (self.U(x) + self.W(h)).sigmoid()
        new = (self.P(x) + self.R(h)).tanh()
        h = keep * h + (1 - keep) * new
        return h, h


class Nameless(Own):
    def forward(self, x, h):
        h = (self.U(x) + self.W(h)).sigmoid() * h + (self.U(x) - self.W(h)).sigmoid() * (self.P(x) + self.R(h)).tanh()
        return h, h


GATES = {
    nn.LSTMCell: ["f  σ", "g  tanh", "i  σ", "o  σ"],
    nn.GRUCell: ["n  tanh", "r  σ", "z  σ"],
    Own: ["keep  σ", "new  tanh"],
    Nameless: ["tanh", "σ", "σ"],
}


gates = lambda what: sorted(n["label"] for n in of_kind(read(viz.draw(what))[0], "gate"))
cell_of = lambda kind: kind() if issubclass(kind, Own) else kind(I, H)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", GATES)
def test_gates_are_called_as_the_code_calls_them(kind, engine):
    for _ in range(2):  # the second instance too
        rnn = nn.Recurrent(cell_of(kind), engine=engine)
        for _ in range(2):  # and the second call
            assert gates(rnn(inputs(2))[0]) == sorted(GATES[kind] * 2)


def test_somebodys_profiler_is_left_alone():
    events, cell = [], nn.LSTMCell(I, H)
    profiler = lambda frame, event, _: events.append((frame.f_code.co_name, event))
    sys.setprofile(profiler)
    try:
        loss = summed_losses(cell, 2)
        assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert events.count(("forward", "return")) >= 2
    assert gates(loss) == sorted([label.split()[-1] for label in GATES[nn.LSTMCell]] * 2)
    assert gates(summed_losses(cell, 2)) == sorted(GATES[nn.LSTMCell] * 2)  # names come with the first call after it
    with pytest.raises(AttributeError):
        summed_losses(type("Failing", (Own,), {"forward": lambda self, x, h: self.missing})())
    assert sys.getprofile() is None


def test_nothing_is_watched_of_what_a_layer_does_around_its_cell(monkeypatch):
    watched, hook = [], Reader.Hook.__call__
    noted = lambda self, frame, *rest: [watched.append(frame.f_code.co_filename), hook(self, frame, *rest)]
    monkeypatch.setattr(Reader.Hook, "__call__", noted)
    nn.Recurrent(Own(), engine="numpy")(inputs(4))
    assert watched
    assert not [file for file in watched if Path(file).parent.name in ("passes", "record", "runtime", "schedule")]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, Own])
def test_the_call_that_is_watched_for_names_computes_what_others_do(kind):
    found = []
    for profiler in (None, lambda *_: None):  # with one, nothing is watched
        tg.manual_seed(0)
        cell = cell_of(kind)
        sys.setprofile(profiler)
        try:
            losses = [summed_losses(cell, 2), summed_losses(cell, 2)]
        finally:
            sys.setprofile(None)
        losses[0].backward()
        found.append([a.numpy().tobytes() for a in (*losses, *(p.grad for p in cell.parameters()))])
    assert found[0] == found[1]


# ---- hard cases ------------------------------------------------------------------------------------------------------


class TwoBack(Own):
    """It reads its last output and the one before that."""

    def initial_state(self, batch_size):
        return state_of(None), state_of(None)

    def forward(self, x, state):
        h = (self.U(x) + self.W(state[0]) + self.R(state[1])).tanh()
        return h, (h, state[0])


def two_loops():
    xs = nn.Embedding(V, I)(np.zeros((3, B), int))
    return loop([nn.LSTMCell(I, H)], range(3), xs) + loop([nn.LSTMCell(I, H)], range(3)[::-1], xs)


def over_data():
    data = inputs(3)
    ys, zs = (nn.Recurrent(nn.RNNCell(I, H))(xs)[0] for xs in (data, data.flip(0)))
    return tg.ops.concat([ys, zs.flip(0)], -1).sum()


def dotted(what, **more):
    """The steps whose states run into dots."""
    nodes, edges, _ = read(viz.draw(what, view="cells", **more))
    return {step(a) for a, b, _ in over_time(edges) if nodes[b]["label"] == "· · ·"}


def ragged_flow():
    loss, _, seen = trained("rnn", "eager", lengths=[5, 3])
    found = viz.gradient_flow(loss)
    loss.backward()
    return found.keys() == {"h"} and np.allclose(found["h"], per_step(seen[0]))


def attended(layout):
    loss, expected = attentive(layout)
    return alphas(viz.draw(loss, view="attention")).keys() == tooltips(expected)


def hooked():
    cell, seen = nn.RNNCell(I, H), []
    cell.U.register_hook(seen.append)
    viz.draw(summed_losses(cell), gradient=True)
    return len(seen)


def branching():
    cell = Own()
    summed_losses(cell)
    cell.twice = True
    return gates(summed_losses(cell, 1))


def refuses(message, what=None, **more):
    """Is there one line that says so?"""
    try:
        return not viz.draw(ONE if what is None else what, **more).dot
    except ValueError as error:
        return bool(re.match(f"viz.draw: {message}.*$", str(error)))


def freed():
    loss = summed_losses(nn.RNNCell(I, H))
    loss.backward()
    return loss


def survives(name):
    """Not in this process: it may end it."""
    lines = f"from test_viz import *; cell = type({name!r}, (nn.RNNCell,), {{}})(I, H)"
    lines += "; viz.draw(summed_losses(cell), view='cells', tokens='abcd').svg()"
    where = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(where), str(where.parent)])}
    return subprocess.run([sys.executable, "-c", lines], env=environment, capture_output=True).returncode == 0


left = lambda name, view: coloured(viz.draw(GRAPHS[name], view=view, colors=False))
CASES = {
    "two cells of one class in a loop of one's own are two boxes": (
        lambda: heights(loop([nn.RNNCell(I, H), nn.RNNCell(H, H)], range(2))), {"t1": 2, "t2": 2}),
    "a loop may begin with the step that the last one ended with": (
        lambda: heights(two_loops()), {"t1": 2, "t2": 2, "t3": 2}),
    "over data that was turned round outside of the graph, too, two directions share their columns": (
        lambda: heights(over_data()), {"t1": 2, "t2": 2, "t3": 2}),
    "masked steps have the same states as others in the flow of gradients": (ragged_flow, True),
    "a name may begin with a new line": (lambda: survives("\nName"), True),
    "a running sum of losses is no memory where the total is scaled": (lambda: [*viz.gradient_flow(ONE * 0.5)], ["h"]),
    "a running sum of losses is no memory where the total is negated": (lambda: [*viz.gradient_flow(-ONE)], ["h"]),
    "a state that is read two steps later has two delays": (
        lambda: squares(nn.Recurrent(TwoBack())(inputs())[0].sum()), 2),
    "in a circuit masked steps know the states of the steps before them": (
        lambda: squares(last_loss("eager", 4, [4, 2])), 2),
    "a circuit of two steps in two directions has the delays of the way back": (
        lambda: squares(two_directions(steps=2, layers=1)), 4),
    "a circuit of one step has delays": (lambda: squares(summed_losses(nn.LSTMCell(I, H), 1)), 2),
    "states run into dots where a sequence ends within them": (
        lambda: dotted(last_loss("eager", 30, [30, 12])), {"t4"}),
    "states run into dots behind the last of chosen steps": (
        lambda: dotted(summed_losses(nn.RNNCell(I, H), 30), steps="3-5"), {"t5"}),
    "weights (heads, batch, source) are not taken for (batch, heads, source)": (
        lambda: attended("(heads, B, S)"), True),
    "hooks on leaves are called by no drawing": (hooked, 0),
    "another branch of forward takes no names from its neighbours": (
        lambda: "keep  σ" in branching() and branching().count("keep  σ") == 1, True),
    "of a single step tanh(c) is no gate": (lambda: gates(summed_losses(nn.LSTMCell(I, H), 1)), GATES[nn.LSTMCell]),
    "dots are grey without colours": (lambda: left("elided", "ops"), set()),
    "names of the first states are grey without colours": (lambda: left("lstm losses", "cells"), set()),
    "attention is grey without colours": (lambda: left("sequence to sequence", "attention"), set()),
    "the norms of a freed graph are refused": (lambda: refuses(".*freed", freed(), values=True), True),
    **{f"the scale {ends} is refused": (lambda ends=ends: refuses("gradient must", gradient=ends), True)
       for ends in ((1, 1), (0, 1), (1, 1e-3), (1e-3, math.nan), (1e-3, math.inf), (1e-3,))},
    **{f"the decoder step {k} is refused": (
        lambda k=k: refuses(".*step", GRAPHS["sequence to sequence"], view="attention", steps=k), True)
       for k in ([0], [4], "one")},
}  # fmt: skip


@pytest.mark.parametrize("make, expected", CASES.values(), ids=CASES)
def test_hard_cases(make, expected):
    assert make() == expected


# ---- what is no tensor ----------------------------------------------------------------------------------------------

LEAVES = {"three layers": 4, "rnn": 1, "lstm": 2, "gru": 1, "gru after": 1, "stack": 4, "custom": 1}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_a_recurrent_and_a_circuit_are_drawn_without_an_input(name):
    cell = CELLS[name]()
    cell.input_size = I
    x = tg.tensor(np.zeros((B, I), np.float32))
    for what in (cell, nn.Recurrent(cell), tg.circuit(cell, x)):
        for depth in (None, 1):
            assert squares(what, depth=depth) == LEAVES[name]
        assert len(read(viz.draw(what))[2]) == 4  # a few steps, unrolled


def test_what_has_no_graph_is_refused_in_one_line():
    class Idle(nn.Cell):
        input_size = I

        def initial_state(self, batch_size):
            return state_of(None)

        def forward(self, x, h):
            return h, h

    for what, message in (
        (CELLS["custom"](), "input_size"),
        (Idle(), "no graph"),
        (3, "what must be"),
        (x := inputs(), ""),
    ):
        with pytest.raises(ValueError, match=rf"^viz\.draw: [^\n]*{message}[^\n]*$"):
            viz.draw(what)
    assert not x.requires_grad
