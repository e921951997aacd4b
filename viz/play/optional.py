"""Packages that only films as GIF and MP4 need."""

from __future__ import annotations

import importlib

MODULES = {".gif": ("PIL.Image",), ".mp4": ("PIL.Image", "imageio_ffmpeg", "imageio.v2")}
PACKAGES = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg"}


def require(suffix: str) -> None:
    """RuntimeError of one line if a film cannot be written as this suffix says for want of a package."""
    for name in MODULES[suffix]:
        top = name.partition(".")[0]
        package = PACKAGES.get(top, top)
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name in (top, name):
                raise RuntimeError(f'viz.draw: {package} is not installed; pip install "tinygrad-rnn[film]"') from None
            reason = " ".join(str(error).split())
            raise RuntimeError(f"viz.draw: {package} cannot be loaded ({reason}); install it anew") from None
