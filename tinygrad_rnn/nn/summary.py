"""summary: what a model is made of, how large each part is, and how much it multiplies."""

from __future__ import annotations

import math

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.autograd.graph import Node, all_parents, ancestors, recording
from tinygrad_rnn.autograd.tensor import Tensor, tensor
from tinygrad_rnn.compiler.ir.value import PRIMITIVES
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.recurrent import Recurrent


class Part(NamedTuple):
    """A line of a summary.

    path             where the module is in the model; "" for the model itself
    kind             its class
    shape            of what it returned first, in its first call; None if that is no tensor, or it was not called
    parameters       how many numbers it has to learn, with those of the modules in it
    multiplications  in its matrix products, with those of the modules in it, for one step of one sequence
    """

    path: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    multiplications: int


class Summary(NamedTuple):
    """What `summary` found; printed it is a table. The first of its parts is the model.

    trainable  how many of the parameters ask for a gradient  nbytes: of all parameters
    """

    parts: list[Part]
    trainable: int
    nbytes: int

    def __str__(self) -> str:
        head = ("", "module", "output", "parameters", "multiplications a step")
        paths = [part.path for part in self.parts]
        rows = [head, *(_cells(part, [p for p in paths if _is_in(part.path, p)]) for part in self.parts)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = ["<", "<", "<", ">", ">"]
        lines = [
            "  ".join(f"{cell:{side}{n}}" for cell, side, n in zip(row, aligned, widths, strict=True)) for row in rows
        ]
        total = self.parts[0].parameters
        frozen = f", {total - self.trainable:,} of them frozen" if self.trainable < total else ""
        end = f"{total:,} parameters{frozen}, {_size(self.nbytes)}"
        return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:], end])

    def __repr__(self) -> str:
        return str(self)


def summary(model: Module, *xs: Any) -> Summary:
    """The parts of a model, from a call of it: print it.

    xs: what the model is called with: tensors, arrays, or whatever else
    returns: for each module its path, class, output shape, parameters, and the multiplications in matrix products
    (matmul, einsum and convolutions) of one step of one sequence: those of a layer over time divided by its T · B;
    those of a product beside it for one row. A product of what depends on no parameter, as that of inputs, is not
    counted, nor one that the model makes after its last module and does not return. The model computes once, in
    evaluation and step by step; its training flags, engines and random numbers are then as before.

        print(nn.summary(nn.LSTM(8, 16), np.zeros((5, 2, 8), np.float32)))

    TypeError if model is no module, or nothing is given to call it with.
    """
    if not isinstance(model, Module) or not xs:
        what = type(model).__name__ if not isinstance(model, Module) else "nothing to call it with"
        raise TypeError(f"summary: must get an nn.Module and what it is called with, got {what}")
    given = [x if isinstance(x, Tensor) else tensor(x) if hasattr(x, "__array__") else x for x in xs]
    with _watched(model) as results, recording(True):
        model(*given)
    shapes: dict[int, tuple[int, ...]] = {}
    nodes = []
    for m, y in results:
        found = [leaf for leaf in nest.leaves(y) if isinstance(leaf, Tensor)]
        nodes += [t.node for t in found if t.node is not None]
        if found:
            shapes.setdefault(id(m), tuple(found[0].shape))
    products = _products(nodes)
    paths: dict[int, list[str]] = defaultdict(list)  # of a module that is in several places
    for path, m in model.named_modules():
        paths[id(m)].append(path)
    parts = [
        Part(
            path, type(m).__name__, shapes.get(id(m)), sum(p.size for p in m.parameters()),
            round(max(products[p] for p in paths[id(m)])),
        )
        for path, m in model.named_modules()
    ]  # fmt: skip
    learned = list(model.parameters())
    return Summary(parts, sum(p.size for p in learned if p.requires_grad), sum(p.array.nbytes for p in learned))


@contextmanager
def _watched(model: Module) -> Iterator[list[tuple[Module, Any]]]:
    """In evaluation, step by step; the modules that are called, with what each returns."""
    results: list[tuple[Module, Any]] = []
    modules = list(model.modules())
    was = [dict(m.__dict__) for m in modules]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    try:
        with random.untouched():
            for m in modules:
                m.__dict__.update(training=False, forward=_noting(m, results))
                if isinstance(m, Recurrent):
                    m.__dict__["engine"] = "eager"
            for p in frozen:
                p.requires_grad = True
            yield results
    finally:
        for p in frozen:
            p.requires_grad = False
        for m, before in zip(modules, was, strict=True):
            m.__dict__.clear()
            m.__dict__.update(before)


def _noting(module: Module, results: list[tuple[Module, Any]]) -> Any:
    forward = module.forward

    def noted(*args: Any, **kwargs: Any) -> Any:
        y = forward(*args, **kwargs)
        results.append((module, y))
        return y

    return noted


def _products(nodes: list[Node]) -> dict[str, float]:
    """By path, the multiplications in matrix products of one step of one sequence, of what led to these."""
    products = [(node, n) for node in ancestors(nodes, all_parents) if (n := _multiplications(node))]
    steps: dict[tuple[str, ...], set[int]] = defaultdict(set)  # of all calls of the layers over time, by where they are
    for node, _ in products:
        layer, t = _step(node)
        steps[layer].add(id(t))  # each step of each call is an object of its own
    counts: dict[str, float] = defaultdict(float)
    for node, n in products:
        layer, t = _step(node)
        first = t is not None or node.op is PRIMITIVES["convolve"]  # of its axes alone is that of sequences
        rows, n_steps = math.prod(node.shape[:1] if first else node.shape[:-1]), len(steps[layer])
        path = [name for name in node.scope if isinstance(name, str)][1:]
        for i in range(len(path) + 1):
            counts[".".join(path[:i])] += n / rows / n_steps
    return counts


def _step(node: Node) -> tuple[tuple[str, ...], int | None]:
    """Where the innermost layer over time is that a value was computed in, and at which of its steps; None: in none."""
    for i, t in reversed([*enumerate(node.scope)]):
        if isinstance(t, int):
            return tuple([s for s in node.scope[:i] if isinstance(s, str)]), t
    return (), None


def _multiplications(node: Node) -> int:
    if node.op is PRIMITIVES["matmul"]:
        return math.prod(node.shape) * node.inputs[0].shape[-1]
    if node.op is PRIMITIVES["einsum"]:
        terms = node.static["spec"].partition("->")[0].split(",")
        sizes = {c: n for term, x in zip(terms, node.inputs, strict=True) for c, n in zip(term, x.shape, strict=True)}
        return math.prod(sizes.values()) * (len(terms) - 1)
    if node.op is PRIMITIVES["convolve"]:  # a row of its weight for each number of a window
        return math.prod(node.shape) * node.inputs[1].shape[0]
    return 0


def _is_in(path: str, other: str) -> bool:
    """Is a module in another one?"""
    return path != other and (not other or path.startswith(f"{other}."))


def _cells(part: Part, around: list[str]) -> tuple[str, ...]:
    """A row of the table. around: the paths of the modules that it is in"""
    name = "  " * len(around) + part.path.removeprefix(max(around, key=len, default="")).removeprefix(".")
    shape = "" if part.shape is None else str(part.shape)
    return name, part.kind, shape, f"{part.parameters:,}", f"{part.multiplications:,}"


def _size(nbytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} GB"
