"""The page in a real browser, where one is installed."""

from __future__ import annotations

import pytest

from anychannel.report import write_report
from tests.helpers.browser import CHROMIUM, browser  # noqa: F401
from tests.helpers.run_folders import all_subsets, make_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    home = tmp_path_factory.mktemp("pages")
    channels = tuple(f"band_{index}" for index in range(8))
    refused = dict.fromkeys(all_subsets(("R", "G", "B"))[1:], "takes R,G,B only")
    failed = make_run(home / "stopped", status="failed", error="loss is nan", epochs=2, test=False, cost=False)
    few = [make_run(home / "plain"), make_run(home / "adaptive", drop=0.04), make_run(home / "masked", refused=refused)]
    many = [make_run(home / f"a_rather_long_name_{i}", classes=50, report_name="task_1/v4") for i in range(5)]
    wide = [make_run(home / "wide", channels=channels, subsets=all_subsets(channels)[::8], classes=12)]
    sets = {"few": [*few, failed], "many": many, "wide": wide, "bare": [failed]}
    return {name: write_report(runs, home / f"{name}.html") for name, runs in sets.items()}


CUT_OFF = """[...document.querySelectorAll('table')].filter(table => table.offsetWidth).filter(table => {
  const box = table.closest('.scroll, .card, .example');
  return table.getBoundingClientRect().right > box.getBoundingClientRect().right && !box.matches('.scroll');
}).map(table => table.innerText)"""
"""Tables that are wider than their box, which does not scroll."""


@pytest.fixture
def open_page(browser, pages):  # noqa: F811
    contexts = []

    def open_one(name, width=1440, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.problems, page.requests_made = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests_made.append(request.url))
        page.goto(pages[name].as_uri())
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [390, 1000, 1440])
@pytest.mark.parametrize("name", ["few", "many", "wide", "bare"])
def test_the_page_fits_its_window_asks_for_nothing_and_has_no_errors(open_page, name, width):
    page = open_page(name, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []
    assert page.problems == []
    assert [url for url in page.requests_made if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in page.requests_made if url.startswith("file:")]) == 1


def test_a_column_sorts_both_ways_by_mouse_and_keyboard(open_page):
    page = open_page("few")
    panel = page.locator("article:not([hidden])").first
    head = panel.locator("thead th").nth(2)
    values = lambda: [float(text) for text in panel.locator("tbody td:nth-child(3)").all_inner_texts()]  # noqa: E731
    start = values()
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert values() == sorted(start, reverse=True) != start
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(start)
    panel.locator("thead button").first.press("Space")
    assert [th.get_attribute("aria-sort") for th in panel.locator("thead th").all()] == ["ascending", *["none"] * 4]
    names = panel.locator("tbody th").all_inner_texts()
    assert names == sorted(names)
    assert panel.locator("tfoot th").inner_text() == "Macro average"


def test_the_selectors_show_one_run_and_subset_and_keep_the_subset(open_page):
    page = open_page("few")
    run, subset = page.locator("[data-select=class-panels] select").all()
    shown = lambda: page.locator("#class-panels article:visible").evaluate_all(  # noqa: E731
        "found => found.map((panel) => panel.getAttribute('aria-label'))"
    )
    assert shown() == ["plain, R,G,B"]
    subset.select_option("G,B")
    assert shown() == ["plain, G,B"]
    run.select_option(label="adaptive")
    assert shown() == ["adaptive, G,B"]
    run.select_option(label="masked")
    assert shown() == ["masked, R,G,B"]
    assert subset.locator("option").all_inner_texts() == ["R,G,B"]


def test_curves_read_out_under_the_pointer_and_by_arrow_keys(open_page):
    page = open_page("few")
    figure = page.locator("#curves figure").first
    chart, readout = figure.locator(".curve"), figure.locator(".readout")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.11, box["y"] + box["height"] / 2)
    assert readout.inner_text().startswith("Epoch 1: training")
    page.mouse.move(0, 0)
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert readout.inner_text().startswith("Epoch 2: training")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert readout.inner_text() == ""
    assert page.locator("#curves .readout").nth(1).inner_text().startswith("Epoch 9: training")


def test_a_matrix_cell_reads_out_its_count(open_page):
    page = open_page("many")
    figure = page.locator("article:visible figure").first
    drawing = figure.locator("svg")
    drawing.scroll_into_view_if_needed()
    image = figure.locator("image").bounding_box()
    cell = image["width"] / 50
    figure.locator("image").hover(position={"x": cell * 7.5, "y": cell * 7.5})
    assert "True class_07, predicted class_07: " in figure.locator(".readout").inner_text()
    assert " of 50 (" in figure.locator(".readout").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_until_the_reader_chooses(open_page, scheme):
    page = open_page("few", color_scheme=scheme)
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    colours = {"light": "rgb(248, 248, 246)", "dark": "rgb(16, 18, 21)"}
    other = {"light": "dark", "dark": "light"}[scheme]
    assert ground() == colours[scheme]
    page.get_by_role("button", name=f"Use the {other} theme").click()
    assert ground() == colours[other]


def test_without_scripts_everything_is_shown(open_page):
    page = open_page("few", java_script_enabled=False)
    assert page.locator("#class-panels article:visible").count() == 7 + 7 + 1
    assert not page.locator(".toggle").is_visible()


def test_it_prints(open_page):
    page = open_page("few", color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.pdf()[:4] == b"%PDF"
