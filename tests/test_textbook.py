"""A cell in the textbook's form: what its lines say is what the code computes, and none of them can be misread."""

import math
import re

from itertools import pairwise

import numpy as np
import pytest

from architectures import LRU, QRNN, SLSTM, HyperLSTM, PhasedLSTM, TwoSpeeds, weights
from random_cells import Drawer, Drawn

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.tasks import sketches
from viz.layout.equations import write_equations
from viz.layout.layout import Layout
from viz.layout.router import RIGHT, UP, Router
from viz.layout.step_template import Box
from viz.layout.textbook import Wires
from viz.picture.picture import Item

I, H = 3, 4


class Cell(nn.Cell):
    """Of one state, by a function of (cell, x, h); parameters U: (I, H), W, V: (H, H), a: (H,)."""

    input_size = I

    def __init__(self, step):
        self.step, self.U, self.W, self.V, self.a = step, weights(I, H), weights(H, H), weights(H, H), weights(H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, H)

    def forward(self, x, h):
        return self.step(self, x, h)


def leaky(cell, x, h):
    h = 0.9 * h + 0.1 * ops.tanh(x @ cell.U + h @ cell.W)
    return h, h


def multiplicative(cell, x, h):
    h = ops.tanh(cell.a * (x @ cell.U) * (h @ cell.W))
    return h, h


def counter(cell, x, h):
    h = h + x @ cell.U
    return h, h


def joined(cell, x, h):
    z = ops.concat([x, h], axis=-1) @ ops.concat([cell.U, cell.W], axis=0)
    h = ops.sigmoid(z) * h + ops.tanh(z)
    return ops.softmax(h @ cell.V), h


def highway(cell, x, h):
    for n in range(3):
        entered = x @ cell.U if n == 0 else 0
        t, g = ops.sigmoid(entered + h @ cell.V), ops.tanh(entered + h @ cell.W)
        h = t * g + (1 - t) * h
    return h, h


CELLS = {
    "RNN": lambda: nn.RNNCell(I, H),
    "LSTM": lambda: nn.LSTMCell(I, H),
    "GRU": lambda: nn.GRUCell(I, H),
    "GRU, reset after": lambda: nn.GRUCell(I, H, reset="after"),
    "MGU": lambda: nn.MGUCell(I, H),
    "peepholes": lambda: nn.PeepholeLSTMCell(I, H),
    "coupled": lambda: nn.CoupledLSTMCell(I, H),
    "IndRNN": lambda: nn.IndRNNCell(I, H),
    "layer norm": lambda: nn.LayerNormLSTMCell(I, H),
    "projected": lambda: nn.ProjectedLSTMCell(I, H, 2),
    "stack": lambda: nn.Stack([nn.LSTMCell(I, H), nn.GRUCell(H, H)]),
    "residual": lambda: nn.ResidualCell(nn.LSTMCell(H, H)),
    "LRU": LRU,
    "QRNN": QRNN,
    "sLSTM": SLSTM,
    "hyper": HyperLSTM,
    "phased": PhasedLSTM,
    "two speeds": TwoSpeeds,
    **{step.__name__: lambda step=step: Cell(step) for step in (leaky, multiplicative, counter, joined, highway)},
}
every_cell = pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)


def drawn_of(what, **options):
    return viz.draw(what, view="textbook", **options)


def circuit_of(seed):
    """That of a random cell."""
    drawn = Drawer(seed)
    return tg.circuit(Drawn(drawn), tg.tensor(drawn.xs[0] if len(drawn.xs) else np.zeros((drawn.B, drawn.I))))


def items(drawing, label=".*", kind=".*"):
    return [i for i in drawing.layout.boxes if re.fullmatch(label, i.label) and re.fullmatch(kind, i.kind)]


def only(drawing, label, kind=".*"):
    (found,) = items(drawing, label, kind)
    return found


def heads_of(drawing):
    """What each item's lines lead to, through the dots where they part."""
    goes = {}
    for e in drawing.layout.edges:
        goes.setdefault(e.tail, []).append(e.head)

    def ends(item):
        return [end for head in goes.get(item, ()) for end in (ends(head) if head.shape == "dot" else [head])]

    return {item: ends(item) for item in drawing.layout.boxes if item.shape != "dot"}


def sources_of(drawing, item):
    """All items that an item hangs on."""
    heads, found, front = heads_of(drawing), set(), [item]
    while front:
        front = [tail for tail, to in heads.items() if any(h in front for h in to) and tail not in found]
        found |= set(front)
    return found


