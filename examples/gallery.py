"""Every view of every network: python examples/gallery.py [FOLDER], then open FOLDER/index.html (half a minute).

RNN, LSTM, GRU, a cell of one's own, a two-layer bidirectional LSTM, and an encoder-decoder with attention.
"""

import html
import sys

from functools import partial
from pathlib import Path

import attention

from custom_cell import MGU

import viz

from tinygrad_rnn import nn
from tinygrad_rnn.tasks import sketches

CELLS = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell, "A cell of one's own": MGU}
OPEN = partial(nn.LSTMCell, forget_bias=4.0)  # with a forget gate that begins nearly open
ATTENTION = "attention-step.svg", "attention.svg", "alignment.svg", "attention.html"

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Gallery</title>
<meta name="viewport" content="width=device-width"><style>:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem}
figure{margin:1.5rem 0 2.5rem;overflow-x:auto}figcaption{color:#6b7280}img{max-width:100%%;height:auto}
iframe{width:100%%;height:36rem;border:1px solid #6b728055;border-radius:8px}
@media (prefers-color-scheme:dark){body{background:#0f172a;color:#e2e8f0}}</style><h1>Gallery</h1>%s</html>"""


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
        yield name, "operations", f"{key}-ops.svg", viz.draw(loss)
        yield name, "cells", f"{key}-cells.svg", viz.draw(loss, view="cells")
        yield name, "circuit", f"{key}-circuit.svg", viz.draw(loss, view="circuit")
        yield name, "circuit, unfolded", f"{key}-unfold.svg", viz.draw(loss, view="circuit", depth=1, unfold=True)
        yield name, "in action", f"{key}-film.svg", viz.draw(loss, view="cells")
        yield name, "in action, by hand", f"{key}.html", viz.draw(loss, view="cells", title=name)
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
    folder, sections = Path(folder), {}
    attention.main(steps, folder)
    learned = [("Attention, learned", "writing backwards", name, None) for name in ATTENTION]
    for section, caption, name, drawing in [*drawings(), *learned]:
        if drawing is not None:
            drawing.save(folder / name, **({"play": True} if name.endswith("-film.svg") else {}))
        shown = f'<iframe src="{name}"></iframe>' if name.endswith("html") else f'<img src="{name}" alt="{caption}">'
        sections.setdefault(section, []).append(f"<figure><figcaption>{caption}</figcaption>{shown}</figure>")
    body = "".join(f"<h2>{html.escape(title)}</h2>{''.join(figures)}" for title, figures in sections.items())
    (folder / "index.html").write_text(PAGE % body, encoding="utf-8")
    print(f"wrote {folder}/index.html and {sum(map(len, sections.values()))} pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
