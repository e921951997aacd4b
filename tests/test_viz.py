"""viz.draw: the unrolled graph as a picture."""

import itertools
import json
import os
import sys

import numpy as np
import pytest

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn
from tinygrad_rnn.autograd.graph import Leaf, all_parents, ancestors
from viz.graphviz import render
from viz.style import COLOURS

pytest.importorskip("graphviz")

T, B, I, H, V = 4, 2, 3, 4, 5


class MinimalGatedUnit(nn.Cell):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.Uf, self.Ux = (nn.Parameter(rng.normal(size=(I, H)).astype(np.float32)) for _ in range(2))
        self.Wf, self.Wh = (nn.Parameter(rng.normal(size=(H, H)).astype(np.float32)) for _ in range(2))

    def initial_state(self, batch_size):
        return tg.tensor(np.zeros((batch_size, H), np.float32))

    def forward(self, x, h):
        f = (x @ self.Uf + h @ self.Wf).sigmoid()
        h = (1 - f) * h + f * (x @ self.Ux + (f * h) @ self.Wh).tanh()
        return h, h


CELLS = {
    "rnn": lambda: nn.RNNCell(I, H),
    "lstm": lambda: nn.LSTMCell(I, H),
    "gru": lambda: nn.GRUCell(I, H),
    "gru after": lambda: nn.GRUCell(I, H, reset="after"),
    "stack": lambda: nn.Stack([nn.LSTMCell(I, H), nn.LSTMCell(H, H)]),
    "custom": MinimalGatedUnit,
}


def inputs(steps=T):
    return tg.tensor(np.random.default_rng(1).normal(size=(steps, B, I)).astype(np.float32))


def state_of(cell):
    zeros = lambda: tg.tensor(np.zeros((B, H), np.float32))
    if isinstance(cell, nn.Stack):
        return tuple(state_of(c) for c in cell.cells)
    return nn.LSTMState(zeros(), zeros()) if isinstance(cell, nn.LSTMCell) else zeros()


def outputs(cell, steps=T, lengths=None):
    return nn.Recurrent(cell)(inputs(steps), state_of(cell), lengths)


def summed_losses(cell, steps=T):
    linear, state, loss = nn.Linear(H, V), state_of(cell), 0
    for t, x in enumerate(inputs(steps)):
        with tg.scope(t):
            y, state = cell(x, state)
            loss = loss + nn.cross_entropy(linear(y), np.zeros(B, int))
    return loss


def graphs():
    """Name and tensor of graphs of many forms."""
    for name, cell in CELLS.items():
        yield f"{name} outputs", outputs(cell())[0]
        yield f"{name} losses", summed_losses(cell())
        yield f"{name} one step", summed_losses(cell(), 1)
    yield "lengths", outputs(nn.LSTMCell(I, H), lengths=[4, 2])[0]
    linear = nn.Linear(H, V)
    yield "one loss", nn.cross_entropy(linear(outputs(nn.GRUCell(I, H))[0]), np.zeros((T, B), int))
    yield "last output", nn.cross_entropy(linear(outputs(nn.LSTMCell(I, H))[1].h), np.zeros(B, int))
    yield "layers", nn.Recurrent(nn.RNNCell(H, H))(outputs(nn.RNNCell(I, H))[0], state_of(nn.RNNCell(H, H)))[0]
    yield "sequence to sequence", attention()
    yield "embedding", nn.Recurrent(nn.RNNCell(I, H))(nn.Embedding(V, I)(np.zeros((T, B), int)), state_of(None))[0]
    yield "elided", summed_losses(nn.LSTMCell(I, H), 30)
    yield "no time", perceptron()
    yield "second order", second_order()


def perceptron():
    a, b = nn.Linear(I, H), nn.Linear(H, V)
    return nn.mse_loss(b(a(inputs()).tanh()), tg.tensor(np.zeros((T, B, V), np.float32)))


