"""The command line: what there is to say, and what happens when something is wrong."""

from __future__ import annotations

import sys
import warnings

from collections.abc import Sequence

import tinygrad_rnn

from tinygrad_rnn import parallel
from tinygrad_rnn.autograd.devices import default_device, set_default_device
from tinygrad_rnn.cli import completion, draw, evaluation, export, language_model, translation
from tinygrad_rnn.cli.options import Parser
from tinygrad_rnn.cli.output import escape_unwritable, nobody_reads, note


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 2 for bad input (one line on standard error), 130 when interrupted.

    Several processes that a launcher of MPI has started train together; of any other command, one sees to it.
    """
    escape_unwritable()
    parser = _parsed()
    args = parser.parse_args(argv)
    world = parallel.World()
    try:
        world = parallel.world()
        if world.rank:
            warnings.simplefilter("ignore")  # one process says so
        set_default_device(world.device(args.device or default_device()))
        if args.command == "train" or world.rank == 0:
            args.run(args)
    except BrokenPipeError:  # `sample … | head`: whoever read us has enough
        nobody_reads()
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        return _fail(world, error, _in_one_line(error), 2)
    except KeyboardInterrupt as stop:
        return _fail(world, stop, "stopped", 130)
    return 0


def _fail(world: parallel.World, error: BaseException, line: str, code: int) -> int:
    """Say what happened and what to do: what was added to the error on its way up."""
    world.fails(error, "; ".join([line, *getattr(error, "__notes__", [])]), note)
    return code


def _in_one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); a smaller --hidden or --batch needs less"
    return " ".join(str(error).split())


def _parsed() -> Parser:
    parser = Parser(prog="tinygrad-rnn", description="Recurrent networks: train, use, evaluate, draw.")
    parser.add_argument("--version", action="version", version=f"tinygrad-rnn {tinygrad_rnn.__version__}")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND", parser_class=Parser)
    common = Parser(add_help=False)
    common.add_argument("--device", help='"cpu", "gpu" or "gpu:N" (default: TINYGRAD_RNN_DEVICE, else cpu)')
    tasks = commands.add_parser("train", help="train a model").add_subparsers(
        required=True, metavar="TASK", parser_class=Parser
    )
    language_model.add_training(tasks.add_parser("lm", help="a language model", parents=[common]))
    translation.add_training(tasks.add_parser("seq2seq", help="a model of pairs: source and target", parents=[common]))
    for name, add, text in (
        ("sample", language_model.add_sample, "let a trained language model write"),
        ("score", language_model.add_score, "log P of a sentence under a trained language model"),
        ("translate", translation.add_translate, "let a trained model of pairs write the target of a source"),
        ("evaluate", evaluation.add_evaluate, "how well a trained model predicts a text, or hits the right targets"),
        ("draw", draw.add_draw, "draw a network, unrolled or folded"),
        ("export", export.add_export, "write a trained language model as ONNX, C or a page for a browser"),
    ):
        add(commands.add_parser(name, help=text, parents=[common]))
    completion.add_completion(
        commands.add_parser("completion", help="let a shell complete commands", parents=[common]), parser
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
