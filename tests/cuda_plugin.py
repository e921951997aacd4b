"""A plugin for pytest: the engine of machine code is that of CUDA, whose kernels g++ compiles and the CPU runs.

python -m pytest -p cuda_plugin tests/test_compiler.py -k "fast or llvm"
"""

import ctypes
import dataclasses

from types import SimpleNamespace

import cuda_on_cpu

from strict_cupy import cublas

from tinygrad_rnn.compiler import engines
from tinygrad_rnn.compiler.cuda import products, program


class Module:
    """What CuPy's RawModule is for arrays in the host's memory."""

    def __init__(self, text):
        self.library = cuda_on_cpu.library(text, program.OPTIONS)

    def get_function(self, name):
        kernel = self.library.kernel(name)

        def launch(blocks, threads, args):
            table, t = args
            values = (ctypes.c_char * table.nbytes).from_buffer_copy(table.tobytes()), ctypes.c_longlong(t)
            kernel((*blocks, 1, 1)[:3], (*threads, 1, 1)[:3], values)

        launch.max_threads_per_block = cuda_on_cpu.MAX_THREADS
        return launch


class Launched:
    """What CUDA graphs are where there are none: each launch for itself."""

    def run(self, key, launches, launch):
        launch()


def pytest_configure(config):
    program.compiled = lambda text, device: Module(text)
    handle = (ctypes.c_void_p * 1)()
    cublas.create(handle)
    cublas.set_workspace(handle[0], 1, cublas.LEAST)
    library = SimpleNamespace(gemm=cublas.gemm, handle=handle[0], begin=lambda space: None)
    program.library = products.library = lambda: library
    program.Replays = Launched
    backend = dataclasses.replace(program.backend, name="llvm", device="cpu")
    engines.ENGINES["llvm"] = engines.ENGINES["llvm"]._replace(load=lambda: backend)
    engines.find.cache_clear()
