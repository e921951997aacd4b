"""The main job: a language model is trained, stopped, resumed, sampled and scored, from the command line."""

import csv
import itertools
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from commands import error_of
from comparing import some
from safetensors.numpy import load_file, save_file

import tinygrad_rnn as tg

from tinygrad_rnn import decode
from tinygrad_rnn.autograd import nest
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.files import replace_atomically, write_atomically
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder

SMALL = ["--hidden", "12", "--embed", "8", "--batch", "4", "--steps", "8", "--epochs", "2", "--save-every", "0"]
LINE = "the quick brown fox jumps over the lazy dog.\n"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(LINE * 20)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that knows one sentence by heart."""
    path = tmp_path_factory.mktemp("trained")
    (path / "text.txt").write_text(LINE * 120)
    options = ["--hidden", "48", "--embed", "16", "--batch", "8", "--steps", "32", "--epochs", "8", "--lr", "0.02"]
    assert main(["train", "lm", "--text", str(path / "text.txt"), "--out", str(path / "run"), *options]) == 0
    return path / "run"


def train(text, out, *options):
    return main(["train", "lm", "--text", str(text), "--out", str(out), *SMALL, *options])


def same(a, b):
    """Two runs ended with the same bits and the same losses."""
    for name in "last.safetensors", "best.safetensors":
        (x, p), (y, q) = load_checkpoint(a / name), load_checkpoint(b / name)
        assert x.keys() == y.keys()
        for key in x:
            assert x[key].dtype == y[key].dtype
            np.testing.assert_array_equal(x[key], y[key], err_msg=key)
        assert p["generator"] == q["generator"]
        assert [drop_speed(row) for row in p["rows"]] == [drop_speed(row) for row in q["rows"]]
    assert [drop_speed(row) for row in metrics(a)] == [drop_speed(row) for row in metrics(b)]


def metrics(run):
    return list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))


def drop_speed(row):
    return {key: value for key, value in row.items() if "per_second" not in key}


# ---- training and resuming ------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_its_files(trained):
    rows = metrics(trained)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert float(rows[0]["train_bits_per_character"]) > 1
    assert float(rows[-1]["valid_bits_per_character"]) < 0.2  # one sentence, over and over
    assert float(rows[-1]["valid_loss"]) / np.log(2) == pytest.approx(float(rows[-1]["valid_bits_per_character"]))
    assert (trained / "unrolled.svg").read_text().count("<svg") == 1
    assert (trained / "unrolled.png").read_bytes().startswith(b"\x89PNG")
    assert (trained / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("dtype", some(["float32", "float64"]))
def test_a_run_that_dies_at_any_batch_resumes_bit_for_bit(text, tmp_path, monkeypatch, dtype):
    options = ["--layers", "2", "--dropout", "0.3", "--cell", "gru", "--dtype", dtype]
    assert train(text, tmp_path / "whole", *options) == 0
    batches = [0]
    run_batch, out = Trainer._batch, tmp_path / "broken"

    def dies_sometimes(self, batch, *asked):
        batches[0] += 1
        if batches[0] % 17 == 0:
            raise ValueError("power cut")
        return run_batch(self, batch, *asked)

    monkeypatch.setattr(Trainer, "_batch", dies_sometimes)
    code, starts = train(text, out, *options), 1
    while code == 2:
        code, starts = main(["train", "lm", "--out", str(out), "--save-every", "0", "--resume"]), starts + 1
        assert starts < 20
    assert starts > 2
    same(tmp_path / "whole", out)


def test_a_killed_process_resumes_bit_for_bit(text, tmp_path):
    assert train(text, tmp_path / "whole") == 0
    out, command = tmp_path / "killed", [sys.executable, "-m", "tinygrad_rnn.cli.main", "train", "lm"]
    process = subprocess.Popen([*command, "--text", text, "--out", out, *SMALL], stdout=-3, stderr=-3)
    while not (out / "last.safetensors").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it should have been killed on its way"
    done = load_checkpoint(out / "last.safetensors")[1]
    assert done["epoch"] < 2
    assert main(["train", "lm", "--out", str(out), "--resume"]) == 0
    same(tmp_path / "whole", out)
    assert not list(out.glob(".*"))


def test_more_epochs_can_be_asked_for_and_other_options_cannot_change(text, tmp_path, capsys):
    assert train(text, tmp_path / "run") == 0
    assert main(["train", "lm", "--out", str(tmp_path / "run"), "--resume", "--hidden", "13"]) == 2
    assert "it has --hidden 12, got 13" in capsys.readouterr().err
    assert main(["train", "lm", "--out", str(tmp_path / "run"), "--resume", "--epochs", "3"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["epochs"] == 3
    assert "all 2 epochs" not in capsys.readouterr().out
    assert main(["train", "lm", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "all 3 epochs are done" in capsys.readouterr().out
    assert len(metrics(tmp_path / "run")) == 3


def test_a_text_behind_a_link_is_the_same_text_on_resuming(text, tmp_path):
    (tmp_path / "link").symlink_to(text)
    assert train(tmp_path / "link", tmp_path / "run", "--epochs", "1") == 0
    (tmp_path / "run" / ".last-0123abcd.safetensors").touch()
    (tmp_path / "run" / ".my-notes").touch()
    options = ["--text", str(tmp_path / "link"), "--out", str(tmp_path / "run")]
    assert main(["train", "lm", *options, "--resume"]) == 0
    assert [p.name for p in (tmp_path / "run").glob(".*")] == [".my-notes"]


def test_a_seed_makes_a_run_repeatable_and_another_seed_makes_another(text, tmp_path):
    for name, seed in ("a", "1"), ("b", "1"), ("c", "2"):
        assert train(text, tmp_path / name, "--seed", seed, "--epochs", "1") == 0
    same(tmp_path / "a", tmp_path / "b")
    w = [load_file(tmp_path / n / "last.safetensors")["model.output.W"] for n in "ac"]
    assert (w[0] != w[1]).any()


def test_words_are_learned_with_perplexity(tmp_path, capsys):
    (tmp_path / "words.txt").write_text("The cat sat on the mat. The dog ran.\n" * 60)
    assert train(tmp_path / "words.txt", tmp_path / "run", "--words", "--lr", "0.05", "--epochs", "12") == 0
    rows = metrics(tmp_path / "run")
    assert float(rows[-1]["valid_perplexity"]) == pytest.approx(np.exp(float(rows[-1]["valid_loss"])))
    assert float(rows[-1]["valid_perplexity"]) < 1.5
    assert main(["train", "lm", "--out", str(tmp_path / "run"), "--words", "--resume"]) == 0
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "run"), "--prompt", "The cat ", "--temperature", "0", "--length", "5"]) == 0
    assert capsys.readouterr().out == "The cat sat on the mat.\n"


def test_truncated_backpropagation_carries_the_state_and_cuts_the_gradient(text, tmp_path):
    config = language_model.Config(text=str(text), hidden=6, embed=4, batch=2, steps=5, dtype="float64")
    made, _ = language_model.KIND.new_run(config, RunFolder(tmp_path / "run"))
    _, _, carried = made.task.loss(0, made.task.start(0))
    loss, n, _ = made.task.loss(1, carried)
    fresh, _, _ = made.task.loss(1, made.task.start(0))
    assert n == 10
    assert all(not t.requires_grad for t in nest.leaves(carried))
    assert loss.item() != fresh.item()


# ---- sampling and scoring -------------------------------------------------------------------------------------------


def test_greedy_sampling_recites_what_was_learned(trained, capsys):
    assert main(["sample", str(trained), "--prompt", "the quick ", "--temperature", "0", "--length", "35"]) == 0
    assert capsys.readouterr().out == LINE + "\n"


def test_a_seed_makes_a_sample_repeatable(trained, capsys):
    texts = []
    for seed in "1", "1", "2":
        assert main(["sample", str(trained), "--temperature", "3", "--length", "60", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_top_k_leaves_the_k_likeliest(trained):
    model, vocabulary = language_model.load(RunFolder(trained))
    greedy = "".join(language_model.sample(model, vocabulary, "the ", 30, temperature=0))
    assert "".join(language_model.sample(model, vocabulary, "the ", 30, temperature=9, top_k=1, seed=3)) == greedy
    logp = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    rng = np.random.default_rng(0)
    drawn = [int(decode.sample_tokens(logp[None], top_k=2, rng=rng)[0]) for _ in range(4000)]
    assert set(drawn) == {2, 3}
    assert np.mean(np.array(drawn) == 3) == pytest.approx(4 / 7, abs=0.03)
    hot = (
        np.bincount(
            [int(decode.sample_tokens(logp[None], temperature=0.5, rng=rng)[0]) for _ in range(8000)], minlength=4
        )
        / 8000
    )
    np.testing.assert_allclose(hot, np.array([1, 4, 9, 16]) / 30, atol=0.02)


def test_the_score_is_the_chain_rule_over_single_steps(trained):
    model, vocabulary = language_model.load(RunFolder(trained))
    sentence = "the lazy fox"
    ids, state, total = vocabulary.encode("\n" + sentence), model.initial_state(1), 0.0
    with tg.no_grad():
        for now, following in itertools.pairwise(ids):
            logits, state = model.step(np.array([now]), state)
            e = np.exp(logits.numpy()[0].astype(np.float64))
            total += np.log(e[following] / e.sum())
    nats, n = language_model.score(model, vocabulary, sentence)
    assert (nats, n) == (pytest.approx(total, rel=1e-5), len(sentence))
    assert (
        language_model.score(model, vocabulary, LINE)[0] > language_model.score(model, vocabulary, LINE[::-1])[0] + 50
    )


def test_probabilities_over_all_continuations_sum_to_one(trained):
    model, vocabulary = language_model.load(RunFolder(trained))
    one = [np.exp(language_model.score(model, vocabulary, "th" + c)[0]) for c in vocabulary.tokens]
    assert sum(one) == pytest.approx(np.exp(language_model.score(model, vocabulary, "th")[0]), rel=1e-9)


# ---- bad input: one line, exit code 2, nothing half-written ----------------------------------------------


CELLS = """
from tinygrad_rnn import nn
class NoArguments(nn.Cell):
    def __init__(self): pass
