"""The tests on other Pythons, and with the oldest of all that is needed: nox -s tests-3.14, nox -s oldest.

What follows -- goes to pytest.
"""

import nox

nox.options.default_venv_backend = "uv"
PACKAGES = "-e", ".[plot,fast,bleu,examples,dev]"
PYTEST = "python", "-m", "pytest", "-q", "-n", "auto"
OLD = "_mathtext", "_fontconfig_pattern"  # where the oldest matplotlib uses names that the newest pyparsing warns of
IGNORE = [f"-Wignore::DeprecationWarning:matplotlib.{module}" for module in OLD]


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The newest versions."""
    session.install(*PACKAGES)
    session.run(*PYTEST, *session.posargs)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml admits."""
    session.install("--resolution", "lowest-direct", *PACKAGES)
    session.run(*PYTEST, *IGNORE, *session.posargs)
