"""RNN, LSTM and GRU: layers of cells over sequences, in one direction or both, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.tensor import Tensor, zeros
from tinygrad_rnn.compiler.runtime.plan import Plan
from tinygrad_rnn.nn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell, Stack, check_sizes
from tinygrad_rnn.nn.layers import Dropout, check_whole
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.more_cells import ProjectedLSTMCell
from tinygrad_rnn.nn.recurrent import Recurrent
from tinygrad_rnn.nn.state_hooks import Hook, JoinedHook
from tinygrad_rnn.ops import concat, stack


class Bidirectional(Module):
    """Two cells over one sequence, one from the past, one from the future. Schuster and Paliwal (1997).

        f_t = forward_cell(x_t, f_{t-1})     b_t = backward_cell(x_t, b_{t+1})     y_t = [f_t, b_t]

    xs, lengths, dtypes and states: as in `nn.Recurrent`; each sequence's own end is where its second direction starts
    state: that of each cell, as a pair, or None
    returns: ys (T, B, H_f + H_b), of outputs (B, K, …) joined along K and of single numbers (T, B, 2), and a pair, f
    after step T-1 and b after step 0; with all_states after each step
    engine, checkpoint_every: as in `nn.Recurrent`
    """

    def __init__(
        self, forward_cell: Cell, backward_cell: Cell, *, engine: str = "auto", checkpoint_every: int | None = None
    ):
        self.forwards = Recurrent(forward_cell, engine=engine, checkpoint_every=checkpoint_every)
        self.backwards = Recurrent(backward_cell, engine=engine, checkpoint_every=checkpoint_every, reverse=True)
        self.call_it("Bidirectional")

    def call_it(self, who: str) -> None:
        """Have error messages and warnings call it so: the class that its user knows."""
        self.forwards.call_it(who)
        self.backwards.call_it(who)

    def taken(self, xs: Any) -> Tensor:
        """xs as a tensor in the dtype of the cells, checked."""
        return self.forwards.taken(xs)

    @property
    def cells(self) -> list[Cell]:
        """Its two cells, the one from the past first."""
        return [self.forwards.cell, self.backwards.cell]

    def forward(
        self, xs: Any, state: Any = None, lengths: Any = None, *, all_states: bool = False
    ) -> tuple[Tensor, tuple[Any, Any]]:
        past, future = self._pair(state)
        xs = self.taken(xs)  # once for both
        fs, past = self.forwards(xs, past, lengths, all_states=all_states)
        bs, future = self.backwards(xs, future, lengths, all_states=all_states)
        return concat([fs, bs], axis=2) if fs.ndim > 2 else stack([fs, bs], axis=2), (past, future)

    @staticmethod
    def _pair(state: Any) -> tuple[Any, Any]:
        """The states of the two cells; ValueError unless there are two, or none is given."""
        if state is None:
            return None, None
        if not (isinstance(state, (tuple, list)) and len(state) == 2):
            got = nest.describe(state)
            raise ValueError(f"Bidirectional: state must be a pair, that of each cell, got {got}")
        return state[0], state[1]

    def plan(self, xs: Any, state: Any = None, lengths: Any = None) -> Plan:
        """How a call with these arguments would run, as in `nn.Recurrent`: that of both cells, one after the other."""
        past, future = self._pair(state)
        xs = self.taken(xs)
        return _together([self.forwards.plan(xs, past, lengths), self.backwards.plan(xs, future, lengths)])

    def register_state_hook(self, hook: Hook) -> Callable[[], None]:
        """As in `nn.Recurrent`; hook gets a pair, those of each cell's state, None where none came to a cell."""
        joined = JoinedHook(lambda found: hook(tuple(found)), 2)
        return _each([layer.register_state_hook(joined.part(i)) for i, layer in enumerate(self.layers)])

    @property
    def layers(self) -> list[Recurrent]:
        """Its two layers in one direction."""
        return [self.forwards, self.backwards]


def _together(plans: list[Plan]) -> Plan:
    """Several plans as one: all engines, the sum of the bytes, the first circuit, and the texts below each other."""
    if len(plans) == 1:
        return plans[0]
    names = ", ".join(dict.fromkeys(plan.engine for plan in plans))
    text = "\n".join(plan.text for plan in plans)
    return Plan(names, sum(plan.nbytes for plan in plans), plans[0].circuit, text)


def _each(functions: list[Callable[[], None]]) -> Callable[[], None]:
    """One function that calls several, in order."""

    def call() -> None:
        for function in functions:
            function()

    return call


# What to do without those arguments of PyTorch's that there are not
PYTORCHS = {
    "batch_first": "; time comes first, xs.swapaxes(0, 1)",
    "bias": "; there always is one, which may stay zero",
    "device": "; use .to(device)",
    "dtype": "; use .to(dtype)",
}


