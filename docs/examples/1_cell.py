# %% [markdown]
# # A cell of your own
#
# Five lines of maths give exact gradients and a picture.

# %%
import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops


class MGU(nn.Cell):
    """The minimal gated unit, Zhou et al. (2016). Change forward, and run it again."""

    def __init__(self, I, H):
        make = lambda n: nn.Parameter(nn.init.xavier_uniform((n, H)))
        self.Uf, self.Wf, self.U, self.W = make(I), make(H), make(I), make(H)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.W.shape[0])

    def forward(self, x, h):
        f = ops.sigmoid(x @ self.Uf + h @ self.Wf)
        h = (1 - f) * h + f * ops.tanh(x @ self.U + (f * h) @ self.W)
        return h, h  # the output, and the new state


# %% [markdown]
# What was recorded of one step is written as equations, and drawn.

# %%
tg.manual_seed(0)
cell = MGU(3, 4)
circuit = tg.circuit(cell, tg.zeros(1, 3))
print(circuit.equations())

# %%
viz.draw(circuit, view="textbook")

# %% [markdown]
# `nn.Recurrent` runs any cell over time, compiled; `backward` goes through all steps.

# %%
xs = tg.tensor(np.random.default_rng(0).random((4, 2, 3), np.float32))  # (T, B, I)
ys, h = nn.Recurrent(cell)(xs)
loss = nn.mse_loss(ys, tg.zeros(4, 2, 4))
loss.backward()
norm = np.linalg.norm(cell.W.grad.numpy())
print(f"loss {loss.item():.4f}, the gradient of W has the norm {norm:.4f}")

# %%
viz.draw(loss)
