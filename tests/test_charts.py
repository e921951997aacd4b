"""viz.alignment and viz.gradient_norms: charts of numbers."""

import itertools
import re
import sys
import warnings

from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_rnn as tg

from viz.charts import normplot
from viz.charts.chart import FORMATS, text_width
from viz.charts.heatmap import alignment
from viz.charts.normplot import gradient_norms
from viz.style import INK, LINE, RAMP, ink, ramp

matplotlib = pytest.importorskip("matplotlib")
backend_agg = pytest.importorskip("matplotlib.backends.backend_agg")
hypothesis = pytest.importorskip("hypothesis")
given, settings, st = hypothesis.given, hypothesis.settings, hypothesis.strategies

WEIGHTS = np.array([[0.82, 0.10, 0.08], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.004, 0.25, 0.746]])
HOSTILE = [
    "<script>",
    "</s>",
    '"',
    "\\",
    "$x$",
    "\\$y\\$",
    "a&b",
    "日本語",
    "مرحبا",
    "🙂",
    "_a%{}^",
    "&lt;",
    "''",
    "]]>",
]
SVG = "{http://www.w3.org/2000/svg}"


def style(element, name):
    found = re.search(rf"(?:^|;)\s*{name}:\s*([^;]+)", element.get("style", ""))
    return found and found[1].strip()


def parts(chart):
    """The cells of a drawn chart, (left, top, right, bottom, fill), and its texts, (text, x, y, fill)."""
    root = ElementTree.fromstring(chart.svg())
    cells = []
    for group in root.iter(f"{SVG}g"):
        for path in group.findall(f"{SVG}path") if group.get("id", "").startswith("PolyCollection") else ():
            points = np.array(re.findall(r"[ML] (\S+) (\S+)", path.get("d")), float)
            cells.append((*points.min(0), *points.max(0), style(path, "fill")))
    texts = [(e.text or "", float(e.get("x")), float(e.get("y")), style(e, "fill")) for e in root.iter(f"{SVG}text")]
    return cells, texts


def inside(cell, text):
    left, top, right, bottom, _ = cell
    return left < text[1] < right and top < text[2] < bottom


def luminance(colour):
    """As WCAG 2.1 defines it."""
    channels = np.array(list(bytes.fromhex(colour[1:]))) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def pixels(path):
    from matplotlib.image import imread

    return imread(path)


# ---- heat map -------------------------------------------------------------------------------------------------------


def test_each_value_stands_in_its_own_cell_on_the_colour_of_the_ramp():
    cells, texts = parts(alignment(WEIGHTS))
    assert len(cells) == WEIGHTS.size
    rows = [sorted(row) for _, row in itertools.groupby(sorted(cells, key=lambda c: (c[1], c[0])), key=lambda c: c[1])]
    for (t, s), value in np.ndenumerate(WEIGHTS):
        (text,) = [text for text in texts if inside(rows[t][s], text)]
        assert text[0] == (f"{value:.2f}" if value else "0")
        assert rows[t][s][-1] == ramp(value)
        assert text[3] == ink(value)


def frames(chart):
    """The frames of a drawn chart: left, top, right, bottom, stroke."""
    found = []
    for path in ElementTree.fromstring(chart.svg()).iter(f"{SVG}path"):
        if style(path, "fill") == "none" and style(path, "stroke") not in (None, "none"):
            points = np.array(re.findall(r"[ML] (\S+) (\S+)", path.get("d")), float)
            found.append((*points.min(0), *points.max(0), style(path, "stroke")))
    return found


@pytest.mark.parametrize("heads", [None, 2])
def test_marked_cells_have_a_frame_inside_of_them(heads):
    weights = WEIGHTS if heads is None else np.stack([WEIGHTS] * heads)
    marked = WEIGHTS > 0.7
    chart = alignment(weights, marked=marked)
    cells, (found, plain) = parts(chart)[0], map(frames, (chart, alignment(weights)))
    assert not plain, "no frame unless it is asked for"
    cells = np.array(cells, object).reshape(-1, *WEIGHTS.shape, 5)
    expected = [cells[n][t, s] for n in range(len(cells)) for t, s in np.argwhere(marked)]
    assert len(found) == len(expected)
    for (left, top, right, bottom, stroke), cell in zip(found, expected, strict=True):
        assert cell[0] < left < right < cell[2] and cell[1] < top < bottom < cell[3]
        assert right - left > 0.8 * (cell[2] - cell[0])
        assert stroke == INK
    if heads:
        one = alignment(weights, marked=tg.tensor(np.stack([marked, ~marked])))
        assert len(frames(one)) == WEIGHTS.size, "a mark of its own for each head"


