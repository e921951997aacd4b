"""A label for a sequence: which of nine men says /ae/? Japanese Vowels, Kudo, Toyama and Shimbo (1999).

A bidirectional GRU reads 7 to 29 frames of twelve cepstral coefficients; what it says of them is averaged over time.
Settings are by cross-validation on the 270 utterances to learn from (five blocks in time; 97.6 %).
python examples/speakers.py     15 seconds on one core: 98.4 ± 0.3 % of the test's 370 right, over 5 seeds; paper 94.1 %
"""

import sys

from importlib import metadata

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim


def read(text):
    """Utterances of a .ts file: frames (T, 12) and the speaker, from 0. A line: coefficient:…:coefficient:speaker"""
    rows = [line.split(":") for line in text.partition("@data")[2].split()]
    return [(np.array([c.split(",") for c in row[:-1]], np.float32).T, int(row[-1]) - 1) for row in rows]


def utterances():
    """Those to learn from, and those of the test, as the authors parted them; in units of the first ones' spread."""
    try:
        files = {file.name: file for file in metadata.files("aeon")}
    except metadata.PackageNotFoundError:
        sys.exit("speakers: aeon, which has the data, is not installed; pip install --no-deps aeon")
    learned, test = (read(files[f"JapaneseVowels_{part}.ts"].read_text("utf-8")) for part in ("TRAIN", "TEST"))
    mean, spread = (of(np.concatenate([xs for xs, _ in learned]), axis=0) for of in (np.mean, np.std))
    return [[((xs - mean) / spread, speaker) for xs, speaker in part] for part in (learned, test)]


def batch(utterances, T=29):
    """xs: (T, B, 12), T that of the longest of all, for a layer is compiled for each  returns: xs, lengths, speakers"""
    xs = np.stack([np.pad(frames, ((0, T - len(frames)), (0, 0))) for frames, _ in utterances], axis=1)
    return xs, np.array([len(frames) for frames, _ in utterances]), np.array([who for _, who in utterances])


class Listener(nn.Module):
    """xs: (T, B, 12)  returns: logits (B, 9)"""

    def __init__(self, units):
        self.rnn, self.dropout = nn.GRU(12, units, bidirectional=True), nn.Dropout(0.5)
        self.output = nn.Linear(2 * units, 9)

    def forward(self, xs, lengths):
        ys, _ = self.rnn(tg.tensor(xs), lengths=lengths)  # 0 behind each end
        return self.output(self.dropout(ys.sum(0) / lengths[:, None].astype("f")))


def train(learned, seed, epochs, units=64, frame=0.3, utterance=0.6, size=30):
    """frame, utterance: how far noise moves each frame, and all of an utterance alike, as another day would"""
    rng, model, n = tg.manual_seed(seed), Listener(units), -(-len(learned) // size)
    optimizer = optim.Adam(model.parameters(), optim.cosine(3e-3, epochs * n))
    for some in (part for _ in range(epochs) for part in np.array_split(rng.permutation(len(learned)), n)):
        xs, lengths, speakers = batch([learned[i] for i in some])
        xs += frame * rng.standard_normal(xs.shape, np.float32)
        xs += utterance * rng.standard_normal(xs.shape[1:], np.float32)
        optimizer.zero_grad()
        nn.cross_entropy(model(xs, lengths), speakers).backward()
        optim.clip_grad_norm_(optimizer.parameters, 1.0)
        optimizer.step()
    return model.eval()


def main(epochs=60, seeds=5):
    learned, test = utterances()
    xs, lengths, speakers = batch(test)
    scores = [np.mean(train(learned, s, epochs)(xs, lengths).argmax(-1).numpy() == speakers) for s in range(seeds)]
    print("seed by seed:", *(f"{score:.1%}" for score in scores))
    print(f"{np.mean(scores):.1%} ± {np.std(scores):.1%} of {len(test)} utterances right; published: 94.1 %")
    return scores


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