class Layers(Module):
    """Layers of any cell; arguments and shapes as in `nn.RNN`. make: a function of input size and hidden size

    Layers in one direction are one stack of cells, which the compiler takes apart. With joined=False a call returns the
    states of the L·D cells as a list, in the order of `cells`. output_size: that of a cell's y, if not hidden_size
    """

    def __init__(
        self, make: Callable[[int, int], Cell], input_size: int, hidden_size: int, num_layers: int = 1, *,
        output_size: int | None = None, bidirectional: bool = False, dropout: float = 0.0, engine: str = "auto",
        checkpoint_every: int | None = None, **unknown: Any,
    ):  # fmt: skip
        for name in unknown:
            raise TypeError(f"{self._who}: there is no argument {name!r}{PYTORCHS.get(name, '')}")
        if isinstance(make, Module) or not callable(make):
            raise TypeError(f"{self._who}: make must be a class of cells, got {type(make).__name__}")
        check_whole(self._who, num_layers=num_layers)
        if num_layers < 1:
            raise ValueError(f"{self._who}: num_layers must be at least 1, got {num_layers}")
        check_sizes(self._who, input_size, hidden_size)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.output_size = output_size or hidden_size
        self.bidirectional, self.dropout = bidirectional, Dropout(dropout)
        options: dict[str, Any] = {"engine": engine, "checkpoint_every": checkpoint_every}
        inputs = [input_size] + [self.output_size * (1 + bidirectional)] * (num_layers - 1)
        if bidirectional:
            pairs = [(make(i, hidden_size), make(i, hidden_size)) for i in inputs]
            self.layers: list[Any] = [Bidirectional(*pair, **options) for pair in pairs]
        else:
            cells = [make(i, hidden_size) for i in inputs]
            self.layers = [Recurrent(cells[0] if num_layers == 1 else Stack(cells, dropout=dropout), **options)]
        for layer in self.layers:
            layer.call_it(self._who)

    @property
    def _who(self) -> str:
        """What messages call it: nn.LSTM."""
        ours = type(self).__module__ == __name__
        return f"{'nn.' * ours}{type(self).__name__}"

    @property
    def cells(self) -> list[Cell]:
        """The L·D cells in the order of the state: layer by layer, the backward one after the forward one."""
        if self.bidirectional:
            return [cell for layer in self.layers for cell in layer.cells]
        cell = self.layers[0].cell
        return list(cell.cells) if isinstance(cell, Stack) else [cell]

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step, leaves (L·D, B, H)."""
        return _joined([cell.initial_state(batch_size) for cell in self.cells], axis=0)

    def forward(
        self, xs: Any, state: Any = None, lengths: Any = None, *, all_states: bool = False, joined: bool = True
    ) -> tuple[Tensor, Any]:
        xs = self.layers[0].taken(xs)
        given = [None] * len(self.cells) if state is None else self._separate(state, xs.shape[1])
        if self.bidirectional:
            ys, new = xs, []
            for i, layer in enumerate(self.layers):
                ys, pair = layer(
                    self.dropout(ys) if i else ys, given[2 * i : 2 * i + 2], lengths, all_states=all_states
                )
                new += pair
        else:
            ys, new = self.layers[0](xs, self._below(state, given), lengths, all_states=all_states)
            new = [new] if self.num_layers == 1 else new
        return ys, _joined(new, axis=1 if all_states else 0) if joined else list(new)

    def plan(self, xs: Any, state: Any = None, lengths: Any = None) -> Plan:
        """How a call with these arguments would run, as in `nn.Recurrent`: all its parts, lowest layer first."""
        xs = self.layers[0].taken(xs)
        given = [None] * len(self.cells) if state is None else self._separate(state, xs.shape[1])
        if not self.bidirectional:
            return _together([self.layers[0].plan(xs, self._below(state, given), lengths)])
        above = zeros(*xs.shape[:2], 2 * self.output_size, dtype=xs.dtype, device=xs.device)  # what the others read
        inputs = [xs] + [above] * (self.num_layers - 1)
        states = [None if state is None else given[2 * i : 2 * i + 2] for i in range(self.num_layers)]
        parts = zip(self.layers, inputs, states, strict=True)
        return _together([layer.plan(x, pair, lengths) for layer, x, pair in parts])

    def register_state_hook(self, hook: Hook) -> Callable[[], None]:
        """Show hook the gradients ∂L/∂sₜ of the state after each step, in each backward pass through a later call.

        They come built like the state, with leaves (T, L·D, B, ...), as in `nn.Recurrent`; zeros where none came.
        """
        if not self.bidirectional:
            several = self.num_layers > 1
            return self.layers[0].register_state_hook(lambda g: hook(_joined(list(g) if several else [g], axis=1)))
        parts = [part for layer in self.layers for part in layer.layers]
        joined = JoinedHook(lambda found: hook(_joined(_with_zeros(found), axis=1)), len(parts))
        return _each([part.register_state_hook(joined.part(i)) for i, part in enumerate(parts)])

    def _below(self, state: Any, given: list[Any]) -> Any:
        """The state of the stack of cells, or of the one cell, of layers in one direction."""
        return given[0] if self.num_layers == 1 else None if state is None else tuple(given)

    def _separate(self, state: Any, B: int) -> list[Any]:
        """The state of each cell, for B sequences."""
        n = len(self.cells)
        for s in map(nest.shape, nest.leaves(state)):
            if len(s) < 2 or s[0] != n:
                raise ValueError(f"{self._who}: state must have {n} rows, (layers · directions, B, …), got {s}")
            if s[1] not in (1, B):
                raise ValueError(
                    f"{self._who}: state must be (L·D, B, …) for the B = {B} sequences of xs, got {s}; in "
                    "decode this is batch_axis=1"
                )
        return [nest.map_leaves(lambda s, i=i: s[i], state) for i in range(n)]


def _joined(states: list[Any], axis: int) -> Any:
    """One state whose leaves hold those of all cells."""
    return nest.map_leaves(lambda *each: stack(each, axis=axis), *states)


def _with_zeros(found: list[Any]) -> list[Any]:
    """Gradients of cells with states of one kind, zeros for those to which none came."""
    like = next(g for g in found if g is not None)
    none = nest.map_leaves(lambda g: zeros(g.shape, dtype=g.dtype, device=g.device), like)
    return [none if g is None else g for g in found]


class RNN(Layers):
    """Layers of vanilla recurrent cells, `nn.RNNCell`.

    xs: (T, B, I)  state: h (L·D, B, H), or None for zeros  lengths: (B,) integers, any order
    returns: ys (T, B, D·H) of the top layer, and the last h (L·D, B, H); with all_states=True h after each step,
    (T, L·D, B, H)
    L = num_layers; D = 2 with bidirectional, else 1: rows 2l and 2l + 1 are layer l from the past and from the future
    dropout: the share of each layer's output that is dropped on its way up, while training
    engine, checkpoint_every: as in `nn.Recurrent`  biases: as in `nn.RNNCell`; 2 trains as PyTorch does
    xs may be whatever `nn.Recurrent` takes; numbers, integers and booleans too, become the layer's dtype
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, nonlinearity: str = "tanh", biases: int = 1,
        bidirectional: bool = False, dropout: float = 0.0, engine: str = "auto", checkpoint_every: int | None = None,
        **unknown: Any,
    ):  # fmt: skip
        make = lambda i, h: RNNCell(i, h, nonlinearity=nonlinearity, biases=biases)
        super().__init__(
            make, input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout, engine=engine,
            checkpoint_every=checkpoint_every, **unknown,
        )  # fmt: skip


