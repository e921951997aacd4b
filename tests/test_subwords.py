"""Subwords: texts that come back, other cuts of them, runs that need only their folder; unknown words replaced."""

import json
import re

from dataclasses import replace

import numpy as np
import pytest

from commands import error_of

from tinygrad_rnn.cli.main import main
from tinygrad_rnn.data import END, START, UNKNOWN, Subwords, Vocabulary
from tinygrad_rnn.decode import Hypothesis
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.checkpoint import load_checkpoint
from tinygrad_rnn.tasks.fit import Trainer
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.translation import KIND, Translator

tokenizers = pytest.importorskip("tokenizers")

LEARNED = ["the quick brown fox jumps over the lazy dog\n", "quicker quickest, browner brownest; foxes\n"] * 9
TEXTS = ["the quickest fox\n", "", " two  gaps\t", "naïve ☃ 猫🙂", "ends here: </s> <s>", "\n\n", "e\u0301"]
SMALL = ["--cell", "rnn", "--hidden", "6", "--embed", "4", "--epochs", "2", "--batch", "4", "--dtype", "float64"]


@pytest.fixture(scope="module")
def learned():
    return Subwords.of(LEARNED, 296, [START, END])


@pytest.fixture
def here(tmp_path, monkeypatch, without_pictures):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("".join(LEARNED) * 3)
    words = ["red", "green", "blue", "big", "small", "old", "new"]
    names = {word: f"{word[::-1]}en" for word in words}
    lines = [f"{a} {b}\t{names[b]}, {names[a]}!\n" for a in words for b in words]
    (tmp_path / "pairs").write_text("".join(lines))
    return tmp_path


# ---- tokens --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_comes_back_from_its_subwords(learned, text):
    ids = learned.encode(text)
    assert learned.decode(ids) == text == "".join(learned.written(ids))
    assert not {learned.ids[START], learned.ids[END]} & {*ids.tolist()}, "what a text says ends no target"
    assert len(learned.split(text)) == len(ids)
    for n in range(len(ids)):
        head = learned.decode(ids[:n])
        if not head.endswith("\ufffd"):
            assert head + "".join(learned.written(ids[n:], ids[:n])) == text


def test_what_ends_within_a_character_is_written_too(learned):
    for text in ("a\ufffd", "\ufffd\ufffd", "\ufffd fox"):
        assert "".join(learned.written(learned.encode(text))) == text
    ids = learned.encode("a 猫")[:-1]
    assert "".join(learned.written(ids)) == learned.decode(ids) == "a \ufffd"
    assert "".join(learned.written([])) == ""
    assert learned.shown([learned.ids[START]]) == [START], "what decodes to nothing is named"


def test_subwords_are_learned_to_a_size_and_are_those_of_the_library(learned):
    assert len(learned) == 296 and learned.tokens[:2] == [START, END]
    assert learned.split("the quickest 猫") == ["the", " quickest", " ", *["\ufffd"] * 3]
    assert learned.decode([0, *learned.encode("fox"), 1]) == "fox"
    theirs = tokenizers.Tokenizer.from_str(json.dumps(learned.as_dict()))
    assert theirs.encode("the quickest").ids == learned.encode("the quickest").tolist()
    assert learned.newline == learned.encode("\n")[0]
    again = Subwords(json.loads(json.dumps(learned.as_dict())), [START, END])
    assert again.tokens == learned.tokens and again.ids == learned.ids


@pytest.mark.parametrize("text", TEXTS)
def test_cuts_without_dropout_are_the_library_s(learned, text):
    rng = np.random.default_rng(0)
    assert learned.encode_with_dropout(text, 0, rng).tolist() == learned.encode(text).tolist()


def test_dropout_cuts_a_text_in_many_ways_that_are_all_the_text(learned):
    rng = np.random.default_rng(0)
    found = [learned.encode_with_dropout("the quickest", 0.3, rng).tolist() for _ in range(60)]
    assert all(learned.decode(ids) == "the quickest" for ids in found)
    assert len({*map(tuple, found)}) > 10
    always = learned.encode_with_dropout("the quickest", 1, rng)
    assert learned.split("") == [] and len(always) == len("the quickest")
    mean = [
        np.mean([len(learned.encode_with_dropout("quickest", p, rng)) for _ in range(40)]) for p in (0, 0.2, 0.6, 1)
    ]
    assert mean == sorted(mean) and mean[0] < mean[1] < mean[3] == 8
    rng = np.random.default_rng(0)
    assert [learned.encode_with_dropout("the quickest", 0.3, rng).tolist() for _ in range(60)] == found


