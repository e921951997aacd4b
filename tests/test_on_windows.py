"""What Windows does otherwise, played here: files that are open cannot be replaced or removed, locks are msvcrt's, and
text is not UTF-8 unless one says so.
"""

import errno
import os
import subprocess
import sys
import types

from pathlib import Path

import numpy as np
import pytest

import viz

from tinygrad_rnn import files, nn, torch_weights
from tinygrad_rnn.cli.main import main

ROOT = Path(__file__).parent.parent
TEXT = "the cat sat on the mat and the dog ran to the cat\n" * 12
TRAIN = ["train", "lm", "--epochs", "1", "--hidden", "6", "--embed", "4", "--batch", "4", "--steps", "8", "--seed", "0"]

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux which files are open")


def identity(path):
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def held():
    """The files that this process has open, or mapped into its memory."""
    fds = {identity(path) for path in Path("/proc/self/fd").iterdir()}
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text("utf-8").splitlines()]
    return (fds | {identity(line[5]) for line in lines if len(line) == 6 and line[5].startswith("/")}) - {None}


def as_on_windows(function, count):
    def guarded(*paths, **options):
        open_ones = held()
        for path in paths[:count]:
            if not options and identity(path) in open_ones:
                raise PermissionError(errno.EACCES, "it is being used by another process", os.fspath(path))
        return function(*paths, **options)

    return guarded


@pytest.fixture
def windows(monkeypatch):
    """Files as Windows has them."""
    for name, count in ("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1):
        monkeypatch.setattr(os, name, as_on_windows(getattr(os, name), count))


def test_it_is_played_well(windows, tmp_path):
    path = tmp_path / "a"
    path.write_text("a")
    with path.open() as _, pytest.raises(PermissionError):
        path.unlink()
    (tmp_path / "b").write_text("b")
    mapped = np.memmap(path, np.uint8, "r")
    with pytest.raises(PermissionError):
        (tmp_path / "b").replace(path)
    del mapped
    (tmp_path / "b").replace(path)
    path.unlink()


def test_a_run_is_trained_resumed_and_used(windows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(TEXT)
    for more in [], ["--resume", "--epochs", "3"], ["--resume", "--epochs", "4"]:
        assert main([*TRAIN, "--text", "a.txt", "--out", "run", *more]) in (0, None)
    for command in (
        ["sample", "run", "--length", "5"], ["score", "run", "the cat"], ["evaluate", "run", "--text", "a.txt"],
        ["export", "run", "--c", "run.c"], ["export", "run", "--c", "run.c"],
        ["draw", "run", "--text", "the", "--out", "run.svg"], ["draw", "run", "--text", "cat", "--out", "run.svg"],
    ):  # fmt: skip
        assert main(command) in (0, None)
    assert not [path for path in Path("run").rglob("*") if path.name.startswith(".")]


def test_weights_are_saved_over_those_that_were_loaded(windows, tmp_path):
    for path in tmp_path / "a.safetensors", tmp_path / "b.safetensors":
        layer, same = nn.LSTM(3, 4), nn.LSTM(3, 4)
        for _ in range(2):
            layer.save(path)
            same.load(path)
        state = torch_weights.export(layer)
        torch_weights.load(same, state)
    for suffix in "svg", "dot", "html", "png":
        for _ in range(2):
            viz.draw(nn.GRUCell(3, 4), tmp_path / f"a.{suffix}")


# ---- locks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def msvcrt(windows, monkeypatch):
    """Locks of Windows: of bytes; one that is locked cannot be locked again, not even by the same process."""
    locked = {}

    def locking(fd, mode, count):
        key = identity(f"/proc/self/fd/{fd}"), os.lseek(fd, 0, os.SEEK_CUR)
        owner = locked.get(key)
        if owner is not None and Path(f"/proc/self/fd/{owner}").exists() and owner != fd:
            raise PermissionError(errno.EACCES, "Permission denied")
        locked[key] = fd

    monkeypatch.setattr(files, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)
    monkeypatch.setattr(files.sys, "platform", "win32")
    monkeypatch.delattr(files, "fcntl")


def test_a_lock_keeps_a_second_process_away_and_is_gone_after_the_first(msvcrt, tmp_path):
    path = tmp_path / "lock"
    with files.locked(path, "the run"):
        assert path.read_text() == str(os.getpid())  # which others may read while it is locked
        with pytest.raises(RuntimeError, match=f"^the run is written by process {os.getpid()}; wait for its end$"):
            files.locked(path, "the run").__enter__()
    assert not path.exists()
    with files.locked(path, "the run"):
        pass


def test_a_file_that_somebody_looks_at_is_replaced_as_soon_as_he_has_done(msvcrt, tmp_path, monkeypatch):
    """A virus scanner, an indexer or a reader holds a file for a moment."""
    path = tmp_path / "a.txt"
    path.write_text("old")
    reader, waits = path.open(), []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            reader.close()

    monkeypatch.setattr(files.time, "sleep", sleep)
    files.write_atomically(path, "new")
    assert path.read_text() == "new" and len(waits) == 3 and 0 < sum(waits) < 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_stays_open_is_named_and_stays_as_it_is(msvcrt, tmp_path, monkeypatch):
    path, waits = tmp_path / "a.txt", []
    path.write_text("old")
    monkeypatch.setattr(files.time, "sleep", waits.append)
    with path.open(), pytest.raises(PermissionError) as error:
        files.write_atomically(path, "new")
    assert error.value.filename == str(path) and 0.5 < sum(waits) < 5
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


# ---- encodings ------------------------------------------------------------------------------------------------------

ENCODED = """
# encoding: utf-8
import warnings
from pathlib import Path
import numpy as np
import tinygrad_rnn as tg, viz
from tinygrad_rnn import nn
from tinygrad_rnn.cli.main import main
import graphviz, matplotlib.figure, matplotlib.pyplot, onnx, safetensors, tqdm
warnings.simplefilter("error", EncodingWarning)
options = ["--epochs", "1", "--hidden", "6", "--embed", "4", "--batch", "4", "--steps", "8"]
main(["train", "lm", "--text", "a.txt", "--out", "run", *options])
main(["train", "lm", "--text", "a.txt", "--out", "run", *options, "--resume", "--epochs", "2"])
main(["sample", "run", "--length", "5"])
main(["draw", "run", "--text", "s\\u00fc\\u00df", "--out", "a.svg"])
main(["export", "run", "--c", "run.c"])
main(["export", "run", "--onnx", "run.onnx"])
drawing = viz.draw(tg.circuit(nn.GRUCell(3, 4), tg.zeros(1, 3)), "b.svg", view="textbook", equations=True)
for name in "c.html", "c.dot", "c.png":
    drawing.save(name)
assert all("h\\u209c" in Path(name).read_text("utf-8") for name in ("b.svg", "c.html"))
"""


@pytest.mark.slow
def test_no_file_is_read_or_written_in_the_encoding_that_a_machine_happens_to_have(tmp_path):
    (tmp_path / "a.txt").write_text("süß und größer, 語\n" * 60, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}
    (tmp_path / "program.py").write_text(ENCODED, "utf-8")
    command = [sys.executable, "-X", "warn_default_encoding", "program.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ">ü<" in (tmp_path / "a.svg").read_text("utf-8")
