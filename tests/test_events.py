"""A run's numbers for TensorBoard."""

import csv
import struct
import sys

import pytest

from tinygrad_rnn.cli.main import main

TEXT = "The quick brown fox jumps over the lazy dog. " * 40
OPTIONS = ["--hidden", "8", "--embed", "4", "--batch", "4", "--steps", "8", "--log-every", "5", "--tensorboard"]


@pytest.fixture
def train(tmp_path):
    (tmp_path / "text").write_text(TEXT)
    command = ["train", "lm", "--text", str(tmp_path / "text"), "--out", str(tmp_path / "run")]
    return lambda *more: main([*command, *more])


def scalars(folder):
    """(step, name, number) of each event, in the order of files and events; and the step of each new start."""
    proto = pytest.importorskip("tensorboardX").proto.event_pb2
    found, purged = [], []
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        raw = path.read_bytes()
        while raw:
            (n,) = struct.unpack_from("<Q", raw)
            event = proto.Event.FromString(raw[12 : 12 + n])
            raw = raw[16 + n :]
            found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
            purged += [event.step] if event.HasField("session_log") else []
    return found, purged


def test_lines_and_epochs_are_written_and_a_resumed_run_goes_on(train, tmp_path):
    pytest.importorskip("tensorboardX")
    assert train(*OPTIONS, "--epochs", "2") == 0
    found, _ = scalars(tmp_path / "run" / "tensorboard")
    steps = max(step for step, _, _ in found)
    half = steps // 2
    losses = [step for step, name, _ in found if name == "train_loss"]
    assert losses == [*range(5, half + 1, 5), half, *range(half + 5, steps + 1, 5), steps]
    last = {name: number for step, name, number in found if step == steps}
    with (tmp_path / "run" / "metrics.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert last.keys() == row.keys() - {"epoch", "steps"} and last.keys() > {"valid_loss", "learning_rate"}
    for name, number in last.items():
        assert number == pytest.approx(float(row[name]), rel=1e-6)
    assert train("--resume", "--epochs", "3") == 0
    found, purged = scalars(tmp_path / "run" / "tensorboard")
    assert max(step for step, _, _ in found) == steps + half and purged[-1] == steps + 5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_run_that_fails_before_its_first_checkpoint_leaves_no_folder(train, tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    hopeless = ["--lr", "1e37", "--cell", "rnn", "--optimizer", "sgd", "--clip", "0", "--log-every", "1"]
    assert train(*OPTIONS, *hopeless) == 2 and not (tmp_path / "run").exists(), capsys.readouterr()
    assert train(*OPTIONS, "--epochs", "1") == 0


def test_without_the_library_there_is_no_run(train, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert train(*OPTIONS) == 2
    said = capsys.readouterr().err
    assert '--tensorboard: tensorboardX is not installed; pip install "tinygrad-rnn[tensorboard]"' in said
    assert not (tmp_path / "run").exists()