def attention():
    encoded, h = outputs(nn.RNNCell(I, H))
    keys, cell, loss = nn.Linear(H, H)(encoded), nn.RNNCell(H, H), 0
    for t in range(3):
        with tg.scope(t):
            weights = (keys * h).sum(-1).softmax(0)
            y, h = cell((weights.unsqueeze(-1) * encoded).sum(0), h)
            loss = loss + (y * y).sum()
    return loss


def second_order():
    cell = nn.RNNCell(I, H)
    (ys, _), W = outputs(cell), cell.W
    (g,) = tg.grad((ys * ys).sum(), [W], create_graph=True)
    return (g * g).sum()


def read(drawing):
    """What Graphviz reads in a drawing's source: nodes and edges by name, and the frames of steps as clusters."""
    found = json.loads(render.render(drawing.dot, "json0"))
    names = {o["_gvid"]: o["name"] for o in found["objects"]}
    nodes = {o["name"]: o for o in found["objects"] if "pos" in o}
    frames = [name for name in nodes if name.startswith("frame ")]
    clusters = []
    for name in frames:
        frame, title = nodes.pop(name), nodes.pop(name.replace("frame", "title", 1))
        clusters.append(frame | {"label": title["label"], "bb": ",".join(map(str, corners(frame)))})
    edges = [(names[e["tail"]], names[e["head"]], e) for e in found.get("edges", ())]
    return nodes, edges, clusters


def corners(node):
    x, y = map(float, node["pos"].split(","))
    w, h = float(node["width"]) * 36, float(node["height"]) * 36
    return x - w, y - h, x + w, y + h


def drawn(edge):
    """The points of a line, and where it begins and ends: at the tips of its arrows, where it has some."""
    tips, line = {}, []
    for word in edge["pos"].split():
        *mark, x, y = word.split(",")
        tips |= {mark[0]: (float(x), float(y))} if mark else {}
        line += [] if mark else [(float(x), float(y))]
    return line, tips.get("s", line[0]), tips.get("e", line[-1])


def of_kind(nodes, kind):
    return [n for n in nodes.values() if n.get("fillcolor") == COLOURS[kind][0] and n.get("color") == COLOURS[kind][1]]


GRAPHS = dict(graphs())


@pytest.mark.parametrize("name", GRAPHS)
def test_no_node_lies_on_another_and_every_edge_joins_two_of_them(name):
    nodes, edges, _ = read(viz.draw(GRAPHS[name]))
    assert len(nodes) > 2
    for a, b in itertools.combinations(nodes.values(), 2):
        (left, low, right, high), (x0, y0, x1, y1) = corners(a), corners(b)
        assert left >= x1 or x0 >= right or low >= y1 or y0 >= high, (a["name"], b["name"])
    for tail, head, edge in edges:
        assert tail in nodes and head in nodes
        assert len(drawn(edge)[0]) % 3 == 1


@pytest.mark.parametrize("name", GRAPHS)
def test_an_edge_starts_and_ends_at_its_nodes(name):
    nodes, edges, _ = read(viz.draw(GRAPHS[name]))
    for tail, head, edge in edges:
        _, start, tip = drawn(edge)
        assert _touches(corners(nodes[head]), tip), (tail, head)
        if edge["color"] != COLOURS["parameter"][1]:  # a rail is drawn in pieces
            assert _touches(corners(nodes[tail]), start), (tail, head)


def _touches(box, point, by=6):
    (left, low, right, high), (x, y) = box, point
    return left - by <= x <= right + by and low - by <= y <= high + by


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - {"sequence to sequence", "second order"}))
def test_no_line_runs_through_a_node(name):
    nodes, edges, _ = read(viz.draw(GRAPHS[name]))
    for tail, head, edge in edges:
        for x, y in _along(edge["pos"]):
            for other in nodes.keys() - {tail, head}:
                left, low, right, high = corners(nodes[other])
                inside = left + 3 < x < right - 3 and low + 3 < y < high - 3
                assert not inside, (tail, head, other)


def _along(pos):
    """Points on a spline."""
    points = np.array([p.split(",") for p in pos.split() if not p.startswith("e,")], float)
    u = np.linspace(0, 1, 9)[:, None]
    for a, b, c, d in zip(points[:-1:3], points[1::3], points[2::3], points[3::3], strict=True):
        yield from a * (1 - u) ** 3 + 3 * b * u * (1 - u) ** 2 + 3 * c * u**2 * (1 - u) + d * u**3