class Cell(nn.Cell):
    def __init__(self, input_size, hidden_size):
        self.n, self.U = hidden_size, nn.Parameter(nn.init.zeros((input_size, hidden_size)))
    def initial_state(self, batch_size): return self.zeros(batch_size, self.n)
class OnlyY(Cell):
    def forward(self, x, h): return x @ self.U
class Wide(Cell):
    def forward(self, x, h): return x, h
class Grows(Cell):
    def forward(self, x, h): return h, (h, h)
class Fails(Cell):
    def forward(self, x, h): return x @ h, h
class ThreeArguments(Cell):
    def forward(self, x, h, c): return h, h
class Breaks(Cell):
    def __init__(self, input_size, hidden_size): nonsense
class Counts(Cell):
    def initial_state(self, batch_size): return {"h": self.zeros(batch_size, self.n), "n": 0}
    def forward(self, x, s): return s["h"], {"h": s["h"], "n": s["n"] + 1}
class Two(Cell):
    def initial_state(self, batch_size): return self.zeros(2, self.n)
    def forward(self, x, h): return h, h
class NoCell: pass
class Good(Cell):
    def forward(self, x, h): return x @ self.U + h, h
not_a_class = 1
"""


@pytest.mark.parametrize(
    "cell, message",
    [
        ("lstmm", "must be one of lstm, gru, rnn or"),
        ("no_such_module:Cell", "'no_such_module' cannot be imported"),
        ("broken_cells:X", "(SyntaxError: invalid syntax"),
        ("my_cells:Nothing", "found nothing of that name"),
        ("my_cells:not_a_class", "must be a class derived from nn.Cell, found something else"),
        ("my_cells:NoArguments", "must be made as Class(input_size, hidden_size)"),
        ("my_cells:OnlyY", "must return (y, state)"),
        ("my_cells:Wide", "y must be (batch, hidden_size), got (2, 8)"),
        ("my_cells:Grows", "the state must keep its shapes"),
        ("my_cells:Breaks", "making my_cells:Breaks failed (NameError: name 'nonsense' is not defined)"),
        ("my_cells:Counts", "the state must hold tensors, got int"),
        ("my_cells:Two", "y must be (batch, hidden_size), got (2, 12) for batch 3"),
        ("my_cells:NoCell", "found a class that is not"),
        (
            "my_cells:Fails",
            "a step on zeros failed (ValueError: matmul: the first's last axis must be as long as",
        ),
        ("my_cells:ThreeArguments", "a step on zeros failed (TypeError"),
    ],
)
def test_a_bad_cell_is_named(text, tmp_path, monkeypatch, capsys, cell, message):
    (tmp_path / "my_cells.py").write_text(CELLS)
    (tmp_path / "broken_cells.py").write_text("def")
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_cells", None)
    assert message in error_of(capsys, "train", "lm", "--text", text, "--out", tmp_path / "run", *SMALL, "--cell", cell)
    assert not (tmp_path / "run").exists()


def test_a_good_cell_of_ones_own_trains(text, tmp_path, monkeypatch):
    (tmp_path / "my_cells.py").write_text(CELLS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_cells", None)
    assert train(text, tmp_path / "run", "--cell", "my_cells:Good", "--layers", "2") == 0


def test_bad_texts_and_options_are_named(text, tmp_path, capsys):
    run = ["train", "lm", "--out", tmp_path / "run"]
    assert "there is no file" in error_of(capsys, *run, "--text", tmp_path / "none")
    (tmp_path / "empty").write_text("")
    assert "is empty" in error_of(capsys, *run, "--text", tmp_path / "empty")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    assert "must be UTF-8" in error_of(capsys, *run, "--text", tmp_path / "latin")
    (tmp_path / "short").write_text("hello")
    assert "at least 128 tokens" in error_of(capsys, *run, "--text", tmp_path / "short")
    assert "--hidden: must be at least 1, got 0" in error_of(capsys, *run, "--text", text, "--hidden", "0")
    assert "--lr: must be a finite number greater than 0" in error_of(capsys, *run, "--text", text, "--lr", "-1")
    for option, value in (
        ("lr", "nan"), ("lr", "inf"), ("clip", "-1"), ("clip", "nan"), ("dropout", "1"), ("valid", "1"), ("seed", "-1"),
        ("save-every", "-1"), ("save-every", "nan"),
    ):  # fmt: skip
        assert f"--{option}: must be" in error_of(capsys, *run, "--text", text, f"--{option}", value)
    assert "a smaller --batch needs less" in error_of(capsys, *run, "--text", text, "--batch", "5000")
    assert "must be a file" in error_of(capsys, *run, "--text", tmp_path)
    assert "invalid int value: 'x'" in error_of(capsys, *run, "--hidden", "x")
    assert "no run folder" in error_of(capsys, *run, "--resume")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run(text, tmp_path, capsys):
    options = ["--text", text, "--out", tmp_path / "run", *SMALL, "--lr", "1e38", "--clip", "0", "--epochs", "9"]
    with np.errstate(all="ignore"):
        assert "train: the loss must stay finite, got" in error_of(capsys, "train", "lm", *options)
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_a_run_goes_on_when_nobody_reads_what_it_says(text, tmp_path):
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "lm", "--text", text, "--out", tmp_path / "run", *SMALL]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (0, b"")
    assert len(metrics(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "unrolled.svg").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dtype": "banana"}, "dtype: must be float32 or float64"),
        ({"lr": "0.1"}, "lr: must be of type float, got '0.1'"),
        ({"batch": 0}, "batch: must be at least 1"),
        ({"layers": 2.5}, "layers: must be of type int"),
        ({"words": 1}, "words: must be of type bool"),
    ],
)
def test_a_config_that_was_edited_is_named(trained, tmp_path, capsys, change, message):
    (tmp_path / "config.json").write_text(json.dumps(json.loads((trained / "config.json").read_text()) | change))
    assert message in error_of(capsys, "sample", tmp_path)
    assert message in error_of(capsys, "train", "lm", "--out", tmp_path, "--resume")


def test_a_run_that_lost_its_last_checkpoint_does_not_start_over(text, tmp_path, capsys):
    assert train(text, tmp_path / "run", "--epochs", "1") == 0
    assert "--epochs: must be at least 1" in error_of(
        capsys, "train", "lm", "--out", tmp_path / "run", "--resume", "--epochs", "0"
    )
    (tmp_path / "run" / "last.safetensors").unlink()
    assert "has lost its last.safetensors" in error_of(capsys, "train", "lm", "--out", tmp_path / "run", "--resume")


def test_too_little_memory_is_error_of(text, tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise MemoryError("Unable to allocate 728. TiB")

    monkeypatch.setattr(language_model.LanguageModel, "__init__", fails)
    assert "not enough memory (Unable to allocate 728. TiB)" in error_of(
        capsys, "train", "lm", "--text", text, "--out", tmp_path / "run", *SMALL
    )
    assert not (tmp_path / "run").exists()


def test_no_gpu_is_one_line_that_says_what_to_do(text, tmp_path, capsys):
    line = error_of(capsys, "train", "lm", "--text", text, "--out", tmp_path / "run", "--device", "gpu:99")
    assert line.startswith('tinygrad-rnn: device "gpu')
    assert 'must be "cpu", "gpu" or "gpu:N", got \'tpu\'' in error_of(capsys, "sample", tmp_path, "--device", "tpu")


def test_a_folder_that_holds_something_else_is_left_alone(text, tmp_path, capsys):
    assert train(text, tmp_path / "run", "--epochs", "1") == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    assert "holds another run" in error_of(capsys, "train", "lm", "--text", text, "--out", tmp_path / "run", *SMALL)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").write_text("…")
    assert "is not empty and holds no run" in error_of(
        capsys, "train", "lm", "--text", text, "--out", tmp_path / "thesis"
    )
    assert "must be a folder" in error_of(capsys, "train", "lm", "--text", text, "--out", text)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    text.write_text(LINE * 21)
    assert "is not the text this run was started with" in error_of(
        capsys, "train", "lm", "--out", tmp_path / "run", "--resume"
    )


def test_damaged_and_foreign_checkpoints_are_named(trained, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    for path in trained.iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    whole = (run / "best.safetensors").read_bytes()
    for raw in whole[: len(whole) // 2], b"", b"\xff" * 100:
        (run / "best.safetensors").write_bytes(raw)
        assert "is damaged, or no safetensors file" in error_of(capsys, "sample", run)
    save_file({"weight": np.zeros(3)}, run / "best.safetensors")
    assert "another safetensors file" in error_of(capsys, "sample", run)
    (run / "best.safetensors").write_bytes(whole)
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"hidden": 48', '"hidden": 47'))
    assert "does not fit the run's config" in error_of(capsys, "sample", run)
    (run / "config.json").write_text(config[:50])
    assert "is damaged" in error_of(capsys, "sample", run)
    (run / "config.json").write_text('{"task": "seq2seq"}')
    assert "must hold a language model" in error_of(capsys, "sample", run)
    assert "no run folder" in error_of(capsys, "sample", tmp_path / "nowhere")


def test_bad_prompts_and_sentences_are_named(trained, capsys):
    assert "prompt: every character must occur in the text that was learned, got 'Z' 'é'" in error_of(
        capsys, "sample", trained, "--prompt", "Zé"
    )
    assert "sentence: every character" in error_of(capsys, "score", trained, "Ω")
    assert "the sentence is empty" in error_of(capsys, "score", trained, "")
    assert "temperature must be a finite number of at least 0, got -1" in error_of(
        capsys, "sample", trained, "--temperature", "-1"
    )
    assert "length must be at least 0, got -2" in error_of(capsys, "sample", trained, "--length", "-2")
    assert "seed must be at least 0, got -1" in error_of(capsys, "sample", trained, "--seed", "-1")


# ---- files -----------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def fails(temporary):
        temporary.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_atomically(path, fails)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("view", ["ops", "cells", "circuit"])
def test_a_trained_run_is_drawn_reading_a_text(trained, tmp_path, view):
    pytest.importorskip("graphviz")
    path = tmp_path / "run.svg"
    assert main(["draw", str(trained), "--view", view, "--text", "the dog", "--out", str(path)]) == 0
    svg = path.read_text()
    shown = [c for c in "te␣do" if f">{c}</text>" in svg]
    assert shown == ([] if view == "circuit" else list("te␣do"))
    assert "L = Σ Lₜ" in svg
    assert main(["draw", str(trained), "--text", "t", "--out", str(path)]) == 2