class LSTM(Layers):
    """Layers of `nn.LSTMCell`. Arguments and shapes as in `nn.RNN`; state: LSTMState(h, c), each (L·D, B, H).

    proj_size: P, if not 0, makes them layers of `nn.ProjectedLSTMCell`: h is (L·D, B, P), and ys (T, B, D·P)
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, proj_size: int = 0, biases: int = 1,
        bidirectional: bool = False, dropout: float = 0.0, engine: str = "auto", checkpoint_every: int | None = None,
        **unknown: Any,
    ):  # fmt: skip
        plain = lambda i, h: LSTMCell(i, h, biases=biases)
        projected = lambda i, h: ProjectedLSTMCell(i, h, proj_size, biases=biases)
        make = projected if proj_size else plain
        super().__init__(
            make, input_size, hidden_size, num_layers, output_size=proj_size or hidden_size,
            bidirectional=bidirectional, dropout=dropout, engine=engine, checkpoint_every=checkpoint_every, **unknown,
        )  # fmt: skip

    def _separate(self, state: Any, B: int) -> list[Any]:
        if not (isinstance(state, (tuple, list)) and len(state) == 2):
            raise ValueError(f"{self._who}: state must be (h, c), each (L·D, B, H), got {nest.describe(state)}")
        return super()._separate(LSTMState(*state), B)


class GRU(Layers):
    """Layers of `nn.GRUCell`. Arguments and shapes as in `nn.RNN`; reset="after" is PyTorch's nn.GRU."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, *, reset: str = "before", biases: int = 1,
        bidirectional: bool = False, dropout: float = 0.0, engine: str = "auto", checkpoint_every: int | None = None,
        **unknown: Any,
    ):  # fmt: skip
        make = lambda i, h: GRUCell(i, h, reset=reset, biases=biases)
        super().__init__(
            make, input_size, hidden_size, num_layers, bidirectional=bidirectional, dropout=dropout, engine=engine,
            checkpoint_every=checkpoint_every, **unknown,
        )  # fmt: skip
