"""Cells that are meant to break a compiler. Every weight starts at 0: a test draws its values."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cells import H, I
from hypothesis import strategies as st

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops
from tinygrad_rnn.ops import concat, sigmoid, tanh, where

S, N = 6, 2  # the length of a memory to attend to, the rows of a state with three axes


class Odd(nn.Cell):
    """A cell whose weights have the shapes that `shapes` says, with as many states (B, H) as `states` says."""

    states = 1

    def __init__(self, inputs=I, units=H):
        self.inputs, self.units = inputs, units
        for name, shape in self.shapes(inputs, units).items():
            setattr(self, name, nn.Parameter(tg.zeros(shape)))

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,)}

    def initial_state(self, batch_size):
        zeros = tuple(self.zeros(batch_size, self.units) for _ in range(self.states))
        return zeros if self.states > 1 else zeros[0]

    def affine(self, x, h):
        return x @ self.U + h @ self.W + self.b

    def capture(self, batch_size, draw):
        """Set what the step captures for the next call; returns the tensors whose gradients to compare."""
        return {}


# ---- gated and simple cells ------------------------------------------------------------------------------------------


class Peephole(Odd):
    states = 2

    def shapes(self, I, H):
        return {"U": (I, 4 * H), "W": (H, 4 * H), "b": (4 * H,), "pi": (H,), "pf": (H,), "po": (H,)}

    def forward(self, x, state):
        h, c = state
        i, f, g, o = ops.chunk(self.affine(x, h), 4, axis=-1)
        i, f = sigmoid(i + self.pi * c), sigmoid(f + self.pf * c)
        c = f * c + i * tanh(g)
        h = sigmoid(o + self.po * c) * tanh(c)
        return h, (h, c)


class Elman(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "V": (H, H), "c": (H,)}

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return sigmoid(h @ self.V + self.c), h


class Coupled(Odd):
    """One gate that both forgets and lets in."""

    states = 2

    def shapes(self, I, H):
        return {"U": (I, 3 * H), "W": (H, 3 * H), "b": (3 * H,)}

    def forward(self, x, state):
        h, c = state
        z, n = self.units, self.affine(x, h)
        f = sigmoid(n[:, :z])
        c = f * c + (1 - f) * tanh(n[:, z : 2 * z])
        h = sigmoid(n[:, 2 * z :]) * tanh(c)
        return h, (h, c)


class Projected(Odd):
    """An LSTM whose h is smaller than its c."""

    def shapes(self, I, H):
        return {"U": (I, 4 * H), "W": (2, 4 * H), "b": (4 * H,), "P": (H, 2)}

    def initial_state(self, batch_size):
        return {"c": self.zeros(batch_size, self.units), "h": self.zeros(batch_size, 2)}

    def forward(self, x, state):
        o, g, f, i = ops.chunk(self.affine(x, state["h"]), 4, axis=1)
        c = sigmoid(f) * state["c"] + sigmoid(i) * tanh(g)
        h = (sigmoid(o) * tanh(c)) @ self.P
        return h, {"c": c, "h": h}


class IndRNN(Odd):
    """Recurrent weights that are a vector."""

    def shapes(self, I, H):
        return {"U": (I, H), "w": (H,), "b": (H,)}

    def forward(self, x, h):
        h = ops.relu(x @ self.U + self.w * h + self.b)
        return h, h


class Multiplicative(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "V": (H, H), "W": (H, H), "X": (I, H), "b": (H,)}

    def forward(self, x, h):
        h = tanh(x @ self.X + ((x @ self.U) * (h @ self.V)) @ self.W + self.b)
        return h, h


class DeepTransition(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "V1": (H, H), "V2": (H, H)}

    def forward(self, x, h):
        h = tanh(tanh(tanh(self.affine(x, h)) @ self.V1) @ self.V2)
        return h, h


class Residual(Odd):
    def forward(self, x, h):
        new = ops.relu(self.affine(x, h)) + 0.5 * h
        return new + h * 2, new


class LayerNorm(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "gain": (H,)}

    def forward(self, x, h):
        z = self.affine(x, h)
        z = z - z.sum(axis=1, keepdims=True) / self.units
        variance = (z * z).sum(axis=1, keepdims=True) / self.units
        h = tanh(self.gain * z / ops.sqrt(variance + 1e-1))
        return h, h


# ---- states ----------------------------------------------------------------------------------------------------------


class Delayed(Odd):
    """The second state is the last step's projection: on no cycle."""

    states = 2

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "V": (I, H), "D": (H, H)}

    def forward(self, x, state):
        h = tanh(self.affine(x, state[0]) + state[1] @ self.D)
        return h, (h, tanh(x @ self.V))


class Twins(Odd):
    """Two states with one value."""

    states = 2

    def forward(self, x, state):
        h = tanh(self.affine(x, state[0]) - state[1])
        return h, (h, h)


class Swapped(Odd):
    """Each state becomes the other."""

    states = 2

    def forward(self, x, state):
        a, b = state
        return a * b, (b, tanh(self.affine(x, a)))


