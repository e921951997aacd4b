"""Recording: run a cell once on symbols, and its derivative rules on symbols too; what comes out is a circuit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import numpy as np

from tinygrad_rnn.autograd.tensor import Tensor
from tinygrad_rnn.compiler.ir.circuit import Circuit
from tinygrad_rnn.compiler.ir.value import Unsupported
from tinygrad_rnn.compiler.record.derive import record_backward
from tinygrad_rnn.compiler.record.trace import Trace, is_machinery, result_value, tracing


def record(
    step: Callable[..., tuple[list[Any], list[Any]]],
    x: Tensor,
    states: Sequence[Tensor],
    *,
    who: str = "cell",
    masked: bool = False,
    x_tracked: bool = True,
    backward: bool = True,
    names: Mapping[int, str] | None = None,
    distinct: bool = False,
) -> tuple[Circuit, list[Any]]:
    """The circuit of step(x, states[, alive]) -> (outputs, new states), and the tensors and arrays that it captured.

    x and states give shapes and dtypes only. With `backward`, gradients of what is tracked are recorded too.
    names: what to call tensors, by their id  distinct: see Trace
    """
    names = names or {}
    c = Circuit(None, [])  # type: ignore[arg-type]
    c.x = c.input("x", x.shape, x.dtype, moves=True, tracked=x_tracked and backward and x.dtype.kind == "f")
    c.states = [
        c.input(names.get(id(s), f"s{i}"), s.shape, s.dtype, moves=True, tracked=backward and s.dtype.kind == "f")
        for i, s in enumerate(states)
    ]
    trace = Trace(c, who, x.device, backward, names, distinct)
    with tracing(trace), np.errstate(all="ignore"):
        inputs = [trace.symbol(c.x), [trace.symbol(s) for s in c.states]]
        if masked:
            c.alive = c.input("alive", (x.shape[0],), bool, moves=True, tracked=False)
            inputs.append(trace.symbol(c.alive))
        with _placed():
            ys, new = step(*inputs)
            if trace.ended is not None:
                raise trace.ended
        outs = [result_value(trace, t) for t in (*ys, *new)]
        c.roots = {"y": outs[: len(ys)], "state": outs[len(ys) :]}
        if backward:
            record_backward(c, trace, outs)
    c.captured = [v for _, v in trace.captured.values()]
    return c, [t for t, _ in trace.captured.values()]


@contextmanager
def _placed() -> Iterator[None]:
    """Let a step that cannot be compiled say where."""
    try:
        yield
    except Unsupported as reason:
        frames = [(f, n) for f, n in walk_tb(reason.__traceback__) if not is_machinery(f)]
        if not frames:
            raise
        frame, line = frames[-1]
        name = frame.f_code.co_qualname.rpartition("<locals>.")[2]
        raise Unsupported(f"{name}, line {line}: {reason}") from None
