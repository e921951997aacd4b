"""A film as a file: an animated GIF, or an MP4 in H.264. Needs Pillow; an MP4 imageio with ffmpeg too."""

from __future__ import annotations

import io

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from PIL import Image

from viz.play.film import HOLD, STEP
from viz.play.frames import Film

EXACT, MOST = 64, 255  # colours of a GIF: the commonest, as they are; all of them: one more says "as before"
RATE = 10  # frames a second of an MP4, in which a frame that stays is repeated
QUALITY = 18  # x264's constant rate factor, near to no loss
# Players take the colours of large pictures for those of HDTV, whatever they are: so they are, and it is said.
COLOURS = "scale=out_color_matrix=bt709:out_range=tv,setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"


def seconds(film: Film) -> list[float]:
    """How long each frame stays."""
    return [*[STEP] * (len(film) - 1), HOLD]


def write(path: Path, film: Film) -> None:
    """Write a film as the suffix says, .gif or .mp4."""
    if path.suffix.lower() == ".gif":
        path.write_bytes(gif(film))
    else:
        mp4(film, path)


def gif(film: Film) -> bytes:
    """An animated GIF that plays for ever: all frames have one palette, and of each is kept what is new in it."""
    counts = Counter[tuple[int, ...]]()
    for frame in film:
        found: Any = frame.getcolors(frame.width * frame.height)
        counts.update({colour: count for count, colour in found})
    palette = _palette([colour for colour, _ in counts.most_common()])
    index = _index(np.array(list(counts)), palette)
    first, *others = (_indexed(frame, index, palette) for frame in film)
    buffer = io.BytesIO()
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=[round(1000 * s) for s in seconds(film)], loop=0,
        optimize=True, palette=_bytes(palette),
    )  # fmt: skip
    return buffer.getvalue()


def mp4(film: Film, path: Path) -> None:
    """Write an MP4, which any player and browser shows."""
    import imageio.v2  # noqa: PLC0415 (no GIF needs it)

    encoding = ["-crf", str(QUALITY), "-vf", COLOURS, "-movflags", "+faststart"]  # the index in front, for web pages
    options: dict[str, Any] = {"codec": "libx264", "pixelformat": "yuv420p", "quality": None, "macro_block_size": 2}
    options |= {"fps": RATE, "ffmpeg_log_level": "error", "output_params": encoding}
    writer: Any = imageio.v2.get_writer(path.absolute(), format="FFMPEG", mode="I", **options)
    with writer:
        for frame, stay in zip(film, seconds(film), strict=True):
            for _ in range(round(RATE * stay)):
                writer.append_data(np.asarray(frame))


def _palette(colours: Sequence[tuple[int, ...]]) -> np.ndarray:
    """The commonest of these colours, and some that leave none of the others far from all."""
    exact = np.array(colours[:EXACT], np.uint8)
    row = Image.fromarray(np.array([colours], np.uint8))
    others = row.quantize(MOST - len(exact), Image.Quantize.MAXCOVERAGE).getpalette()
    return np.concatenate([exact, np.array(others, np.uint8).reshape(-1, 3)])[:MOST]


def _index(colours: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """For each colour, as one number, the nearest of the palette."""
    p = palette.astype(np.float32)
    index = np.zeros(1 << 24, np.uint8)
    index[_packed(colours)] = ((p * p).sum(1) - 2 * colours.astype(np.float32) @ p.T).argmin(1)
    return index


def _indexed(frame: Image.Image, index: np.ndarray, palette: np.ndarray) -> Image.Image:
    image = Image.fromarray(index[_packed(np.asarray(frame))])
    image.putpalette(_bytes(palette))
    return image


def _packed(colours: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    return red << 16 | green << 8 | blue


def _bytes(palette: np.ndarray) -> bytes:
    return palette.tobytes().ljust(3 * (MOST + 1), b"\0")
