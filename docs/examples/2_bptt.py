# %% [markdown]
# # Backpropagation through time
#
# Arrows lead back where a gradient flows; the colour is its norm. In a vanilla network it fades on its way to the first
# step.

# %%
import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn

tg.manual_seed(0)
layer, output = nn.Recurrent(nn.RNNCell(2, 3)), nn.Linear(3, 1)
xs = tg.tensor(np.random.default_rng(0).normal(size=(5, 1, 2)).astype("f"))
ys, h = layer(xs)
loss = (output(h) ** 2).sum()
drawing = viz.draw(loss, gradient=True)
drawing

# %% [markdown]
# Forward through time, then backward: press the arrow.

# %%
drawing.play()
