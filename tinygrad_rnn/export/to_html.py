"""A language model as a page: it writes text in any browser, by machine code of WebAssembly within the page."""

from __future__ import annotations

import base64
import html as entities
import importlib.util
import json
import subprocess
import sys

from collections.abc import Sequence
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tinygrad_rnn.export.to_c import source
from tinygrad_rnn.files import write_atomically

NAME = "model"
# What the page calls: it has one state
DOOR = """
static ${name}_state page_state;
static $real page_output[$out];

__attribute__((export_name("begin"))) void page_begin(void) { ${name}_reset(&page_state); }

/* Where the logits of the next token lie, once it has read one more. */
__attribute__((export_name("read"))) $real *page_read(int id) {
  int64_t x = id;
  ${name}_step(&page_state, &x, page_output);
  return page_output;
}
"""
COMPILER = ["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-O3", "-ffp-contract=off"]
COMPILER += [f"-D{NAME}_NO_MAIN", "-Wl,--strip-all"]


def html(
    module: Any, file: str | Path, tokens: Sequence[str], *, title: str = "A language model", about: str = "",
    prompt: str = "", weights: str = "float32",
) -> None:  # fmt: skip
    """Write a language model of letters as one page, which needs nothing else and sends nothing anywhere.

    module: as for `export.c`: it reads ids and gives the logits of the next token; recorded for one sequence
    tokens: the letter of each id  title, about, prompt: what the page says, and the beginning that it shows
    weights: "int8" makes the page a quarter as large; see `export.c`

    Its machine code is compiled from C by Zig's compiler (the extra "web"): RuntimeError without it. ValueError if an
    operation has no form in C.
    """
    if any(len(token) != 1 for token in tokens):
        wrong = next(token for token in tokens if len(token) != 1)
        raise ValueError(f"export.html: tokens must be single letters, got {wrong!r}; a page has no other tokenizer")
    made = source(module, np.zeros((1, 1), np.int64), NAME, weights=weights, who="export.html")
    for n, what in (made.out, "logits"), (made.ids, "ids"):
        if n != len(tokens):
            raise ValueError(f"export.html: there must be a token for each of {n} {what}, got {len(tokens)}")
    door = Template(DOOR).substitute(name=NAME, real=made.type, out=made.out)
    text = Template((Path(__file__).parent / "assets" / "page.html").read_text(encoding="utf-8")).substitute(
        title=entities.escape(title), about=entities.escape(about), prompt=entities.escape(prompt),
        tokens=json.dumps(list(tokens)).replace("<", "\\u003c"),
        wasm=base64.b64encode(_compiled(made.text + door)).decode(),
        real="Float64Array" if made.type == "double" else "Float32Array",
    )  # fmt: skip
    write_atomically(Path(file), text)


def _compiled(text: str) -> bytes:
    """C as WebAssembly."""
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError('export.html: ziglang is not installed; pip install "tinygrad-rnn[web]"')
    with TemporaryDirectory() as folder:
        path, to = Path(folder, f"{NAME}.c"), Path(folder, f"{NAME}.wasm")
        path.write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, *COMPILER, "-o", str(to), str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"export.html: the compiler failed: {done.stderr.strip().splitlines()[-1:]}")
        return to.read_bytes()
