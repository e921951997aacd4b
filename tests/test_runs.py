"""Runs that go on elsewhere, twice at once, on full disks, after Ctrl-C, and those that fail as they begin."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from commands import error_of

from tinygrad_rnn import files, nn, optim
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.config import CommonConfig
from tinygrad_rnn.tasks.fit import Trainer, evaluating
from tinygrad_rnn.tasks.kind import Kind
from tinygrad_rnn.tasks.run_folder import RunFolder

SMALL = ["--cell", "rnn", "--hidden", "6", "--embed", "4", "--epochs", "1", "--batch", "4"]
KINDS = {"lm": ("--text", [*SMALL, "--steps", "8"]), "seq2seq": ("--pairs", SMALL)}
CONTENT = {"lm": "the quick brown fox.\n" * 20, "seq2seq": "".join(f"m{i}\tn{i % 5}\n" for i in range(20))}


@pytest.fixture(autouse=True)
def no_sample(monkeypatch, without_pictures):
    """What comes after a run takes longer than the run."""
    monkeypatch.setattr("tinygrad_rnn.tasks.language_model.sample", lambda *_, **__: iter(()))


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def started(kind, tmp_path):
    """The options of a run of one epoch that has ended, and the file that it learned."""
    path, out = tmp_path / "content", tmp_path / "run"
    path.write_text(CONTENT[kind])
    option, small = KINDS[kind]
    assert main(["train", kind, option, str(path), "--out", str(out), *small]) == 0
    return ["train", kind, "--out", str(out), "--resume", "--epochs", "2"], option, path


# ---- moved -----------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_what_it_learned_in_another_place(started, tmp_path, capsys):
    resume, option, path = started
    moved = path.rename(tmp_path / "moved")
    assert f"there is no file '{path}' any more; if it was moved, add {option} FILE" in error_of(capsys, *resume)
    assert main([*resume, option, str(moved)]) == 0
    moved.write_bytes(moved.read_bytes().replace(b"\n", b"\r\n"))  # as from a Windows machine
    assert main([*resume, "--epochs", "3"]) == 0, "the new place is remembered"


def test_a_run_does_not_go_on_with_anything_else(started, tmp_path, capsys):
    resume, option, path = started
    (tmp_path / "other").write_text(path.read_text().replace("1", "2").replace("fox", "dog"))
    error = error_of(capsys, *resume, option, tmp_path / "other")
    assert f"{str(tmp_path / 'other')!r} is not the {option[2:]} this run was started with" in error
    assert main([*resume, option, str(path)]) == 0, "nothing has changed"


# ---- the learning rate ------------------------------------------------------------------------------------


def test_a_run_says_with_which_learning_rate_it_goes_on(started, capsys):
    resume, _, _ = started
    capsys.readouterr()
    assert main(resume) == 0
    lr, before = re.search(
        r"with learning rate (\S+), not (\S+): its cosine now ends with epoch 2\n", said(capsys)
    ).groups()
    assert float(lr) > 2 * float(before)
    assert main([*resume, "--epochs", "2"]) == 0
    assert "all 2 epochs are done; a larger --epochs goes on\n" in said(capsys)


def test_a_run_that_was_stopped_goes_on_with_the_same_learning_rate(tmp_path, monkeypatch, capsys):
    stop_at(monkeypatch, 3)
    assert start(tmp_path) == 130
    assert main(["train", "lm", "--out", str(tmp_path / "run"), "--resume"]) == 0
    lr = optim.cosine(0.005, 13, min_lr=0.0005)(3)
    assert f"goes on at epoch 1, batch 4 of 13, with learning rate {lr:.3g}\n" in said(capsys)


def said(capsys):
    return capsys.readouterr().out


def start(tmp_path, *more):
    (tmp_path / "text").write_text(CONTENT["lm"])
    option, small = KINDS["lm"]
    return main(["train", "lm", option, str(tmp_path / "text"), "--out", str(tmp_path / "run"), *small, *more])


# ---- optimisers, schedules, patience -----------------------------------------------------------------------


STEP = ["--schedule", "step_decay", "--gamma", "0.5"]
LEARNING = {
    "sgd": (["--optimizer", "sgd", "--weight-decay", "0.1", "--schedule", "constant"], [0.005] * 3),
    "rmsprop": (["--optimizer", "rmsprop", *STEP], [0.0025, 0.00125, 0.000625]),
    "adamw": (["--optimizer", "adamw", *STEP, "--step-size", "2", "--warmup", "20"], [0.0035, 0.0025, 0.0025]),
    "adam": (["--warmup", "3"], [optim.cosine(0.005, 39, 0.0005)(n) for n in (13, 26, 39)]),
}


@pytest.mark.parametrize("name", LEARNING)
def test_a_run_with_any_optimizer_and_schedule_resumes_bit_for_bit(tmp_path, monkeypatch, capsys, name):
    options, rates = LEARNING[name]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    assert start(whole, *options, "--epochs", "3") == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 17)
        assert start(broken, *options, "--epochs", "3") == 130
    assert main(["train", "lm", "--out", str(broken / "run"), "--resume"]) == 0
    (a, p), (b, q) = (load_checkpoint(path / "run" / "last.safetensors") for path in (whole, broken))
    assert a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)
    found = [[row["learning_rate"] for row in progress["rows"]] for progress in (p, q)]
    assert found[0] == found[1] == pytest.approx(rates)
    config = language_model.KIND.read_config(RunFolder(broken / "run"))
    assert config.weight_decay == {"sgd": 0.1, "adamw": 0.01}.get(name, 0)


def test_a_run_ends_when_its_patience_does_and_goes_on_with_more(tmp_path, monkeypatch, capsys):
    losses = iter([3.0, 2.0, 2.5, 2.0, 1.0, 1.5])
    monkeypatch.setattr(language_model.LanguageTask, "validate", lambda self: next(losses))
    assert start(tmp_path, "--epochs", "6", "--patience", "2", "--schedule", "constant") == 0
    resume = ["train", "lm", "--out", str(tmp_path / "run"), "--resume"]
    assert "ended after epoch 4: none was better than epoch 2; a larger --patience goes on\n" in said(capsys)
    assert main(resume) == 0
    assert "ended after epoch 4: none was better than epoch 2" in said(capsys)
    assert main([*resume, "--patience", "3"]) == 0
    assert "epoch 6/6: " in said(capsys) and next(losses, None) is None


LATER = ["optimizer", "weight_decay", "schedule", "step_size", "gamma", "warmup", "patience"]  # 0.1.0 had them not
LATER += ["accumulate", "log_every", "from_run", "valid_text", "test_text", "tokenizer", "subwords", "min_count", "tie"]


def test_a_run_of_an_older_version_goes_on_as_it_began(tmp_path):
    assert start(tmp_path) == 0
    folder = RunFolder(tmp_path / "run")
    config = language_model.KIND.read_config(folder)
    older = {key: value for key, value in folder.read("config").items() if key not in LATER}
    (folder.path / "config.json").write_text(json.dumps(older))
    assert language_model.KIND.read_config(folder) == config and len(older) < len(LATER) + len(vars(config))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weight-decay", "0.1"], "--weight-decay: must be a finite number of at least 0, and 0 with all but sgd"),
        (["--optimizer", "sgd", "--weight-decay", "-1"], "--weight-decay: must be a finite number of at least 0"),
        (["--gamma", "0"], "--gamma: must be greater than 0 and at most 1, got 0.0"),
        (["--step-size", "0"], "--step-size: must be at least 1, got 0"),
        (["--warmup", "-1"], "--warmup: must be at least 0, got -1"),
        (["--patience", "-1"], "--patience: must be at least 0, got -1"),
    ],
)
def test_options_of_learning_that_make_no_sense_are_named(tmp_path, capsys, options, message):
    assert start(tmp_path, *options) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


# ---- two at once ------------------------------------------------------------------------------------------


def test_a_folder_in_which_a_run_is_trained_is_refused_with_its_process(started, capsys):
    resume, _, _ = started
    folder = RunFolder(started[2].parent / "run")
    half = folder.path / ".last-0123abcd.safetensors"  # what the process there is about to put in place
    with folder.locked():
        half.touch()
        assert (folder.path / "train.lock").read_text() == str(os.getpid())
        error = error_of(capsys, *resume)
        assert half.exists()
    assert f"run: {str(folder.path)!r} is written by process {os.getpid()}; wait for its end" in error
    assert main(resume) == 0
    assert not (folder.path / "train.lock").exists()


def test_a_lock_of_a_process_that_has_died_holds_nobody_up(started):
    (started[2].parent / "run" / "train.lock").write_text("99999999")
    assert main(started[0]) == 0
    assert not (started[2].parent / "run" / "train.lock").exists()


def test_a_trainer_refuses_a_folder_that_another_has_taken_since(tmp_path):
    (tmp_path / "text").write_text(CONTENT["lm"])
    config = language_model.Config(text=str(tmp_path / "text"), hidden=4, embed=4, batch=4)
    trainer, _ = language_model.KIND.new_run(config, RunFolder(tmp_path / "run"))
    with trainer.folder.locked(), pytest.raises(RuntimeError, match="is written by process"):
        trainer.fit(1, print)
    assert trainer.progress.batch == 0


def test_a_lock_that_vanishes_as_it_is_taken_is_taken_anew(tmp_path, monkeypatch):
    path, lock, tries = tmp_path / "lock", files._lock, []

    def once_too_late(file):
        if not tries:
            path.unlink()
        tries.append(file)
        return lock(file)

    monkeypatch.setattr(files, "_lock", once_too_late)
    with files.locked(path, "it"):
        assert path.read_text() == str(os.getpid())
    assert len(tries) == 2 and not path.exists()


def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    assert start(tmp_path) == 0


def test_a_full_disk_leaves_the_lock_without_a_name(tmp_path, monkeypatch):
    class Full(io.FileIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Full(path, "a+"))
    with (
        files.locked(tmp_path / "lock", "it"),
        pytest.raises(RuntimeError, match=r"^it is written by another process;"),
    ):
        files._held(tmp_path / "lock", "it")
    assert not (tmp_path / "lock").exists()


def test_a_killed_process_lets_go_and_names_itself_before(tmp_path, capsys):
    (tmp_path / "text").write_text(CONTENT["lm"])
    out = tmp_path / "run"
    small = [*KINDS["lm"][1], "--epochs", "100000", "--save-every", "0"]
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "lm", "--text", tmp_path / "text", "--out", out, *small]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (out / "last.safetensors").exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert f"is written by process {process.pid};" in error_of(capsys, "train", "lm", "--out", out, "--resume")
    finally:
        process.kill()
        process.wait()
    assert (out / "train.lock").exists()
    epochs = load_checkpoint(out / "last.safetensors")[1]["epoch"] + 1
    assert main(["train", "lm", "--out", str(out), "--resume", "--epochs", str(epochs)]) == 0
    assert not (out / "train.lock").exists()


# ---- full disks and failures at the start ---------------------------------------------------------------------


@pytest.mark.parametrize("good", [1, 3])
def test_a_full_disk_names_the_file_and_the_way_on(tmp_path, monkeypatch, capsys, good):
    written = []

    def fills(file):
        written.append(file)
        if len(written) > 2 + good:  # the first two make the folder
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fills)
    assert start(tmp_path, "--save-every", "0") == 2
    error = capsys.readouterr().err
    last = tmp_path / "run" / "last.safetensors"
    assert error == f"tinygrad-rnn: {last}: No space left on device; --resume goes on from the last checkpoint\n"
    assert load_checkpoint(last)[1]["batch"] == good


def test_an_error_names_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    def fails(path, **_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", fails)
    with pytest.raises(OSError, match="Read-only") as caught:
        files.replace_atomically(tmp_path / "x.svg", fails)
    assert caught.value.filename == str(tmp_path / "x.svg")


def test_a_file_in_place_of_a_folder_is_no_run(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert f"{str(tmp_path / 'file')!r} is no run folder" in error_of(capsys, "sample", tmp_path / "file")


FAILURES = [ValueError("power cut"), RuntimeError("a driver"), MemoryError("1 TiB"), OSError(errno.ENOSPC, "No space")]


@pytest.mark.parametrize("failure", [*FAILURES, KeyboardInterrupt()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("at", ["the first line", "the first batch"])
def test_a_run_that_fails_before_its_first_checkpoint_leaves_nothing(tmp_path, monkeypatch, capsys, failure, at):
    def fails(*_):
        raise failure

    what = "tinygrad_rnn.cli.training.report" if at == "the first line" else "tinygrad_rnn.tasks.fit.Trainer._batch"
    with monkeypatch.context() as patch:
        patch.setattr(what, fails)
        assert start(tmp_path) == (130 if isinstance(failure, KeyboardInterrupt) else 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--resume" not in error
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_what_others_put_into_a_folder_stays(tmp_path, monkeypatch):
    def fails(*_):
        (tmp_path / "run" / "notes").touch()
        raise ValueError("power cut")

    monkeypatch.setattr(Trainer, "_batch", fails)
    assert start(tmp_path) == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes"]


# ---- Ctrl-C --------------------------------------------------------------------------------------------------


class Swallows:
    """What happens to a KeyboardInterrupt that arrives while Python frees an object."""

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def stop_at(monkeypatch, batch, how=Swallows):
    run_batch, done = Trainer._batch, []

    def stops(self, i, *asked):
        done.append(i)
        if len(done) == batch:
            how()
        return run_batch(self, i, *asked)

    monkeypatch.setattr(Trainer, "_batch", stops)
    return done


def test_ctrl_c_stops_between_two_batches_and_the_run_ends_as_if_it_had_not(tmp_path, monkeypatch, capsys):
    whole, broken = tmp_path / "a", tmp_path / "b"
    whole.mkdir(), broken.mkdir()
    assert start(whole, "--dropout", "0.3") == 0
    for batch in 1, 4, 8:  # after batches 1, 5 and 13, which is the last
        with monkeypatch.context() as patch:
            done = stop_at(patch, batch)
            resume = ["train", "lm", "--out", str(broken / "run"), "--resume"]
            assert (start(broken, "--dropout", "0.3") if batch == 1 else main(resume)) == 130
        error = "tinygrad-rnn: stopped; --resume goes on from the last checkpoint\n"
        assert capsys.readouterr().err == error and len(done) == batch
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_checkpoint(broken / "run" / "last.safetensors")[1]["batch"] == 13
    assert main(resume) == 0
    (a, _), (b, _) = (load_checkpoint(path / "run" / "last.safetensors") for path in (whole, broken))
    assert all(np.array_equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch, capsys):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one must interrupt")

    stop_at(monkeypatch, 3, twice)
    assert start(tmp_path, "--save-every", "0") == 130
    assert capsys.readouterr().err == "tinygrad-rnn: stopped; --resume goes on from the last checkpoint\n"
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1]["batch"] == 2


def test_ctrl_c_while_validating_ends_the_epoch(tmp_path, monkeypatch):
    validate = language_model.LanguageTask.validate

    def pressed(self):
        signal.raise_signal(signal.SIGINT)
        return validate(self)

    monkeypatch.setattr(language_model.LanguageTask, "validate", pressed)
    assert start(tmp_path, "--epochs", "3") == 130
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1]["epoch"] == 1


@pytest.mark.parametrize("where", ["a handler of the user's", "ignored", "another thread"])
def test_what_others_make_of_ctrl_c_stays(tmp_path, where):
    (tmp_path / "text").write_text(CONTENT["lm"])
    config = language_model.Config(text=str(tmp_path / "text"), cell="rnn", hidden=4, embed=4, batch=4)
    trainer, _ = language_model.KIND.new_run(config, RunFolder(tmp_path / "run"))
    theirs = {"ignored": signal.SIG_IGN, "another thread": signal.default_int_handler}.get(where, lambda *_: None)
    before, seen = signal.signal(signal.SIGINT, theirs), []

    def look(line):
        seen.append(signal.getsignal(signal.SIGINT))

    try:
        thread = threading.Thread(target=trainer.fit, args=(1, look))
        thread.start() if where == "another thread" else trainer.fit(1, look)
        thread.join() if where == "another thread" else None
        assert seen == [theirs] == [signal.getsignal(signal.SIGINT)]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_process_that_gets_ctrl_c_ends_with_130(tmp_path):
    (tmp_path / "text").write_text(CONTENT["lm"])
    small = [*KINDS["lm"][1], "--epochs", "100000"]
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "lm", "--text", "text", "--out", "run", *small]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(2):
        process.stdout.readline()  # the title, and an epoch
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "tinygrad-rnn: stopped; --resume goes on from the last checkpoint\n")
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1]["epoch"] >= 1
    assert not (tmp_path / "run" / "train.lock").exists()


# ---- a kind of run of one's own ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bigrams(CommonConfig):
    """Which letter follows which?"""

    letters: str = ""


class BigramTask:
    """All pairs of neighbours at once."""

    unit, metric = "letter", "nats"

    def __init__(self, config, model, learned, held_out):
        self.model, self.learned, self.held_out = model, learned, held_out

    def __len__(self):
        return 1

    def tokens(self):
        return len(self.learned) - 1

    def start(self, epoch):
        return None

    def loss(self, batch, carry, ids=None):
        ids = self.learned if ids is None else ids
        return nn.cross_entropy(self.model(ids[:-1]), ids[1:], reduction="sum"), len(ids) - 1, None

    def validate(self):
        with evaluating(self.model):
            loss, n, _ = self.loss(0, None, self.held_out)
        return loss.item() / n

    def measure(self, nats):
        return nats


def bigrams():
    def read(config):
        text = Path(config.letters).read_text()
        return text, text

    return Kind(
        name="bigrams", what="bigrams", config=Bigrams, source="letters", vocabulary_files=("alphabet",),
        lr_falls_by=10, read=read, vocabularies=lambda config, text: (Vocabulary.of(text),),
        batches=lambda config, text, alphabet: (alphabet.encode(text[:-20]), alphabet.encode(text[-20:])),
        build=lambda config, n: nn.Embedding(n, n), task=BigramTask,
    )  # fmt: skip


def test_a_kind_of_run_of_ones_own_is_started_stopped_resumed_and_loaded(tmp_path):
    (tmp_path / "text").write_text(CONTENT["lm"])
    kind, folder, told = bigrams(), RunFolder(tmp_path / "run"), []
    config = Bigrams(letters=str(tmp_path / "text"), epochs=2, lr=0.1)
    trainer, (alphabet,) = kind.new_run(config, folder)
    trainer.fit(1, told.append)
    again, _ = kind.resumed_run(kind.read_config(folder), folder)
    assert (again.progress.epoch, again.optimizer.lr) == (1, pytest.approx(0.055))
    again.fit(2, told.append)
    assert [line.split(":")[0] for line in told] == ["epoch 1/1", "epoch 2/2"]
    model, (same,) = kind.load(folder)
    assert same.tokens == alphabet.tokens and not model.training
    np.testing.assert_array_equal(model.E.numpy(), again.model.E.numpy())
    with pytest.raises(ValueError, match=r"must hold a language model, its config\.json says otherwise"):
        language_model.KIND.load(folder)
    (tmp_path / "text").write_text("another")
    with pytest.raises(ValueError, match="is not the letters this run was started with; --letters FILE names another"):
        kind.resumed_run(config, folder)
