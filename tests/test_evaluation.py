"""What a model is validated and tested on, how well it does, vocabularies of a size, and tied embeddings."""

import json
import re

import numpy as np
import pytest

from commands import error_of

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.cli.language_model import evaluated
from tinygrad_rnn.cli.main import main
from tinygrad_rnn.data import END, START, UNKNOWN, Vocabulary
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.language_model import KIND, Config
from tinygrad_rnn.tasks.run_folder import RunFolder

SMALL = ["--cell", "rnn", "--hidden", "6", "--epochs", "1", "--batch", "4", "--dtype", "float64"]
LM, PAIRS = ["train", "lm", *SMALL, "--steps", "8"], ["train", "seq2seq", *SMALL, "--embed", "4"]
PROSE = "the quick brown fox.\n" * 20


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text(PROSE)
    (tmp_path / "valid").write_text("the fox.\n" * 12)
    (tmp_path / "test").write_text("quick the\nbox  rown.\n" * 40)
    (tmp_path / "pairs").write_text("".join(f"m{i}\tn{i % 5}\n" for i in range(20)))
    (tmp_path / "few").write_text("m1\tn1\nm2\tn2\n")
    return tmp_path


# ---- a language model that reads a text ----------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--words"]], ids=["characters", "words"])
def test_what_is_told_of_a_text_is_its_score(here, capsys, words):
    assert main([*LM, "--text", "text", "--out", "run", *words]) == 0
    model, vocabulary = language_model.load(RunFolder(here / "run"))
    text = (here / "test").read_text()
    nats, n = language_model.score(model, vocabulary, text)
    capsys.readouterr()
    assert main(["evaluate", "run", "--text", "test"]) == 0
    title, head, token, blank, note = capsys.readouterr().out.splitlines()
    unknown = int((vocabulary.encode(text) == vocabulary.ids.get(UNKNOWN)).sum())
    assert f"test: {n:,} {'word' if words else 'character'}s" in title
    assert (f"{unknown / n:.2%} of them unknown" in title) == bool(words) == bool(unknown)
    for row, count in (token, n), (blank, len(text.split())):
        found = [float(number.replace(",", "")) for number in re.findall(r"[\d,]+\.\d+", row)]
        each = -nats / count
        assert found == pytest.approx([each, each / np.log(2), np.exp(each)], rel=1e-3, abs=6e-3)
    assert head.split() == ["nats", "bits", "perplexity"] and "what stands between blanks, 160 of them" in note
    assert max(map(len, (title, head, token, blank, note))) < 80


@pytest.mark.parametrize("window", [1, 7, 1024])
def test_how_a_text_is_cut_does_not_matter(here, window):
    vocabulary = Vocabulary.of(PROSE)
    model = language_model.build(Config(hidden=6, embed=4, dtype="float64"), len(vocabulary))
    found = language_model.evaluate(model, vocabulary, PROSE, window)
    nats, n = language_model.score(model, vocabulary, PROSE)
    assert found == (pytest.approx(-nats, rel=1e-12), n, 0, 80)


def test_what_a_run_is_validated_and_tested_on_may_be_files(here, capsys):
    files = ["--valid-text", "valid", "--test-text", "test"]
    assert main([*LM, "--text", "text", *files, "--out", "run"]) == 0
    assert "the test text test: 840 characters\n" in capsys.readouterr().out.replace(f"{here}/", "")
    config = KIND.read_config(RunFolder(here / "run"))
    _, vocabulary = language_model.load(RunFolder(here / "run"))
    learned, held_out = KIND.batches(config, KIND.read(config)[0], vocabulary)
    assert "".join(vocabulary.decode(c) for c in learned[0].columns.T[:, :-1]) == PROSE[: 4 * learned[0].strand]
    assert vocabulary.decode(held_out[0].columns[:, 0]) == (here / "valid").read_text()
    text, ids = language_model.held_out(config, KIND.read(config)[0], vocabulary)
    assert text == vocabulary.decode(ids) == (here / "valid").read_text()
    assert main(["evaluate", "run"]) == 0 and "test: 840 characters" in capsys.readouterr().out
    valid = (here / "valid").read_text()
    (here / "valid").write_text(valid.upper())
    resume = ["train", "lm", "--out", "run", "--resume", "--epochs", "2"]
    assert "is not the valid text this run was started with; --valid-text FILE" in error_of(capsys, *resume)
    (here / "elsewhere").write_text(valid)
    assert main([*resume, "--valid-text", "elsewhere"]) == 0


