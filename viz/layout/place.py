"""From a picture to a drawing with everything in its place."""

from __future__ import annotations

from viz.layout.columns import columns_of
from viz.layout.delays import Delays
from viz.layout.layout import Layout
from viz.layout.lines import Lines
from viz.layout.rails import Rails
from viz.picture.picture import Picture


def placed(picture: Picture, *, down: bool = False) -> Layout:
    """Where everything is: blocks first, then lines, parameters with their rails, and delays. down: time runs down"""
    columns = columns_of(picture, turned=down)
    Lines(columns).add()
    Rails(columns).add()
    Delays(columns).add()
    return columns.layout.turned() if down else columns.layout
