"""Every example runs, and a cell of one's own trains from the command line."""

import importlib.util
import re
import sys

from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.cli.main import main

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def load(path):
    sys.path.insert(0, str(path.parent))  # as when it is run
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 80
    assert lines[0].startswith('"""')


def test_the_custom_cell_learns_to_add_and_is_drawn(tmp_path, capsys):
    loss = load(ROOT / "examples/custom_cell.py").main(steps=300, out=tmp_path / "mgu.svg")
    assert loss < 0.05  # always saying 1 gives 1/6
    svg = (tmp_path / "mgu.svg").read_text()
    assert "t = 4" in svg
    assert "mean squared error" in capsys.readouterr().out


def test_a_convolutional_lstm_foretells_bars(capsys):
    wrong, still = load(ROOT / "examples/conv_lstm.py").main(steps=60, hidden=8)
    assert wrong < 0.8 * still
    assert "if nothing moved" in capsys.readouterr().out


@pytest.mark.slow
def test_the_gallery_shows_every_view_of_every_network(tmp_path):
    pytest.importorskip("matplotlib")
    load(ROOT / "examples/gallery.py").main(tmp_path, steps=2)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    shown = set(re.findall(r'src="([^"]+)"', page))
    assert shown == {path.name for path in tmp_path.iterdir()} - {"index.html"}
    for name in shown:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert ("<svg" in text) and len(text) > 3000, name


def test_attention_learns_to_write_backwards(tmp_path, capsys):
    weights = load(ROOT / "examples/attention.py").main(steps=90, folder=tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[1].split()[2]) < 1.5  # nats a letter; 3.26 for guessing
    assert weights.shape == (7, 7) and np.allclose(weights.sum(1), 1, atol=1e-5)


def test_a_decoder_that_is_taught_and_one_left_to_itself_are_two_pictures(tmp_path, capsys):
    example = load(ROOT / "examples/teacher_forcing.py")
    example.main(tmp_path)
    taught, free = capsys.readouterr().out.splitlines()
    assert taught.startswith("taught: n ") and free.startswith("free: n ") and len(free.split()) == 6
    feedback = lambda name: (tmp_path / f"{name}.svg").read_text().count("stroke-dasharray")
    said = 5  # a dashed line to each letter that is said
    assert (feedback("taught"), feedback("free")) == (said, said + 4)


def test_the_custom_cell_is_under_twenty_lines():
    lines = (ROOT / "examples/custom_cell.py").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("class MGU"))
    end = next(i for i, line in enumerate(lines) if line.startswith("class Adder"))
    assert len([line for line in lines[start:end] if line.strip()]) < 20


def test_the_custom_cell_trains_on_text_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "text").write_text("to be, or not to be.\n" * 60)
    options = ["--hidden", "24", "--embed", "8", "--batch", "4", "--steps", "16", "--epochs", "3", "--lr", "0.02"]
    run = ["train", "lm", "--cell", "examples.custom_cell:MGU", "--text", str(tmp_path / "text")]
    assert main([*run, "--out", str(tmp_path / "run"), *options]) == 0
    assert main(["sample", str(tmp_path / "run"), "--prompt", "to be", "--length", "20"]) == 0
    row = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[-1].split(",")
    assert float(row[4]) < 1.0  # nats per character, held out


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "examples.custom_cell:MGU"])
@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".dot"])
def test_every_cell_is_drawn_in_every_format(tmp_path, monkeypatch, cell, suffix):
    monkeypatch.chdir(ROOT)
    path = tmp_path / f"picture{suffix}"
    assert main(["draw", "--cell", cell, "--steps", "3", "--layers", "2", "--out", str(path)]) == 0
    start = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"digraph"}[suffix]
    assert path.read_bytes().startswith(start)


VIEWS = [
    ["--view", "cells", "--layers", "2", "--show", "1-2,5"],
    ["--view", "cells", "--bidirectional", "--layers", "2", "--direction", "down"],
    ["--view", "cells", "--gradient", "--all-steps"],
    ["--view", "circuit", "--unfold", "--depth", "1"],
    ["--view", "attention", "--title", "<b>"],
    ["--shapes", "--values", "--no-parameters", "--no-colors"],
]


@pytest.mark.parametrize("options", VIEWS, ids=" ".join)
def test_every_view_is_drawn_by_the_command_line(tmp_path, options):
    for name, more in (("plain.svg", []), ("film.svg", ["--play"]), ("page.html", [])):
        assert main(["draw", "--cell", "gru", "--steps", "5", *options, *more, "--out", str(tmp_path / name)]) == 0
    plain, film, page = [(tmp_path / name).read_text() for name in ("plain.svg", "film.svg", "page.html")]
    assert "@keyframes" in film and "@keyframes" not in plain
    assert "<input" in page and page.startswith("<!doctype html>")


def test_a_picture_of_no_known_format_is_refused(tmp_path, capsys):
    assert main(["draw", "--out", str(tmp_path / "picture.bmp")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["draw", "--out", str(tmp_path / "nowhere" / "picture.svg")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert main(["draw", "--steps", "0", "--out", str(tmp_path / "picture.svg")]) == 2
    assert "--steps: must be at least 1" in capsys.readouterr().err


def test_the_cell_in_the_readme_runs_as_it_stands(tmp_path, monkeypatch):
    blocks = [part.split("```")[0] for part in (ROOT / "README.md").read_text().split("```python\n")[1:]]
    names = {}
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block, names)
    assert np.abs(names["rnn"].cell.W.grad.numpy()).max() > 0
    assert (tmp_path / "mgu.svg").exists()


def test_the_figures_of_a_lecture_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    load(ROOT / "examples/lecture.py").main(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    shown = re.findall(r'src="([^"]+)"', page)
    assert len(shown) == 25 == page.count("<p>")
    assert {*shown} == {path.name for path in tmp_path.iterdir()} - {"index.html"}
    text = {name: (tmp_path / name).read_text(encoding="utf-8") for name in shown}
    assert all(len(svg) > 2000 and "<svg" in svg for svg in text.values())
    assert "hₜ = oₜ ⊙ tanh(cₜ)" in text["lstm.svg"].replace("\xa0", " ").replace("&#160;", " ")
    assert ">&lt;/s&gt;<" in text["translation.svg"]
