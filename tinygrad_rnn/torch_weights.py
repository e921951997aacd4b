"""PyTorch's weights, both ways: the names and layouts of its state_dict for RNN, LSTM (with proj_size too), GRU, their
cells, Linear, Embedding, LayerNorm, MultiheadAttention, and for modules made of these with the same attributes.

PyTorch keeps matrices as (out, in), stacks the gates below each other, has two biases that are added, and its GRU
resets after the product and calls z what is 1 - z here.

Of two biases PyTorch gives each the whole gradient, so that their sum takes steps of twice the size. A layer with one
computes what PyTorch's computes, but does not go on training as that would: make it with biases=2 to do so.
"""

from __future__ import annotations

import importlib
import re

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from safetensors import SafetensorError, deserialize
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
    arrays = _renamed_for(module, _without_prefix(_arrays(who, values), expected))
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
    module.load_state_dict(_taken(module, {**expected, **arrays}))
    return Keys(missing, unknown)


# ---- what is given ---------------------------------------------------------------------------------------------------


def _arrays(who: str, values: Any) -> Arrays:
    """The arrays in a module, a dict or a file, by PyTorch's names."""
    if isinstance(values, (str, Path)):
        values = _read(Path(values))
    elif isinstance(values, nn.Module):
        values = export(values)
    elif not isinstance(values, Mapping):
        if not hasattr(values, "state_dict"):
            kinds = "a module of PyTorch's, its state_dict or a file of one"
            raise TypeError(f"{who}: values must be {kinds}, got {type(values).__name__}")
        values = values.state_dict()
    for name, v in values.items():
        if not hasattr(v, "shape"):
            raise ValueError(
                f"{who}: values must be tensors by name, {name!r} is {type(v).__name__}; pass a part of it"
            )
    return {name: _array(v) for name, v in values.items()}


def _array(v: Any) -> np.ndarray:
    """A tensor of either library, or an array, in host memory. NumPy has no bfloat16."""
    if not isinstance(v, np.ndarray):
        v = v.detach() if hasattr(v, "detach") else v
        v = v.cpu() if hasattr(v, "cpu") else v
        v = v.float() if str(v.dtype) == "torch.bfloat16" else v
    array = np.asarray(v)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _read(path: Path) -> Mapping[str, Any]:
    """A file of safetensors, or one that PyTorch has written."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"torch_weights.load: there is no file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"torch_weights.load: {str(path)!r} cannot be read ({error.strerror})") from None
    if data[:2] in (b"PK", b"\x80\x02"):  # a zip file, or a pickle
        return _read_pickle(path)
    try:
        return {name: _view(view) for name, view in deserialize(data)}
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"torch_weights.load: {str(path)!r} is no safetensors file of arrays ({error})") from None


def _view(view: dict[str, Any]) -> np.ndarray:
    """An array of a safetensors file; bfloat16, the upper half of a float32, as one."""
    if view["dtype"] == "BF16":
        array = (np.frombuffer(view["data"], "<u2").astype("<u4") << 16).view("<f4")
    else:
        array = np.frombuffer(view["data"], DTYPES[view["dtype"]])
    return array.reshape(view["shape"])


DTYPES = {
    **{f"F{8 * n}": f"<f{n}" for n in (2, 4, 8)}, **{f"I{8 * n}": f"<i{n}" for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": f"<u{n}" for n in (1, 2, 4, 8)}, "BOOL": "?",
}  # fmt: skip


def _read_pickle(path: Path) -> Mapping[str, Any]:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise RuntimeError(
            f"torch_weights.load: {str(path)!r} was written by torch.save and PyTorch, which reads it, is not there; "
            "install it, or save the weights as safetensors"
        ) from None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch makes of a damaged file, or of one that holds more than weights
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition("\n")[0]  # without its colours
        raise ValueError(f"torch_weights.load: {str(path)!r} holds more than weights, or none ({reason})") from None
    if not isinstance(found, Mapping):
        raise ValueError(f"torch_weights.load: {str(path)!r} must hold a state_dict, got {type(found).__name__}")
    return found


def _without_prefix(arrays: Arrays, expected: Arrays) -> Arrays:
    """Without what DataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if arrays and all(n.startswith(prefix) for n in arrays) and not any(n.startswith(prefix) for n in expected):
            arrays = {name.removeprefix(prefix): a for name, a in arrays.items()}
    return arrays


