"""TINYGRAD_RNN_DUMP: what the compiler does, as text."""

import numpy as np
import pytest

from cells import MGU

from tinygrad_rnn import nn
from tinygrad_rnn.compiler.ir import dump
from tinygrad_rnn.compiler.llvm.pipeline import PASSES as LLVM
from tinygrad_rnn.compiler.numpy.pipeline import PASSES as NUMPY
from tinygrad_rnn.compiler.passes.pipeline import COMMON


def dumped(monkeypatch, asked, engine="numpy"):
    monkeypatch.setenv("TINYGRAD_RNN_DUMP", asked)
    return nn.Recurrent(MGU(2, 3), engine=engine)(np.ones((4, 2, 2), np.float32))


def titles(text):
    return [line for line in text.splitlines() if line.startswith("---")]


def test_nothing_is_written_unless_asked_for(monkeypatch, capsys):
    dumped(monkeypatch, "")
    assert capsys.readouterr() == ("", "")


def test_the_circuit_after_the_passes_that_were_asked_for(monkeypatch, capsys):
    dumped(monkeypatch, "recorded, normalise,copy_transposed")
    text = capsys.readouterr().err
    assert [t.rpartition(",")[0] for t in titles(text)] == [
        "--- MGU: as it was recorded", "--- MGU: after normalise", "--- MGU, numpy: after copy_transposed"
    ]  # fmt: skip
    assert text.count("forward(x (") == 3


def test_what_is_computed_when_and_the_generated_code(monkeypatch, capsys):
    dumped(monkeypatch, "source,schedule")
    text = capsys.readouterr().err
    sizes = "for up to 4 steps of 2 sequences"
    assert titles(text) == [f"--- MGU, numpy: the schedule {sizes}", f"--- MGU, numpy: the code {sizes}"]
    assert "def forward(bound):" in text and "# f * h, MGU.forward:" in text


def test_every_pass_of_a_backend_is_a_stage_that_can_be_asked_for():
    passes = dict.fromkeys(p.name for p in (*COMMON, *NUMPY, *LLVM))
    assert set(dump.STAGES) == {"recorded", *passes, "schedule", "source"}


def test_a_folder_gets_a_file_for_each_stage_in_the_order_of_the_stages(monkeypatch, capsys, tmp_path):
    dumped(monkeypatch, f"simplify,reassociate:{tmp_path / 'out'}")
    files = sorted((tmp_path / "out").iterdir())
    assert [f.name[4:] for f in files] == ["MGU-simplify.txt", "MGU-reassociate.txt"]
    assert all(f.read_text().startswith("forward(x (") for f in files)
    assert capsys.readouterr() == ("", "")


def test_a_stage_that_does_not_exist_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"stages must be all or some of recorded, normalise, .* got normalize"):
        dumped(monkeypatch, "normalize")