@pytest.mark.parametrize("name", ["lstm losses", "stack losses", "lengths", "layers", "sequence to sequence", "elided"])
def test_time_can_run_down(name):
    nodes, edges, frames = read(viz.draw(GRAPHS[name], direction="down"))
    across = read(viz.draw(GRAPHS[name]))
    assert sorted(n["label"] for n in nodes.values()) == sorted(n["label"] for n in across[0].values())
    assert [(t, h) for t, h, _ in edges] == [(t, h) for t, h, _ in across[1]]
    tops = [float(f["bb"].split(",")[3]) for f in frames]
    assert len(tops) == len(across[2]) and tops == sorted(tops, reverse=True)
    for a, b in itertools.combinations(nodes.values(), 2):
        (left, low, right, high), (x0, y0, x1, y1) = corners(a), corners(b)
        assert left >= x1 or x0 >= right or low >= y1 or y0 >= high, (a["name"], b["name"])
    for tail, head, edge in edges:
        points = [tuple(map(float, p.removeprefix("e,").split(","))) for p in edge["pos"].split()]
        assert _touches(corners(nodes[head]), points[0] if edge["pos"].startswith("e,") else points[-1]), (tail, head)


def test_the_direction_is_one_of_two():
    with pytest.raises(ValueError, match=r"^viz\.draw: direction must be 'right' or 'down', got 'up'$"):
        viz.draw(GRAPHS["lengths"], direction="up")


@pytest.mark.parametrize(
    "options", [{"view": "cell"}, {"depth": -1}, {"unfold": True}, {"view": "attention", "gradient": True}], ids=str
)
def test_what_does_not_go_together_is_refused_in_one_line(options):
    with pytest.raises(ValueError, match=r"^viz\.draw: [^\n]*$"):
        viz.draw(GRAPHS["lengths"], **options)


@pytest.mark.parametrize("name", CELLS)
def test_there_is_one_column_for_each_time_step_from_left_to_right(name):
    _, _, clusters = read(viz.draw(summed_losses(CELLS[name]())))
    assert [c["label"] for c in clusters] == [f"t = {t}" for t in range(1, T + 1)]
    lefts = [float(c["bb"].split(",")[0]) for c in clusters]
    assert lefts == sorted(lefts)


@pytest.mark.parametrize("name", CELLS)
def test_each_parameter_is_drawn_once_and_reaches_every_step(name):
    cell = CELLS[name]()
    nodes, edges, _ = read(viz.draw(outputs(cell)[0]))
    boxes = of_kind(nodes, "parameter")
    lines = [line for box in boxes for line in box["label"].split("\\n")]
    assert len(lines) == len(set(lines)) == len(list(cell.parameters()))
    for box in boxes:
        steps = {head.split(".")[0] for tail, head, _ in edges if tail == box["name"]}
        assert steps == {f"t{t}" for t in range(1, T + 1)}


def test_an_lstm_has_one_purple_and_one_green_line_from_each_step_to_the_next():
    nodes, edges, _ = read(viz.draw(outputs(nn.LSTMCell(I, H))[0]))
    for kind in ("cell", "hidden"):
        over_time = [
            (tail.split(".")[0], head.split(".")[0])
            for tail, head, e in edges
            if e["color"] == COLOURS[kind][1]
            and tail.split(".")[0] != head.split(".")[0]
            and not head.startswith("above")
        ]
        assert sorted(over_time) == [("start", "t1"), ("t1", "t2"), ("t2", "t3"), ("t3", "t4")]
    level = [e for tail, head, e in edges if e["color"] == COLOURS["cell"][1]]
    for edge in level:  # the memory runs straight through
        assert len({round(float(p.split(",")[-1])) for p in edge["pos"].split()}) == 1
    assert [n["label"] for n in of_kind(nodes, "initial")] == ["h₀", "c₀"]
    assert len(of_kind(nodes, "hidden")) == T and len(of_kind(nodes, "cell")) == 2 * T
    assert sorted(n["label"] for n in of_kind(nodes, "gate")) == sorted(["i  σ", "f  σ", "o  σ", "g  tanh"] * T)


