"""The figures of a lecture on recurrent networks: python examples/lecture.py [FOLDER], then open FOLDER/index.html.

From the vanilla cell to attention: each is drawn from what a network recorded, but for the alignment's weights.
"""

import sys

import gallery
import numpy as np
import page

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from tinygrad_rnn.tasks import sketches, translation


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


def figures():
    """(section, caption, file name, drawing)"""
    english, german, words = ["I", "am", "here"], ["ich", "bin", "hier", "</s>"], ["a", "dog", "runs", "</s>"]
    letters = {"tokens": [*"hell"], "targets": [*"ello"]}
    vanilla, back, vector = "The vanilla network", "Backpropagation through time", "From a vector to a sentence"
    yield vanilla, "its cell", "rnn.svg", cell(nn.RNNCell, equations=True)
    yield vanilla, "unfolded", "unfolded.svg", viz.draw(nn.RNNCell(3, 4), view="circuit", depth=1, unfold=True)
    yield vanilla, "a loss at each step", "losses.svg", viz.draw(sketches.predictor(nn.RNNCell, 4, 4), **letters)
    yield back, "each step", "bptt.svg", viz.draw(sketches.classifier(nn.RNNCell, 4, 4), gradient=True)
    cells = {"RNN": nn.RNNCell, "LSTM": gallery.OPEN}
    flow = {name: viz.gradient_flow(sketches.classifier(make, 4, 40))["h"] for name, make in cells.items()}
    yield back, "it vanishes, or not", "vanishing.svg", viz.gradient_norms(flow)
    for name, what in ("f", "what to forget"), ("ig", "what to write"), ("c", "the memory"), ("h", "what to say"):
        yield "LSTM, step by step", what, f"lstm-{name}.svg", cell(nn.LSTMCell, highlight=[*name])
    yield "LSTM, step by step", "all of it", "lstm.svg", cell(nn.LSTMCell, equations=True)
    yield "GRU", "its cell", "gru.svg", cell(nn.GRUCell, equations=True)
    yield "Deep", "two layers", "deep.svg", viz.draw(sketches.predictor(nn.LSTMCell, 4, 4, layers=2), view="cells")
    yield "Bidirectional", "", "bidirectional.svg", viz.draw(sketches.bidirectional(nn.GRUCell, 4, 4), view="cells")
    yield "Encoder and decoder", "a translation", "translation.svg", pairs(english, german)
    yield "Encoder and decoder", "a chatbot", "chatbot.svg", pairs(["how", "are", "you"], ["fine", "thanks", "</s>"])
    yield vector, "teacher forcing: it reads the true words", "forced.svg", speller(words, free=False)
    yield vector, "free running: it reads its own", "free.svg", speller(words, free=True)
    yield "Attention", "the decoder looks back", "attention-cells.svg", pairs(english, german, "general")
    yield "Attention", "one step", "attention.svg", pairs(english, german, "general", view="attention", steps=2)
    made_up = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9], [0.2, 0.2, 0.6]])
    yield "Attention", "an alignment, made up", "alignment.svg", viz.alignment(made_up, english, german)
    yield "In action", "forward and back", "film.svg", viz.draw(sketches.predictor(nn.GRUCell, 4, 4), view="cells")


def main(folder="runs/lecture"):
    page.write(folder, "Recurrent networks", figures())


if __name__ == "__main__":
    main(*sys.argv[1:])
