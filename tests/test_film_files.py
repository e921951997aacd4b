"""A drawing that plays as an animated GIF and as an MP4."""

import re
import subprocess
import sys

from itertools import pairwise

import numpy as np
import pytest

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks import sketches
from viz.graphviz import render
from viz.play.svg import readouts
from viz.write import moment_dot, placed_dot

Image = pytest.importorskip("PIL.Image")
from viz.play import frames, movie  # noqa: E402 (they need Pillow)

if not render.available():
    pytest.skip("nothing here draws graphs", allow_module_level=True)

T = 3
RED = (192, 57, 43)
VIEWS = {
    "ops": {},
    "cells": {"view": "cells", "title": "An LSTM"},
    "downward": {"view": "cells", "direction": "down"},
    "gradient": {"gradient": True},
    "unfolded": {"view": "circuit", "depth": 1, "unfold": True},
    "elided": {"view": "cells", "steps": [1, 3]},
}


def network(**options):
    return viz.draw(sketches.predictor(nn.LSTMCell, hidden=4, steps=T), **options)


def attention():
    return viz.draw(sketches.attention(nn.GRUCell, 4, 3, 2), view="attention")


def film_of(drawing, folder):
    """The film's frames before they become a file."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movie, "write", lambda path, film: kept.append(film) or path.touch())
        drawing.save(folder / "film.gif")
    return kept[0]


def played(path):
    """A GIF's frames as arrays, and what it says of each."""
    with Image.open(path) as image:
        found = []
        for k in range(image.n_frames):
            image.seek(k)
            found.append((np.asarray(image.convert("RGB")).astype(int), dict(image.info)))
    pixels, infos = zip(*found, strict=True)
    return np.stack(pixels), infos


