"""What the package promises to those who import it."""

import ast
import subprocess
import sys

from pathlib import Path

import pytest

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "tinygrad_rnn").rglob("*.py"), *(ROOT / "viz").rglob("*.py")])


@pytest.mark.parametrize("module", [tg, nn, ops], ids=lambda m: m.__name__)
def test_all_names_exist_and_are_documented(module):
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert (getattr(module, name).__doc__ or "").strip(), f"{module.__name__}.{name} has no docstring"


def test_what_the_design_promises_is_there():
    assert {"tensor", "set_default_device", "device", "no_grad", "grad", "gradcheck", "primitive"} <= set(tg.__all__)
    cells = {"Cell", "RNNCell", "LSTMCell", "GRUCell", "Recurrent", "Stack"}
    assert cells | {"Module", "Parameter", "Linear", "Embedding", "LayerNorm", "Dropout"} <= set(nn.__all__)


def test_importing_brings_no_heavy_library():
    code = "import sys, tinygrad_rnn, viz; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"cupy", "torch", "matplotlib", "graphviz", "pygraphviz", "tqdm", "safetensors", "argparse", "pydoc_data"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_stay_readable(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            assert node.end_lineno - node.lineno - doc < 45, f"{node.name} does not fit on a screen"
