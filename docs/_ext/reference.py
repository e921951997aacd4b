"""The reference: a page for each public module, made of `__all__`, and docstrings of plain text as reStructuredText."""

import ast
import importlib
import inspect
import re
import sys

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

from tinygrad_rnn import nn

PARTS = ["ops", "nn", "nn.init", "optim", "data", "decode", "metrics", "tasks", "parallel"]
PARTS += ["export", "torch_weights", "keras_weights"]
MODULES = ["tinygrad_rnn", *(f"tinygrad_rnn.{part}" for part in PARTS), "viz"]
TITLES = {
    "rnn": "Layers over time",
    "ctc": "CTC",
    "to_c": "C",
    "to_html": "A page",
    "to_onnx": "ONNX",
    "world": "A run",
}
TITLES |= {"fit": "Training", "found": "Hypotheses", "beam": "Beam search", "one_each": "One token at a time"}
WIDTH = 106  # a line that ends before was ended on purpose
LABEL = re.compile(r"((?:[^\W\d][\w.]*|\d)(?:, [^\W\d]\w*)*)(?:: +|  +)(?=\S)")
COLUMNS = re.compile(r"\S {4,}(?![^\W\d]\w*: )\S")  # equations beside each other


# ---- docstrings -----------------------------------------------------------------------------------------------------


def inline(text: str) -> str:
    """A line of plain text, in which nothing but `code` means anything."""
    parts = re.split(r"(`[^`]+`)", text)
    plain = (re.sub(r"([\\*_|`<]|:(?=:))", r"\\\1", part) for part in parts[::2])
    code = [f"``{part[1:-1]}``" for part in parts[1::2]] + [""]
    words = "".join(a + ("\\ " * bool(a and b) + b + "\\ ") * bool(b) for a, b in zip(plain, code, strict=True))
    return words.removesuffix("\\ ")


def lines_of(paragraph: list[str]) -> list[str]:
    """The lines of a paragraph as they were meant: those that ended for want of room are joined."""
    found: list[str] = []
    before = ""
    for line in paragraph:
        full = len(before) + len(line.split()[0]) >= WIDTH
        if before and (line.startswith(" ") or (full and not LABEL.match(line))):
            found[-1] += " " + line.strip()
        else:
            found += re.split(r"  +(?=[^\W\d]\w*(?:, [^\W\d]\w*)*: )", line)
        before = line
    return found


def labelled(line: str) -> str:
    """A line that may begin with what it tells of: `xs: (T, B, I)`."""
    label = LABEL.match(line)
    return f"**{inline(label[1])}**\u2002\\ {inline(line[label.end() :])}" if label else f"\\ {inline(line)}"


def language(text: str) -> str:
    """What an indented paragraph is written in: an equation is no Python."""
    try:
        ast.parse(inspect.cleandoc(text))
    except SyntaxError:
        return "pycon" if text.startswith(">>>") else "text"
    return "python"


def rst(lines: list[str]) -> Iterator[str]:
    """A docstring of the library's kind as reStructuredText: equations and examples stay as they are."""
    for text in re.split(r"\n(?: *\n)+", inspect.cleandoc("\n".join(lines))):
        paragraph = text.split("\n")
        columns = any(COLUMNS.search(line) and not LABEL.match(line) for line in paragraph)
        if columns or text.startswith((" ", ">>>", "class ")):
            yield from (f".. code-block:: {language(text)}", "", *("    " + line for line in paragraph))
        else:
            meant = lines_of(paragraph)
            yield from ("| " * (len(meant) > 1) + labelled(line) for line in meant)
        yield ""


def on_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Replace the lines of a docstring."""
    lines[:] = [*rst(lines)] if any(lines) else lines


def on_signature(app: Any, what: str, name: str, obj: Any, options: Any, signature: str, returns: str) -> Any:
    """That of a module is its __init__'s, for __new__ takes anything. Defaults without a name are dots."""
    if what == "class" and getattr(obj, "_is_protocol", False):
        return "", None
    if what == "class" and issubclass(obj, nn.Module):
        if obj.__init__ is object.__init__:
            return "()", None
        found = signature_of(obj.__init__, bound_method=True)
        return stringify_signature(found, unqualified_typehints=True, show_return_annotation=False), None
    if signature and "<" in signature:
        return re.sub(r"~(\w+[.])*", "", re.sub(r"<.*?>", "...", signature)), returns
    return None


def on_member(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a named tuple stand in the docstring of its class."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


# ---- pages ----------------------------------------------------------------------------------------------------------


def written(module: ModuleType, name: str, seen: dict[int, str]) -> str:
    """What the page of a module says of one of its names."""
    thing, path = getattr(module, name), f"{module.__name__}.{name}"
    if inspect.ismodule(thing):
        return f"A module: [{thing.__name__}]({thing.__name__}.md)\n"
    known = seen.setdefault(id(thing), path)
    if known != path:
        return f"`{path}` is [`{known}`](#{known}).\n"
    if inspect.isclass(thing) or inspect.isroutine(thing):
        kind = "autoclass" if inspect.isclass(thing) else "autofunction"
        members = "   :members:\n" if kind == "autoclass" and name != "Parameter" else ""
        return f"```{{eval-rst}}\n.. {kind}:: {path}\n{members}```\n"
    value = re.sub(r"<class '(.*?)'>", r"\1", repr(thing))
    short = re.sub(r"\b[a-z]\w*[.](?=[A-Za-z])", "", value)
    return f"```python\n{name} = {short}\n```\n"


def page(module: ModuleType, seen: dict[int, str]) -> str:
    """The page of a module: its docstring, and its names by the file that they stand in."""
    groups: dict[str, list[str]] = {}
    for name in module.__all__:
        thing = getattr(module, name)
        home = getattr(thing, "__module__", None) or ("tinygrad_rnn.ops.elementwise" if callable(thing) else "")
        groups.setdefault(home if home.startswith(("tinygrad_rnn", "viz")) else "", []).append(name)
    text = f"# {module.__name__}\n\n```{{eval-rst}}\n.. automodule:: {module.__name__}\n   :no-members:\n```\n\n"
    for home, names in sorted(groups.items(), key=lambda group: group[0] == ""):
        if len(groups) > 1:
            title = home.rpartition(".")[2] or "also"
            text += f"## {TITLES.get(title, title.replace('_', ' ').capitalize())}\n\n"
        if home and home != module.__name__ and len(groups) > 1:
            about = (sys.modules[home].__doc__ or "").split("\n\n")[0].replace("\n", " ")
            text += about.replace("*", r"\*") + "\n\n"
        text += "\n".join(written(module, name, seen) for name in names) + "\n"
    return text


def on_start(app: Any) -> None:
    """Write the pages, those that are not what they were: an unchanged one is not read again."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    seen: dict[int, str] = {}
    for name in MODULES:
        path, text = folder / f"{name}.md", page(importlib.import_module(name), seen)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", on_start)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-skip-member", on_member)
    return {"parallel_read_safe": True}