@pytest.mark.parametrize("name", ["rnn", "gru", "custom"])
def test_a_state_that_meets_weights_is_a_hidden_state_and_no_memory(name):
    nodes, _, _ = read(viz.draw(outputs(CELLS[name]())[0]))
    assert len(of_kind(nodes, "hidden")) == T
    assert not of_kind(nodes, "cell")


def test_inputs_and_losses_are_numbered_from_one_and_the_total_stands_above():
    nodes, edges, clusters = read(viz.draw(summed_losses(nn.RNNCell(I, H))))
    assert [n["label"] for n in of_kind(nodes, "input")] == ["x₁", "x₂", "x₃", "x₄"]
    *losses, total = of_kind(nodes, "loss")
    assert [n["label"] for n in losses] == ["L₁", "L₂", "L₃", "L₄"]
    assert total["label"] == "L = Σ Lₜ"
    assert corners(total)[1] > max(float(c["bb"].split(",")[3]) for c in clusters)
    assert {tail for tail, head, _ in edges if head == total["name"]} == {n["name"] for n in losses}


def test_an_affine_map_is_one_node_with_the_letters_of_its_equation():
    nodes, _, _ = read(viz.draw(outputs(nn.Stack([nn.RNNCell(I, H), nn.RNNCell(H, H)]))[0]))
    labels = [n["label"] for n in of_kind(nodes, "op")]
    assert labels == ["x·U₁ + h·W₁ + b₁", "x·U₂ + h·W₂ + b₂"] * T


def test_the_middle_of_a_long_sequence_is_left_out_and_counted():
    drawing = viz.draw(summed_losses(nn.LSTMCell(I, H), 2000))
    nodes, _, clusters = read(drawing)
    assert [c["label"] for c in clusters] == [f"t = {t}" for t in (1, 2, 3, 4, 1997, 1998, 1999, 2000)]
    assert "… 1,992 more\\nsteps …" in {n["label"] for n in nodes.values()}
    assert sum(n["label"] == "· · ·" for n in nodes.values()) == 2
    assert len(drawing.dot) < 60_000


def test_the_source_grows_linearly_with_the_steps():
    loss = summed_losses(nn.RNNCell(I, H), 120)
    sizes = [len(viz.draw(loss, steps=range(1, n + 1)).dot) for n in (20, 40, 80)]
    assert abs((sizes[2] - sizes[1]) / (sizes[1] - sizes[0]) - 2) < 0.2


@pytest.mark.parametrize("steps, shown", [("all", range(1, 13)), ([2, 11], [2, 11]), ("1-3, 12", [1, 2, 3, 12])])
def test_steps_says_which_are_drawn(steps, shown):
    _, _, clusters = read(viz.draw(summed_losses(nn.GRUCell(I, H), 12), steps=steps))
    assert [c["label"] for c in clusters] == [f"t = {t}" for t in shown]


NOT_RUN = {
    "cell": lambda: nn.GRUCell(I, H),
    "Recurrent": lambda: nn.Recurrent(nn.GRUCell(I, H)),
    "layers": lambda: nn.GRU(I, H, num_layers=2),
    "circuit": lambda: tg.circuit(nn.GRUCell(I, H), tg.zeros(1, I)),
}


@pytest.mark.parametrize("make", NOT_RUN.values(), ids=NOT_RUN)
@pytest.mark.parametrize("steps", [1, 2, 6, 30])
def test_of_what_has_not_run_as_many_steps_are_drawn_as_are_asked_for(make, steps):
    drawing = viz.draw(make(), steps=steps)
    assert drawing.moments == [f"t = {t}" for t in range(1, steps + 1)]
    assert len(viz.draw(make()).moments) == 4
    for view in "circuit", "textbook":
        one, usual = (viz.draw(make(), view=view, **how) for how in ({"steps": steps}, {}))
        assert len(one.layout.boxes) == len(usual.layout.boxes)


