"""A label for each word: parts of speech in the Turkish Web Treebank (Google, 2020), by an LSTM in both directions.

Another LSTM reads the letters of each word, for a fifth of the test's are new. Ling et al. (2015), arXiv:1508.02096.
python examples/labelling.py     90 seconds on two cores: 94.4 % right; 91.9 % in one direction, 89.5 % by usual labels
"""

import sys

from collections import Counter
from importlib import metadata

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops, optim
from tinygrad_rnn.data import IGNORED, padded


def treebank():
    """Sentences of (form, label): of ten in each file the first eight, to learn from, and the last, for the test."""
    try:
        files = sorted(file for file in metadata.files("turkish-treebanks") if file.suffix == ".conllu")
    except metadata.PackageNotFoundError:
        sys.exit('labelling: turkish-treebanks is not installed; pip install "tinygrad-rnn[examples]"')
    parts = [[] for _ in range(10)]
    for i, block in (pair for file in files for pair in enumerate(file.read_text("utf-8").strip().split("\n\n"))):
        rows = [line.split("\t") for line in block.split("\n")]
        parts[i % 10].append([(row[1], row[3]) for row in rows if row[0].isdigit()])
    return [sentence for part in parts[:8] for sentence in part], parts[9]


class Tagger(nn.Module):
    """sentences: B lists of (form, label)  returns: logits (T, B, labels), the numbers of the labels (T, B)"""

    def __init__(self, pairs, bidirectional, units=64):
        forms, labels = (Counter(each) for each in zip(*pairs, strict=True))
        self.labels = {label: i for i, label in enumerate(labels)}
        self.letters = {letter: i for i, letter in enumerate(sorted(set("".join(forms))), 1)}
        self.words = {form: i for i, (form, n) in enumerate(forms.most_common(), 1) if n > 1}  # 0 stands for others
        self.word, self.letter = nn.Embedding(len(self.words) + 1, units), nn.Embedding(len(self.letters) + 1, 24)
        self.speller = nn.LSTM(24, units // 2, bidirectional=True)
        self.rnn = nn.LSTM(2 * units, units if bidirectional else 2 * units, bidirectional=bidirectional)
        self.output, self.dropout = nn.Linear(2 * units, len(labels)), nn.Dropout(0.3)

    def forward(self, sentences):
        lengths = np.array([*map(len, sentences)])
        T = lengths.max() + -lengths.max() % 8  # layers are compiled for each shape: let there be few
        said = padded([[self.labels.get(label, IGNORED) for _, label in pairs] for pairs in sentences], IGNORED, T)
        forms = sorted({form for pairs in sentences for form, _ in pairs})
        ids = padded([[forms.index(form) for form, _ in pairs] for pairs in sentences], 0, T)
        forms += [""] * (-len(forms) % 128)
        letters = [[self.letters.get(letter, 0) for letter in form[-16:]] for form in forms]
        _, (h, _) = self.speller(self.letter(padded(letters, 0, 16)), lengths=np.array([*map(len, letters)]))
        known = ops.concat([self.word([self.words.get(form, 0) for form in forms]), h[0], h[1]], axis=-1)
        ys, _ = self.rnn(self.dropout(ops.embedding(ids, known)), lengths=lengths)
        return self.output(self.dropout(ys)), said


def main(epochs=12, most=None):
    learned, test = (sorted(part[:most], key=len) for part in treebank())
    pairs, truth = ([pair for sentence in part for pair in sentence] for part in (learned, test))
    data, exam = ([part[i : i + 32] for i in range(0, len(part), 32)] for part in (learned, test))
    usual = dict(pair for pair, _ in reversed(Counter(pairs).most_common()))
    scores = {"usual label": np.mean([usual.get(form, "NOUN") == label for form, label in truth])}
    for name in "one direction", "both directions":
        rng, model = tg.manual_seed(0), Tagger(pairs, bidirectional=name == "both directions")
        optimizer = optim.Adam(model.parameters(), optim.cosine(5e-3, epochs * len(data)))
        for i in (i for _ in range(epochs) for i in rng.permutation(len(data))):
            optimizer.zero_grad()
            nn.cross_entropy(*model(data[i]), ignore_index=IGNORED).backward()
            optimizer.step()
        right = [np.sum(logits.argmax(-1).numpy() == said) for logits, said in map(model.eval(), exam)]
        scores[name] = sum(right) / len(truth)
    print(*(f"{name}: {score:.2%} of {len(truth)} words right" for name, score in scores.items()), sep="\n")
    return scores


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
