"""An LSTM as a loop that a user writes, in each library: the same equations, forward and backward.

    z = x U + h W + b;  i, f, g, o its four parts
    c = σ(f) ⊙ c + σ(i) ⊙ tanh(g);  h = σ(o) ⊙ tanh(c);  loss = Σ h² over all steps

xs: (T, B, I)  U: (I, 4H)  W: (H, 4H)  b: (4H,); gate by gate: four of each, (I, H), (H, H), (H,)
"""

from __future__ import annotations

import warnings

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Weights = tuple[np.ndarray, ...]
Step = Callable[[], tuple[float, list[np.ndarray]]]  # returns the loss and the gradients of the weights


class Library(NamedTuple):
    """What the loop needs of a library. gates: (B, 4H) -> four of (B, H)"""

    sigmoid: Callable
    tanh: Callable
    stack: Callable
    gates: Callable


def problem(T: int, B: int, I: int, H: int) -> tuple[np.ndarray, Weights]:
    """xs, and the weights U, W and b, in float32."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: (rng.standard_normal(shape) / np.sqrt(H)).astype(np.float32)
    return draw(T, B, I), (draw(I, 4 * H), draw(H, 4 * H), draw(4 * H))


def gate_by_gate(weights: Weights) -> Weights:
    """The same weights as four of each: U_i, U_f, U_g, U_o, W_i, …, b_o."""
    return tuple(np.ascontiguousarray(part) for w in weights for part in np.split(w, 4, axis=-1))


def loss(library: Library, xs: Any, h: Any, weights: Any) -> Any:
    """Two products a step, four gates cut from their sum."""
    sigmoid, tanh, stack, gates = library
    U, W, b = weights
    c, ys = h, []
    for x in xs:
        i, f, g, o = gates(x @ U + h @ W + b)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        ys.append(h)
    y = stack(ys)
    return (y * y).sum()


def loss_by_gates(library: Library, xs: Any, h: Any, weights: Any) -> Any:
    """The textbook's equations, eight products a step."""
    sigmoid, tanh, stack, _ = library
    U_i, U_f, U_g, U_o, W_i, W_f, W_g, W_o, b_i, b_f, b_g, b_o = weights
    c, ys = h, []
    for x in xs:
        i = sigmoid(x @ U_i + h @ W_i + b_i)
        f = sigmoid(x @ U_f + h @ W_f + b_f)
        g = tanh(x @ U_g + h @ W_g + b_g)
        o = sigmoid(x @ U_o + h @ W_o + b_o)
        c = f * c + i * g
        h = o * tanh(c)
        ys.append(h)
    y = stack(ys)
    return (y * y).sum()


def form(weights: Weights) -> Callable:
    return loss if len(weights) == 3 else loss_by_gates


def zeros(xs: np.ndarray, weights: Weights) -> np.ndarray:
    return np.zeros((xs.shape[1], weights[-1].shape[0] // (4 if len(weights) == 3 else 1)), np.float32)


def slices(z: Any) -> tuple:
    """Where a library has no chunk."""
    H = z.shape[-1] // 4
    return z[:, :H], z[:, H : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]


# ---- the libraries --------------------------------------------------------------------------------------------------


def tinygrad_rnn(xs: np.ndarray, weights: Weights) -> Step:
    import tinygrad_rnn as tg

    from tinygrad_rnn import ops

    library = Library(ops.sigmoid, ops.tanh, ops.stack, lambda z: ops.chunk(z, 4, axis=-1))
    inputs, h, f = tg.tensor(xs), tg.tensor(zeros(xs, weights)), form(weights)
    parameters = [tg.tensor(w, requires_grad=True) for w in weights]

    def step() -> tuple[float, list[np.ndarray]]:
        for p in parameters:
            p.grad = None
        total = f(library, inputs.unbind(0), h, parameters)
        total.backward()
        return total.item(), [p.grad.array for p in parameters]

    return step


def torch(xs: np.ndarray, weights: Weights, threads: int | None = None) -> Step:
    """threads: None is PyTorch's default."""
    import torch

    library = Library(torch.sigmoid, torch.tanh, torch.stack, lambda z: z.chunk(4, -1))
    inputs, h, f = torch.tensor(xs), torch.tensor(zeros(xs, weights)), form(weights)
    parameters = [torch.tensor(w, requires_grad=True) for w in weights]
    default = torch.get_num_threads()

    def step() -> tuple[float, list[np.ndarray]]:
        if torch.get_num_threads() != (threads or default):
            torch.set_num_threads(threads or default)
        for p in parameters:
            p.grad = None
        total = f(library, inputs.unbind(0), h, parameters)
        total.backward()
        return total.item(), [p.grad.numpy() for p in parameters]

    return step


def mygrad(xs: np.ndarray, weights: Weights) -> Step:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns of numba and of NumPy
        import mygrad as mg

        from mygrad.nnet import sigmoid

    library = Library(sigmoid, mg.tanh, mg.stack, slices)
    h, f, parameters = zeros(xs, weights), form(weights), [mg.tensor(w) for w in weights]

    def step() -> tuple[float, list[np.ndarray]]:
        for p in parameters:
            p.null_grad()
        total = f(library, xs, mg.tensor(h, constant=True), parameters)
        total.backward()
        return total.item(), [p.grad for p in parameters]

    return step


def autograd(xs: np.ndarray, weights: Weights) -> Step:
    import autograd.numpy as anp

    from autograd import value_and_grad

    library = Library(lambda x: 1 / (1 + anp.exp(-x)), anp.tanh, anp.stack, slices)
    h, f = zeros(xs, weights), form(weights)
    differentiated = value_and_grad(lambda parameters: f(library, xs, h, parameters))

    def step() -> tuple[float, list[np.ndarray]]:
        total, gradients = differentiated(weights)
        return float(total), list(gradients)

    return step
