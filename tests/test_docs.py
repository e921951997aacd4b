"""The pages for those who carry on: what they name is there, what they show is what the code does."""

import functools
import importlib
import importlib.util
import re
import sys

from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import decode, nn, optim
from tinygrad_rnn.autograd import blas

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("CONTRIBUTING.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "course").glob("*.md")])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
INSIDE = [ROOT, ROOT / "docs", ROOT / "tinygrad_rnn", ROOT / "tests"]  # where a path in a page may begin
ROOTS = {"tg": tg, "nn": nn, "ops": tg.ops, "optim": optim, "decode": decode, "viz": viz, "tinygrad_rnn": tg}
ROOTS |= {
    "export": tg.export,
    "parallel": tg.parallel,
    "world": tg.parallel.World,
    "tasks": importlib.import_module("tinygrad_rnn.tasks"),
}


@functools.cache
def script(name):
    """A script of the folder docs, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(page):
    """The text of a page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def words(page):
    """What stands in backquotes in the text of a page."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def found(path):
    return [folder / path for folder in INSIDE if (folder / path).exists()]


def resolved(dotted):
    """The object of a dotted name; AttributeError or ImportError if there is none."""
    first, *rest = dotted.split(".")
    thing, name = ROOTS[first], ROOTS[first].__name__
    for part in rest:
        name = f"{name}.{part}"
        thing = getattr(thing, part) if hasattr(thing, part) else importlib.import_module(name)
    return thing


# ---- names ----------------------------------------------------------------------------------------------------------


@every_page
def test_every_file_that_a_page_mentions_is_there(page):
    paths = [w for w in words(page) if re.fullmatch(r"([\w.-]+/)*[\w-]+\.(py|md|toml)|([\w.]+/)+([\w.]+\.svg)?", w)]
    assert [p for p in paths if not found(p)] == []


@every_page
def test_every_name_that_a_page_mentions_is_there(page):
    dotted = [re.match(rf"({'|'.join(ROOTS)})(\.\w+)+(?=$|\(|\[)", w) for w in words(page)]
    names = [m[0] for m in dotted if m and not m[0].endswith((".py", ".md"))]
    for name in names:
        resolved(name)


@every_page
def test_every_link_of_a_page_leads_somewhere(page):
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", prose(page)) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []


@every_page
def test_every_make_target_of_a_page_is_in_the_makefile(page):
    known = re.findall(r"^(\w+)(?::| *\?=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [re.sub("=.*", "", part) for w in words(page) if w.startswith("make ") for part in w.split()[1:]]
    assert set(named) <= set(known)


def test_the_tests_of_make_quick_are_there():
    names = re.search(r"tests/test_,([\w ]+)\)", (ROOT / "Makefile").read_text())[1].split()
    assert [n for n in names if not (ROOT / "tests" / f"test_{n}.py").exists()] == []


# ---- architecture.md ------------------------------------------------------------------------------------------------


def test_the_picture_shows_the_imports_as_they_are():
    titles = re.findall(r"<title>(\S+?)&#45;&gt;(\S+?)</title>", (ROOT / "docs" / "architecture.svg").read_text())
    made = script("architecture")
    assert {*titles} == {*made.essential(made.imports())}, "python docs/architecture.py"


def test_the_table_of_folders_says_what_their_docstrings_say():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert script("architecture").with_folders(page) == page, "python docs/architecture.py"


def walk(title):
    """The steps of a walk: (file, function or "")."""
    section = (ROOT / "docs" / "architecture.md").read_text().split(f"## {title}\n")[1].split("\n## ")[0]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`(?: `([\w.]+)`)?", section, re.MULTILINE)
    assert len(steps) == len(re.findall(r"^\d+\. ", section, re.MULTILINE)) > 0
    return steps


def calls(run):
    """(file, function) of each call of ours, in order."""
    seen = []
    start = f"{ROOT}/"

    def look(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(start) and code.co_name != "<module>":
            seen.append((code.co_filename[len(start) :].removeprefix("tinygrad_rnn/"), code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        run()
    finally:
        sys.setprofile(before)
    return seen


def missing(steps, seen):
    """The steps of a walk that are not taken in this order."""
    rest, lost = iter(seen), []
    for file, function in steps:
        if not any(f == file and function in ("", name) for f, name in rest):
            lost.append((file, function))
            break
    return lost


class MGU(nn.Cell):
    def __init__(self, I, H):
        self.Uf, self.Wf, self.U, self.W = (nn.Parameter(nn.init.xavier_uniform((n, H))) for n in (I, H, I, H))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.W.shape[0])

    def forward(self, x, h):
        f = tg.ops.sigmoid(x @ self.Uf + h @ self.Wf)
        h = (1 - f) * h + f * tg.ops.tanh(x @ self.U + (f * h) @ self.W)
        return h, h


def test_a_token_s_id_becomes_its_gradient_on_the_way_that_is_told():
    embedding, rnn, head = nn.Embedding(9, 4), nn.Recurrent(nn.LSTMCell(4, 8), engine="numpy"), nn.Linear(8, 9)
    ids = np.arange(12).reshape(6, 2) % 9

    def run():
        nn.cross_entropy(head(rnn(embedding(ids))[0]), ids).backward()

    run()  # which records the cell
    assert missing(walk("A token's id to its gradient"), calls(run)) == []


def test_a_product_becomes_machine_code_on_the_way_that_is_told():
    pytest.importorskip("llvmlite")
    xs = tg.tensor(np.ones((5, 2, 3), np.float32))
    seen = calls(lambda: nn.Recurrent(MGU(3, 4), engine="llvm")(xs))
    assert missing(walk("`f * h` to machine code"), seen) == []


def test_a_loss_becomes_a_picture_on_the_way_that_is_told(tmp_path):
    loss = nn.Recurrent(MGU(3, 4), engine="numpy")(tg.tensor(np.ones((5, 2, 3), np.float32)))[0].sum()
    seen = calls(lambda: viz.draw(loss, tmp_path / "loss.svg"))
    assert missing(walk("A loss to an SVG"), seen) == []


# ---- the other pages ------------------------------------------------------------------------------------------------


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_listings_of_a_cell_are_what_the_passes_make_of_it():
    page = (ROOT / "docs" / "compiler.md").read_text(encoding="utf-8")
    assert script("compiler").with_listings(page) == page, "python docs/compiler.py"


def test_the_cell_of_the_listings_is_the_one_that_stands_above_them():
    names = {"nn": nn, "ops": tg.ops}
    exec(blocks("compiler.md")[0], names)
    name, text = next(script("compiler").listings())
    assert str(tg.circuit(names["MGU"](3, 4), tg.zeros(2, 3))) == text and name == "record"


@pytest.mark.parametrize("page", ["extending.md", "debugging.md", "export.md", "training.md"])
def test_the_examples_of_a_page_run_as_they_stand(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "examples"}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)


NOTEBOOKS = [page for page in PAGES if "kernelspec" in page.read_text(encoding="utf-8").split("# ")[0]]


LONG = ("attention", "deep", "gru", "seq2seq")  # they train for seconds
MARKED = [pytest.param(page, id=page.stem, marks=pytest.mark.slow if page.stem in LONG else ()) for page in NOTEBOOKS]


@pytest.mark.parametrize("page", MARKED)
def test_the_cells_of_a_notebook_run(page, capsys):
    names = {"__name__": "notebook"}
    for block in re.findall(r"```{code-cell} python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, page, "exec"), names)


def test_the_cell_of_the_first_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("index.md")[0], "index.md", "exec"), {})
    assert (tmp_path / "leaky.svg").exists()


def test_every_page_is_in_the_site():
    toctree = " ".join(
        re.findall(r"```{toctree}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.DOTALL)
    ).split()
    pages = {
        str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES if page.is_relative_to(ROOT / "docs")
    }
    assert pages - {*toctree} == {"index"}


@pytest.mark.skipif(not REAL_GPU and cuda_on_cpu.missing() is not None, reason="needs g++")
def test_the_examples_for_a_gpu_run_as_they_stand(cupy, capsys):
    names = {}
    for block in blocks("gpu.md"):
        exec(compile(block, "gpu.md", "exec"), names)
    assert "LSTMCell.forward" in capsys.readouterr().out


def test_every_variable_of_the_environment_that_is_read_is_in_the_table():
    sources = [*(ROOT / "tinygrad_rnn").rglob("*.py"), *(ROOT / "viz").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    table = (ROOT / "docs" / "debugging.md").read_text(encoding="utf-8").split("## It is wrong")[0]
    named = set(re.findall(r"`([A-Z_]+)`", table))
    assert {name for name in named if name.startswith("TINYGRAD")} == set(re.findall(r"TINYGRAD_RNN_[A-Z]+", text))
    assert {*blas.SETTINGS, *re.findall(r"environ(?:\.get\(|\[)\"(\w+)", text)} <= named
