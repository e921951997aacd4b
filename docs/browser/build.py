"""The page in which the library runs in a browser: python docs/browser/build.py FOLDER. It takes npm.

Python is Pyodide, Graphviz is Viz.js. NumPy is emscripten-forge's; of its versions package.json names the one that was
built for the Python (3.12) and the Emscripten (3.1.58) of that Pyodide.
"""

import importlib.metadata
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile

from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
OWN = ("index.html", "page.css", "page.js", "worker.js", "running.py")
TAKEN = {  # from the packages of npm
    "pyodide": ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"),
    "@viz-js/viz": ("dist/viz-global.js",),
    "codemirror": ("lib/codemirror.js", "lib/codemirror.css", "mode/python/python.js", "addon/edit/matchbrackets.js"),
}
NEEDLESS = ("/tests/", "/_core/include/", "/_core/lib/", "/f2py/", "/distutils/", "/random/lib/")  # of NumPy
MISSING = "<p>This page was built without Python for browsers, which npm gets: {}.</p>"

Files = Iterator[tuple[str, bytes]]


def build(folder: Path, cache: Path) -> None:
    """Write the page. cache: a folder in which npm keeps what it gets"""
    folder.mkdir(parents=True, exist_ok=True)
    reason = installed(cache)
    if reason:
        print(f"docs/browser: left out, {reason}", file=sys.stderr)
        (folder / "index.html").write_text(MISSING.format(reason), encoding="utf-8")
        return
    packages = cache / "node_modules"
    for name in OWN:
        shutil.copy(HERE / name, folder)
    for package, names in TAKEN.items():
        for name in names:
            shutil.copy(packages / package / name, folder)
    pack(folder / "numpy.zip", of_numpy(packages / "@emscripten-forge" / "numpy"))
    pack(folder / "library.zip", of_the_library())
    (folder / "examples.json").write_text(json.dumps(dict(examples())), encoding="utf-8")


def installed(folder: Path) -> str:
    """Let npm install what package.json names; why it could not, in a line."""
    npm = shutil.which("npm")
    if npm is None:
        return "there is no npm"
    folder.mkdir(parents=True, exist_ok=True)
    lock, kept = HERE / "package-lock.json", folder / "node_modules" / "installed.json"
    if kept.exists() and kept.read_bytes() == lock.read_bytes():
        return ""
    for path in HERE / "package.json", lock:
        shutil.copy(path, folder)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        return f"npm says {' '.join(ran.stderr.split())[:200]}"
    shutil.copy(lock, kept)
    return ""


def pack(path: Path, files: Files) -> None:
    """Write files into one archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)


def of_numpy(package: Path) -> Files:
    """What of NumPy runs; not what it is tested and built upon with."""
    (path,) = (package / "pkg").glob("*.tar.gz")
    with tarfile.open(path) as tar:
        for member in tar:
            _, found, name = member.name.partition("/site-packages/")
            if found and member.isfile() and name.startswith("numpy/") and not any(n in name for n in NEEDLESS):
                yield name, _content(tar, member)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return (tar.extractfile(member) or io.BytesIO()).read()


def of_the_library() -> Files:
    """It, and tqdm, the one package it takes that is Python alone and not for drawing."""
    for package in "tinygrad_rnn", "viz":
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    for file in importlib.metadata.files("tqdm") or ():
        if file.suffix == ".py" and file.parts[0] == "tqdm":
            yield file.as_posix(), file.read_binary()


def examples() -> Iterator[tuple[str, str]]:
    """The title and the code of each. They are pages of the site too: see conf.py."""
    for path in sorted((HERE.parent / "examples").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        yield code.split("\n", 2)[1].removeprefix("# # "), code


if __name__ == "__main__":
    build(Path(sys.argv[1]), HERE.parent / "_build" / "npm")
