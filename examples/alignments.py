"""Which Greek word does an English one translate? Attention learns it unsupervised; links made by hand judge it.

IBM model 1, Brown et al. (1993), P(y_t | x) = Σ_j 1/S t(y_t | x_j), learns a lexicon t by EM; attention α then stands
for 1/S, and learns by that, beside the decoder's log P. Words are linked to the largest α_tj, not told y_t, or to the
largest α_tj t(y_t | x_j), told it: "posterior attention", Shankar and Sarawagi (ICLR 2019). Data: see testament.py
python examples/alignments.py [EPOCHS]     needs the extras plot and bleu
"""

import sys

import numpy as np
import testament

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import metrics, nn, optim
from tinygrad_rnn.data import IGNORED
from tinygrad_rnn.tasks.translation import Config, Translator, build, numbered, vocabularies_of

CONFIG = Config(cell="gru", hidden=128, embed=128, dropout=0.2, source_words=True, target_words=True, min_count=2)


def ibm1(sources, targets, shape, rounds=6):
    """t(y | x) of ids, (X, Y), by EM: each y is said by one of the x of its verse; there is no empty x."""
    cells = np.concatenate([(x * shape[1] + y[:, None]).ravel() for x, y in zip(sources, targets, strict=True)])
    lengths = np.repeat([*map(len, sources)], [*map(len, targets)])  # of the source, for each y
    word, t = np.repeat(np.arange(len(lengths)), lengths), np.ones(shape).ravel()
    for _ in range(rounds):
        counts = np.bincount(cells, t[cells] / np.bincount(word, t[cells])[word], t.size).reshape(shape)
        t = (counts / np.maximum(counts.sum(1, keepdims=True), 1e-9)).ravel()
    return t.reshape(shape)


def read(model, t, batch):
    """The decoder's nats a word; α, and α_tj t(y_t | x_j), of all steps: (T, B, S)"""
    ys, states = model.decoder(model.dropout(model.target(batch.inputs)), model.encode(*batch[:2]), all_states=True)
    nats = nn.cross_entropy(model.output(model.dropout(ys)), batch.targets, ignore_index=IGNORED)
    said, weights = batch.targets[..., None], nn.attention_weights(states)
    return nats, weights, weights * np.where(said == IGNORED, np.float32(1), t[batch.source.T, said.clip(0)])


def main(epochs=15, most=None, picture="alignments.png"):
    (texts, _), (asked, gold) = testament.parts(most)
    words = vocabularies_of(CONFIG, texts)
    train, test = (numbered(part, *words, 16) for part in (texts, asked))
    t = np.float32(ibm1(train.sources, train.targets, [*map(len, words)]) + 1e-6)
    tg.manual_seed(0)
    model = build(CONFIG, *map(len, words))
    optimizer = optim.Adam(model.parameters(), optim.cosine(2e-3, epochs * len(train)))
    for batch in (batch for epoch in range(epochs) for batch in train.epoch(epoch)):
        nats, _, joint = read(model, t, batch)
        (nats - joint.sum(-1).log().mean()).backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    found, scores = {}, {}
    for part in test.order(0):
        _, *both = read(model.eval(), t, test.batch(part))
        for column, i in enumerate(part):
            x, y = test.sources[i], test.targets[i]
            line = np.arange(len(x)) == ((np.arange(len(y)) + 0.5) * len(x) // len(y))[:, None]
            found[i] = line, t[x][:, y].T, *(rows.numpy()[: len(y), column, : len(x)] for rows in both)
    for k, name in enumerate(["the diagonal", "IBM model 1", "attention", "attention, told the word"]):
        links = [enumerate(found[i][k].argmax(1).tolist()) for i in range(len(asked))]
        scores[name] = metrics.alignment_error_rate(links, gold)
    translator = Translator(model, *words)
    said = [translator.text(best).split() for best, *_ in translator([x for x, _ in asked], beam=4)]
    right = [y.split() for _, y in asked]
    scores |= {"BLEU": metrics.corpus_bleu(said, right), "chrF": metrics.corpus_chrf(said, right)}
    print(*(f"{name}: {score:.3f}" for name, score in scores.items()), sep="\n")
    joint = found[0][-1]
    marked = np.array([[(t, s) in gold[0] for s in range(joint.shape[1])] for t in range(len(joint))])
    viz.alignment(joint / joint.sum(1, keepdims=True), *map(str.split, asked[0]), picture, marked=marked)
    return scores


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
