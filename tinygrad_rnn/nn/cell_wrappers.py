"""Cells around a cell: what is added to its output, kept of its state, or dropped of what it reads.

They nest: ResidualCell(ZoneoutCell(LSTMCell(64, 64), 0.1)).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.cells import Cell
from tinygrad_rnn.ops import uniform, where
from tinygrad_rnn.ops.random import dropout_mask


class Wrapper(Cell):
    """A cell around another one, with that one's state. Define forward."""

    def __init__(self, cell: Cell):
        if not isinstance(cell, Cell):
            raise TypeError(f"{type(self).__name__}: cell must be an nn.Cell, got {type(cell).__name__}")
        self.cell = cell

    def initial_state(self, batch_size: int) -> Any:
        """The initial state of the cell inside."""
        return self.cell.initial_state(batch_size)


class ResidualCell(Wrapper):
    """y = x + the cell's y. Wu et al. (2016), arXiv:1609.08144, section 3.1.

    ValueError if x and the cell's y differ in shape.
    """

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.cell(x, state)
        if y.shape != x.shape:
            raise ValueError(f"ResidualCell: x and the cell's y must have one shape, got {x.shape} and {y.shape}")
        return x + y, state


class ZoneoutCell(Wrapper):
    """Each number of the state stays what it was with probability p. Krueger et al. (2017), arXiv:1606.01305.

        s' = d ⊙ s + (1 - d) ⊙ s_new      d = 1 with probability p, else 0: drawn for each element at each step
        s' = p s + (1 - p) s_new          in evaluation

    s is each leaf of the state, s_new the cell's new one. If the cell's y is a leaf of its new state (the same object,
    as in an LSTM), y is s', else it is left as it is. A leaf that the cell hands on as it is stays so, and so does one
    that holds no floating-point numbers.

    p: from 0 to 1; one number for all leaves, or a nest of numbers built as the state is, LSTMState(h=0.05, c=0.5), or
    as its upper part is: (0.1, 0.2) for a stack of two cells
    """

    def __init__(self, cell: Cell, p: Any):
        super().__init__(cell)
        for number in nest.leaves(p):
            if not 0 <= number <= 1:
                raise ValueError(f"ZoneoutCell: p must be from 0 to 1, got {number}")
        self.p = p

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, new = self.cell(x, nest.copied(state))
        p = iter(self._p_of(new))
        zoned = nest.map_leaves(lambda s_new, s: self._zoned(s_new, s, next(p)), new, state)
        pairs = zip(nest.leaves(new), nest.leaves(zoned), strict=True)
        return next((s for s_new, s in pairs if s_new is y), y), zoned

    def _p_of(self, state: Any) -> list[float]:
        """p for each leaf of the state."""
        try:
            spread = nest.map_leaves(lambda p, part: nest.map_leaves(lambda _: p, part), self.p, state)
        except ValueError:
            spread = None
        if len(nest.leaves(spread)) != len(nest.leaves(state)):
            built = f"{nest.describe(self.p)} for a state {nest.describe(state)}"
            raise ValueError(f"ZoneoutCell: p must be a number, or numbers nested as the state is, got {built}")
        return nest.leaves(spread)

    def _zoned(self, new: Tensor, old: Tensor, p: float) -> Tensor:
        if new is old or p == 0 or new.dtype.kind != "f":
            return new
        if not self.training:
            return p * old + (1 - p) * new
        return where(uniform(new.shape, like=new) < p, old, new)


class VariationalState(NamedTuple):
    """state: the cell's  x_mask: (B, I) or None  h_mask: (B, H) or None; no step changes a mask, None drops nothing"""

    state: Any
    x_mask: Tensor | None
    h_mask: Tensor | None


class VariationalDropoutCell(Wrapper):
    """Dropout by one mask for all steps of a sequence. Gal and Ghahramani (2016), arXiv:1512.05287.

        y, s' = cell(x ⊙ x_mask, s with h ⊙ h_mask in place of h)

    Each element of a mask is 0 with probability `input` (x_mask) or `state` (h_mask), else 1 / (1 - probability).
    h is the first leaf of the cell's state. Only what the cell reads is dropped: y and the state are its own.

    In evaluation nothing is dropped. In training `initial_state` draws the masks, and every step hands them on: a state
    that is carried over from one part of a sequence to the next brings its masks along. To go on with new masks:
    cell.initial_state(B)._replace(state=last.state). A state that was begun in evaluation has no masks, and drops
    nothing in training either.

    Drop the state of cells that read h through weights only, as RNNCell and the LSTMs do. A GRUCell keeps a part of h
    as it is, and would keep it times 1 / (1 - p) at each step; so would a ZoneoutCell, which belongs around this cell
    and not into it. To drop inside of a Stack, wrap each of its cells.

    input, state: probabilities from 0 to less than 1
    input_size: I; by default that of the cell, or of the first cell in it that tells one
    state: VariationalState(the cell's state, x_mask, h_mask)
    """

    def __init__(self, cell: Cell, input: float = 0.0, state: float = 0.0, *, input_size: int | None = None):
        super().__init__(cell)
        for name, p in (("input", input), ("state", state)):
            if not 0 <= p < 1:
                raise ValueError(f"VariationalDropoutCell: {name} must be from 0 to less than 1, got {p}")
        sizes = (part.input_size for part in cell.modules() if hasattr(part, "input_size"))
        self.input, self.state, self.input_size = input, state, input_size or next(sizes, None)
        if input and self.input_size is None:
            raise ValueError(
                f"VariationalDropoutCell: {type(cell).__name__} must tell its input_size, got none; pass input_size=…"
            )

    def initial_state(self, batch_size: int) -> VariationalState:
        """The initial state of the cell inside, and new masks for a sequence, which training needs."""
        state = self.cell.initial_state(batch_size)
        x_shape = (batch_size, self.input_size) if self.input else ()
        h_shape = nest.leaves(state)[0].shape if self.state else ()
        return VariationalState(state, self._mask(self.input, x_shape), self._mask(self.state, h_shape))

    def _mask(self, p: float, shape: tuple) -> Tensor | None:
        """0 with probability p, else 1 / (1 - p); None where nothing is dropped."""
        if not self.training or p == 0:
            return None
        return dropout_mask(shape, p, like=self.zeros())

    def forward(self, x: Tensor, state: VariationalState) -> tuple[Tensor, VariationalState]:
        inner, x_mask, h_mask = state
        if self.training and x_mask is not None:
            x = x * x_mask
        if self.training and h_mask is not None:
            h, *rest = nest.leaves(inner)
            leaves = iter([h * h_mask, *rest])
            inner = nest.map_leaves(lambda _: next(leaves), inner)
        y, inner = self.cell(x, inner)
        return y, VariationalState(inner, x_mask, h_mask)
