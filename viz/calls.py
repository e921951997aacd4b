"""What a user calls for a drawing of a graph: from arguments to options, and into a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from viz.compose import Options, attend, compose
from viz.drawing import Drawing, checked_suffix
from viz.picture.gradient import over_time
from viz.picture.subject import subject_of
from viz.read.chosen_steps import counted
from viz.read.expand import expanded
from viz.read.gradient_norms import norms
from viz.read.root import root_of
from viz.texts import token_lists, visible


def draw(
    what: Any,
    path: str | Path | None = None,
    *,
    view: str = "ops",
    steps: str | int | Iterable[int] | None = None,
    depth: int | None = None,
    unfold: bool = False,
    gradient: bool | tuple[float, float] = False,
    shapes: bool = False,
    values: bool = False,
    parameters: bool = True,
    colors: bool = True,
    tokens: Sequence[str] | Sequence[Sequence[str]] = (),
    targets: Sequence[str] = (),
    direction: str = "right",
    title: str | None = None,
    width: str | float | None = None,
    font_size: float | None = None,
    equations: bool = False,
    highlight: Sequence[str] = (),
) -> Drawing:
    """Draw the graph that a tensor was computed by; save it if there is a path.

    path: .svg, .png, .pdf, .dot, .html, .gif or .mp4
    what: a loss, or an output; a cell or an nn.Recurrent, drawn for a few steps; a circuit, as tg.circuit records it
    view: "ops": each operation; "cells": a box for each module; "circuit": one step, with a black square on each edge
        that leads to the next; "textbook": one step as textbooks draw a cell: gates with their weights in a row,
        memories on top, x from below, h to the right, and a bar where lines go on as one; "attention": an encoder and a
        decoder, with the weights between them
    steps: the time steps to draw, counted from 1: "all", "1-3,998-1000", or numbers; by default the first four and
        the last four of a long sequence, with a count of the others. Of a cell, layers or a circuit, which have not
        run, a number is how many steps are drawn, by default four; of "1-3,9-10" there are ten
    depth: how many levels of modules are drawn as boxes; by default 1 in "cells", where it is the outermost that
        compute something, else 0
    unfold: for "circuit": beside it the unrolled graph
    gradient: colour by log10 of the norm of the loss's gradient with respect to each value; (lowest, highest) of the
        scale, to compare drawings. It is computed here, and leaves every `grad` as it is. Where it flows, arrows lead
        backward, as it does; where none flows, they lead forward.
    shapes, values: note them under the names: 2×16 f4, and the norm of the value
    parameters: draw them
    colors: or draw in grey
    tokens: names of the inputs, step by step; where the network reads several sequences, as an encoder–decoder does,
        these are of the first, or a list for each of them: [["how", "are", "you"], ["<s>", "wie", "gehts"]]
    targets: what the last sequence of steps says, step by step; where the graph knows that the next step reads what was
        said, and has the same name there, a dashed line leads from word to word
    direction: of time, "right" or "down"
    title: stands above
    font_size: of the name of an operation, in points, at the size that the picture has; all else grows with it. By
        default 11; in a paper, that of its text
    width: of the page that it is for, in inches, or "slide", 13⅓ × 7½ inches: so many steps are drawn, if `steps` does
        not say which, that letters are set in 10 points or more, and a drawing that is larger is made to fit
    highlight: in the view "textbook", names of gates and states: what these hang on stays, the rest becomes faint
    equations: write those of a circuit beside it, in the views "circuit" and "textbook"

    ValueError for options that do not exist, for more tokens than there are steps, for a tensor without a graph, and
    for gradients or values of a graph that backward has freed.
    """
    if path is not None:
        checked_suffix(Path(path))
    count, steps = counted(steps, has_run=isinstance(what, (Tensor, type)))  # a class is refused by root_of
    names = token_lists(tokens), [visible(token) for token in targets]
    said = _equations(what) if equations else ()
    kept = [highlight] if isinstance(highlight, str) else highlight
    options = Options(
        view, steps, depth, unfold, gradient, shapes, values, parameters, colors, *names, direction, said, kept, width,
        font_size,
    )  # fmt: skip
    drawing = compose(root_of(what, count), options, title or "")
    if path is not None:
        drawing.save(path)
    return drawing


def _equations(what: Any) -> list[str]:
    """The lines of a circuit's equations. TypeError for what has none."""
    if not callable(getattr(what, "equations", None)):
        raise TypeError(
            "viz.draw: equations are those of a circuit, got "
            f"{type(what).__name__}; record one: viz.draw(tg.circuit(cell, x), …, equations=True)"
        )
    return what.equations().splitlines()


def attention(
    weights: Any,
    source: Sequence[str] = (),
    target: Sequence[str] = (),
    path: str | Path | None = None,
    *,
    step: int | None = None,
    title: str | None = None,
) -> Drawing:
    """Draw attention weights as lines between the states of an encoder and the contexts of a decoder.

    weights: (target, source), numbers from 0 to 1, one row for each decoder step
    source, target: tokens
    step: show the weights of this decoder step only, counted from 1

    ValueError if weights and tokens do not fit together.
    """
    drawing = attend(weights, source, target, step, title or "")
    if path is not None:
        drawing.save(path)
    return drawing


def gradient_flow(loss: Tensor) -> dict[str, np.ndarray]:
    """‖∂L/∂s_t‖ of each state s over the time steps, (T,): {"h": …, "c": …}; NaN where no gradient comes.

    States are called as the cell's code calls them; where two layers use one name, h1, h2, lowest first. Draw them
    with `gradient_norms`. ValueError if backward has freed the graph.
    """
    nodes = expanded(root_of(loss), copy=True)
    return over_time(subject_of(nodes), norms(nodes[-1]))
