"""Error rates and BLEU: against their definitions."""

import functools
import math
import subprocess
import sys
import time

from collections import Counter

import numpy as np
import pytest

from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import metrics
from tinygrad_rnn.metrics import corpus_bleu, corpus_chrf, edit_distance, sequence_error_rate, token_error_rate

WORDS = st.text("abc", max_size=7)


def naive(a, b):
    """The distance by its recursive definition."""

    @functools.cache
    def distance(i, j):
        if not i or not j:
            return i + j
        replaced = distance(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, replaced)

    return distance(len(a), len(b))


def neighbours(word, letters):
    """All that one edit makes of a word."""
    for i in range(len(word) + 1):
        for letter in letters:
            yield word[:i] + letter + word[i:]
            if i < len(word):
                yield word[:i] + letter + word[i + 1 :]
        if i < len(word):
            yield word[:i] + word[i + 1 :]


# ---- edit distance --------------------------------------------------------------------------------------------------


@given(WORDS, WORDS)
def test_the_distance_is_the_one_of_its_recursive_definition(a, b):
    assert edit_distance(a, b) == naive(a, b)


@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 3), max_size=30))
def test_the_distance_of_longer_sequences_too(a, b):
    assert edit_distance(a, b) == naive(a, b)


def test_the_distance_is_the_number_of_edits_on_the_shortest_way():
    """Found by going from a word to all its neighbours, and on to theirs."""
    reached, edge = {"abca": 0}, ["abca"]
    for edits in 1, 2:
        edge = {word for near in edge for word in neighbours(near, "abc")} - reached.keys()
        reached |= dict.fromkeys(edge, edits)
    assert len(reached) > 200
    for word, edits in reached.items():
        assert edit_distance("abca", word) == edits


@given(WORDS, WORDS, WORDS)
def test_the_distance_is_a_metric(a, b, c):
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@given(WORDS, WORDS)
def test_the_distance_is_at_least_the_difference_of_the_lengths_and_at_most_the_longer_one(a, b):
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_tokens_are_compared_as_wholes():
    assert edit_distance(["AH", "B"], ["AH", "P", "B"]) == 1
    assert edit_distance(["ab"], ["a", "b"]) == 2
    assert edit_distance((1, 2, 3), np.array([1, 3])) == 1
    assert edit_distance([], []) == 0


def test_12000_pairs_of_words_and_a_few_of_texts_take_less_than_two_seconds():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 40, (24_000, 7)).tolist()
    texts = rng.integers(0, 40, (8, 200)).tolist()
    before = time.process_time()
    for sequences in words, texts:
        for a, b in zip(sequences[::2], sequences[1::2], strict=True):
            edit_distance(a, b)
    assert time.process_time() - before < 2


ODD = st.lists(st.sampled_from([-1, -2, 0, 1, 97, 1.0, 2.5, "a", "\x01", "ab", "", None, ("a",), True]), max_size=20)


@given(ODD, ODD)
def test_the_distance_is_the_same_with_rapidfuzz_and_without(a, b):
    pytest.importorskip("rapidfuzz")
    assert metrics._rapidfuzz() is not None
    with pytest.MonkeyPatch.context() as without:
        without.setattr(metrics, "_rapidfuzz", lambda: None)
        expected = edit_distance(a, b)
    assert edit_distance(a, b) == expected == naive(a, b)


