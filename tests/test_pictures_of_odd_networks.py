"""Pictures of networks unlike those of the other tests: what runs backwards, what a cell captures, what it is fed."""

import numpy as np
import pytest

from test_picture_names import H, I, P

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn

pytest.importorskip("graphviz")

xs = lambda steps: tg.tensor(np.random.default_rng(0).normal(size=(steps, 1, I)).astype(np.float32))


def ways(drawing):
    """(block of the tail, block of the head) of the states that go from block to block."""
    ends = ((k.tail, k.head) for k in drawing.picture.links if k.kind.endswith("over time"))
    return {tuple(item.key.partition(".")[0] for item in pair) for pair in ends}


# ---- runs from the end ----------------------------------------------------------------------------------------------


class ReadsOnlyIntoSums(nn.Cell):
    """No derivative rule keeps its inputs, so that nothing tells where in memory they were."""

    def __init__(self):
        self.input_size, self.a = I, P(I)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, I)

    def forward(self, x, h):
        h = self.a * h + x
        return h, h


class LooksUp(nn.Cell):
    """Its inputs are integers, which leave nothing in the graph."""

    def __init__(self):
        self.letters, self.cell = nn.Embedding(5, I), nn.RNNCell(I, H)

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def forward(self, ids, h):
        return self.cell(self.letters(ids.reshape(-1)), h)


def repeated(data, n):
    return data.repeat(n, 0) if isinstance(data, np.ndarray) else tg.tensor(data.numpy().repeat(n, 0))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("make", "engine", "lengths"),
    [(lambda: nn.RNNCell(I, H), "eager", None), (lambda: nn.RNNCell(I, H), "numpy", [4]),
     (ReadsOnlyIntoSums, "eager", [4]), (ReadsOnlyIntoSums, "numpy", None), (LooksUp, "eager", None)],
)  # fmt: skip
def test_a_layer_that_reads_plain_data_from_its_end_is_drawn_so(make, engine, lengths, reverse):
    layer = nn.Recurrent(make(), engine=engine, reverse=reverse)
    data = np.ones((4, 1, 1), int) if make is LooksUp else xs(4)
    ys, _ = layer(data, lengths=lengths and np.array(lengths))
    steps = {(f"t{t}", f"t{t + 1}")[:: -1 if reverse else 1] for t in (1, 2, 3)}
    assert ways(viz.draw(ys, view="cells")) == steps | {("finish", "t4") if reverse else ("start", "t1")}
    long, _ = layer(repeated(data, 5))
    assert (("t20", "t19") in ways(viz.draw(long))) == reverse
