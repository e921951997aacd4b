"""A cell of one's own on images: a convolutional LSTM foretells how two bars move. Shi et al. (2015), arXiv:1506.04214.

i, f = σ(W x + U h + V c);  c' = f c + i tanh(W x + U h);  o = σ(W x + U h + V c');  h' = o tanh(c')  (W, U convolve)
"""

import sys

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim

SIDE, PERIOD, KERNEL = 12, 22, 5


class ConvLSTMCell(nn.Cell):
    def __init__(self, C, H):
        self.W, self.U = (nn.Parameter(nn.init.uniform((4 * H, n, KERNEL, KERNEL), 0.05)) for n in (C, H))
        self.Vi, self.Vf, self.Vo = (nn.Parameter(nn.init.zeros((H, SIDE, SIDE))) for _ in "ifo")
        self.b = nn.Parameter(nn.init.zeros((4 * H,)))

    def initial_state(self, batch_size):
        return (self.zeros(batch_size, *self.Vi.shape),) * 2

    def forward(self, x, state):
        h, c = state
        a = ops.conv2d(x, self.W, self.b, padding="same") + ops.conv2d(h, self.U, padding="same")
        i, f, o, g = ops.chunk(a, 4, axis=1)
        c = ops.sigmoid(f + 1 + self.Vf * c) * c + ops.sigmoid(i + self.Vi * c) * ops.tanh(g)
        h = ops.sigmoid(o + self.Vo * c) * ops.tanh(c)
        return h, (h, c)


def bars(steps, batch, rng):
    """Images (T, B, 1, SIDE, SIDE) of a column and a row that move by 1 or 2 places a step, and turn at the borders."""
    start, speed = rng.integers(0, PERIOD, (2, batch)), rng.choice([1, 2, -1, -2], (2, batch))
    at = (start + speed * np.arange(steps)[:, None, None]) % PERIOD
    lines = np.minimum(at, PERIOD - at)[..., None] == np.arange(SIDE)  # (T, 2, B, SIDE)
    return (lines[:, 0, :, None, None, :] | lines[:, 1, :, None, :, None]).astype("f")


def main(steps=500, hidden=16):
    tg.manual_seed(0)
    rng, rnn, w = np.random.default_rng(0), nn.Recurrent(ConvLSTMCell(1, hidden)), nn.Parameter(np.zeros(hidden, "f"))
    logits = lambda images: ops.einsum("tbhyx,h->tbyx", rnn(images[:-1])[0], w)[:, :, None] - 2
    optimizer = optim.Adam([*rnn.parameters(), w], lr=5e-3)
    for step in range(steps):
        images = bars(11, 16, rng)
        loss = nn.binary_cross_entropy_with_logits(logits(images), images[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4}: {loss.item():.4f} nats a pixel", flush=True)
    images = bars(11, 200, rng)
    wrong, still = ((logits(images).numpy() > 0) != images[1:])[-1].mean(), (images[-2] != images[-1]).mean()
    print(f"the last of 11 images: {wrong:.2%} of the pixels wrong; {still:.2%} if nothing moved")
    return wrong, still


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
