"""Elements by their position, and back: indexing, embeddings, one-hot vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import arrays
from tinygrad_rnn.autograd.arrays import Array, add_at, xp
from tinygrad_rnn.autograd.backward import Gradients
from tinygrad_rnn.autograd.devices import default_device
from tinygrad_rnn.autograd.dtypes import real_dtype
from tinygrad_rnn.autograd.graph import Chosen, Node, context
from tinygrad_rnn.autograd.primitive import primitive
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.autograd.transfers import check_later
from tinygrad_rnn.ops.shape import _array, _axis, _integer, broadcast_to, no_such


@primitive
def _getitem(x: Array, *, key: Any) -> Array:
    """x[key]"""
    return x[key]


@primitive
def _scatter(x: Array, *, key: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with x added at `key`: what getitem undoes."""
    out = xp(x).zeros(shape, x.dtype)
    _add(out, key, x)
    return out


_getitem.vjp(x=lambda g, x_shape, key: _scatter(g, key=key, shape=x_shape))
_scatter.vjp(x=lambda g, key: _getitem(g, key=key))


def _add(out: Array, key: Any, g: Array) -> None:
    if _is_basic(key):
        out[key] += g
    else:
        add_at(out, key, g)


def _is_basic(key: Any) -> bool:
    """No position can be named twice: numbers and slices only."""
    return not any(arrays.is_array(k) and k.ndim for k in (key if isinstance(key, tuple) else (key,)))


def _accumulate_getitem(grads: Gradients, parent: Node, _rule: Any, g: Array, kept: tuple) -> bool:
    """Add a slice's gradient in place: x[t] in a loop over T costs O(T), not a full-size array each."""
    if grads.lift is not None:
        return False
    _add(grads.buffer(parent, g), kept[1], g)
    return True


_getitem.op.accumulate = _accumulate_getitem


def getitem(x: Any, key: Any) -> Any:
    """x[key] for numbers, slices, None, ..., and arrays or tensors of integers or booleans."""
    keys = key if isinstance(key, tuple) else (key,)
    if context.trace is not None and any(isinstance(k, Tensor) for k in keys):
        return _gathered(x, keys)
    y = _getitem(x, key=_plain(_positions(key, x), x))
    return _read_by(y, key) if isinstance(key, Tensor) else y


def _read_by(y: Any, ids: Any) -> Any:
    """What was looked up, with the letters that it was read by if the graph knows them: to be drawn."""
    letters = ids.node if isinstance(ids, Tensor) else None
    if letters is not None and letters.shown and isinstance(y, Tensor) and y.node is not None:
        y.node.inputs += (letters,)  # no gradient flows there
    return y


def _plain(key: Any, x: Any) -> Any:
    """The key with tensors and lists as arrays of x's library."""
    if isinstance(key, tuple):
        return tuple(_plain(k, x) for k in key)
    if isinstance(key, Tensor):
        return key.array
    if isinstance(key, list):
        key = np.asarray(key) if key else np.zeros(0, np.int64)
    if arrays.is_array(key):
        moved = arrays.move(key, _device(x))
        return moved.copy() if moved is key else moved  # its owner may write into it before backward
    return key


def _positions(key: Any, x: Any) -> Any:
    """A mask for a GPU as the positions where it is true, found once: the backward pass need not look for them again.
    One on the host is looked through there: nobody waits for it."""
    mask = key.array if isinstance(key, Tensor) else key
    if getattr(mask, "dtype", None) != np.bool_ or not mask.ndim or _device(x) == "cpu":
        return key
    if mask.shape != tuple(x.shape[: mask.ndim]):  # an error, with its words
        return key
    return tuple(arrays.move(positions, _device(x)) for positions in xp(mask).nonzero(mask))


def _device(x: Any) -> str:
    return x.device if isinstance(x, Tensor) else arrays.device_of(x)


# ---- by positions that are themselves computed: while a step is recorded ----

PLACE = "index"  # stands in a key for the next of the arguments


@primitive
def _gather(*xs: Array, key: tuple, who: str) -> Array:
    """x[key], for x and the indices whose places are in the key."""
    return xs[0][_filled(key, xs[1:], who, xs[0])]