@pytest.mark.parametrize(
    ("marked", "error"),
    [
        (np.ones((3, 4), bool), "marked must be (4, 3) of bool, got (3, 4) of bool"),
        (WEIGHTS, "marked must be (4, 3) of bool, got (4, 3) of float64"),
    ],
)
def test_marks_that_do_not_fit_are_refused_in_one_line(marked, error):
    with pytest.raises(ValueError, match=rf"^viz\.alignment: {re.escape(error)}$"):
        alignment(WEIGHTS, marked=marked)


def test_the_ramp_goes_through_its_colours_and_halfway_between_them():
    for share, colour in RAMP:
        assert ramp(share) == colour
    assert ramp(0.125) == "#f7eee0"  # by hand, of #f1f5f9 and #fde6c8
    path = [luminance(ramp(share)) for share in np.linspace(0, 1, 50)]
    assert path == sorted(path, reverse=True)


def test_a_pixel_of_a_png_has_the_colour_of_its_weight(tmp_path):
    alignment([[0.0, 0.5], [0.75, 1.0]], path=tmp_path / "a.png", values=False)
    image = (pixels(tmp_path / "a.png") * 255).round().astype(int)
    found = {"#" + bytes(int(c) for c in p).hex() for p in np.unique(image[..., :3].reshape(-1, 3), axis=0)}
    assert {ramp(v) for v in (0, 0.5, 0.75, 1)} <= found
    assert (image[0, 0] == 255).all(), "on paper"


def test_text_has_contrast_on_every_fill():
    for value in np.linspace(0, 1, 101):
        pair = sorted((luminance(ramp(value)) + 0.05, luminance(ink(value)) + 0.05))
        assert pair[1] / pair[0] > 3.6


@pytest.mark.parametrize("offset", range(4))
def test_tokens_are_drawn_exactly_as_they_are_and_by_their_column_and_row(offset):
    tokens = (HOSTILE * 2)[offset * 4 : offset * 4 + 5]
    cells, texts = parts(alignment(np.eye(5), tokens, tokens[::-1]))
    left, top = min(c[0] for c in cells), min(c[1] for c in cells)
    above = [text for text in texts if text[2] < top]
    beside = [text for text in texts if text[1] < left]
    assert [text[0] for text in above] == tokens
    assert [text[0] for text in beside] == tokens[::-1]
    for text, cell in zip(above, cells[:5], strict=True):
        assert text[1] == pytest.approx((cell[0] + cell[2]) / 2, abs=0.1)
    for text, cell in zip(beside, cells[::5], strict=True):
        assert cell[1] < text[2] < cell[3]


VISIBLE_TOKENS = [
    ("\n", "⏎"),
    (" ", "␣"),
    (" the", "␣the"),
    ("New York", "New York"),
    ("a  b ", "a␣␣b␣"),
    ("a\tb\r", "a⇥b␍"),
    ("\0", "␀"),
    ("\x0b\x7f", "␋␡"),
    ("\ud800", "\ufffd"),
    ("\uffff", "\ufffd"),
    ("x" * 40, "x" * 40),
    ("x" * 41, "x" * 39 + "…"),
    (7, "7"),
    ("", ""),
]


def test_what_cannot_be_seen_is_made_visible():
    tokens, drawn = zip(*VISIBLE_TOKENS, strict=True)
    _, texts = parts(alignment(np.ones((len(tokens), 1)), ["x"], tokens, values=True))
    assert [text[0] for text in texts if text[0] not in ("x", "1.00")] == [text for text in drawn if text]


VISIBLE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn", "Zs")), min_size=1, max_size=6)


@settings(max_examples=10, deadline=None)
@given(st.lists(VISIBLE, min_size=8, max_size=8), st.text())
def test_any_tokens_are_drawn_exactly_as_they_are_under_any_title(tokens, title):
    _, texts = parts(alignment(np.eye(4), tokens[:4], tokens[4:], title=title, values=False))
    assert [text[0] for text in texts[:8]] == tokens