@pytest.mark.parametrize("steps", ["1-6", range(1, 7), [1, 2, 3, 4, 5, 6], np.arange(1, 7), np.int64(6)])
def test_of_what_has_not_run_as_many_steps_are_made_as_are_named(steps):
    assert viz.draw(nn.GRUCell(I, H), steps=steps).moments == [f"t = {t}" for t in range(1, 7)]


def test_steps_that_are_none_are_refused():
    with pytest.raises(ValueError, match="of what has not run, steps must be at least 1, got 0"):
        viz.draw(nn.GRUCell(I, H), steps=0)
    for what in nn.GRUCell(I, H), summed_losses(nn.RNNCell(I, H)):
        with pytest.raises(ValueError, match=r"steps must be numbers, .* got True"):
            viz.draw(what, steps=True)
    with pytest.raises(ValueError, match="what must be a cell, got its class"):
        viz.draw(nn.GRUCell, steps=0)


@pytest.mark.parametrize("steps", ["one", "5-", [99]])
def test_steps_that_name_none_are_refused_in_one_line(steps):
    with pytest.raises(ValueError, match=r"^viz\.draw: steps must .*$"):
        viz.draw(summed_losses(nn.RNNCell(I, H)), steps=steps)


@pytest.mark.parametrize("name", ["<s>", 'a "b"', "back\\slash \\N", "two\nlines", "語 ß", "&lt;", "</b>", "} digraph"])
def test_any_name_is_drawn_as_it_is_written(name):
    p = nn.Parameter(np.ones((I, H), np.float32))
    p.name = name
    svg = viz.draw((inputs() @ p).tanh().sum()).svg()
    shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    for line in shown.split("\n"):
        assert f">{line}" in svg.replace("&#45;", "-").replace("\xa0", " ") or f"·{line}" in svg


def test_outside_of_time_everything_goes_upwards():
    nodes, edges, clusters = read(viz.draw(perceptron()))
    assert not clusters
    flow = [(tail, head) for tail, head, e in edges if e["color"] != COLOURS["parameter"][1]]
    assert flow and all(corners(nodes[tail])[1] < corners(nodes[head])[1] for tail, head in flow)
    assert len(of_kind(nodes, "parameter")) == 2
    assert [n["label"] for n in of_kind(nodes, "loss")] == ["L"]


@pytest.mark.parametrize(
    "suffix, magic", [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".dot", b"digraph")]
)
def test_the_suffix_says_the_format(tmp_path, suffix, magic):
    path = tmp_path / f"picture{suffix}"
    drawing = viz.draw(summed_losses(nn.RNNCell(I, H)), path, title="a title")
    assert path.read_bytes().startswith(magic)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert drawing._repr_svg_() == drawing.svg()
    assert ">a title<" in drawing.svg()


def test_an_unknown_suffix_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"^viz\.draw: the file name must end in \.svg, \.png, \.pdf, \.dot, \.html, \.gif, \.mp4, got 'p\.bmp'$",
    ):
        viz.draw(summed_losses(nn.RNNCell(I, H)), tmp_path / "p.bmp")


def test_a_tensor_without_a_graph_is_refused():
    with pytest.raises(ValueError, match=r"^viz\.draw: what must be a tensor"):
        viz.draw(inputs())


def test_without_a_renderer_the_source_is_kept_and_the_error_says_both_ways_out(tmp_path, monkeypatch):
    drawing = viz.draw(summed_losses(nn.RNNCell(I, H)))
    monkeypatch.setattr(render, "_program", lambda name: None)
    monkeypatch.setattr(render, "_pygraphviz", lambda: None)
    with pytest.raises(RuntimeError, match=r"^viz\.draw: .*`dot` is on PATH.*pip install \"tinygrad-rnn\[dot\]\".*$"):
        drawing.save(tmp_path / "x.svg")
    assert (tmp_path / "x.dot").read_text(encoding="utf-8") == drawing.dot


