"""What is imported by the name that a module had before it stood in a room is what it is now."""

import importlib
import subprocess
import sys

import pytest

import tinygrad_rnn as tg

from tinygrad_rnn.moved import MOVED

THEN = [
    ("checkpoint", "load_checkpoint"), ("train", "RunFolder"), ("train", "Trainer"), ("lm", "LanguageModel"),
    ("seq2seq", "Translator"), ("tensor", "Tensor"), ("tensor", "no_grad"), ("primitive", "Primitive"),
    ("backend", "xp"), ("backend", "default_device"), ("graph", "Node"), ("nest", "leaves"), ("batches", "padded"),
    ("random", "manual_seed"), ("gradcheck", "gradcheck"), ("nn.variants", "irnn_cell"), ("nn.wrappers", "ZoneoutCell"),
    ("nn.decoder", "AttentionCell"), ("nn.seq2seq", "EncoderDecoder"), ("nn.compiled", "circuit"),
]  # fmt: skip


@pytest.mark.parametrize("former", MOVED)
def test_each_module_is_where_the_table_says(former):
    for name in MOVED[former]:
        importlib.import_module(f"tinygrad_rnn.{name}")


@pytest.mark.parametrize("former, name", THEN, ids=".".join)
def test_what_was_imported_still_is(former, name):
    scope = {}
    exec(f"from tinygrad_rnn.{former} import {name}", scope)
    homes = [importlib.import_module(f"tinygrad_rnn.{module}") for module in MOVED[former]]
    assert scope[name] is next(getattr(home, name) for home in homes if hasattr(home, name))


def test_modules_are_still_attributes_unless_functions_have_their_names():
    assert tg.nest.leaves((1, 2)) == [1, 2] and tg.lm.LanguageModel and callable(tg.tensor) and callable(tg.primitive)
    with pytest.raises(AttributeError, match="has no attribute 'x'; it has moved to tinygrad_rnn"):
        tg.lm.x  # noqa: B018


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, tinygrad_rnn; print(any('tinygrad_rnn.tasks' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
