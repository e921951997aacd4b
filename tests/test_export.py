"""A model's step as C: compiled by a C compiler, it computes what the library computes."""

import shutil
import subprocess

from typing import NamedTuple

import numpy as np
import pytest

from cells import CELLS

import tinygrad_rnn as tg

from tinygrad_rnn import export, nn, ops
from tinygrad_rnn.tasks.language_model import LanguageModel

I, H = 5, 7
STRICT = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic"]
BOUNDS = [
    "-fsanitize=bounds",
    "-fsanitize-undefined-trap-on-error",
]  # what is read outside an array may be right by luck
compiles = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")


class Odd(nn.Cell):
    """Operations that the library's cells lack: views, masks, joined parts, a state that moves on, names of C's."""

    def __init__(self, input_size, hidden_size):
        self.input_size, self.hidden_size = input_size, hidden_size
        self.double = nn.Parameter(nn.init.normal((input_size, hidden_size)))
        self.int = nn.Parameter(nn.init.normal((3 * hidden_size, hidden_size), 0.3))

    def initial_state(self, batch_size):
        return {"now": self.zeros(batch_size, self.hidden_size) + 0.5, "past": self.zeros(batch_size, self.hidden_size)}

    def forward(self, x, state):
        j = x @ self.double
        k = ops.concat([j, state["now"], state["past"]], 1) @ self.int
        gate = ops.where(k > state["past"], ops.clip(k, -0.4, 0.6), ops.softplus(j))
        rows = ops.stack([gate, ops.abs(k) ** 1.5], axis=1)
        exp = rows.max(1) - rows.min(2).sum(1, keepdims=True) * (k >= 0) + ops.minimum(ops.erf(j), ops.sign(k))
        new = ops.tanh(
            exp.reshape(self.hidden_size, 1).permute((1, 0))[:, ::-1] - ops.logical_not(j > k) + ops.log(2 + k * k)
        )
        new = new - (k - (j + new)) / (2 * (1 + k * k))
        return -new, {"now": new, "past": state["now"]}


MORE = {
    "peephole": lambda: nn.PeepholeLSTMCell(I, H),
    "coupled": lambda: nn.CoupledLSTMCell(I, H),
    "layer-norm LSTM": lambda: nn.LayerNormLSTMCell(I, H),
    "projected": lambda: nn.ProjectedLSTMCell(I, H, 3),
    "MGU of the library": lambda: nn.MGUCell(I, H),
    "IndRNN": lambda: nn.IndRNNCell(I, H),
    "two biases": lambda: nn.LSTMCell(I, H, biases=2),
    "residual": lambda: nn.ResidualCell(nn.GRUCell(I, I)),
    "odd": lambda: Odd(I, H),
    "one unit": lambda: nn.Stack([nn.LSTMCell(1, 1), nn.GRUCell(1, 1)]),
}
EVERY = {**{name: case.make for name, case in CELLS.items()}, **MORE}


class Built(NamedTuple):
    source: str
    run: object  # lines of input -> an array, a row for each line


def built(module, folder, **options):
    path = folder / "net.c"
    export.c(module, path, **options)
    subprocess.run(["cc", *STRICT, *BOUNDS, str(path), "-o", str(folder / "net"), "-lm"], check=True)

    def run(lines):
        text = "\n".join(lines) + "\n"
        done = subprocess.run([str(folder / "net")], input=text, capture_output=True, text=True, check=True)
        return np.array([[float(n) for n in line.split()] for line in done.stdout.splitlines()])

    return Built(path.read_text(encoding="utf-8"), run)


def lines(xs):
    return [" ".join(map(str, x)) for x in xs]


def stirred(module):
    """With weights that nobody would start from: biases and peepholes that are not 0."""
    for p in module.parameters():
        p.data = p.numpy() + 0.3 * np.random.default_rng(p.size).normal(size=p.shape)
    return module


@compiles
@pytest.mark.parametrize("name", EVERY)
def test_a_cell_in_c_computes_what_the_library_does(name, tmp_path):
    tg.manual_seed(3)
    cell = stirred(EVERY[name]())
    size = next((m.input_size for m in cell.modules() if hasattr(m, "input_size")), 2)
    xs = np.random.default_rng(1).normal(size=(6, 1, size)).astype(np.float32)
    with tg.no_grad():
        expected = nn.Recurrent(cell, engine="eager")(xs)[0].numpy()[:, 0]
    net = built(nn.Recurrent(cell), tmp_path, example=np.zeros(size, np.float32))
    np.testing.assert_allclose(net.run(lines(xs[:, 0])), expected, rtol=1e-5, atol=1e-5)
    assert "alloc" not in net.source


