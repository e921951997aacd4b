"""How far back do cells remember? Two tests over T steps, and the learning curves of four cells as a picture.

adding   Say the sum of two marked numbers of T. Always saying 1 errs by 1/6, squared. Hochreiter, Schmidhuber (1997)
copying  Say ten of eight symbols again after T blanks. Guessing costs 10 ln 8 / (T + 20) nats a step. arXiv:1511.06464
python examples/long_memory.py [T]      T = 100: two minutes on two cores; all but the RNN add, the GRU begins to copy
"""

import sys

from pathlib import Path

import numpy as np

from custom_cell import adding_problem
from matplotlib.figure import Figure

import tinygrad_rnn as tg

from tinygrad_rnn import nn, optim
from tinygrad_rnn.nn.more_cells import irnn_cell
from viz.charts.chart import chart_of
from viz.style import COLOURS, LINE

CELLS = {"RNN": (nn.RNNCell, 1e-3, "loss"), "LSTM": (nn.LSTMCell, 5e-3, "input"),  # learning rate, whose colour
         "GRU": (nn.GRUCell, 5e-3, "hidden"), "IRNN": (irnn_cell, 5e-4, "cell")}  # fmt: skip


def adding(model, T, rng, B=32):
    xs, sums = adding_problem(T, B, rng)
    return nn.mse_loss(model(tg.tensor(xs))[-1], sums)


def copying(model, T, rng, B=32):
    read, said = np.full((2, T + 20, B), 8)  # 8: a blank, 9: the sign to begin
    read[:10] = said[-10:] = rng.integers(0, 8, (10, B))
    read[T + 9] = 9
    return nn.cross_entropy(model(tg.tensor(np.eye(10, dtype="f")[read])), said)


def learn(task, name, T, steps, units):
    (make, lr, _), (inputs, outputs), rng = CELLS[name], (2, 1) if task is adding else (10, 9), tg.manual_seed(0)
    rnn, output, errors = nn.Recurrent(make(inputs, units)), nn.Linear(units, outputs), np.empty(steps)
    rnn.cell.U.data = rnn.cell.U.numpy() * (30 if name == "IRNN" else 1)  # not 0.001: arXiv:1504.00941 has no Adam
    optimizer = optim.Adam([*rnn.parameters(), *output.parameters()], lr * (100 / T if name == "IRNN" else 1))
    for step in range(steps):
        loss = task(lambda xs: output(rnn(xs)[0]), T, rng)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm_(optimizer.parameters, 1.0)
        optimizer.step()
        errors[step] = loss.item()
    print(f"{task.__name__} {name}: {errors[-100:].mean():.4f} after {steps} batches")
    return np.array([part.mean(0) for part in np.array_split(np.c_[1 : steps + 1, errors], min(steps, 100))]).T


def picture(curves, T):
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    panels = (adding, "mean squared error", 1 / 6), (copying, "nats a step", 10 * np.log(8) / (T + 20))
    for axes, (task, unit, baseline) in zip(figure.subplots(1, 2, subplot_kw={"frame_on": False}), panels, strict=True):
        for name, (*_, kind) in CELLS.items():
            axes.plot(*curves[task.__name__, name], color=COLOURS[kind][1], linewidth=1.8, label=name)
        axes.axhline(baseline, color=LINE, linestyle=(0, (4, 3)), linewidth=1, label="without memory", zorder=1)
        axes.set(ylim=(-0.015 * baseline, 1.5 * baseline), xlim=(0, None))
        axes.set_title(f"{task.__name__}, T = {T}: {unit} over batches", loc="left", size=10)
        axes.grid(axis="y", color=LINE, alpha=0.25, linewidth=0.6)
        axes.tick_params(length=0, labelcolor=LINE, labelsize=9)
    figure.legend(handles=axes.lines, loc="outside lower center", ncols=5, frameon=False, labelcolor="linecolor")
    return figure


def main(T=100, steps=3000, folder="runs/long_memory", units=64):
    curves = {(task.__name__, name): learn(task, name, T, steps, units) for task in (adding, copying) for name in CELLS}
    Path(folder).mkdir(parents=True, exist_ok=True)
    chart_of(lambda: picture(curves, T), f"{folder}/curves.svg", "long_memory")
    print(f"wrote {folder}/curves.svg")
    return curves


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
