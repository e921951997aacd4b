"""The page of error messages: each is raised here as a newcomer would meet it, and the page says what it says."""

import re
import sys

from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
import viz

from tinygrad_rnn import nn, ops
from tinygrad_rnn.autograd.devices import load_cupy
from tinygrad_rnn.cli.main import main

PAGE = Path(__file__).parent.parent / "docs" / "troubleshooting.md"
XS = np.zeros((5, 2, 3), np.float32)


class Reading(nn.RNNCell):
    def forward(self, x, h):
        return super().forward(x * 2 if h.sum() > 0 else x, h)


class Drawing(nn.RNNCell):
    def forward(self, x, h):
        return super().forward(x + np.random.default_rng().random(3, np.float32), h)


class Single(nn.RNNCell):
    def forward(self, x, h):
        return super().forward(x, h)[0]


class Plain(nn.Module):
    def __init__(self):
        self.W = tg.tensor(np.eye(3, dtype="f"), requires_grad=True)


def twice():
    loss = nn.Linear(3, 1)(tg.tensor(XS)).sum()
    loss.backward()
    loss.backward()


def in_place():
    w = nn.Linear(3, 1).W
    w -= 0.1 * w


def drawn_after_backward():
    loss = nn.Linear(3, 1)(tg.tensor(XS)).sum()
    loss.backward()
    viz.draw(loss, gradient=True)


def read_by_numpy():
    np.asarray(nn.Linear(3, 1).W)


def inverted():
    np.linalg.inv(nn.Linear(3, 3).W)


CALLS = [  # in the order of the page
    lambda: nn.LSTM(3, 4)(XS[0]),
    lambda: nn.LSTM(3, 4)(np.zeros((5, 2, 7), np.float32)),
    lambda: nn.LSTM(3, 4)(XS, tg.zeros(1, 2, 4)),
    lambda: nn.GRU(3, 4)(XS, tg.zeros(1, 7, 4)),
    lambda: nn.GRU(3, 4)(XS, lengths=[5, 9]),
    lambda: nn.LSTM(3, 4, batch_first=True),
    lambda: nn.Linear(3, 4)(tg.zeros(5, 7)),
    lambda: tg.ones(3, 3) @ tg.ones(4, 4),
    lambda: nn.Recurrent(nn.LSTMCell),
    lambda: nn.Recurrent(Single(3, 4))(XS),
    Plain,
    lambda: nn.Recurrent(Reading(3, 4))(XS),
    lambda: nn.Recurrent(Drawing(3, 4), engine="numpy")(XS),
    lambda: nn.Embedding(9, 4)(np.array([9])),
    lambda: nn.Embedding(9, 4)(np.array([1.0])),
    lambda: nn.cross_entropy(tg.zeros(5, 2, 9), np.zeros(5, int)),
    lambda: nn.mse_loss(tg.zeros(5, 2), tg.zeros(5, 1)),
    lambda: nn.Linear(3, 1)(tg.tensor(XS)).backward(),
    lambda: tg.zeros(3).sum().backward(),
    twice,
    in_place,
    lambda: tg.zeros(3).__setitem__(0, 1.0),
    read_by_numpy,
    inverted,
    lambda: tg.gradcheck(ops.tanh, tg.ones(3)),
    load_cupy,
    lambda: viz.draw(tg.ones(3)),
    drawn_after_backward,
]
COMMANDS = [
    "train lm --out full",
    "train lm --cell my_cells:MGU --out new",
    "sample nowhere",
    "train lm --text text.txt --out new",
    "train seq2seq --pairs pairs.tsv --out new",
]
MESSAGES = re.findall(r"```text\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def says(message):
    return re.escape(message).replace("…", ".*") + "$"


def test_all_messages_of_the_page_are_raised_here():
    assert len(MESSAGES) == len(CALLS) + len(COMMANDS) >= 25


@pytest.mark.parametrize(("message", "call"), [*zip(MESSAGES, CALLS, strict=False)])
def test_a_call_raises_what_the_page_says(message, call, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises((ValueError, TypeError, RuntimeError, IndexError)) as raised:
        call()
    said = str(raised.value)
    assert re.match(says(message), said)


@pytest.mark.parametrize(("message", "command"), [*zip(MESSAGES[len(CALLS) :], COMMANDS, strict=True)])
def test_a_command_says_what_the_page_says(message, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_cells", raising=False)  # of another test
    (tmp_path / "full").mkdir()
    for name, text in (("full/note", "mine"), ("text.txt", "short"), ("pairs.tsv", "a b\n")):
        (tmp_path / name).write_text(text)
    assert main(command.split()) == 2
    assert re.match("tinygrad-rnn: " + says(message), capsys.readouterr().err.strip())
