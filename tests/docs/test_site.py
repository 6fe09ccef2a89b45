"""The site builds without warnings, has every page, and loads nothing from another machine."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import anychannel
from tests.helpers.browser import CHROMIUM, browser  # noqa: F401

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DRAWINGS = sorted((ROOT / "docs" / "diagrams").glob("*.svg"))
FETCHED = {
    "link": "href",
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "use": "href",
}
DOCUMENTED = re.compile(r"^ {4}(?:\* )?(\w+(?:, \w+)*): ", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder that ``mkdocs build --strict`` writes; a warning of MkDocs or of a docstring fails it."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


class Fetches(HTMLParser):
    """What a browser fetches on its own when it shows a page; links that a reader may follow are none of it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get(FETCHED.get(tag, ""))
        if address:
            self.addresses.append(address)


def test_no_page_asks_another_machine_for_anything(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 20
    for page in pages:
        addresses = Fetches(page).addresses
        assert addresses
        assert not [address for address in addresses if re.match(r"(https?:)?//", address)], page


def test_no_stylesheet_asks_another_machine_for_anything(site):
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_page_of_the_documentation_is_in_the_site(site):
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        name = page.relative_to(ROOT / "docs" if page.is_relative_to(ROOT / "docs") else ROOT)
        assert (site / name.with_suffix(".html")).is_file()


def test_every_public_name_is_in_the_reference_with_its_docstring(site):
    listed = re.findall(r"^::: anychannel\.(\w+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(set(anychannel.__all__) - {"__version__"})
    page = (site / "reference.html").read_text(encoding="utf-8")
    for name in listed:
        assert re.search(rf'<h3 id="[\w.]*\b{name}"', page), name


@pytest.mark.parametrize("name", anychannel.__all__)
def test_the_arguments_that_a_docstring_describes_are_in_the_signature(name):
    thing = getattr(anychannel, name)
    document = inspect.getdoc(thing) or ""
    described = re.search(r"^Args:\n((?: .*\n|\n)*)", document + "\n", re.MULTILINE)
    if described is None:
        return
    names = [one for line in DOCUMENTED.findall(described[1]) for one in line.split(", ")]
    assert names
    assert set(names) <= set(inspect.signature(thing).parameters)


def test_no_link_to_a_file_outside_the_documentation_is_left(site):
    assert 'href="../recipes' not in (site / "benchmarks.html").read_text(encoding="utf-8")
    assert 'href="add-a-stem.html"' in (site / "CONTRIBUTING.html").read_text(encoding="utf-8")


def test_the_robustness_page_holds_what_the_results_say(site):
    page = (site / "robustness.html").read_text(encoding="utf-8")
    names = {path.stem.rpartition("-s")[0] for path in (RESULTS / "report_quick").glob("*.json")}
    assert len(names) == 8
    for name in names:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in (RESULTS / "report_quick").glob(f"{name}-s*")]
        cells = []
        for key in found[0]["test"]["subsets"]:
            figures = [result["test"]["subsets"][key].get("accuracy") for result in found]
            cells.append("refused" if None in figures else f"{100 * statistics.mean(figures):.1f}")
        assert re.search(r"[^<]*</td>\s*".join(rf"<td[^>]*>{cell}" for cell in cells), page), name


@pytest.mark.parametrize(("study", "name"), [("report_quick", "resnet18"), ("any_subset_quick", "ours_3x")])
def test_the_gap_tables_hold_what_the_results_say(study, name, site):
    page = (site / "method.html").read_text(encoding="utf-8")
    paths = list((RESULTS / study).glob(f"{name}-s*.json"))
    found = [json.loads(path.read_text(encoding="utf-8"))["test"]["subsets"] for path in paths]
    assert found
    for key in ("R,G,B", "R,G", "R,B", "G,B", "R", "G", "B"):
        assert f"{statistics.mean(100 * subsets[key]['accuracy'] for subsets in found):.1f}" in page


@pytest.fixture(scope="module")
def drawing():
    path = ROOT / "docs" / "diagrams" / "draw.py"
    spec = importlib.util.spec_from_file_location("draw", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_diagram_is_what_its_script_draws(path, drawing):
    assert path.read_text(encoding="utf-8") == drawing.draw(path.stem)
    assert {path.stem for path in DRAWINGS} == set(drawing.DRAWINGS)


def test_the_estimate_in_the_diagram_is_the_stems_own(drawing):
    import torch

    from anychannel.nn.stems.completion import completion_matrix

    expected = completion_matrix(torch.tensor(drawing.CORRELATION, dtype=torch.float64), (0, 2), ridge=0.0)[1]
    assert drawing.estimate((0, 2), 1) == pytest.approx(tuple(expected.tolist()))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing, so that a failing test shows its own lines."""


@pytest.fixture(scope="module")
def served(site):
    handler = partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@needs_chromium
def test_no_page_is_wider_than_a_phone(site, served, browser):  # noqa: F811
    page = browser.new_page(viewport={"width": 390, "height": 844})
    for path in sorted(site.rglob("*.html")):
        page.goto(f"{served}/{path.relative_to(site).as_posix()}", wait_until="domcontentloaded")
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path.name
    page.close()


@needs_chromium
def test_a_reader_finds_a_name_by_search_on_a_phone_in_the_dark(served, browser):  # noqa: F811
    page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{served}/index.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ink = page.evaluate("getComputedStyle(document.querySelector('.diagram text')).fill")
    assert ink == "rgb(234, 232, 228)"
    page.locator(".md-header label[for=__search]").first.click()
    page.get_by_placeholder("Search").press_sequentially("calibrate")
    page.locator(".md-search-result__link").first.wait_for()
    found = page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
    page.close()
    assert any(link.startswith(f"{served}/reference.html") for link in found)
    assert not problems
    assert {url.split("/")[2] for url in asked if url.startswith("http")} == {served.removeprefix("http://")}
