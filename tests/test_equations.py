"""A circuit's equations: what they say is what the cell computes, and as textbooks write it."""

import re

import numpy as np
import pytest

from cells import CELLS, I

import tinygrad_rnn as tg

from tinygrad_rnn import nn, ops

TEXTBOOK = {
    "RNN": (lambda: nn.RNNCell(2, 3), "hₜ = tanh(U xₜ + W hₜ₋₁ + b)"),
    "LSTM": (
        lambda: nn.LSTMCell(2, 3),
        """fₜ = σ(U_f xₜ + W_f hₜ₋₁ + b_f)
iₜ = σ(U_i xₜ + W_i hₜ₋₁ + b_i)
gₜ = tanh(U_g xₜ + W_g hₜ₋₁ + b_g)
cₜ = fₜ ⊙ cₜ₋₁ + iₜ ⊙ gₜ
oₜ = σ(U_o xₜ + W_o hₜ₋₁ + b_o)
hₜ = oₜ ⊙ tanh(cₜ)""",
    ),
    "GRU": (
        lambda: nn.GRUCell(2, 3),
        """zₜ = σ(U_z xₜ + b_z + W_z hₜ₋₁)
rₜ = σ(U_r xₜ + b_r + W_r hₜ₋₁)
nₜ = tanh(U_n xₜ + b_n + W_n (rₜ ⊙ hₜ₋₁))
hₜ = (1 − zₜ) ⊙ hₜ₋₁ + zₜ ⊙ nₜ""",
    ),
    "layer norm": (
        lambda: nn.LayerNormLSTMCell(2, 3),
        """iₜ = LN_x,i(U xₜ) + LN_h,i(W hₜ₋₁) + b_i
fₜ = LN_x,f(U xₜ) + LN_h,f(W hₜ₋₁) + b_f
gₜ = LN_x,g(U xₜ) + LN_h,g(W hₜ₋₁) + b_g
oₜ = LN_x,o(U xₜ) + LN_h,o(W hₜ₋₁) + b_o
cₜ = σ(fₜ) ⊙ cₜ₋₁ + σ(iₜ) ⊙ tanh(gₜ)
hₜ = σ(oₜ) ⊙ tanh(LN_c(cₜ))""",
    ),
}


@pytest.mark.parametrize(("make", "expected"), TEXTBOOK.values(), ids=TEXTBOOK)
def test_they_read_as_in_a_textbook(make, expected):
    assert tg.circuit(make(), tg.zeros(2, 2)).equations() == expected


def test_weights_in_a_list_have_their_number():
    class Listed(nn.Cell):
        def __init__(self):
            self.U = [nn.Parameter(np.ones((2, 3))) for _ in range(2)]

        def initial_state(self, batch_size):
            return self.zeros(batch_size, 3)

        def forward(self, x, h):
            h = ops.tanh(x @ self.U[0]) + h * ops.sigmoid(x @ self.U[1])
            return h, h

    assert tg.circuit(Listed(), tg.zeros(1, 2)).equations() == "hₜ = tanh(U_0 xₜ) + hₜ₋₁ ⊙ σ(U_1 xₜ)"


class Turns(nn.Cell):
    """The same name again and again, and a function that reads what it is given twice, n times."""

    def __init__(self, n):
        self.n, self.W = n, nn.Parameter(np.random.default_rng(0).standard_normal((3, 3)))

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 3).astype("float64")

    def forward(self, x, h):
        for _ in range(self.n):
            h = h + 0.1 * ops.tanh(x + h @ self.W) * (1 - h)
        return h, swish(self.n, h)


def swish(n, x):
    return swish(n - 1, x * ops.sigmoid(x)) if n else x


def test_what_is_read_several_times_is_written_once():
    assert tg.circuit(Turns(2), tg.zeros(1, 3)).equations().splitlines()[:2] == [
        "v_1ₜ = hₜ₋₁ + 0.1 tanh(xₜ + W hₜ₋₁) ⊙ (1 − hₜ₋₁)",
        "yₜ   = v_1ₜ + 0.1 tanh(xₜ + W v_1ₜ) ⊙ (1 − v_1ₜ)",
    ]
    few, many = (len(tg.circuit(Turns(n), tg.zeros(1, 3)).equations()) for n in (10, 20))
    assert many < 2.2 * few < 4000


