"""What a layer is given, as its cell reads it: tensors of the right sizes, in the dtype of the cell's parameters."""

from __future__ import annotations

import sys
import warnings

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autograd import nest, random
from tinygrad_rnn.autograd.gradients import no_grad
from tinygrad_rnn.autograd.tensor import Parameter, Tensor, tensor
from tinygrad_rnn.nn.cell_wrappers import Wrapper
from tinygrad_rnn.nn.cells import Cell, GRUCell, LSTMCell, RNNCell, Stack
from tinygrad_rnn.nn.more_cells import (
    CoupledLSTMCell,
    IndRNNCell,
    LayerNormLSTMCell,
    MGUCell,
    PeepholeLSTMCell,
    ProjectedLSTMCell,
)
from tinygrad_rnn.nn.several import Several, are_several, side_by_side
from tinygrad_rnn.ops import stack

# The cells that read x (B, input_size) as numbers, with what their state looks like
FORMS: dict[type[Cell], str] = {
    **dict.fromkeys((RNNCell, GRUCell, MGUCell, IndRNNCell), "h"),
    **dict.fromkeys((LSTMCell, PeepholeLSTMCell, CoupledLSTMCell, LayerNormLSTMCell, ProjectedLSTMCell), "(h, c)"),
}


class Entrance:
    """What a layer does with what it is given, so that its cell reads tensors of the dtype of its parameters.

    who       what messages call the layer
    warned    has a conversion been told of?
    seen      a cell, and a parameter of it with its place: as long as it is there and what comes has its dtype, no
              other parameter is looked at
    features  the size that this cell wants x to have, or None
    """

    def __init__(self, who: str):
        self.who, self.warned = who, False
        self.seen: tuple[Cell, dict[str, Any], str, Parameter] | None = None
        self.features: int | None = None

    def __reduce__(self) -> Any:
        return Entrance, (self.who,)

    def __call__(self, cell: Cell, xs: Any, state: Any) -> tuple[Tensor, Any]:
        """xs (T, B, …) and the state, or the initial one, as the cell takes them."""
        xs = self.sequence(cell, xs)
        B = xs.shape[1]
        if state is not None:
            return xs, self.state(cell, state, B)
        state = cell.initial_state(B)
        return xs, state if is_plain(state) else nest.map_leaves(partial(_lifted, cell), state)

    def sequence(self, cell: Cell, xs: Any) -> Tensor:
        """xs as a tensor (T, B, …) in the dtype that the cell reads; ValueError if it does not fit."""
        if self._is_as_seen(cell, xs):
            return xs
        if isinstance(xs, Several) or are_several(xs):
            return self._several(cell, xs)
        if not isinstance(xs, Tensor):
            steps = isinstance(xs, list) and any(isinstance(x, Tensor) for x in xs)
            xs = stack(xs) if steps else tensor(self._even(xs))
        reader = _reader(cell)
        if xs.ndim < 2 or (reader is not None and xs.ndim != 3):
            kind = "(T, B, …)" if reader is None else "(T, B, I)"
            raise ValueError(f"{self.who}: xs must be {kind}, got {xs.shape}")
        if reader is not None and xs.shape[2] != reader.input_size:
            raise ValueError(f"{self.who}: x must have {reader.input_size} features, got {xs.shape[2]}")
        self.features = xs.shape[2] if reader is not None else None
        if xs.dtype == self._dtype(cell):
            return xs
        if xs.dtype.kind == "f":
            return self._converted(cell, xs, "xs")
        return xs if reader is None else xs.astype(common_dtype(reader) or xs.dtype)

    def _even(self, xs: Any) -> Any:
        """The same; ValueError for a list of sequences of several lengths."""
        lengths = {len(x) for x in xs if hasattr(x, "__len__")} if isinstance(xs, (list, tuple)) else set()
        if len(lengths) > 1:
            raise ValueError(
                f"{self.who}: xs must be (T, B, …), got sequences of {min(lengths)} to {max(lengths)} steps; put zeros "
                "behind the short ones with data.padded, and pass lengths="
            )
        return xs

    def _several(self, cell: Cell, xs: Any) -> Several:
        """Several inputs in one tensor, in the dtype that the cell reads."""
        if (reader := _reader(cell)) is not None:
            got = f"got {nest.describe(xs)}; steps of one input are a list, or stacked"
            raise ValueError(f"{self.who}: xs must be one tensor for {type(reader).__name__}, {got}")
        xs = xs if isinstance(xs, Several) else side_by_side(self.who, xs)
        if xs.dtype.kind != "f" or xs.dtype == self._dtype(cell):
            return xs
        new = self._converted(cell, xs, "xs")
        made = Several(new.array, new.node)
        made.form = xs.form
        return made

    def _is_as_seen(self, cell: Cell, xs: Any) -> bool:
        """Is it of the kind that was found to fit last time? Quicker than to look at everything."""
        if self.seen is None or type(xs) is not Tensor:
            return False
        seen, place, name, p = self.seen
        array = xs.array
        if seen is not cell or place.get(name) is not p or array.ndim < 2 or array.dtype != p.array.dtype:
            return False
        return self.features is None or array.shape[2:] == (self.features,)

    def state(self, cell: Cell, state: Any, B: int) -> Any:
        """A given state as the cell takes it."""
        leaves = nest.leaves(state)
        for part, own in _parts(cell, state):
            if type(part) in FORMS:
                self._check_form(part, own, B)
        dtype = self._dtype(cell)
        if all(isinstance(s, Tensor) and (s.dtype == dtype or s.dtype.kind != "f") for s in leaves):
            return state
        own = _initial_dtypes(cell)

        def taken(s: Any) -> Any:
            s = tensor(s) if isinstance(s, np.ndarray) else s
            foreign = isinstance(s, Tensor) and s.dtype.kind == "f" and s.dtype not in own
            return self._converted(cell, s, "state") if foreign else s

        return nest.map_leaves(taken, state)

    def _check_form(self, cell: Any, state: Any, B: int) -> None:
        """ValueError unless the state of a cell looks as in FORMS."""
        leaves, form = nest.leaves(state), FORMS[type(cell)]
        if len(leaves) != form.count(",") + 1 or nest.is_leaf(state) != (form == "h"):
            raise ValueError(f"{self.who}: state must be {form}, got {nest.describe(state)}")
        sizes = [getattr(cell, "proj_size", cell.hidden_size), cell.hidden_size]
        for s, H in zip(leaves, sizes, strict=False):
            shape = nest.shape(s)
            if len(shape) > 2 or shape[:-1] not in ((), (1,), (B,)):
                raise ValueError(f"{self.who}: state must be (B, H) for B = {B} sequences, got {shape}")
            if shape and shape[-1] != H:
                raise ValueError(f"{self.who}: state must have {H} units in its last axis, got {shape}")

    def _dtype(self, cell: Cell) -> np.dtype | None:
        """The dtype of one of the cell's parameters."""
        if self.seen is not None and self.seen[0] is cell and self.seen[1].get(self.seen[2]) is self.seen[3]:
            return self.seen[3].array.dtype
        for module in cell.modules():
            for name, p in vars(module).items():
                if isinstance(p, Parameter) and p.array.dtype.kind == "f":
                    self.seen = cell, vars(module), name, p
                    return p.array.dtype
        return common_dtype(cell)

    def _converted(self, cell: Cell, t: Tensor, what: str) -> Tensor:
        """In the dtype that all parameters of the cell have, if there is one; the first time with a warning."""
        dtype = common_dtype(cell)
        if dtype is None or dtype == t.dtype:
            return t
        if not self.warned and t.dtype.newbyteorder("=") != dtype:  # the order of bytes alone is not worth a word
            self.warned = True
            warnings.warn(
                f"{self.who}: {what} is {t.dtype} and the parameters are {dtype}: it is converted, at each call; pass "
                f'{what}.astype("{dtype}"), or make the layer .to("{t.dtype}")',
                stacklevel=levels_inside(),
            )
        return t.astype(dtype)


