"""Machine code is kept in a folder, for the processor that it is made for: this one, or one that it pretends to be."""

import os
import subprocess
import sys
import threading

from pathlib import Path

import pytest

llvm = pytest.importorskip("llvmlite.binding")

from tinygrad_rnn.compiler.llvm import cache, host  # noqa: E402

TESTS = Path(__file__).parent
TRIVIAL = "define i64 @one() {{\n  ret i64 {}\n}}"

# ---- processors of fewer instructions ------------------------------------------------------------------------------

CELLS = (
    "LSTM", "GRU reset after", "RNN relu", "MGU", "Stack of LSTM and GRU", "layer norm", "layer norm by hand",
    "nested state", "attention", "attention to a state", "written memory", "uneven parts",
)  # fmt: skip
AS_ANOTHER = f"""
import test_compiler as compiler, test_fast_functions as functions
from tinygrad_rnn.compiler.llvm.host import machine

print(*machine()[::2])


def outcome(name, engine):
    rnn, draw = compiler.made(name, engine, "float32"), compiler.drawing(1, "float32")
    captured = rnn.cell.capture(compiler.B, draw) if isinstance(rnn.cell, compiler.Odd) else {{}}
    xs, state = draw(compiler.T, compiler.B, compiler.I), compiler.random_state(rnn.cell, compiler.B)
    return compiler.outcome(rnn, xs, state, compiler.RAGGED, captured)


for name in {CELLS}:
    compiler.close(outcome(name, "llvm"), outcome(name, "eager"), compiler.TOLERANCE["float32"])
for row in functions.FUNCTIONS.values():
    functions.test_a_function_of_the_llvm_engine_is_numpys(*row, "float32")
"""


def can_play(name):
    have = {feature for feature, there in llvm.get_host_cpu_features().items() if there}
    return host.PRETENDED[name].needs <= have


def run(code, **environment):
    """What Python says of code, run in the folder of the tests."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=TESTS, env=os.environ | environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v2"])
def test_a_dozen_cells_and_the_functions_are_right_on_a_processor_of_fewer_instructions(name):
    if not can_play(name):
        pytest.skip(f"this processor is no {name}")
    assert run(AS_ANOTHER, TINYGRAD_RNN_HOST=name) == (0, f"{name} {host.PRETENDED[name].width}\n", "")


ASKED = "from tinygrad_rnn.compiler.llvm.host import machine\nprint(*machine()[:3])"


def test_a_processor_that_is_not_named_or_native_is_this_one():
    assert run(ASKED, TINYGRAD_RNN_HOST="") == run(ASKED, TINYGRAD_RNN_HOST="native")
    assert run(ASKED, TINYGRAD_RNN_HOST="")[1].startswith(llvm.get_host_cpu_name())


def test_a_processor_that_nobody_knows_or_that_this_one_cannot_play_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"^TINYGRAD_RNN_HOST: must be one of native, x86-64-v2, .*, got 'pdp-11'$"):
        host._pretended("pdp-11")
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: dict.fromkeys(host.V2, True))
    assert host._pretended("x86-64-v2") == ("x86-64-v2", "", 16)
    with pytest.raises(RuntimeError, match="TINYGRAD_RNN_HOST: this processor cannot run code for x86-64-v3: it lacks"):
        host._pretended("x86-64-v3")


# ---- the folder ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


KEPT = f"""
from tinygrad_rnn.compiler.llvm.machine import compiled
compiled({TRIVIAL.format(1)!r})
"""


@pytest.mark.slow
def test_code_is_kept_for_each_processor_by_itself(folder):
    asked = [name for name in ("native", *host.PRETENDED) if name == "native" or can_play(name)]
    for n, name in enumerate(asked, 1):
        for _ in range(2):
            assert run(KEPT, TINYGRAD_RNN_HOST=name) == (0, "", "")
            assert len(list(folder.iterdir())) == n


@pytest.mark.parametrize(
    "platform, variables, expected",
    [
        ("linux", {}, "home/.cache/tinygrad_rnn"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/tinygrad_rnn"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/tinygrad_rnn"),
        ("win32", {}, "home/AppData/Local/tinygrad_rnn"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/tinygrad_rnn"),
        ("linux", {"TINYGRAD_RNN_CACHE": "mine"}, "mine"),
    ],
)
def test_the_folder_is_where_a_system_keeps_caches(monkeypatch, platform, variables, expected):
    for name in "XDG_CACHE_HOME", "LOCALAPPDATA", "TINYGRAD_RNN_CACHE":
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    monkeypatch.setattr(cache.Path, "home", lambda: Path("home"))
    assert cache.folder() == Path(expected)


def test_the_tests_leave_the_users_folder_alone():
    assert Path(os.environ["TINYGRAD_RNN_CACHE"]) == cache.folder()
    assert Path.home() / ".cache" not in cache.folder().parents


def aged(where, names, size=100):
    """Files of so many bytes, the first used longest ago."""
    where.mkdir(exist_ok=True)
    for age, name in enumerate(reversed(names)):
        (where / name).write_bytes(bytes(size))
        os.utime(where / name, (1e9 - age, 1e9 - age))


def names(where):
    return {path.name for path in where.iterdir()}


def test_what_was_used_least_recently_goes_until_three_quarters_are_left(folder, monkeypatch):
    aged(folder, [f"{i}.o" for i in range(10)])
    cache.prune(folder, 1000)
    assert len(names(folder)) == 10
    assert cache.read("0") == bytes(100)  # which is thereby used
    cache.prune(folder, 999)
    assert names(folder) == {"0.o", *(f"{i}.o" for i in range(4, 10))}


def test_a_process_prunes_when_it_first_writes_and_seldom_later(folder, monkeypatch):
    pruned = []
    monkeypatch.setattr(cache, "prune", lambda *arguments: pruned.append(arguments))
    monkeypatch.setattr(cache, "_writes", iter(range(1000)))
    for i in range(cache.OFTEN + 1):
        cache.write("ab"[i % 2], b"code")
    assert pruned == [(folder, cache.LARGEST)] * 2
    assert names(folder) == {"a.o", "b.o"}


def test_files_of_killed_processes_go_and_others_files_stay(folder):
    aged(folder, ["mine.txt", ".old-01234567.o", "new.o"])
    (folder / ".now-01234567.o").write_bytes(b"half")
    cache.prune(folder, 1000)
    assert names(folder) == {"mine.txt", "new.o", ".now-01234567.o"}
    cache.prune(folder, 0)
    assert "mine.txt" in names(folder)


def test_a_file_that_is_gone_or_in_use_is_passed_over(folder, monkeypatch):
    aged(folder, ["0.o", "1.o", "2.o"])
    unlink = Path.unlink

    def refuses(path, **options):
        if path.name != "2.o":
            raise FileNotFoundError if path.name == "0.o" else PermissionError
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuses)
    cache.prune(folder, 0)
    assert names(folder) == {"0.o", "1.o"}
    assert cache.read("2") is None


def test_threads_that_write_read_and_prune_at_once_do_not_fail(folder):
    failed = []

    def work():
        try:
            for i in range(30):
                cache.write(f"{i % 7}", b"x" * 100)
                assert cache.read(f"{i % 7}") in (None, b"x" * 100)
                cache.prune(folder, 300)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path / "file" / "below"))
    cache.write("a", b"code")
    assert cache.read("a") is None
