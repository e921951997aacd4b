"""The command line: train, sample, score, draw. Argument parsing over the rest of the package."""

from __future__ import annotations

import argparse
import os
import sys

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn import backend, lm, named_cells, random, sketches
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.files import replace_atomically
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.train import RunFolder, Trainer

KEEP = {"epochs"}  # what a resumed run may change


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 2 for bad input (one line on standard error), 130 when interrupted."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        backend.set_default_device(args.device or backend.default_device())
        args.run(args)
    except BrokenPipeError:  # `sample … | head`: whoever read us has enough
        _nobody_reads()
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        return _fail(_in_one_line(error), 2)
    except KeyboardInterrupt:
        return _fail("stopped" + ("; --resume goes on from the last checkpoint" if args.run is train_lm else ""), 130)
    return 0


def _fail(line: str, code: int) -> int:
    print(f"tinygrad-rnn: {line}", file=sys.stderr)  # noqa: T201
    return code


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); a smaller --hidden or --batch needs less"
    return " ".join(str(error).split())


def _nobody_reads() -> None:
    """Standard output is closed: from now on it leads nowhere, instead of to another error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str, end: str = "\n") -> None:
    """To standard output, at once."""
    print(text, end=end, flush=True)  # noqa: T201


def report(text: str) -> None:
    """The same for a run, which goes on when nobody reads any more (`train … | head`)."""
    try:
        say(text)
    except BrokenPipeError:
        _nobody_reads()


# ---- commands -------------------------------------------------------------------------------------------------------


def train_lm(args: argparse.Namespace) -> None:
    """Start a run, or go on with one; then its pictures and a sample."""
    folder, given = RunFolder(Path(args.out)), _given(args)
    if not args.save_every >= 0:
        raise ValueError(f"--save-every: must be at least 0 seconds, got {args.save_every}")
    if args.resume:
        saved = lm.read_config(folder)
        _same(saved, given)
        config = lm.checked(replace(saved, **{key: value for key, value in given.items() if key in KEEP}))
        trainer, vocabulary = lm.resumed_run(config, folder, args.save_every)
        folder.update({key: getattr(config, key) for key in KEEP})
    else:
        config = lm.checked(replace(lm.Config(), **given))
        trainer, vocabulary = lm.new_run(config, folder, args.save_every)
    task, count = trainer.task, sum(p.size for p in trainer.model.parameters())
    report(
        f"{config.cell} language model, {count:,} parameters, {len(vocabulary)} different {task.unit}s, "
        f"{task.tokens():,} to learn from; {backend.default_device()}, {config.dtype}; in {folder.path}/"
    )
    if args.resume:
        report(f"goes on at epoch {trainer.progress.epoch + 1}, batch {trainer.progress.batch + 1} of {len(task)}")
    if trainer.progress.epoch >= config.epochs:
        report(f"all {config.epochs} epochs are done; a larger --epochs goes on")
    trainer.fit(config.epochs, report)
    _finish(trainer, vocabulary, config)


def _finish(trainer: Trainer, vocabulary: Vocabulary, config: lm.Config) -> None:
    """What a run leaves for people to look at."""
    folder = trainer.folder
    _loss_curve(trainer, folder.path / "loss.png")
    model, _ = lm.load(folder)
    ids = vocabulary.encode(lm.load_text(config)[:200])[:5]
    pictures = [folder.path / "unrolled.svg", folder.path / "unrolled.png"]
    _draw(lm.unrolled(model, ids), pictures, tokens=[vocabulary.decode([i]) for i in ids[:-1]])
    report("\n" + "".join(lm.sample(model, vocabulary, length=60 if config.words else 300, temperature=0.7, seed=0)))


def sample(args: argparse.Namespace) -> None:
    """A text that goes on after a prompt, printed as it is drawn."""
    model, vocabulary = lm.load(RunFolder(Path(args.folder)))
    tokens = lm.sample(model, vocabulary, args.prompt, args.length, args.temperature, args.top_k, args.seed)
    first = next(tokens, "")  # bad input shows before anything is printed
    say((args.prompt.rstrip(" ") if vocabulary.words else args.prompt) + first, end="")
    for token in tokens:
        say(token, end="")
    say("")


def score(args: argparse.Namespace) -> None:
    """log P of a sentence."""
    model, vocabulary = lm.load(RunFolder(Path(args.folder)))
    nats, n = lm.score(model, vocabulary, args.sentence)
    if vocabulary.words:
        detail = f"{n} words, perplexity {np.exp(-nats / n):.1f}"
    else:
        detail = f"{n} characters, {-nats / n / np.log(2):.3f} bits per character"
    say(f"log P = {nats:.3f} nats  ({detail})")


def draw(args: argparse.Namespace) -> None:
    """A network in any view: a small one round a cell, or a trained one that reads a text."""
    for name in "steps", "layers", "hidden":
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: must be at least 1, got {getattr(args, name)}")
    random.manual_seed(0)
    options: dict[str, Any] = {"view": args.view, "steps": "all" if args.all_steps else args.show, "title": args.title}
    options |= {name: getattr(args, name) for name in ("depth", "unfold", "gradient", "shapes", "values", "direction")}
    options |= {"parameters": not args.no_parameters, "colors": not args.no_colors}
    if args.folder is None:
        loss = _sketch(args)
    else:
        model, vocabulary = lm.load(RunFolder(Path(args.folder)))
        ids = vocabulary.encode(args.text, "--text")
        if len(ids) < 2:
            raise ValueError(f"--text: must have at least 2 tokens, of which the last is predicted, got {args.text!r}")
        loss, options["tokens"] = lm.unrolled(model, ids), [vocabulary.decode([i]) for i in ids[:-1]]
    _draw(loss, [Path(args.out)], play=args.play, **options)


def _sketch(args: argparse.Namespace) -> Tensor:
    make = lambda inputs, units: named_cells.make_cell(args.cell, inputs, units)
    if args.view == "attention":
        return sketches.attention(make, args.hidden, args.steps, args.steps)
    network = sketches.bidirectional if args.bidirectional else sketches.predictor
    if args.gradient and not args.bidirectional:
        network = sketches.classifier
    return network(make, args.hidden, args.steps, args.layers)


def _draw(loss: Tensor, paths: list[Path], *, play: bool = False, **options: Any) -> None:
    import viz  # noqa: PLC0415 (only for those who draw)

    try:
        drawing = viz.draw(loss, **options)
        for path in paths:
            drawing.save(path, play=play)
            report(f"wrote {path}")
    except RuntimeError as error:
        if len(paths) == 1:  # somebody asked for this one file
            raise
        report(f"no picture: {error}")


def _loss_curve(trainer: Trainer, path: Path) -> None:
    """Training and held-out loss over the epochs, as a picture; needs the extra `plot`."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415
    except ImportError:
        report('no loss curve: matplotlib is not installed; pip install "tinygrad-rnn[plot]"')
        return
    rows, metric = trainer.progress.rows, trainer.task.metric
    if not rows:
        return
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    for kind, colour, label in ("train", "#2f6fab", "training"), ("valid", "#c0392b", "held out"):
        axes.plot(
            [row["epoch"] for row in rows], [row[f"{kind}_{metric.replace(' ', '_')}"] for row in rows],
            color=colour, marker="o", markersize=4, label=label,
        )  # fmt: skip
    axes.set(xlabel="epoch", ylabel=metric, xlim=(0.5, len(rows) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7eb")
    axes.legend(frameon=False)
    replace_atomically(path, lambda temporary: figure.savefig(temporary, dpi=150))
    report(f"wrote {path}")


# ---- options --------------------------------------------------------------------------------------------------------


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """The config options that were named on the command line."""
    given = {f.name: getattr(args, f.name) for f in fields(lm.Config) if getattr(args, f.name, None) is not None}
    if "text" in given:
        given["text"] = str(Path(given["text"]).absolute())
    if given.get("words") and "embed" not in given and not args.resume:
        given["embed"] = given.get("hidden", lm.Config.hidden)
    return given


def _same(saved: lm.Config, given: dict[str, Any]) -> None:
    """A resumed run keeps its options, but for those in KEEP."""
    old = asdict(saved)
    for key, value in given.items():
        if key not in KEEP and value != old[key]:
            has = f"--{key} {old[key]}" if not isinstance(value, bool) else f"no --{key}"
            raise ValueError(f"--resume: the options of a run stay; it has {has}, got {value}; leave the option out")


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with exit code 2."""

    def error(self, message: str) -> Any:
        self.exit(2, f"tinygrad-rnn: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tinygrad-rnn", description="Recurrent networks: train, sample, score, draw.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    common = _Parser(add_help=False)
    common.add_argument("--device", help='"cpu", "gpu" or "gpu:N" (default: TINYGRAD_RNN_DEVICE, else cpu)')

    tasks = commands.add_parser("train", help="train a model").add_subparsers(
        required=True, metavar="TASK", parser_class=_Parser
    )
    _train_options(tasks.add_parser("lm", help="a language model", parents=[common]))

    p = commands.add_parser("sample", help="let a trained language model write", parents=[common])
    p.set_defaults(run=sample)
    p.add_argument("folder", metavar="DIR", help="a run's folder")
    p.add_argument("--prompt", default="", help="the beginning of the text")
    p.add_argument("--length", type=int, default=400, help="how many characters or words (default: %(default)s)")
    p.add_argument(
        "--temperature", type=float, default=0.8, help="0 takes the likeliest each time (default: %(default)s)"
    )
    p.add_argument("--top-k", type=int, default=0, help="draw from the k likeliest only; 0: from all (default)")
    p.add_argument("--seed", type=int, help="the same seed writes the same text (default: another one each time)")

    p = commands.add_parser("score", help="log P of a sentence under a trained model", parents=[common])
    p.set_defaults(run=score)
    p.add_argument("folder", metavar="DIR", help="a run's folder")
    p.add_argument("sentence", help="in quotes, if it has blanks")

    _draw_options(commands.add_parser("draw", help="draw a network, unrolled or folded", parents=[common]))
    return parser


def _draw_options(p: argparse.ArgumentParser) -> None:
    p.set_defaults(run=draw)
    p.add_argument("folder", metavar="DIR", nargs="?", help="a run's folder: draw its model (default: a small network)")
    p.add_argument("--out", required=True, metavar="FILE", help="a .svg, .png, .pdf, .dot or .html file")
    p.add_argument("--view", default="ops", choices=("ops", "cells", "circuit", "attention"), help="default: ops")
    p.add_argument("--text", default="hello", help="what the model of a run reads (default: %(default)s)")
    p.add_argument("--cell", default="lstm", help=_CELL)
    p.add_argument("--layers", type=int, default=1, help="default: %(default)s")
    p.add_argument("--bidirectional", action="store_true", help="layers in both directions")
    p.add_argument("--hidden", type=int, default=4, help="units of each layer (default: %(default)s)")
    p.add_argument("--steps", type=int, default=4, help="time steps (default: %(default)s)")
    p.add_argument("--show", metavar="STEPS", help="draw these steps: 1-3,998-1000 (default: the first and the last)")
    p.add_argument("--all-steps", action="store_true", help="draw every step")
    p.add_argument("--depth", type=int, help="levels of modules that are drawn as boxes (default: 1 in cells, else 0)")
    p.add_argument("--unfold", action="store_true", help="beside a circuit: the unrolled graph")
    p.add_argument("--gradient", action="store_true", help="colour by the gradient of the loss of the last step")
    p.add_argument("--shapes", action="store_true", help="note shapes and dtypes")
    p.add_argument("--values", action="store_true", help="note the norms of values")
    p.add_argument("--no-parameters", action="store_true", help="leave out parameters")
    p.add_argument("--no-colors", action="store_true", help="draw in grey")
    p.add_argument("--direction", default="right", choices=("right", "down"), help="of time (default: right)")
    p.add_argument("--title", help="stands above")
    p.add_argument("--play", action="store_true", help="an SVG that plays by itself")


_CELL = "lstm, gru, rnn, or a cell of your own as package.module:Class (default: lstm)"


def _train_options(p: argparse.ArgumentParser) -> None:
    """Options default to None, so that a resumed run can tell what was given; Config holds the defaults."""
    default = lm.Config()

    def option(name: str, kind: Callable, text: str) -> None:
        p.add_argument(
            f"--{name}",
            type=kind,
            metavar="N" if kind is int else "X",
            help=f"{text} (default: {getattr(default, name)})",
        )

    p.set_defaults(run=train_lm)
    p.add_argument("--text", metavar="FILE", help="a UTF-8 file (default: Python's own language reference)")
    p.add_argument("--words", action="store_true", default=None, help="words as tokens (default: characters)")
    p.add_argument("--cell", help=_CELL)
    option("hidden", int, "units of each layer")
    option("embed", int, "size of the embedding; with --words as --hidden")
    option("layers", int, "recurrent layers")
    option("dropout", float, "share of the embedding and of each layer's output that is dropped")
    option("epochs", int, "times through the text")
    option("batch", int, "strands of text read side by side")
    option("steps", int, "time steps that gradients go back")
    option("lr", float, "Adam's learning rate at the start, from where a cosine leads down")
    option("clip", float, "largest norm of the gradient; 0: no limit")
    option("valid", float, "share of the text held out at its end, between 0 and 1")
    option("seed", int, "of the weights and of dropout")
    p.add_argument("--dtype", choices=["float32", "float64"], help=f"(default: {default.dtype})")
    p.add_argument("--out", default="runs/lm", metavar="DIR", help="the run's folder (default: %(default)s)")
    p.add_argument(
        "--resume", action="store_true", help="go on with the run in --out where its last checkpoint left it"
    )
    p.add_argument(
        "--save-every", type=float, default=10.0, metavar="SECONDS", help="between checkpoints (default: 10)"
    )


if __name__ == "__main__":
    sys.exit(main())