class ConstantAndUnread(Odd):
    """A state that never changes, and one that nobody reads."""

    states = 3

    def forward(self, x, state):
        h = tanh(self.affine(x, state[0]) * state[1])
        return h, (h, state[1], h * 2)


class OldAndNew(Odd):
    """Old values are read after the new ones are there."""

    states = 2

    def forward(self, x, state):
        h, c = state
        new = tanh(self.affine(x, h))
        c = 0.5 * c * h + new * h
        return new * c - h, (new, c)


class OldOutput(Odd):
    """The output is the state that came in."""

    def forward(self, x, h):
        return h, tanh(self.affine(x, h))


class ShiftRegister(Odd):
    """The state holds the last three inputs side by side."""

    def shapes(self, I, H):
        return {"V": (3 * I, H)}

    def initial_state(self, batch_size):
        return [self.zeros(batch_size, 3 * self.inputs)]

    def forward(self, x, state):
        last = concat([state[0][:, self.inputs :], x], axis=1)
        return tanh(last @ self.V), [last]


class InputAsState(Odd):
    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), self.zeros(batch_size, self.inputs))

    def forward(self, x, state):
        h = tanh(self.affine(x - state[1], state[0]))
        return h, (h, x)


class LearnedStart(Odd):
    """The first state is a parameter."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "start": (H,)}

    def initial_state(self, batch_size):
        return ops.broadcast_to(self.start, (batch_size, self.units))

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return h, h


class RowState(Odd):
    """A state with one number for each sequence, (B,)."""

    def initial_state(self, batch_size):
        return {"h": self.zeros(batch_size, self.units), "total": self.zeros(batch_size)}

    def forward(self, x, state):
        total = 0.5 * state["total"] + (x * x).mean(1)
        h = tanh(self.affine(x, state["h"]) / (1 + total[:, None])) * 0.7
        return h, {"h": h, "total": total}


class Slots(Odd):
    """A state (B, N, H)."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (N, H)}

    def initial_state(self, batch_size):
        return self.zeros(batch_size, N, self.units)

    def forward(self, x, slots):
        slots = tanh((x @ self.U).unsqueeze(1) + slots @ self.W + self.b)
        return slots.mean(1), slots


class Writer(Odd):
    """A memory (B, N, H) in the state that is read and written by attention."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "R": (H, H), "erase": (H, H), "add": (H, H)}

    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), self.zeros(batch_size, N, self.units))

    def forward(self, x, state):
        h, memory = state
        w = ops.softmax((memory @ h[:, :, None]).squeeze(2), 1)
        read = (w[:, None, :] @ memory).squeeze(1)
        h = tanh(x @ self.U + h @ self.W + read @ self.R)
        erased = 1 - w[:, :, None] * sigmoid(h @ self.erase)[:, None, :]
        memory = memory * erased + ops.einsum("bn,bh->bnh", w, tanh(h @ self.add))
        return h + read, (h, memory)


class Counter(Odd):
    """A state of integers."""

    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), tg.tensor(np.zeros(batch_size, np.int64)))

    def forward(self, x, state):
        h, n = state
        odd = (n[:, None] > 1).astype(h.dtype)
        h = tanh(self.affine(x, h) * (1 + odd)) + 0.1 * n.astype(h.dtype)[:, None]
        return h, (h, n + 1)


class Clockwork(Odd):
    """Units are updated when their phase, a part of the state, says so."""

    states = 2

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "rate": (H,)}

    def forward(self, x, state):
        h, phase = state
        due = phase > 0.2
        h = where(due, tanh(self.affine(x, h)), h)
        return h, (h, where(due, phase - 0.7, phase + sigmoid(self.rate)))


class Switches(Odd):
    """A state of booleans says which units are updated."""

    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), tg.tensor(np.ones((batch_size, self.units), bool)))

    def forward(self, x, state):
        h, on = state
        h = where(on, tanh(self.affine(x, h)), 0.9 * h)
        return h, (h, (h < 0.1) | ~on)


class TwoPrecisions(Odd):
    """A state that is float32 whatever the other is."""

    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), self.zeros(batch_size, self.units).astype("float32"))

    def forward(self, x, state):
        h, slow = state
        slow = (0.9 * slow.astype(h.dtype) + 0.1 * h).astype("float32")
        h = tanh(self.affine(x, h) + slow.astype(h.dtype))
        return h, (h, slow)


# ---- what is read, and what is not -----------------------------------------------------------------------------------


class IgnoresX(Odd):
    def shapes(self, I, H):
        return {"W": (H, H), "b": (H,)}

    def forward(self, x, h):
        h = tanh(h @ self.W + self.b)
        return h, h


class IgnoresState(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "b": (H,)}

    def forward(self, x, h):
        new = tanh(x @ self.U + self.b)
        return new, new * 2


class Echo(Odd):
    """y is x."""

    def forward(self, x, h):
        return x, tanh(self.affine(x, h))


class ParameterAsOutput(Odd):
    """y is a parameter, at every step and for every sequence."""

    def forward(self, x, h):
        return ops.broadcast_to(self.b, h.shape), tanh(x @ self.U + h @ self.W)


class ConstantOutput(Odd):
    """y is an array of numbers."""

    def forward(self, x, h):
        return tg.tensor(np.full(h.shape, 0.3, h.dtype)), tanh(self.affine(x, h))


class Wide(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "V": (H, 2 * H + 1)}

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return h @ self.V, h


class UnusedParameter(Odd):
    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "unused": (H, 2)}

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return h, h


class FrozenParameter(Odd):
    """W is no parameter that is trained."""

    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.W.requires_grad_(False)

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return h, h


class Detached(Odd):
    """Half of the state's gradient is cut off by detach, and all of a gate's by no_grad."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "V": (H, H)}

    def forward(self, x, h):
        with tg.no_grad():
            gate = sigmoid(h @ self.V)
        new = tanh(self.affine(x, 0.5 * h + 0.5 * h.detach())) * gate
        return new + (x @ self.U).detach(), new


