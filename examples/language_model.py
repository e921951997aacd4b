"""The next word: the LSTM language models of Zaremba, Sutskever and Vinyals (2014), arXiv:1409.2329.

python examples/language_model.py               Python's language reference: a minute on two cores, perplexity 54 and 58
python examples/language_model.py FOLDER SIZE   train.txt, valid.txt and test.txt (or ptb.train.txt …) in a folder
"""

import re
import sys

from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.data import UNKNOWN, Stream, Vocabulary, python_reference, read_text
from tinygrad_rnn.tasks.language_model import LanguageModel

NAMES = "train", "valid", "test"
# units, bound of first weights, steps, dropout, epochs, those with rate 1, its divisor at others, norm, perplexities
SIZES = {"small": (200, 0.1, 20, 0.0, 13, 4, 2.0, 5.0, "120.7 and 114.5"),
         "medium": (650, 0.05, 35, 0.5, 39, 6, 1.2, 5.0, "86.2 and 82.7"),
         "large": (1500, 0.04, 35, 0.65, 55, 14, 1.15, 10.0, "82.2 and 78.4")}  # fmt: skip


def reference(folder):
    """Python's language reference, a paragraph a line; <unk> stands for words that train.txt would have once."""
    folder.mkdir(parents=True, exist_ok=True)
    text = dict.fromkeys(" ".join(p.split()) for p in re.split(r"\n\s*\n\s*", python_reference()) if p[:1].isupper())
    parts = np.split(list(text), [len(text) * 8 // 10, len(text) * 9 // 10])
    known, seen = Vocabulary.of(parts[0], words=True), set()
    for name, part in zip(NAMES, parts, strict=True):
        lines = [" ".join(w if w in known.ids else UNKNOWN for w in known.split(paragraph)) for paragraph in part]
        (folder / f"{name}.txt").write_text("\n".join(line for line in lines if line not in seen) + "\n", "utf-8")
        seen.update(lines)
    return folder


def read(folder):
    parts = [read_text(next(Path(folder).glob(f"*{n}.txt"))).replace("\n", " <eos> ").split() for n in NAMES]
    ids = {word: i for i, word in enumerate(dict.fromkeys([UNKNOWN, *parts[0]]))}
    return [np.array([ids.get(word, 0) for word in part]) for part in parts], len(ids)


def losses(model, stream):
    state = model.initial_state(stream.columns.shape[1])
    for inputs, targets in stream:
        ys, state = model.read(inputs, nn.detached(state))  # the state goes on from window to window, gradients do not
        yield nn.linear_cross_entropy(ys, model.output.W, model.output.b, targets, reduction="sum")  # nats


@tg.no_grad()
def perplexity(model, ids):
    return np.exp(sum(loss.item() for loss in losses(model.eval(), Stream(ids, 1, 100))) / (len(ids) - 1))


def main(folder=None, size="small", epochs=None, strands=20):
    H, bound, steps, dropout, most, flat, decay, clip, paper = SIZES[size]
    (train, valid, test), V = read(folder or reference(Path("runs/language_model")))
    tg.manual_seed(0)
    model = LanguageModel(V, H, nn.Stack([nn.LSTMCell(H, H), nn.LSTMCell(H, H)], dropout=dropout), H, dropout)
    for parameter in model.parameters():
        parameter.data = nn.init.uniform(parameter.shape, bound)
    optimizer, stream = optim.SGD(model.parameters(), 1.0), Stream(train, strands, steps)
    for epoch in range(epochs or most):
        optimizer.lr = decay ** min(flat - 1 - epoch, 0)
        for loss in losses(model.train(), stream):
            optimizer.zero_grad()
            (loss / strands).backward()
            optim.clip_grad_norm_(optimizer.parameters, clip)
            optimizer.step()
        print(f"epoch {epoch + 1}: learning rate {optimizer.lr:.4f}, perplexity {perplexity(model, valid):.1f}")
    scores = perplexity(model, valid), perplexity(model, test)
    print(f"valid {scores[0]:.1f}, test {scores[1]:.1f}; the paper's {size} on the Penn Treebank: {paper}")
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:])
