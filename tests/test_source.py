"""Generated code says which lines of a cell it comes from, and a plan shows it."""

import importlib.util
import inspect
import linecache
import textwrap

import numpy as np
import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

needs_llvmlite = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
every_engine = pytest.mark.parametrize("engine", ["numpy", pytest.param("llvm", marks=needs_llvmlite)])
xs = np.ones((4, 2, 3), np.float32)


class Gated(nn.Cell):
    def __init__(self):
        self.W = nn.Parameter(np.eye(3, dtype=np.float32))

    def initial_state(self, batch):
        return tg.zeros(batch, 3)

    def forward(self, x, h):
        f = ops.sigmoid(x @ self.W)
        y = f * h + ops.tanh(
            x - h,
        )
        z = y * 1.25 + x * x + ops.maximum(x, 0.125) + ops.maximum(h, 0.125) + ops.maximum(y, 0.125)
        return z * 0.5, y


FIRST = inspect.getsourcelines(Gated.forward)[1]


def source(cell, engine):
    return nn.Recurrent(cell, engine=engine).plan(xs).source


@every_engine
@pytest.mark.parametrize(
    "said",
    [
        f"f * h, Gated.forward:{FIRST + 2}",
        f"x @ self.W, Gated.forward:{FIRST + 1}",
        f"ops.tanh( …, Gated.forward:{FIRST + 2}",
        f"y * 1.25 + x * x + ops.maximum(x, 0.125) + ops.maximum(h, 0. …, Gated.forward:{FIRST + 5}",
    ],
)
def test_generated_code_says_what_of_a_cell_it_computes(engine, said):
    lines = source(Gated(), engine).splitlines()
    assert any(line.endswith(f"{'#' if engine == 'numpy' else ';'} {said}") for line in lines)


@every_engine
def test_each_direction_has_a_text(engine):
    text = source(Gated(), engine)
    assert ("def forward(bound):" in text and "def backward(bound):" in text) == (engine == "numpy")
    assert ('define void @"forward"' in text and 'define void @"backward"' in text) == (engine == "llvm")


def test_numpy_s_functions_have_their_names():
    assert "multiply(" in source(Gated(), "numpy") and "matmul(" in source(Gated(), "numpy")


def test_what_runs_eagerly_has_no_text():
    assert source(Gated(), "eager") == ""


def made(code, name):
    """A cell from the text of its class, in a file of this name."""
    names = {"nn": nn, "ops": ops, "tg": tg, "np": np}
    exec(compile(code, name, "exec"), names)
    return names["Gated"]()


@every_engine
def test_where_the_file_is_not_there_the_function_and_the_line_are_said(engine):
    code = textwrap.dedent(inspect.getsource(Gated))
    text = source(made(code, "nowhere.py"), engine)
    assert f"{'#' if engine == 'numpy' else ';'} Gated.forward:10\n" in text
    assert "f * h" not in text


@needs_llvmlite
def test_cells_share_their_machine_code_wherever_they_are_written(monkeypatch):
    from tinygrad_rnn.compiler.llvm import machine

    code, texts = textwrap.dedent(inspect.getsource(Gated)), []
    for n, name in enumerate(("here.py", "there.py")):
        before = machine._compiled.cache_info().misses
        moved = "\n" * n + code
        monkeypatch.setitem(linecache.cache, name, (len(moved), None, moved.splitlines(True), name))
        texts.append(source(made(moved, name), "llvm"))
    assert "f * h, Gated.forward:10" in texts[0] and "f * h, Gated.forward:11" in texts[1]
    assert machine._compiled.cache_info().misses == before