class Said(nn.Cell):
    def __init__(self, step):
        self.W, self.b = nn.Parameter(np.ones((2, 2, 3, 3))), nn.Parameter(np.ones(2))
        self.step = step

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 2).astype("float64")

    def forward(self, x, h):
        h = self.step(self, x, h)
        return h, h


SAID = {
    "numbers below zero": (
        lambda s, x, h: h - (-2.0) * x + (-3.0), "hₜ₋₁ − (−2) xₜ + (−3)", "h_{t-1} - (-2) x_{t} + (-3)"
    ),
    "a sign behind another": (
        lambda s, x, h: h + -ops.softplus(x), "hₜ₋₁ + (−softplus(xₜ))",
        r"h_{t-1} + (-\operatorname{softplus}(x_{t}))",
    ),
    "turned twice": (lambda s, x, h: h + x.T.T, "hₜ₋₁ + (xₜᵀ)ᵀ", r"h_{t-1} + (x_{t}^\top)^\top"),
    "a power of what is turned": (
        lambda s, x, h: h + ((x.T) ** 2).T, "hₜ₋₁ + ((xₜᵀ)²)ᵀ", r"h_{t-1} + ((x_{t}^\top)^{2})^\top"
    ),
    "bounds": (
        lambda s, x, h: ops.clip(h, -1, 2) + x, "clip(hₜ₋₁, min=−1, max=2) + xₜ",
        r"\operatorname{clip}(h_{t-1}, \mathrm{min}=-1, \mathrm{max}=2) + x_{t}",
    ),
    "an axis": (
        lambda s, x, h: h + ops.softmax(x, 0), "hₜ₋₁ + softmax(xₜ, axis=0)",
        r"h_{t-1} + \operatorname{softmax}(x_{t}, \mathrm{axis}=0)",
    ),
    "a weight as long as the batch": (
        lambda s, x, h: h + x @ s.W.reshape(2, 18)[:, :2], "hₜ₋₁ + reshape(W, (2, 18))[:, 0:2] xₜ",
        r"h_{t-1} + \operatorname{reshape}(W, (2, 18))[:, 0:2] x_{t}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_stands_there_says_all_and_is_latex(name):
    step, unicode, latex = SAID[name]
    c = tg.circuit(Said(step), tg.zeros(2, 2))
    assert c.equations() == f"hₜ = {unicode}"
    assert c.equations("latex").splitlines()[1] == f"  h_{{t}} &= {latex}"


def test_a_convolution_says_what_it_does_at_the_margins():
    class Images(Said):
        def initial_state(self, batch_size):
            return self.zeros(batch_size, 2, 4, 4).astype("float64")

    cell = Images(lambda s, x, h: ops.conv2d(x, s.W, s.b, padding=1) + h)
    assert tg.circuit(cell, tg.zeros(2, 2, 4, 4)).equations() == (
        "hₜ = convolve(xₜ, reshape(W, (2, 18))ᵀ, padding=((1, 1), (1, 1))) + reshape(b, (2, 1, 1)) + hₜ₋₁"
    )


def test_a_state_that_stays_is_a_constant():
    class Kept(nn.Cell):
        def initial_state(self, batch_size):
            return {"h": self.zeros(batch_size, 3), "k": self.zeros(batch_size, 3)}

        def forward(self, x, state):
            h = ops.tanh(state["h"] + x * state["k"])
            return h, {"h": h, "k": state["k"]}

    assert tg.circuit(Kept(), tg.zeros(2, 3)).equations() == "hₜ = tanh(hₜ₋₁ + xₜ ⊙ k)"


def test_latex_has_the_same_lines():
    text = tg.circuit(nn.LSTMCell(2, 3), tg.zeros(1, 2)).equations("latex")
    lines = text.splitlines()
    assert lines[0] == r"\begin{aligned}" and lines[-1] == r"\end{aligned}" and len(lines) == 8
    assert lines[1] == r"  f_{t} &= \sigma(U_{f} x_{t} + W_{f} h_{t-1} + b_{f}) \\"
    assert lines[4] == r"  c_{t} &= f_{t} \odot c_{t-1} + i_{t} \odot g_{t} \\" and "\\\\" not in lines[6]


# ---- are they true? -------------------------------------------------------------------------------------------------


class Reading:
    """Computes equations: a product without a sign is W x, which is x @ W, or a number times something."""

    FUNCTIONS = {
        "σ": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0), "exp": np.exp,
        "√": np.sqrt, "log": np.log, "sin": np.sin, "abs": np.abs,
    }  # fmt: skip

    def __init__(self, text, values):
        kinds = r"\[[\d:, ]+\]", "[⁰¹²³⁴⁵⁶⁷⁸⁹]+", r"\d[\d.e-]*", r"(?:[^\W⁰¹²³⁴⁵⁶⁷⁸⁹]|√)+[ₜ₋₁]*", r"[^\s\w]"
        self.tokens, self.values = re.findall("|".join(kinds), text), values

    def peek(self):
        return self.tokens[0] if self.tokens else ""

    def sum(self):
        x = -self.product() if self.take("−") else self.product()
        while self.peek() in ("+", "−"):
            sign = 1 if self.tokens.pop(0) == "+" else -1
            x = x + sign * self.product()
        return x

    def take(self, token):
        return self.tokens.pop(0) if self.peek() == token else None

    def product(self):
        x = self.beside()
        while self.peek() in ("⊙", "/"):
            x = x * self.beside() if self.tokens.pop(0) == "⊙" else x / self.beside()
        return x

    def beside(self):
        x = self.factor()
        if self.peek() and self.peek() not in ("+", "−", "⊙", "/", ")"):
            y = self.beside()
            return y * x if np.ndim(x) == 0 else y @ x
        return x

    def factor(self):
        token = self.tokens.pop(0)
        if token == "(":
            x = self.sum()
            assert self.tokens.pop(0) == ")"
        elif token in self.FUNCTIONS:
            assert self.tokens.pop(0) == "("
            x = self.FUNCTIONS[token](self.sum())
            assert self.tokens.pop(0) == ")"
        else:
            x = float(token) if token[0].isdigit() else self.values[token]
        while self.peek().startswith("["):
            key = [slice(*(int(n) if n else None for n in k.split(":"))) for k in self.tokens.pop(0)[1:-1].split(",")]
            x = x[(..., *key) if "ₜ" in token else tuple(key)]  # of what moves there is a row for each sequence
        if self.peek() and self.peek()[0] in "⁰¹²³⁴⁵⁶⁷⁸⁹":
            x = x ** int(self.tokens.pop(0).translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")))
        return x


class Parts(nn.Cell):
    """Columns of the input and of what was computed; numbers, powers, quotients, signs; nothing has a gate's form."""

    def __init__(self):
        draw = lambda *shape: nn.Parameter(np.random.default_rng(len(shape)).standard_normal(shape))
        self.W, self.V, self.b = draw(2, 6), draw(3, 4), draw(6)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 3).astype("float64")

    def forward(self, x, h):
        wide = x[:, :2] @ self.W + self.b
        left, right = wide[:, :3], wide[:, 3:]
        new = ops.tanh(left - (h - right)) * 2 + -(h**2) / (1 + right * right)
        low = (new[:, :2] @ self.V[:2])[:, 1:] - new
        return low, new * 0.5 - (new - low)


class Own(nn.Cell):
    """With weights W and U (3, 6), and a state (B, 3)."""

    def __init__(self):
        draw = lambda n: nn.Parameter(np.random.default_rng(n).standard_normal((3, 6)))
        self.W, self.U = draw(1), draw(2)

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 3).astype("float64")


