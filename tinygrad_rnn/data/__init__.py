"""Text to numbers, and numbers to batches."""

from tinygrad_rnn.data.batches import IGNORED, Batch, Pairs, Stream, hold_out, padded, rounded
from tinygrad_rnn.data.subwords import Subwords
from tinygrad_rnn.data.text import python_reference, read_lines, read_pairs, read_text
from tinygrad_rnn.data.vocabulary import END, START, UNKNOWN, Vocabulary

__all__ = [
    "END", "IGNORED", "START", "UNKNOWN", "Batch", "Pairs", "Stream", "Subwords", "Vocabulary", "hold_out", "padded",
    "python_reference", "read_lines", "read_pairs", "read_text", "rounded",
]  # fmt: skip
