"""Attention learns where to look: an encoder-decoder writes words backwards. Bahdanau et al. (2014), arXiv:1409.0473.

α_t = softmax_j(h_j · s_{t-1}),  c_t = Σ_j α_tj h_j: a dot product, as in Luong et al. (2015), arXiv:1508.04025.
"""

import sys

from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, optim

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Reverser(nn.Module):
    """Reads letters and, fed with its own last letter, writes them from the last to the first. ids: (T, B)"""

    def __init__(self, units=64):
        self.embedding = nn.Embedding(len(LETTERS) + 1, 16)  # the last one begins each output
        self.encoder, self.decoder = nn.Recurrent(nn.GRUCell(16, units)), nn.GRUCell(16 + units, units)
        self.output = nn.Linear(2 * units, len(LETTERS))

    def forward(self, ids, targets):
        """The loss, and the attention weights (T, S) of the first word."""
        hs, s = self.encoder(self.embedding(ids))
        before = np.concatenate([np.full_like(targets[:1], len(LETTERS)), targets[:-1]])
        losses, weights = [], []
        for t, x in enumerate(self.embedding(before)):
            with tg.scope(t):
                alpha = (hs * s).sum(-1).softmax(0)  # (S, B)
                context = (alpha.unsqueeze(-1) * hs).sum(0)
                y, s = self.decoder(tg.ops.concat([x, context], -1), s)
                losses.append(nn.cross_entropy(self.output(tg.ops.concat([y, context], -1)), targets[t]))
                weights.append(alpha.numpy()[:, 0])
        return sum(losses[1:], losses[0]) / len(losses), np.stack(weights)


def train(steps=400):
    """A model, and what it was told to learn."""
    rng, model = np.random.default_rng(0), Reverser()
    optimizer = optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        ids = rng.integers(0, len(LETTERS), (rng.integers(3, 9), 64))
        loss, _ = model(ids, ids[::-1])
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:4}: {loss.item():.3f} nats a letter ({np.log(len(LETTERS)):.3f} for guessing)")
    return model


def main(steps=400, folder="runs/attention", word="circuit"):
    tg.manual_seed(0)
    model, folder = train(steps), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array([[LETTERS.index(c)] for c in word])
    loss, weights = model(ids, ids[::-1])
    view = {"view": "attention", "tokens": word, "targets": word[::-1]}
    viz.alignment(weights, word, word[::-1], folder / "alignment.svg")
    viz.draw(loss, folder / "attention.svg", **view)
    viz.draw(loss, folder / "attention-step.svg", **view, steps=[3])
    viz.draw(loss, folder / "attention.html", **view, title="Writing backwards")
    print(f"wrote {folder}/alignment.svg, attention.svg, attention-step.svg and attention.html")
    return weights


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
