"""The library on a 64-bit ARM, which qemu plays on this machine: the wheels that it needs there, and machine code.

It takes root, and Debian's packages debootstrap and qemu-user-static; where they are not, all of this is skipped.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = [*EXTRAS["dependencies"], *EXTRAS["optional-dependencies"]["fast"], "pytest", "hypothesis"]
SYSTEM = ["python3.11-minimal", "libpython3.11-stdlib", "libstdc++6"]  # of Debian 12
SYSTEM += ["libglib2.0-0", "libxrender1", "libxext6", "libexpat1"]  # which pygraphviz' wheel takes for granted
WHEELS = [f"--platform={tag}_aarch64" for tag in ("manylinux2014", "manylinux_2_27", "manylinux_2_28")]

RUN = """
import json, platform, sys
import numpy as np
import tinygrad_rnn as tg, viz
from tinygrad_rnn import nn

found = {"machine": platform.machine()}
for make in nn.RNNCell, nn.LSTMCell, nn.GRUCell:
    for dtype in "float32", "float64":
        for engine in "eager", "numpy", "llvm":
            tg.manual_seed(0)
            layer = nn.Recurrent(make(3, 8), engine=engine).to(dtype)
            xs = tg.tensor(np.random.default_rng(0).normal(size=(20, 4, 3)).astype(dtype))
            ys, _ = layer(xs, lengths=[20, 7, 1, 13])
            (ys * ys).sum().backward()
            assert layer.plan(xs).engine == engine
            gradients = [p.grad.numpy().ravel().tolist() for p in layer.parameters()]
            found[f"{make.__name__} {dtype} {engine}"] = [ys.numpy().ravel().tolist(), *gradients]
viz.draw(nn.LSTMCell(3, 4), sys.argv[1], view="textbook")
print(json.dumps(found))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("debootstrap") and shutil.which("qemu-aarch64-static")) or os.geteuid() != 0,
        reason="needs root, debootstrap and qemu-user-static",
    ),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The command that runs Python on an ARM, and its environment."""
    system, site = tmp_path_factory.mktemp("system"), tmp_path_factory.mktemp("site")
    debootstrap = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", f"--include={','.join(SYSTEM)}"]
    if subprocess.run([*debootstrap, "bookworm", system], capture_output=True, check=False).returncode:
        pytest.skip("needs Debian's packages")
    for package in (system / "var" / "cache" / "apt" / "archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, system], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", site, "--python-version=3.11"]
    subprocess.run([*pip, "--implementation=cp", "--only-binary=:all:", *WHEELS, *PACKAGES], check=True)
    paths = {"PYTHONPATH": f"{site}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/nowhere"}
    return ["qemu-aarch64-static", "-L", system, system / "usr" / "bin" / "python3.11"], {**os.environ, **paths}


def test_it_computes_and_draws_there_what_it_does_here(python, tmp_path):
    command, environment = python
    qemu = shutil.which(command[0])
    options = {"capture_output": True, "text": True, "check": True, "cwd": ROOT}
    there = subprocess.run([qemu, *command[1:], "-c", RUN, tmp_path / "a.png"], env=environment, **options).stdout
    here = subprocess.run([sys.executable, "-c", RUN, tmp_path / "b.png"], **options).stdout
    there, here = json.loads(there), json.loads(here)
    assert there.pop("machine") == "aarch64" and there.keys() == here.keys() - {"machine"}
    for name, values in there.items():
        close = {"rtol": 1e-4, "atol": 1e-5} if "float32" in name else {"rtol": 1e-10, "atol": 1e-12}
        for found, expected in zip(values, here[name], strict=True):
            np.testing.assert_allclose(found, expected, **close, err_msg=name)
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_compiled_cells_equal_eager_ones_there(python):
    command, environment = python
    families = "RNN or LSTM or GRU or peepholes or nested or attention"
    chosen = f"equals_eager_in_values and (numpy or llvm) and float64 and ({families})"
    pytest_ = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_compiler.py", "-k", chosen]
    ran = subprocess.run(
        [shutil.which(command[0]), *command[1:], *pytest_],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0 and " passed" in ran.stdout, ran.stdout[-3000:] + ran.stderr[-1000:]
