"""The compiler's own tests of cells, on the kernels of the engine "cuda" in the place of machine code. `make cuda` runs
all of them.
"""

import os
import re
import subprocess
import sys

from pathlib import Path

import cuda_on_cpu
import pytest

ROOT = Path(__file__).parents[1]
A_PART = "values_and_gradients and llvm and float64"


@pytest.mark.slow
@pytest.mark.skipif(cuda_on_cpu.missing() is not None, reason="needs g++")
def test_cells_equal_eager_on_cuda_kernels():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "cuda_plugin", "tests/test_compiler.py", "-k", A_PART]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 70
