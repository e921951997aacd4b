"""Layers, cells, attention, encoder–decoder networks, losses."""
# ruff: isort: skip_file

from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.attention import (
    ATTENTIONS, AdditiveAttention, Attention, DotAttention, GeneralAttention, Memory, MultiheadAttention,
    ScaledDotAttention,
)  # fmt: skip
from tinygrad_rnn.nn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell, Stack, detached
from tinygrad_rnn.nn.attention_cells import AttentionCell, AttentionState, ContextCell, ContextState, attention_weights
from tinygrad_rnn.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tinygrad_rnn.nn.ctc import CTCCell, ctc_loss
from tinygrad_rnn.nn.elementwise_losses import (
    binary_cross_entropy_with_logits, huber_loss, kl_div, l1_loss, mse_loss, smooth_l1_loss,
)  # fmt: skip
from tinygrad_rnn.nn.losses import cross_entropy, linear_cross_entropy, nll_loss
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.rnn import GRU, LSTM, RNN, Bidirectional, Layers
from tinygrad_rnn.nn.encoder_decoder import Bridge, EncoderDecoder, state_size
from tinygrad_rnn.nn.more_cells import (
    CoupledLSTMCell,
    IndRNNCell,
    LayerNormLSTMCell,
    MGUCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
    irnn_cell,
)
from tinygrad_rnn.nn.cell_wrappers import ResidualCell, VariationalDropoutCell, ZoneoutCell
from tinygrad_rnn.nn.summary import summary
from tinygrad_rnn.autograd.tensor import Parameter

__all__ = [
    "ATTENTIONS", "GRU", "LSTM", "RNN", "AdditiveAttention", "Attention", "AttentionCell", "AttentionState",
    "Bidirectional", "Bridge", "CTCCell", "Cell", "ContextCell", "ContextState", "CoupledLSTMCell",
    "DotAttention", "Dropout", "Embedding", "EncoderDecoder", "GRUCell", "GeneralAttention", "IndRNNCell",
    "LSTMCell", "LSTMState", "LayerNorm", "LayerNormLSTMCell", "Layers", "Linear", "MGUCell", "Memory",
    "Module", "MultiheadAttention", "Parameter", "PeepholeLSTMCell", "ProjectedLSTMCell", "RNNCell",
    "Recurrent", "ResidualCell", "ScaledDotAttention", "Stack", "VariationalDropoutCell", "ZoneoutCell",
    "attention_weights", "binary_cross_entropy_with_logits", "cross_entropy", "ctc_loss", "detached",
    "huber_loss", "init", "irnn_cell", "kl_div", "l1_loss", "linear_cross_entropy", "mse_loss", "nll_loss",
    "smooth_l1_loss", "state_size", "summary",
]  # fmt: skip
