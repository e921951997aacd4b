"""What is to be known of the library on a GPU, by one command, in six minutes: is it right, and how fast is it?

    pip install numpy graphviz tqdm safetensors pytest pytest-xdist hypothesis "cupy-cuda13x[ctk]" torch
    python benchmarks/gpu.py                     from a checkout, of which nothing needs to be installed
    python benchmarks/gpu.py --table FILE        the results of a file as a table in Markdown, for RESULTS.md
    python benchmarks/gpu.py --dry               without a GPU: the stand-in for CuPy, PyTorch on the CPU, tiny sizes

(cupy-cuda12x[ctk] for a driver of CUDA 12; on Linux PyPI's torch is a build with CUDA.) Parts run in the order of their
worth, each in a process of its own with a limit, after which it is ended with all that it has started; what it had
found by then counts. A result is a line of JSON: its part, its name, and what was found; or an error, or why it was
skipped. In a file with several runs the last result of each name counts.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gpu_table

from gpu_site import ROOT, Site

BUDGET = 340.0  # seconds after which no part starts
GRACE = 15.0  # seconds after the budget at which what still runs is ended
DRY = 6  # how many times longer a part may take without a GPU


class Part(NamedTuple):
    """A function of a module, of its own name, that is given a Site.

    limit  seconds
    alone  does it see to a missing GPU itself?
    """

    name: str
    module: str
    limit: float
    alone: bool = False


PARTS = (
    Part("env", "gpu_checks", 40, alone=True),
    Part("tests", "gpu_checks", 90),
    Part("train", "gpu_checks", 40),
    Part("compiled", "gpu_checks", 50),
    Part("steps", "gpu_times", 75),
    Part("lm", "gpu_times", 25),
    Part("sanitizer", "gpu_checks", 40),
    Part("sweep", "gpu_times", 30),
    Part("scan", "gpu_scan", 20),
    Part("compile", "gpu_times", 60),
)
NAMES = [part.name for part in PARTS]


# ---- one part, in a process of its own ------------------------------------------------------------------------------


def run_part(name: str, limit: float, dry: bool) -> None:
    """All results of a part, on stdout."""
    part, site = PARTS[NAMES.index(name)], Site(name, dry, time.monotonic() + limit)
    missing = "" if part.alone else site.enter()
    if missing:
        site.say("", skipped=missing)
    else:
        getattr(importlib.import_module(part.module), name)(site)


def watched(command: Sequence[str], limit: float, take: Callable[[str], None]) -> int | None:
    """Run a command, and give each line that it prints to a function; what it has started ends with it.

    Returns its exit code, or None if the limit ended it.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])}
    late = threading.Event()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        env=environment, cwd=ROOT,
    ) as started:  # fmt: skip
        timer = threading.Timer(limit, lambda: (late.set(), _end(started.pid)))
        timer.start()
        try:
            for line in started.stdout or ():
                take(line)
            code = started.wait()
        finally:
            timer.cancel()
            _end(started.pid)
    return None if late.is_set() else code


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


# ---- all parts ------------------------------------------------------------------------------------------------------


class Results:
    """A file of results, and the last lines that were none."""

    def __init__(self, path: Path):
        self.path, self.other = path, deque[str](maxlen=12)

    def take(self, line: str) -> None:
        """A line that a part has printed."""
        if line.startswith('{"part": '):
            self.add(json.loads(line))
        elif line.strip():
            self.other.append(line.rstrip())

    def add(self, row: dict[str, Any]) -> None:
        """A result: into the file, and onto the screen."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        shown = json.dumps(row, ensure_ascii=False)
        print(shown if len(shown) < 400 else f"{shown[:400]} …", flush=True)


def run(names: Sequence[str], path: Path, budget: float, dry: bool) -> None:
    """The parts one after the other, while the budget lasts."""
    results, start = Results(path), time.monotonic()
    results.add({"part": "run", "name": "begins", "date": str(datetime.date.today()), "commit": commit(), "dry": dry})
    for part in PARTS:
        if part.name not in names:
            continue
        passed = time.monotonic() - start
        if passed > budget:
            results.add({"part": "run", "name": part.name, "skipped": f"the budget of {budget:.0f} s was spent"})
            continue
        limit = min(part.limit * (DRY if dry else 1), budget + GRACE - passed)
        results.add({"part": "run", "name": part.name, **one(part, limit, dry, results)})


def one(part: Part, limit: float, dry: bool, results: Results) -> dict[str, Any]:
    """Run a part; returns how it ended. It is told of a little less time, so that it can end by itself."""
    results.other.clear()
    begun = time.monotonic()
    command = [sys.executable, "-u", __file__, "--part", part.name, "--limit", f"{limit - 3:.1f}", *["--dry"] * dry]
    code = watched(command, limit, results.take)
    found: dict[str, Any] = {"seconds": round(time.monotonic() - begun, 1)}
    if code is None:
        found["error"] = f"ended at its limit of {limit:.0f} s"
    elif code:
        found["error"] = f"ended with code {code}: " + " | ".join(results.other)[-1500:]
    return found


def commit() -> str:
    """The commit of the checkout, if git knows it."""
    try:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%h"], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


# ---- the command line -----------------------------------------------------------------------------------------------


def main() -> None:
    options = parsed()
    if options.part:
        run_part(options.part, options.limit, options.dry)
    elif options.table:
        print(gpu_table.table(gpu_table.read(options.table)))
    else:
        run(options.parts, options.out, options.budget, options.dry)
        print(f"\n{gpu_table.table(gpu_table.read(options.out))}\n\n{options.out}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--parts", type=some_parts, default=NAMES, help=f"of {','.join(NAMES)}")
    add("--budget", type=float, default=BUDGET, help=f"seconds after which no part starts, {BUDGET:.0f} if not given")
    add("--dry", action="store_true", help="without a GPU, to see that each part runs: the numbers mean nothing")
    add("--out", type=Path, default=ROOT / "benchmarks/gpu.jsonl", help="the file that results are added to")
    add("--table", type=Path, help="only print the results of this file as a table")
    add("--part", choices=NAMES, help=argparse.SUPPRESS)
    add("--limit", type=float, default=60.0, help=argparse.SUPPRESS)
    return parser.parse_args()


def some_parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    main()