def test_without_names_the_tokens_are_x_and_y_by_number():
    _, texts = parts(alignment(np.full((2, 11), 1 / 11)))
    names = [text[0] for text in texts]
    assert {f"x{i}" for i in "₁₂₉"} | {"x₁₀", "x₁₁", "y₁", "y₂"} <= set(names)


def test_a_letter_that_no_font_has_raises_no_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in FORMATS:
            alignment([[1.0]], ["日本語🙂\U0001f9ff"], ["مرحبا"], tmp_path / f"a{suffix}", title="한국어")


@pytest.mark.parametrize(
    "shape, values, shown", [((5, 5), None, 1), ((20, 3), None, 0), ((20, 3), 1, 1), ((5, 5), 0, 0)]
)
def test_values_are_shown_where_they_are_few_or_wanted(shape, values, shown):
    weights = np.full(shape, 0.123)
    _, texts = parts(alignment(weights, values=None if values is None else bool(values)))
    assert [text[0] for text in texts].count("0.12") == shown * weights.size
    assert ("0.5" in [text[0] for text in texts]) == (not shown), "else there is a colour bar"


@pytest.mark.parametrize("heads, rows", [(1, 1), (3, 1), (5, 2), (12, 3)])
def test_each_head_has_a_panel_and_a_title(heads, rows):
    weights = np.random.default_rng(0).random((heads, 4, 3))
    cells, texts = parts(alignment(weights))
    titles = [text for text in texts if text[0].startswith("head")]
    assert [text[0] for text in titles] == [f"head {i + 1}" for i in range(heads)] * (heads > 1)
    assert len({text[2] for text in titles}) == (rows if heads > 1 else 0)
    assert [cell[-1] for cell in cells] == [ramp(w) for w in weights.reshape(-1)]
    for title, panel in zip(titles, _panels(cells, 12), strict=False):
        assert min(c[0] for c in panel) < title[1] < max(c[2] for c in panel)
        assert title[2] < min(c[1] for c in panel)


def _panels(cells, size):
    return [cells[i : i + size] for i in range(0, len(cells), size)]


def test_no_two_cells_touch():
    cells, _ = parts(alignment(np.full((3, 4, 5), 0.5)))
    for (l0, t0, r0, b0, _), (l1, t1, r1, b1, _) in itertools.combinations(cells, 2):
        assert r0 < l1 or r1 < l0 or b0 < t1 or b1 < t0


def test_long_tokens_are_turned():
    assert "rotate(-45" not in alignment(np.eye(3), ["a", "b", "c"]).svg()
    assert "rotate(-45" in alignment(np.eye(3), LONG).svg()
    assert "rotate(-90" in alignment(np.full((99, 99), 0.1), LONG * 33).svg()


LONG = ["internationalization", "of", "responsibilities"]
TITLE = "A long title in two lines, " * 4 + "\nof which this one is the second"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: alignment(np.eye(3), LONG),
        lambda: alignment(np.eye(3), LONG, LONG, title=TITLE),
        lambda: alignment(np.full((9, 20, 60), 0.1), LONG * 20, title=TITLE),
        lambda: gradient_norms([1.0, 0.1], title=TITLE),
        lambda: gradient_norms({LONG[0]: [1e-99, 1.0], LONG[2]: [1.0, 1.0]}),
        lambda: gradient_norms({LONG[0]: [1.0, 1e-99], LONG[2]: [1.0, 1.0]}),
    ],
)
def test_nothing_leaves_the_page_and_no_title_is_written_over(draw):
    figure = draw().figure
    backend_agg.FigureCanvasAgg(figure)  # knows what measures text; another canvas would find it out for each
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    boxes = {text: text.get_window_extent() for text in texts}
    for text, box in boxes.items():
        assert box.width == 0 or (figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1), text
        assert box.height == 0 or (figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1), text
        if text.get_text() in TITLE.split("\n"):
            assert not any(box.shrunk(1, 0.9).overlaps(other) for other in boxes.values() if other is not box)