# ---- weights ---------------------------------------------------------------------------------------------------------


class WholeAndParts(Odd):
    """A projection that is read whole and in parts, out of order."""

    def shapes(self, I, H):
        return {"U": (I, 3 * H), "W": (H, 3 * H)}

    def forward(self, x, h):
        n, z = self.units, x @ self.U + h @ self.W
        total = (z * z).sum(axis=1, keepdims=True)
        h = tanh(z[:, 2 * n :]) * sigmoid(z[:, :n]) + tanh(z[:, n : 2 * n]) / (1 + total)
        return h, h


class UnevenParts(Odd):
    """Parts that overlap, that leave columns out, and that are of other sizes than the weights' other parts."""

    def shapes(self, I, H):
        return {"U": (I, 2 * H + 1), "W": (H, 2 * H + 1), "b": (2 * H + 1,)}

    def forward(self, x, h):
        n, z = self.units, self.affine(x, h)
        h = tanh(z[:, :n]) * sigmoid(z[:, 1 : n + 1]) + z[:, -n:]
        return tanh(h) + z[:, n : n + 1], tanh(h)


class UsedTwice(Odd):
    """One weight in two products of a step."""

    def forward(self, x, h):
        h = tanh(self.affine(x, tanh(h @ self.W)))
        return h, h


class Tied(Odd):
    """Weights and their transposes."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,)}

    def forward(self, x, h):
        h = tanh(self.affine(x, h) + h @ self.W.T)
        return h @ self.U.T, h


class Packed(Odd):
    """All weights are rows of one matrix."""

    def shapes(self, I, H):
        return {"P": (I + H + 1, H)}

    def forward(self, x, h):
        h = tanh(x @ self.P[: self.inputs] + h @ self.P[self.inputs : -1] + self.P[-1])
        return h, h


class Joined(Odd):
    """One product of [x, h], as textbooks write it."""

    def shapes(self, I, H):
        return {"P": (I + H, H), "b": (H,)}

    def forward(self, x, h):
        h = tanh(concat([x, h], axis=1) @ self.P + self.b)
        return h, h


class Broadcast(Odd):
    """A scalar parameter, a bias (1,), one (1, H), and a column (H, 1)."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "scale": (), "b": (1,), "row": (1, H), "column": (H, 1)}

    def forward(self, x, h):
        h = tanh(self.scale * (x @ self.U) + h @ self.W + self.b) * self.row
        return h + h @ self.column, h


class WeightNorm(Odd):
    """Weights that are computed from parameters, at every step the same."""

    def shapes(self, I, H):
        return {"V": (H, H), "gain": (H,), "U": (I, H), "b": (H,)}

    def forward(self, x, h):
        W = self.V * (self.gain / ops.sqrt((self.V * self.V).sum(0) + 0.1))
        h = tanh(x @ self.U + h @ W + sigmoid(self.b))
        return h, h


class Masked(Odd):
    """A constant array of the cell's own on its weight."""

    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.mask = np.triu(np.ones((units, units), np.float32))

    def forward(self, x, h):
        h = tanh(x @ self.U + h @ (self.W * self.mask) + self.b)
        return h, h


class Leaky(Odd):
    """Numbers as attributes: of the class, of the cell, in a list, and in a module."""

    floor = -0.5

    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.alpha, self.rates, self.norm = 0.5, [0.25, 2.0], nn.LayerNorm(units)

    def forward(self, x, h):
        z = self.norm(self.affine(x, h)) * self.rates[1]
        h = (1 - self.alpha) * h + self.alpha * tanh(z)
        return ops.maximum(h * self.rates[0], self.floor), h


# ---- attention -------------------------------------------------------------------------------------------------------