def test_a_tokenizer_of_another_kind_gets_the_tokens_that_it_lacks():
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "red": 1, "fox": 2}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    found = Subwords(json.loads(made.to_str()), [START, END])
    assert found.tokens == ["[UNK]", "red", "fox", START, END] and found.newline == 0
    assert found.encode("red cat fox").tolist() == [1, 0, 2] and found.decode([1, 2, 4]) == "red fox"
    with pytest.raises(ValueError, match=r"^--bpe-dropout: the tokenizer must be byte pair encoding of bytes"):
        found.check_dropout()


# ---- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["learned", "given"])
def test_a_language_model_of_subwords_needs_its_folder_alone(here, learned, capsys, how):
    (here / "tokenizer.json").write_text(json.dumps(learned.as_dict()))
    option = ["--subwords", "310"] if how == "learned" else ["--tokenizer", "tokenizer.json"]
    assert main(["train", "lm", *SMALL, "--text", "text", "--steps", "8", "--out", "run", *option]) == 0
    assert f"{295 if how == 'learned' else 296} different subwords" in capsys.readouterr().out
    (here / "tokenizer.json").unlink()
    model, subwords = language_model.load(RunFolder(here / "run"))
    assert isinstance(subwords, Subwords) and len(model.embedding.E) == len(subwords)
    for command in (
        ["sample", "run", "--prompt", "The naïve ", "--length", "9", "--temperature", "3"], ["score", "run", "quick ☃"],
        ["evaluate", "run"], ["draw", "run", "--text", "the fox", "--out", "run.svg"],
        ["train", "lm", "--out", "run", "--resume", "--epochs", "3"],
        ["train", "lm", "--from", "run", "--text", "text", "--epochs", "1", "--out", "next"],
    ):  # fmt: skip
        assert main(command) == 0, command
    said = capsys.readouterr().out
    assert "\nper subword" in said and said.startswith("The naïve ")
    if how == "learned":
        again = ["--tokenizer", "run/vocabulary.json", "--out", "again"]
        assert main(["train", "lm", *SMALL, "--text", "text", "--steps", "8", *again]) == 0


def train(out, *more):
    sides = ["--source-subwords", "300", "--target-subwords", "310", "--attention", "dot"]
    return main(["train", "seq2seq", *SMALL, "--pairs", "pairs", *sides, "--out", out, *map(str, more)])


@pytest.mark.slow
def test_a_model_of_pairs_of_subwords_writes_text(here, capsys):
    assert train("run", "--hidden", 24, "--embed", 16, "--epochs", 25, "--lr", 0.02, "--dropout", 0) == 0
    translator = Translator.load(RunFolder(here / "run"))
    assert translator.scored("neder, neulb!") == ["neder", ",", "neulb", "!"]
    capsys.readouterr()
    assert main(["translate", "run", "big red", "--beam", "2"]) == 0
    assert capsys.readouterr().out == "deren, giben!\n"
    assert main(["evaluate", "run", "--pairs", "pairs", "--bleu"]) == 0
    assert float(re.search(r"accuracy ([\d.]+)%", capsys.readouterr().out)[1]) > 80


@pytest.mark.slow
def test_a_run_with_dropped_merges_that_dies_ends_as_if_it_had_not(here, monkeypatch):
    assert train("whole", "--bpe-dropout", 0.2) == 0
    run_batch, done = Trainer._batch, []

    def dies(self, batch, *asked):
        done.append(batch)
        if len(done) in (3, 15):
            raise ValueError("power cut")
        return run_batch(self, batch, *asked)

    monkeypatch.setattr(Trainer, "_batch", dies)
    assert train("broken", "--bpe-dropout", 0.2, "--save-every", 0) == 2
    while main(["train", "seq2seq", "--out", "broken", "--resume", "--save-every", "0"]) == 2:
        assert len(done) < 99
    (a, _), (b, _) = (load_checkpoint(here / out / "last.safetensors") for out in ("whole", "broken"))
    assert all(np.array_equal(a[name], b[name]) for name in a) and a.keys() == b.keys()
    assert len(done) > 20


