"""The cells of cells.py in PyTorch: each a step for a loop over time, and the layers that PyTorch has built in.

Devices are named to whoever makes something: a default device of PyTorch's would cost time in every call.
"""

from __future__ import annotations

import time

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cells
import numpy as np
import torch

from torch.nn import functional

Tensor = torch.Tensor
Pair = tuple[Tensor, Tensor]

COMPILED_STEPS = 50  # torch.compile unrolls: beyond that it compiles for many minutes


def lstm(w: SimpleNamespace, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
    h, c = state
    f = torch.sigmoid(x @ w.U_f + h @ w.W_f + w.b_f)
    i = torch.sigmoid(x @ w.U_i + h @ w.W_i + w.b_i)
    o = torch.sigmoid(x @ w.U_o + h @ w.W_o + w.b_o)
    g = torch.tanh(x @ w.U_g + h @ w.W_g + w.b_g)
    c = f * c + i * g
    h = o * torch.tanh(c)
    return h, (h, c)


def gru(w: SimpleNamespace, x: Tensor, h: Tensor) -> Pair:
    z = torch.sigmoid(x @ w.U_z + h @ w.W_z + w.b_z)
    r = torch.sigmoid(x @ w.U_r + h @ w.W_r + w.b_r)
    h = (1 - z) * h + z * torch.tanh(x @ w.U_h + (r * h) @ w.W_h + w.b_h)
    return h, h


def rnn(w: SimpleNamespace, x: Tensor, h: Tensor) -> Pair:
    h = torch.tanh(x @ w.U + h @ w.W + w.b)
    return h, h


def mgu(w: SimpleNamespace, x: Tensor, h: Tensor) -> Pair:
    f = torch.sigmoid(x @ w.U_f + h @ w.W_f + w.b_f)
    h = (1 - f) * h + f * torch.tanh(x @ w.U_h + (f * h) @ w.W_h + w.b_h)
    return h, h


def layer_norm(norm: SimpleNamespace, x: Tensor) -> Tensor:
    return functional.layer_norm(x, norm.gain.shape, norm.gain, norm.b, eps=1e-5)


def layernorm_lstm(w: SimpleNamespace, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
    h, c = state
    f = torch.sigmoid(layer_norm(w.norm_f, x @ w.U_f + h @ w.W_f + w.b_f))
    i = torch.sigmoid(layer_norm(w.norm_i, x @ w.U_i + h @ w.W_i + w.b_i))
    o = torch.sigmoid(layer_norm(w.norm_o, x @ w.U_o + h @ w.W_o + w.b_o))
    g = torch.tanh(layer_norm(w.norm_g, x @ w.U_g + h @ w.W_g + w.b_g))
    c = f * c + i * g
    h = o * torch.tanh(layer_norm(w.norm_c, c))
    return h, (h, c)


def attention_lstm(w: SimpleNamespace, x: Tensor, state: Pair) -> tuple[Tensor, Pair]:
    h, _ = state
    query = h @ w.W_q
    scores = (w.memory @ query.unsqueeze(2)).squeeze(2)
    attention = torch.softmax(scores, -1)
    context = (attention.unsqueeze(1) @ w.memory).squeeze(1)
    return lstm(w, torch.cat([x, context], -1), state)


STEPS: dict[str, Callable] = {
    "lstm": lstm,
    "gru": gru,
    "rnn": rnn,
    "mgu": mgu,
    "layernorm-lstm": layernorm_lstm,
    "attention-lstm": attention_lstm,
}


def loop(problem: cells.Problem, device: str = "cpu") -> cells.Competitor:
    """A Python loop over time."""
    return _competitor(problem, _unrolled(problem), device)


def compiled(problem: cells.Problem, device: str = "cpu", backend: str = "inductor") -> cells.Competitor | None:
    """The loop under torch.compile, as one graph; the first step compiles both passes. None for a long loop."""
    if problem.size.T > COMPILED_STEPS:
        return None
    torch._dynamo.reset()  # or the problems before count as recompilations, of which there may be eight
    made = _competitor(problem, torch.compile(_unrolled(problem), fullgraph=True, backend=backend), device)
    start = time.perf_counter()
    made.step()
    return made._replace(first_s=time.perf_counter() - start)


def _unrolled(problem: cells.Problem) -> Callable[[SimpleNamespace], Tensor]:
    step, has_c = STEPS[problem.cell], problem.has_c
    _, B, _, H = problem.size

    def forward(w: SimpleNamespace) -> Tensor:
        zeros, ys = w.xs.new_zeros(B, H), []
        state: Any = (zeros, zeros) if has_c else zeros
        for x in w.xs.unbind(0):
            y, state = step(w, x, state)
            ys.append(y)
        return torch.stack(ys)

    return forward


def _competitor(problem: cells.Problem, forward: Callable[[SimpleNamespace], Tensor], device: str) -> cells.Competitor:
    leaves = {name: _leaf(array, device) for name, array in {**problem.inputs, **problem.weights}.items()}
    w, gy, all_leaves = cells.nested(leaves), torch.tensor(problem.gy, device=device), list(leaves.values())

    def step() -> list[Any]:
        for leaf in all_leaves:
            leaf.grad = None
        ys = forward(w)
        ys.backward(gy)
        return [ys.detach(), *(leaf.grad for leaf in all_leaves)]

    read = cells.reader(list(leaves))
    return cells.Competitor(step, lambda result: read([t.cpu() for t in result]), forward=lambda: forward(w))


def _leaf(array: np.ndarray, device: str) -> Tensor:
    return torch.tensor(array, device=device, requires_grad=True)


# ---- the layers that are built in -----------------------------------------------------------------------------------

# Which of our gates stand below each other in weight_ih and weight_hh, from the top.
GATES = {"lstm": ("_i", "_f", "_g", "_o"), "gru": ("_r", "_z", "_h"), "rnn": ("",)}
LAYERS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


def layer(problem: cells.Problem, device: str = "cpu") -> cells.Competitor | None:
    """nn.LSTM, nn.GRU or nn.RNN; None for other cells. Its second bias is 0 and gets a gradient, as users have it.

    nn.GRU resets after the product with W_h: it is as much work, but its results are not ours and are not read.
    """
    if problem.cell not in LAYERS:
        return None
    module, gy = _filled(problem).to(device), torch.tensor(problem.gy, device=device)
    leaves = [_leaf(problem.inputs["xs"], device), module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0]

    def step() -> list[Any]:
        module.zero_grad()
        leaves[0].grad = None
        ys, _ = module(leaves[0])
        ys.backward(gy)
        return [ys.detach(), *(leaf.grad for leaf in leaves)]

    def read(result: list[Tensor]) -> dict[str, np.ndarray]:
        ys, xs, U, W, b = (t.cpu() for t in result)
        found = {"ys": ys.numpy(), "xs": xs.numpy()}
        for letter, stacked in (("U", U), ("W", W), ("b", b)):
            parts = stacked.chunk(len(GATES[problem.cell]))
            found.update({letter + gate: p.numpy().T for gate, p in zip(GATES[problem.cell], parts, strict=True)})
        return found

    return cells.Competitor(
        step, read if problem.cell != "gru" else lambda result: {}, forward=lambda: module(leaves[0])
    )


def _filled(problem: cells.Problem) -> torch.nn.Module:
    """The layer with our weights."""
    module = LAYERS[problem.cell](problem.size.I, problem.size.H)
    stacked = lambda letter: np.concatenate([problem.weights[letter + gate].T for gate in GATES[problem.cell]])
    with torch.no_grad():
        module.weight_ih_l0.copy_(torch.tensor(stacked("U")))
        module.weight_hh_l0.copy_(torch.tensor(stacked("W")))
        module.bias_ih_l0.copy_(torch.tensor(stacked("b")))
        module.bias_hh_l0.zero_()
    return module
