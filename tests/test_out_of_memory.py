"""What is said when there is not memory enough for the buffers of a plan."""

import math
import sys

import cuda_on_cpu
import numpy as np
import pytest

from conftest import REAL_GPU

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.compiler.cuda import cublas
from tinygrad_rnn.compiler.runtime import memory


@pytest.fixture
def little_memory(device, monkeypatch):
    """The device has a megabyte for an array."""
    if device == "gpu":
        pool = sys.modules["cupy"].get_default_memory_pool()
        monkeypatch.setattr(pool, "limit", 1 << 20)
        monkeypatch.setattr(cublas, "WORKSPACE", 1 << 19)
        return device

    def empty(shape, dtype, device):
        if math.prod(shape) > 1 << 20:
            raise MemoryError("Unable to allocate")
        return np.empty(shape, dtype)

    monkeypatch.setattr(memory, "empty", empty)
    return device


@pytest.mark.skipif(REAL_GPU, reason="the stand-in's pool has a limit that a test sets")
@pytest.mark.skipif(cuda_on_cpu.missing() is not None, reason="needs g++")
def test_what_does_not_fit_into_memory_says_how_much_it_is_and_what_needs_less(little_memory):
    engine, where = {"cpu": ("numpy", "cpu"), "gpu": ("cuda", "gpu:0")}[little_memory]
    xs = tg.tensor(np.ones((400, 8, 4), np.float32))
    words = (
        rf"^Recurrent: 400 steps of LSTMCell for 8 sequences need buffers of [\d.]+ MB, more than {where} has free; "
    )
    with pytest.raises(MemoryError, match=words + r"Recurrent\(…, checkpoint_every=20\) needs less$"):
        nn.Recurrent(nn.LSTMCell(4, 64), engine=engine)(xs)
    rnn = nn.Recurrent(nn.LSTMCell(4, 64), engine=engine, checkpoint_every=20)
    assert rnn(xs)[0].shape == (400, 8, 64)
