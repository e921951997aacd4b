"""What a cell's drawing in the textbook's form is made of: plain data, before anything has a place."""

from __future__ import annotations

from dataclasses import dataclass, field

from viz.picture.picture import Item


@dataclass(eq=False)
class Scheme:
    """One step of a cell.

    name    of the cell
    inputs  what comes from below
    before  what stands at the left for a state of an earlier step, and the kind of its line
    after   what stands at the right for what the step leaves, and the kind of its line
    layers  functions of affine maps, in a row
    points  the other operations, in the order in which they are computed
    joins   bars at which what several layers read together becomes one line
    reads   what each item reads
    path    from what stands for a memory at the left: the operations that it runs through
    """

    name: str = ""
    inputs: list[Item] = field(default_factory=list)
    before: dict[Item, str] = field(default_factory=dict)
    after: dict[Item, str] = field(default_factory=dict)
    layers: list[Item] = field(default_factory=list)
    points: list[Item] = field(default_factory=list)
    joins: list[Item] = field(default_factory=list)
    reads: dict[Item, list[Item]] = field(default_factory=dict)
    path: dict[Item, list[Item]] = field(default_factory=dict)

    def items(self) -> list[Item]:
        """All that is drawn."""
        return [*self.inputs, *self.before, *self.joins, *self.layers, *self.points, *self.after]
