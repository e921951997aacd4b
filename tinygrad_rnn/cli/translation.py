"""Models of pairs: train, translate, evaluate."""

from __future__ import annotations

import argparse
import math
import os

from pathlib import Path
from typing import Any

from tinygrad_rnn import data
from tinygrad_rnn.cli import options, training
from tinygrad_rnn.cli.output import note, pictures, report, say
from tinygrad_rnn.decode import Hypothesis
from tinygrad_rnn.tasks import translation
from tinygrad_rnn.tasks.kind import Vocabularies
from tinygrad_rnn.tasks.run_folder import RunFolder
from tinygrad_rnn.tasks.translation import KIND, Translator

OPTIONS = {
    "attention": "how the decoder looks at the source; context: at one vector, none: not at all",
    "query": "what attention asks with: the decoder's output, its previous output, or the previous context",
    "source_words": "words as tokens of the source (default: characters)",
    "target_words": "words as tokens of the target (default: characters)",
    "source_tokenizer": "subwords as tokens of the source, by a JSON file of the library tokenizers",
    "target_tokenizer": "the same of the target",
    "source_subwords": "subwords as tokens of the source, so many, learned from it (byte pair encoding)",
    "target_subwords": "the same of the target",
    "bpe_dropout": "share of the merges of subwords that are left out while training, anew in each epoch",
    "label_smoothing": "share of the target's probability that all tokens share while training",
    "min_count": "tokens that come less often count as unknown",
    "hidden": "units of each layer; of the encoder half in each direction",
    "embed": "size of the embeddings",
    "layers": "recurrent layers of the encoder, and of the decoder",
    "dropout": "share that is dropped of the embeddings and of each layer's output",
    "sampling": "scheduled sampling: share of its own tokens that the decoder is fed in the last epoch",
    "epochs": "times through the pairs",
    "batch": "pairs learned side by side",
    "lr": "learning rate, from where its schedule leads down",
    "clip": "largest norm of the gradient; 0: no limit",
    "valid": "share of the sources held out, between 0 and 1",
    "seed": "of the weights, of dropout and of the order of the pairs",
}
CHOICES = {"attention": translation.MEMORIES, "query": translation.QUERIES}
TEXT_FILES = (".txt", ".tsv", ".csv")


