"""Pictures for slides: their letters are legible, and as much is drawn as that leaves room for."""

import re
import warnings

import numpy as np
import pytest

import viz

from tinygrad_rnn import nn
from tinygrad_rnn.tasks import sketches
from viz.graphviz import render

make = lambda steps, layers=1, cell=nn.LSTMCell: sketches.predictor(cell, 4, steps, layers=layers)


def size_of(svg):
    """Width and height of an SVG, in points."""
    return tuple(float(n) for n in re.search(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', svg).groups())


def steps_of(drawing):
    return [block.title for block in drawing.picture.slots if not block.is_gap]


@pytest.mark.parametrize(("view", "steps", "layers"), [("ops", 4, 1), ("ops", 1000, 1), ("cells", 1000, 2)])
def test_letters_are_at_least_ten_points_high_on_a_slide(view, steps, layers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawing = viz.draw(make(steps, layers), view=view, width="slide")
    wide, high = size_of(drawing.svg())
    assert wide <= 13.34 * 72 + 1 and high <= 7.5 * 72 + 1
    left, _bottom, right, _top = drawing.layout.extent()
    assert 11 * wide / (right - left + 28.8) > 9.99
    more = viz.draw(make(steps, layers), view=view)
    assert 1 <= len(steps_of(drawing)) <= len(steps_of(more))


@pytest.mark.slow
def test_as_many_steps_are_drawn_as_there_is_room_for():
    drawn = [len(steps_of(viz.draw(make(1000), view="cells", width=wide))) for wide in (5, 8, 13, 200)]
    assert drawn == sorted(drawn)
    assert drawn[0] < drawn[-1] == 8
    fewer = viz.draw(make(1000), view="cells", width=8)
    wide = lambda n: viz.draw(make(1000), view="cells", steps=f"1-{n - n // 2},{1001 - n // 2}-1000").layout.extent()
    left, _, right, _ = wide(len(steps_of(fewer)) + 1)
    assert 11 * 8 * 72 / (right - left + 28.8) < 10  # one more would not fit


def test_steps_that_are_asked_for_are_drawn_and_a_warning_says_how_small_the_letters_are():
    with pytest.warns(UserWarning, match=r"on a page of 13.33 × 7.5 inches the letters are set in \d\.\d points"):
        drawing = viz.draw(make(8), steps="all", width="slide")
    assert len(steps_of(drawing)) == 8
    assert size_of(drawing.svg())[0] <= 961


def test_a_drawing_that_is_too_high_keeps_its_steps():
    with pytest.warns(UserWarning, match="less than 10"):
        drawing = viz.draw(make(100, layers=3), width="slide")
    assert len(steps_of(drawing)) > 1
    assert size_of(drawing.svg())[1] <= 541


def test_a_small_drawing_stays_as_it_is(tmp_path):
    plain, slide = (viz.draw(make(2), view="cells", width=w) for w in (None, "slide"))
    assert size_of(plain.svg()) == size_of(slide.svg())
    with pytest.warns(UserWarning, match="less than 10"):
        wide = viz.draw(make(8), view="cells", width=4, steps="1-3")
    wide.save(tmp_path / "a.png", dpi=100)
    raw = (tmp_path / "a.png").read_bytes()
    assert abs(int.from_bytes(raw[16:20], "big") - 400) <= 2


@pytest.mark.parametrize("title", [None, "a title", "a title that is longer than the drawing is wide " * 4])
@pytest.mark.parametrize("points", [5.5, 11, 24])
def test_all_grows_with_the_letters(tmp_path, title, points):
    plain, drawn = (viz.draw(nn.GRUCell(3, 4), title=title, font_size=size) for size in (None, points))
    grown = [b / a for a, b in zip(size_of(plain.svg()), size_of(drawn.svg()), strict=True)]
    assert grown == pytest.approx([points / 11] * 2, rel=0.01)
    for name, drawing in ("plain", plain), ("drawn", drawn):
        drawing.save(tmp_path / f"{name}.png", dpi=72)
    wide = [int.from_bytes((tmp_path / f"{name}.png").read_bytes()[16:20], "big") for name in ("plain", "drawn")]
    assert wide[1] / wide[0] == pytest.approx(points / 11, rel=0.01)


def test_films_grow_too(tmp_path):
    pytest.importorskip("imageio")
    plain, drawn, fitted = (viz.draw(make(2), view="cells", **o) for o in ({}, {"font_size": 22}, {"width": 5}))
    wide = [size_of(d.film()) for d in (plain, drawn)]
    assert [b / a for a, b in zip(*wide, strict=True)] == pytest.approx([2, 2], rel=0.01)
    assert size_of(fitted.film())[0] <= 5 * 72 + 1
    for name, d in ("a", plain), ("b", drawn):
        d.save(tmp_path / f"{name}.gif", dpi=40)
    sizes = [int.from_bytes((tmp_path / f"{name}.gif").read_bytes()[6:8], "little") for name in "ab"]
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.02)


def test_a_title_needs_no_graphviz_where_the_source_is_written(tmp_path, monkeypatch):
    drawing = viz.draw(make(2), view="cells", width="slide", title="a title")
    assert drawing.scales()[0] > 0
    monkeypatch.setattr(render, "_program", lambda name: None)
    monkeypatch.setattr(render, "_pygraphviz", lambda: None)
    for options in {"width": "slide"}, {"font_size": 14}:
        drawing = viz.draw(sketches.attention(nn.GRUCell, 4, 3, 3), view="attention", title="a title", **options)
        drawing.save(tmp_path / "a.dot")
        assert "a title" in (tmp_path / "a.dot").read_text("utf-8")


def test_a_title_is_part_of_what_has_to_fit():
    with pytest.warns(UserWarning, match="less than 10"):
        drawing = viz.draw(make(2), view="cells", width=8, title="a title that is longer than the drawing is wide " * 4)
    assert size_of(drawing.svg())[0] <= 8 * 72 + 1


@pytest.mark.parametrize("number", [np.int64(10), np.float32(10), 10.0])
def test_numbers_of_numpy_are_numbers(number):
    assert viz.draw(make(2), font_size=number).zoom == pytest.approx(10 / 11)
    assert viz.draw(make(2), view="cells", width=number).size[0] == 10


@pytest.mark.parametrize("size", [0, -3, 1000, float("nan"), "11", True])
def test_letters_of_no_size_are_refused(size):
    with pytest.raises(ValueError, match="font_size must be points, from 1 to 200, got"):
        viz.draw(make(2), font_size=size)


def test_either_the_width_or_the_letters_are_given():
    with pytest.raises(ValueError, match="width decides how large letters are, leave font_size out"):
        viz.draw(make(2), font_size=10, width="slide")


@pytest.mark.parametrize("width", ["page", 0, -3, 1000, float("nan"), "13"])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(ValueError, match='width must be "slide" or inches, from 0 to 200, got'):
        viz.draw(make(2), width=width)


def test_a_pdf_has_its_fonts_with_it_so_that_latex_can_include_it(tmp_path):
    viz.draw(nn.GRUCell(3, 4), tmp_path / "a.pdf", view="textbook")
    raw = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile" in raw
    assert b"/Type3" not in raw
