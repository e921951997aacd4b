"""The recurrent cells that are measured: equations, weights and inputs, the same numbers for every library.

    lstm            f, i, o = σ(x U + h W + b), g = tanh(x U + h W + b), each with its own U, W and b
                    c' = f ⊙ c + i ⊙ g;  h' = o ⊙ tanh(c')
    gru             z, r = σ(x U + h W + b);  h' = (1 - z) ⊙ h + z ⊙ tanh(x U_h + (r ⊙ h) W_h + b_h)
    rnn             h' = tanh(x U + h W + b)
    mgu             f = σ(x U_f + h W_f + b_f);  h' = (1 - f) ⊙ h + f ⊙ tanh(x U_h + (f ⊙ h) W_h + b_h)
    layernorm-lstm  the lstm with f = σ(LN_f(x U_f + h W_f + b_f)), likewise i, o and g, and h' = o ⊙ tanh(LN_c(c'))
                    LN over the H units, eps 1e-5, each with its own gain and b; c' is carried on as it is
    attention-lstm  the lstm on [x, context], context = Σ_s softmax_s(q · memory_s) memory_s, q = h W_q

x: (B, I)  h, c: (B, H)  U: (I, H)  W: (H, H)  b: (H,)  memory: (B, 20, H), which gets a gradient like x
With attention U is (I + H, H). y = h', and the state before the first step is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

MEMORY_STEPS = 20
CELLS = ("lstm", "gru", "rnn", "mgu", "layernorm-lstm", "attention-lstm")


class Size(NamedTuple):
    """T steps, B sequences, I inputs, H hidden units."""

    T: int
    B: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"T={self.T} B={self.B} I={self.I} H={self.H}"


class Problem(NamedTuple):
    """What to run. inputs: xs (T, B, I), and memory for attention  weights: by name  gy: d loss / d ys, (T, B, H)"""

    cell: str
    size: Size
    inputs: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    gy: np.ndarray

    @property
    def has_c(self) -> bool:
        """Is its state (h, c)? Else it is h."""
        return self.cell.endswith("lstm")

    @property
    def flops(self) -> int:
        """Of the products: the forward one, and two in the backward pass that are as large."""
        matrices = sum(w.size for w in self.weights.values() if w.ndim == 2)
        attention = 2 * MEMORY_STEPS * self.size.H if "memory" in self.inputs else 0  # the scores and the context
        return 3 * 2 * self.size.T * self.size.B * (matrices + attention)


class Competitor(NamedTuple):
    """A library with a problem. step: forward and backward, what is timed; its result is not copied or renamed.

    read: a result as arrays, by name: ys, then the gradients of the inputs and weights; none where the equations are
    not those above
    first_s: seconds of the first step, where that compiles
    forward: the first half of a step, as in training; none where a library has it only as a part of the whole
    """

    step: Callable[[], Any]
    read: Callable[[Any], dict[str, np.ndarray]]
    first_s: float | None = None
    forward: Callable[[], Any] | None = None


def problem(cell: str, size: Size) -> Problem:
    """The same numbers every time, in float32."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    T, B, I, H = size
    scale = np.float32(1 / np.sqrt(H))
    weights = {name: scale * draw(*shape) for name, shape in shapes(cell, I, H).items()}
    for name, w in weights.items():
        if name.endswith("gain"):
            w += 1
    inputs = {"xs": draw(T, B, I)}
    if cell == "attention-lstm":
        inputs["memory"] = scale * draw(B, MEMORY_STEPS, H)
    return Problem(cell, size, inputs, weights, draw(T, B, H))


def shapes(cell: str, I: int, H: int) -> dict[str, tuple[int, ...]]:
    """The weights by name: U, W and b of each gate, and what the cell has besides."""
    gates = {"gru": ("_z", "_r", "_h"), "rnn": ("",), "mgu": ("_f", "_h")}.get(cell, ("_f", "_i", "_o", "_g"))
    inputs = I + H if cell == "attention-lstm" else I
    found: dict[str, tuple[int, ...]] = {}
    for letter, shape in (("U", (inputs, H)), ("W", (H, H)), ("b", (H,))):
        found.update({f"{letter}{gate}": shape for gate in gates})
    if cell == "layernorm-lstm":
        found.update({f"norm_{of}.{name}": (H,) for of in "fiogc" for name in ("gain", "b")})
    if cell == "attention-lstm":
        found["W_q"] = (H, H)
    return found


def nested(values: Mapping[str, Any]) -> SimpleNamespace:
    """{"U_f": …, "norm_f.gain": …} as an object with the attributes U_f and norm_f, which has gain."""
    root = SimpleNamespace()
    for path, value in values.items():
        parent, _, name = path.rpartition(".")
        if parent and not hasattr(root, parent):
            setattr(root, parent, SimpleNamespace())
        setattr(getattr(root, parent) if parent else root, name, value)
    return root


def reader(names: Sequence[str]) -> Callable[[Any], dict[str, np.ndarray]]:
    """How to read a result that is ys and the gradients of the leaves of these names."""
    return lambda result: {name: np.asarray(v) for name, v in zip(["ys", *names], result, strict=True)}