class Attention(Odd):
    """Over a memory that is set on the cell before each call, computed from what asks for a gradient."""

    memory = None

    def shapes(self, I, H):
        return {"Q": (H, H), "U": (I + H, H), "W": (H, H), "b": (H,), "V": (2 * H, H)}

    def capture(self, batch_size, draw):
        source = draw(batch_size, S, self.units)
        self.memory = tanh(source * 1.3)
        return {"source": source}

    def attended(self, h):
        scores = (self.memory @ (h @ self.Q).unsqueeze(2)).squeeze(2)
        return (ops.softmax(scores, 1).unsqueeze(1) @ self.memory).squeeze(1)

    def forward(self, x, h):
        context = self.attended(h)
        h = tanh(self.affine(concat([x, context], axis=1), h))
        return concat([h, context], axis=1) @ self.V, h


class GatedAttention(Attention):
    """The gates read h and the context, and h asks for it: a product of all that reads h would wait for itself."""

    def shapes(self, I, H):
        weights = {"Uf": (I + H, H), "Wf": (H, H), "Un": (I + H, H), "Wn": (H, H)}
        return {"Q": (H, H), **weights}

    def forward(self, x, h):
        read = concat([x, self.attended(h)], axis=1)
        f, n = sigmoid(read @ self.Uf + h @ self.Wf), tanh(read @ self.Un + h @ self.Wn)
        h = (1 - f) * h + f * n
        return h, h


class EinsumAttention(Attention):
    """The same by einsum; the memory asks for a gradient itself."""

    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.memory = None

    def capture(self, batch_size, draw):
        self.memory = draw(batch_size, S, self.units)
        return {"memory": self.memory}

    def attended(self, h):
        weights = ops.softmax(ops.einsum("bh,hk,bsk->bs", h, self.Q, self.memory))
        return ops.einsum("bs,bsk->bk", weights, self.memory)


class MaskedAttention(Attention):
    """Where the memories have lengths of their own."""

    def capture(self, batch_size, draw):
        self.hidden = tg.tensor(np.arange(S) > np.arange(1, batch_size + 1)[:, None])
        return super().capture(batch_size, draw)

    def attended(self, h):
        scores = ops.einsum("bsh,bh->bs", self.memory, h @ self.Q)
        weights = ops.softmax(ops.masked_fill(scores, self.hidden, -np.inf))
        return (weights[:, :, None] * self.memory).sum(1)


class MemoryAsState(Attention):
    """The memory is a state that never changes."""

    def initial_state(self, batch_size):
        memory = self.zeros(batch_size, S, self.units) + tg.tensor(np.arange(S, dtype=self.U.dtype)[:, None])
        return {"memory": memory, "h": self.zeros(batch_size, self.units)}

    def capture(self, batch_size, draw):
        return {}

    def forward(self, x, state):
        h, memory = state["h"], state["memory"]
        weights = ops.softmax((memory @ (h @ self.Q)[:, :, None])[:, :, 0])
        context = (weights[:, None] @ memory)[:, 0]
        h = tanh(self.affine(concat([x, context], axis=1), h))
        return h, {"memory": memory, "h": h}


# ---- operations ------------------------------------------------------------------------------------------------------


class TwoProjections(Odd):
    """Two values a, b (B, H) of x and h, which `mixed` makes the new state of."""

    def shapes(self, I, H):
        return {"Ua": (I, H), "Wa": (H, H), "Ub": (I, H), "Wb": (H, H), "b": (H,)}

    def mixed(self, a, b):
        raise NotImplementedError

    def forward(self, x, h):
        h = self.mixed(x @ self.Ua + h @ self.Wa, x @ self.Ub + h @ self.Wb + self.b)
        return h, h


class Where(TwoProjections):
    def mixed(self, a, b):
        return tanh(where(a > b, a, b * 0.5))


class Comparisons(TwoProjections):
    """Masks of booleans and of numbers, made and combined within the step."""

    def mixed(self, a, b):
        mask = ((a > 0) & (b <= 0.1)) | ~(a >= b)
        keep = mask.astype(a.dtype)
        share = mask.sum(1, keepdims=True).astype(a.dtype) / a.shape[1]
        return tanh(a * keep + b * (1 - keep)) * share + 0.1 * ops.logical_not(a < 0.3).astype(a.dtype)


class Piecewise(TwoProjections):
    def mixed(self, a, b):
        c = ops.relu(a) - ops.clip(b, -0.5, 0.8) + ops.maximum(a, b) * ops.minimum(a, 0.3)
        return tanh(c + ops.abs(b) * ops.sign(a) + ops.clip(a, min=-1.0))


class Smooth(TwoProjections):
    def mixed(self, a, b):
        c = ops.softplus(a) + ops.gelu(b) - ops.gelu(a, "tanh") + ops.erf(b)
        return tanh(c) * ops.exp(-a * a) + sigmoid(b)


class Powers(TwoProjections):
    def mixed(self, a, b):
        c = ops.sqrt(a * a + 1) - ops.log(1 + b * b) + (a * a + 0.5) ** 1.5 - b**2 + 0.1 * a**3
        return tanh(c / (1 + b * b) + (1 + a * a) ** tanh(b) + 2.0 ** tanh(a))


