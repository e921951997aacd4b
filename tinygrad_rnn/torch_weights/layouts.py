"""How each kind of module is written as PyTorch's, and read back; a tree of modules goes part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn import nn
from tinygrad_rnn.nn.state_dicts import prefixed, without_prefix
from tinygrad_rnn.torch_weights.given import Arrays


class Layout(NamedTuple):
    """How one kind of module is written and read: functions of the module and of its arrays, by name."""

    write: Callable[[Any, Arrays], Arrays]
    read: Callable[[Any, Arrays], Arrays]


def _layout(module: nn.Module) -> Layout | None:
    if isinstance(module, nn.Layers) and not all(isinstance(cell, CELLS) for cell in module.cells):
        return None
    return next((layout for kind, layout in LAYOUTS.items() if isinstance(module, kind)), None)


def exported(module: nn.Module, arrays: Arrays) -> Arrays:
    """The arrays of a module's state_dict by PyTorch's names and in its layouts."""
    layout = _layout(module)
    return layout.write(module, arrays) if layout else _each(module, arrays, exported)


def taken(module: nn.Module, arrays: Arrays) -> Arrays:
    """The opposite: arrays by PyTorch's names as the module's load_state_dict takes them."""
    layout = _layout(module)
    return layout.read(module, arrays) if layout else _each(module, arrays, taken)


def _each(module: nn.Module, arrays: Arrays, convert: Callable[[nn.Module, Arrays], Arrays]) -> Arrays:
    """Convert what is in the modules of a module; its own parameters stay as they are."""
    found, children = {}, dict(module.named_children())
    for path, child in children.items():
        found.update(prefixed(path, convert(child, without_prefix(path, arrays))))
    own = {n: a for n, a in arrays.items() if not any(n.startswith(path + ".") for path in children)}
    return {**own, **found}


def renamed_for(module: nn.Module, arrays: Arrays) -> Arrays:
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


# ---- one kind of module each -----------------------------------------------------------------------------------------


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
        found.update({name + suffix: a for name, a in _write_cell(cell, without_prefix(path, ours)).items()})
    return found


def _read_layers(layers: Any, theirs: Arrays) -> Arrays:
    found = {}
    for suffix, path, cell in _cells(layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        part = {name: theirs[name + suffix] for name in names if name + suffix in theirs}
        found.update(prefixed(path, _read_cell(cell, part)))
    return found


def _cells(layers: nn.Layers) -> Iterator[tuple[str, str, nn.Cell]]:
    """For each cell PyTorch's suffix, its path here, and itself."""
    paths = {id(module): path for path, module in layers.named_modules()}
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