# ---- what the lines say ----------------------------------------------------------------------------------------------


@every_cell
def test_each_state_hangs_on_what_its_gradient_says(make):
    cell = make()
    rng = np.random.default_rng(0)
    for p in cell.parameters():
        p.array = rng.standard_normal(p.shape).astype(p.dtype)
    size = next(m.input_size for m in [cell, *cell.modules()] if hasattr(m, "input_size"))
    x = tg.tensor(rng.standard_normal((2, size)).astype("f4"), requires_grad=True)
    first = nest.map_leaves(
        lambda s: tg.tensor(0.3 + rng.random(s.shape).astype("f4"), requires_grad=True), cell.initial_state(2)
    )
    _, new = cell(x, first)
    drawing = drawn_of(make())
    lefts = [i for i in drawing.layout.boxes if "before" in i.key]
    rights = [i for i in drawing.layout.boxes if "after" in i.key]

    def reach(s):
        grads = tg.grad(s.sum(), [x, *nest.leaves(first)], allow_unused=True, retain_graph=True)
        return tuple(g is not None and bool(np.abs(g.numpy()).max() > 0) for g in grads)

    computed = sorted((sum(r[1:]), r[0]) for r in map(reach, nest.leaves(new)))
    shown = sorted((len({*lefts} & found), any(i.kind == "input" for i in found))
                   for found in (sources_of(drawing, right) for right in rights))  # fmt: skip
    assert shown == computed


def test_an_lstm_is_what_its_code_says():
    drawing = drawn_of(nn.LSTMCell(I, H))
    heads = heads_of(drawing)
    f, i, g, o = (only(drawing, f"{name}  {fn}") for name, fn in zip("figo", ["σ", "σ", "tanh", "σ"], strict=True))
    (bar,) = [item for item in drawing.layout.boxes if item.shape == "bar"]
    assert heads[only(drawing, "xₜ")] == [bar]
    h, c, new_h, new_c = (only(drawing, name) for name in ("hₜ₋₁", "cₜ₋₁", "hₜ", "cₜ"))
    assert heads[h] == [bar]
    assert set(heads[bar]) == {f, i, g, o}
    (forget,) = heads[f]
    assert forget.label == "×"
    assert heads[c] == [forget]
    (entered,) = set(heads[i])
    assert heads[g] == [entered]
    (memory,) = heads[entered]
    assert (entered.label, memory.label) == ("×", "+")
    assert heads[forget] == [memory]
    tanh = only(drawing, "tanh")
    assert set(heads[memory]) == {new_c, tanh}
    (out,) = heads[tanh]
    assert heads[o] == [out]
    assert heads[out] == [new_h]


def test_a_gru_is_what_its_code_says():
    drawing = drawn_of(nn.GRUCell(I, H))
    heads = heads_of(drawing)
    r, z, n, less = (only(drawing, label) for label in ("r  σ", "z  σ", "n  tanh", "1 −"))
    (bar,) = [item for item in drawing.layout.boxes if item.shape == "bar"]
    x, h = only(drawing, "xₜ"), only(drawing, "hₜ₋₁")
    assert set(heads[bar]) == {r, z}
    assert set(heads[x]) == {bar, n}
    (reset,) = heads[r]
    assert heads[reset] == [n]
    (kept,) = heads[less]
    assert set(heads[h]) == {bar, reset, kept}
    (new,) = heads[n]
    assert set(heads[z]) == {less, new}
    (total,) = heads[kept]
    assert heads[new] == [total]
    assert (total.label, heads[total]) == ("+", [only(drawing, "hₜ")])


def test_peepholes_lead_from_memories_into_gates():
    drawing = drawn_of(nn.PeepholeLSTMCell(I, H))
    heads = heads_of(drawing)
    f, i, g, o = (only(drawing, f"{name}  .*") for name in "figo")
    (bar,) = [item for item in drawing.layout.boxes if item.shape == "bar"]
    assert set(heads[bar]) == {f, i, g, o}
    times, plus = (item for item in items(drawing, kind="cell") if item.shape == "sign")
    assert set(heads[only(drawing, "cₜ₋₁")]) == {times, f, i}
    assert set(heads[plus]) == {only(drawing, "cₜ"), only(drawing, "tanh"), o}


