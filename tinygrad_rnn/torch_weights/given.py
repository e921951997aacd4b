"""What is to be loaded, whatever it comes in: arrays by the names that PyTorch gives them."""

from __future__ import annotations

import importlib
import re

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from safetensors import SafetensorError, deserialize

Arrays = dict[str, np.ndarray]


def arrays_of(who: str, values: Any) -> Arrays:
    """The arrays in a module of PyTorch's, a dict or a file, by PyTorch's names; ValueError if there are others."""
    if isinstance(values, (str, Path)):
        values = _read(Path(values))
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
    """A file of torch.save, of which PyTorch makes nothing but tensors."""
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


def without_wrappers(arrays: Arrays, expected: Arrays) -> Arrays:
    """Without what DataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if arrays and all(n.startswith(prefix) for n in arrays) and not any(n.startswith(prefix) for n in expected):
            arrays = {name.removeprefix(prefix): a for name, a in arrays.items()}
    return arrays
