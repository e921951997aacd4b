"""Reading, vocabularies, the stream."""

import numpy as np
import pytest

from tinygrad_rnn import data
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.data.batches import Stream, hold_out


def test_files_that_cannot_be_learned_from_are_named(tmp_path):
    path = tmp_path / "text"
    with pytest.raises(ValueError, match="there is no file"):
        data.read_text(path)
    path.write_bytes(b" \n")
    with pytest.raises(ValueError, match="is empty"):
        data.read_text(path)
    path.write_bytes("für".encode("latin-1"))
    with pytest.raises(ValueError, match="must be UTF-8, got byte 0xfc at position 1"):
        data.read_text(path)
    with pytest.raises(ValueError, match="must be a file"):
        data.read_text(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_vanish(tmp_path):
    (tmp_path / "text").write_bytes("\ufeffa\r\nb".encode())
    assert data.read_text(tmp_path / "text") == "a\nb"


def test_the_language_reference_is_long_english():
    text = data.python_reference()
    assert len(text) > 300_000
    assert text.count(" the ") > 2_000


@pytest.mark.parametrize("text", ["hello, world\n", "日本語 ∑ 😀 a\n"])
def test_characters_come_back(text):
    vocabulary = Vocabulary.of(text)
    assert len(vocabulary) == len(set(text))
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_unknown_characters_are_named():
    with pytest.raises(ValueError, match=r"prompt: every character must occur .* got 'q' 'z'"):
        Vocabulary.of("hello").encode("hzqo", "prompt")


def test_words_come_back_and_rare_ones_are_unknown():
    text = "The cat (the cat) sat. The cat ran. (The cat.)\n(the cat)\n"
    vocabulary = Vocabulary.of(text, words=True)
    assert vocabulary.tokens[0] == data.UNKNOWN
    assert vocabulary.decode(vocabulary.encode("The cat. (the cat)\n")) == "The cat. (the cat)\n"
    assert vocabulary.decode(vocabulary.encode("The dog.")) == "The <unk>."
    assert "sat" not in vocabulary.ids


def test_the_stream_shifts_targets_by_one_and_goes_on_in_its_row():
    ids = np.arange(23)
    stream = Stream(ids, batch_size=3, steps=3)
    xs, ys = zip(*stream, strict=True)
    inputs, targets = np.concatenate(xs), np.concatenate(ys)
    np.testing.assert_array_equal(targets, inputs + 1)
    np.testing.assert_array_equal(inputs[1:], inputs[:-1] + 1)
    np.testing.assert_array_equal(inputs[0], [0, 7, 14])
    assert [len(x) for x in xs] == [3, 3, 1]
    assert (len(stream), stream.tokens) == (3, 21)


def test_a_text_too_short_is_named():
    with pytest.raises(ValueError, match="4 strands need at least 5 tokens, got 4"):
        Stream(np.arange(4), 4, 2)
    with pytest.raises(ValueError, match=r"at least 20 tokens .* got 15"):
        hold_out(np.arange(15), 0.1, 10)
    learned, held = hold_out(np.arange(100), 0.1, 5)
    np.testing.assert_array_equal(np.concatenate([learned, held]), np.arange(100))
    assert len(held) == 10


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool"])
def test_padded_sequences_keep_their_numbers(dtype):
    rng = np.random.default_rng(0)
    for rest in ((), (3,), (2, 2)):
        some = [(5 * rng.standard_normal((n, *rest))).astype(dtype) for n in (2, 0, 4)]
        found = data.padded([*some, []], 9)
        assert found.shape == (4, 4, *rest) and found.dtype == (dtype if dtype.startswith("f") else np.int64)
        for b, x in enumerate(some):
            np.testing.assert_array_equal(found[: len(x), b], x)
            assert (found[len(x) :, b] == 9).all()
    assert data.padded([[], []], 0).shape == (0, 2) and data.padded([[1], [2, 3]], -1, 3).tolist() == [
        [1, 2],
        [-1, 3],
        [-1, -1],
    ]


def test_empty_sequences_keep_what_is_known_of_their_steps():
    for sequences, shape, dtype in (
        ([np.zeros((0, 3), "f")], (0, 1, 3), "float32"),
        ([np.zeros((0, 3)), []], (0, 2, 3), "float64"),
        ([np.zeros((2, 0)), np.zeros((3, 0))], (3, 2, 0), "float64"),
        ([np.zeros(0, "f"), []], (0, 2), "float32"),
        ([np.array([1, 2]), np.array([])], (2, 2), "int64"),
    ):
        found = data.padded(sequences, 0.0)
        assert (found.shape, found.dtype) == (shape, dtype)


@pytest.mark.parametrize("other", [np.zeros(2), np.zeros((2, 1)), np.zeros((2, 3, 1)), np.zeros((0, 2))])
def test_steps_of_different_shapes_are_refused(other):
    with pytest.raises(ValueError, match=r"^padded: steps must have one shape, got \(.*\) and \(.*\)$"):
        data.padded([np.zeros((2, 3)), other], 0)


def test_what_padded_sequences_cannot_be():
    assert data.padded([[1, 2], [3]], 0.5).tolist() == [[1, 3], [2, 0.5]]
    assert np.isnan(data.padded([[1, 2], [3]], float("nan"))[1, 1])
    with pytest.raises(ValueError, match=r"^padded: there must be at least one sequence, got none$"):
        data.padded([], 0)
    with pytest.raises(ValueError, match=r"^padded: length must be at least .* 2, got 1$"):
        data.padded([[1, 2]], 0, 1)
