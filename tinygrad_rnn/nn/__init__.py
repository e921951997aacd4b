"""Layers, cells and losses."""

from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell, Stack, detached
from tinygrad_rnn.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tinygrad_rnn.nn.losses import cross_entropy, mse_loss
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.tensor import Parameter

__all__ = [
    "Cell", "Dropout", "Embedding", "GRUCell", "LSTMCell", "LSTMState", "LayerNorm", "Linear", "Module", "Parameter",
    "RNNCell", "Recurrent", "Stack", "cross_entropy", "detached", "init", "mse_loss",
]  # fmt: skip
