"""Fonts for machines that have none, such as fresh containers: there the text of a PNG would be boxes."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import sys
import tempfile

from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
SUFFIXES = {".ttf", ".otf", ".ttc", ".pfb", ".t1"}

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
    matplotlib = importlib.util.find_spec("matplotlib")
    if not sys.platform.startswith("linux") or _has_fonts() or matplotlib is None or matplotlib.origin is None:
        return None
    folder = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
    cache = Path(tempfile.mkdtemp(prefix="tinygrad-rnn-fonts-"))
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    path = cache / "fonts.conf"
    path.write_text(CONFIG.format(folder=folder, cache=cache), "utf-8")
    return str(path)


def _has_fonts() -> bool:
    folders = [Path(folder).expanduser() for folder in FOLDERS]
    return any(path.suffix.lower() in SUFFIXES for folder in folders if folder.is_dir() for path in folder.rglob("*"))
