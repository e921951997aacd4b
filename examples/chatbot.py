"""A chatbot learns ChatterBot's English dialogues. What it has learned, and what it has not, is a table.

It is asked what it was taught, and the same in other words, by fixed rules; in training some words are hidden from it.
python examples/chatbot.py       three minutes on two cores: 91 % are right as taught, 20 to 78 % in other words
"""

import re
import sys

from importlib import metadata

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.data import IGNORED
from tinygrad_rnn.tasks.translation import Config, Translator, build, numbered, vocabularies_of

try:
    FILES = [f for f in metadata.files("chatterbot-corpus") if f.match("data/english/*.yml")]
    import yaml
except (ImportError, metadata.PackageNotFoundError):
    sys.exit('chatbot: chatterbot-corpus or pyyaml is not installed; pip install "tinygrad-rnn[examples]"')

SMALL = {"a", "an", "are", "at", "do", "does", "in", "is", "of", "on", "the", "to", "was"}
RULES = {
    "as taught": lambda words: words,
    "please tell me …": lambda words: ["please", "tell", "me", *words],
    "without small words": lambda words: [w for w in words if w not in SMALL] or words,
    "second half first": lambda words: words[len(words) // 2 :] + words[: len(words) // 2],
}


def dialogues(most=20):
    """Questions, as lower-case words, and the answers of each; those of more than `most` words are left out."""
    answers = {}
    for conversation in (c for file in FILES for c in yaml.safe_load(file.read_text("utf-8"))["conversations"]):
        question, answer = (" ".join(str(text).split()) for text in conversation[:2])
        words = re.findall(r"[\w']+", question.lower())
        if 0 < len(words) <= most and len(answer.split()) <= most and answer not in answers.get(" ".join(words), []):
            answers.setdefault(" ".join(words), []).append(answer)
    return answers


def train(pairs, epochs, hidden, hiding=0.15):
    config = Config(source_words=True, target_words=True, epochs=epochs, hidden=hidden, dropout=0.0, batch=32)
    rng, words = tg.manual_seed(0), vocabularies_of(config, pairs)
    model, batches = build(config, *map(len, words)), numbered(pairs, *words, config.batch)
    optimizer = optim.Adam(model.parameters(), optim.cosine(config.lr, config.epochs * len(batches)))
    for source, lengths, inputs, targets in (batch for epoch in range(config.epochs) for batch in batches.epoch(epoch)):
        logits = model(np.where(rng.random(source.shape) < hiding, 0, source), inputs, lengths)  # 0: an unknown word
        optimizer.zero_grad()
        nn.cross_entropy(logits, targets, ignore_index=IGNORED).backward()
        optim.clip_grad_norm_(optimizer.parameters, 1.0)
        optimizer.step()
    return Translator(model.eval(), *words)


def nearest(text, questions):
    """The question that shares most words with a text, of the words of both."""
    return max(questions, key=lambda q: len({*q.split()} & {*text.split()}) / len({*q.split(), *text.split()}))


def main(epochs=60, hidden=192):
    answers, scores = dialogues(), {}
    translator = train([(question, answer) for question, found in answers.items() for answer in found], epochs, hidden)
    print(f"{len(answers)} questions{'greedy':>25}{'beam of 5':>12}{'nearest question':>20}")
    for rule, change in RULES.items():
        asked = [" ".join(change(question.split())) for question in answers]
        said = [[translator.text(best) for (best,) in translator(asked, beam=beam)] for beam in (1, 5)]
        said.append([answers[nearest(text, answers)][0] for text in asked])
        scores[rule] = [np.mean([text in right for text, right in zip(s, answers.values(), strict=True)]) for s in said]
        print(f"{rule:<26}" + "{:>12.1%}{:>12.1%}{:>20.1%}".format(*scores[rule]))
    print("what it was never asked: can you dance →", translator.text(translator(["can you dance"])[0][0]))
    return scores


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
