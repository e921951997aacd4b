"""Decoding: which tokens does a model go on with?

For anything that steps: `step(ids, state) -> (logits, new state)`, with ids (N,) int64, logits (N, V) and the state a
nest of tensors (N, ...), or (L, N, ...) with batch_axis=1, as nn.LSTM has it. A language model's `step` is one, that of
a decoder with attention another. Its N rows must know nothing of each other: there are more of them than sequences
where a search keeps several hypotheses of each. Probabilities are added up on the host, in float64 and as logarithms;
nothing is recorded. Logits must be finite: to rule a token out give it -1e9, not -inf, which is also what a model that
has diverged may give.

Letters: N rows, B sequences, V vocabulary, S source length, L layers, n the length of a hypothesis, its end token
included.
"""

from tinygrad_rnn.decode.beam import beam_search
from tinygrad_rnn.decode.ctc import ctc_beam_search, ctc_greedy
from tinygrad_rnn.decode.found import Hypothesis
from tinygrad_rnn.decode.model import Step
from tinygrad_rnn.decode.one_each import greedy, sample, score
from tinygrad_rnn.decode.search import Weights
from tinygrad_rnn.decode.tokens import sample_tokens

draw = sample_tokens  # its former name

__all__ = [
    "Hypothesis", "Step", "Weights", "beam_search", "ctc_beam_search", "ctc_greedy", "draw", "greedy", "sample",
    "sample_tokens", "score",
]  # fmt: skip
