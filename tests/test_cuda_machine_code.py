"""What NVIDIA's compiler makes of the engine's kernels: it takes them all, and no thread spills its registers. It
needs no GPU.
"""

import cells
import numpy as np
import nvrtc
import odd_cells
import pytest

from cuda_cells import CASES, Made
from test_cuda_cells import steps_of

import tinygrad_rnn as tg

from tinygrad_rnn import nn

B, I, H = 3, 2, 3
DTYPES = ("float16", "float32", "float64")
pytestmark = [
    pytest.mark.skipif(nvrtc.library() is None, reason="NVRTC is not installed"),
    pytest.mark.usefixtures("gpu"),
]


def written(rnn, xs):
    """The text of the kernels of each direction; none where the step has no kernel."""
    recording, _ = rnn._recordings.recording_for(
        rnn.cell, rnn._run_options("gpu:0"), *rnn._entrance(rnn.cell, xs, None), False
    )
    return {direction: w.text() for direction, w in recording.compiled.programs.code.written.items() if w.text()}


def of_case(name):
    case = CASES[name]
    return written(nn.Recurrent(Made(case), engine="cuda"), tg.tensor(steps_of(case.x, "float64")))


def of_odd_cell(name):
    cell = odd_cells.ODD[name](I, H)
    if hasattr(cell, "capture"):
        cell.capture(B, lambda *shape: tg.tensor(np.ones(shape, np.float32), requires_grad=True))
    return written(nn.Recurrent(cell, engine="cuda"), tg.tensor(np.ones((4, B, I), np.float32)))


def of_cell(name, dtype):
    rnn = nn.Recurrent(cells.CELLS[name].make(), engine="cuda").to(dtype)
    return written(rnn, tg.tensor(np.ones((4, B, I), dtype)))


LIBRARY = {f"{name}, {dtype}": (of_cell, name, dtype) for name in cells.CELLS for dtype in DTYPES}
TEXTS = {
    **LIBRARY,
    **{name: (of_odd_cell, name) for name in odd_cells.ODD if name != "masked weight"},  # by an array on the CPU
    **{name: (of_case, name) for name in CASES},
}


def used(name, architecture):
    """By kernel: (registers of a thread, bytes of them that it spills)."""
    function, *args = TEXTS[name]
    texts = function(*args)
    return {
        f"{direction} {kernel}": found
        for direction, text in texts.items()
        for kernel, found in nvrtc.registers(text, architecture).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_every_kernel_is_compiled_and_spills_nothing(name):
    for architecture in nvrtc.ARCHITECTURES if name in LIBRARY else ("sm_90",):
        for kernel, (_, spilled) in used(name, architecture).items():
            assert not spilled, (kernel, architecture)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_kernels_of_an_lstm_are_compiled_and_spill_nothing(dtype):
    found = used(f"LSTM, {dtype}", "sm_90")
    assert found
    assert not any(spilled for _, spilled in found.values())
