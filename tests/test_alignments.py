"""Alignments of words: the error rate, IBM model 1 and attention on data made up; and the example itself."""

import functools
import json

from importlib import metadata

import numpy as np
import pytest

from commands import need
from test_examples import ROOT, load

import tinygrad_rnn as tg

from tinygrad_rnn import nn
from tinygrad_rnn.data import IGNORED, Pairs
from tinygrad_rnn.metrics import alignment_error_rate
from tinygrad_rnn.tasks.translation import build

alignments = load(ROOT / "examples/alignments.py")
testament = alignments.testament


# ---- the error rate -------------------------------------------------------------------------------------------------


def test_the_error_rate_is_of_all_links_together():
    gold = [{(0, 0), (1, 1), (2, 1)}, {(0, 3)}]
    assert alignment_error_rate(gold, gold) == 0
    assert alignment_error_rate([{(0, 1)}, {(3, 0)}], gold) == 1, "(t, s) is not (s, t)"
    found = [{(0, 0), (1, 0)}, {(0, 3)}]  # two of three are right, two of four are found: 1 - (2 + 2) / (3 + 4)
    assert alignment_error_rate(found, gold) == pytest.approx(3 / 7)
    assert alignment_error_rate([enumerate([0, 0]), [(0, 3), (0, 3)]], gold) == pytest.approx(3 / 7), "any iterable"


def test_the_error_rate_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match=r"^alignment_error_rate: there must be gold links for each of 2 sentences"):
        alignment_error_rate([[], []], [[]])
    with pytest.raises(ValueError, match=r"^alignment_error_rate: there must be at least one link, got none$"):
        alignment_error_rate([[]], [[]])


# ---- IBM model 1 ----------------------------------------------------------------------------------------------------

VERSES = [np.array([0, 1]), np.array([0])], [np.array([0, 1]), np.array([0])]


@pytest.mark.parametrize(
    ("rounds", "expected"),
    [
        (1, [[3 / 4, 1 / 4], [1 / 2, 1 / 2]]),  # by hand: word 0 is said by 0 alone once, by either of two once
        (2, [[24 / 29, 5 / 29], [3 / 8, 5 / 8]]),
        (400, [[1, 0], [0, 1]]),
    ],
)
def test_the_lexicon_is_that_of_em_by_hand(rounds, expected):
    t = alignments.ibm1(*VERSES, (3, 2), rounds)
    assert t[:2] == pytest.approx(np.array(expected), abs=5e-3 if rounds == 400 else 1e-12)
    assert not t[2].any(), "what is never read says nothing"


def test_em_never_makes_what_was_said_less_likely():
    rng = np.random.default_rng(0)
    xs, ys = ([rng.integers(0, 5, rng.integers(1, 6)) for _ in range(30)] for _ in range(2))
    likely = []
    for rounds in range(1, 7):
        t = alignments.ibm1(xs, ys, (5, 5), rounds)
        assert t.sum(1) == pytest.approx(1)
        likely.append(sum(np.log(t[x][:, y].mean(0)).sum() for x, y in zip(xs, ys, strict=True)))
    assert (np.diff(likely) > 0).all()


# ---- attention ------------------------------------------------------------------------------------------------------


def test_the_weights_of_a_word_are_those_of_the_step_that_says_it():
    tg.manual_seed(0)
    model = build(alignments.CONFIG, 9, 8).eval()
    pairs = Pairs(
        [np.array([3, 4, 5]), np.array([6, 7])], [np.array([3, 4]), np.array([5, 6, 7, 3])], 2, start=1, end=2
    )
    batch, t = pairs.batch([0, 1]), np.random.default_rng(0).random((9, 8), np.float32)
    nats, weights, joint = alignments.read(model, t, batch)
    state, right = model.encode(batch.source, batch.lengths), []
    for step, (said, target) in enumerate(zip(batch.inputs, batch.targets, strict=True)):
        logits, state = model.step(said, state)
        alpha = nn.attention_weights(state).numpy()
        assert weights[step].numpy() == pytest.approx(alpha, abs=1e-6)
        for b in (b for b in range(2) if target[b] != IGNORED):
            right.append(-float(tg.ops.log_softmax(logits)[b, target[b]].item()))
            expected = [alpha[b, j] * t[batch.source[j, b], target[b]] for j in range(3)]
            assert joint[step, b].numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert nats.item() == pytest.approx(np.mean(right), abs=1e-5)
    behind = batch.targets == IGNORED
    assert behind.any() and joint.sum(-1).numpy()[behind] == pytest.approx(1), "no loss where nothing is said"


