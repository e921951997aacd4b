"""Modules by other names: those that they had before they stood in rooms, and `tg.viz`, the package beside this one.

`from tinygrad_rnn.checkpoint import load_checkpoint` still works: what is imported from there comes from where it is
now. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
import sys

from pathlib import Path
from types import ModuleType
from typing import Any

MOVED = {
    "backend": ("autograd.arrays", "autograd.devices", "autograd.dtypes"),
    "backward": ("autograd.backward",),
    "blas": ("autograd.blas",),
    "graph": ("autograd.graph",),
    "nest": ("autograd.nest",),
    "random": ("autograd.random",),
    "tensor": ("autograd.tensor", "autograd.gradients", "autograd.values"),
    "primitive": ("autograd.primitive", "autograd.rules", "autograd.operands"),
    "gradcheck": ("autograd.gradcheck",),
    "batches": ("data.batches",),
    "checkpoint": ("tasks.checkpoint", "nn.state_dicts"),
    "lm": ("tasks.language_model",),
    "named_cells": ("tasks.cells_by_name",),
    "runs": ("tasks.config", "tasks.kind"),
    "seq2seq": ("tasks.translation",),
    "sketches": ("tasks.sketches",),
    "train": ("tasks.fit", "tasks.run_folder"),
    "nn.compiled": ("nn.recordings", "nn.recording", "nn.replay", "nn.circuit"),
    "nn.decoder": ("nn.attention_cells",),
    "nn.seq2seq": ("nn.encoder_decoder",),
    "nn.statehooks": ("nn.state_hooks",),
    "nn.variables": ("nn.variable_names",),
    "nn.variants": ("nn.more_cells",),
    "nn.wrappers": ("nn.cell_wrappers",),
}


class Moved(ModuleType):
    """A module by its former name. now: the modules that its content is in, looked through one after the other"""

    def __init__(self, name: str, now: tuple[str, ...]) -> None:
        super().__init__(name, f"Moved: {', '.join(now)}.")
        self.__dict__["_now"] = now

    def __getattr__(self, name: str) -> Any:
        for module in () if name.startswith("__") else self._now:
            found = importlib.import_module(module)
            if hasattr(found, name):
                return getattr(found, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}; it has moved to {self._now[0]}")


def install(package: str) -> dict[str, Moved]:
    """Make the former modules of a package importable; those that stood in it itself, by name."""
    for name, now in MOVED.items():
        former = f"{package}.{name}"
        sys.modules.setdefault(former, Moved(former, tuple(f"{package}.{module}" for module in now)))
    return {name: sys.modules[f"{package}.{name}"] for name in MOVED if "." not in name}  # type: ignore[misc]


REINSTALL = "if it came from PyPI: pip uninstall viz; pip install --force-reinstall --no-deps tinygrad-rnn"


def pictures() -> ModuleType:
    """The package viz that came with this one; ImportError that names another of that name in its place."""
    home = Path(__file__).parents[1]
    sys.path.insert(0, str(home))
    try:
        viz = importlib.import_module("viz")
    except ImportError as error:
        raise ImportError(f"viz: cannot be imported ({error}); {REINSTALL}") from None
    finally:
        sys.path.remove(str(home))
    found = Path(viz.__file__ or "viz")
    if not (hasattr(viz, "draw") and found.parent == home / "viz"):
        raise ImportError(f"viz: {str(found)!r} is not the package that draws; rename it, or {REINSTALL}")
    return viz
