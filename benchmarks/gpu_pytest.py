"""A plugin for pytest: writes what happens to each test as it happens, so that nothing is lost at a limit.

Lines of JSON in the file that GPU_REPORT names: {"collected": n}, {"started": name}, {"passed": name},
{"failed": name, "why": …}, {"skipped": name}, {"warning": text}.
"""

import json
import os
import re

from pathlib import Path

FIXTURES = re.compile(r"(def test_|@pytest\.fixture.*\ndef |usefixtures\().*\b(gpu|cupy|device)\b")


def files_of_tests(folder):
    """The files that have tests on a GPU: the others take long to be collected."""
    return [f for f in sorted(folder.glob("test_*.py")) if FIXTURES.search(f.read_text(encoding="utf-8"))]


def write(**what):
    with Path(os.environ["GPU_REPORT"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def is_worker():
    return "PYTEST_XDIST_WORKER" in os.environ


def pytest_collection_finish(session):
    """How many tests there are: in each worker the same number."""
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0" and session.items:
        write(collected=len(session.items))


def pytest_runtest_logstart(nodeid):
    if not is_worker():
        write(started=nodeid)


def pytest_runtest_logreport(report):
    """A worker's reports come to the main process too."""
    if is_worker() or (report.when != "call" and report.outcome == "passed"):
        return
    why = {"why": reason(str(report.longrepr))} if report.failed else {}
    write(**{report.outcome: report.nodeid}, **why)


def pytest_warning_recorded(warning_message):
    if not is_worker():
        write(warning=f"{warning_message.category.__name__}: {warning_message.message}"[:200])


def reason(text):
    """The lines of a traceback that say what went wrong."""
    said = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
    return " | ".join(said[:12])[:600] or text[-300:]