def test_without_a_file_a_model_is_evaluated_on_what_it_was_validated_on(here, capsys):
    assert main([*LM, "--text", "text", "--out", "run"]) == 0
    assert main([*PAIRS, "--pairs", "pairs", "--valid-pairs", "few", "--test-pairs", "few", "--out", "p"]) == 0
    assert f"{here / 'few'}: 2 sources, 2 targets: accuracy" in capsys.readouterr().out
    assert main(["evaluate", "run"]) == 0 and main(["evaluate", "p"]) == 0
    said = capsys.readouterr().out
    assert "what it was validated on: 21 characters" in said and "few: 2 sources, 2 targets: acc" in said


def test_tokens_that_are_unknown_are_those_that_were_validated_on(here, capsys):
    (here / "text").write_text(PROSE + "a cat.\n" * 2 + "some dogs sleep.\n")
    assert main([*LM, "--text", "text", "--words", "--min-count", "2", "--valid", "0.1", "--out", "run"]) == 0
    config = KIND.read_config(RunFolder(here / "run"))
    _, vocabulary = language_model.load(RunFolder(here / "run"))
    ids = language_model.parts(config, KIND.read(config)[0], vocabulary)[1]
    unknown = (ids == vocabulary.ids[UNKNOWN]).sum()
    assert unknown
    row = json.loads("[" + (here / "run" / "metrics.csv").read_text().splitlines()[1] + "]")
    names = (here / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    said = capsys.readouterr().out
    assert f"{len(ids)} words, {unknown / len(ids):.2%} of them unknown" in said
    found = float(re.search(r"per word +([\d.]+)", said)[1])
    assert found == pytest.approx(row[names.index("valid_loss")], rel=0.3), "but for where strands begin"


@pytest.mark.parametrize("kind", ["lm", "seq2seq"])
def test_what_has_changed_since_is_not_what_was_validated_on(here, capsys, kind):
    start, name = (LM, "text") if kind == "lm" else (PAIRS, "pairs")
    assert main([*start, f"--{name}", name, "--out", "run"]) == 0
    lines = (here / name).read_text().splitlines(keepends=True)
    (here / name).write_text("".join(lines[2:]))
    said = error_of(capsys, "evaluate", "run")
    assert f"evaluate: '{here / name}' is not the {name} this run was started with; --{name} FILE names another" in said


def test_a_file_to_validate_on_that_a_run_never_had_is_left_out(here, capsys):
    assert main([*LM, "--text", "text", "--out", "run"]) == 0
    said = error_of(capsys, "train", "lm", "--out", "run", "--resume", "--valid-text", "valid")
    assert "--resume: this run was started without --valid-text; leave the option out" in said


def test_large_perplexities_are_apart_from_what_stands_before_them():
    found = language_model.Evaluation(900.0, 30, 0, 30)
    rows = [re.split(r" {1,}", line) for line in evaluated("x", found, Vocabulary.of("ab")).splitlines()[2:4]]
    assert [len(row) for row in rows] == [5, 5]


def test_a_file_of_another_kind_is_error_of(here, capsys):
    assert main([*LM, "--text", "text", "--out", "run"]) == 0
    assert main([*PAIRS, "--pairs", "pairs", "--out", "p"]) == 0
    assert "--pairs: must be left out, run holds a language model; --text FILE" in error_of(
        capsys, "evaluate", "run", "--pairs", "pairs"
    )
    assert "--text: must be left out, p holds a model of pairs; --pairs FILE" in error_of(
        capsys, "evaluate", "p", "--text", "text"
    )
    for option in (["--beam", 3], ["--bleu"], ["--length-penalty", 0.5], ["--replace-unk"]):
        said = error_of(capsys, "evaluate", "run", *option)
        assert f"{option[0]}: is for models of pairs, run holds a language model" in said
    (here / "none").write_text("Ω")
    assert "--text: every character must occur in the text" in error_of(capsys, "evaluate", "run", "--text", "none")
    for option in "--valid-text", "--test-text":
        assert "there is no file 'nothing'" in error_of(
            capsys, *LM, "--text", "text", option, "nothing", "--out", "new"
        ).replace(f"{here}/", "")
    (here / "short").write_text("the")
    assert "--valid-text: it must have at least 8 tokens, got 3" in error_of(
        capsys, *LM, "--text", "text", "--valid-text", "short", "--out", "new"
    )


# ---- vocabularies of a size ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "tokens"),
    [
        ("a b b c c c", {"words": True, "min_count": 1, "max_size": 3}, [UNKNOWN, "c", "b"]),
        ("a b b c c c", {"words": True, "max_size": 9}, [UNKNOWN, "c", "b"]),
        ("a b b", {"words": True, "min_count": 1, "max_size": 4, "special": [UNKNOWN, START, END]},
         [UNKNOWN, START, END, "b"]),
        ("cccabb", {"max_size": 3}, [UNKNOWN, "b", "c"]),
        ("cba", {"max_size": 3}, [UNKNOWN, "a", "b"]),
        ("cba", {}, ["a", "b", "c"]),
    ],
)  # fmt: skip
def test_a_vocabulary_keeps_the_most_frequent_tokens(text, options, tokens):
    assert Vocabulary.of(text, **options).tokens == tokens