@compiles
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_list_of_layers_is_one_step(dtype, tmp_path):
    tg.manual_seed(0)
    parts = [
        nn.Embedding(9, 4),
        nn.Recurrent(nn.Stack([nn.GRUCell(4, 6), nn.LSTMCell(6, 5)]), engine="eager"),
        nn.Linear(5, 9),
    ]
    embedding, rnn, output = (stirred(p.to(dtype)) for p in parts)
    ids = np.array([3, 0, 8, 8, 1])
    with tg.no_grad():
        expected = output(rnn(embedding(ids[:, None]))[0]).numpy()[:, 0]
    got = built(parts, tmp_path).run(map(str, ids))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@compiles
def test_what_the_code_calls_its_values_they_are_called_in_c(tmp_path):
    source = built(nn.GRUCell(I, H), tmp_path).source
    assert "n[j] = tanhf(xU[14 + j] + " in source and "h[j] = (1.0f - z[j]) * state->h[j] + z[j] * n[j];" in source
    assert "/* (1 - z) * h + z * n, GRUCell.forward:" in source
    assert "void net_step(net_state *state, const float *x, float *y) {" in source


@compiles
@pytest.mark.parametrize("text, said", [("9\n", "an id must be from 0 to 8"), ("-1", "an id"), ("x", "an id")])
def test_a_program_refuses_what_is_no_id(text, said, tmp_path):
    built([nn.Embedding(9, 4), nn.GRUCell(4, 6)], tmp_path)
    done = subprocess.run([str(tmp_path / "net")], input=text, capture_output=True, text=True)
    assert done.returncode == 1 and said in done.stderr and not done.stdout


class Unread(nn.Cell):
    input_size = 6

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 2)

    def forward(self, x, h):
        first, _unread, last = ops.chunk(x, 3, axis=1)
        h = ops.tanh(first + h) * last
        return h, h


def test_parts_of_which_one_is_not_read_have_no_names(tmp_path):
    export.c(Unread(), tmp_path / "net.c")
    source = (tmp_path / "net.c").read_text(encoding="utf-8")
    assert "h[j] = tanhf(x[j] + state->h[j]) * x[4 + j];" in source


# ---- refused --------------------------------------------------------------------------------------------------------


class Soft(nn.Cell):
    input_size = 2

    def initial_state(self, batch_size):
        return self.zeros(batch_size, 2)

    def forward(self, x, h):
        h = ops.softmax(x + h)
        return h, h


class Gathered(Soft):
    def forward(self, x, h):
        h = x[:, [1, 0, 1, 1]][:, :2] * x[:, [0, 0]] + h
        return h, h


class MasksAdded(Soft):
    def forward(self, x, h):
        h = h * ((x > 0) + (x > h))
        return h, h


class Counting(Soft):
    def initial_state(self, batch_size):
        return tg.tensor(np.zeros((batch_size, 1), np.int64))

    def forward(self, x, n):
        return x, n + 1


REFUSED = {
    "an op": (lambda: Soft(), ValueError, r"no form for softmax, in Soft\.forward, line \d+$"),
    "elements in no order": (lambda: Gathered(), ValueError, r"no form for getitem, in Gathered\.forward"),
    "masks that are added": (lambda: MasksAdded(), ValueError, "no form for add, in MasksAdded"),
    "whole numbers": (lambda: Counting(), ValueError, "no form for .* of int64"),
    "dropout": (lambda: LanguageModel(5, 3, nn.GRUCell(3, 4), 4, dropout=0.5), ValueError, r"call \.eval\(\) first"),
    "backwards": (lambda: nn.Recurrent(nn.GRUCell(3, 4), reverse=True), ValueError, "reverse=True"),
    "no model": (lambda: nn.Linear(2, 3), TypeError, "module must be a cell.* got Linear"),
    "a list of others": (lambda: [nn.Linear(2, 3), nn.GRUCell(3, 4)], TypeError, r"got \[Linear, GRUCell\]"),
    "no features": (lambda: nn.GRUCell(0, 4), ValueError, r"of shape \(1, 0\)"),
    "no size": (CELLS["MGU"].make, ValueError, "pass an example"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_in_c_is_refused_in_one_line(name, tmp_path):
    make, error, says = REFUSED[name]
    with pytest.raises(error, match=says) as caught:
        tg.export.c(make(), tmp_path / "net.c")
    assert str(caught.value).startswith("export.c: ") and "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]