def test_tokens_along_the_top_do_not_overlap():
    for n, token in itertools.product((3, 15, 40), ("a", "token", "tokenization")):
        chart = alignment(np.full((n, n), 0.0), [token] * n)
        axes = chart.figure.axes[0]
        scale = chart.figure.bbox.width * axes.get_position().width / n
        tokens = [text for text in axes.texts if text.get_text() == token]
        assert len(tokens) >= min(n, 20)
        step = (tokens[1].get_position()[0] - tokens[0].get_position()[0]) * scale
        turn = np.deg2rad(tokens[0].get_rotation())
        size = tokens[0].get_size()
        needed = text_width(token, size) if turn == 0 else 0.95 * size
        assert step * (np.sin(turn) if turn else 1) >= needed


def test_a_page_is_bounded_and_many_cells_are_an_image():
    chart = alignment(np.full((8, 100, 300), 1 / 300))
    assert max(chart.figure.get_size_inches()) < 20
    assert len(chart.svg()) < 1_000_000


def test_tensors_and_lists_are_the_same_as_arrays():
    expected = alignment(WEIGHTS).svg()
    assert alignment(WEIGHTS.tolist()).svg() == expected
    assert alignment(tg.tensor(WEIGHTS)).svg() == expected


def test_a_softmax_that_rounding_left_above_one_is_drawn():
    cells, texts = parts(alignment(np.array([[np.nextafter(np.float32(1), np.float32(2)), -1e-9]])))
    assert [text[0] for text in texts[:2]] == ["1.00", "0"]
    assert [cell[-1] for cell in cells] == [ramp(1), ramp(0)]


@pytest.mark.parametrize(
    "arguments, error",
    [
        (([1.0, 0.0],), "weights must be (T, S) or (heads, T, S), none of them 0, got (2,)"),
        ((np.zeros((2, 0)),), "weights must be (T, S) or (heads, T, S), none of them 0, got (2, 0)"),
        ((np.zeros((1, 1, 1, 1)),), "got (1, 1, 1, 1)"),
        (([[np.nan]],), "weights must be in [0, 1], such as those of a softmax, got nan"),
        (([[np.inf]],), "got inf"),
        (([[0.5, -2.0]],), "got -2"),
        (([[1.5]],), "got 1.5"),
        (([["0.5"]],), "weights must be real numbers, got [['0.5']]"),
        (([[1j]],), "weights must be real numbers"),
        (([[1.0], [1.0, 2.0]],), "weights must be real numbers"),
        ((None,), "got None"),
        ((np.eye(2), "abc"), "source must be 2 tokens, one for each of weights (2, 2), got 3"),
        ((np.eye(2), "ab", ["x"]), "target must be 2 tokens, one for each of weights (2, 2), got 1"),
        ((np.eye(2), None, None, "a.gif"), "the file name must end in .svg, .png, .pdf, got 'a.gif'"),
    ],
)
def test_what_cannot_be_a_heat_map_is_refused_in_one_line(arguments, error, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as raised:
        alignment(*arguments)
    message = str(raised.value)
    assert message.startswith("viz.alignment: ") and error in message and "\n" not in message
    assert not list(tmp_path.iterdir())


# ---- norms ----------------------------------------------------------------------------------------------------------


def curves(chart):
    """The lines of a plot, without markers and the dots that lead to names."""
    return [line for line in chart.figure.axes[0].lines if line.get_marker() == "None"]


def marks(chart, marker):
    found = [line for line in chart.figure.axes[0].lines if line.get_marker() == marker]
    return [int(t) for line in found for t in line.get_xdata()]


def ticks(chart):
    axis = chart.figure.axes[0].yaxis
    return {label.get_text(): at for label, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)}


def named(chart):
    return {text.get_text(): text for text in chart.figure.axes[1].texts}


def test_a_line_is_its_norms_on_a_log_scale_over_t_from_one():
    chart = gradient_norms([1e-6, 1e-3, 1e0])
    (line,) = curves(chart)
    assert line.get_xdata().tolist() == [1, 2, 3]
    at = ticks(chart)
    assert line.get_ydata().tolist() == [at["10⁻⁶"], at["10⁻³"], at["10⁰"]]
    assert at["10⁻⁶"] - at["10⁻⁵"] == at["10⁻³"] - at["10⁻²"] < 0
    texts = [text[0] for text in parts(chart)[1]]
    assert {"t", "‖∂L/∂hₜ‖", "1", "2", "3"} <= set(texts)
    assert not named(chart)