def _parts(cell: Cell, state: Any) -> Iterable[tuple[Any, Any]]:
    """The cell with its state; for a stack each of its cells with its own."""
    if not isinstance(cell, Stack):
        return ((cell, state),)
    fits = isinstance(state, (tuple, list)) and len(state) == len(cell.cells)
    return zip(cell.cells, state, strict=True) if fits else ()


def is_plain(state: Any) -> bool:
    """Is it a tensor, or a tuple of tensors, into which nobody can write?"""
    return isinstance(state, Tensor) or (isinstance(state, tuple) and set(map(type, state)) == {Tensor})


def _lifted(cell: Cell, s: Any) -> Any:
    """An array in a cell's own initial state as a tensor, of the dtype of its parameters."""
    if not isinstance(s, np.ndarray):
        return s
    return tensor(s, common_dtype(cell) if s.dtype.kind == "f" else None)


def levels_inside() -> int:
    """How many calls up somebody else's code is: what a warning points at."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("tinygrad_rnn."):
        frame, levels = frame.f_back, levels + 1
    return levels


def common_dtype(cell: Cell) -> np.dtype | None:
    """The floating-point dtype of all parameters of a cell; None if they have several, or if there are none."""
    found = {p.dtype for p in cell.parameters() if p.dtype.kind == "f"}
    return found.pop() if len(found) == 1 else None


def _reader(cell: Cell) -> Any:
    """The cell, in a cell, that reads x as numbers and says how many; None for one that may do with x what it likes."""
    while isinstance(cell, (Stack, Wrapper)):
        cell = cell.cells[0] if isinstance(cell, Stack) else cell.cell
    return cell if type(cell) in FORMS else None


def _initial_dtypes(cell: Cell) -> set[np.dtype]:
    """Those that the cell itself gives its state; none for one that is begun by other means."""
    try:
        with no_grad(), random.untouched():
            return {s.dtype for s in nest.leaves(cell.initial_state(1)) if isinstance(s, Tensor)}
    except NotImplementedError:
        return set()
