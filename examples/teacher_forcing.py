"""Teacher forcing and free running, as two pictures of one decoder: which letter enters at each step?

python examples/teacher_forcing.py [FOLDER]    two seconds; taught.svg and free.svg

A decoder is taught to spell the digits. Taught, it reads the true letter at each step, whatever it said; left to itself
it reads what it said, and one wrong letter leads to others. Where it reads its own letter, a dashed line leads to the
next step: `argmax` and the look-up were recorded, and no gradient flows there. It stops learning before it can spell.
"""

import sys

from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, optim
from tinygrad_rnn.data import END, IGNORED, START, Vocabulary, padded

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LETTERS = Vocabulary.of(NAMES, special=[START, END])
TRUE = padded([[*LETTERS.encode(name), LETTERS.ids[END]] for name in NAMES], IGNORED)  # (T, 10): a column a digit


class Speller(nn.Module):
    """The first state is an embedding of the digit."""

    def __init__(self, units=32):
        self.first, self.letters = nn.Embedding(10, units), nn.Embedding(len(LETTERS), 8)
        self.cell, self.output = nn.GRUCell(8, units), nn.Linear(units, len(LETTERS))

    def forward(self, digits, true, feed):
        """L, and what it reads and says, (T, B). digits: (B,)  true: (T, B)

        feed: a function of the true and the said letters: those that the next step reads
        """
        h, ids, loss, read, said = self.first(digits), np.full(len(digits), LETTERS.ids[START]), 0, [], []
        for t, letters in enumerate(true):
            with tg.scope(t):
                read.append(np.asarray(ids))
                _, h = self.cell(self.letters(ids), h)
                logits = self.output(h)
                loss = loss + nn.cross_entropy(logits, letters)
                said.append(logits.argmax(-1))
                ids = feed(np.maximum(letters, 0), said[-1])
        return loss, np.array(read), np.array([ids.numpy() for ids in said])


FEEDS = {"taught": lambda true, said: true, "free": lambda true, said: said}


def drawn(model, digit, way):
    """One digit spelled, cell by cell, with the letters that it reads and says; and these."""
    true = TRUE[: len(NAMES[digit]) + 1, [digit]]
    loss, read, said = model(np.array([digit]), true, FEEDS[way])
    read, said = (LETTERS.shown(ids[:, 0]) for ids in (read, said))
    return viz.draw(loss, view="cells", tokens=read, targets=said), said


def main(folder=".", steps=21, digit=9):
    tg.manual_seed(0)
    model = Speller()
    optimizer = optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        loss, _, _ = model(np.arange(10), TRUE, FEEDS["taught"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for way in FEEDS:
        drawing, said = drawn(model, digit, way)
        Path(folder).mkdir(parents=True, exist_ok=True)
        drawing.save(Path(folder) / f"{way}.svg")
        print(f"{way}: {' '.join(said)}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
