"""How a run is trained: the optimiser, the learning rate, accumulated gradients, an early stop, lines of a log; and
where it begins: with another run's options, or with its weights."""

import csv
import json
import re

import numpy as np
import pytest

from commands import error_of
from comparing import some

from tinygrad_rnn import optim
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks import log
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.fit import Trainer

SMALL = ["--cell", "rnn", "--hidden", "6", "--embed", "4", "--dtype", "float64", "--dropout", "0"]
LM = ["lm", *SMALL, "--text", "text", "--steps", "8"]
DEEP = ["--layers", 2, "--cell", "lstm"]
PAIRS = ["seq2seq", *SMALL, "--pairs", "pairs"]
KINDS = pytest.mark.parametrize("kind", [LM, PAIRS], ids=lambda kind: kind[0])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, without_pictures):
    """A folder with something to learn; what comes after a run takes longer than the run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("the quick brown fox.\n" * 20)
    (tmp_path / "pairs").write_text("".join(f"{'ab' * (i % 4 + 1)}{i}\t{i % 5}{'x' * (i % 3)}\n" for i in range(30)))
    monkeypatch.setattr("tinygrad_rnn.tasks.language_model.sample", lambda *_, **__: iter(()))
    return tmp_path


def train(kind, out, *more):
    return main(["train", *kind, "--out", out, *map(str, more)])


def resume(kind, out, *more):
    return main(["train", kind[0], "--out", out, "--resume", *map(str, more)])


def rows(here, out):
    with (here / out / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if "per_second" not in k} for row in csv.DictReader(file)]


def arrays(here, out):
    return load_checkpoint(here / out / "last.safetensors")[0]


def assert_same(here, a, b, **tolerance):
    assert len(rows(here, a)) == len(rows(here, b)) > 0
    for ours, theirs in zip(rows(here, a), rows(here, b), strict=True):
        assert ours == (pytest.approx(theirs, **tolerance) if tolerance else theirs)
    ours, theirs = arrays(here, a), arrays(here, b)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, **{"rtol": 0, "atol": 0, **tolerance}, err_msg=name)


# ---- the optimiser and the learning rate ----------------------------------------------------------------------------

WAYS = {
    "sgd": ["--optimizer", "sgd", "--weight-decay", 0.01, "--lr", 0.5, "--schedule", "constant"],
    "rmsprop": ["--optimizer", "rmsprop", "--schedule", "step_decay", "--step-size", 2, "--gamma", 0.25],
    "adamw": ["--optimizer", "adamw", "--weight-decay", 0.1, "--warmup", 5, "--accumulate", 2],
    "plateau": ["--schedule", "plateau", "--lr", 1.0, "--gamma", 0.1, "--warmup", 3, "--epochs", 6],
}


@pytest.mark.parametrize(("kind", "way"), some([(kind, way) for way in WAYS for kind in (LM, PAIRS)]))
def test_a_run_that_dies_ends_as_if_it_had_not_with_every_optimiser_and_schedule(here, kind, way, monkeypatch):
    options = ["--batch", 4, "--epochs", 4, *WAYS[way]]
    assert train(kind, "whole", *options) == 0
    run_batch, done = Trainer._batch, []

    def dies(self, batch, *asked):
        done.append(batch)
        if len(done) in (5, 22, 70):  # the last in the sixth epoch
            raise ValueError("power cut")
        return run_batch(self, batch, *asked)

    monkeypatch.setattr(Trainer, "_batch", dies)
    assert train(kind, "broken", *options, "--save-every", 0) == 2
    while resume(kind, "broken", "--save-every", 0) == 2:
        assert len(done) < 100
    assert_same(here, "whole", "broken")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--schedule", "constant"], [1, 1, 1, 1]),
        (["--schedule", "step_decay", "--step-size", 2, "--gamma", 0.25], [1, 0.25, 0.25, 0.0625]),
        (["--schedule", "cosine"], [0.9 * (1 + np.cos(np.pi * e / 4)) / 2 + 0.1 for e in (1, 2, 3, 4)]),
        (["--schedule", "constant", "--warmup", 26], [14 / 26, 1, 1, 1]),
    ],
)
def test_the_learning_rate_follows_its_schedule(here, options, expected):
    assert train(LM, "run", "--batch", 4, "--epochs", 4, "--lr", 0.01, *options) == 0
    assert [row["learning_rate"] for row in rows(here, "run")] == pytest.approx([0.01 * e for e in expected])


@pytest.mark.parametrize(
    ("losses", "times"),
    [
        ([], 0),
        ([3, 2, 1], 0),
        ([1, 1], 0),
        ([1, 1, 1], 1),
        ([1, 2, 0.5, 2], 0),
        ([1, 2, 2, 2, 2], 2),
        ([9, 9, 9, 1], 1),
    ],
)
def test_a_plateau_lowers_the_learning_rate_whenever_the_losses_have_not_fallen_for_long(losses, times):
    schedule = optim.Plateau(0.5, factor=0.1, patience=1)
    schedule.report([5, 5, 5])  # what was told before does not count
    schedule.report(losses)
    assert schedule(7) == pytest.approx(0.5 * 0.1**times)


@pytest.mark.parametrize("options", [{"factor": 1}, {"factor": 0}, {"patience": -1}, {"threshold": 1}])
def test_a_plateau_that_would_not_lower_anything_is_error_of(options):
    with pytest.raises(ValueError, match=r"^Plateau: (factor|patience|threshold) must be"):
        optim.Plateau(0.1, **options)


# ---- accumulated gradients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "more"), some([(LM, []), (LM, DEEP), (PAIRS, []), (PAIRS, DEEP)]))
def test_accumulated_batches_are_one_batch(here, kind, more):
    for out, batch, parts in ("one", 6, 1), ("parts", 2, 3):
        assert train(kind, out, "--batch", batch, "--accumulate", parts, "--epochs", 3, *more) == 0
    at_once, in_parts = arrays(here, "one"), arrays(here, "parts")
    for name, array in at_once.items():
        np.testing.assert_allclose(in_parts[name], array, rtol=1e-8, atol=1e-12, err_msg=name)
    for a, b in zip(rows(here, "one"), rows(here, "parts"), strict=True):
        assert a == pytest.approx(b, rel=1e-12)


def test_scheduled_sampling_goes_with_accumulated_batches(here):
    assert train(PAIRS, "run", "--batch", 3, "--accumulate", 4, "--sampling", 0.5, "--epochs", 2) == 0


# ---- an early stop --------------------------------------------------------------------------------------------------


def test_a_run_stops_when_held_out_data_gain_nothing_and_more_patience_goes_on(here, capsys):
    options = ["--batch", 4, "--epochs", 9, "--lr", 1.0, "--schedule", "constant"]
    assert train(LM, "whole", *options, "--patience", 4) == 0
    assert train(LM, "run", *options, "--patience", 2) == 0
    said, losses = capsys.readouterr().out, [row["valid_loss"] for row in rows(here, "run")]
    best = 1 + losses.index(min(losses))
    assert len(losses) == best + 2 < 9
    assert f"ended after epoch {best + 2}: none was better than epoch {best}; a larger --patience goes on" in said
    assert resume(LM, "run") == 0 and "ended after epoch" in capsys.readouterr().out
    assert len(rows(here, "run")) == best + 2
    assert resume(LM, "run", "--patience", 1) == 0, "it has waited longer"
    said = capsys.readouterr().out
    assert "ended after epoch" in said and "goes on at" not in said and len(rows(here, "run")) == best + 2
    assert resume(LM, "run", "--patience", 4) == 0
    assert_same(here, "whole", "run")


# ---- lines of a log -------------------------------------------------------------------------------------------------


def test_lines_between_epochs_come_after_every_so_many_updates(capsys):
    assert train(LM, "run", "--batch", 4, "--epochs", 2, "--log-every", 5) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if ", batch " in line]
    assert [line.split(":")[0] for line in lines] == [f"epoch {e}/2, batch {b} of 13" for e in (1, 2) for b in (5, 10)]
    assert re.search(r": bits per character \d\.\d{3}, learning rate 0\.0\d+, [\d,]+ characters/s$", lines[0])


@pytest.mark.parametrize("terminal", [False, True])
def test_a_line_comes_every_minute_where_no_terminal_shows_a_bar(monkeypatch, terminal):
    clock, line = [0.0], "" if terminal else "4.5 30 75"
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(log.sys, "stdout", type("Stream", (), {"isatty": lambda self: terminal})())
    made, said = log.Log(0, lambda nats, tokens, seconds: f"{nats:g} {tokens} {seconds:g}"), []
    for batch in range(1, 8):
        clock[0] += 25
        said.append(made.told(batch, 1.5, 10))
    assert said == ["", "", line, "", "", line, ""]


# ---- other runs -----------------------------------------------------------------------------------------------------


@KINDS
def test_the_options_of_a_run_make_the_same_run_and_the_command_line_wins(here, kind):
    assert train(kind, "a", "--batch", 5, "--epochs", 2, "--optimizer", "sgd", "--lr", 0.1, "--accumulate", 2) == 0
    again = [kind[0], "--config", "a/config.json"]
    assert train(again, "b") == 0
    assert_same(here, "a", "b")
    a, b = (json.loads((here / out / "config.json").read_text()) for out in "ab")
    assert a == b and a["accumulate"] == 2 and a["optimizer"] == "sgd"
    assert train(again, "c", "--lr", 0.2, "--epochs", 1) == 0
    c = json.loads((here / "c" / "config.json").read_text())
    assert {key for key in a if a[key] != c[key]} == {"lr", "epochs"}
    assert train(again, "d", "--optimizer", "adamw", "--epochs", 1) == 0
    assert json.loads((here / "d" / "config.json").read_text())["weight_decay"] == 0.01  # not 0, which was sgd's


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"hiden": 3, "task": "lm"}', "has options that there are not: hiden; take them out"),
        ('{"hidden": "3"}', "hidden: must be of type int, got '3'"),
        ('{"lr": -1}', "lr: must be a finite number greater than 0, got -1"),
        ('{"task": "seq2seq"}', "must hold the options of a language model, got those of something else"),
        ("[1]", "must hold the options of a language model"),
        ("{", "must be JSON, as a run's config.json"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_of_options_that_is_none_is_named(here, capsys, content, message):
    if content is not None:
        (here / "options.json").write_text(content)
    error = error_of(capsys, "train", "lm", "--config", "options.json", "--out", "run")
    assert "options.json" in error and message in error and not (here / "run").exists()


@KINDS
def test_a_run_begins_with_the_weights_of_another(here, kind, monkeypatch):
    assert train(kind, "a", "--batch", 4, "--epochs", 2) == 0
    begin = [kind[0], "--from", "a", *kind[kind.index("float64") + 1 :]]
    found = {}

    def looks(self, *_):
        found.update(self.model.state_dict())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", looks)
        patch.setattr("tinygrad_rnn.tasks.run_folder.RunFolder.withdraw", lambda _: None)  # as one that was killed
        for argv in ["train", *begin, "--out", "b", "--dropout", "0"], ["train", kind[0], "--out", "b", "--resume"]:
            found.clear()
            assert main(argv) == 130
            best = load_checkpoint(here / "a" / "best.safetensors")[0]
            assert found and all(np.array_equal(best[f"model.{name}"], array) for name, array in found.items())
    assert resume(kind, "b", "--epochs", 1) == 0
    a, b = (json.loads((here / out / "config.json").read_text()) for out in "ab")
    assert b["from_run"] == str(here / "a") and (a["hidden"], a["cell"]) == (b["hidden"], b["cell"])
    names = [path.name for path in (here / "a").glob("*vocabulary.json")]
    assert names and all((here / "a" / n).read_bytes() == (here / "b" / n).read_bytes() for n in names)


def test_what_a_run_has_is_named_as_it_is_written(here, capsys):
    assert train(LM, "a", "--batch", 4, "--epochs", 1) == 0
    again = ["train", "lm", "--out", "a", "--resume"]
    assert "the options of a run stay; it has no --from, got " in error_of(capsys, *again, "--from", "a")
    assert "it has no --words, got True" in error_of(capsys, *again, "--words")
    assert "it has --seed 0, got 3" in error_of(capsys, *again, "--seed", 3)
    begin = ["train", "lm", "--text", "text", "--out", "b", "--from", "a"]
    assert f"{here / 'a'} has no --words, got True; leave the option out" in error_of(capsys, *begin, "--words")


def test_lines_and_tensorboard_may_be_others_when_a_run_goes_on(here):
    pytest.importorskip("tensorboardX")
    assert train(LM, "a", "--batch", 4, "--epochs", 1, "--log-every", 5) == 0
    assert resume(LM, "a", "--epochs", 2, "--log-every", 7, "--tensorboard") == 0
    assert (here / "a" / "tensorboard").is_dir()


def test_what_cannot_begin_with_another_run_is_named(here, capsys):
    assert train(LM, "a", "--batch", 4, "--epochs", 1) == 0
    begin = ["train", "lm", "--text", "text", "--out", "b", "--from"]
    error = error_of(capsys, *begin, "a", "--hidden", 7)
    assert f"--from: the model stays as it is; {here / 'a'} has --hidden 6, got 7; leave the option out" in error
    assert "is no run folder" in error_of(capsys, *begin, "nowhere")
    assert "must hold a model of pairs" in error_of(capsys, "train", "seq2seq", "--pairs", "pairs", "--from", "a")
    (here / "text").write_text("ΑΒΓ\n" * 100)
    assert "every character must occur in the text that was learned" in error_of(capsys, *begin, "a")
    for path in (here / "a").glob("*.safetensors"):
        path.unlink()
    assert "must hold trained weights, it has none yet" in error_of(capsys, *begin, "a")
    assert not (here / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimizer", "adm"], "invalid choice: 'adm'"),
        (["--schedule", "plateau", "--gamma", 1], "Plateau: factor must be greater than 0 and less than 1, got 1.0"),
        (["--subwords", 300, "--min-count", 2], "--min-count: must be at least 0, and left out beside subwords, got 2"),
        (["--subwords", 300, "--max-vocab", 9], "--max-vocab: must be at least 0, and left out beside subwords, got 9"),
        (["--accumulate", 0], "--accumulate: must be at least 1, got 0"),
        (["--log-every", -1], "--log-every: must be at least 0, got -1"),
        (["--config", "x", "--resume"], "--config: must be left out with --resume"),
    ],
)
def test_bad_options_are_named(here, capsys, options, message):
    assert message in error_of(capsys, "train", *LM, "--out", "run", *options)
    assert not (here / "run").exists()
