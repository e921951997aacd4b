"""Questions and answers of unequal length, in two ways: one RNN among dummies, or an encoder and a decoder.

OneRNN   (how, are, you, –, –, –) → (–, –, –, i, am, fine): where a dummy is to be said, no loss counts
TwoRNNs  (how, are, you) → their last state → (i, am, fine), each word fed to say the next. arXiv:1409.3215
python examples/dialogue.py      20 seconds on two cores: 92 % of the held-out answers are right, in both ways
"""

import numpy as np

from tinygrad_rnn import decode, manual_seed, nn, optim
from tinygrad_rnn.data import IGNORED, padded
from tinygrad_rnn.tasks.translation import Config, numbered, vocabularies_of

PEOPLE = ["anna", "ben", "clara", "david", "eva", "felix", "fay", "george", "ida", "hugo", "kim", "jack", "mary", "leo"]
PLACES = ["kitchen", "garden", "office", "attic", "hall", "cellar"]
OPENINGS = {"": "", "hello ": "hello ", "please tell me ": "well ", "excuse me but ": ""}  # and what answers them


def dialogues(rng):
    """Questions and answers: those to learn from, and a fifth of those that join two things, held out."""
    single, joint = [("how are you", "i am fine"), ("who are you", "i am a network")], []
    for name, she, home in zip(PEOPLE, ["she", "he"] * 7, rng.choice(PLACES, len(PEOPLE)), strict=True):
        single.append((f"where is {name}", f"{she} is in the {home}"))
        joint += [(f"is {name} in the {p}", f"{'yes' if p == home else 'no'} {she} is in the {home}") for p in PLACES]
        joint += [(f"may {name} come with {p}", f"{name} and {p} may come") for p in PEOPLE if p != name]
    rng.shuffle(joint)
    parts = single + joint[len(joint) // 5 :], joint[: len(joint) // 5]
    return [[(a + q, b + answer) for q, answer in part for a, b in OPENINGS.items()] for part in parts]


class OneRNN(nn.Module):
    def __init__(self, V, W, units):
        self.dummy, self.embedding = V, nn.Embedding(V + 1, 32)  # the dummy is one more input
        self.rnn, self.output = nn.Recurrent(nn.LSTMCell(32, units)), nn.Linear(units, W)

    def loss(self, batch):
        said = padded([[IGNORED] * n + [*y] for n, y in zip(batch.lengths, batch.targets.T, strict=True)], IGNORED)
        fed = padded([x[:n] for n, x in zip(batch.lengths, batch.source.T, strict=True)], self.dummy, len(said))
        return nn.cross_entropy(self.output(self.rnn(self.embedding(fed))[0]), said, ignore_index=IGNORED)

    def encode(self, source, lengths):
        return self.rnn(self.embedding(source), lengths=lengths)[1]

    def step(self, ids, state):
        y, state = self.rnn.cell(self.embedding(np.full_like(ids, self.dummy)), state)  # not told what it has said
        return self.output(y), state


class TwoRNNs(nn.EncoderDecoder):
    def __init__(self, V, W, units):
        encoder, cell, output = nn.LSTM(32, units), nn.LSTMCell(32, units), nn.Linear(units, W)
        super().__init__(nn.Embedding(V, 32), encoder, nn.Bridge(2 * units, cell), nn.Embedding(W, 32), cell, output)

    def loss(self, batch):
        return nn.cross_entropy(self(batch.source, batch.inputs, batch.lengths), batch.targets, ignore_index=IGNORED)


def main(epochs=50, units=128):
    learned, held_out = dialogues(np.random.default_rng(0))
    words, shares = vocabularies_of(Config(source_words=True, target_words=True), learned), []
    pairs, asked = numbered(learned, *words, 32), numbered(held_out, *words, 32).batch(range(len(held_out)))
    for Network in OneRNN, TwoRNNs:
        manual_seed(0)
        model = Network(*map(len, words), units)
        optimizer = optim.Adam(model.parameters(), optim.cosine(3e-3, epochs * len(pairs)))
        for batch in (batch for epoch in range(epochs) for batch in pairs.epoch(epoch)):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        found = decode.greedy(model.step, model.encode(*asked[:2]), start=pairs.start, end=pairs.end, max_length=12)
        said = [words[1].decode(hypothesis.tokens).strip() for hypothesis in found]
        shares.append(np.mean([answer == right for answer, (_, right) in zip(said, held_out, strict=True)]))
        print(f"{Network.__name__}: {shares[-1]:.1%} of {len(said)} held-out answers right")
        for (question, right), answer in sorted(zip(held_out, said, strict=True), key=lambda p: p[0][1] != p[1])[::23]:
            print(f"  {question}? {answer}." + f"  (wrong: {right})" * (answer != right))
    return shares


if __name__ == "__main__":
    main()
