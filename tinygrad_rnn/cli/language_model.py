"""Language models: train, sample, score."""

from __future__ import annotations

import argparse

from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn import data
from tinygrad_rnn.cli import options, training
from tinygrad_rnn.cli.output import draw_to, report, say
from tinygrad_rnn.data.subwords import Tokens
from tinygrad_rnn.tasks import language_model
from tinygrad_rnn.tasks.fit import perplexity
from tinygrad_rnn.tasks.kind import Vocabularies
from tinygrad_rnn.tasks.language_model import KIND
from tinygrad_rnn.tasks.run_folder import RunFolder

OPTIONS = {
    "words": "words as tokens (default: characters)",
    "tokenizer": "subwords as tokens, by a JSON file of the library tokenizers",
    "subwords": "subwords as tokens, so many, learned from the text (byte pair encoding)",
    "min_count": "tokens that come less often count as unknown; 0: words that come once",
    "max_vocab": "most tokens that there may be: the most frequent ones; 0: all",
    "tie": "the embedding is the output's weights too: --embed as --hidden",
    "hidden": "units of each layer",
    "embed": "size of the embedding; with --words or --tie as --hidden",
    "layers": "recurrent layers",
    "dropout": "share of the embedding and of each layer's output that is dropped",
    "epochs": "times through the text",
    "batch": "strands of text read side by side",
    "steps": "time steps that gradients go back",
    "lr": "learning rate, from where its schedule leads down",
    "clip": "largest norm of the gradient; 0: no limit",
    "valid": "share of the text held out at its end, between 0 and 1",
    "seed": "of the weights and of dropout",
}


def add_training(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn train lm` to its parser."""
    p.set_defaults(run=train)
    options.of_training(p, KIND, "a UTF-8 file (default: Python's own language reference)", OPTIONS)


def add_sample(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn sample` to its parser."""
    p.set_defaults(run=sample)
    p.add_argument("folder", metavar="DIR", help="a run's folder")
    p.add_argument("--prompt", default="", help="the beginning of the text")
    p.add_argument("--length", type=int, default=400, help="how many tokens (default: %(default)s)")
    p.add_argument(
        "--temperature", type=float, default=0.8, help="0 takes the likeliest each time (default: %(default)s)"
    )
    p.add_argument("--top-k", type=int, default=0, help="draw from the k likeliest only; 0: from all (default)")
    p.add_argument("--seed", type=int, help="the same seed writes the same text (default: another one each time)")


def add_score(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn score` to its parser."""
    p.set_defaults(run=score)
    p.add_argument("folder", metavar="DIR", help="a run's folder")
    p.add_argument("sentence", help="in quotes, if it has blanks")


def train(args: argparse.Namespace) -> None:
    """Start a run, or go on with one; then its pictures and a sample."""
    trainer, config = training.train(args, KIND, _given(args), _title)
    training.show(trainer, lambda: _show(trainer.folder, config))


def _show(folder: RunFolder, config: language_model.Config) -> None:
    """Draw a trained model, unrolled, and let it write."""
    model, vocabulary = language_model.load(folder)
    ids = vocabulary.encode(language_model.read(config)[1][:200])[:5]
    pictures = [folder.path / "unrolled.svg", folder.path / "unrolled.png"]
    draw_to(language_model.unrolled(model, ids), pictures, tokens=vocabulary.shown(ids[:-1]))
    written = language_model.sample(model, vocabulary, length=60 if config.words else 300, temperature=0.7, seed=0)
    report("\n" + "".join(written))
    if config.test_text:
        found = language_model.evaluate(model, vocabulary, data.read_text(config.test_text))
        report("\n" + evaluated(f"the test text {config.test_text}", found, vocabulary))


def evaluated(what: str, found: language_model.Evaluation, vocabulary: Tokens) -> str:
    """How well a model predicts a text, as a table."""
    unit = vocabulary.unit
    unknown = f", {found.unknown / found.tokens:.2%} of them unknown" if found.unknown else ""
    lines = [f"{what}: {found.tokens:,} {unit}s{unknown}", f"{'':<16}{'nats':>10}{'bits':>10}{'perplexity':>14}"]
    for name, n in (f"per {unit}", found.tokens), ("per word*", found.words):
        if n:
            nats = found.nats / n
            lines.append(f"{name:<16}{nats:>10.4f}{nats / np.log(2):>10.4f} {perplexity(nats):>13,.2f}")
    return "\n".join([*lines, f"* here what stands between blanks, {found.words:,} of them, whatever the tokens are"])


def evaluate(args: argparse.Namespace) -> None:
    """Print how well a model predicts a text."""
    folder = RunFolder(Path(args.folder))
    (model, vocabulary), config = language_model.load(folder), KIND.read_config(folder)
    path = args.text or config.test_text
    if path:
        text, ids = data.read_text(path), None
    else:
        texts, _ = KIND.read_again(config, folder, "evaluate")
        text, ids = language_model.held_out(config, texts, vocabulary)
    found = language_model.evaluate(model, vocabulary, text, ids=ids)
    say(evaluated(path or "what it was validated on", found, vocabulary))


def _title(config: Any, vocabularies: Vocabularies, size: int) -> str:
    (vocabulary,) = vocabularies
    tokens = f"{len(vocabulary):,} different {vocabulary.unit}s"
    return f"{config.cell} language model, {size:,} parameters, {tokens}"


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were named; with --words or --tie the embedding is as large as a layer, unless it was named."""
    given = options.given(args, KIND)
    if (given.get("words") or given.get("tie")) and not ("embed" in given or args.resume):
        given["embed"] = given.get("hidden", language_model.Config.hidden)
    return given


def sample(args: argparse.Namespace) -> None:
    """Print a prompt and a text that goes on after it, token by token as they are sampled."""
    model, vocabulary = language_model.load(RunFolder(Path(args.folder)))
    tokens = language_model.sample(model, vocabulary, args.prompt, args.length, args.temperature, args.top_k, args.seed)
    first = next(tokens, "")  # bad input shows before anything is printed
    say((args.prompt.rstrip(" ") if vocabulary.words else args.prompt) + first, end="")
    for token in tokens:
        say(token, end="")
    say("")


def score(args: argparse.Namespace) -> None:
    """Print log P of a sentence, and how much that is for each token."""
    model, vocabulary = language_model.load(RunFolder(Path(args.folder)))
    nats, n = language_model.score(model, vocabulary, args.sentence)
    if vocabulary.unit != "character":
        detail = f"{n} {vocabulary.unit}s, perplexity {np.exp(-nats / n):.1f}"
    else:
        detail = f"{n} characters, {-nats / n / np.log(2):.3f} bits per character"
    say(f"log P = {nats:.3f} nats  ({detail})")
