"""A cell of one's own: the minimal gated unit, trained, then drawn. Zhou et al. (2016), arXiv:1603.09420.

f = σ(x Uf + h Wf);   h' = (1 - f) ⊙ h + f ⊙ tanh(x U + (f ⊙ h) W)

`tinygrad-rnn train lm --cell examples.custom_cell:MGU` trains it on text, unchanged.
"""

import sys

from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops, optim


class MGU(nn.Cell):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.hidden_size = hidden_size
        self.Uf = nn.Parameter(nn.init.xavier_uniform((input_size, hidden_size)))
        self.Wf = nn.Parameter(nn.init.orthogonal((hidden_size, hidden_size)))
        self.U = nn.Parameter(nn.init.xavier_uniform((input_size, hidden_size)))
        self.W = nn.Parameter(nn.init.orthogonal((hidden_size, hidden_size)))

    def initial_state(self, batch_size: int) -> tg.Tensor:
        return self.zeros(batch_size, self.hidden_size)

    def forward(self, x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        f = ops.sigmoid(x @ self.Uf + h @ self.Wf)
        h = (1 - f) * h + f * ops.tanh(x @ self.U + (f * h) @ self.W)
        return h, h


class Adder(nn.Module):
    """Reads numbers and marks, and says the sum of the two marked ones. Hochreiter and Schmidhuber (1997)."""

    def __init__(self, hidden_size: int) -> None:
        self.rnn, self.output = nn.Recurrent(MGU(2, hidden_size)), nn.Linear(hidden_size, 1)

    def forward(self, xs: tg.Tensor) -> tg.Tensor:
        ys, _ = self.rnn(xs)
        return self.output(ys[-1])


def adding_problem(steps: int, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """xs: (T, B, 2), a number in [0, 1] and a mark; the sums of the two marked numbers: (B, 1)"""
    numbers, marks = rng.random((steps, batch)), np.zeros((steps, batch))
    first, second = rng.integers(0, steps // 2, batch), rng.integers(steps // 2, steps, batch)
    marks[first, np.arange(batch)] = marks[second, np.arange(batch)] = 1
    return np.stack([numbers, marks], -1).astype("f"), (numbers * marks).sum(0)[:, None].astype("f")


def main(steps: int = 600, *, out: str | Path = "runs/custom_cell.svg") -> float:
    tg.manual_seed(0)
    rng, model = np.random.default_rng(0), Adder(32)
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        xs, sums = adding_problem(20, 64, rng)
        loss = nn.mse_loss(model(tg.tensor(xs)), sums)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step:4}: mean squared error {loss.item():.4f} (0.1667 for always saying 1)")
    xs, sums = adding_problem(4, 1, rng)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    viz.draw(nn.mse_loss(model(tg.tensor(xs)), sums), out)
    print(f"wrote {out}")
    return loss.item()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