def test_what_is_put_together_to_be_multiplied_meets_at_the_bar():
    drawing = drawn_of(Cell(joined))
    (bar,) = [item for item in drawing.layout.boxes if item.shape == "bar"]
    assert not items(drawing, "concat")
    assert {i.label for i in heads_of(drawing)[bar]} == {"σ", "tanh"}


def test_a_product_with_a_vector_of_weights_says_so():
    assert only(drawn_of(Cell(multiplicative)), "× a").shape == "box"


def test_a_normalisation_is_one_box_and_a_function_of_a_memory_no_layer():
    drawing = drawn_of(nn.LayerNormLSTMCell(I, H))
    boxes = drawing.layout.boxes
    assert len(items(drawing, "LN")) == 3
    row = {boxes[item].y for item in items(drawing, r"σ\(.\)|tanh\(.\)")}
    assert len(row) == 1
    assert boxes[only(drawing, "tanh")].y > max(row)


def test_what_comes_from_outside_of_time_comes_from_below():
    drawing = drawn_of(sketches.attention(nn.GRUCell, 4, 3, 3))
    states = only(drawing, "h₁ … h₃")
    assert [i.label for i in heads_of(drawing)[states]] == ["×", "×"]
    assert drawing.layout.boxes[states].y < min(drawing.layout.boxes[g].y for g in items(drawing, kind="gate"))


# ---- ways on the grid ------------------------------------------------------------------------------------------------


def corridor(wide):
    """Ways to the right between two walls, so many places wide, from x = 0 to x = 20."""
    router = Router((0, -9, 20, 9))
    router.wall(10, 5, 3, 4)
    router.wall(10, -4 - wide, 3, 4)
    return router


def port(x, y, way=RIGHT):
    return [((x, y), way, 0.0)]


def test_lines_of_two_values_share_no_way():
    router = corridor(1)
    assert router.connect(0, port(0, 0), port(20, 0)) == [(x, 0) for x in range(21)]
    assert router.connect(1, port(0, -2), port(20, -2)) is None
    assert corridor(3).connect(1, port(0, -2), port(20, -2)) is not None


def test_a_line_parts_where_its_value_is_already():
    router = Router((0, -9, 20, 9))
    router.connect(0, port(0, 0), port(20, 0))
    way = router.connect(0, port(0, 0), port(9, 5, UP))
    assert way == [(9, y) for y in range(6)]


def test_lines_cross_at_right_angles_only_and_not_where_another_bends():
    router = Router((0, -9, 20, 9))
    router.connect(0, port(0, 0), port(20, 0))
    assert router.connect(1, port(9, -9, UP), port(9, 9, UP)) == [(9, y) for y in range(-9, 10)]
    router = Router((0, -9, 20, 9))
    bent = router.connect(0, port(0, 0), port(9, 9, UP))
    assert (9, 0) in bent
    assert (9, 0) not in router.connect(1, port(9, -9, UP), port(20, 5))


def test_a_line_does_not_turn_on_another():
    """The way of the second must turn in the one column where the first runs."""
    router = Router((0, 0, 4, 4))
    router.connect(0, port(2, 0, UP), port(2, 4, UP))
    for y in (1, 2, 3):
        router.walls |= {(3, y)} if y != 3 else set()
        router.walls |= {(1, y)} if y != 1 else set()
    assert router.connect(1, port(0, 1), port(4, 3)) is None


# ---- how it looks ----------------------------------------------------------------------------------------------------


def corners(e):
    """The line as level and upright pieces: its rounded corners squared."""
    points = e.curve[0]
    kept = [points[0], *points[3::3]]
    return [*kept, e.curve[1]] if e.curve[1] else kept


def check_lines(drawing):
    """Each begins and ends at its items, meets no other, and shares no way with what carries another value."""
    boxes, source = drawing.layout.boxes, {}
    for e in drawing.layout.edges:
        source[e.head] = source.get(e.tail, e.tail) if e.head.shape == "dot" else source.get(e.head)
    pieces = []
    for e in drawing.layout.edges:
        points = corners(e)
        for at, item in ((points[0], e.tail), (points[-1], e.head)):
            box = boxes[item]
            out = max(abs(at[0] - box.x) - box.width / 2, abs(at[1] - box.y) - box.height / 2)
            assert abs(out) < 2.5 or item.shape == "dot", (e.tail.label, e.head.label, out)
        for a, b in pairwise(points):
            for item, box in boxes.items():
                if item in (e.tail, e.head) or item.shape == "dot":
                    continue
                (x, to), (y, up), w, h = sorted((a[0], b[0])), sorted((a[1], b[1])), box.width / 2, box.height / 2
                apart = max(x - box.x - w, box.x - w - to, y - box.y - h, box.y - h - up)
                assert apart > 1, (e.tail.label, e.head.label, "runs through", item.label)
            pieces.append((source.get(e.tail, e.tail), a, b))
    for k, (one, a, b) in enumerate(pieces):
        for other, c, d in pieces[:k]:
            if one is not other and math.dist(a, b) > 1 and math.dist(c, d) > 1:
                assert not _share(a, b, c, d), (one.label, other.label, a, b, c, d)


