"""Words, signs of punctuation, and the gaps between them; see `Vocabulary` for what a token is."""

from __future__ import annotations

import functools
import re
import unicodedata

JOINED, APART = "‿", "␣"  # beside a sign of punctuation in a token: no space; a space
MARKED = {JOINED: "", APART: " "}
MARK = {gap: mark for mark, gap in MARKED.items()}
CLOSING = frozenset(".,;:!?…،؛؟۔।॥、。，！？：；")  # noqa: RUF001 (like closing brackets: usually no space before)


def _kind(character: str) -> str:
    """A letter for what a character is to `TOKEN`."""
    category = unicodedata.category(character)
    if character in KINDS_BY_NAME:
        return KINDS_BY_NAME[character]
    if character.isspace():
        return " "
    if category[0] in "LN":
        return "w"
    return "m" if category[0] == "M" or category == "Cf" else "s"


KINDS_BY_NAME = {
    **dict.fromkeys("0123456789", "d"),
    **dict.fromkeys("'’׳״·՛՜՞", "a"),  # noqa: RUF001 (part of a word if letters stand on both sides)
    **dict.fromkeys(JOINED + APART, "u"),  # as letters, so that no token of a text looks like a marked one
    **dict.fromkeys(map(chr, range(0x1F1E6, 0x1F200)), "r"),  # regional indicators: two are a flag
    **dict.fromkeys(map(chr, range(0x1F3FB, 0x1F400)), "t"),  # tones of skin
    "_": "w", "\n": "n", "\u200b": " ", "\u200d": "j", "\u20e3": "k",  # the last: zero width space, joiner, a keycap
}  # fmt: skip


class _Kinds(dict):
    """As a table of `str.translate`: the kind of each character, found when it is first met."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = _kind(chr(code))
        return kind


KINDS = _Kinds()
KEYCAP = "dm?k"
LETTERS = f"(?:(?!{KEYCAP})[wdmjku])+"
SIGN = f"(?:{KEYCAP}|rr|[srta])[mktj]*(?:(?<=j)s[mktj]*)*"  # punctuation or an emoji: joined, with tones, tags, marks
TOKEN = re.compile(f"{LETTERS}(?:(?<!u)a(?!u){LETTERS})*|(?P<sign>{SIGN})|n")
MARKED_SIGN = re.compile(f"([{JOINED}{APART}]?)(.+?)([{JOINED}{APART}]?)", re.DOTALL)


def words_of(text: str) -> list[str]:
    """The tokens of a text, with what they say of spaces; joined as `Vocabulary.spaced` does they give it back."""
    tokens: list[str] = []
    before, sign_before, end = "", False, 0
    for found in TOKEN.finditer(text.translate(KINDS)):
        token, gap, sign = text[slice(*found.span())], text[end : found.start()], found["sign"] is not None
        core, end = token, found.end()
        if gap != usual_gap(before, core):
            if gap in MARK and sign and before:
                token = MARK[gap] + core
            elif gap in MARK and sign_before:
                tokens[-1] += MARK[gap]
            else:
                tokens.append(gap)
        tokens.append(token)
        before, sign_before = core, sign
    return [*tokens, text[end:]] if end < len(text) else tokens


def usual_gap(before: str, token: str) -> str:
    """What stands between two tokens unless they say otherwise; "" is the beginning of the text."""
    blank = is_blank(before) or is_blank(token)
    return "" if blank or _is_opening(before[-1:]) or _is_closing(token[:1]) else " "


def is_blank(token: str) -> bool:
    """Is a token a gap: nothing but spaces and ends of lines?"""
    return not token.translate(KINDS).strip(" n")


def _is_opening(sign: str) -> bool:
    return unicodedata.category(sign) in ("Ps", "Pi")


def _is_closing(sign: str) -> bool:
    return sign in CLOSING or unicodedata.category(sign) in ("Pe", "Pf")


@functools.lru_cache(maxsize=1 << 16)
def parts_of(token: str) -> tuple[str, str, str]:
    """The mark before a sign, the sign, the mark behind it; of all other tokens the middle alone."""
    found = MARKED_SIGN.fullmatch(token)
    if found and len(token) > 1 and re.fullmatch(SIGN, found[2].translate(KINDS)):
        return found[1], found[2], found[3]
    return "", token, ""
