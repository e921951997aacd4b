"""Which operations of a step are its layers: f = σ(x·U + h·W + b) is one box σ called f, which reads x and h."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

from tinygrad_rnn.autograd.graph import ModuleName
from viz.picture.picture import Item

Reads = dict[Item, list[Item]]

PRODUCTS = ("matmul", "einsum", "convolve")
FOLDED = {"LayerNorm": "LN"}  # modules that are one thing in every textbook


def folded(items: Sequence[Item], reads: Reads) -> list[Item]:
    """Each normalisation as one item: the last of its operations, which reads what they all do from outside."""
    parts: dict[tuple[str, Hashable], list[Item]] = defaultdict(list)
    for item in items:
        scope = item.nodes[-1].scope if item.nodes else ()
        for k, name in enumerate(scope):
            if isinstance(name, ModuleName) and name.kind in FOLDED:
                parts[name.kind, tuple(map(id, scope[: k + 1]))].append(item)
                break
    gone: set[Item] = set()
    for (kind, _), (*others, last) in parts.items():
        reads[last] = list(dict.fromkeys(tail for i in (*others, last) for tail in reads[i] if tail not in others))
        last.label, last.shape = FOLDED[kind], "box"
        gone |= set(others)
    for item in gone:
        reads.pop(item, None)
    return [i for i in items if i not in gone]


class Layers:
    """Sorts a step's operations.

    items   in the order in which they are computed
    outer   what comes from outside of the step
    weight  of what reads a parameter: that
    affine  the items that are, or are parts of, affine maps
    inside  those of them that are drawn as a part of the layers that read them
    row     the layers
    """

    def __init__(self, items: Sequence[Item], reads: Reads, outer: Sequence[Item], weight: Mapping[Item, Item]):
        self.reads, self.weight = reads, weight
        self.affine: list[Item] = []
        for item in items:
            if item.kind == "op" and self._is_affine(item, outer):
                self.affine.append(item)
        self.inside = self._inside()
        rest = [i for i in items if i not in self.inside]
        self.row = [i for i in rest if _is_product(i) or i.kind == "gate" or self._is_function_of_affine(i)]

    def _is_affine(self, item: Item, outer: Sequence[Item]) -> bool:
        """Is it a product with weights, a sum with one, or what is put together to be multiplied?"""
        tails = self.reads[item]
        summed = item.label == "+" and any(tail in self.affine for tail in tails)
        joined = item.label == "concat" and set(tails) <= {*outer}
        return _is_product(item) or summed or joined or self.is_scaled(item)

    def is_scaled(self, item: Item) -> bool:
        """Is it one value times, or plus, a parameter?"""
        return item in self.weight and item.shape == "sign" and len(self.reads[item]) == 1

    def _inside(self) -> set[Item]:
        readers: Reads = defaultdict(list)
        for head, tails in self.reads.items():
            for tail in tails:
                readers[tail].append(head)
        found: set[Item] = set()
        for item in reversed(self.affine):
            if readers[item] and all(r in found or self._is_function(r) for r in readers[item]):
                found.add(item)
        return found

    def _is_function(self, item: Item) -> bool:
        """Is it a function of one value?"""
        known = item.shape == "box" and item.kind in ("gate", "hidden", "cell", "op")
        return known and len(set(self.reads[item])) == 1 and not _is_product(item)

    def _is_function_of_affine(self, item: Item) -> bool:
        return self._is_function(item) and self.reads[item][0] in self.affine

    def has_weights(self, item: Item) -> bool:
        """Is there an affine map in it?"""
        return _is_product(item) or any(tail in self.affine for tail in self.reads[item])

    def operands(self, item: Item) -> list[Item]:
        """What an item reads, through the affine maps that are a part of it."""
        found = self._through(item) if item in self.row else self.reads[item]
        return list(dict.fromkeys(found))

    def _through(self, item: Item) -> list[Item]:
        """What an affine map reads, through those that are parts of it."""
        return [i for tail in self.reads[item] for i in (self._through(tail) if tail in self.affine else [tail])]


def _is_product(item: Item) -> bool:
    return any(n.op is not None and n.op.name.strip("_") in PRODUCTS for n in item.nodes)
