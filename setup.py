"""What pyproject.toml cannot say: PyPI shows README.md as the description, with links that lead somewhere there."""

import re

from pathlib import Path

from setuptools import setup

HOME = "https://github.com/tinygrad-rnn/tinygrad-rnn"
FILES, PICTURES = f"{HOME}/blob/main/", "https://raw.githubusercontent.com/tinygrad-rnn/tinygrad-rnn/main/"
LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?:)([^)\s]+)\)")


def absolute(link: re.Match[str]) -> str:
    """A link of README.md to a file beside it, or to one of its own sections, as one to where the project lives."""
    picture, text, to = link.groups()
    where = HOME if to.startswith("#") else PICTURES if picture else FILES
    return f"{picture}{text}({where}{to})"


setup(
    long_description=LINK.sub(absolute, Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