class Gated(Own):
    def forward(self, x, h):
        z = x @ self.W + h @ self.U
        return h, z[:, :3] * ops.sigmoid(z[:, 3:])


class Crossed(Own):
    def forward(self, x, h):
        a, b = x @ self.W, h @ self.U
        return h, ops.tanh(a[:, :3] + b[:, 3:]) * ops.sigmoid(a[:, 3:] + b[:, :3])


class Powers(Own):
    def forward(self, x, h):
        return h, ((x**2) ** 3 - (x / (1 + h * h)) ** 2) * 0.123456789 - (x - h) ** 2 / (2 / (1 + x * x))


class SameNames(Own):
    def forward(self, x, h):
        x = ops.tanh(x * 2)
        h = h * x
        new = x - h
        return new, new + x


class TwoStates(Own):
    def initial_state(self, batch_size):
        return super().initial_state(batch_size), super().initial_state(batch_size)

    def forward(self, x, state):
        h, c = state
        a = x * c
        return h, (a - h, a)


OWN = {"gated": Gated, "crossed": Crossed, "powers": Powers, "same names": SameNames, "two states": TwoStates}
ORDER = {"LSTM": "ifgo", "LSTM without output gate": "ifg", "GRU": "zrn", "GRU reset after": "zrn"}
TRUE = {
    name: case.make
    for name, case in CELLS.items()
    if name not in ("Stack of LSTM and GRU", "nested state", "layer norm")
}
TRUE |= OWN | {"turns": lambda: Turns(4), "parts": Parts, "IndRNN": lambda: nn.IndRNNCell(I, 3)}