def _share(a, b, c, d):
    """Do two level or two upright pieces lie on each other?"""
    for u, v in ((0, 1), (1, 0)):
        level = all(abs(p[v] - a[v]) < 2 for p in (b, c, d))
        if level and min(max(a[u], b[u]), max(c[u], d[u])) - max(min(a[u], b[u]), min(c[u], d[u])) > 1:
            return True
    return False


@pytest.fixture
def no_detours(monkeypatch):
    """Fail where a line finds no way."""
    monkeypatch.setattr(Wires, "_straight", lambda self, tail, head: pytest.fail(f"{tail.label} → {head.label}"))


@every_cell
def test_no_line_can_be_misread(make, no_detours):
    check_lines(drawn_of(make()))


@pytest.mark.parametrize("seed", range(8))
def test_no_line_of_a_random_cell_can_be_misread(seed, no_detours):
    check_lines(drawn_of(circuit_of(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(8, 108, 10))
def test_no_line_of_many_random_cells_can_be_misread(start, no_detours):
    for seed in range(start, start + 10):
        check_lines(drawn_of(circuit_of(seed)))


@every_cell
def test_nothing_overlaps_and_only_states_and_inputs_stand_outside_of_the_frame(make):
    layout = drawn_of(make()).layout
    ((_, left, bottom, width, height, _),) = layout.frames
    nodes = [(item, box) for item, box in layout.boxes.items() if item.shape != "dot"]
    for k, (item, box) in enumerate(nodes):
        for other, there in nodes[:k]:
            beside = abs(box.x - there.x) >= (box.width + there.width) / 2 - 0.01
            assert beside or abs(box.y - there.y) >= (box.height + there.height) / 2 - 0.01, (item.label, other.label)
        inside = left < box.x < left + width and bottom < box.y < bottom + height
        assert inside != (item.label[-1:] == "ₜ" or "before" in item.key), item.label


@pytest.mark.parametrize("make", [nn.LSTMCell, nn.GRUCell, nn.PeepholeLSTMCell, nn.CoupledLSTMCell, nn.MGUCell])
def test_memories_run_level_on_top_gates_stand_in_a_row_x_comes_from_below_and_h_goes_to_the_right(make):
    drawing = drawn_of(make(I, H))
    boxes, heads = drawing.layout.boxes, heads_of(drawing)
    gates = items(drawing, kind="gate")
    before = [i for i in boxes if "before" in i.key]
    assert len({boxes[g].y for g in gates}) == 1
    top = max(before, key=lambda i: boxes[i].y)
    level = [i for i in boxes if abs(boxes[i].y - boxes[top].y) < 1 and i.shape != "dot"]
    along = sorted(level, key=lambda i: boxes[i].x)
    assert [i.label for i in along] == [top.label, "×", "+", top.label.replace("₋₁", "")]
    assert all(b in heads[a] for a, b in pairwise(along))
    lines = [e for e in drawing.layout.edges if abs(e.curve[0][0][1] - boxes[top].y) < 0.1 and e.head in level]
    assert len(lines) >= 3
    assert all(abs(y - boxes[top].y) < 0.1 for e in lines for _, y in e.curve[0])
    assert all(box.y <= boxes[top].y for box in boxes.values())
    assert all(boxes[i].y < min(boxes[g].y for g in gates) for i in items(drawing, kind="input"))
    assert boxes[only(drawing, "hₜ")].x == max(box.x for box in boxes.values())
    assert all(boxes[i].x < min(boxes[g].x for g in gates) for i in before)


def test_a_gate_reaches_its_memory_straight():
    drawing = drawn_of(nn.CoupledLSTMCell(I, H))
    x = drawing.layout.boxes[only(drawing, "f  σ")].x
    times = next(i for i in items(drawing, "×", "cell"))
    (line,) = [e for e in drawing.layout.edges if e.head is times and e.kind == "flow"]
    assert all(abs(at - x) < 0.1 for at, _ in line.curve[0])


def test_it_may_be_laid_out_again():
    drawing = drawn_of(nn.LSTMCell(I, H), highlight="c")
    first, second = drawing.layout, drawing._compose()
    placed = lambda layout: [(i.label, vars(box)) for i, box in layout.boxes.items()]
    assert placed(second) == placed(first)


def test_a_graph_without_steps_is_refused_when_it_is_drawn_not_when_it_is_shown():
    with pytest.raises(ValueError, match="got a graph without time steps"):
        drawn_of(nn.Linear(I, H)(tg.ones(2, I)).sum())


def test_the_cell_has_its_name_and_lines_of_memories_their_colour_all_along():
    drawing = drawn_of(nn.LSTMCell(I, H))
    assert 'label="LSTM"' in drawing.dot
    c = [e for e in drawing.layout.edges if e.kind == "cell over time"]
    ends = {(e.tail.label, e.head.label) for e in c}
    assert {("cₜ₋₁", "×"), ("×", "+")} <= ends
    assert {e.kind for e in drawing.layout.edges if e.head.label == "hₜ"} == {"hidden over time"}


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["f"], ["f  σ", "hₜ₋₁", "xₜ"]),
        (["i", "g"], ["g  tanh", "hₜ₋₁", "i  σ", "xₜ"]),
        ("c", ["cₜ", "cₜ₋₁", "f  σ", "g  tanh", "hₜ₋₁", "i  σ", "xₜ"]),
        ("h", ["cₜ₋₁", "f  σ", "g  tanh", "hₜ", "hₜ₋₁", "i  σ", "o  σ", "tanh", "xₜ"]),
    ],
)
def test_what_a_value_hangs_on_stays_the_rest_becomes_faint(names, kept):
    drawing = drawn_of(nn.LSTMCell(I, H), highlight=names)
    faint = lambda look: str(look.get("color", "")).endswith("44")
    shown = [i for i in drawing.layout.boxes if not faint(i.look)]
    assert sorted(i.label for i in shown if i.label not in ("", "×", "+")) == kept
    for e in drawing.layout.edges:
        assert faint(e.look) == (e.head not in shown), (e.tail.label, e.head.label)
    assert all(e.tail in shown for e in drawing.layout.edges if e.head in shown)
    plain = drawn_of(nn.LSTMCell(I, H))
    assert not any(faint(i.look) for i in plain.layout.boxes)


