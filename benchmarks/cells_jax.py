"""The cells of cells.py in JAX: each a step for lax.scan, forward and backward under one jit."""

from __future__ import annotations

import time

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import cells
import jax
import jax.numpy as jnp

sigmoid, tanh = jax.nn.sigmoid, jnp.tanh


def lstm(w: SimpleNamespace, state: Any, x: Any) -> tuple:
    h, c = state
    f = sigmoid(x @ w.U_f + h @ w.W_f + w.b_f)
    i = sigmoid(x @ w.U_i + h @ w.W_i + w.b_i)
    o = sigmoid(x @ w.U_o + h @ w.W_o + w.b_o)
    g = tanh(x @ w.U_g + h @ w.W_g + w.b_g)
    c = f * c + i * g
    h = o * tanh(c)
    return (h, c), h


def gru(w: SimpleNamespace, h: Any, x: Any) -> tuple:
    z = sigmoid(x @ w.U_z + h @ w.W_z + w.b_z)
    r = sigmoid(x @ w.U_r + h @ w.W_r + w.b_r)
    h = (1 - z) * h + z * tanh(x @ w.U_h + (r * h) @ w.W_h + w.b_h)
    return h, h


def rnn(w: SimpleNamespace, h: Any, x: Any) -> tuple:
    h = tanh(x @ w.U + h @ w.W + w.b)
    return h, h


def mgu(w: SimpleNamespace, h: Any, x: Any) -> tuple:
    f = sigmoid(x @ w.U_f + h @ w.W_f + w.b_f)
    h = (1 - f) * h + f * tanh(x @ w.U_h + (f * h) @ w.W_h + w.b_h)
    return h, h


def layer_norm(norm: SimpleNamespace, x: Any) -> Any:
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * norm.gain + norm.b


def layernorm_lstm(w: SimpleNamespace, state: Any, x: Any) -> tuple:
    h, c = state
    f = sigmoid(layer_norm(w.norm_f, x @ w.U_f + h @ w.W_f + w.b_f))
    i = sigmoid(layer_norm(w.norm_i, x @ w.U_i + h @ w.W_i + w.b_i))
    o = sigmoid(layer_norm(w.norm_o, x @ w.U_o + h @ w.W_o + w.b_o))
    g = tanh(layer_norm(w.norm_g, x @ w.U_g + h @ w.W_g + w.b_g))
    c = f * c + i * g
    h = o * tanh(layer_norm(w.norm_c, c))
    return (h, c), h


def attention_lstm(w: SimpleNamespace, state: Any, x: Any) -> tuple:
    h, _ = state
    query = h @ w.W_q
    scores = (w.memory @ query[:, :, None])[:, :, 0]
    attention = jax.nn.softmax(scores, axis=-1)
    context = (attention[:, None, :] @ w.memory)[:, 0]
    return lstm(w, state, jnp.concatenate([x, context], -1))


STEPS: dict[str, Callable] = {
    "lstm": lstm,
    "gru": gru,
    "rnn": rnn,
    "mgu": mgu,
    "layernorm-lstm": layernorm_lstm,
    "attention-lstm": attention_lstm,
}


def scan(problem: cells.Problem) -> cells.Competitor:
    """The step under lax.scan; the first call traces and compiles."""
    cell, has_c = STEPS[problem.cell], problem.has_c
    _, B, _, H = problem.size

    def forward(leaves: dict[str, Any]) -> Any:
        w, zeros = cells.nested(leaves), jnp.zeros((B, H))
        _, ys = jax.lax.scan(partial(cell, w), (zeros, zeros) if has_c else zeros, w.xs)
        return ys

    @jax.jit
    def both_passes(leaves: dict[str, Any], gy: Any) -> tuple[Any, dict[str, Any]]:
        ys, pull = jax.vjp(forward, leaves)
        return ys, pull(gy)[0]

    leaves = {name: jnp.asarray(array) for name, array in {**problem.inputs, **problem.weights}.items()}
    gy = jnp.asarray(problem.gy)
    step = lambda: jax.block_until_ready(both_passes(leaves, gy))
    start = time.perf_counter()
    step()
    first_s = time.perf_counter() - start
    read = cells.reader(list(leaves))
    return cells.Competitor(step, lambda result: read([result[0], *(result[1][n] for n in leaves)]), first_s)
