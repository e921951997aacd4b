"""The documentation as a site: `make docs` writes it to docs/_build/html, and every warning is an error."""

import os
import shutil
import sys

from pathlib import Path
from typing import Any

import tinygrad_rnn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

# notebooks run without anybody's own settings of IPython, and without a word about the sockets of each kernel
os.environ["IPYTHONDIR"] = str(HERE / "_build" / ".ipython")
(HERE / "_build" / ".ipython" / "profile_default").mkdir(parents=True, exist_ok=True)
(HERE / "_build" / ".ipython" / "profile_default" / "ipython_kernel_config.py").write_text(
    "c.Application.log_level = 40\n"
)

project = "tinygrad_rnn"
release = version = tinygrad_rnn.__version__
copyright = "the tinygrad_rnn developers, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "messages", "reference"]
exclude_patterns = ["_build", "_ext", "browser", "gallery", "*.py"]
language = "en"
smartquotes = False  # "gpu" is a string

html_theme = "furo"
html_title = "tinygrad_rnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
pygments_style, pygments_dark_style = "default", "github-dark"

myst_enable_extensions = []  # a dollar is a dollar: equations are plain text here
myst_heading_anchors = 3
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}  # docs/examples
nb_execution_mode = "cache"  # a notebook is run again when it changes
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove-warn"  # and a warning is an error

autodoc_inherit_docstrings = False  # forward is described by its class
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 140
toc_object_entries_show_parents = "hide"


def on_source(app: Any, name: str, source: list[str]) -> None:
    """What lies beside the folder docs is a page of the site."""
    source[0] = source[0].replace("(../benchmarks/RESULTS.md)", "(results.md)")


def on_finished(app: Any, error: Exception | None) -> None:
    """Pages with a slider, which gallery.md shows in frames."""
    if error is None and app.builder.format == "html":
        folder = Path(app.outdir) / "gallery"
        folder.mkdir(exist_ok=True)
        shutil.copy(HERE / "gallery" / "lstm.html", folder)


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("source-read", on_source)
    app.connect("build-finished", on_finished)
