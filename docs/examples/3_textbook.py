# %% [markdown]
# # RNN, LSTM and GRU as textbooks draw them
#
# Drawn from what a step records, with its equations. Gates have the names that the code of the cell gives them.

# %%
import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn


def textbook(make, **options):
    return viz.draw(tg.circuit(make(3, 4), tg.zeros(1, 3)), view="textbook", **options)


textbook(nn.RNNCell, equations=True)

# %%
textbook(nn.LSTMCell, equations=True)

# %%
textbook(nn.GRUCell, equations=True)

# %% [markdown]
# What the forget gate of the LSTM hangs on; all else is faint.

# %%
textbook(nn.LSTMCell, highlight="f")