def in_order(rng, n):
    """Pairs in which each word is said by two, in the same order, and links; words come often twice."""
    xs = [rng.integers(0, 6, rng.integers(3, 6)) for _ in range(n)]
    pairs = [(" ".join(f"g{word}" for word in x), " ".join(f"e{word} f{word}" for word in x)) for x in xs]
    return pairs, [{(t, t // 2) for t in range(2 * len(x))} for x in xs]


def test_attention_learns_what_a_lexicon_cannot_know_which_of_two_like_words(monkeypatch, capsys):
    pytest.importorskip("sacrebleu")
    rng, drawn = np.random.default_rng(0), []
    asked, gold = in_order(rng, 40)
    monkeypatch.setattr(testament, "parts", lambda most: (in_order(rng, 300), (asked, gold)))
    monkeypatch.setattr(alignments.viz, "alignment", lambda *what, marked: drawn.append((*what, marked)))
    scores = alignments.main(2, picture="a.svg")
    diagonal, ibm1, attention, told = list(scores.values())[:4]
    assert diagonal == 0 and 0.1 < ibm1 < 0.4
    assert told < 0.3 * ibm1 and told <= attention < 0.5 * ibm1  # 0.17 and 0.3; by the decoder's loss alone 0.46, 0.78
    assert 10 < scores["BLEU"] < 100 and 30 < scores["chrF"] < 100
    assert f"IBM model 1: {ibm1:.3f}\n" in capsys.readouterr().out
    ((weights, greek, english, picture, marked),) = drawn
    assert (greek, english) == tuple(text.split() for text in asked[0]) and picture == "a.svg"
    assert {*map(tuple, np.argwhere(marked).tolist())} == gold[0]
    assert weights.shape == marked.shape and weights.sum(1) == pytest.approx(1)


# ---- the New Testament ----------------------------------------------------------------------------------------------


class File:
    def __init__(self, name, text):
        self.name, self.text = name, text

    def read_text(self, encoding):
        assert encoding == "utf-8"
        return self.text


def files(records):
    greek = ["n01001001001\tx\tΘεέ", "n01001001002\tx\tκαί", "n01001002001\tx\tθεός"]
    english = ["01001001001\tGod\t", "01001001002\t,\ty", "01001001003\t“the\t", "01001002001\tGod’s\t"]
    return [
        File("SBLGNT.tsv", "\n".join(["id\tform\tlemma", *greek, ""])),
        File("nt_BSB.tsv", "\n".join(["id\ttext\texclude", *english, ""])),
        File("SBLGNT-BSB-manual.json", json.dumps({"records": records})),
    ]


def test_words_and_links_are_counted_without_punctuation_and_within_a_verse(monkeypatch):
    records = [
        {"source": ["n01001001001", "n01001001002"], "target": ["01001001003"]},
        {"source": ["n01001002001"], "target": ["01001001001", "01001002001"]},  # the first into another verse
    ]
    monkeypatch.setattr(testament.metadata, "files", lambda name: files(records))
    assert testament.verses() == {
        "01001001": (["θεέ", "καί"], ["god", "_the"], {(1, 0), (1, 1)}),
        "01001002": (["θεός"], ["god_s"], {(0, 0)}),
    }
    monkeypatch.setattr(testament.metadata, "files", lambda name: files(records[:1]))
    assert list(testament.verses()) == ["01001001"], "a verse without links is no judge"


def test_whole_chapters_are_held_out_and_long_verses_left_out(monkeypatch):
    chapters = [f"46{chapter:03}" for chapter in range(1, 21)]
    found = {f"{c}{v:03}": ([c], [c, "x"], {(0, 0)}) for c in chapters for v in range(1, 16)}
    found["46001001"] = ["a"], ["b"] * 41, {(0, 0)}
    found["46001002"] = ["a"], ["b"] * 40, {(1, 0)}
    monkeypatch.setattr(testament, "verses", lambda: found)
    monkeypatch.setattr(testament, "SHOWN", "46016013")
    (texts, links), (asked, gold) = testament.parts()
    assert {text for text, _ in asked} == {"46006", "46016"} and len(asked) == len(gold) == 30
    assert asked[0][0] == "46016", "what is shown comes first"
    assert len(texts) == len(links) == 20 * 15 - 30 - 1 and {(1, 0)} in links
    assert {text for text, _ in texts}.isdisjoint({"46006", "46016"})
    assert [len(pairs) for pairs, _ in testament.parts(most=7)] == [7, 7]


def test_without_the_data_a_line_says_what_to_install(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(testament.metadata, "files", missing)
    with pytest.raises(SystemExit, match="bible-alignments is not installed; pip install --no-deps bible-alignments"):
        alignments.main()


@pytest.fixture
def package():
    need("bible-alignments")


def test_the_example_runs(package, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(testament, "verses", functools.cache(testament.verses))  # it takes two seconds to read them
    pytest.importorskip("sacrebleu"), pytest.importorskip("matplotlib")
    scores = alignments.main(epochs=1, most=16, picture=tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert scores["the diagonal"] == pytest.approx(0.7, abs=0.1)
    assert all(0 < scores[name] < 1 for name in ("IBM model 1", "attention", "attention, told the word"))
    testament.main()
    assert "love – ἀγάπη\n" in capsys.readouterr().out
