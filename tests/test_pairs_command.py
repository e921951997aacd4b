"""The command line for pairs: train, resume, translate, evaluate."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from comparing import some

from tinygrad_rnn.cli.main import main
from tinygrad_rnn.tasks import translation
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.translation import Translator

SMALL = ["--hidden", "16", "--embed", "8", "--batch", "16", "--dtype", "float64"]
WORDS = ["".join(letters) for n in (2, 3) for letters in itertools.product("abcd", repeat=n)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Letters, and the words for them from the last to the first."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    names = {"a": "ah", "b": "bee", "c": "sea", "d": "dee"}
    path.write_text("".join(f"{word}\t{' '.join(names[c] for c in reversed(word))}\n" for word in WORDS))
    return path


def train(pairs, out, *more):
    return main(
        ["train", "seq2seq", "--pairs", str(pairs), "--target-words", "--out", str(out), *SMALL, *map(str, more)]
    )


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(pairs, out, "--epochs", 60, "--lr", 0.02, "--dropout", 0) == 0
    return out


def test_a_model_learns_to_spell_backwards_words_that_it_has_not_seen(trained, pairs, capsys):
    held_out = translation.held_out_sources(translation.KIND.read_config(RunFolder(trained)))
    assert held_out and len(held_out) < 10
    assert main(["evaluate", str(trained), "--pairs", str(pairs)]) == 0
    accuracy = float(capsys.readouterr().out.split("accuracy ")[1].split("%")[0])
    assert accuracy > 90
    assert main(["translate", str(trained), "cab"]) == 0
    assert capsys.readouterr().out == "bee ah sea\n"


def test_each_line_of_a_file_is_translated_in_its_place(trained, tmp_path, capsys):
    (tmp_path / "sources").write_text("ab\n\ncba\n")
    main(["translate", str(trained), str(tmp_path / "sources")])
    assert capsys.readouterr().out == "bee ah\n\nah bee sea\n"


def test_the_best_of_several_come_first_with_their_log_probabilities(trained, capsys):
    main(["translate", str(trained), "cab", "--beam", "4", "--n-best", "3"])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines[0][1] == "bee ah sea" and len({text for _, text in lines}) == 3
    assert float(lines[0][0]) <= 0


def test_where_the_model_looked_is_drawn(trained, tmp_path):
    pytest.importorskip("matplotlib")
    main(["translate", str(trained), "cab", "--alignments", str(tmp_path / "a.svg")])
    assert "bee" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize("view", ["attention", "cells", "circuit", "ops"])
def test_a_trained_model_is_drawn_in_every_view(trained, tmp_path, view):
    pytest.importorskip("pygraphviz")
    path = tmp_path / "model.svg"
    assert main(["draw", str(trained), "--text", "cab", "--view", view, "--out", str(path)]) == 0
    svg = path.read_text()
    assert {"attention": "decoder", "cells": ">Attention<", "circuit": "softmax", "ops": "t = 4"}[view] in svg
    if view == "attention":
        assert all(f">{word}<" in svg for word in ("c", "a", "b", "bee", "ah", "sea", "&lt;/s&gt;"))


@pytest.mark.parametrize(
    ("attention", "query"),
    some([*((kind, "output") for kind in translation.MEMORIES), ("general", "previous"), ("additive", "context")]),
)
def test_every_way_to_look_at_the_source_trains_and_translates(pairs, tmp_path, attention, query, capsys):
    more = ["--attention", attention, "--query", query, "--epochs", 1, "--layers", 2, "--cell", "gru"]
    assert train(pairs, tmp_path / "run", *more) == 0
    assert main(["translate", str(tmp_path / "run"), "ab", "--beam", "2"]) == 0
    translator = Translator.load(RunFolder(tmp_path / "run"))
    ((best,),) = translator(["ab"])
    shape = () if attention in ("none", "context") else (4, 2) if attention == "multihead" else (2,)
    assert np.shape(best.weights)[1:] == shape


def test_beam_1_is_greedy_and_batches_do_not_matter(trained):
    translator = Translator.load(RunFolder(trained))
    together = translator(WORDS[:9], batch=4)
    for word, (best,) in zip(WORDS[:9], together, strict=True):
        ((alone,),) = translator([word])
        assert best.tokens == alone.tokens
        assert best.log_prob == pytest.approx(alone.log_prob, abs=1e-9)


def arrays(out):
    found, progress = load_checkpoint(out / "last.safetensors")
    return found, {k: v for k, v in progress.items() if k not in ("seconds", "rows")}, [
        {k: v for k, v in row.items() if k != "tokens_per_second"} for row in progress["rows"]
    ]  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--sampling", "0.5", "--dropout", "0.3"]])
def test_a_killed_run_ends_as_if_nothing_had_happened(pairs, tmp_path, more):
    more = [*more, "--epochs", "3", "--save-every", "0"]
    train(pairs, tmp_path / "whole", *more)
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "seq2seq", "--pairs", pairs, "--target-words", *SMALL]
    run = subprocess.Popen([*map(str, command), "--out", str(tmp_path / "killed"), *more], env=os.environ)
    until = time.monotonic() + 60
    while not (tmp_path / "killed/last.safetensors").exists() and time.monotonic() < until:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert train(pairs, tmp_path / "killed", "--resume") == 0
    (a, progress_a, rows_a), (b, progress_b, rows_b) = arrays(tmp_path / "whole"), arrays(tmp_path / "killed")
    assert progress_a == progress_b and rows_a == rows_b
    assert all(np.array_equal(a[name], b[name]) for name in a) and a.keys() == b.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab\n", "line 1 of"),
        ("ab\tx\tz\n", "must be source TAB target"),
        ("ab\tx\n\tx\n", "line 2 of"),
        ("ab\tx\n", "sources beside those held out, got 1"),
    ],
)
def test_a_file_that_holds_no_pairs_is_named_and_nothing_is_written(tmp_path, capsys, text, message):
    (tmp_path / "pairs").write_text(text)
    assert train(tmp_path / "pairs", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hidden", "7"], "--hidden: must be even"),
        (["--sampling", "2"], "--sampling: must be from 0 to 1, got 2.0"),
        (["--min-count", "0"], "--min-count: must be at least 1, got 0"),
        (["--cell", "nothing"], "--cell: must be one of"),
        (["--attention", "much"], "invalid choice: 'much'"),
    ],
)
def test_bad_options_are_named_in_one_line(pairs, tmp_path, capsys, more, message):
    try:
        code = train(pairs, tmp_path / "run", *more)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_bad_use_of_a_model_is_named_in_one_line(trained, tmp_path, capsys):
    for command, message in (
        (["translate", str(trained), " "], "the source is empty"),
        (["translate", str(trained), "ab", "--beam", "0"], "width must be at least 1"),
        (["translate", str(tmp_path), "ab"], "is no run folder"),
        (["evaluate", str(trained), "--pairs", str(tmp_path / "none")], "there is no file"),
        (["sample", str(trained)], "must hold a language model"),
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_config_holds_what_was_asked_for(trained, pairs):
    config = json.loads((trained / "config.json").read_text())
    assert config["task"] == "seq2seq" and config["pairs"] == str(pairs) and config["target_words"] is True
    assert config["hidden"] == 16 and config["attention"] == "general"


def test_letters_that_were_never_seen_are_unknown(trained, capsys):
    assert main(["translate", str(trained), "xyz"]) == 0
    assert capsys.readouterr().out.endswith("\n")