def test_a_zero_is_a_triangle_at_the_bottom_edge_marked_0():
    chart = gradient_norms({"a": [0.0, 0.0, 1e-3, 1.0], "b": [0.5] * 4})
    assert marks(chart, "v") == [1, 2]
    axes = chart.figure.axes[0]
    assert curves(chart)[0].get_ydata()[:2].tolist() == [ticks(chart)["0"]] * 2 == [axes.get_ylim()[0]] * 2
    assert ticks(chart)["0"] < -3
    assert "0" not in ticks(gradient_norms([1e-3, 1.0]))


def test_infinity_is_a_triangle_at_the_top_edge():
    chart = gradient_norms([np.inf, 10.0, 1.0])
    assert marks(chart, "^") == [1] and ticks(chart)["∞"] == chart.figure.axes[0].get_ylim()[1] > 1
    assert "∞" not in ticks(gradient_norms([10.0, 1.0]))


def test_a_nan_breaks_the_line_and_a_point_alone_is_a_dot():
    chart = gradient_norms([1.0, np.nan, 0.1, np.nan, 0.1, 0.2])
    assert np.isnan(curves(chart)[0].get_ydata()).tolist() == [False, True, False, True, False, False]
    assert marks(chart, "o") == [1, 3]


@pytest.mark.parametrize(
    "norms", [[0.0], [np.nan], [np.inf], [1.0], [5e-324, 1.7e308], [0.3] * 1000, np.float16([1, 2])]
)
def test_extreme_norms_are_drawn(norms):
    chart = gradient_norms({"a": norms})
    heights = np.concatenate([line.get_ydata() for line in chart.figure.axes[0].lines])
    bottom, top = chart.figure.axes[0].get_ylim()
    assert bottom < top and (np.isnan(heights) | (bottom <= heights) & (heights <= top)).all()
    assert ("a" if np.isfinite(norms).all() or np.isinf(norms).any() else "a (NaN)") in [t[0] for t in parts(chart)[1]]


def test_every_line_has_its_name_in_its_colour_at_an_end():
    t = np.arange(40)[::-1]
    chart = gradient_norms({"RNN": 10.0 ** (-t / 2), "LSTM": 10.0 ** (-t / 20), "<GRU> $x$": [1e-9, 1.0]})
    texts = named(chart)
    assert list(texts) == ["RNN", "LSTM", "<GRU> $x$"]
    for line, text in zip(curves(chart), texts.values(), strict=True):
        assert line.get_color() == text.get_color() != LINE
    axes, limits = chart.figure.axes[1], chart.figure.axes[0].get_ylim()
    for text, first in zip(texts.values(), (-19.5, -1.95, -9), strict=True):
        height = (first - limits[0]) / (limits[1] - limits[0]) * axes.get_ylim()[1]
        assert abs(text.get_position()[1] - height) < 8, "at their beginning, where they differ"
        assert text.get_position()[0] < 0


def test_names_stand_at_the_end_if_the_lines_differ_there():
    chart = gradient_norms({"a": [1.0, 1.0], "b": [1.0, 1e-8]})
    assert all(text.get_position()[0] > normplot.WIDTH for text in named(chart).values())


@given(st.lists(st.floats(0, 200), min_size=1, max_size=14))
@settings(max_examples=200, deadline=None)
def test_names_keep_their_distance_and_their_order(places):
    moved = normplot._apart(places, 14.0, 200.0)
    assert all(b - a > 13.999 for a, b in itertools.pairwise(sorted(moved)))
    assert min(moved) >= 0 and max(moved) <= 200.001
    for i, k in itertools.combinations(range(len(places)), 2):
        assert (places[i] - places[k]) * (moved[i] - moved[k]) >= 0


def test_names_that_are_apart_stay_where_they_are():
    assert normplot._apart([100.0, 10.0, 50.0], 14.0, 200.0) == [100.0, 10.0, 50.0]
    assert normplot._apart([100.0, 100.0], 14.0, 200.0) == [107.0, 93.0], "of equals, the first on top"


@pytest.mark.parametrize(
    "norms, error",
    [
        ({}, "norms must have at least one sequence of numbers, got an empty mapping"),
        ([], "norms must be (T,) with at least one step, got (0,)"),
        ({"a": []}, "norms['a'] must be (T,) with at least one step, got (0,)"),
        (np.ones((2, 2)), "norms must be (T,) with at least one step, got (2, 2)"),
        (1.0, "got ()"),
        ({"a": [1.0, -2.0]}, "norms['a'] must not be negative, got -2"),
        ({"a": "abc"}, "norms['a'] must be real numbers, got 'abc'"),
        ([1j], "norms must be real numbers"),
    ],
)
def test_what_cannot_be_norms_is_refused_in_one_line(norms, error):
    with pytest.raises(ValueError) as raised:
        gradient_norms(norms)
    message = str(raised.value)
    assert message.startswith("viz.gradient_norms: ") and error in message and "\n" not in message