def test_without_a_renderer_circuits_and_attention_are_written_too(monkeypatch):
    drawings = [
        viz.draw(summed_losses(nn.Stack([nn.LSTMCell(I, H), nn.LSTMCell(H, H)])), view="circuit"),
        viz.draw(summed_losses(nn.GRUCell(I, H)), view="circuit", depth=1),
        viz.draw(summed_losses(nn.GRUCell(I, H)), view="cells"),
        viz.attention([[0.25, 0.75], [0.5, 0.5]]),
    ]
    with monkeypatch.context() as without:
        without.setattr(render, "_program", lambda name: None)
        without.setattr(render, "_pygraphviz", lambda: None)
        dots = [drawing.dot for drawing in drawings]
    read = [json.loads(render.render(dot, "json0", engine="dot")) for dot in dots]
    squares = [sum(o.get("shape") == "square" for o in found["objects"]) for found in read]
    assert squares == [4, 1, 0, 0]
    labels = [[o.get("label") for o in found["objects"]] for found in read]
    assert labels[2].count("GRU") == T and {"h₁", "h₂", "c₁", "c₂", "s₁", "s₂"} <= set(labels[3])


def test_without_a_renderer_the_graph_itself_is_still_written(tmp_path, monkeypatch):
    monkeypatch.setattr(render, "_program", lambda name: None)
    monkeypatch.setattr(render, "_pygraphviz", lambda: None)
    with pytest.raises(RuntimeError, match=r"x\.dot"):
        viz.draw(summed_losses(nn.RNNCell(I, H)), tmp_path / "x.svg")
    assert "x·U₁ + h·W₁ + b₁" in (tmp_path / "x.dot").read_text(encoding="utf-8")


def test_the_svg_paints_no_page_and_the_terminal_stays_quiet(capfd):
    svg = viz.draw(summed_losses(nn.LSTMCell(I, H))).svg()
    assert 'fill="white" stroke="transparent"' not in svg and 'fill="white" stroke="none"' not in svg
    assert capfd.readouterr() == ("", "")


PROGRAM = """#!{python}
import sys
import pygraphviz
options = sys.argv[1:]
form = next(o[2:] for o in options if o.startswith("-T"))
engine = next((o[2:] for o in options if o.startswith("-K")), "neato")
graph = pygraphviz.AGraph(string=sys.stdin.read())
graph.has_layout = True
sys.stdout.buffer.write(graph.draw(format=form, prog="nop2" if "-n2" in options else engine))
"""


def test_the_programs_of_graphviz_are_used_where_dot_is_on_the_path(tmp_path, monkeypatch):
    pytest.importorskip("pygraphviz")
    expected = viz.draw(perceptron()).svg()
    for name in ("dot", "neato"):
        program = tmp_path / name
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(render, "_pygraphviz", lambda: None)
    assert viz.draw(perceptron()).svg() == expected


@pytest.mark.parametrize("lengths", [[3, 3], [3, 2], [3, 1], [2, 1], [1, 1], [3, 0]], ids=str)
@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell, nn.GRUCell], ids=lambda c: c.__name__)
def test_ragged_lengths_leave_the_initial_states_where_they_are(cell, lengths):
    ys, _ = nn.Recurrent(cell(I, H))(tg.tensor(np.zeros((3, 2, I), np.float32)), lengths=lengths)
    dot = viz.draw(ys.sum()).dot
    assert "h₀" in dot
    assert ("c₀" in dot) == (cell is nn.LSTMCell)
    assert "x\u2032" not in dot  # a second input beside x


# ---- compiled layers, which are one node in the graph --------------------------------------------------------------


class Within(nn.Cell):
    """A cell that runs another one over the columns of its input, with dropout."""

    def __init__(self):
        self.inner = nn.Recurrent(nn.RNNCell(1, I), engine="numpy")
        self.drop, self.cell = nn.Dropout(0.5), nn.GRUCell(I, H)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def forward(self, x, h):
        _, x = self.inner(self.drop(x).transpose(0, 1).unsqueeze(-1))
        return self.cell(x, h)


def run(cell, engine, lengths=None):
    return nn.Recurrent(cell, engine=engine)(inputs(), lengths=lengths)


