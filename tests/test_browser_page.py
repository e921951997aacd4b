"""The page in which the library runs in a browser: docs/browser."""

import contextlib
import functools
import importlib.util
import io
import re
import shutil
import sys
import threading
import types
import warnings

from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tqdm import tqdm

from viz.graphviz import browser

FOLDER = Path(__file__).parent.parent / "docs" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EXAMPLES = sorted((FOLDER.parent / "examples").glob("*.py"))
PICTURES = {"1_cell": 2, "2_bptt": 2, "3_textbook": 4, "4_train": 0, "5_attention": 1}
CHECKS = {
    "1_cell": "fₜ = σ(Uf xₜ + Wf hₜ₋₁)",
    "4_train": "step 600: mean squared error 0.00",
    "5_attention": "s e t a g END",
}
NUMBER = re.compile(r"\d+\.\d+")
every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


@functools.cache
def module(name):
    """A script of the page, as a module. The page's own, js, is made up: what is said to it is in `said`."""
    js = types.SimpleNamespace(said=[])
    js.say = lambda kind, content: js.said.append((kind, content))
    spec = importlib.util.spec_from_file_location(f"browser_{name}", FOLDER / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "js", js)
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        patch.setattr(tqdm, "monitor_interval", tqdm.monitor_interval)
        spec.loader.exec_module(made)
    return made


def here(code):
    """What code prints, and the others of what it says, as (kind, content), where it runs without a browser."""
    running, printed = module("running"), io.StringIO()
    running.js.said.clear()
    with contextlib.redirect_stdout(printed):
        running.run(code)
    return printed.getvalue().strip(), [*running.js.said]


def test_each_example_is_on_the_page_under_its_first_line():
    found = dict(module("build").examples())
    assert len(found) == len(EXAMPLES) == len(PICTURES)
    for path, (title, code) in zip(EXAMPLES, found.items(), strict=True):
        assert path.read_text("utf-8") == code
        assert code.startswith(f"# %% [markdown]\n# # {title}\n#\n# ")


def test_the_site_has_a_page_of_each_example():
    index = (FOLDER.parent / "index.md").read_text("utf-8")
    assert re.findall(r"^examples/(.*)$", index, re.MULTILINE) == [path.stem for path in EXAMPLES]


@pytest.mark.slow
@every_example
def test_an_example_shows_what_it_promises(path):
    text, said = here(path.read_text("utf-8"))
    assert {kind for kind, _ in said} <= {"html"} and len(said) == PICTURES[path.stem]
    assert text or said
    assert CHECKS.get(path.stem, "") in text


def test_a_cell_begins_with_a_mark_and_its_last_value_is_shown():
    cells = ["[markdown]\n# # one", "\nx = 2\nx\n", "\nprint('two')\nNone", "\n[x]\nx += 1", "\nx"]
    text, said = here("\n".join(f"# %% {cell}" for cell in cells))
    assert text == "two" and said == [("html", "<pre>2</pre>"), ("html", "<pre>3</pre>")]
    assert here("") == ("", [])
    assert here("display([1])\n'<b>'")[1] == [("html", "<pre>[1]</pre>"), ("html", "<pre>&#x27;&lt;b&gt;&#x27;</pre>")]


@pytest.mark.parametrize("npm", [None, "#!/bin/sh\necho 'npm error: no registry' >&2\nexit 1\n"])
def test_without_npm_or_its_registry_the_page_says_what_it_lacks(tmp_path, monkeypatch, capsys, npm):
    if npm:
        (tmp_path / "npm").write_text(npm)
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    module("build").build(tmp_path / "page", tmp_path / "cache")
    reason = "npm says npm error: no registry" if npm else "there is no npm"
    assert reason in (tmp_path / "page" / "index.html").read_text("utf-8")
    assert capsys.readouterr().err == f"docs/browser: left out, {reason}\n"


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
    cache = FOLDER.parent / "_build" / "npm"
    missing = module("build").installed(cache)
    if CHROMIUM is None or missing:
        pytest.skip(missing or "needs chromium")
    folder = tmp_path_factory.mktemp("page")
    module("build").build(folder, cache)
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
    said = [page.locator(f"#output .{kind}").all_inner_texts() for kind in ("text", "warning", "error")]
    return ["".join(texts).strip() for texts in said]


@pytest.mark.slow
@every_example
def test_an_example_says_and_draws_in_the_browser_what_it_does_here(page, path):
    said, others = here(path.read_text("utf-8"))
    shown = [content for _, content in others]
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


def begin(page, code):
    page.evaluate("code => document.querySelector('.CodeMirror').CodeMirror.setValue(code)", code)
    page.click("#run")


def is_anew(page):
    page.wait_for_function("!document.getElementById('run').disabled", timeout=120_000)
    assert run(page, "print(1 + 1)")[0] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("code", ["while True: pass", "while True: print('on and on')"], ids=["silent", "talking"])
def test_what_runs_for_ever_can_be_stopped(page, code):
    begin(page, code)
    page.wait_for_timeout(1500)
    page.click("#stop", timeout=5000)
    assert page.inner_text("#status").startswith("Stopped")
    is_anew(page)
    begin(page, code)
    page.keyboard.press("Escape")  # the cursor is not in the editor
    assert page.inner_text("#status").startswith("Stopped")
    is_anew(page)


@pytest.mark.slow
def test_another_example_stops_what_runs(page):
    begin(page, "while True: print('old')")
    page.wait_for_timeout(300)
    page.select_option("#examples", index=2)
    is_anew(page)
    assert "old" not in page.inner_text("#output")


@pytest.mark.slow
def test_python_that_has_ended_begins_anew(page):
    begin(page, "import os\nprint('so far', end='')\nos._exit(1)")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Python has ended')")
    page.wrong.clear()
    is_anew(page)


@pytest.mark.slow
def test_what_has_no_end_of_line_is_said_in_its_place(page):
    text, _, wrong = run(page, "print('epoch 1', end=' ')\ndisplay(1)\nprint('tail', end='')\n1 / 0")
    assert text == "epoch 1 tail" and "ZeroDivisionError" in wrong
    assert [b.get_attribute("class") for b in page.locator("#output > *").all()] == ["text", "html", "text", "error"]
    assert run(page, "print('hello')") == ["hello", "", ""]
    bar = "from tqdm import tqdm\nimport sys\nsum(tqdm(range(10), file=sys.stdout))"
    assert run(page, bar)[1:] == ["", ""]


@pytest.mark.slow
def test_much_that_is_printed_is_cut_and_does_not_block_the_page(page):
    text, _, _ = run(page, "for i in range(60_000): print('line', i)")
    assert text.startswith("line 0\nline 1\n") and text.endswith("is left out)") and len(text) < 300_000


USES_NUMPY = """
import functools, math
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops

class Scaled(nn.GRUCell):
    def forward(self, x, h):
        y, h = super().forward(x * float(np.sqrt(2.0)) * math.cos(0.1), h)
        return functools.reduce(lambda a, b: a + b, [y, y]), h

print(nn.Recurrent(Scaled(2, 3)).plan(tg.zeros(4, 1, 2)).engine)
"""


@pytest.mark.slow
def test_pythons_and_numpys_functions_are_not_taken_for_the_users(page):
    assert run(page, USES_NUMPY) == ["numpy", "", ""]


def test_the_site_leads_to_the_page_itself():
    """A link of Markdown would lead to a copy of the template, for download."""
    text = (FOLDER.parent / "in_the_browser.md").read_text("utf-8")
    assert '<a href="browser/index.html">' in text and "](browser/" not in text
