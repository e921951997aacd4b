"""Completion in a shell."""

import shutil
import subprocess
import sys

import pytest

from tinygrad_rnn.cli.main import main

COMPLETED = {
    "a command": (["ev"], "evaluate"),
    "a task": (["train", "s"], "seq2seq"),
    "an option": (["export", "--ht"], "--html"),
    "a choice": (["train", "lm", "--schedule", "pl"], "plateau"),
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(("words", "expected"), COMPLETED.values(), ids=COMPLETED)
def test_bash_completes(words, expected, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", "bash"]) == 0
    line = " ".join(["tinygrad-rnn", *words])
    ask = (
        f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; COMP_LINE='{line}'; COMP_POINT={len(line)}; "
        '$(complete -p tinygrad-rnn | sed "s/.*-F //; s/ .*//") tinygrad-rnn; echo "${COMPREPLY[@]}"'
    )
    script = f"{capsys.readouterr().out}\n{ask}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [expected]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_too(shell, capsys):
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    assert "tinygrad-rnn" in capsys.readouterr().out


def test_without_shtab_a_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert 'completion: shtab is not installed; pip install "tinygrad-rnn[completion]"' in capsys.readouterr().err
