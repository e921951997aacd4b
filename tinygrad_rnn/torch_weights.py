"""PyTorch's weights, both ways: the names and layouts of its state_dict for RNN, LSTM, GRU, their cells, Linear,
Embedding, LayerNorm, MultiheadAttention, and for modules made of these whose attributes are called alike.

PyTorch keeps matrices as (out, in), stacks the gates below each other, has two biases that are added, and its GRU
resets after the product and calls z what is 1 - z here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safetensors import SafetensorError
from safetensors.numpy import load as load_file
from safetensors.numpy import save as save_file

from tinygrad_rnn import nn
from tinygrad_rnn.files import write_atomically

Arrays = dict[str, np.ndarray]


def export(module: nn.Module) -> Arrays:
    """The weights of a module, by the names and in the layouts of PyTorch's state_dict."""
    return _export(module, module.state_dict())


def save(module: nn.Module, path: str | Path) -> None:
    """The same as a safetensors file."""
    arrays = {name: np.ascontiguousarray(a) for name, a in export(module).items()}
    write_atomically(Path(path), save_file(arrays, {"format": "pt"}))


def load(module: nn.Module, values: Mapping[str, Any] | str | Path) -> None:
    """Take weights from PyTorch: its state_dict (tensors or arrays by name), or a safetensors file of one.

    ValueError if names or shapes do not fit, before anything is taken.
    """
    who = f"torch_weights.load: {type(module).__name__}"
    if isinstance(values, (str, Path)):
        values = _read(Path(values))
    arrays = {name: np.asarray(v.detach().cpu() if hasattr(v, "detach") else v) for name, v in values.items()}
    expected = export(module)
    buffers = expected.keys() & dict(module.named_buffers())  # PyTorch's module may have none of that name
    optional = {name for name in expected if name in buffers or _is_second_bias(name)} - arrays.keys()
    missing, unknown = expected.keys() - arrays.keys() - optional, arrays.keys() - expected.keys()
    if missing or unknown:
        raise ValueError(
            f"{who}: the names must be PyTorch's, missing {sorted(missing) or 'none'}, not in the module "
            f"{sorted(unknown) or 'none'}"
        )
    for name, a in arrays.items():
        if a.shape != expected[name].shape:
            raise ValueError(f"{who}: {name} must have shape {expected[name].shape}, got {a.shape}")
    arrays.update({name: expected[name] if name in buffers else np.zeros_like(expected[name]) for name in optional})
    module.load_state_dict(_taken(module, arrays))


def _read(path: Path) -> Arrays:
    try:
        return load_file(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"torch_weights.load: there is no file {str(path)!r}") from None
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"torch_weights.load: {str(path)!r} is no safetensors file of arrays ({error})") from None


def _is_second_bias(name: str) -> bool:
    """May it be missing? A recurrent layer of PyTorch's with bias=False has none."""
    return "bias_hh" in name or "bias_ih" in name


# ---- the tree -------------------------------------------------------------------------------------------------------


class Layout(NamedTuple):
    """How one kind of module is written and read: functions of the module and of its arrays, by name."""

    write: Callable[[Any, Arrays], Arrays]
    read: Callable[[Any, Arrays], Arrays]


def _layout(module: nn.Module) -> Layout | None:
    if isinstance(module, nn.Layers) and not all(isinstance(cell, CELLS) for cell in module.cells):
        return None
    return next((layout for kind, layout in LAYOUTS.items() if isinstance(module, kind)), None)


def _export(module: nn.Module, arrays: Arrays) -> Arrays:
    """A module's arrays as PyTorch's."""
    layout = _layout(module)
    return layout.write(module, arrays) if layout else _each(module, arrays, _export)


def _taken(module: nn.Module, arrays: Arrays) -> Arrays:
    """PyTorch's arrays as a module's."""
    layout = _layout(module)
    return layout.read(module, arrays) if layout else _each(module, arrays, _taken)


def _each(module: nn.Module, arrays: Arrays, convert: Callable[[nn.Module, Arrays], Arrays]) -> Arrays:
    """Convert what is in the modules of a module; its own parameters stay as they are."""
    found, children = {}, dict(module.named_children())
    for path, child in children.items():
        below = {name.removeprefix(path + "."): a for name, a in arrays.items() if name.startswith(path + ".")}
        found.update({f"{path}.{name}": a for name, a in convert(child, below).items()})
    own = {n: a for n, a in arrays.items() if not any(n.startswith(path + ".") for path in children)}
    return {**own, **found}


# ---- layouts --------------------------------------------------------------------------------------------------------


