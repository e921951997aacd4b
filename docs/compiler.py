"""One cell on its way through the compiler: its circuit after each pass, for docs/compiler.md.

python docs/compiler.py        writes the listings between the marks of docs/compiler.md anew
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.compiler.numpy.pipeline import PASSES as NUMPY
from tinygrad_rnn.compiler.passes.pipeline import COMMON

PAGE = Path(__file__).parent / "compiler.md"


class MGU(nn.Cell):
    """The minimal gated unit (Zhou et al., 2016), its two weights of x side by side."""

    def __init__(self, I: int, H: int):
        self.U = nn.Parameter(nn.init.xavier_uniform((I, 2 * H)))
        self.Wf, self.Wn = (nn.Parameter(nn.init.orthogonal((H, H))) for _ in "fn")

    def initial_state(self, batch_size: int) -> tg.Tensor:
        return self.zeros(batch_size, len(self.Wf))

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        H = len(self.Wf)
        a = x @ self.U
        f = ops.sigmoid(a[:, :H] + h @ self.Wf)
        h = (1 - f) * h + f * ops.tanh(a[:, H:] + (f * h) @ self.Wn)
        return h, h


def listings() -> Iterator[tuple[str, str]]:
    """(what was done, what there is now): the recorded step, the circuit after each pass, the plan, the program."""
    xs = tg.tensor(np.ones((50, 2, 3), np.float32))
    cell = MGU(3, 4)
    circuit = tg.circuit(cell, xs[0])
    yield "record", str(circuit)
    for each in (*COMMON, *NUMPY):
        each.run(circuit)
        yield each.name, str(circuit)
    plan = nn.Recurrent(cell, engine="numpy").plan(xs)
    yield "plan", str(plan)
    yield "source", plan.source.rstrip()


def blocks() -> Iterator[tuple[str, str]]:
    """(the name of a mark, what stands behind it in the page)."""
    before, lines = "", 0
    for name, text in listings():
        n = text.count(" = ")
        if name in ("plan", "source"):
            yield name, f"```\n{text}\n```"
        elif text == before:
            yield name, "It changes nothing here."
        else:
            count = f"{n} lines" if not before else f"{lines} lines → {n}"
            yield name, f"<details><summary>{count}</summary>\n\n```\n{text}\n```\n\n</details>"
        before, lines = text, n


def with_listings(page: str) -> str:
    """A page with all between its marks as it is now. ValueError if a mark is missing."""
    for name, block in blocks():
        head, start, rest = page.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- / -->")
        if not (start and end):
            raise ValueError(f"compiler.md: there is no <!-- {name} --> … <!-- / -->")
        page = f"{head}{start}{block}\n{end}{tail}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_listings(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