@pytest.mark.parametrize("source", [None, "raise OSError('Could not load librapidfuzz.so')"])
def test_the_distance_needs_no_rapidfuzz(tmp_path, monkeypatch, source):
    """Here is none, or one that cannot be loaded."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rapidfuzz"]:
        monkeypatch.delitem(sys.modules, name)
    if source is None:
        monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    else:
        (tmp_path / "rapidfuzz.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(metrics, "_rapidfuzz", metrics._rapidfuzz.__wrapped__)
    assert metrics._rapidfuzz() is None and edit_distance("kitten", "sitting") == 3


# ---- error rates ----------------------------------------------------------------------------------------------------


def test_the_token_error_rate_is_the_edits_over_the_tokens_of_the_references():
    hypotheses = [["a", "b"], [], ["c", "c", "c", "c"]]
    references = [["a", "x", "b"], ["d"], ["c"]]
    assert token_error_rate(hypotheses, references) == (1 + 1 + 3) / (3 + 1 + 1)
    assert token_error_rate(references, references) == 0


def test_the_closest_alternative_counts():
    reference = [["a", "b", "c", "d"], ["a", "b"], ["x"]]
    assert token_error_rate([["y"]], [reference]) == 1 / 1
    assert token_error_rate([["a", "b"]], [reference]) == 0
    assert token_error_rate([["a", "b", "c"]], [reference]) == 1 / 4


@pytest.mark.parametrize("order", [1, -1])
def test_of_alternatives_that_are_equally_close_the_longest_counts(order):
    reference = [["a", "b", "c", "d"], ["a", "b"], ["a", "b", "x"]][::order]
    assert token_error_rate([["a", "b", "c"]], [reference]) == 1 / 4


def test_alternatives_may_stand_next_to_plain_references_and_be_of_any_kind_of_list():
    hypotheses: list = [["a"], "ab", np.array([1, 2]), (1,)]
    references = [["b"], [("a", "b"), ("c",)], np.array([[1, 2], [1, 3]]), (1,)]
    assert token_error_rate(hypotheses, references) == 1 / (1 + 2 + 2 + 1)
    assert sequence_error_rate(hypotheses, references) == 1 / 4


def test_an_alternative_may_be_empty():
    assert token_error_rate([[], ["b"]], [[[], ["a"]], ["b"]]) == 0
    assert sequence_error_rate([[], ["a"]], [[[], ["a"]], []]) == 1 / 2


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_the_error_rates_are_those_of_their_definitions(cases):
    hypotheses = [list(h) for h, _ in cases]
    references = [[list(r) for r in alternatives] for _, alternatives in cases]
    wrong = sum(h not in alternatives for h, alternatives in cases)
    assert sequence_error_rate(hypotheses, references) == wrong / len(cases)
    edits = tokens = 0
    for h, alternatives in cases:
        best = min(naive(h, r) for r in alternatives)
        edits += best
        tokens += max(len(r) for r in alternatives if naive(h, r) == best)
    if tokens:
        assert token_error_rate(hypotheses, references) == edits / tokens


def test_error_rates_refuse_what_they_cannot_divide():
    with pytest.raises(ValueError, match=r"^token_error_rate: the references must hold at least one token, got none$"):
        token_error_rate([["a"]], [[]])
    with pytest.raises(ValueError, match=r"^sequence_error_rate: there must be at least one hypothesis, got none$"):
        sequence_error_rate([], [])


@pytest.mark.parametrize("metric", [token_error_rate, sequence_error_rate, corpus_bleu])
def test_each_hypothesis_needs_a_reference(metric):
    if metric is corpus_bleu:
        pytest.importorskip("sacrebleu")
    with pytest.raises(ValueError) as caught:
        metric([["a"], ["b"]], [["a"]])
    name = metric.__name__
    assert str(caught.value) == f"{name}: there must be a reference for each of 2 hypotheses, got 1"


# ---- BLEU -----------------------------------------------------------------------------------------------------------


def grams(tokens, n):
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def plain_bleu(hypotheses, references):
    """BLEU by its definition, for text in which n-grams of all four lengths match."""
    log_precision = 0.0
    for n in range(1, 5):
        matches = total = 0
        for h, alternatives in zip(hypotheses, references, strict=True):
            best = functools.reduce(lambda a, b: a | b, [grams(r, n) for r in alternatives])
            matches += (grams(h, n) & best).total()
            total += grams(h, n).total()
        log_precision += math.log(matches / total) / 4
    closest = sum(
        min((abs(len(r) - len(h)), len(r)) for r in alternatives)[1]
        for h, alternatives in zip(hypotheses, references, strict=True)
    )
    return 100 * math.exp(min(0, 1 - closest / sum(map(len, hypotheses))) + log_precision)


def test_bleu_is_100_for_the_references_themselves():
    pytest.importorskip("sacrebleu")
    references = [["a", "b", "c", "d", "e"], ["e", "d", "c", "b", "a", "."]]
    assert corpus_bleu(references, references) == pytest.approx(100)
    assert corpus_bleu(references, [[["x"], r] for r in references]) == pytest.approx(100)


@pytest.mark.parametrize("seed", range(5))
def test_bleu_is_the_one_of_its_definition(seed):
    pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(seed)
    hypotheses, references = [], []
    for _ in range(12):
        right = rng.integers(0, 30, rng.integers(6, 15)).tolist()
        alternatives = [right, *(rng.integers(0, 30, 9).tolist() for _ in range(rng.integers(0, 3)))]
        hypotheses.append([token for token in right if rng.random() < 0.9])
        references.append([alternatives[i] for i in rng.permutation(len(alternatives))])
    bleu = corpus_bleu(hypotheses, references)
    assert 20 < bleu < 95
    assert bleu == pytest.approx(plain_bleu(hypotheses, references), abs=1e-6)


def test_bleu_pads_nothing_where_a_sentence_has_fewer_alternatives():
    pytest.importorskip("sacrebleu")
    hypotheses = [["a", "b", "c", "d", "e"], ["p", "q"]]
    references = [[["a", "b", "c", "d", "e"], ["x"]], [["p", "q", "r", "s", "t"]]]
    bleu = corpus_bleu(hypotheses, references)
    assert bleu == pytest.approx(100 * math.exp(1 - 10 / 7))
    assert bleu == pytest.approx(plain_bleu(hypotheses, references))


def test_bleu_takes_the_tokens_as_they_are():
    """No further tokenisation, and letters keep their case."""
    pytest.importorskip("sacrebleu")
    right = ["It's", "a", "state-of-the-art", "test.", "Yes,", "it", "is", "!"]
    assert corpus_bleu([right], [right]) == pytest.approx(100)
    other = ["it's", *right[1:]]
    assert corpus_bleu([other], [right]) == pytest.approx(plain_bleu([other], [[right]]), abs=1e-6)
    cut = ["It", "'s", *right[1:]]
    assert corpus_bleu([cut], [right]) == pytest.approx(plain_bleu([cut], [[right]]), abs=1e-6)


def test_bleu_says_nothing_about_tokens_that_are_full_stops(caplog, capsys):
    pytest.importorskip("sacrebleu")
    sentences = [["a", "b", "c", "d", "."]] * 200
    assert corpus_bleu(sentences, sentences) == pytest.approx(100)
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("token", ["a b", "", "\n"])
def test_bleu_refuses_tokens_that_would_fall_apart(token):
    pytest.importorskip("sacrebleu")
    with pytest.raises(ValueError, match=r"^corpus_bleu: a token must be at least one character and none a blank, got"):
        corpus_bleu([["x", token]], [["x"]])


@pytest.mark.parametrize("metric", [corpus_bleu, corpus_chrf])
def test_a_score_refuses_no_sentences_at_all(metric):
    pytest.importorskip("sacrebleu")
    with pytest.raises(ValueError, match=rf"^{metric.__name__}: there must be at least one hypothesis, got none$"):
        metric([], [])


@pytest.mark.parametrize("metric", [corpus_bleu, corpus_chrf])
def test_without_sacrebleu_a_score_says_what_to_install(metric, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(RuntimeError) as caught:
        metric([["a"]], [["a"]])
    assert str(caught.value) == f'{metric.__name__}: sacrebleu is not installed; pip install "tinygrad-rnn[bleu]"'


def test_chrf_is_by_hand_that_of_letters_of_all_sentences_and_the_closest_alternative():
    pytest.importorskip("sacrebleu")
    right = [["in", "the", "beginning"], ["ab"]]
    assert corpus_chrf(right, right) == pytest.approx(100)
    assert corpus_chrf([["a", "b"]], [["ab"]]) == pytest.approx(100), "blanks are left out"
    assert corpus_chrf([["ab"]], [["ac"]]) == pytest.approx(25)  # half of the letters, none of the pairs
    assert corpus_chrf([["ab"]], [[["ac"], ["ab"]]]) == pytest.approx(100)
    found = corpus_chrf([["ab"], ["x"]], [["ab"], ["yz"]])
    precision, recall = (2 / 3 + 1) / 2, (2 / 4 + 1 / 2) / 2  # of letters, and of pairs: one of ab; one of ab, yz
    assert found == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))


def test_the_error_rates_do_not_load_sacrebleu():
    code = "import sys, tinygrad_rnn.metrics; sys.exit('sacrebleu' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
