"""Fonts for machines that have none, such as fresh containers: there the text of a PNG would be boxes. And a warning
of the letters that no font has: these are boxes.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
import warnings

from collections.abc import Collection, Iterator
from pathlib import Path

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
SUFFIXES = {".ttf", ".otf", ".ttc", ".pfb", ".t1"}
MOST = 12  # characters that a warning names
BOXES = "LastResort"  # a font of boxes, for letters that no other has; matplotlib brings it along

CONFIG = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <dir>{folder}</dir>
  <alias><family>Helvetica</family><accept><family>DejaVu Sans</family></accept></alias>
  <cachedir>{cache}</cachedir>
</fontconfig>
"""


@contextlib.contextmanager
def offered() -> Iterator[None]:
    """Show fontconfig the fonts that matplotlib brings along, if the machine has none of its own."""
    config = None if "FONTCONFIG_FILE" in os.environ else _config()
    if config is None:
        yield
        return
    os.environ["FONTCONFIG_FILE"] = config
    try:
        yield
    finally:
        del os.environ["FONTCONFIG_FILE"]


@functools.cache
def _config() -> str | None:
    """The path of a configuration that names them; None if there is no need, or no matplotlib."""
    folder = _folder_of_matplotlib()
    if not sys.platform.startswith("linux") or any(_installed()) or folder is None:
        return None
    cache = Path(tempfile.mkdtemp(prefix="tinygrad-rnn-fonts-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    path = cache / "fonts.conf"
    path.write_text(CONFIG.format(folder=folder, cache=cache), "utf-8")
    return str(path)


def _folder_of_matplotlib() -> Path | None:
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib is None or matplotlib.origin is None:
        return None
    return Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"


def _installed() -> Iterator[Path]:
    folders = [Path(folder).expanduser() for folder in FOLDERS]
    return (path for folder in folders if folder.is_dir() for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES)  # fmt: skip


# ---- letters that no font has ---------------------------------------------------------------------------------------

_known: set[str] = set()  # the characters that were looked for


def tell_of_boxes(text: str) -> None:
    """Warn of the characters that no font here has, once of each. Where fonts cannot be asked, nothing is said."""
    fresh = {c for c in text if _is_seen(c)} - _known
    lost = sorted(_without_font(fresh)) if fresh and sys.platform.startswith("linux") else []
    _known.update(fresh)
    if lost:
        more = f" and {len(lost) - MOST} more" if len(lost) > MOST else ""
        warnings.warn(
            f"viz.draw: no font here has {' '.join(lost[:MOST])}{more}: boxes stand for them in a PNG or a PDF; "
            "install a font that has them (Debian: apt install fonts-noto), or save an SVG, for the viewer's fonts",
            stacklevel=_levels_inside(),
        )


def _is_seen(character: str) -> bool:
    """Is it more than a blank, or than a sign that tells how others are drawn?"""
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp") and not is_selector


def _without_font(characters: Collection[str]) -> Collection[str]:
    """Those that no installed font has, as fontconfig says, else as fontTools reads in the fonts themselves."""
    if shutil.which("fc-list"):
        return [] if _is_in_one(characters) else [c for c in characters if not _is_in_one([c])]
    config = os.environ.get("FONTCONFIG_FILE")
    if importlib.util.find_spec("fontTools") is None or config not in (None, _config()):
        return []
    lost, folder = set(characters), _folder_of_matplotlib()
    offered = folder.glob("*.ttf") if config and folder is not None else ()
    for path in (*_installed(), *offered):
        lost -= _letters(path) if BOXES not in path.name else frozenset()
        if not lost:
            break
    return lost


def _is_in_one(characters: Collection[str]) -> bool:
    """Is there a font that has all of these? Also where fontconfig does not answer."""
    pattern = ":charset=" + " ".join(f"{ord(c):x}" for c in characters)
    found = subprocess.run(["fc-list", pattern, "family"], capture_output=True, check=False)
    families = found.stdout.decode(errors="replace").replace(" ", "").splitlines()
    return any(family and BOXES not in family for family in families) or found.returncode != 0


@functools.cache
def _letters(path: Path) -> frozenset[str]:
    """What a file of fonts has; of one that cannot be read nothing."""
    from fontTools.ttLib import TTCollection, TTFont, TTLibError  # noqa: PLC0415 (it comes with matplotlib)

    try:
        with path.open("rb") as file:
            fonts = TTCollection(file, lazy=True).fonts if path.suffix.lower() == ".ttc" else [TTFont(file, lazy=True)]
            return frozenset(chr(code) for font in fonts for code in font.getBestCmap() or ())
    except (TTLibError, OSError):
        return frozenset()


def _levels_inside() -> int:
    """How many calls lie between a warning here and the code that draws."""
    frame, levels = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("viz."):
        frame, levels = frame.f_back, levels + 1
    return levels
