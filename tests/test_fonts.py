"""A machine without fonts is offered those that matplotlib brings along."""

import os

from pathlib import Path
from xml.etree import ElementTree

import pytest

from viz.graphviz import fonts


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("FONTCONFIG_FILE", raising=False)
    monkeypatch.setattr(fonts.sys, "platform", "linux")
    fonts._config.cache_clear()
    yield
    fonts._config.cache_clear()


def test_where_there_are_none_a_folder_with_fonts_is_named(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    with fonts.offered():
        config = ElementTree.parse(os.environ["FONTCONFIG_FILE"])
        assert (Path(config.findtext("dir")) / "DejaVuSans.ttf").is_file()
    assert "FONTCONFIG_FILE" not in os.environ


def test_where_there_are_some_nothing_changes(monkeypatch, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "Some.TTF").touch()
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    with fonts.offered():
        assert "FONTCONFIG_FILE" not in os.environ


def test_a_configuration_of_ones_own_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("FONTCONFIG_FILE", "mine")
    with fonts.offered():
        assert os.environ["FONTCONFIG_FILE"] == "mine"