class Identities(TwoProjections):
    """What a folder of constants would like to take away."""

    def mixed(self, a, b):
        c = a * 1 + 0 - (-b) / 1 + a * 0 + b**1 - (a - a) + ops.maximum(b, b) + where(b == b, a, b)
        return tanh(0.5 * c) + 0 * b


class SameTwice(TwoProjections):
    """One formula written twice."""

    def mixed(self, a, b):
        return tanh(a * b + 1) * tanh(a * b + 1) - tanh(b * a + 1) * sigmoid(a + b) / sigmoid(b + a)


class Reductions(TwoProjections):
    def mixed(self, a, b):
        c = a - a.mean(1, keepdims=True) + b.max(1, keepdims=True) * a.min(axis=-1, keepdims=True)
        return tanh(c * ops.var(b, 1, keepdims=True, correction=0) + ops.logsumexp(a)[:, None]) + ops.log_softmax(b)


class Cumulative(TwoProjections):
    def mixed(self, a, b):
        return tanh(0.3 * (ops.cumsum(a, 1) - ops.cumsum(b * b, -1)))


class Reshapes(TwoProjections):
    """To three axes and back."""

    def mixed(self, a, b):
        B, n = a.shape
        cube = concat([a, b], axis=1).reshape(B, 2, n)
        mixed = (cube.permute(0, 2, 1) @ cube).reshape(B, n * n)
        turned = cube.swapaxes(1, 2).reshape(B, -1)[:, n:]
        return tanh(mixed[:, n : 2 * n] + turned + cube.unsqueeze(2).squeeze(2).sum(1))


class Shuffles(TwoProjections):
    def mixed(self, a, b):
        n = a.shape[1]
        first, second = ops.unbind(ops.stack([a, b], axis=1), axis=1)
        left, right = ops.split(concat([b, a, b], axis=1), [1, 3 * n - 1], axis=1)
        padded = ops.pad(first, [(0, 0), (1, 2)], value=0.5)
        return tanh(0.5 * (ops.flip(first * 2, 1) + right[:, :n] * left - padded[:, -n:] + ops.flip(second, -1)))


class Slices(TwoProjections):
    """Items by None, by negative numbers and by steps."""

    def mixed(self, a, b):
        n, z = a.shape[1], concat([a, b], axis=1)
        odd, back = z[:, 1::2], z[:, ::-1][..., :n]
        outer = z[:, None, :n] * back[:, :, None]
        return tanh(0.2 * (odd + back - z[:, -1:] + outer[:, -1] + outer[..., 0] + z[:, -n - 1 : -1]))


class Takes(TwoProjections):
    """Items by constant arrays, with repetitions."""

    def mixed(self, a, b):
        index = np.array([2, 0, 2])
        z = ops.take(a, index, axis=1) + b[:, [1, 1, 0]] + a[:, np.array([True, True, True])]
        ids = np.tile(index, (a.shape[0], 1))
        z = ops.scatter_add(z, ids, b, axis=1) - ops.take_along_axis(a, ids[:1], axis=1)
        return tanh(z + ops.embedding([1], self.Wa) * ops.one_hot(2, 3, a.dtype))


class BatchMean(TwoProjections):
    """Each sequence sees all others, through a mean, a maximum and a sum of everything."""

    def mixed(self, a, b):
        return tanh(a - a.mean(0) + b.max(0, keepdims=True)) + 0.05 * (a * b).sum()


class RowAttention(TwoProjections):
    """A product of two values of the step: each sequence attends to all others."""

    def mixed(self, a, b):
        return tanh(ops.softmax(a @ b.T) @ b)


class MovingProduct(TwoProjections):
    """Products of two values of the step, one for each sequence."""

    def mixed(self, a, b):
        return tanh((a[:, :, None] @ b[:, None, :]) @ a[:, :, None])[:, :, 0] + ops.einsum("bi,bi->b", a, b)[:, None]


@tg.primitive
def bell(x):
    return np.exp(-x * x)


bell.vjp(x=lambda g, x, y: -2 * g * x * y)


@tg.primitive
def turned(a, b, *, angle):
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return cosine * a - sine * b, sine * a + cosine * b


@turned.vjp
def _turned_rule(g, angle):
    return turned(*g, angle=-angle)


@tg.primitive
def blend(a, b, c):
    return a * b + c, a - b


blend.vjp(a=lambda g, b: g[0] * b + g[1], b=lambda g, a: g[0] * a - g[1], c=lambda g: g[0])


class OwnPrimitive(TwoProjections):
    def mixed(self, a, b):
        return tanh(bell(a) * b + bell(2 * b))


class PrimitiveOfTwoOutputs(TwoProjections):
    def mixed(self, a, b):
        p, q = turned(a, tanh(b), angle=0.4)
        _, unread = turned(a, p, angle=1.0)
        r, s = blend(p, unread, q)
        return tanh(r - 0.5 * s)