def add_training(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn train seq2seq` to its parser."""
    p.set_defaults(run=train)
    options.of_training(p, KIND, "a UTF-8 file with a pair in each line: source TAB target", OPTIONS, CHOICES)


def add_translate(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn translate` to its parser."""
    p.set_defaults(run=translate)
    p.add_argument("folder", metavar="DIR", help="a run's folder")
    p.add_argument("source", metavar="SOURCE", help="a text to read, in quotes if it has blanks; or see --file")
    kind = p.add_mutually_exclusive_group()
    kind.add_argument("--file", action="store_true", help='SOURCE is a file with a source in each line; "-" for stdin')
    kind.add_argument("--text", action="store_true", help="SOURCE is a text, also if it is the name of a file")
    _search_options(p)
    p.add_argument(
        "--n-best", type=int, default=1, metavar="N", help="lines to print for each source (default: %(default)s)"
    )
    p.add_argument("--alignments", metavar="FILE", help="where the model looked, as a picture; of the first source")


def add_evaluation(p: argparse.ArgumentParser) -> None:
    """Add the options of `tinygrad-rnn evaluate` for models of pairs to its parser."""
    p.add_argument("--pairs", metavar="FILE", help="pairs to compare with, source TAB target")
    _search_options(p)
    p.add_argument("--bleu", action="store_true", help='also BLEU; needs the extra "bleu"')


def _search_options(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--beam", type=int, default=1, metavar="N", help="hypotheses kept at each step (default: %(default)s)"
    )
    p.add_argument(
        "--length-penalty", type=float, default=1.0, metavar="X",
        help="hypotheses compare by log P / length^X (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--replace-unk", action="store_true", help="<unk> becomes the word of the source that attention points at"
    )


def _replacing(translator: Translator, args: argparse.Namespace) -> bool:
    if args.replace_unk:
        translator.check_replacing()
    return args.replace_unk


def _check_search(args: argparse.Namespace) -> None:
    if args.beam < 1:
        raise ValueError(f"--beam: the search's width must be at least 1, got {args.beam}")
    if not 0 <= args.length_penalty < math.inf:
        raise ValueError(f"--length-penalty: must be a finite number of at least 0, got {args.length_penalty}")


def train(args: argparse.Namespace) -> None:
    """Start a run, or go on with one; then a few translations of what was held out."""
    trainer, config = training.train(args, KIND, options.given(args, KIND), _title)
    training.show(trainer, lambda: _show(trainer.folder, config))


def _show(folder: RunFolder, config: translation.Config) -> None:
    """Let a trained model translate."""
    translator = Translator.load(folder)
    texts = translation.held_out_sources(config)[:5]
    for text, (best, *_) in zip(texts, translator(texts), strict=True):
        report(f"{text} → {translator.text(best)}")
    if config.test_pairs:
        pairs = data.read_pairs(config.test_pairs)
        report(f"{config.test_pairs}: {_scores(pairs, translation.evaluate(translator, pairs))}")


def _title(config: Any, vocabularies: Vocabularies, size: int) -> str:
    source, target = map(len, vocabularies)
    sizes = f"{source} different source tokens and {target} target tokens"
    return f"{config.cell} encoder–decoder, {size:,} parameters, {sizes}"


def translate(args: argparse.Namespace) -> None:
    """What the model says to a source, or to each line of a file: as many lines for each, also for an empty one."""
    _check_search(args)
    if not 1 <= args.n_best <= args.beam:
        raise ValueError(
            f"--n-best: must be from 1 to --beam, {args.beam}, got {args.n_best}; a larger --beam finds more"
        )
    translator = Translator.load(RunFolder(Path(args.folder)))
    replacing = _replacing(translator, args)
    texts = [line.strip() for line in _sources(args)]
    wanted = [text for text in texts if text]
    if not wanted and not args.file:
        raise ValueError("translate: the source is empty")
    found = translator(wanted, beam=args.beam, length_penalty=args.length_penalty, n_best=args.n_best)
    if wanted and args.alignments:
        _align(translator, wanted[0], found[0][0], Path(args.alignments))
    answers = iter(found)
    for text in texts:
        read = text if replacing else None
        lines = [_line(translator, h, args.n_best, read) for h in next(answers)] if text else []
        say("\n".join([*lines, *[""] * (args.n_best - len(lines))]))


def _sources(args: argparse.Namespace) -> list[str]:
    """What is to be translated. SOURCE is a text; but "in.txt" and "folder/in" are files where there is one."""
    source, is_file = args.source, _is_file(args.source)
    if args.file:
        return data.read_lines(source)
    if args.text or not (is_file or source.endswith(TEXT_FILES)):
        return [source]
    if is_file and (Path(source).suffix or os.sep in source):
        note(f"reads the file {source!r}; --file says so, and --text that the text is meant")
        return data.read_lines(source)
    note(f"translates the text {source!r}; " + ("--file means the file" if is_file else "there is no such file"))
    return [source]


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):  # too long for a name
        return False


def _line(translator: Translator, hypothesis: Hypothesis, n_best: int, read: str | None) -> str:
    text = translator.text(hypothesis, read)
    return text if n_best == 1 else f"{hypothesis.log_prob:9.4f}  {text}"


def _align(translator: Translator, text: str, best: Hypothesis, path: Path) -> None:
    """The weights of attention as a heat map: what was read against what was written."""
    if best.weights is None:
        raise ValueError("--alignments: this model was trained without attention, there is nothing to show")
    target = translator.target.shown(best.tokens) + [data.END] * best.finished
    weights = best.weights.swapaxes(0, 1) if best.weights.ndim == 3 else best.weights  # heads side by side
    pictures().alignment(weights, translator.source.split(text), target, path)
    note(f"wrote {path}")


def evaluate(args: argparse.Namespace) -> None:
    """Print how well a model does on pairs."""
    _check_search(args)
    folder = RunFolder(Path(args.folder))
    translator, config = Translator.load(folder), KIND.read_config(folder)
    path = args.pairs or config.test_pairs
    again = lambda: KIND.read_again(config, folder, "evaluate")[0]
    pairs = data.read_pairs(path) if path else translation.held_out(config, again())
    search = {"beam": args.beam, "length_penalty": args.length_penalty, "replace_unk": _replacing(translator, args)}
    said = _scores(pairs, translation.evaluate(translator, pairs, bleu=args.bleu, **search))
    say(said if args.pairs else f"{path or 'what it was validated on'}: {said}")


def _scores(pairs: list[tuple[str, str]], scores: dict[str, float]) -> str:
    sources = len({source for source, _ in pairs})
    said = ", ".join(
        f"{name} {value:.1f}" if name == "BLEU" else f"{name} {value:.2%}" for name, value in scores.items()
    )
    return f"{sources:,} sources, {len(pairs):,} targets: {said}"
