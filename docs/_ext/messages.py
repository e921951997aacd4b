"""All messages of errors and warnings, gathered from the code: `…` stands for what is said of the case at hand."""

import ast
import re

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("tinygrad_rnn", "viz")
ERRORS = ("Error", "Unsupported", "Refused", "Failed", "NoEngine")  # classes of errors end so
LEAST = 10  # letters of its own: less tells nobody anything
HEAD = """# All messages

The messages of errors and warnings, gathered from the code, by who is speaking. … stands for what came, and before the
colon for the name of what you called, such as nn.LSTM: those stand under Others. What to do stands in the message; more
about those that newcomers meet is in [Troubleshooting](../troubleshooting.md).

"""


def template(text: ast.expr, texts: dict[str, ast.expr]) -> str:
    """What is always said. texts: the variables of the function that are texts"""
    match text:
        case ast.Constant(value=str(said)):
            return said
        case ast.JoinedStr(values=values):
            return "".join(template(value, texts) for value in values)
        case ast.FormattedValue(value=ast.Name() as name) | (ast.Name() as name) if name.id in texts:
            return template(texts[name.id], {})
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return template(left, texts) + template(right, texts)
    return "…"


def texts_of(function: ast.AST) -> dict[str, ast.expr]:
    """The variables that a function gives one text, and no other."""
    by: dict[str, list[ast.expr]] = defaultdict(list)
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                by[name].append(value)
    return {name: v[0] for name, v in by.items() if len(v) == 1 and isinstance(v[0], (ast.Constant, ast.JoinedStr))}


def found(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(kind, message) of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from told(node, texts_of(node))


def told(function: ast.AST, texts: dict[str, ast.expr]) -> Iterator[tuple[str, str]]:
    """(kind, message) of a function: what errors are made of, and what is given to what warns or refuses."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id=kind), args=args) if kind.endswith(ERRORS):
                yield from ((kind, template(arg, texts)) for arg in args[:1])
            case ast.Call(func=ast.Attribute(attr="warn"), args=args):
                yield from (("Warning", template(arg, texts)) for arg in args[:1])
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if "refuse" in name:
                parts = [part for arg in args for part in (arg.elts if isinstance(arg, ast.Tuple) else [arg])]
                yield from (("ValueError", template(part, texts)) for part in parts)


def messages() -> dict[str, set[tuple[str, str]]]:
    """Who is speaking: what is said, and the kind of error."""
    by: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for kind, said in found(ast.parse(path.read_text("utf-8"))):
                line = re.sub("…+", "…", " ".join(said.split()))
                if len(re.sub(r"\W", "", line)) >= LEAST:
                    by[speaker(line)].add((line, kind))
    return by


def speaker(line: str) -> str:
    """What stands before the colon, if it is a name."""
    who, colon, _ = line.partition(": ")
    return who if colon and re.fullmatch(r"(--)?[\w.…]+( [\w.]+)?", who) and who != "…" else "Others"


def page() -> str:
    """All of them, as Markdown."""
    by = messages()
    sections = []
    for who in sorted(by, key=lambda who: (who == "Others", who.strip("-").lower())):
        lines = "".join(f"- `{line.replace('`', chr(39))}` ({kind})\n" for line, kind in sorted(by[who]))
        sections.append(f"## {who.replace('*', '')}\n\n{lines}\n")
    return HEAD + "".join(sections)


def on_start(app: Any) -> None:
    """Write the page beside those of the reference."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    path, text = folder / "messages.md", page()
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def setup(app: Any) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", on_start)
    return {"parallel_read_safe": True}
