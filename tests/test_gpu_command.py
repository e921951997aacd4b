"""benchmarks/gpu.py: each part runs without a GPU, a limit ends all that a part has started, and what was found by then
is in the tables."""

import importlib
import json
import os
import subprocess
import sys
import time

from pathlib import Path

import cuda_on_cpu
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
STEP = {
    "part": "steps",
    "cell": "lstm",
    "T": 100,
    "B": 64,
    "apart": {"cuda": 1e-6},
    "forward": {"cuda": 4.0},
    "host": 9,
}


@pytest.fixture
def command(monkeypatch):
    """The module gpu of the folder benchmarks."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("gpu")


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in ({"part": "run", "name": "begins"}, *rows)))
    return path


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def has_ended(pid):
    """Within a second; somebody may still have to ask for its code."""
    for _ in range(20):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="asks Linux which processes there are")
@pytest.mark.parametrize(
    "then, limit, code", [("wait", 0.3, None), ("exec >&- 2>&-; exit 3", 20, 3)], ids=["at its limit", "with it"]
)
def test_all_that_a_part_has_started_is_ended(then, limit, code, command):
    lines, start = [], time.monotonic()
    assert command.watched(["sh", "-c", f"sleep 60 >&- 2>&- & echo $!; {then}"], limit, lines.append) == code
    assert time.monotonic() - start < 10
    assert has_ended(int(lines[0]))


def test_past_the_budget_no_part_starts(command, tmp_path, capsys):
    out = tmp_path / "gpu.jsonl"
    command.run(command.NAMES, out, -1.0, True)
    begins, *others = rows_of(out)
    assert begins["dry"] is True
    assert [row["name"] for row in others] == command.NAMES
    assert {row["skipped"] for row in others} == {"the budget of -1 s was spent"}


def test_lines_that_are_no_results_say_why_a_part_failed(command, tmp_path, monkeypatch, capsys):
    results = command.Results(tmp_path / "gpu.jsonl")
    monkeypatch.setattr(command, "__file__", str(written_script(tmp_path)))
    row = command.one(command.PARTS[0], 20.0, True, results)
    assert row["error"] == "ended with code 7: Segmentation fault, say"
    assert rows_of(results.path) == [{"part": "env", "name": "found", "n": 1}]


def written_script(folder):
    path = folder / "part.py"
    path.write_text(
        'import json, sys\nprint(json.dumps({"part": "env", "name": "found", "n": 1}))\n'
        'print("Segmentation fault, say", file=sys.stderr)\nsys.exit(7)\n'
    )
    return path


def test_an_error_of_one_thing_lets_the_next_ones_be_tried(command, capsys):
    site = command.Site("steps", True, time.monotonic() + 60)
    site.attempt("first", lambda: {}["missing"])
    site.attempt("second", lambda: {"n": 2})
    command.Site("steps", True, time.monotonic()).attempt("late", lambda: {"n": 3})
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("error") or row.get("n") or row.get("skipped") for row in found] == [
        "KeyError: 'missing'", 2, "the part's time was over",
    ]  # fmt: skip


def test_the_last_result_of_a_name_stands_in_the_table_and_what_is_missing_below(command, tmp_path):
    path = written(
        tmp_path / "gpu.jsonl",
        {**STEP, "name": "lstm 256", "H": 256, "both": {"cuda": 99.0, "loop": 100.0}},
        {**STEP, "name": "lstm 256", "H": 256, "both": {"cuda": 10.0, "loop": 75.0, "nn": 5.0, "eager": 90.0}},
        {"part": "steps", "name": "gru 256", "error": "OutOfMemoryError: too large"},
        {"part": "compile", "name": "lstm 256", "cell": "lstm", "H": 256, "T": 20, "B": 64, "both": 30.0, "first_s": 9},
        {"part": "run", "name": "steps", "error": "ended at its limit of 75 s"},
        {"part": "tests", "name": "failed tests/test_x.py::test_y", "why": "AssertionError"},
    )
    text = command.gpu_table.table(command.gpu_table.read(path))
    assert "| lstm | 256 | 90.0 | 10.0 (4.0) | 9.0 | 75.0 | 30.0 | 5.0 | 1.20 | 7.50 | 3.00 | 0.50 | 1e-06 |" in text
    assert "- steps, gru 256: OutOfMemoryError: too large" in text
    assert "- run, steps: ended at its limit of 75 s" in text
    assert "- failed tests/test_x.py::test_y: AssertionError" in text


def test_each_file_with_tests_for_a_gpu_is_found(command, request):
    marked = {item.path for item in request.session.items if item.get_closest_marker("gpu")}  # all, in a run of all
    found = importlib.import_module("gpu_pytest").files_of_tests(Path(__file__).parent)
    assert marked <= set(found)


@pytest.mark.slow
@pytest.mark.skipif(cuda_on_cpu.missing() is not None, reason="needs g++")
def test_each_part_runs_without_a_gpu(tmp_path):
    out = tmp_path / "gpu.jsonl"
    line = [sys.executable, str(FOLDER / "gpu.py"), "--dry", "--budget", "900", "--out", str(out)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # nothing is installed
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = rows_of(out)
    errors = [row for row in rows if "error" in row and row["name"] != "nvidia-smi"]
    assert errors == []
    assert all(row.get("ok", True) for row in rows)
    parts = ["env", "tests", "train", "compiled", "steps", "lm", "sanitizer", "sweep", "scan", "compile"]
    assert list(dict.fromkeys(row["part"] for row in rows)) == ["run", *parts]
    assert "A dry run without a GPU" in done.stdout
