"""Every view of every network: python examples/gallery.py [FOLDER], then open FOLDER/index.html (half a minute).

RNN, LSTM, GRU, a cell of one's own, a two-layer bidirectional LSTM, and an encoder-decoder with attention.
"""

import sys

from functools import partial

import attention
import custom_cell
import page

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn
from tinygrad_rnn.tasks import sketches

CELLS = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "A cell of one's own": custom_cell.MGU}
OPEN = partial(nn.LSTMCell, forget_bias=4.0)  # with a forget gate that begins nearly open
ATTENTION = "attention-step.svg", "attention.svg", "alignment.svg", "attention.html"


def networks():
    for name, cell in CELLS.items():
        yield name, sketches.predictor(cell, hidden=4, steps=4)
    yield "A two-layer LSTM", sketches.predictor(nn.LSTMCell, hidden=4, steps=1000, layers=2)
    yield "A two-layer bidirectional LSTM", sketches.bidirectional(nn.LSTMCell, hidden=4, steps=4, layers=2)
    yield "An encoder-decoder with attention", sketches.attention(nn.GRUCell, hidden=4, source=3, target=3)


def drawings():
    """(section, caption, file name, drawing or chart)"""
    for name, loss in networks():
        key = name.lower().replace(" ", "-").replace("'", "")
        for caption, view in ("operations", "ops"), ("cells", "cells"), ("circuit", "circuit"):
            yield name, caption, f"{key}-{view}.svg", viz.draw(loss, view=view)
        yield name, "circuit, unfolded", f"{key}-unfold.svg", viz.draw(loss, view="circuit", depth=1, unfold=True)
        yield name, "in action", f"{key}-film.svg", viz.draw(loss, view="cells")
        yield name, "in action, by hand", f"{key}.html", viz.draw(loss, view="cells", title=name)
    for name, cell in CELLS.items():
        drawing = viz.draw(tg.circuit(cell(3, 4), tg.zeros(1, 3)), view="textbook", equations=True)
        yield "Cells", name, f"{cell.__name__}-textbook.svg", drawing
    section, flow = "How the gradient flows from one loss at the end, in an RNN and in an LSTM", {}
    for name, cell in (("RNN", nn.RNNCell), ("LSTM", OPEN)):
        loss = sketches.classifier(cell, hidden=4, steps=40)
        cells = viz.draw(loss, view="cells", gradient=(1e-6, 1.0))
        yield section, f"{name}, cells", f"gradient-{name}.svg", cells
        yield section, f"{name}, operations", f"gradient-{name}-ops.svg", viz.draw(loss, gradient=(1e-6, 1.0))
        flow[name] = viz.gradient_flow(loss)["h"]
    yield section, "over 40 steps", "gradient-norms.svg", viz.gradient_norms(flow)
    loss, plain = sketches.predictor(nn.GRUCell, 4, 3), {"parameters": False, "colors": False}
    yield "Details", "shapes and values", "details.svg", viz.draw(loss, shapes=True, values=True)
    yield "Details", "tokens, in grey", "plain.svg", viz.draw(loss, tokens=["<s>", "a", "b"], **plain)


def main(folder="runs/gallery", steps=400):
    attention.main(steps, folder)
    learned = [("Attention, learned", "writing backwards", name, None) for name in ATTENTION]
    page.write(folder, "Gallery", [*drawings(), *learned])


if __name__ == "__main__":
    main(*sys.argv[1:])