def two_losses(engine):
    below, above = (nn.Recurrent(cell, engine=engine) for cell in (nn.LSTMCell(I, H), nn.GRUCell(H, H)))
    (ys, _), (_, last) = below(inputs()), below(inputs(), lengths=[4, 1])
    every = nn.cross_entropy(nn.Linear(H, V)(above(ys)[0]), np.zeros((T, B), int))
    return every + nn.mse_loss(last.h, tg.tensor(np.zeros((B, H), np.float32)))


def both_directions(engine):
    back = nn.Recurrent(nn.LSTMCell(I, H), engine=engine)(inputs().flip(0))[0].flip(0)
    ys = tg.ops.concat([run(nn.LSTMCell(I, H), engine)[0], back], -1)
    return nn.Recurrent(nn.RNNCell(2 * H, H), engine=engine)(ys)[0].sum()


COMPILED = {name: lambda engine, cell=cell: run(cell(), engine)[0] for name, cell in CELLS.items()} | {
    "lengths": lambda engine: run(nn.LSTMCell(I, H), engine, [4, 2])[0].sum(),
    "last state": lambda engine: run(nn.LSTMCell(I, H), engine)[1].c.sum(),
    "dropout": lambda engine: run(nn.Stack([nn.RNNCell(I, H), nn.LSTMCell(H, H)], dropout=0.5), engine)[0].sum(),
    "a layer within a cell": lambda engine: run(Within(), engine)[0].sum(),
    "two losses": two_losses,
    "both directions": both_directions,
}


@pytest.mark.parametrize("make", COMPILED.values(), ids=COMPILED)
def test_a_compiled_layer_is_drawn_as_the_eager_one(make):
    dots = []
    for engine in ("eager", "numpy"):
        tg.manual_seed(0)
        dots.append(viz.draw(make(engine)).dot)
    assert dots[0] == dots[1]


@pytest.mark.parametrize("make", COMPILED.values(), ids=COMPILED)
def test_drawing_a_compiled_layer_changes_nothing(make):
    found = []
    for draws in (0, 2):
        tg.manual_seed(0)
        loss = make("numpy").sum()
        random = tg.get_rng_state()
        before = [viz.draw(loss).dot for _ in range(draws)]
        assert tg.get_rng_state() == random
        leaves = [n for n in ancestors([loss.node], all_parents) if isinstance(n, Leaf)]
        loss.backward()
        found.append(sorted(leaf.grad.numpy().tobytes() for leaf in leaves))
        assert {*before, viz.draw(loss).dot} == {viz.draw(loss).dot}
    assert found[0] == found[1]


def test_a_compiled_layer_is_drawn_as_it_was_when_it_ran():
    rnn = nn.Recurrent(nn.Stack([nn.RNNCell(I, H), nn.RNNCell(H, H)], dropout=0.5), engine="numpy")
    source = rnn.cell.cells[0].W
    del rnn.cell.cells[0].W  # no parameter any more: a plain attribute, which may be computed
    rnn.cell.cells[0].W = source.tanh()
    loss = rnn.eval()(inputs())[0].sum()
    dot = viz.draw(loss).dot
    rnn.cell.cells[0].W = source.exp().exp()
    rnn.train().to("float64")
    assert viz.draw(loss).dot == dot
    assert rnn.cell.dropout.training
    assert viz.draw(rnn(inputs().astype("float64"))[0].sum()).dot != dot


def test_an_operation_that_stands_for_many_is_drawn_as_these():
    @tg.primitive
    def four_times(x, *, by):
        return x * 4, x

    four_times.vjp(lambda gs, x: None)
    x = nn.Parameter(np.ones(3, np.float32))

    def twice(node, _):
        half = tg.Tensor(x.array, node.inputs[0])
        return [(half + half if node.static["by"] == 2 else four_times(half + half, by=2)[0]).node, half.node]

    four_times.op.unroll = twice
    y, same = four_times(x.tanh(), by=4)
    nodes, _, _ = read(viz.draw((y.exp() * same).sum()))
    assert sorted(n["label"] for n in of_kind(nodes, "op")) == ["+", "+", "exp", "tanh", "×"]
