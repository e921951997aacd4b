"""Each benchmark runs: a small part of it, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

from pathlib import Path

import cuda_on_cpu
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
ALONE = [
    ["lengths.py", "1"],
    ["first_call.py"],
    ["drawing.py", "--peers", "", "--rounds", "1", "--steps", "20"],
    pytest.param(
        ["parallel.py", "--only", "overlap", "--rounds", "1", "--steps", "2"],
        marks=pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed"),
    ),
    pytest.param(["launches.py"], marks=pytest.mark.skipif(cuda_on_cpu.missing() is not None, reason="needs g++")),
]
BESIDE_PYTORCH = [  # whose loop is what the results of all are compared with
    ["recurrent.py", "--peers", "", "--cells", "mgu", "--sizes", "S1", "--rounds", "1", "--slice", "0.01"],
    ["recurrent.py", "--peers", "nn,loop", "--cells", "lstm", "--sizes", "S1", "--rounds", "1", "--slice", "0.01"],
    ["eager.py", "--only", "graph", "--rounds", "1", "--slice", "0.01"],
    ["convlstm.py", "1"],
]


def runs(line):
    run = subprocess.run(
        [sys.executable, str(FOLDER / line[0]), *line[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="llvmlite is not installed")
@pytest.mark.parametrize("line", ALONE, ids=" ".join)
def test_it_runs_without_any_peer(line):
    runs(line)


@pytest.mark.oracle
@pytest.mark.parametrize("line", BESIDE_PYTORCH, ids=" ".join)
def test_it_runs_beside_pytorch(line):
    runs(line)