def _renamed(**names: tuple[str, bool]) -> Layout:
    """The same arrays under other names; ours="theirs", and whether the matrix is transposed."""
    turn = lambda a, turned: a.T if turned else a
    write = lambda m, ours: {theirs: turn(ours[n], t) for n, (theirs, t) in names.items() if n in ours}
    read = lambda m, theirs: {n: turn(theirs[name], t) for n, (name, t) in names.items() if name in theirs}
    return Layout(write, read)


def _write_cell(cell: Any, ours: Arrays) -> Arrays:
    """U, W and b as weight_ih, weight_hh and bias_ih, with a bias_hh of zeros, but for what a GRU resets."""
    U, W, b = ours["U"].T, ours["W"].T, ours["b"]
    second = np.zeros_like(b)
    if isinstance(cell, nn.GRUCell):
        H = _resets_after(cell)
        second[2 * H :] = ours["b_hn"]
        U, W, b = (np.concatenate([a[H : 2 * H], -a[:H], a[2 * H :]]) for a in (U, W, b))  # z, r, n -> r, -z, n
    return {"weight_ih": U, "weight_hh": W, "bias_ih": b, "bias_hh": second}


def _read_cell(cell: Any, theirs: Arrays) -> Arrays:
    U, W, first, second = (theirs[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if not isinstance(cell, nn.GRUCell):
        return {"U": U.T, "W": W.T, "b": first + second}
    H = _resets_after(cell)
    b = np.concatenate([(first + second)[: 2 * H], first[2 * H :]])
    U, W, b = (np.concatenate([-a[H : 2 * H], a[:H], a[2 * H :]]) for a in (U, W, b))  # r, z, n -> -z, r, n
    return {"U": U.T, "W": W.T, "b": b, "b_hn": second[2 * H :]}


def _resets_after(cell: nn.GRUCell) -> int:
    """The units of a GRU, if it is PyTorch's."""
    if cell.reset != "after":
        raise ValueError(
            'torch_weights: PyTorch\'s GRU resets after the product with W_n; make ours with reset="after"'
        )
    return cell.hidden_size


def _write_layers(layers: Any, ours: Arrays) -> Arrays:
    found = {}
    for suffix, path, cell in _cells(layers):
        part = {name.removeprefix(path): a for name, a in ours.items() if name.startswith(path)}
        found.update({name + suffix: a for name, a in _write_cell(cell, part).items()})
    return found


def _read_layers(layers: Any, theirs: Arrays) -> Arrays:
    found = {}
    for suffix, path, cell in _cells(layers):
        part = {name: theirs[name + suffix] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
        found.update({path + name: a for name, a in _read_cell(cell, part).items()})
    return found


def _cells(layers: nn.Layers) -> Iterator[tuple[str, str, nn.Cell]]:
    """For each cell PyTorch's suffix, its path here, and itself."""
    paths = {id(module): path + "." for path, module in layers.named_modules()}
    directions = ("", "_reverse") if layers.bidirectional else ("",)
    for i, cell in enumerate(layers.cells):
        layer, direction = divmod(i, len(directions))
        yield f"_l{layer}{directions[direction]}", paths[id(cell)], cell


def _write_heads(attention: Any, ours: Arrays) -> Arrays:
    weights, biases = ([ours[f"{name}.{kind}"] for name in "qkv"] for kind in "Wb")
    found = {"in_proj_bias": np.concatenate(biases), "out_proj.weight": ours["out.W"].T, "out_proj.bias": ours["out.b"]}
    if _alike(attention):
        return {"in_proj_weight": np.concatenate([W.T for W in weights]), **found}
    return {**{f"{name}_proj_weight": W.T for name, W in zip("qkv", weights, strict=True)}, **found}


def _read_heads(attention: Any, theirs: Arrays) -> Arrays:
    together = np.split(theirs["in_proj_weight"], 3) if _alike(attention) else None
    weights = together or [theirs[f"{name}_proj_weight"] for name in "qkv"]
    found = {"out.W": theirs["out_proj.weight"].T, "out.b": theirs["out_proj.bias"]}
    for name, W, b in zip("qkv", weights, np.split(theirs["in_proj_bias"], 3), strict=True):
        found.update({f"{name}.W": W.T, f"{name}.b": b})
    return found


def _alike(attention: nn.MultiheadAttention) -> bool:
    """Are keys and values as large as queries? PyTorch then has the three matrices in one."""
    return attention.k.W.shape == attention.v.W.shape == attention.q.W.shape


CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)

LAYOUTS: dict[type, Layout] = {
    nn.Linear: _renamed(W=("weight", True), b=("bias", False)),
    nn.Embedding: _renamed(E=("weight", False)),
    nn.LayerNorm: _renamed(gain=("weight", False), b=("bias", False)),
    nn.Layers: Layout(_write_layers, _read_layers),
    **dict.fromkeys(CELLS, Layout(_write_cell, _read_cell)),
    nn.MultiheadAttention: Layout(_write_heads, _read_heads),
}