def test_norms_may_be_tensors():
    expected = gradient_norms({"a": np.float32([0.5, 1])}).svg()
    assert gradient_norms({"a": tg.tensor(np.float32([0.5, 1]))}).svg() == expected
    assert gradient_norms({"a": [tg.tensor(np.float32(0.5)), tg.tensor(np.float32(1))]}).svg() == expected


# ---- both -----------------------------------------------------------------------------------------------------------

DRAW = {
    "alignment": lambda *path: alignment(np.eye(3), HOSTILE[:3], None, *path, title="a < b"),
    "heads": lambda *path: alignment(np.full((2, 3, 13), 0.9), HOSTILE[:1] * 13, None, *path),
    "norms": lambda *path: gradient_norms({"a": [0.0, 1.0], "b": [np.inf, 0.1]}, *path, title="a < b"),
}


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_nothing_outside_of_cells_is_black_or_white(draw):
    chart = draw()
    cells, texts = parts(chart)
    for text in texts:
        if any(inside(cell, text) for cell in cells):
            assert text[3] in (INK, "#ffffff")
        else:
            assert text[3] in {LINE, *normplot.LINES}, text
    svg = chart.svg()
    assert not re.search(r"(fill|stroke): ?(#000|#fff(fff)?\b|black|white)", re.sub(r"<text.*?</text>", "", svg))
    patch = ElementTree.fromstring(svg).find(f".//{SVG}g[@id='patch_1']/{SVG}path")
    assert style(patch, "fill") == "none", "a transparent page"


@pytest.mark.parametrize("name", ["heads", "norms"])
def test_the_file_is_what_its_suffix_says(name, tmp_path):
    for suffix, start in ((".svg", b"<?xml"), (".PNG", b"\x89PNG"), (".pdf", b"%PDF")):
        path = tmp_path / f"a{suffix}"
        chart = DRAW[name](path)
        first = path.read_bytes()
        assert first.startswith(start)
        chart.save(str(path))
        assert path.read_bytes() == first, "the same every time"
    assert len(list(tmp_path.iterdir())) == 3


def test_in_a_notebook_a_chart_shows_itself():
    chart = DRAW["norms"]()
    assert chart._repr_svg_() == chart.svg() == DRAW["norms"]().svg()


@pytest.mark.parametrize("draw", DRAW.values(), ids=DRAW)
def test_another_suffix_is_refused_and_leaves_nothing(draw, tmp_path):
    chart = draw()
    for name, save in itertools.product(["a.gif", "a", "a.svg.txt"], (draw, chart.save)):
        with pytest.raises(ValueError, match=r"^viz\.\w+: the file name must end in \.svg, \.png, \.pdf, got '"):
            save(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.svg"
    path.write_text("old")
    chart = DRAW["norms"]()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        chart.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.svg"] and path.read_text() == "old"


@pytest.mark.parametrize("name", DRAW)
def test_without_matplotlib_one_line_says_what_to_install(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    who = "gradient_norms" if name == "norms" else "alignment"
    with pytest.raises(RuntimeError) as raised:
        DRAW[name](tmp_path / "a.svg")
    assert str(raised.value) == f'viz.{who}: matplotlib is not installed; pip install "tinygrad-rnn[plot]"'
    assert not list(tmp_path.iterdir())


def test_the_users_settings_change_no_chart_and_are_not_changed():
    expected = [draw().svg() for draw in DRAW.values()]
    pyplot = "matplotlib.pyplot" in sys.modules
    mine = {"text.usetex": True, "svg.fonttype": "path", "text.color": "white", "font.size": 30, "axes.grid": True}
    with matplotlib.rc_context(mine):
        before = matplotlib.rcParams.copy()
        assert [draw().svg() for draw in DRAW.values()] == expected
        assert matplotlib.rcParams.copy() == before
    assert ("matplotlib.pyplot" in sys.modules) == pyplot
