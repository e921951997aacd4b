"""Catalogues of translated messages, as written by hand here, in either order of bytes."""

import struct

from pathlib import Path

import pytest

from tinygrad_rnn.data.gettext import messages, pairs_by_program

ENTRIES = {
    "": "Content-Type: text/plain; charset=UTF-8\n",
    "Open file": "Datei öffnen",
    "menu\4Close": "Schließen",
    "%d file\0%d files": "%d Datei\0%d Dateien",
    "%s: %d": "%s: %d",
    "%(name)s {0} \\n": "{0} %(name)s",
    "two\nlines  here": "zwei\nZeilen hier",
    "%-5s not found": "%-5s nicht gefunden",
    "OK": "OK",
}


def written(path, entries, order="<"):
    """A catalogue: its header, the two tables, then the texts."""
    texts = [[text.encode() for text in column] for column in (entries, entries.values())]
    n, at = len(entries), 28 + 16 * len(entries)
    tables, data = b"", b""
    for column in texts:
        for text in column:
            tables += struct.pack(f"{order}2I", len(text), at + len(data))
            data += text + b"\0"
    path.write_bytes(struct.pack(f"{order}7I", 0x950412DE, 0, n, 28, 28 + 8 * n, 0, 0) + tables + data)
    return path


@pytest.mark.parametrize("order", "<>")
def test_messages_are_read_without_plurals_and_bare_formats(tmp_path, order):
    found = [*messages(written(tmp_path / "a.mo", ENTRIES, order))]
    assert found == [
        ("Open file", "Datei öffnen"),
        ("Close", "Schließen"),
        ("two\nlines  here", "zwei\nZeilen hier"),
        ("%-5s not found", "%-5s nicht gefunden"),
        ("OK", "OK"),
    ]


def test_the_library_of_python_reads_the_same(tmp_path):
    import gettext

    with written(tmp_path / "a.mo", ENTRIES).open("rb") as file:
        theirs = gettext.GNUTranslations(file)
    found = dict(messages(tmp_path / "a.mo"))
    assert all(theirs.gettext(english) == other for english, other in found.items() if english != "Close")
    assert theirs.pgettext("menu", "Close") == found["Close"]


def test_pairs_come_by_program_each_once_in_a_line(tmp_path):
    written(tmp_path / "b.mo", {"Open file": "Datei öffnen", "Open\nit": "Öffne\tes", "Help": "Hilfe"})
    written(tmp_path / "a.mo", ENTRIES)
    found = pairs_by_program(tmp_path)
    assert list(found) == ["a", "b"] and found["b"] == [("Open it", "Öffne es"), ("Help", "Hilfe")]
    assert ("two lines here", "zwei Zeilen hier") in found["a"]


def test_what_is_no_catalogue_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"must hold catalogues \(\.mo\), it has none"):
        pairs_by_program(tmp_path)
    (tmp_path / "a.mo").write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match=r"a\.mo' must be a catalogue \(\.mo\), it is none"):
        pairs_by_program(tmp_path)


def test_a_model_learns_to_translate_what_programs_say(tmp_path, capsys):
    pytest.importorskip("tokenizers"), pytest.importorskip("sacrebleu")
    names = {"file": "Datei", "window": "Fenster", "page": "Seite"}
    for i in range(10):
        said = {f"{verb} {noun} {i}": f"{names[noun]} {i} {verb}en" for noun in names for verb in ("mark", f"send{i}")}
        written(tmp_path / f"p{i}.mo", said)
    path = Path(__file__).parent.parent / "examples" / "catalogues.py"
    names = {"__name__": "example"}
    exec(compile(path.read_text(), path.name, "exec"), names)
    small = {"hidden": 8, "embed": 4, "source_subwords": 300, "target_subwords": 300, "epochs": 1}
    scores = names["main"]("de", 1, [tmp_path], tmp_path / "out", **small)
    assert 0 <= scores["BLEU"] < 50
    said = capsys.readouterr().out
    assert "60 pairs of 10 programs; tested with those of p9" in said and "mark file 9 → " in said
