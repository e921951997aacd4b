"""Where is DNA spliced? A donor, an acceptor or neither amid 60 bases: StatLog's data set DNA (Michie et al. 1994).

A bidirectional LSTM is told each base and its place; its states either side of the middle, where a junction would be,
say what it is. Settings are by five-fold cross-validation on the part to learn from, 97.0 %.
python examples/splice.py     40 seconds on one core: 97.3 ± 0.1 % of the test's 1,186 right, 5 seeds; StatLog 95.9 %
"""

import sys

from importlib import import_module
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim

CLASSES = ["ei", "ie", "n"]  # exon | intron: a donor; intron | exon: an acceptor; neither
GET = "apt-get download r-cran-mlbench && dpkg -x r-cran-mlbench_*.deb {} && pip install rdata"


def junctions(folder):
    """Bases (N, 60) from 0 to 3 and classes (N,): the first 2,000, to learn from, and the other 1,186, for the test."""
    path = Path(folder, "usr/lib/R/site-library/mlbench/data/DNA.rda")
    try:
        table = import_module("rdata").read_rda(path, default_encoding="ascii")["DNA"]
    except (ImportError, FileNotFoundError):
        sys.exit(f"splice: {path} of R's mlbench, or rdata to read it, is not there; {GET.format(folder)}")
    bits = table.drop(columns="Class").to_numpy().astype(int).reshape(-1, 60, 3)  # one of three is set, or none
    bases, classes = bits @ [1, 2, 3], np.array([CLASSES.index(each) for each in table["Class"]])
    return (bases[:2000], classes[:2000]), (bases[2000:], classes[2000:])


class Spliceosome(nn.Module):
    """bases: (B, 60)  returns: logits (B, 3)"""

    def __init__(self, units=32):
        self.base, self.place = nn.Embedding(4, units), nn.Embedding(60, units)
        self.rnn, self.output = nn.LSTM(units, units, bidirectional=True), nn.Linear(4 * units, 3)
        self.told, self.said = nn.Dropout(0.3), nn.Dropout(0.5)

    def forward(self, bases):
        xs = self.base(bases.T) + self.place(np.arange(60)[:, None])
        ys, _ = self.rnn(self.told(xs))
        return self.output(self.said(tg.ops.concat([ys[29], ys[30]], axis=-1)))


def train(bases, classes, seed, epochs, size=50):
    rng, model, n = tg.manual_seed(seed), Spliceosome(), -(-len(bases) // size)
    optimizer = optim.AdamW(model.parameters(), optim.cosine(3e-3, epochs * n), weight_decay=0.01)
    for some in (part for _ in range(epochs) for part in np.array_split(rng.permutation(len(bases)), n)):
        optimizer.zero_grad()
        nn.cross_entropy(model(bases[some]), classes[some]).backward()
        optim.clip_grad_norm_(optimizer.parameters, 1.0)
        optimizer.step()
    return model.eval()


def main(folder="runs/mlbench", epochs=20, seeds=5):
    learned, (bases, classes) = junctions(folder)
    right = np.array([train(*learned, s, epochs)(bases).argmax(-1).numpy() == classes for s in range(seeds)])
    new = ~np.isin([each.tobytes() for each in bases], [each.tobytes() for each in learned[0]])
    scores = right.mean(1)
    print("seed by seed:", *(f"{score:.1%}" for score in scores))
    print(f"{scores.mean():.1%} ± {scores.std():.1%} of {len(classes)} sequences right; published: 95.9 %")
    print(f"{right[:, new].mean():.1%} of the {new.sum()} that are not among those to learn from, as the others are")
    return scores


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
