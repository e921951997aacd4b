"""Files of text, read and checked."""

from __future__ import annotations

import sys

from pathlib import Path


def read_text(path: str | Path) -> str:
    """The text in a UTF-8 file; ValueError that says what is wrong with it."""
    if Path(path).exists() and not Path(path).is_file():
        raise ValueError(f"text: {str(path)!r} must be a file: a run reads it again when it is resumed")
    text = _decoded(path)
    if not text.strip():
        raise ValueError(f"text: {str(path)!r} is empty")
    return text


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file, or of standard input for "-". They end at "\\n" or "\\r\\n", and at nothing else."""
    text = _decoded(path)
    if not text:
        raise ValueError(f"text: {str(path)!r} is empty")
    return text.removesuffix("\n").split("\n")


def _decoded(path: str | Path) -> str:
    """The text in a UTF-8 file, each line's end as "\\n"."""
    if str(path) == "-" and sys.stdin is None:
        raise ValueError("text: standard input is closed")
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else Path(path).read_bytes()
    except FileNotFoundError:
        raise ValueError(f"text: there is no file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"text: {str(path)!r} cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text: {str(path)!r} must be UTF-8, got byte 0x{raw[error.start]:02x} at position {error.start}"
        ) from None


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """The pairs in a UTF-8 file, a line each: source TAB target; ValueError that names the first line that is none."""
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            source, *target = (part.strip() for part in line.split("\t"))
            if len(target) != 1 or not source:
                raise ValueError(f"pairs: line {number} of {str(path)!r} must be source TAB target, got {line[:60]!r}")
            pairs.append((source, target[0]))
    return pairs


def python_reference() -> str:
    """Python's own language reference: English prose that every CPython carries, about 465,000 characters."""
    from pydoc_data import topics  # noqa: PLC0415 (700 kB, for this alone)

    return "\n\n".join(text.strip("\n") for _, text in sorted(topics.topics.items()))