def test_each_epoch_has_other_cuts_of_the_same_pairs(here):
    assert train("run", "--bpe-dropout", 0.4, "--epochs", 1) == 0
    config = KIND.read_config(RunFolder(here / "run"))
    _, tokens = KIND.load(RunFolder(here / "run"))
    cut, _ = KIND.batches(config, KIND.read(config)[0], *tokens)
    first, second = [[tokens[0].decode(s) for s in cut(epoch).sources] for epoch in (0, 1)]
    assert first == second
    lengths = [cut(epoch).lengths.tolist() for epoch in (0, 1, 0)]
    assert lengths[0] == lengths[2] != lengths[1]
    others, _ = KIND.batches(replace(config, seed=config.seed + 1), KIND.read(config)[0], *tokens)
    known = dict(zip(map(tokens[0].decode, cut(0).sources), map(len, cut(0).sources), strict=True))
    again = [(tokens[0].decode(s), len(s)) for s in others(0).sources]
    assert any(known[text] != n for text, n in again if text in known), "another seed cuts otherwise"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["lm", "--text", "text", "--subwords", "299"], "--subwords: must be at least 300 (each byte is one), or 0"),
        (["lm", "--text", "text", "--subwords", "300", "--words"], "--subwords: must be left out beside --words"),
        (["lm", "--text", "text", "--subwords", "300", "--max-vocab", "9"], "--max-vocab: must be at least 0, and"),
        (["lm", "--text", "text", "--tokenizer", "none"], "there is no file"),
        (["lm", "--text", "text", "--tokenizer", "text"], "text'"),
        (["lm", "--text", "text", "--tokenizer", "json"], "it must be the JSON of the library tokenizers"),
        (["seq2seq", "--pairs", "pairs", "--bpe-dropout", "0.1"], "--bpe-dropout: must be from 0 to less than 1, and"),
        (["seq2seq", "--pairs", "pairs", "--source-subwords", "300", "--source-words"], "--source-subwords: must be"),
    ],
)  # fmt: skip
def test_bad_subwords_are_named(here, capsys, options, message):
    (here / "json").write_text("{}")
    assert message in error_of(capsys, "train", *options, "--out", "run")
    assert not (here / "run").exists()


def test_the_missing_library_is_named(here, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    error = error_of(capsys, "train", "lm", "--text", "text", "--subwords", "300", "--out", "run")
    assert 'tokenizers is not installed; pip install "tinygrad-rnn[subwords]"' in error


# ---- unknown words -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [0, 2])
def test_an_unknown_word_becomes_the_one_that_attention_points_at(heads):
    source, target = (Vocabulary([UNKNOWN, START, END, "a", "b", ",‿"], words=True) for _ in range(2))
    weights = np.array([[0.1, 0.8, 0.1, 0.0], [0.3, 0.1, 0.6, 0.9], [0.9, 0.1, 0.0, 0.0]])
    weights = np.stack([weights] * heads, -1) if heads else weights
    translator = Translator(None, source, target)
    hypothesis = Hypothesis([3, 0, 0], 0.0, 0.0, True, weights)
    assert translator.text(hypothesis) == "a <unk> <unk>"
    assert translator.text(hypothesis, "Ω ψ χ") == "a χ Ω", "what lies behind the source counts for nothing"
    assert translator.text(hypothesis._replace(weights=None), "Ω ψ χ") == "a <unk> <unk>"


def test_unknown_words_are_replaced_from_the_command_line_where_they_can_be(here, capsys):
    words = ["--source-words", "--target-words"]
    run = ["train", "seq2seq", *SMALL, "--epochs", "1", "--pairs", "pairs", "--out"]
    assert main([*run, "words", *words, "--min-count", "99"]) == 0
    assert main([*run, "none", *words, "--attention", "context"]) == 0 and main([*run, "letters"]) == 0
    Translator.load(RunFolder(here / "words")).check_replacing()
    capsys.readouterr()
    for command in ["translate", "words", "big zebra"], ["evaluate", "words", "--pairs", "pairs"]:
        assert main([*command, "--replace-unk"]) == 0
        assert "<unk>" not in capsys.readouterr().out
    assert "this model was trained without attention" in error_of(capsys, "translate", "none", "x", "--replace-unk")
    assert "the tokens of both sides must be words" in error_of(capsys, "translate", "letters", "x", "--replace-unk")