def test_a_gate_that_is_named_before_its_function_is_found_too():
    drawing = drawn_of(nn.LayerNormLSTMCell(I, H), highlight="f")
    shown = {i.label for i in drawing.layout.boxes if not str(i.look.get("color", "")).endswith("44")}
    assert shown - {""} == {"σ(f)", "+", "LN", "xₜ", "hₜ₋₁"}


def test_highlighting_what_is_not_there_names_what_is():
    with pytest.raises(ValueError, match="highlight must name values of the cell, c, f, g, h, i, o, got 'z'"):
        drawn_of(nn.LSTMCell(I, H), highlight=["f", "z"]).layout  # noqa: B018
    with pytest.raises(ValueError, match='highlight is for view="textbook", got'):
        viz.draw(nn.LSTMCell(I, H), highlight="f")


@pytest.mark.parametrize("view", ["textbook", "circuit"])
def test_equations_stand_beside_a_circuit(view):
    circuit = tg.circuit(nn.LSTMCell(I, H), tg.zeros(2, I))
    drawing = viz.draw(circuit, view=view, equations=True)
    boxes, lines = drawing.layout.boxes, {}
    for item in boxes:
        if item.shape in ("equation", "subscript"):
            lines.setdefault(item.key.partition(".")[0], []).append(item)
    written = ["".join("_" * (i.shape == "subscript") + i.label for i in line) for line in lines.values()]
    assert [text.replace("\xa0", " ") for text in written] == circuit.equations().splitlines()
    lefts = {round(boxes[line[0]].x - boxes[line[0]].width / 2, 3) for line in lines.values()}
    others = [b.x + b.width / 2 for i, b in boxes.items() if i.shape not in ("equation", "subscript")]
    assert len(lefts) == 1
    assert min(lefts) > max(others) + 20
    ys = [boxes[line[0]].y for line in lines.values()]
    assert ys == sorted(ys, reverse=True)
    assert min(a - b for a, b in pairwise(ys)) >= max(boxes[line[0]].height for line in lines.values())
    for line in lines.values():
        for a, b in pairwise(line):
            assert boxes[b].x - boxes[b].width / 2 == pytest.approx(boxes[a].x + boxes[a].width / 2)
            assert (boxes[b].y < boxes[a].y) == (b.shape == "subscript")