# ---- modules within ------------------------------------------------------------------------------------------------


class DropTwice(Odd):
    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.of_x, self.of_h = nn.Dropout(0.3), nn.Dropout(0.4)

    def forward(self, x, h):
        h = tanh(self.affine(self.of_x(x), self.of_h(h)))
        return self.of_h(h), h


class Inner(Odd):
    """A Recurrent within the step: over the features of x."""

    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.inner = nn.Recurrent(nn.GRUCell(1, units))

    def forward(self, x, h):
        ys, _ = self.inner(x.T.unsqueeze(2), h)
        h = tanh(self.affine(x, ys[-1]))
        return h + ys[0], h


class ShapeReader(Odd):
    """It decides by shapes and dtypes, which it may."""

    def forward(self, x, h):
        z = self.affine(x, h) / len(x) + x.ndim + x.shape[1]
        if x.shape[0] % 2 and h.dtype.kind == "f":
            z = z * h.size
        h = tanh(0.1 * z)
        return h, h


def stack_with_dropout(inputs=I, units=H):
    return nn.Stack([nn.LSTMCell(inputs, units), nn.GRUCell(units, units)], dropout=0.5)


def shared_stack(inputs=I, units=H):
    """Two cells of a stack with one recurrent weight."""
    stack = nn.Stack([nn.RNNCell(inputs, units), nn.RNNCell(units, units)])
    stack.cells[1].W = stack.cells[0].W
    return stack


ODD: dict[str, Callable[..., nn.Cell]] = {
    "peepholes": Peephole,
    "Elman's output layer": Elman,
    "coupled gates": Coupled,
    "projected LSTM": Projected,
    "IndRNN": IndRNN,
    "multiplicative": Multiplicative,
    "deep transition": DeepTransition,
    "residual": Residual,
    "layer norm by hand": LayerNorm,
    "a state on no cycle": Delayed,
    "two states with one value": Twins,
    "states that change places": Swapped,
    "constant and unread states": ConstantAndUnread,
    "old values after new ones": OldAndNew,
    "y is the old state": OldOutput,
    "shift register": ShiftRegister,
    "x as state": InputAsState,
    "learned first state": LearnedStart,
    "a state of one number": RowState,
    "a state of three axes": Slots,
    "written memory": Writer,
    "a state of integers": Counter,
    "clockwork": Clockwork,
    "a state of booleans": Switches,
    "states of two precisions": TwoPrecisions,
    "ignores x": IgnoresX,
    "ignores its state": IgnoresState,
    "y is x": Echo,
    "y is a parameter": ParameterAsOutput,
    "y is constant": ConstantOutput,
    "wide y": Wide,
    "unused parameter": UnusedParameter,
    "frozen parameter": FrozenParameter,
    "detach and no_grad": Detached,
    "whole and parts": WholeAndParts,
    "uneven parts": UnevenParts,
    "weight used twice": UsedTwice,
    "tied weights": Tied,
    "packed weights": Packed,
    "joined operands": Joined,
    "broadcast parameters": Broadcast,
    "weight norm": WeightNorm,
    "masked weight": Masked,
    "numbers as attributes": Leaky,
    "attention": Attention,
    "attention of gates": GatedAttention,
    "attention by einsum": EinsumAttention,
    "attention with a mask": MaskedAttention,
    "attention to a state": MemoryAsState,
    "where": Where,
    "comparisons": Comparisons,
    "piecewise": Piecewise,
    "smooth": Smooth,
    "powers": Powers,
    "identities": Identities,
    "the same twice": SameTwice,
    "reductions": Reductions,
    "cumulative": Cumulative,
    "reshapes": Reshapes,
    "shuffles": Shuffles,
    "slices": Slices,
    "takes": Takes,
    "mean over the batch": BatchMean,
    "attention among rows": RowAttention,
    "product of moving values": MovingProduct,
    "own primitive": OwnPrimitive,
    "primitive of two outputs": PrimitiveOfTwoOutputs,
    "dropout twice": DropTwice,
    "stack with dropout": stack_with_dropout,
    "stack with a shared weight": shared_stack,
    "a Recurrent within": Inner,
    "reads shapes": ShapeReader,
}

LOOSE = {"states of two precisions"}  # float32 inside: rounding shows in its sixth digit in any precision


# ---- steps that need more than one recording ------------------------------------------------------------------------


class Strange(Odd):
    """What the eager engine runs; another one computes the same or says that it cannot."""

    def shapes(self, I, H):
        return {"U": (I, H), "W": (H, H), "b": (H,), "E": (H, H)}

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return self.strange(h), h

    def strange(self, h):
        raise NotImplementedError


class ByComputedRow(Strange):
    def strange(self, h):
        return ops.embedding(h.argmax(1), self.E)


class ByComputedHot(Strange):
    def strange(self, h):
        return h + ops.one_hot(h.argmax(1), 3, h.dtype)


