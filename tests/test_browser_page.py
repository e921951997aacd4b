"""The page in which the library runs in a browser: docs/browser."""

import contextlib
import functools
import importlib.util
import io
import re
import shutil
import threading

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from viz.graphviz import browser

FOLDER = Path(__file__).parent.parent / "docs" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXAMPLES = sorted((FOLDER / "examples").glob("*.py"))
PICTURES = {"1_cell": 2, "2_bptt": 2, "3_textbook": 4, "4_train": 0, "5_attention": 1}
NUMBER = re.compile(r"\d+\.\d+")
every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def here(path):
    """What an example prints, and how many pictures it shows, where it runs without a browser."""
    code = path.read_text("utf-8")
    lines = code.rstrip().splitlines()
    if path.stem != "4_train":  # whose last line prints
        lines[-1] = f"display({lines[-1].partition('  #')[0]})"
    shown, said = [], io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile("\n".join(lines), path, "exec"), {"__name__": "__main__", "display": shown.append})
    return said.getvalue().strip(), [thing._repr_html_() for thing in shown]


def built(name):
    spec = importlib.util.spec_from_file_location("browser_page", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_each_example_is_on_the_page_under_its_first_line():
    found = dict(built("examples")())
    assert len(found) == len(EXAMPLES) == len(PICTURES)
    for path, (title, code) in zip(EXAMPLES, found.items(), strict=True):
        assert path.read_text("utf-8") == f'"""{title}."""\n\n{code}'


def test_without_npm_the_page_says_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    built("build")(tmp_path / "page", tmp_path / "cache")
    assert "without npm" in (tmp_path / "page" / "index.html").read_text("utf-8")


def test_no_page_gives_anything_here():
    assert browser.instance() is None


def test_graphviz_in_a_page_makes_no_files_with_fonts():
    for form in "png", "pdf":
        with pytest.raises(RuntimeError, match=f"^viz.draw: Graphviz in a page of a browser makes no {form}; save"):
            browser.rendered("digraph {}", form, "dot")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None or shutil.which("npm") is None:
        pytest.skip("needs chromium and npm")
    folder = tmp_path_factory.mktemp("page")
    built("build")(folder, FOLDER.parent / "_build" / "npm")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = chromium.new_page()
        page.wrong = []
        page.on("console", lambda message: page.wrong.append(message.text))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.wait_for_function("!document.getElementById('run').disabled", timeout=120_000)
        yield page
        chromium.close()
    server.shutdown()
    server.server_close()


def run(page, code):
    """The texts, the pictures and the errors of a run."""
    page.evaluate("code => document.querySelector('.CodeMirror').CodeMirror.setValue(code)", code)
    page.click("#run")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Done')", timeout=240_000)
    assert page.wrong == []
    return ["\n".join(page.locator(f"#output .{kind}").all_inner_texts()) for kind in ("text", "warning", "error")]


@pytest.mark.slow
@every_example
def test_an_example_says_and_draws_in_the_browser_what_it_does_here(page, path):
    said, shown = here(path)
    text, warned, wrong = run(page, path.read_text("utf-8"))
    assert not warned and not wrong
    assert NUMBER.sub("0", text) == NUMBER.sub("0", said)
    numbers = lambda text: [float(number) for number in NUMBER.findall(text)]
    assert numbers(text)[:1] == pytest.approx(numbers(said)[:1], rel=0.02)  # later ones drift apart, in float32
    frames = page.locator("#output iframe").count()
    assert page.locator("#output svg").count() + frames == len(shown) == PICTURES[path.stem]
    for i, picture in enumerate(shown[: len(shown) - frames]):  # the same nodes and edges, at other places
        kinds = lambda svg: sorted(re.findall(r'class="(?:node|edge|cluster)[^"]*"', svg))
        assert kinds(page.locator("#output .html").nth(i).inner_html()) == kinds(picture)


@pytest.mark.slow
def test_an_error_names_the_line_of_the_code_and_the_page_goes_on(page):
    text, _, wrong = run(page, "import warnings\nprint('before')\n\ndef f(x):\n    return 1 / x\n\nf(0)\n")
    assert text == "before"
    assert wrong.startswith("Traceback") and 'File "your code", line 7' in wrong and "    return 1 / x" in wrong
    assert wrong.rstrip().endswith("ZeroDivisionError: division by zero") and "running.py" not in wrong
    text, warned, wrong = run(page, "import warnings\nwarnings.warn('take care')\n[1, '<b>']")
    assert warned == "UserWarning: take care" and wrong == ""
    assert page.inner_text("#output .html pre") == "[1, '<b>']"
    assert "SyntaxError" in run(page, "def f(:")[2]


@pytest.mark.slow
def test_what_runs_for_ever_can_be_stopped(page):
    page.evaluate("document.querySelector('.CodeMirror').CodeMirror.setValue('while True: pass')")
    page.click("#run")
    page.click("#stop")
    page.wait_for_function("!document.getElementById('run').disabled", timeout=120_000)
    assert run(page, "print(1 + 1)")[0] == "2"
