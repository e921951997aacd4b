"""Terminals and pipes of any encoding: what a command says must not stop it."""

import errno
import io
import os
import subprocess
import sys
import types

from pathlib import Path

import pytest

import tinygrad_rnn as tg

from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks.bar import progress_bar

ROOT = Path(__file__).parent.parent
ENCODINGS = ["utf-8", "ascii", "cp437", "cp1252", "latin-1", "euc_jp", "utf-16", "shift_jis"]
SMALL = ["--cell", "rnn", "--hidden", "6", "--embed", "4", "--epochs", "1", "--batch", "4"]
SIGNS = "naïve “cat” – → 猫 🙂"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs, one of each kind, whose tokens no encoding but Unicode's has all of."""
    path = tmp_path_factory.mktemp("terminal")
    (path / "text").write_text(f"{SIGNS}\n" * 40, "utf-8")
    (path / "pairs").write_text("".join(f"m{i}\t{SIGNS[i % len(SIGNS)].strip() or '→'}\n" for i in range(40)), "utf-8")
    assert main(["train", "lm", "--text", str(path / "text"), "--out", str(path / "lm"), *SMALL, "--steps", "8"]) == 0
    assert main(["train", "seq2seq", "--pairs", str(path / "pairs"), "--out", str(path / "pairs-run"), *SMALL]) == 0
    return path


def written(monkeypatch, encoding, *argv):
    """The exit code of a command on a terminal of an encoding, and what it writes to standard output and error."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", streams[0]), patch.setattr(sys, "stderr", streams[1])
        try:
            code = main([str(a) for a in argv])
        except SystemExit as stop:
            code = stop.code
    for stream in streams:
        stream.flush()
    return code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_signs_that_an_encoding_lacks_are_written_as_their_numbers(folder, monkeypatch, encoding):
    code, out, err = written(monkeypatch, encoding, "sample", folder / "lm", "--prompt", SIGNS, "--length", 5)
    assert (code, err) == (0, "") and out.startswith("na")
    prompt = SIGNS.encode(encoding, "backslashreplace").decode(encoding)
    assert out.startswith(prompt)
    commands = [
        ["translate", folder / "pairs-run", "m1", "--beam", 3, "--n-best", 3],
        ["score", folder / "lm", SIGNS],
        ["evaluate", folder / "pairs-run", "--pairs", folder / "pairs"],
        *([*command, "--help"] for command in (["train", "lm"], ["train", "seq2seq"], ["translate"], ["draw"])),
    ]
    for command in commands:
        assert written(monkeypatch, encoding, *command)[0] == 0


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_errors_are_written_in_every_encoding(folder, monkeypatch, encoding):
    for argv in ["sample", folder / "lm", "--prompt", "Ω→\udcff"], ["translate", "→ 猫", "x"], ["draw", "--猫", "→"]:
        code, _, err = written(monkeypatch, encoding, *argv)
        assert code == 2 and err.startswith("tinygrad-rnn: ") and err.count("\n") == 1


def test_a_run_starts_where_standard_output_is_ascii(folder, tmp_path):
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "seq2seq", "--pairs", folder / "pairs", "--out", "run"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, *SMALL], cwd=tmp_path, env=env, capture_output=True, check=True)
    assert b"rnn encoder\\u2013decoder" in done.stdout and b" \\u2192 " in done.stdout
    assert done.stderr == b""


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_name_that_is_no_text_is_a_name_too(folder, tmp_path, monkeypatch, capsys):
    name = os.fsdecode(b"Stra\xdfe \xe7\xac text")  # from a disk of another encoding, or under LC_ALL=C
    (tmp_path / name).write_bytes((folder / "text").read_bytes())
    monkeypatch.chdir(tmp_path)
    for more in [], ["--resume", "--epochs", "2"]:
        given = ["--out", name + " run", *(more or ["--text", name, *SMALL, "--steps", "8"])]
        assert main(["train", "lm", *given]) == 0, capsys.readouterr().err
    assert main(["sample", name + " run", "--length", "3"]) == 0


def test_the_version_is_that_of_the_package(monkeypatch):
    assert written(monkeypatch, "ascii", "--version") == (0, f"tinygrad-rnn {tg.__version__}\n", "")


def test_a_full_disk_behind_standard_output_is_named(folder, monkeypatch, capsys):
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["sample", str(folder / "lm"), "--length", "3"]) == 2
    assert capsys.readouterr().err == "tinygrad-rnn: standard output: No space left on device\n"


def test_there_need_not_be_a_terminal(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None), monkeypatch.setattr(sys, "stderr", None)
    assert main(["sample", str(folder / "lm"), "--length", "3"]) == 0
    assert main(["sample", "nowhere"]) == 2


# ---- notebooks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["a file", "a notebook", "a notebook's second process"])
def test_a_notebook_has_a_bar_though_it_is_no_terminal(monkeypatch, capsys, where):
    if where != "a file":
        monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", types.ModuleType("zmqshell"))
    with progress_bar(10, 2, "epoch 1/3", "word", hidden=where.endswith("process")) as bar:
        bar.update(8)
    told = capsys.readouterr().err
    assert ("epoch 1/3:  20%" in told) == (where == "a notebook") and bool(told) == (where == "a notebook")


KERNEL = """
import sys, types
class Shell: pass
for name in "ipykernel.zmqshell", "IPython":
    sys.modules[name] = types.ModuleType(name)
sys.modules["IPython"].get_ipython = Shell
sys.modules["ipywidgets"] = None
from tinygrad_rnn.tasks import bar
print(bar.tqdm.__name__)
"""


@pytest.mark.parametrize("warnings", ["always", "error"])
def test_a_notebook_without_widgets_warns_of_nothing(warnings):
    command = [sys.executable, "-W", warnings, "-c", KERNEL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("tqdm_asyncio\n", "")