@pytest.mark.parametrize("view", ["textbook", "circuit"])
@pytest.mark.parametrize("make", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_line_of_equations_is_one_text_in_an_svg(make, view):
    """So that no other font tears it apart, and it is copied as a line."""
    circuit = tg.circuit(make(I, H), tg.zeros(2, I))
    drawing = viz.draw(circuit, view=view, equations=True)
    firsts = [box for item, box in drawing.layout.boxes.items() if re.fullmatch(r"equation\d+\.0", item.key)]
    for svg in drawing.svg(), drawing.film(), drawing.html():
        texts = re.findall(r"<text [^>]*>(?:[^<]|</?tspan[^>]*>)*</text>", svg)
        (*lines,) = (t for t in texts if " = " in t.replace("\xa0", " "))
        told = [re.sub("<[^>]*>", "", t).replace("\xa0", " ") for t in lines]
        assert told == [line.replace("_", "") for line in circuit.equations().splitlines()]
        assert "subscript" not in svg
        lefts = {float(re.search(r' x="([^"]*)"', t)[1]) for t in lines}
        assert max(lefts) - min(lefts) < 0.05 and not any("text-anchor" in t for t in lines)
        for text in lines:  # what is lowered is raised again
            steps = [float(dy) for dy in re.findall(r'dy="([^"]*)"', text)]
            assert all(down > 0 > up and down + up == 0 for down, up in zip(steps[::2], steps[1::2], strict=False))
    left, *_ = drawing.layout.extent()  # which Graphviz moves to 0
    assert min(lefts) == pytest.approx(firsts[0].x - firsts[0].width / 2 - left, abs=1)


def test_a_subscript_is_all_that_stands_behind_the_underscore():
    layout = Layout({Item("a", "a", "", "box"): Box(0, 0, 10, 10)})
    write_equations(layout, ["h_2ₜ₋₁ = U_h,1 xₜ   + b_f", "y = 2"])
    found = [(item.label.replace("\xa0", " "), item.shape) for item in layout.boxes][1:]
    big, small = "equation", "subscript"
    expected = [
        ("h", big),
        ("2ₜ₋₁", small),
        (" = U", big),
        ("h,1", small),
        (" xₜ + b", big),
        ("f", small),
        ("y = 2", big),
    ]
    assert found == expected
    write_equations(layout, [])
    assert len(layout.boxes) == 1 + len(expected)


def test_a_network_of_several_parts_is_drawn_too(no_detours):
    for loss in (
        sketches.predictor(nn.LSTMCell, 4, 4),
        sketches.attention(nn.GRUCell, 4, 3, 3),
        sketches.bidirectional(nn.LSTMCell, 4, 3, 1),
    ):
        check_lines(drawn_of(loss))


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        (lambda: nn.LSTMCell(I, H), {"gradient": True}, 'gradient, values and shapes are for other views than "textb'),
        (lambda: nn.LSTMCell(I, H), {"tokens": ["a"]}, 'view="textbook" is one for all'),
        (lambda: nn.LSTMCell(I, H), {"depth": 1}, "leave depth out"),
        (lambda: nn.LSTMCell(I, H), {"direction": "down"}, "leave direction out"),
        (lambda: nn.LSTMCell(I, H), {"unfold": True}, 'only view="circuit" can be unfolded'),
        (lambda: nn.LSTMCell(I, H), {"equations": True}, r"record one: viz.draw\(tg.circuit\(cell, x\)"),
        (lambda: nn.Linear(I, H)(tg.ones(2, I)).sum(), {}, "got a graph without time steps"),
    ],
)
def test_what_it_cannot_draw_is_said_in_one_line(what, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        drawn_of(what(), **options).layout  # noqa: B018  it is laid out when it is first asked for


def test_equations_beside_another_view_are_refused():
    with pytest.raises(ValueError, match='beside view="circuit" and view="textbook", not unfolded'):
        viz.draw(tg.circuit(nn.LSTMCell(I, H), tg.zeros(2, I)), equations=True)