class ByComputedItem(Strange):
    def strange(self, h):
        return h + ops.take_along_axis(h, h.argmax(1, keepdims=True), axis=1)


class ByComputedOrder(Strange):
    def strange(self, h):
        return h[(h.sum(1) * 0).astype(np.int64) + h[:, 0].argmax()]


class ByComputedMask(Strange):
    def strange(self, h):
        return h + h[h > 0].sum()


class ByComputedSum(Strange):
    def strange(self, h):
        return ops.scatter_add(h, (h > 0).astype(np.int64), h, axis=1)


class GrowingState(Odd):
    def initial_state(self, batch_size):
        return self.zeros(batch_size, 1, self.units)

    def forward(self, x, seen):
        h = tanh(self.affine(x, seen.sum(1)))
        return h, concat([seen, h[:, None]], axis=1)


class StateOfOneRow(Odd):
    def initial_state(self, batch_size):
        return self.zeros(1, self.units)

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return h, h


class StateThatIsPromoted(Odd):
    def initial_state(self, batch_size):
        return self.zeros(batch_size, self.units).astype("float32")

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        return h, h


class StateOfNoAxes(Odd):
    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), self.zeros())

    def forward(self, x, state):
        h = tanh(self.affine(x, state[0]) + state[1])
        return h, (h, state[1] + h.mean())


class StateOfAPythonNumber(Odd):
    def initial_state(self, batch_size):
        return (self.zeros(batch_size, self.units), 1)

    def forward(self, x, state):
        h = tanh(self.affine(x, state[0]) / state[1])
        return h, (h, state[1] + 1)


class StateWithNone(Odd):
    def initial_state(self, batch_size):
        return {"h": self.zeros(batch_size, self.units), "nothing": None}

    def forward(self, x, state):
        h = tanh(self.affine(x, state["h"]))
        return h, {"h": h, "nothing": None}


class HiddenState(Odd):
    """It keeps what the next step reads as an attribute."""

    previous = None

    def capture(self, batch_size, draw):
        self.previous = self.zeros(batch_size, self.units)
        return {}

    def forward(self, x, h):
        h = tanh(self.affine(x, h) + self.previous)
        self.previous = h * 0.5
        return h, h


class KeepsForLater(Odd):
    """It leaves a value behind for whoever wants to look at it."""

    def forward(self, x, h):
        self.last = tanh(self.affine(x, h))
        return self.last, self.last


class CountsItsSteps(Odd):
    def capture(self, batch_size, draw):
        self.step = 0
        return {}

    def forward(self, x, h):
        self.step += 1
        h = tanh(self.affine(x, h) * self.step)
        return h, h


class Hooked(Odd):
    """It changes a gradient on its way."""

    def forward(self, x, h):
        h = tanh(self.affine(x, h))
        if h.requires_grad:
            h.register_hook(lambda g: g * 0.5)
        return h, h


class OwnDropout(Odd):
    """Masks from a generator of its own."""

    def __init__(self, inputs=I, units=H):
        super().__init__(inputs, units)
        self.drop = nn.Dropout(0.5)

    def capture(self, batch_size, draw):
        self.drop.rng = np.random.default_rng(5)
        return {}

    def forward(self, x, h):
        h = tanh(self.affine(x, self.drop(h)))
        return h, h


STRANGE: dict[str, Callable[[], nn.Cell]] = {
    "rows of a table at computed places": ByComputedRow,
    "one-hot vectors of computed places": ByComputedHot,
    "items at computed places": ByComputedItem,
    "rows in a computed order": ByComputedOrder,
    "items under a computed mask": ByComputedMask,
    "a sum into computed places": ByComputedSum,
    "a state that grows": GrowingState,
    "a first state of one row": StateOfOneRow,
    "a first state of lower precision": StateThatIsPromoted,
    "a state without axes": StateOfNoAxes,
    "a Python number as state": StateOfAPythonNumber,
    "None in the state": StateWithNone,
    "a state hidden in an attribute": HiddenState,
    "a value left in an attribute": KeepsForLater,
    "a count of the steps": CountsItsSteps,
    "a hook within": Hooked,
    "dropout with its own generator": OwnDropout,
}


# ---- random cells ----------------------------------------------------------------------------------------------------

WIDEST, SHIFT = 8, 0.0123  # the shift keeps values that are equal but for rounding away from the kinks


def fitted(a, b):
    """Two values (B, K) cut to one K, unless one of them has K = 1."""
    n = min(a.shape[1], b.shape[1])
    return (a, b) if n == 1 else (a[:, :n], b[:, :n])


def both(f):
    return lambda cell, k, a, b, c: f(*fitted(a, b))


def one(f):
    return lambda cell, k, a, b, c: f(a)


def chosen(cell, k, a, b, c):
    for _ in range(2):
        a, b = fitted(a, b)
        b, c = fitted(b, c)
        c, a = fitted(c, a)
    return where(c > SHIFT, a, b)