@primitive
def _put(*xs: Array, key: tuple, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with x added at the key: what gather undoes."""
    out = xp(xs[0]).zeros(shape, xs[0].dtype)
    filled = _filled(key, xs[1:], "", out)
    add_at(out, filled[0] if len(filled) == 1 else filled, xs[0])
    return out


@_gather.vjp
def _gather_rule(g: Any, xs: tuple, key: tuple) -> tuple:
    return (_put(g, *xs[1:], key=key, shape=tuple(xs[0].shape)), *(None,) * (len(xs) - 1))


@_put.vjp
def _put_rule(g: Any, xs: tuple, key: tuple) -> tuple:
    return (_gather(g, *xs[1:], key=key, who=""), *(None,) * (len(xs) - 1))


def _filled(key: tuple, indices: Any, who: str, x: Array) -> tuple:
    """The key with the indices; those that an operation called `who` uses are checked."""
    rest = iter(indices)
    filled = tuple(next(rest) if isinstance(k, str) else k for k in key)
    if who:
        axis = next(i for i, k in enumerate(key) if isinstance(k, str))
        _check_range(filled[axis], who, x.shape[axis])
    return filled


def _gathered(x: Any, keys: tuple, who: str = "") -> Any:
    indices = [k for k in keys if isinstance(k, Tensor)]
    for k in indices:
        if k.dtype == bool:  # what has as many elements as are true
            context.trace.refuse()
        if k.dtype.kind not in "iu":
            raise TypeError(f"{who or 'getitem'}: the index must be integers, got dtype {k.dtype}")
    return _gather(x, *indices, key=tuple(PLACE if isinstance(k, Tensor) else _plain(k, x) for k in keys), who=who)


# ---- along an axis ----


def _grid(index: Any, axis: int) -> tuple:
    """The key of the positions that `index` names along `axis`: the index there, all positions elsewhere."""
    ndim, sizes = len(index.shape), index.shape
    lib = np if isinstance(index, Tensor) else xp(index)  # a tensor's values are not known yet
    return tuple(
        index if i == axis else lib.arange(sizes[i]).reshape([-1 if j == i else 1 for j in range(ndim)])
        for i in range(ndim)
    )


def take_along_axis(x: Any, index: Any, axis: Any = None, **named: Any) -> Any:
    """x at the integers `index` along `axis`; the other axes of both have the same sizes, or 1 in index."""
    if named:
        no_such("take_along_axis", named)
    axis = _axis(x, axis, "take_along_axis")
    ids = index if _recorded(index) else _ids(index, "take_along_axis", x.shape[axis], x)
    full = tuple(n if i != axis else ids.shape[i] if i < len(ids.shape) else 1 for i, n in enumerate(x.shape))
    if len(ids.shape) != len(full) or any(n not in (1, m) for n, m in zip(ids.shape, full, strict=True)):
        raise ValueError(
            f"take_along_axis: index must have the axes of x, {x.shape}, or 1 beside axis {axis}, got shape {ids.shape}"
        )
    if _recorded(index):
        return _gathered(x, _grid(broadcast_to(index, full), axis), "take_along_axis")
    return _getitem(x, key=_grid(xp(ids).broadcast_to(ids, full), axis))


@primitive
def nll(logp: Array, *, at: Array, counts: Array, total: bool) -> Array:
    """-logp at flat positions, one in each row, 0 where it does not count; or the sum of them."""
    each = xp(logp).where(counts, -logp.reshape(-1)[at], logp.dtype.type(0))
    return each.sum() if total else each


@primitive
def _spread_nll(g: Array, *, at: Array, counts: Array, total: bool, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape` with -g at flat positions: what nll undoes."""
    lib = xp(g)
    out = lib.zeros(shape, g.dtype)
    out.reshape(-1)[at] = lib.where(counts, -g, g.dtype.type(0))
    return out


nll.vjp(
    logp=lambda g, logp_shape, at, counts, total: _spread_nll(g, at=at, counts=counts, total=total, shape=logp_shape)
)
_spread_nll.vjp(g=lambda g, at, counts, total: nll(g, at=at, counts=counts, total=total))


def counted(targets: Array, ignored: int, V: int, who: str, device: str) -> tuple[Array, Array]:
    """Which of the targets are not `ignored`, and the targets with 0 in place of the others, checked, on a device.

    targets: (...) integers of any device, from 0 to V - 1 where they count; they are checked where they are
    """
    counts = targets != ignored
    ids = _checked_ids(xp(targets).where(counts, targets, 0), who, V)
    moved = arrays.move(targets, device)
    if moved is not targets:  # rather than two arrays
        counts = moved != ignored
        ids = xp(moved).where(counts, moved, 0)
    return counts, ids


def target_places(ids: Array, V: int) -> Array:
    """Where the targets are in the flat logits (..., V), one in each row. ids: (...), as `counted` gives them"""
    lib, ids = xp(ids), ids.astype(np.int64, copy=False)
    first = lib.arange(0, ids.size * V, V) if V else lib.zeros(ids.size, int)
    return ids + first.reshape(ids.shape)


def scatter_add(x: Any, index: Any, values: Any, axis: int = 0, **named: Any) -> Any:
    """x with `values` added at the integers `index`, of the same shape, along `axis`; places named twice get both."""
    if named:
        no_such("scatter_add", named)
    axis = _axis(x, axis, "scatter_add")
    ids = index if _recorded(index) else _ids(index, "scatter_add", x.shape[axis], x)
    if ids.shape != _array(values, "scatter_add").shape:
        raise ValueError(f"scatter_add: index and values must have one shape, got {ids.shape} and {values.shape}")
    if len(ids.shape) != len(x.shape) or any(
        n > m for i, (n, m) in enumerate(zip(ids.shape, x.shape, strict=True)) if i != axis
    ):
        raise ValueError(
            f"scatter_add: index must have the axes of x, {x.shape}, and be no longer beside axis {axis}, "
            f"got shape {ids.shape}"
        )
    if _recorded(index):
        key = tuple(PLACE if i == axis else _plain(k, x) for i, k in enumerate(_grid(ids, axis)))
        return x + _put(values, ids, key=key, shape=tuple(x.shape))
    return x + _scatter(values, key=_grid(ids, axis), shape=tuple(x.shape))


def take(x: Any, index: Any, axis: int = 0, **named: Any) -> Any:
    """The slices of x at the integers `index` (of any shape) along `axis`, which must be from 0 to its size - 1."""
    if named:
        no_such("take", named)
    axis = _axis(x, axis, "take")
    if _recorded(index):
        return _gathered(x, (*(slice(None),) * axis, index), "take")
    return _read_by(_getitem(x, key=(*(slice(None),) * axis, _ids(index, "take", x.shape[axis], x))), index)


def embedding(ids: Any, weight: Any) -> Any:
    """The rows of a table. ids: (...) integers from 0 to V-1  weight: (V, D)  returns: (..., D)

    IndexError for other ids: at once for those of the host, for those on a GPU with the next value that is read from
    it. So it is with all that takes ids.
    """
    if len(_array(weight, "embedding").shape) != 2:
        raise ValueError(f"embedding: weight must be (V, D), got shape {weight.shape}; ops.take reads others")
    if _recorded(ids):
        return _gathered(weight, (ids,), "embedding")
    return _read_by(_getitem(weight, key=_ids(ids, "embedding", weight.shape[0], weight)), ids)


def one_hot(ids: Any, num_classes: int, dtype: Any = np.float32) -> Tensor:
    """1 at the position that each id names, else 0. ids: (...) integers  returns: (..., num_classes)"""
    num_classes, dtype = _integer(num_classes, "one_hot: num_classes"), real_dtype(dtype, "one_hot")
    if _recorded(ids):
        return _gathered(np.eye(num_classes, dtype=dtype), (ids,), "one_hot")
    index = _ids(ids, "one_hot", num_classes)
    lib, rows = xp(index), index.reshape(-1)
    hot = lib.zeros((*index.shape, num_classes), dtype)
    hot.reshape(rows.size, num_classes)[lib.arange(rows.size), rows] = lib.ones(rows.size, dtype)
    y, chosen = Tensor(hot), getattr(ids, "node", None)
    if type(chosen) is Chosen and context.recording:
        y.node = chosen.like(y.shape, y.dtype)
    return y


def _ids(index: Any, who: str, n: int, like: Any = None) -> Array:
    """The indices as an array of integers where `like` is, checked: CuPy would wrap an id too large, silently."""
    if isinstance(index, Tensor):
        return _checked_ids(index.array, who, n)
    array = _checked_ids(index if arrays.is_array(index) else np.asarray(index), who, n)  # before it moves
    moved = arrays.move(array, default_device() if like is None else _device(like))
    return moved.copy() if moved is index else moved  # its owner may write into it before backward


def _checked_ids(array: Array, who: str, n: int) -> Array:
    if array.dtype.kind not in "iu":
        if array.size:
            raise TypeError(f"{who}: the index must be integers, got dtype {array.dtype}")
        array = array.astype(np.int64)
    _check_range(array, who, n)
    return array


def _check_range(array: Array, who: str, n: int) -> None:
    """IndexError unless all are from 0 to n - 1. On a GPU it comes later, with the next values that are read from it
    (see `check_later`): nobody waits for the ids; in place of one that is out of range another counts until then."""
    if not array.size:
        return
    lib, border = xp(array), partial(_check_border, who, n)
    if lib is np:
        border((array.min(), array.max()))
    else:
        check_later(lib.stack([array.min(), array.max()]), border)


def _check_border(who: str, n: int, found: Any) -> None:
    low, high = map(int, found)
    if low < 0 or high >= n:
        raise IndexError(f"{who}: the index must be from 0 to {n - 1}, got {low} to {high}")


def _recorded(index: Any) -> bool:
    """Is it a tensor in a step that is being recorded, whose values are not there to be read?"""
    return context.trace is not None and isinstance(index, Tensor)
