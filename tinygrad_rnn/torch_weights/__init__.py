"""PyTorch's weights, both ways: the names and layouts of its state_dict for RNN, LSTM (with proj_size too), GRU, their
cells, Linear, Embedding, LayerNorm, MultiheadAttention, and for modules made of these with the same attributes.

PyTorch keeps matrices as (out, in), stacks the gates below each other, has two biases that are added, and its GRU
resets after the product and calls z what is 1 - z here.

Of two biases PyTorch gives each the whole gradient, so that their sum takes steps of twice the size. A layer with one
computes what PyTorch's computes, but does not go on training as that would: make it with biases=2 to do so.
"""

from __future__ import annotations

import re

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safetensors.numpy import save as save_file

from tinygrad_rnn import nn
from tinygrad_rnn.files import write_atomically
from tinygrad_rnn.torch_weights.given import arrays_of, without_wrappers
from tinygrad_rnn.torch_weights.layouts import Arrays, exported, renamed_for, taken

__all__ = ["Keys", "export", "load", "save"]


def export(module: nn.Module) -> Arrays:
    """The weights of a module, by the names and in the layouts of PyTorch's state_dict."""
    return exported(module, module.state_dict())


def save(module: nn.Module, path: str | Path) -> None:
    """Write what `export` returns as a safetensors file, which PyTorch's users can load."""
    arrays = {name: np.ascontiguousarray(a) for name, a in export(module).items()}
    write_atomically(Path(path), save_file(arrays, {"format": "pt"}))


class Keys(NamedTuple):
    """What was not found in PyTorch's weights, and what was found there and is not in the module: PyTorch's names."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def load(module: nn.Module, values: Any, *, strict: bool = True) -> Keys:
    """Take weights from PyTorch, and return which names were missing, and which are not in the module.

    values: its module, its state_dict (tensors or arrays by name), or a file of one: safetensors, or .pt, which needs
    PyTorch and is read by torch.load(weights_only=True). A prefix "module." of all names is left out, bfloat16 becomes
    float32, and an nn.Recurrent takes the names of a layer, weight_ih_l0, as well as those of its cell.
    strict: with False names may be missing, and others be there: a part is taken, the rest stays as it is

    With one bias here, the sum of PyTorch's two is taken: the outputs are the same, but not the steps of training (see
    above). ValueError if names (where strict) or shapes do not fit, before anything is taken.
    """
    who = f"torch_weights.load: {type(module).__name__}"
    expected = export(module)
    given = arrays_of(who, export(values) if isinstance(values, nn.Module) else values)
    arrays = renamed_for(module, without_wrappers(given, expected))
    optional = {name for name in expected if _is_left_out(name, arrays)}
    buffers = dict(module.named_buffers()).keys()  # PyTorch's module may have none of that name
    missing = sorted(expected.keys() - arrays.keys() - optional - buffers)
    unknown = sorted(arrays.keys() - expected.keys())
    if strict and (missing or unknown):
        raise ValueError(
            f"{who}: the names must be PyTorch's, missing {missing or 'none'}, not in the module {unknown or 'none'}"
        )
    arrays = {name: a for name, a in arrays.items() if name in expected}
    for name, a in arrays.items():
        if a.shape != expected[name].shape:
            raise ValueError(f"{who}: {name} must have shape {expected[name].shape}, got {a.shape}")
    arrays.update({name: np.zeros_like(expected[name]) for name in optional})
    module.load_state_dict(taken(module, {**expected, **arrays}))
    return Keys(missing, unknown)


def _is_left_out(name: str, arrays: Arrays) -> bool:
    """Is it a bias of a recurrent layer of PyTorch's that has none, with bias=False?"""
    weight = re.sub("bias_[ih]h", "weight_ih", name)
    return weight != name and name not in arrays and weight in arrays