def test_a_run_keeps_as_many_words_as_are_asked_for(here):
    assert main([*LM, "--text", "text", "--words", "--max-vocab", "4", "--out", "run"]) == 0
    assert len(json.loads((here / "run" / "vocabulary.json").read_text())["tokens"]) == 4
    assert main([*LM, "--text", "text", "--min-count", "21", "--out", "rare"]) == 0
    assert json.loads((here / "rare" / "vocabulary.json").read_text())["tokens"] == [
        UNKNOWN, *sorted(c for c in set(PROSE) if PROSE.count(c) >= 21)
    ]  # fmt: skip


# ---- tied embeddings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [nn.RNNCell, nn.LSTMCell])
def test_a_tied_embedding_gets_both_gradients(cell):
    tg.manual_seed(0)
    tied = language_model.LanguageModel(11, 6, cell(6, 6), 6, tie=True).to("float64")
    assert 0.9 / np.sqrt(6) < np.abs(tied.embedding.E.numpy()).max() <= 1 / np.sqrt(6), "as the output's, which it is"
    free = language_model.LanguageModel(11, 6, tied.recurrent.cell, 6).to("float64")
    free.embedding.E.data, free.output.W.data = tied.embedding.E.numpy(), tied.embedding.E.numpy().T.copy()
    ids = np.random.default_rng(0).integers(0, 11, (7, 3))
    losses = [model.loss(model.read(ids[:-1])[0], ids[1:]) for model in (tied, free)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-12)
    for loss in losses:
        loss.backward()
    both = free.embedding.E.grad.numpy() + free.output.W.grad.numpy().T
    np.testing.assert_allclose(tied.embedding.E.grad.numpy(), both, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tied.bias.grad.numpy(), free.output.b.grad.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tied(ids)[0].numpy(), free(ids)[0].numpy(), rtol=1e-9)
    state = tied.initial_state(3)
    np.testing.assert_allclose(tied.step(ids[0], state)[0].numpy(), tied(ids)[0].numpy()[0], rtol=1e-9)
    assert sum(p.size for p in free.parameters()) - sum(p.size for p in tied.parameters()) == 66


def test_a_run_with_a_tied_embedding_trains_goes_on_and_writes(here, capsys):
    assert main([*LM, "--text", "text", "--tie", "--out", "run"]) == 0
    assert KIND.read_config(RunFolder(here / "run")).embed == 6
    assert main(["train", "lm", "--out", "run", "--resume", "--epochs", "2"]) == 0
    assert main(["sample", "run", "--length", "5"]) == 0 and main(["evaluate", "run"]) == 0
    assert main(["draw", "run", "--text", "the", "--out", "run.svg"]) == 0
    assert "--tie: must be left out unless --embed, 4, is --hidden" in error_of(
        capsys, *LM, "--text", "text", "--tie", "--embed", "4", "--out", "new"
    )
