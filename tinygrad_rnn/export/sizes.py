"""Sizes that a call may choose: steps are recorded with others than any layer has, and twice, to be told from these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tinygrad_rnn.autograd import nest
from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.infer import stand_in
from tinygrad_rnn.export.lower import lower
from tinygrad_rnn.export.program import Program
from tinygrad_rnn.export.recorded import Recorded
from tinygrad_rnn.nn.attention import Memory
from tinygrad_rnn.nn.attention_cells import AttentionState
from tinygrad_rnn.nn.module import Module

PRIMES = (101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167, 173, 179)
LETTERS = "TBS"

Record = Callable[[int, int, int], Recorded]


def program_of(recorded: Record, module: Module, others: Sequence[int]) -> tuple[Program, list[tuple[tuple, Any]]]:
    """A program for any T, B and S, and the shape and dtype of each leaf of its state. others: sizes that there are

    ValueError if it is another one for other sizes.
    """
    who, taken = type(module).__name__, {*others}
    for _, t in (*module.named_parameters(), *module.named_buffers()):
        taken |= {*t.shape}
    free = [p for p in PRIMES if p not in taken]
    first, second = (_lowered(recorded(*sizes), sizes) for sizes in (free[:3], free[3:6]))
    if first[0].same() != second[0].same():
        lines = zip(first[0].lines, second[0].lines, strict=False)
        other = next((f": {a.place}" for a, b in lines if a.same() != b.same() and a.place), "")
        raise ValueError(f"export.onnx: {who} must do the same for batches of all sizes, it does not{other}")
    return first


def _lowered(recorded: Recorded, sizes: Sequence[int]) -> tuple[Program, list[tuple[tuple, Any]]]:
    letters = dict(zip(sizes, LETTERS, strict=True))
    leaves = [(tuple(letters.get(n, n) for n in shape), dtype) for shape, dtype in recorded.leaves]
    return lower(recorded, letters), leaves


def resized(state: Any, B: int, new_B: int, new_S: int) -> Any:
    """A state of stand-ins for a batch of another size, whose memories of attention are of another size too."""
    along = dict(_along_memories(state))

    def sized(s: Any) -> Tensor:
        shape = list(s.shape)
        if shape[:1] == [B]:
            shape[0] = new_B
        if id(s) in along:
            shape[along[id(s)]] = new_S
        return Tensor(stand_in(tuple(shape), s.dtype))

    return nest.map_leaves(sized, state)


def _along_memories(state: Any) -> Iterator[tuple[int, int]]:
    """(id of a leaf, its axis along S) for what attention looks at, however deep."""
    if isinstance(state, AttentionState):
        yield id(state.weights), -1
    if isinstance(state, Memory):
        yield from ((id(state.keys), -2), (id(state.values), -2), (id(state.mask), -1))
    elif isinstance(state, (tuple, list, dict)):
        for part in state.values() if isinstance(state, dict) else state:
            yield from _along_memories(part)
