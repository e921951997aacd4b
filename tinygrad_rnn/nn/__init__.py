"""Layers, cells, attention, encoder–decoder networks, losses."""
# ruff: isort: skip_file

from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.attention import (
    ATTENTIONS, AdditiveAttention, Attention, DotAttention, GeneralAttention, Memory, MultiheadAttention,
    ScaledDotAttention,
)  # fmt: skip
from tinygrad_rnn.nn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell, Stack, detached
from tinygrad_rnn.nn.decoder import AttentionCell, AttentionState, ContextCell, ContextState, attention_weights
from tinygrad_rnn.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tinygrad_rnn.nn.losses import cross_entropy, mse_loss
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.rnn import GRU, LSTM, RNN, Bidirectional, Layers
from tinygrad_rnn.nn.seq2seq import Bridge, EncoderDecoder, state_size
from tinygrad_rnn.tensor import Parameter

__all__ = [
    "ATTENTIONS",
    "GRU",
    "LSTM",
    "RNN",
    "AdditiveAttention",
    "Attention",
    "AttentionCell",
    "AttentionState",
    "Bidirectional",
    "Bridge",
    "Cell",
    "ContextCell",
    "ContextState",
    "DotAttention",
    "Dropout",
    "Embedding",
    "EncoderDecoder",
    "GRUCell",
    "GeneralAttention",
    "LSTMCell",
    "LSTMState",
    "LayerNorm",
    "Layers",
    "Linear",
    "Memory",
    "Module",
    "MultiheadAttention",
    "Parameter",
    "RNNCell",
    "Recurrent",
    "ScaledDotAttention",
    "Stack",
    "attention_weights",
    "cross_entropy",
    "detached",
    "init",
    "mse_loss",
    "state_size",
]  # fmt: skip
