"""The figures of a lecture on recurrent networks: python examples/lecture.py [FOLDER], then open FOLDER/index.html.

From the vanilla cell to attention: each is drawn from what a network recorded, but for the alignment's weights.
"""

import sys

from pathlib import Path

import gallery
import numpy as np
import page

from lecture_networks import cell, one_network, pairs, speller

import viz

from tinygrad_rnn import nn
from tinygrad_rnn.tasks import sketches


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
    both = viz.draw(sketches.bidirectional(nn.GRUCell, 4, 4), view="cells")
    yield "Bidirectional", "from both sides", "bidirectional.svg", both
    yield "Encoder and decoder", "a translation", "translation.svg", pairs(english, german)
    yield "Encoder and decoder", "a chatbot", "chatbot.svg", pairs(["how", "are", "you"], ["fine", "thanks", "</s>"])
    yield "Encoder and decoder", "one context for all steps", "context.svg", pairs(english, german, "context")
    yield "Encoder and decoder", "one network", "dummies.svg", one_network(["how", "are", "you"], ["fine", "thanks"])
    yield "Encoder and decoder", "in action", "seq2seq-film.svg", pairs(english, german)
    yield vector, "teacher forcing: it reads the true words", "forced.svg", speller(words, free=False)
    yield vector, "free running: it reads its own", "free.svg", speller(words, free=True)
    yield "Attention", "the decoder looks back", "attention-cells.svg", pairs(english, german, "general")
    yield "Attention", "one step", "attention.svg", pairs(english, german, "general", view="attention", steps=2)
    yield "Attention", "in action", "attention-film.svg", pairs(english, german, "general", view="attention")
    made_up = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.02, 0.08, 0.9], [0.2, 0.2, 0.6]])
    yield "Attention", "an alignment, made up", "alignment.svg", viz.alignment(made_up, english, german)
    yield "In action", "forward and back", "film.svg", viz.draw(sketches.predictor(nn.GRUCell, 4, 4), view="cells")


def main(folder="runs/lecture"):
    texts = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").split("\n\n")
    page.write(folder, "Recurrent networks", figures(), dict(text.split(": ", 1) for text in texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
