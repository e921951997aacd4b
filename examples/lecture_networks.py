"""The networks of lecture.py, and how they are drawn."""

import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from tinygrad_rnn.tasks import translation


def cell(make, **options):
    return viz.draw(tg.circuit(make(3, 4), tg.zeros(1, 3)), view="textbook", **options)


def pairs(source, target, attention="none", view="cells", **options):
    """An encoder reads words, a decoder says others."""
    config = translation.Config(cell="gru", hidden=4, embed=3, attention=attention, dropout=0.0)
    model, S, T = translation.build(config, len(source), len(target) + 1), len(source), len(target)
    logits = model(np.arange(S)[:, None], np.arange(T)[:, None], np.array([S]))
    loss = nn.cross_entropy(logits, np.arange(T)[:, None] + 1)
    read = source if view == "attention" else [source, ["<s>", *target[:-1]]]
    return viz.draw(loss, view=view, tokens=read, targets=target, **options)


def one_network(source, target):
    """It reads words, then dummies, and says dummies, then words; a loss counts where it says words."""
    S, T = len(source), len(target)
    network, output = nn.Recurrent(nn.RNNCell(3, 4)), nn.Linear(4, 6)
    ys, _ = network(tg.ones(S + T, 1, 3))
    said = np.array([[-1]] * S + [[t] for t in range(T)])
    loss = nn.cross_entropy(output(ys), said, ignore_index=-1)
    return viz.draw(loss, view="cells", tokens=[*source, *"–" * T], targets=[*"–" * S, *target])


def speller(words, free):
    """A vector, of an image say, is the first state of what writes; it reads the true words, or its own."""
    image, gru, output, letters = nn.Linear(6, 4), nn.GRUCell(3, 4), nn.Linear(4, 5), nn.Embedding(5, 3)
    h, loss, fed = ops.tanh(image(tg.ones(1, 6))), 0, letters(np.zeros(1, int))
    for t in range(len(words)):
        with tg.scope(t):
            y, h = gru(fed, h)
            logits = output(y)
            loss = loss + nn.cross_entropy(logits, np.array([t]))
            fed = letters(logits.argmax(-1) if free else np.array([t + 1]))
    return viz.draw(loss, tokens=["<s>"] if free else ["<s>", *words[:-1]], targets=words)
