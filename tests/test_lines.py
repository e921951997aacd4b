"""Files of lines: a line ends at a line feed only, and what comes out stands beside what went in."""

import argparse
import io
import sys

import pytest

from tinygrad_rnn import data
from tinygrad_rnn.cli import translation
from tinygrad_rnn.cli.main import main

# what str.splitlines takes for ends of lines, and Unicode for blanks
NO_ENDS = ["\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\u00a0", "\u3000", "\u200b", "\0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model that has hardly learned anything, which is enough to write lines."""
    folder = tmp_path_factory.mktemp("lines")
    (folder / "pairs.tsv").write_text("".join(f"m{i}\tn{i % 7}\n" for i in range(12)))
    small = ["--cell", "rnn", "--hidden", "8", "--embed", "4", "--epochs", "3", "--batch", "8", "--lr", "0.05"]
    assert main(["train", "seq2seq", "--pairs", str(folder / "pairs.tsv"), "--out", str(folder / "run"), *small]) == 0
    return folder / "run"


def translated(run, capsys, *argv):
    """What `translate` writes, and its notes."""
    capsys.readouterr()
    assert main(["translate", str(run), *map(str, argv)]) == 0
    return capsys.readouterr()


@pytest.mark.parametrize("sign", NO_ENDS, ids=ascii)
def test_nothing_but_a_line_feed_ends_a_line(tmp_path, sign):
    (tmp_path / "lines").write_bytes(f"a{sign}b\nc\n".encode())
    assert data.read_lines(tmp_path / "lines") == [f"a{sign}b", "c"]
    (tmp_path / "pairs").write_bytes(f"a{sign}b\tx{sign}y\nc\tz\n".encode())
    assert data.read_pairs(tmp_path / "pairs") == [(f"a{sign}b", f"x{sign}y"), ("c", "z")]
    assert data.read_text(tmp_path / "lines") == f"a{sign}b\nc\n"


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"a\nb\n", ["a", "b"]),
        (b"a\nb", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\n\nb\n\n", ["a", "", "b", ""]),
        (b"\n", [""]),
        (b"\r\n\r\na", ["", "", "a"]),
    ],
)
def test_lines_are_those_of_every_editor(tmp_path, raw, lines):
    (tmp_path / "lines").write_bytes(raw)
    assert data.read_lines(tmp_path / "lines") == lines


@pytest.mark.parametrize("n_best", [1, 3])
def test_each_line_has_its_lines_at_its_place(run, tmp_path, capsys, n_best):
    options = ["--n-best", n_best, "--beam", 4]
    sources = ["m1", "", "m2\u2028m3", " \t", "m5\fm6", "\x85", "m7\x85", "m\r8", ""]
    (tmp_path / "in").write_text("".join(f"{source}\n" for source in sources), "utf-8", newline="")
    lines = translated(run, capsys, "--file", tmp_path / "in", *options).out.removesuffix("\n").split("\n")
    assert len(lines) == n_best * len(sources)
    for i, source in enumerate(sources):
        alone = [""] * n_best
        if source.strip():
            alone = translated(run, capsys, source, *options).out.removesuffix("\n").split("\n")
        assert lines[i * n_best : (i + 1) * n_best] == alone


def test_a_file_of_blank_lines_gives_blank_lines_and_an_empty_one_is_named(run, tmp_path, capsys):
    (tmp_path / "blank").write_text("\n\n")
    assert translated(run, capsys, "--file", tmp_path / "blank").out == "\n\n"
    (tmp_path / "empty").touch()
    assert main(["translate", str(run), "--file", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err == f"tinygrad-rnn: text: {str(tmp_path / 'empty')!r} is empty\n"


def test_standard_input_is_a_file_of_lines(run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("m1\n\nm2\x85m3\n".encode())))
    assert translated(run, capsys, "--file", "-").out.count("\n") == 3


def test_a_closed_standard_input_is_named(run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["translate", str(run), "--file", "-"]) == 2
    assert capsys.readouterr().err == "tinygrad-rnn: text: standard input is closed\n"


# (what is given, is the file of that name read?, what the note says)
GIVEN = [
    (["word"], False, "translates the text 'word'; --file means the file"),
    (["--text", "word"], False, ""),
    (["--file", "word"], True, ""),
    (["in.txt"], True, "reads the file 'in.txt'; --file says so, and --text that the text is meant"),
    (["--text", "in.txt"], False, ""),
    (["./word"], True, "reads the file './word'"),
    (["folder"], False, ""),
    (["in.txt", "--text"], False, ""),
    (["--beam", "2", "in.txt", "--n-best", "1", "--file"], True, ""),
    (["tset.txt"], False, "translates the text 'tset.txt'; there is no such file"),
    (["m1 e.g."], False, ""),
]


@pytest.mark.parametrize(("given", "is_read", "note"), GIVEN, ids=[" ".join(given) for given, _, _ in GIVEN])
def test_an_option_says_whether_a_text_or_a_file_is_meant(run, tmp_path, monkeypatch, capsys, given, is_read, note):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in "word", "in.txt":
        (tmp_path / name).write_text("m1\nm2\nm3\n")
    said = translated(run, capsys, *given)
    assert said.out.count("\n") == (3 if is_read else 1)
    assert note in said.err and said.err.count("\n") == (1 if note else 0)


@pytest.mark.parametrize("n", [85, 86, 255, 256, 5000])
@pytest.mark.parametrize("sign", ["猫", "a/", "/", ".", "a."])
def test_a_source_of_any_length_is_no_name_of_a_file(sign, n):
    given = argparse.Namespace(source=sign * n, file=False, text=False)
    assert translation._sources(given) == [sign * n]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "the following arguments are required: SOURCE"),
        (["--text", "a", "--file"], "not allowed with argument"),
        (["--file", "nowhere"], "there is no file 'nowhere'"),
        (["--file", "."], "'.' cannot be read: Is a directory"),
        (["--text", " "], "the source is empty"),
        (["m1", "--n-best", "3"], "--n-best: must be from 1 to --beam, 1, got 3"),
        (["m1", "--n-best", "0"], "--n-best: must be from 1 to --beam, 1, got 0"),
        (["m1", "--length-penalty", "-1"], "--length-penalty: must be a finite number of at least 0, got -1.0"),
        (["m1", "--length-penalty", "nan"], "--length-penalty: must be a finite number of at least 0, got nan"),
    ],
)
def test_bad_sources_are_named_in_one_line(run, capsys, given, message):
    try:
        code = main(["translate", str(run), *given])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1
