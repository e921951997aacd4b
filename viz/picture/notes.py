"""What a drawing says of its nodes beside their names: shapes, dtypes, norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_rnn.autograd.graph import Node
from viz.picture.gradient import short
from viz.picture.picture import Item, Picture
from viz.read.values import norm


def note_shapes(picture: Picture) -> None:
    """2×16 f4 under the names; shapes of parameters are there anyway."""
    rails = {rail.item for rail in picture.rails}
    for item in picture.items():
        node = item.nodes[-1] if item.nodes else None
        if node is not None and node.shape is not None and item not in rails:
            kind = "" if node.dtype is None else f" {node.dtype.kind}{node.dtype.itemsize}"
            text = ("×".join(map(str, node.shape)) or "scalar") + kind
            _note(item, text, text)


def note_norms(picture: Picture, known: Mapping[Node, Any]) -> None:
    """‖·‖ 0.52 under the names of what has a value that is known."""
    sizes = {node: size for node, value in known.items() if (size := norm(value)) is not None}
    for item in (i for block in picture.blocks() for i in block.items):
        if item.nodes and item.nodes[-1] in sizes:
            _note(item, f"‖·‖ {short(sizes[item.nodes[-1]])}", "‖·‖ 0e-00")
    for rail in picture.rails:
        item = rail.item
        lines = zip(item.label.split("\n"), item.nodes, strict=False)
        item.label = item.plain = "\n".join([
            f"{line}  ‖·‖ {short(sizes[n])}" if n in sizes else line for line, n in lines
        ])  # fmt: skip


def _note(item: Item, text: str, widest: str) -> None:
    item.label += "\n" + text
    item.plain += "\n" + widest
    if item.shape in ("sign", "circle", "ball"):
        item.shape = "box" if item.shape != "ball" else "pill"
