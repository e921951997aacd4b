"""Cells that read, beside their input, what an encoder has found: one vector, or a memory by attention."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.nn.attention import Attention, Memory
from tinygrad_rnn.nn.cells import Cell, Stack
from tinygrad_rnn.ops import concat


class ContextState(NamedTuple):
    """cell: the state of the cell  context: C (B, C), the same at every step"""

    cell: Any
    context: Tensor


class ContextCell(Cell):
    """A cell that reads one vector C at every step. Cho et al. (2014), arXiv:1406.1078.

        y', s' = cell([x, C], s)

    cell: of input size I + C  state: ContextState(s, C), made by `start`
    """

    def __init__(self, cell: Cell):
        self.cell = cell

    def initial_state(self, batch_size: int) -> Any:
        """There is none without the context."""
        raise NotImplementedError("ContextCell: must be given a first state: cell.start(state, context)")

    def start(self, state: Any, context: Tensor) -> ContextState:
        """The state before the first step. state: the cell's  context: (B, C)"""
        return ContextState(state, context)

    def forward(self, x: Tensor, state: ContextState) -> tuple[Tensor, ContextState]:
        y, new = self.cell(concat([x, state.context], axis=-1), state.cell)
        return y, ContextState(new, state.context)


class AttentionState(NamedTuple):
    """cell: the state of the cell  query: (B, Q), what it will ask with  context: (B, V), what it found last
    weights: (B, S), where  memory: where it looks, the same at every step"""

    cell: Any
    query: Tensor | None
    context: Tensor | None
    weights: Tensor
    memory: Memory


class AttentionCell(Cell):
    """A cell that looks at a memory by attention at every step, and returns what it said beside what it saw.

    query="output": it asks with its output, and reads what it saw at its next step ("input feeding"); with feed=False
    it does not, and attention is no part of the recurrence. Luong et al. (2015), arXiv:1508.04025.

        y', s' = cell([x, c], s)     c' = attention(y')     returns [y', c']

    query="previous": it asks with its output of the step before. Bahdanau et al. (2014), arXiv:1409.0473.

        c' = attention(y)     y', s' = cell([x, c'], s)     returns [y', c']

    query="context": it asks with what it saw last, as the textbook does.

        c' = attention(c)     y', s' = cell([x, c'], s)     returns [y', c']

    cell: of input size I + V (I with feed=False)  state: AttentionState, made by `start`
    x: (B, I)  returns: (B, H + V)
    """

    def __init__(self, cell: Cell, attention: Attention, *, query: str = "output", feed: bool = True):
        if query not in ("output", "previous", "context") or not (feed or query == "output"):
            raise ValueError(
                'AttentionCell: query must be "output", "previous" or "context", and feed True but for "output", got '
                f"{query!r} and feed={feed}"
            )
        self.cell, self.attention, self.query, self.feed = cell, attention, query, feed

    def initial_state(self, batch_size: int) -> Any:
        """There is none without a memory."""
        raise NotImplementedError("AttentionCell: must be given a first state: cell.start(state, memory)")

    def start(self, state: Any, memory: Memory, *, query: Tensor | None = None) -> AttentionState:
        """The state before the first step.

        query: what stands for the output before it, or for what was seen before it; the cell's hidden state (the first
        part of its state) for the one, zeros for the other
        """
        context, weights = self.attention.nothing(memory)
        if self.query == "context" and query is not None:
            context = query
        asked = (hidden(self.cell, state) if query is None else query) if self.query == "previous" else None
        return AttentionState(state, asked, context if self.feed else None, weights, memory)

    def forward(self, x: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        s, asked, context, _, memory = state
        if self.query == "output":
            y, s = self.cell(concat([x, context], axis=-1) if self.feed else x, s)
            context, weights = self.attention(y, memory)
        else:
            seen = context if asked is None else asked  # here feed is True, so one of both is there
            context, weights = self.attention(seen, memory)  # type: ignore[arg-type]
            y, s = self.cell(concat([x, context], axis=-1), s)
        new = AttentionState(s, None if asked is None else y, context if self.feed else None, weights, memory)
        return concat([y, context], axis=-1), new


def hidden(cell: Cell, state: Any) -> Tensor:
    """The hidden state in a cell's state: its first part; of a stack that of the top cell."""
    if isinstance(cell, Stack):
        return hidden(cell.cells[-1], state[-1])
    return nest.leaves(state)[0]


def attention_weights(state: Any) -> Tensor | None:
    """The weights (B, S) in the state of an attention cell, however deep; None if there are none."""
    if isinstance(state, AttentionState):
        return state.weights
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (tuple, list)) else ()
    return next((found for found in map(attention_weights, parts) if found is not None), None)