@pytest.fixture(scope="module")
def gif(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "play.gif"
    network(view="cells").save(path)
    return path


def near(pixels, colour, most=40):
    return (np.abs(pixels - np.array(colour)).max(-1) <= most).sum((1, 2))


# ---- GIF ------------------------------------------------------------------------------------------------------------


def test_a_gif_has_a_frame_for_each_position_and_plays_for_ever(gif):
    pixels, infos = played(gif)
    n = len(network(view="cells").moments)
    assert n == T + 1 and len(pixels) == 2 * n + 1
    assert [info["duration"] for info in infos] == [900] * 2 * n + [2500]
    assert infos[0]["loop"] == 0
    assert pixels.shape[1] % 2 == pixels.shape[2] % 2 == 0


def test_what_has_come_is_there_and_what_comes_later_is_a_ghost(gif):
    pixels, _ = played(gif)
    n, width = T + 1, pixels.shape[2]
    drawing_ = pixels[:, : pixels.shape[1] - 45]  # without the caption
    dark = (drawing_.min(-1) < 150).sum((1, 2))
    assert all(a < b for a, b in pairwise(dark[:n])), dark
    assert dark[0] < 0.6 * dark[-1]
    right = drawing_[:, :, int(0.8 * width) :]  # the last step
    assert [bool(frame.min() < 150) for frame in right[:n]] == [False] * (T - 1) + [True, True]
    assert (right[0].min(-1) < 250).any()


def test_the_way_back_is_red_and_comes_from_the_end(gif):
    pixels, _ = played(gif)
    n = T + 1
    red = near(pixels[:, : pixels.shape[1] - 45], RED)
    assert all(a < b for a, b in pairwise(red[n:-1])), red
    assert red[-1] > 0.95 * red[-2]  # without the glow
    captions = near(pixels[:, pixels.shape[1] - 45 :], RED)
    assert (captions[:n] == 0).all() and (captions[n:] > 0).all()


def test_nothing_moves(tmp_path):
    film = film_of(network(view="cells"), tmp_path)
    ink = [np.asarray(frame)[: film.size[1] - 45].max(-1) < 70 for frame in film]
    for early, late in pairwise(ink):
        assert (early <= late).all()
    assert (ink[T] == ink[-1]).all() and ink[-1].sum() > 200


def test_all_frames_of_a_gif_have_one_palette_and_flat_colours_are_exact(gif, tmp_path):
    raw = gif.read_bytes()
    assert raw[10] & 0x80  # a palette for all
    pixels, _ = played(gif)
    exact = np.stack([np.asarray(frame) for frame in film_of(network(view="cells"), tmp_path)]).astype(int)
    assert len(np.unique(pixels @ [1 << 16, 1 << 8, 1])) <= 256
    off = np.abs(pixels - exact).max(-1)
    assert off.max() <= 24 and off.mean() < 0.5
    for colour in ((255, 255, 255), (216, 239, 214), (250, 215, 211), RED):  # paper, a cell, a loss, its line
        there = (exact == np.array(colour)).all(-1)
        assert there.any() and (off[there] == 0).all()


def test_a_gif_keeps_of_each_frame_what_is_new(gif, tmp_path):
    film = film_of(network(view="cells"), tmp_path)
    still = len(film) * len(movie.gif(_One(film)))
    assert gif.stat().st_size < 0.7 * still


class _One:
    """A film's last frame alone."""

    def __init__(self, film):
        self.last = list(film)[-1]

    def __len__(self):
        return 1

    def __iter__(self):
        return iter([self.last])


@pytest.mark.parametrize("name", [*VIEWS, "attention", "no time"])
def test_every_view_plays_and_nothing_is_cut_off(tmp_path, name):
    if name == "no time":
        drawing = viz.draw(nn.Linear(2, 3)(tg.zeros(4, 2)).sum())
    else:
        drawing = attention() if name == "attention" else network(**VIEWS[name])
    drawing.save(tmp_path / "x.GIF")
    pixels, _ = played(tmp_path / "x.GIF")
    assert len(pixels) == 2 * len(drawing.moments) + 1
    edge = np.concatenate([pixels[:, :2].ravel(), pixels[:, -2:].ravel(), pixels[:, :, :2].ravel()])
    assert (edge == 255).all() and (pixels[:, :, -2:] == 255).all()
    assert (pixels[-1].min(-1) < 150).sum() > 500


# ---- what is drawn of each moment -----------------------------------------------------------------------------------


def test_a_film_goes_through_the_positions_that_the_page_goes_through():
    forward, back, end = ([frames.look(m, position, 3) for m in range(4)] for position in (2, 5, 7))
    assert [look.opacity for look in forward] == [1, 1, 1, frames.GHOST]
    assert [look.glow for look in forward] == ["", "", frames.AMBER, ""]
    assert [look.reached for look in back] == [False, False, True, True]
    assert [look.glow != "" for look in back] == [False, False, True, False]
    assert back[2].roles == {"weight", "only"} and forward[2].roles == end[1].roles == {"weight"}
    assert [look.reached for look in end] == [False, True, True, True]
    assert {look.opacity for look in [*back, *end]} == {1.0}


@pytest.mark.parametrize("name", [*VIEWS, "attention"])
def test_every_statement_of_a_drawing_is_understood(name):
    drawing = attention() if name == "attention" else network(**VIEWS[name])
    dot = placed_dot.dot(drawing.layout, r'a "title" [color="red"]; \N // t9')
    statements = [line for line in dot.splitlines() if line.startswith('  "')]
    assert all(map(moment_dot._parts, statements))
    found = moment_dot.moments(dot)
    assert set(found) == set(range(len(drawing.moments) + 1))
    assert any("weight" in roles for roles in found.values()) == (name == "attention")
    shown = [moment_dot.at(dot, moment, roles, False).splitlines() for moment, roles in found.items()]
    hidden = [[line for line in lines if 'style="invis"' in line] for lines in shown]
    invisible = sum('style="invis"' in line for line in statements)
    assert sum(len(lines) - invisible for lines in hidden) == (len(shown) - 1) * (len(statements) - invisible)


DOT = """digraph {
  "a" [color="#3a8a3f", class="t1"];
  "b" [label="b", class="t2 forward", color="#3a8a3f"];
  "a" -> "b" [pos="e,40.00,0.00 0.00,0.00 10.00,0.00 20.00,0.00 34.00,0.00", color="#3a8a3f80", class="t2 state"];
  "a" -> "b" [pos="e,40.00,0.00 0.00,0.00 10.00,0.00 20.00,0.00 34.00,0.00", class="t2 weight"];
  "c" [class="b2"];
}"""


def test_on_the_way_back_lines_are_red_and_arrows_at_their_other_ends():
    assert moment_dot.moments(DOT) == {0: set(), 1: set(), 2: {"weight", "only"}}
    a, b, state, weight, c = moment_dot.at(DOT, 2, {"weight"}, True).splitlines()[1:-1]
    assert 'style="invis"' in a and 'style="invis"' in c
    assert b == DOT.splitlines()[2]  # no gradient comes there
    assert 'color="#c0392b80"' in state and 'style="dashed"' in state
    line, arrow = re.search('pos="(.*)"', state.split(", color")[0])[1].split(";")
    assert line.startswith("0.00,0.00 ") and line.endswith(" 40.00,0.00")
    assert arrow == "e,0.00,0.00" + 4 * " 6.00,0.00"
    assert "e,40.00,0.00" in weight and 'color="#c0392b"' in weight
    assert moment_dot.at(DOT, 2, set(), False).count("invis") == 3


def test_weights_of_attention_are_there_at_their_own_moment_and_in_the_end(tmp_path):
    drawing = attention()
    source = placed_dot.dot(drawing.layout)
    film = film_of(drawing, tmp_path)
    (first, second) = (m for m, roles in moment_dot.moments(source).items() if "weight" in roles)
    shown = {p: {m for m in (first, second) if "weight" in frames.look(m, p, len(film) // 2).roles} for p in (1, first)}
    assert shown == {1: set(), first: {first}}
    pixels = np.stack([np.asarray(frame) for frame in film]).astype(int)
    assert (pixels[second - 1] != pixels[second]).any()


def test_a_caption_wider_than_the_drawing_has_room(tmp_path):
    drawing = network(view="cells")
    drawing.picture.moments[0] = "a very long name of a moment, " * 6
    drawing.save(tmp_path / "wide.gif")
    pixels, _ = played(tmp_path / "wide.gif")
    assert (pixels[:, :, :1] == 255).all() and (pixels[:, :, -1:] == 255).all()
    assert pixels.shape[2] > 1000


def test_captions_say_what_the_film_says():
    said = readouts(["t = 1", 'a "b" \\N'], True)[1:]
    assert len(said) == 5
    dots = [moment_dot.caption(text, 110, back=i >= 2) for i, text in enumerate(said)]
    svgs = [render.render(dot, "svg").decode() for dot in dots]
    assert all(text.split("·")[1].strip()[:3] in svg for text, svg in zip(said[::2], svgs[::2], strict=True))
    assert ["#c0392b" in svg for svg in svgs] == [False, False, True, True, True]


# ---- sizes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dpi", [40, 41, 72, 73.5, 110])
def test_sizes_are_even_and_follow_the_resolution(tmp_path, dpi):
    drawing = network(view="cells")
    drawing.save(tmp_path / "x.gif", dpi=dpi)
    drawing.save(tmp_path / "x.png", dpi=dpi)
    with Image.open(tmp_path / "x.gif") as film, Image.open(tmp_path / "x.png") as still:
        assert film.width % 2 == film.height % 2 == 0
        assert 0 <= film.width - still.width <= 1
        assert 0 <= film.height - still.height - round(28 * dpi / 72) <= 1


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_that_is_too_large_is_refused_before_it_is_drawn(tmp_path, monkeypatch, suffix):
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg")
    drawing = network()
    assert drawing.layout
    monkeypatch.setattr(render, "render", None)
    line = r"viz: a film of 9 frames of \d+ × \d+ pixels is too large; lower dpi, or draw fewer steps"
    with pytest.raises(ValueError, match=f"^{line}$"):
        drawing.save(tmp_path / f"x{suffix}", dpi=1200)
    with pytest.raises(ValueError, match=r"^viz: dpi must be from 1 to 2400, got 0$"):
        drawing.save(tmp_path / f"x{suffix}", dpi=0)
    assert list(tmp_path.iterdir()) == []


# ---- MP4 ------------------------------------------------------------------------------------------------------------


def decoded(path):
    """What ffmpeg says of a film, and its frames."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run([ffmpeg, "-i", str(path), *raw], capture_output=True, check=True, stdin=subprocess.DEVNULL)
    said = done.stderr.decode()
    width, height = map(int, re.search(r"Video: .*?(\d{2,})x(\d{2,})", said).groups())
    return said, np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3).astype(int)


@pytest.mark.slow
def test_an_mp4_is_read_back_with_all_its_frames(gif, tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "a:film %d.mp4"
    network(view="cells").save(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    pixels, infos = played(gif)
    said, shown = decoded(path)
    assert shown.shape[1:] == pixels.shape[1:]
    assert re.search(r"Video: h264 .* yuv420p\(tv, bt709.* 10 fps", said)
    repeats = [info["duration"] // 100 for info in infos]
    assert len(shown) == sum(repeats)
    for k, first in enumerate(np.cumsum([0, *repeats[:-1]])):
        for frame in (shown[first], shown[first + repeats[k] - 1]):
            assert np.abs(frame - pixels[k]).mean() < 1.5, k
            others = [np.abs(frame - other).mean() for other in pixels]
            assert int(np.argmin(others)) == k


def test_an_mp4_of_an_odd_drawing_is_even(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    sizes = set()
    for dpi in (40, 41, 43):
        network(view="cells").save(tmp_path / "x.png", dpi=dpi)
        network(view="cells").save(tmp_path / "x.mp4", dpi=dpi)
        with Image.open(tmp_path / "x.png") as still:
            sizes.add(still.width % 2)
        _, shown = decoded(tmp_path / "x.mp4")
        assert shown.shape[1] % 2 == shown.shape[2] % 2 == 0
    assert sizes == {0, 1}


# ---- the command line, and what may be missing ----------------------------------------------------------------------


def test_the_command_line_writes_a_gif(tmp_path):
    run = ["draw", "--cell", "gru", "--steps", "2", "--view", "cells"]
    assert main([*run, "--out", str(tmp_path / "a.gif")]) == 0
    assert main([*run, "--play", "--out", str(tmp_path / "b.gif")]) == 0
    a, b = ((tmp_path / name).read_bytes() for name in ("a.gif", "b.gif"))
    assert a == b and a.startswith(b"GIF89a")


MISSING = [(".gif", "PIL", "pillow"), (".mp4", "PIL", "pillow"), (".mp4", "imageio", "imageio")]
MISSING += [(".mp4", "imageio_ffmpeg", "imageio-ffmpeg")]


def without(monkeypatch, module):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(("suffix", "module", "package"), MISSING)
def test_a_missing_package_is_named_in_one_line_and_nothing_is_left_behind(
    tmp_path, monkeypatch, capsys, suffix, module, package
):
    if package == "imageio":
        pytest.importorskip("imageio_ffmpeg")
    without(monkeypatch, module)
    monkeypatch.setitem(sys.modules, module, None)
    line = f'viz.draw: {package} is not installed; pip install "tinygrad-rnn[film]"'
    with pytest.raises(RuntimeError, match=f"^{re.escape(line)}$"):
        network(view="cells").save(tmp_path / f"x{suffix}")
    assert main(["draw", "--steps", "2", "--out", str(tmp_path / f"x{suffix}")]) == 2
    assert capsys.readouterr().err == f"tinygrad-rnn: {line}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_cannot_be_loaded_is_named_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "imageio_ffmpeg.py").write_text("raise OSError('lib.so:\\n no such file')\n")
    without(monkeypatch, "imageio_ffmpeg")
    monkeypatch.syspath_prepend(str(tmp_path))
    line = "viz.draw: imageio-ffmpeg cannot be loaded (lib.so: no such file); install it anew"
    with pytest.raises(RuntimeError, match=f"^{re.escape(line)}$"):
        network(view="cells").save(tmp_path / "x.mp4")
    assert not (tmp_path / "x.mp4").exists()


def test_a_film_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "x.gif"
    path.write_bytes(b"old")
    monkeypatch.setattr(movie, "gif", lambda film: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        network(view="cells").save(path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.gif"]
