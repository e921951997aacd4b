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


@pytest.mark.parametrize("name", ["data", "decode", "export", "metrics", "torch_weights"])
def test_a_module_is_there_without_an_import_of_its_own(name):
    code = (
        f"import sys, tinygrad_rnn as tg; n = 'tinygrad_rnn.{name}'; print(n in sys.modules, tg.{name}.__name__ == n)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"] and name in dir(tg)


@pytest.mark.parametrize("option", ["-O", "-OO"])
def test_it_is_imported_without_docstrings_and_assertions(option):
    code = "import numpy, tinygrad_rnn as tg, viz; print(tg.nn.LSTM(2, 3)(tg.zeros(4, 1, 2))[0].tanh().shape)"
    done = subprocess.run([sys.executable, option, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(4, 1, 3)\n"


def test_viz_has_a_second_door():
    code = "import sys, tinygrad_rnn as tg; print('viz' in sys.modules, tg.viz is __import__('viz'), tg.viz.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "viz"]
    assert "viz" in dir(tg) and "viz" not in tg.__all__, "import * takes no name of another package"


def test_viz_has_nothing_but_imports_at_its_top():
    tree = ast.parse((ROOT / "viz" / "__init__.py").read_text())
    assert {type(part) for part in tree.body[1:]} == {ast.ImportFrom, ast.Assign} and ast.get_docstring(tree)


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'tinygrad_rnn' has no attribute 'lstm'$"):
        tg.lstm  # noqa: B018


TYPED = """
import tinygrad_rnn as tg
from tinygrad_rnn import decode, nn, ops, optim

class Leaky(nn.Cell):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.U = nn.Parameter(nn.init.xavier_uniform((input_size, hidden_size)))

    def initial_state(self, batch_size: int) -> tg.Tensor:
        return self.zeros(batch_size, self.hidden_size)

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        h = 0.9 * h + ops.tanh(x @ self.U)
        return h, h

rnn = nn.Recurrent(Leaky(2, 3))
ys, h = rnn(tg.zeros(5, 1, 2))
layer = nn.LSTM(2, 3, bidirectional=True)
tg.viz.draw(layer, view="cells").svg().strip()
print(layer.plan(tg.zeros(5, 1, 2)).nbytes, tg.metrics, tg.__version__, decode.sample)
optim.Adam(rnn.parameters(), lr=0.01).step()
output: tg.Tensor = nn.Linear(3, 1)(ys)
number: float = output.sum().item()
tg.no_such_thing
nn.Linear(3, 1)("ys")
nn.LSTM(2, 3, bidirectional="yes")
"""


@pytest.mark.slow
def test_types_are_told_to_a_type_checker(tmp_path):
    """The package says that it is typed, and no line of those who use it is refused, be they strict."""
    assert all((ROOT / package / "py.typed").exists() for package in ("tinygrad_rnn", "viz"))
    (tmp_path / "typed.py").write_text(TYPED)
    strict = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    wrong_lines = ["no_such_thing", '"str"; expected "Tensor"', '"bidirectional"']
    for file, wrong in ("examples/custom_cell.py", []), (str(tmp_path / "typed.py"), wrong_lines):
        done = subprocess.run([*strict, file], cwd=ROOT, capture_output=True, text=True, check=False)
        found = [line for line in done.stdout.splitlines() if "error:" in line]
        assert len(found) == len(wrong) and all(part in line for part, line in zip(wrong, found, strict=True)), found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_functions_stay_readable(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
            assert node.end_lineno - node.lineno - doc < 45, f"{node.name} does not fit on a screen"