def product(cell, k, a, b, c):
    return a @ cell.weight(f"W{k}", a.shape[1], 3) / a.shape[1] ** 0.5


def shared_product(cell, k, a, b, c):
    """With a weight that other lines use too, or with its transpose."""
    W = cell.weight("shared", 3, 3)
    a = concat([a, a, a], axis=1)[:, :3]
    return 0.6 * (a @ (W.T if k % 2 else W))


def outer(cell, k, a, b, c):
    return (tanh(a)[:, :, None] * b[:, None, :]).sum(1)


def normed(x):
    d = x - x.mean(1, keepdims=True)
    return d / ops.sqrt((d * d).mean(1, keepdims=True) + 0.5)


def largest(x):
    return (x + 0.1 * np.arange(x.shape[1]) ** 2).max(1, keepdims=True)


OPERATIONS: dict[str, Callable] = {
    "tanh": one(tanh),
    "sigmoid": one(sigmoid),
    "relu": one(lambda a: ops.relu(a + SHIFT)),
    "neg": one(lambda a: -a),
    "abs": one(lambda a: ops.abs(a + SHIFT)),
    "softplus": one(ops.softplus),
    "erf": one(ops.erf),
    "bell": one(bell),
    "scale": one(lambda a: 0.7 * a),
    "root": one(lambda a: ops.sqrt(a * a + 0.1)),
    "square": one(lambda a: tanh(a) ** 2),
    "add": both(lambda a, b: a + 0.5 * b),
    "sub": both(lambda a, b: a - b),
    "mul": both(lambda a, b: tanh(a) * b),
    "div": both(lambda a, b: a / (1.5 + b * b)),
    "maximum": both(lambda a, b: ops.maximum(a, b + SHIFT)),
    "turn": both(lambda a, b: turned(a, b, angle=0.3)[1]),
    "where": chosen,
    "product": product,
    "another product": product,
    "shared product": shared_product,
    "bias": lambda cell, k, a, b, c: a + cell.weight(f"b{k}", a.shape[1]),
    "scalar": lambda cell, k, a, b, c: tanh(cell.weight(f"s{k}")) * a,
    "first": one(lambda a: a[:, : max(1, a.shape[1] - 1)]),
    "last": one(lambda a: a[:, -max(1, a.shape[1] - 1) :]),
    "every other": one(lambda a: a[:, ::2]),
    "flip": one(lambda a: ops.flip(a, 1)),
    "concat": lambda cell, k, a, b, c: concat([a, b], axis=1)[:, :WIDEST],
    "sum": one(lambda a: 0.5 * a.sum(1, keepdims=True)),
    "mean": one(lambda a: a.mean(1, keepdims=True)),
    "max": one(largest),
    "logsumexp": one(lambda a: ops.logsumexp(a, 1, keepdims=True)),
    "softmax": one(lambda a: ops.softmax(a, 1)),
    "cumsum": one(lambda a: 0.5 * ops.cumsum(a, 1)),
    "norm": one(normed),
    "outer": outer,
    "permute": one(lambda a: ops.stack([a, 2 * a], axis=2).permute(0, 2, 1).reshape(a.shape[0], -1)[:, 1:WIDEST]),
    "batch mean": one(lambda a: a - a.mean(0)),
    "detach": one(lambda a: a.detach() * 1.5),
}


class Line(NamedTuple):
    """One operation of a random step, and the values it reads: the first is a recent one."""

    operation: str
    a: int
    b: int
    c: int


class RandomCell(nn.Cell):
    """A step of random operations on x and the states; y and the new states are recent values, made (B, H)."""

    def __init__(self, lines, results):
        self.lines, self.results = tuple(lines), tuple(results)
        self.weight("shared", 3, 3)
        with tg.no_grad():  # it makes the other weights
            self(tg.zeros(1, I), self.initial_state(1))

    def weight(self, name, *shape):
        if name not in vars(self):
            setattr(self, name, nn.Parameter(tg.zeros(shape)))
        return getattr(self, name)

    def initial_state(self, batch_size):
        return tuple(self.zeros(batch_size, H) for _ in self.results[1:])

    def forward(self, x, state):
        values = [*state, x]
        for k, (name, a, b, c) in enumerate(self.lines):
            read = values[-1 - a % 3 % len(values)], values[b % len(values)], values[c % len(values)]
            values.append(OPERATIONS[name](self, k, *read))
        y, *new = (concat([v] * H, axis=1)[:, :H] for v in (values[-1 - i % len(values)] for i in self.results))
        return y, tuple(0.8 * h if i % 2 else tanh(h) for i, h in enumerate(new))


places = st.integers(0, 17)
line = st.builds(Line, st.sampled_from(sorted(OPERATIONS)), places, places, places)
several_lines = st.integers(3, 15).flatmap(lambda n: st.lists(line, min_size=n, max_size=n))
random_cells = st.builds(RandomCell, several_lines, st.lists(st.integers(0, 4), min_size=2, max_size=4))