@pytest.mark.parametrize("name", TRUE)
def test_what_they_say_is_what_the_cell_computes(name):
    tg.manual_seed(0)
    cell = TRUE[name]().to("float64")
    for p in cell.parameters():
        p.data = np.random.default_rng(p.size).standard_normal(p.shape)
    x = np.random.default_rng(1).standard_normal((4, 3 if name in ("parts", "turns", *OWN) else I))
    state, equations = cell.initial_state(4), tg.circuit(cell, tg.tensor(np.zeros((4, len(x[0]))))).equations()
    if isinstance(state, tg.Tensor):
        leaves = {re.search(r"(\w+)ₜ₋₁", equations)[1]: state}
    else:
        leaves = state._asdict() if hasattr(state, "_asdict") else dict(zip(("h", "a"), state, strict=True))
    values = {"xₜ": x}
    for n, (key, s) in enumerate(leaves.items()):
        values[f"{key}ₜ₋₁"] = np.random.default_rng(n + 5).standard_normal(s.shape)
    for path, p in cell.named_parameters():
        values[path] = p.numpy()
        for part, columns in (("left", slice(0, 3)), ("right", slice(3, 6))) if name == "parts" else ():
            values[f"{path}_{part}"] = p.numpy()[..., columns]
        for i, gate in enumerate(ORDER.get(name, "")):
            H = values[f"{next(iter(leaves))}ₜ₋₁"].shape[-1]
            values[f"{path}_{gate}"] = p.numpy()[..., i * H : (i + 1) * H]
    for line in equations.splitlines():
        left, right = line.split(" = ", 1)
        reading = Reading(right, values)
        values[left.strip()] = reading.sum()
        assert not reading.tokens, line
    given = [tg.tensor(values[f"{key}ₜ₋₁"]) for key in leaves]
    made = given[0] if len(given) == 1 else type(state)(*given) if hasattr(state, "_asdict") else tuple(given)
    _, new = cell(tg.tensor(x), made)
    for key, s in zip(leaves, [new] if isinstance(new, tg.Tensor) else new, strict=True):
        np.testing.assert_allclose(values[f"{key}ₜ"], s.numpy(), 1e-12, err_msg=key)


def test_several_cells_are_refused_and_so_is_another_form():
    stack = nn.Stack([nn.GRUCell(2, 3), nn.LSTMCell(3, 3)])
    with pytest.raises(ValueError, match=r"^equations: there must be one cell, there are several with a weight 'U'"):
        tg.circuit(stack, tg.zeros(1, 2)).equations()
    with pytest.raises(ValueError, match=r'^equations: form must be "unicode" or "latex", got \'html\''):
        tg.circuit(nn.GRUCell(2, 3), tg.zeros(1, 2)).equations("html")
