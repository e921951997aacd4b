"""A machine without fonts is offered those that matplotlib brings along; letters that no font has are warned of."""

import os
import shutil
import sys
import warnings

from pathlib import Path
from xml.etree import ElementTree

import pytest

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn
from viz.graphviz import fonts, render


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("FONTCONFIG_FILE", raising=False)
    monkeypatch.setattr(fonts.sys, "platform", "linux")
    monkeypatch.setattr(fonts, "_known", set())
    fonts._config.cache_clear()
    yield
    fonts._config.cache_clear()


def test_where_there_are_none_a_folder_with_fonts_is_named(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    with fonts.offered():
        config = ElementTree.parse(os.environ["FONTCONFIG_FILE"])
        assert (Path(config.findtext("dir")) / "DejaVuSans.ttf").is_file()
    assert "FONTCONFIG_FILE" not in os.environ


def test_where_there_are_some_nothing_changes(monkeypatch, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Some.TTF").touch()
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    with fonts.offered():
        assert "FONTCONFIG_FILE" not in os.environ


def test_a_configuration_of_ones_own_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("FONTCONFIG_FILE", "mine")
    with fonts.offered():
        assert os.environ["FONTCONFIG_FILE"] == "mine"


# ---- letters that no font has ---------------------------------------------------------------------------------------

FC_LIST = """#!{python}
import sys
codes = [int(code, 16) for code in sys.argv[1].removeprefix(":charset=").split()]
open({asked!r}, "a").write(" ".join(map(chr, codes)) + "\\n")
print("Last Resort High-Efficiency", "Some Sans" * all(code < 0x3000 for code in codes), sep="\\n")
sys.exit({fails})
"""


@pytest.fixture
def fontconfig(monkeypatch, tmp_path):
    """A program that knows a font with all letters below U+3000; what it was asked for stands in a file."""

    def install(fails=0):
        program = tmp_path / "fc-list"
        program.write_text(FC_LIST.format(python=sys.executable, asked=str(tmp_path / "asked"), fails=fails))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return tmp_path / "asked"

    return install


def told(call):
    """What is warned of in a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [(w.category, str(w.message), Path(w.filename).name) for w in found]


def drawing(*tokens, **more):
    h, loss = tg.zeros(1, 2), 0
    cell = nn.RNNCell(3, 2)
    for t in range(len(tokens)):
        with tg.scope(t):
            _, h = cell(tg.ones(1, 3), h)
            loss = loss + h.sum()
    return viz.draw(loss, view="cells", tokens=tokens, **more)


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_letters_that_no_font_has_are_named_in_one_line_and_once(suffix, fontconfig, tmp_path):
    fontconfig()
    picture = drawing("日本", "naïve →", title="語")
    ((kind, message, where),) = told(lambda: picture.save(tmp_path / f"a{suffix}"))
    assert (
        kind is UserWarning and message.startswith("viz.draw: no font here has 日 本 語: boxes") and "\n" not in message
    )
    assert where == "test_fonts.py", "it points at the line that draws"
    assert told(lambda: drawing("日", "本").save(tmp_path / f"b{suffix}")) == []
    ((_, message, _),) = told(lambda: viz.draw(tg.ones(1) * nn.Parameter([1.0]), tmp_path / f"c{suffix}", title="日中"))
    assert message.startswith("viz.draw: no font here has 中: boxes")


def test_an_svg_is_drawn_by_the_fonts_of_who_looks_at_it_and_is_never_warned_of(fontconfig, tmp_path):
    asked = fontconfig()
    picture = drawing("日本", title="語")
    assert told(lambda: [picture.svg(), picture.film(), picture.html(), picture.save(tmp_path / "a.svg")]) == []
    assert told(lambda: picture.save(tmp_path / "a.dot")) == [] and not asked.exists()


def test_fonts_are_asked_once_for_all_letters_where_one_has_them(fontconfig, tmp_path):
    asked = fontconfig()
    assert told(lambda: drawing("a", "né").save(tmp_path / "a.png")) == []
    (line,) = asked.read_text("utf-8").splitlines()
    assert {"a", "n", "é", "₀"} <= {*line.split()}
    told(lambda: drawing("a", "né").save(tmp_path / "a.png"))
    assert len(asked.read_text("utf-8").splitlines()) == 1


def test_of_many_letters_a_few_are_named(fontconfig):
    fontconfig()
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 20)))
    ((_, message, _),) = told(lambda: fonts.tell_of_boxes(text))
    assert f"has {' '.join(text[:12])} and 8 more: boxes" in message


def test_what_is_not_seen_needs_no_font(fontconfig):
    asked = fontconfig()
    assert told(lambda: fonts.tell_of_boxes("\u3000\ufe0f\U000e0101\u200d\u202e \n\t")) == [] and not asked.exists()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_where_fontconfig_does_not_answer_nothing_is_said(platform, fontconfig, monkeypatch):
    fontconfig(fails=1)
    assert told(lambda: fonts.tell_of_boxes("日")) == []
    fontconfig()
    monkeypatch.setattr(fonts, "_known", set())
    monkeypatch.setattr(fonts.sys, "platform", platform)
    assert told(lambda: fonts.tell_of_boxes("日")) == []


@pytest.fixture
def files(monkeypatch, tmp_path):
    """No program, and a folder with a font; its letters are read in the font itself."""
    pytest.importorskip("fontTools")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(fonts.shutil, "which", lambda _: None)
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    return tmp_path


def test_without_the_program_fonts_are_read(files):
    shutil.copy(fonts._folder_of_matplotlib() / "DejaVuSans.ttf", files / "a.ttf")
    (files / "b.ttf").write_bytes(b"no font")
    ((_, message, _),) = told(lambda: fonts.tell_of_boxes("é→ₜ₀日"))
    assert message.startswith("viz.draw: no font here has 日: boxes")


def test_fonts_that_are_offered_are_read_too(files):
    with fonts.offered():
        assert "FONTCONFIG_FILE" in os.environ and told(lambda: fonts.tell_of_boxes("é→ₜ₀")) == []
        ((_, message, _),) = told(lambda: fonts.tell_of_boxes("日"))
    assert "has 日: boxes" in message


def test_of_a_configuration_of_ones_own_nothing_is_known_without_the_program(files, monkeypatch):
    monkeypatch.setenv("FONTCONFIG_FILE", "mine")
    assert told(lambda: fonts.tell_of_boxes("日")) == []


def test_pictures_are_made_and_letters_told_of_also_by_graphviz_own_programs(fontconfig, monkeypatch):
    fontconfig()
    monkeypatch.setattr(render, "_program", lambda name: name)
    monkeypatch.setattr(render, "_with_programs", lambda source, form, engine: form.encode())
    source = 'digraph { a [label="日 \\"語\\"", tooltip="本"] }'
    assert told(lambda: render.render(source, "svg")) == []
    ((_, message, _),) = told(lambda: render.render(source, "png"))
    assert "has 日 語: boxes" in message
