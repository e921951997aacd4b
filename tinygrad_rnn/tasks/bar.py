"""The progress bar of an epoch: in a terminal, or in a notebook."""

from __future__ import annotations

import sys
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a notebook without ipywidgets gets a bar of text, which is no news
    from tqdm.auto import tqdm


def progress_bar(total: int, done: int, title: str, unit: str, *, hidden: bool) -> tqdm:
    """A bar of so many units, where there is a terminal or a notebook to show it."""
    notebook = "ipykernel.zmqshell" in sys.modules  # whose standard error is no terminal
    return tqdm(
        total=total, initial=done, desc=title, unit=unit, unit_scale=True, leave=False,
        disable=hidden or (False if notebook else None),
    )  # fmt: skip
