"""The pages for those who carry on: what they name is there, what they show is what the code does."""

import functools
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings

from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import data, decode, nn, optim
from tinygrad_rnn.autograd import blas
from tinygrad_rnn.cli.main import main

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT / "docs", ROOT / "docs" / "course", ROOT / "docs" / "how_to"]
PAGES = sorted([ROOT / "CONTRIBUTING.md", *(page for folder in FOLDERS for page in folder.glob("*.md"))])
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
INSIDE = [ROOT, ROOT / "docs", ROOT / "tinygrad_rnn", ROOT / "tests"]  # where a path in a page may begin
ROOTS = {"tg": tg, "nn": nn, "ops": tg.ops, "optim": optim, "decode": decode, "viz": viz, "tinygrad_rnn": tg}
ROOTS |= {
    "data": data,
    "export": tg.export,
    "parallel": tg.parallel,
    "torch_weights": tg.torch_weights,
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


@functools.cache
def templates():
    """The messages that the site lists, as patterns."""
    spec = importlib.util.spec_from_file_location("docs_messages", ROOT / "docs" / "_ext" / "messages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [re.escape(line).replace("…", ".*") for lines in module.messages().values() for line, _ in lines]


def test_the_messages_of_troubleshooting_are_among_all_messages():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    blocks = [" ".join(block.split()) for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL)]
    lost = [b for b in blocks if not any(re.search(t, b.removeprefix("tinygrad-rnn: ")) for t in templates())]
    assert len(blocks) > 30 and len(templates()) > 400 and lost == []


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


HOW_TO = [page for page in PAGES if page.parent.name == "how_to" or page.stem in ("correctness", "gallery")]
BLOCK = r"^```(?P<kind>python|sh)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?"
SAYS = r"(\w+(Error|Warning)|tinygrad-rnn): [^\n]+?"
ROW = rf"^\| (?P<ticks>`+)(?P<wrong>[^\n]+?)(?P=ticks) \| (?P<marks>`+)(?P<says>{SAYS})(?P=marks) \|"
RUN = re.compile(f"{BLOCK}|{ROW}", re.DOTALL | re.MULTILINE)  # what is run: blocks, and rows of what goes wrong
NEEDS = {  # beside the package itself
    "from_pytorch": ["torch"],
    "export_a_model": ["onnxruntime", "cc"],
    "several_processes": ["mpi4py", "mpiexec"],
    "slow": ["llvmlite"],
    "cannot_be_compiled": ["llvmlite"],
}


def typed(line):
    """Run a line of a shell: a command of ours here, another one, or several in one, by the shell."""
    if line.startswith("tinygrad-rnn ") and not re.search("[|>&]", line):
        main(shlex.split(line)[1:])
        return
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    sys.stdout.write(done.stdout + done.stderr)


def run_as_shown(kind, code, names, name):
    """Run a block of a page; one that begins with `# name.py` is that file."""
    if kind == "sh":
        for line in code.splitlines():
            typed(line)
        return
    path = Path(found[1] if (found := re.match(r"# (\w+\.py)\n", code)) else f"{name}.py")
    path.write_text(code, encoding="utf-8")
    exec(compile(code, path.absolute(), "exec"), names)


def printed(capsys, run, *args):
    """What a call prints, with its warnings, and the error that ends it."""
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, kind, *_: sys.stdout.write(f"{kind.__name__}: {message}\n")
        try:
            run(*args)
        except Exception as error:
            sys.stdout.write(f"{type(error).__name__}: {error}\n")
    got = "".join(capsys.readouterr()).rstrip()
    return got and got + "\n"


def shown(text):
    """A pattern of what stands on a page: … is anything in a line, or a line of its own any lines."""
    lines = [r"(.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in text.splitlines()]
    return "".join(lines)


def is_there(name):
    """A module, or a program."""
    return importlib.util.find_spec(name) is not None or shutil.which(name) is not None


TOLD = [
    pytest.param(page, id=page.stem, marks=pytest.mark.oracle if "torch" in NEEDS.get(page.stem, ()) else ())
    for page in HOW_TO
]


@pytest.mark.parametrize("page", TOLD)
def test_a_page_that_tells_how_shows_what_its_code_prints(page, tmp_path, monkeypatch, capsys, request):
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    lacking = [name for name in NEEDS.get(page.stem, ()) if not is_there(name)]
    if lacking:
        pytest.skip(f"{', '.join(lacking)} is not installed")
    if page.stem == "use_a_gpu":
        request.getfixturevalue("cupy")
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(encoding="utf-8"), {"__name__": "how_to"}
    rows = 0
    for found in RUN.finditer(text):
        code, output = found["code"] or found["wrong"], found["output"] or found["says"] or ""
        rows += found["wrong"] is not None
        kind = found["kind"] or ("sh" if code.startswith("tinygrad-rnn ") else "python")
        got = printed(capsys, run_as_shown, kind, code, names, page.stem)
        assert re.fullmatch(shown(output), got), f"{code}\nprints\n{got}\nthe page says\n{output}"
    tables = re.findall(r"^\| .* \| says \| .* \|\n\|---.*\n((?:\|.*\n)*)", text, re.MULTILINE)
    assert rows == sum(table.count("\n") for table in tables), "each row of what goes wrong is run"


@every_page
def test_every_test_that_a_page_tells_to_run_is_there(page):
    for line in re.findall(r"`pytest [^`\n]*tests/test_\w+\.py[^`\n]*", page.read_text(encoding="utf-8")):
        files, names = re.findall(r"tests/\w+\.py", line), re.findall(r'-k (?:"([^"]+)"|(\w+))', line)
        text = "".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        assert [word for word in " or ".join(map("".join, names)).split(" or ") if word not in text] == [], line


def test_the_gallery_shows_what_its_lines_draw():
    drawn = re.findall(r'"([\w-]+\.(?:svg|html))"', "".join(blocks("gallery.md")))
    shown = re.findall(r"gallery/([\w-]+\.(?:svg|html))", prose(ROOT / "docs" / "gallery.md"))
    assert drawn == shown
    assert [name for name in shown if not (ROOT / "docs" / "gallery" / name).exists()] == []


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
