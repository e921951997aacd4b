"""Backpropagation through time: where gradients flow, step by step."""

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
display(drawing)
drawing.play()  # forward through time, then backward: press the arrow
