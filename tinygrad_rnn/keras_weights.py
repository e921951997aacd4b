"""Weights of Keras's layers (SimpleRNN, LSTM, GRU, Bidirectional, Embedding, Dense) as ours, and ours as theirs.

    keras_weights.load(nn.LSTM(3, 4), keras_layer.get_weights())
    keras_layer.set_weights(keras_weights.export(nn.LSTM(3, 4)))

A layer's list is [kernel, recurrent_kernel, bias], of both directions one after the other; that of a model goes through
its layers in the order in which they are defined here. Gates stand in the order of ours. Keras's update gate of a GRU
is 1 - z here; its GRU with reset_after=True, the default there, is ours with reset="after".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import nn

__all__ = ["export", "load"]

CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell)


def export(module: nn.Module) -> list[np.ndarray]:
    """A module's weights as the list that `set_weights` of Keras's layer, or model, takes.

    ValueError for what Keras has no layer for.
    """
    return [a for path, part in _parts(module, "export") for a in _written(part)]


def load(module: Any, weights: Sequence[Any]) -> Any:
    """Give a module the weights that `get_weights` of Keras's layer, or model, returned; returns the module.

    ValueError if there are more or fewer, or one has another shape; then nothing changes.
    """
    parts = list(_parts(module, "load"))
    expected = [(path, a) for path, part in parts for a in _written(part)]
    given = [np.asarray(a) for a in weights]
    if len(given) != len(expected):
        raise ValueError(f"keras_weights.load: there must be {len(expected)} arrays, got {len(given)}")
    for i, ((path, a), b) in enumerate(zip(expected, given, strict=True)):
        if a.shape != b.shape:
            raise ValueError(
                f"keras_weights.load: array {i}, of {path or type(module).__name__}, must be {a.shape}, got {b.shape}"
            )
    rest = iter(given)
    for _, part in parts:
        _read(part, [next(rest) for _ in _written(part)])
    return module


def _parts(module: nn.Module, who: str, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The cells, linear layers and embeddings in a module, in the order of Keras's lists."""
    if type(module) in (*CELLS, nn.Linear, nn.Embedding):
        if isinstance(module, nn.LSTMCell) and not module.output_gate:
            raise ValueError(f"keras_weights.{who}: {path or 'LSTMCell'} has no output gate, Keras's LSTM has one")
        yield path, module
        return
    if any("." not in name for name, _ in module.named_parameters()):
        raise ValueError(f"keras_weights.{who}: {path or 'it'} must be what Keras has, got {type(module).__name__}")
    for name, part in module.named_children():
        yield from _parts(part, who, f"{path}.{name}" if path else name)


def _written(part: Any) -> list[np.ndarray]:
    """One part's arrays as Keras has them."""
    of = lambda name: getattr(part, name).numpy()
    if isinstance(part, nn.Embedding):
        return [of("E")]
    if isinstance(part, nn.Linear):
        return [of("W")] if part.b is None else [of("W"), of("b")]
    U, W, b = of("U"), of("W"), of("b")
    second = np.zeros_like(b) if part.b_h is None else of("b_h")
    if not isinstance(part, nn.GRUCell):
        return [U, W, b + second]
    if part.reset == "before":
        return list(map(_turned, (U, W, b + second)))
    if part.b_h is None:
        second[-part.hidden_size :] = of("b_hn")
    return [_turned(U), _turned(W), _turned(np.stack([b, second]))]


def _read(part: Any, arrays: list[np.ndarray]) -> None:
    """Put Keras's arrays into one part."""
    if isinstance(part, nn.Embedding):
        part.E.data = arrays[0]
        return
    if isinstance(part, nn.Linear):
        part.W.data = arrays[0]
        if part.b is not None:
            part.b.data = arrays[1]
        return
    U, W, b = map(_turned, arrays) if isinstance(part, nn.GRUCell) else arrays
    H = part.hidden_size
    second = np.zeros_like(b)
    if b.ndim == 2:  # of a GRU that resets after the product: z and r have one bias in all
        b, second = b
        if part.b_h is None:
            part.b_hn.data = second[2 * H :]
            b = np.concatenate([b[: 2 * H] + second[: 2 * H], b[2 * H :]])
    part.U.data, part.W.data, part.b.data = U, W, b
    if part.b_h is not None:
        part.b_h.data = second


def _turned(a: np.ndarray) -> np.ndarray:
    """With the first third, that of z, turned: σ(-x) = 1 - σ(x)."""
    H = a.shape[-1] // 3
    return np.concatenate([-a[..., :H], a[..., H:]], axis=-1)
