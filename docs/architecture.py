"""The rooms of the code and who imports whom, read from the files and drawn by the library's own writer of DOT.

python docs/architecture.py [FILE]     writes the picture, docs/architecture.svg or another file (.png, .pdf, .svg),
                                       and the table of folders in docs/architecture.md
"""

import ast
import functools
import sys

from collections import defaultdict
from pathlib import Path

from viz.graphviz.dot import cluster, digraph, edge, node
from viz.graphviz.render import render

ROOT = Path(__file__).parent.parent
PACKAGES = ("tinygrad_rnn", "viz")

# room: (what is in it, the kind of node whose colours it has), from the top to the ground
ROOMS = {
    "tinygrad_rnn.cli": ("what a person\ntypes", "output"),
    "tinygrad_rnn.tasks": ("an experiment, from\noptions to files", "output"),
    "tinygrad_rnn.torch_weights": ("PyTorch's\nweights", "output"),
    "tinygrad_rnn.keras_weights": ("Keras's\nweights", "output"),
    "tinygrad_rnn.export": ("a step as ONNX,\nC or a page", "output"),
    "tinygrad_rnn.optim": ("how weights\nfollow gradients", "hidden"),
    "tinygrad_rnn.parallel": ("many processes,\none run", "hidden"),
    "tinygrad_rnn.nn": ("modules, cells,\nany cell over time", "hidden"),
    "tinygrad_rnn.compiler.engines": ("backends\nby name", "gate"),
    "tinygrad_rnn.compiler.llvm": ("a schedule as\nmachine code", "gate"),
    "tinygrad_rnn.compiler.numpy": ("a schedule as\nNumPy calls", "gate"),
    "tinygrad_rnn.compiler.cuda": ("kernels as\nC text", "gate"),
    "tinygrad_rnn.compiler.runtime": ("programs,\ncalls, memory", "gate"),
    "tinygrad_rnn.compiler.record": ("a running cell\nto a circuit", "gate"),
    "tinygrad_rnn.compiler.passes": ("a circuit into\nan equal one", "gate"),
    "tinygrad_rnn.compiler.schedule": ("when, and\nwhere", "gate"),
    "tinygrad_rnn.compiler.ir": ("the circuit", "gate"),
    "tinygrad_rnn.decode": ("search,\nsampling", "hidden"),
    "tinygrad_rnn.ops": ("a formula and\na rule each", "cell"),
    "tinygrad_rnn.autograd": ("the recorded graph,\nand the sweep back", "cell"),
    "tinygrad_rnn.data": ("text to\nbatches", "initial"),
    "tinygrad_rnn.metrics": ("errors,\nBLEU", "initial"),
    "tinygrad_rnn.files": ("written whole\nor not at all", "initial"),
    "viz.draw": ("… and all that\na user calls", "input"),
    "viz.compose": ("from options\nto a drawing", "input"),
    "viz.drawing": ("shows and\nsaves itself", "input"),
    "viz.write": ("places\nto DOT", "input"),
    "viz.layout": ("where all\nof it goes", "input"),
    "viz.picture": ("what is drawn:\na file a view", "input"),
    "viz.read": ("time, states,\nnames", "input"),
    "viz.graphviz": ("DOT\nto SVG", "input"),
    "viz.play": ("films,\npages", "input"),
    "viz.charts": ("curves,\nheat maps", "input"),
    "viz.style": ("colours,\nshapes", "input"),
    "viz.texts": ("of others", "input"),
}
FRAMES = {"tinygrad_rnn": "tinygrad_rnn", "tinygrad_rnn.compiler": "compiler", "viz": "viz"}
FRAME = {"style": "rounded,filled", "fillcolor": "#f8fafc", "color": "#cbd2db", "margin": 10}


def room(module: str) -> str:
    """The room that a module or a name in it belongs to: a folder or file of a package, or of the compiler."""
    parts = module.split(".")
    if parts[:2] in (["viz"], ["viz", "__init__"], ["viz", "calls"]):
        return "viz.draw"
    return ".".join(parts[: 3 if parts[1:2] == ["compiler"] else 2])


def imports() -> set[tuple[str, str]]:
    """(who imports, what) for every two rooms; that the package offers all of them at its top is no arrow."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found |= {(here, there) for there in map(room, _imported(path))}
    return {(a, b) for a, b in found if a != b and not a.endswith("__") and b != "tinygrad_rnn"}


def _imported(path: Path) -> list[str]:
    """The names of the library that a file imports, in full."""
    names = []
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            names += [f"{statement.module}.{alias.name}" for alias in statement.names]
        elif isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
    return [name for name in names if name.partition(".")[0] in PACKAGES]


def essential(arrows: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """The arrows that no longer way implies (the transitive reduction); there must be no cycle."""
    heads = defaultdict(set)
    for a, b in arrows:
        heads[a].add(b)

    @functools.cache
    def reached(a: str) -> set[str]:
        return heads[a].union(*map(reached, heads[a]))

    return sorted((a, b) for a, b in arrows if not any(b in reached(c) for c in heads[a] - {b}))


def drawing(arrows: list[tuple[str, str]]) -> str:
    """The picture in DOT: a frame for each package and for the compiler."""
    named = {name for arrow in arrows for name in arrow}
    if unknown := named - {*ROOMS}:
        raise KeyError(f"say in ROOMS what is in {', '.join(sorted(unknown))}")
    inside = defaultdict(list)
    for name, (what, kind) in ROOMS.items():
        frame, _, own = name.rpartition(".")
        if name in named:
            inside[frame].append(node(name, f"{own}\n{what}", kind, "box", margin="0.09,0.06"))
    framed = {
        key: cluster(key, inside[key], label=label, **FRAME, labeljust="lr"[key == "viz"])
        for key, label in FRAMES.items()
        if key != PACKAGES[0]
    }
    whole = cluster(
        PACKAGES[0], [*inside[PACKAGES[0]], *framed["tinygrad_rnn.compiler"]], label=PACKAGES[0], labeljust="l", **FRAME
    )
    lines = [edge(a, b, "flow") for a, b in arrows]
    return digraph([*whole, *framed["viz"], *lines], rankdir="TB", nodesep=0.14, ranksep=0.28)


def folders() -> str:
    """The table of folders, each with the first paragraph of its docstring."""
    rows = ["| folder | what is in it |", "|---|---|"]
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("__init__.py")):
            paragraph = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
            said = " ".join(paragraph.split()).removeprefix(f"{package}: ")
            rows.append(f"| `{path.parent.relative_to(ROOT).as_posix()}/` | {said[:1].upper()}{said[1:]} |")
    return "\n".join(rows)


def with_folders(page: str) -> str:
    """A page with the table between its marks as it is now."""
    head, _, rest = page.partition("<!-- folders -->")
    return f"{head}<!-- folders -->\n{folders()}\n<!-- /folders -->{rest.partition('<!-- /folders -->')[2]}"


def main(target: Path) -> None:
    """Draw the rooms as they are now, and list the folders."""
    page = ROOT / "docs" / "architecture.md"
    page.write_text(with_folders(page.read_text(encoding="utf-8")), encoding="utf-8")
    target.write_bytes(render(drawing(essential(imports())), target.suffix[1:], engine="dot"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "architecture.svg")