def _renamed_for(module: nn.Module, arrays: Arrays) -> Arrays:
    """The weights of cells that are run over time by their own names, where they have those of PyTorch's layers."""
    found = dict(arrays)
    for path, part in module.named_modules():
        start = f"{path}." if path else ""
        for suffix, below in _layers_in(part).items():
            for name in arrays:
                own = name.removeprefix(start)
                if name.startswith(start) and "." not in own and own.endswith(suffix):
                    found[start + below + own.removesuffix(suffix)] = found.pop(name)
    return found


def _layers_in(part: nn.Module) -> dict[str, str]:
    """Where the cells are that PyTorch tells apart by _l0, _l1, _l0_reverse."""
    cells: dict[str, nn.Cell] = {}
    if isinstance(part, nn.Recurrent) and isinstance(part.cell, nn.Stack):
        cells = {f"cell.cells.{i}.": cell for i, cell in enumerate(part.cell.cells)}
    elif isinstance(part, nn.Recurrent):
        cells = {"cell.": part.cell}
    elif isinstance(part, nn.Bidirectional):
        cells = {"forwards.cell.": part.forwards.cell, "backwards.cell.": part.backwards.cell}
    both = isinstance(part, nn.Bidirectional)
    suffixes = ["_l0", "_l0_reverse"] if both else [f"_l{i}" for i in range(len(cells))]
    return dict(zip(suffixes, cells, strict=True)) if all(isinstance(c, CELLS) for c in cells.values()) else {}


def _is_left_out(name: str, arrays: Arrays) -> bool:
    """Is it a bias of a recurrent layer of PyTorch's that has none, with bias=False?"""
    weight = re.sub("bias_[ih]h", "weight_ih", name)
    return weight != name and name not in arrays and weight in arrays


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
    """U, W and b as weight_ih, weight_hh and bias_ih, with a bias_hh, which is zero but for what a GRU resets, if there
    is one bias here."""
    U, W, b, second = ours["U"].T, ours["W"].T, ours["b"], ours.get("b_h", np.zeros_like(ours["b"]))
    if isinstance(cell, nn.GRUCell):
        H = _resets_after(cell)
        if "b_hn" in ours:
            second[2 * H :] = ours["b_hn"]
        turned = lambda a: np.concatenate([a[H : 2 * H], -a[:H], a[2 * H :]])  # z, r, n -> r, -z, n
        U, W, b, second = map(turned, (U, W, b, second))
    projection = {"weight_hr": ours["R"].T} if isinstance(cell, nn.ProjectedLSTMCell) else {}
    return {"weight_ih": U, "weight_hh": W, "bias_ih": b, "bias_hh": second, **projection}


def _read_cell(cell: Any, theirs: Arrays) -> Arrays:
    U, W, first, second = (theirs[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    gru, projected = isinstance(cell, nn.GRUCell), isinstance(cell, nn.ProjectedLSTMCell)
    n = 2 * _resets_after(cell) if gru else len(first)  # up to where the biases are added to each other
    if gru:
        turned = lambda a: np.concatenate([-a[n // 2 : n], a[: n // 2], a[n:]])  # r, z, n -> -z, r, n
        U, W, first, second = map(turned, (U, W, first, second))
    found = {"U": U.T, "W": W.T, **({"R": theirs["weight_hr"].T} if projected else {})}
    if cell.b_h is not None:
        return {**found, "b": first, "b_h": second}
    b = np.concatenate([first[:n] + second[:n], first[n:]])
    return {**found, "b": b, **({"b_hn": second[n:]} if gru else {})}


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
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        part = {name: theirs[name + suffix] for name in names if name + suffix in theirs}
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


CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell, nn.ProjectedLSTMCell)

LAYOUTS: dict[type, Layout] = {
    nn.Linear: _renamed(W=("weight", True), b=("bias", False)),
    nn.Embedding: _renamed(E=("weight", False)),
    nn.LayerNorm: _renamed(gain=("weight", False), b=("bias", False)),
    nn.Layers: Layout(_write_layers, _read_layers),
    **dict.fromkeys(CELLS, Layout(_write_cell, _read_cell)),
    nn.MultiheadAttention: Layout(_write_heads, _read_heads),
}
