"""A film's frames, put together from pictures of what belongs to each moment; they show what the film in SVG shows.

Needs Pillow, so whoever imports this does it where it is used.
"""

from __future__ import annotations

import functools
import io

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageFilter

from viz.play.film import GHOST, STRIP
from viz.style import GRADIENT

AMBER = "#f59e0b"  # as in film.css
MOST_SIDE, MOST_PIXELS = 16384, 1 << 29  # of a frame in each direction, which is x264's limit; of all frames together
BLUR, STRENGTH = 3, 0.6  # of the glow round what is going on: its standard deviation in points, its opacity

Draw = Callable[[int, Set[str], bool], bytes]


def check_size(width: float, height: float, count: int, scale: float) -> None:
    """ValueError if so many frames of a drawing are too large. width, height: in points  scale: pixels per point"""
    w, h = round(width * scale), round((height + STRIP) * scale)
    if max(w, h) > MOST_SIDE or w * h * count > MOST_PIXELS:
        raise ValueError(
            f"viz: a film of {count} frames of {w} × {h} pixels is too large; lower dpi, or draw fewer steps"
        )


@dataclass(frozen=True)
class Look:
    """How the film shows a moment: roles, of what stands out there, are seen; reached by the way back; its glow."""

    roles: frozenset[str] = frozenset()
    reached: bool = False
    opacity: float = 1.0
    glow: str = ""


def look(moment: int, position: int, n: int) -> Look:
    """How a moment of n looks at a position of the film: 1 … n forward, n + 1 … 2n backward, and the end."""
    if position > 2 * n:
        return Look(frozenset({"weight"}), reached=moment > 0)
    back = position > n
    now = 2 * n + 1 - position if back else position
    if moment == now:
        return Look(frozenset({"weight", "only"} if back else {"weight"}), back, glow=GRADIENT if back else AMBER)
    return Look(reached=back and moment > now, opacity=1.0 if back or moment < now else GHOST)


class Film:
    """The frames, of one even size, in RGB: may be iterated over more than once.

    draw: a PNG of what belongs to a moment, of these roles, reached by the way back or not
    moments: in the order drawn, each with the roles that there are
    captions: a PNG for each frame, of which there are 2n + 1
    scale: pixels per point
    """

    def __init__(self, draw: Draw, moments: Mapping[int, Set[str]], captions: Sequence[bytes], scale: float):
        self.moments, self.scale = moments, scale
        self._captions = [_opened(png) for png in captions]
        self._layer = functools.cache(lambda *key: _cropped(_opened(draw(*key))))
        width, height = _opened(draw(0, frozenset(), False)).size
        self._strip = round(STRIP * scale)
        self._shift = max(0, max(caption.width for caption in self._captions) - width + 1) // 2
        self.size = _even(width + 2 * self._shift), _even(height + self._strip)

    def __len__(self) -> int:
        return len(self._captions)

    def __iter__(self) -> Iterator[Image.Image]:
        return map(self._frame, range(1, len(self) + 1))

    def _frame(self, position: int) -> Image.Image:
        page = Image.new("RGBA", self.size, "white")
        for moment, roles in self.moments.items():
            shown = look(moment, position, len(self) // 2)
            image, (x, y) = self._layer(moment, shown.roles & roles, shown.reached)
            if shown.glow:
                _paste(page, *_glow(image, x + self._shift, y, shown.glow, BLUR * self.scale))
            _paste(page, _faded(image, shown.opacity), x + self._shift, y)
        caption = self._captions[position - 1]
        _paste(page, caption, (page.width - caption.width) // 2, page.height - (self._strip + caption.height) // 2)
        return page.convert("RGB")


def _even(length: int) -> int:
    return length + length % 2


def _opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _cropped(image: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """What is drawn of a picture, and where its upper left corner was."""
    box = image.getchannel("A").getbbox() or (0, 0, 1, 1)
    return image.crop(box), box[:2]


def _faded(image: Image.Image, opacity: float) -> Image.Image:
    if opacity == 1:
        return image
    faded = image.copy()
    faded.putalpha(image.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    return faded


def _glow(image: Image.Image, x: int, y: int, colour: str, blur: float) -> tuple[Image.Image, int, int]:
    """The soft shadow of a picture in a colour, and its place."""
    margin = round(3 * blur)
    alpha = Image.new("L", (image.width + 2 * margin, image.height + 2 * margin))
    alpha.paste(image.getchannel("A"), (margin, margin))
    alpha = alpha.filter(ImageFilter.GaussianBlur(blur)).point(lambda a: round(a * STRENGTH))
    shadow = Image.new("RGBA", alpha.size, ImageColor.getrgb(colour))
    shadow.putalpha(alpha)
    return shadow, x - margin, y - margin


def _paste(page: Image.Image, image: Image.Image, x: int, y: int) -> None:
    """Draw a picture onto a page; what lies outside of it is cut off."""
    left, top = max(0, -x), max(0, -y)
    page.alpha_composite(image, (x + left, y + top), (left, top))
