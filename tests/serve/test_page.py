"""The page in a real browser, where one is installed."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from anychannel.cli import app
from tests.helpers.browser import CHROMIUM, browser  # noqa: F401
from tests.helpers.service import EVALUATED, serving

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SIZES = {"laptop": (1280, 800), "phone": (390, 844)}


@pytest.fixture
def visit(browser, address):  # noqa: F811
    contexts = []

    def visit_one(size="laptop", url=None, **options):
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.problems, page.requests_made = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests_made.append(request.url))
        page.goto(url or address)
        page.wait_for_selector("#strip button, #no-examples:not([hidden])")
        return page

    yield visit_one
    for context in contexts:
        context.close()


@pytest.fixture
def photo(photos):
    return photos / "test" / "left" / "1.png"


def switch(page, name):
    return page.get_by_role("switch", name=f"Channel {name}", exact=True)


def settled(page):
    page.wait_for_selector("#result[aria-busy=false]")
    return page.locator("#best").inner_text(), page.locator("#sure").inner_text()


def upload(page, path):
    page.get_by_label("Choose images").set_input_files(path)


def opened(page, name):
    page.locator("#drop-title strong", has_text=re.compile(rf"^{re.escape(name)}$")).wait_for()
    return settled(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_its_window_and_has_no_errors_before_and_after_a_prediction(visit, address, size, scheme):
    page = visit(size, color_scheme=scheme)
    width = SIZES[size][0]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#best").inner_text() == "No image yet"
    page.locator("#strip button").first.click()
    assert settled(page)[0] in ("left", "right")
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(248, 248, 246)", "dark": "rgb(16, 18, 21)"}[scheme]
    assert page.problems == []
    assert all(url.startswith((address, "data:")) for url in page.requests_made)


def test_switching_channels_changes_the_prediction_and_the_expected_accuracy(visit, http, photo):
    page = visit()
    upload(page, photo)
    opened(page, "1.png")
    for name, subset in (("B", "R,G"), ("G", "R"), ("B", "R,B")):
        switch(page, name).click()
        settled(page)
        with photo.open("rb") as file:
            answer = http.post("/api/predict", files={"file": file}, data={"channels": subset}).json()
        best = answer["top"][0]
        assert page.locator("#best").inner_text() == best["class"]
        assert f"{100 * best['probability']:.1f}\N{NO-BREAK SPACE}% confident" in page.locator("#sure").inner_text()
        shares = page.locator("#top .share").all_inner_texts()
        assert [float(share.split()[0]) for share in shares] == pytest.approx(
            [100 * guess["probability"] for guess in answer["top"]], abs=0.06
        )
        figure = page.locator("#accuracy").inner_text()
        if subset in EVALUATED:
            assert figure.startswith(f"{100 * answer['expected']['accuracy']:.1f}")
            assert "of 12 test images, with R and G" in page.locator("#accuracy-note").inner_text()
        else:
            assert figure == "Not evaluated"
            assert "No accuracy was measured with R" in page.locator("#accuracy-note").inner_text()
        said = page.locator("[role=status]").inner_text()
        assert said.startswith(best["class"])
        assert ("was not measured" in said) == (subset not in EVALUATED)
    page.get_by_role("button", name="Switch all on").click()
    settled(page)
    assert [button.get_attribute("aria-checked") for button in page.get_by_role("switch").all()] == ["true"] * 3
    assert page.problems == []


def test_the_last_channel_stays_on_and_the_page_says_why(visit):
    page = visit()
    page.locator("#strip button").first.click()
    settled(page)
    for name in ("R", "B"):
        switch(page, name).click()
    before = settled(page)
    last = switch(page, "G")
    assert last.get_attribute("aria-disabled") == "true"
    last.click(force=True)
    assert last.get_attribute("aria-checked") == "true"
    note = page.locator("#channel-note")
    assert note.inner_text() == "G stays on: the network needs at least one channel. Switch on another first."
    assert note.get_attribute("aria-live") == "polite"
    assert settled(page) == before
    switch(page, "R").click()
    assert note.inner_text() == ""
    assert last.get_attribute("aria-disabled") == "false"


def test_a_wrong_file_is_named_with_what_is_expected_and_nothing_is_lost(visit, photo, tmp_path):
    page = visit()
    upload(page, photo)
    before = opened(page, "1.png")
    switch(page, "B").click()
    before = settled(page)
    pictures = [picture.get_attribute("src") for picture in page.locator(".switch img").all()]
    wrong = tmp_path / "grey.png"
    Image.new("L", (20, 20)).save(wrong)
    upload(page, wrong)
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "grey.png: it has 1 channel (greyscale), but 3 expected (R, G, B)" in alert.inner_text()
    assert opened(page, "1.png") == before
    assert [picture.get_attribute("src") for picture in page.locator(".switch img").all()] == pictures
    assert switch(page, "B").get_attribute("aria-checked") == "false"
    page.get_by_role("button", name="Dismiss the message").click()
    assert not alert.is_visible()
    upload(page, wrong)
    alert.wait_for()
    upload(page, photo)
    page.get_by_role("alert").wait_for(state="hidden")


def test_a_file_that_is_too_large_is_told_before_it_is_sent(visit, run, tmp_path):
    with serving(run, max_upload_mb=0.25) as url:
        page = visit(url=url)
        sent = len(page.requests_made)
        large = tmp_path / "large.tif"
        large.write_bytes(bytes(300_000))
        upload(page, large)
        page.get_by_role("alert").wait_for()
        assert "large.tif: it has 0.286 MB, more than the 0.25 MB" in page.get_by_role("alert").inner_text()
        assert len(page.requests_made) == sent


def test_a_tiff_with_some_of_the_channels_shows_the_others_as_absent(visit, photo, tmp_path):
    page = visit()
    path = tmp_path / "two bands.tif"
    pixels = np.moveaxis(np.asarray(Image.open(photo)), -1, 0)[[2, 0]].astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "CYX"})
    page.get_by_text("My files hold other channels").click()
    page.get_by_label("Channels of a file, in its order").fill("B,R")
    upload(page, path)
    opened(page, "two bands.tif")
    assert "30 × 20 pixels, 16 bit, resized and cut to 16 × 16" in page.locator("#image-facts").inner_text()
    green = switch(page, "G")
    assert green.get_attribute("aria-checked") == "false"
    assert green.get_attribute("aria-disabled") == "true"
    green.click(force=True)
    assert page.locator("#channel-note").inner_text() == "G is not in two bands.tif, so it cannot be switched on."
    assert "from R and B" in page.locator("[role=status]").inner_text()


def test_a_dropped_file_is_opened(visit, photo):
    page = visit()
    content = list(photo.read_bytes())
    transfer = page.evaluate_handle(
        """(content) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(content)], "dropped.png"));
            return transfer;
        }""",
        content,
    )
    page.dispatch_event("#drop", "dragenter", {"dataTransfer": transfer})
    assert "over" in page.locator("#drop").get_attribute("class")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    opened(page, "dropped.png")
    assert "over" not in page.locator("#drop").get_attribute("class")


@pytest.mark.parametrize("size", SIZES)
def test_everything_can_be_done_with_the_keyboard(visit, size):
    page = visit(size)
    names = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """(() => {
                const e = document.activeElement;
                return e.ariaLabel || e.labels?.[0]?.textContent || e.querySelector("img")?.alt || e.textContent;
            })()"""
        )
        names.append(focused.strip())
        if focused.startswith("Test image") and "Enter" not in names:
            page.keyboard.press("Enter")
            names.append("Enter")
            settled(page)
        if focused == "Channel B":
            break
    assert names[:3] == ["Skip to the prediction", "Use the dark theme", "Choose images"]
    assert names[-3:] == ["Channel R", "Channel G", "Channel B"]
    before = page.locator("[role=status]").inner_text()
    page.keyboard.press("Space")
    settled(page)
    assert switch(page, "B").get_attribute("aria-checked") == "false"
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator("[role=status]").inner_text() == before


def test_of_quick_changes_the_last_one_counts(visit):
    page = visit()
    page.locator("#strip button").first.click()
    settled(page)
    page.evaluate("['R', 'G', 'R', 'B'].forEach((n) => document.querySelector(`[aria-label='Channel ${n}']`).click())")
    settled(page)
    assert ", from R. " in page.locator("[role=status]").inner_text()
    assert page.problems == []


def test_a_service_that_stopped_is_told_and_can_be_tried_again(visit, run):
    with serving(run) as url:
        page = visit(url=url)
        page.locator("#strip button").first.click()
        before = settled(page)
        page.route("**/api/predict", lambda route: route.abort())
        switch(page, "B").click()
        settled(page)
        assert page.locator("#best").inner_text() == "No prediction"
        assert "Is `anychannel serve` still running?" in page.locator("#sure").inner_text()
        switch(page, "B").click()
        page.unroute("**/api/predict")
        page.get_by_role("button", name="Try again").click()
        page.locator("#top").wait_for()
        assert settled(page) == before


def test_an_image_that_the_service_has_dropped_is_sent_again(visit, photo):
    page = visit()
    upload(page, photo)
    before = opened(page, "1.png")
    dropped = []

    def drop_once(route):
        dropped.append(1)
        if len(dropped) == 1:
            route.fulfill(status=404, json={"error": "gone"})
        else:
            route.continue_()

    page.route("**/api/predict", drop_once)
    switch(page, "B").click()
    settled(page)
    switch(page, "B").click()
    assert settled(page) == before
    assert len(dropped) == 3


def test_a_subset_that_the_network_refuses_is_told_where_the_prediction_stands(visit, refusing):
    with serving(refusing) as url:
        page = visit(url=url)
        page.locator("#strip button").first.click()
        settled(page)
        switch(page, "G").click()
        settled(page)
        assert page.locator("#best").inner_text() == "No prediction"
        assert not page.get_by_role("button", name="Try again").is_visible()
        assert page.locator("#accuracy").inner_text() == "Refused"
        switch(page, "G").click()
        page.locator("#top").wait_for()


def test_reduced_motion_moves_nothing(visit):
    page = visit(reduced_motion="reduce")
    durations = page.evaluate("[...document.querySelectorAll('*')].map((e) => getComputedStyle(e).transitionDuration)")
    assert set(durations) == {"0s"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_image_unlike_the_training_images_is_said_where_the_prediction_stands(visit, photo, tmp_path, size, scheme):
    page = visit(size, color_scheme=scheme)
    remark, figure = page.locator("#unlike"), page.locator("#accuracy")
    upload(page, photo)
    opened(page, "1.png")
    assert not remark.is_visible()
    usual = figure.inner_text()
    pixels = np.array(Image.open(photo))
    pixels[:, :, 1] = np.random.default_rng(0).integers(0, 256, pixels.shape[:2])  # noise in green alone
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    upload(page, tmp_path / "noise.png")
    opened(page, "noise.png")
    assert remark.inner_text().startswith("In R, G, B it is unlike the training images (distance ")
    assert figure.inner_text() == "Does not apply"
    assert not page.locator("#rail").is_visible()
    assert "The expected accuracy does not apply." in page.locator("[role=status]").inner_text()
    switch(page, "G").click()
    settled(page)
    assert not remark.is_visible()
    assert figure.inner_text() == "Not evaluated"
    switch(page, "R").click()
    settled(page)
    assert figure.inner_text().endswith("%")
    switch(page, "G").click()
    settled(page)
    assert "G" in remark.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    upload(page, photo)
    opened(page, "1.png")
    page.get_by_role("button", name="Switch all on").click()
    settled(page)
    assert not remark.is_visible()
    assert figure.inner_text() == usual
    assert page.problems == []


def test_the_page_says_which_channels_an_answer_rests_on(visit, photo):
    page = visit()
    assert page.locator("#explain").is_disabled()
    assert page.locator("#groups").is_hidden()
    upload(page, photo)
    opened(page, photo.name)
    page.locator("#explain").click()
    page.wait_for_selector("#contributions:not([hidden]) li")
    lines = page.locator("#contributions .class").all_inner_texts()
    assert sorted(lines) == ["B", "G", "R"]
    shares = page.locator("#contributions .share").all_inner_texts()
    assert all(re.fullmatch(r"[+\u2212]\d+\.\d", text) for text in shares)
    assert "its share of the test images" in page.locator("#contributions-note").inner_text()
    page.locator("#every summary").click()
    assert page.locator("#every-rows th").all_inner_texts() == ["R, G, B", "R, G", "R, B", "G, B", "R", "G", "B"]
    page.locator("#strip button").first.click()
    page.wait_for_selector("#contributions", state="hidden")
    assert page.problems == []


def test_a_whole_sensor_is_switched_by_one_button(visit, grouped):
    with serving(grouped) as url:
        page = visit(url=url)
        page.locator("#strip button").first.click()
        settled(page)
        warm = page.get_by_role("button", name="warm", exact=True)
        assert warm.get_attribute("aria-pressed") == "true"
        warm.click()
        settled(page)
        assert [switch(page, name).get_attribute("aria-checked") for name in "RGB"] == ["false", "false", "true"]
        assert "with cold" in page.locator("#accuracy-note").inner_text()
        page.get_by_role("button", name="cold", exact=True).click()
        assert "cold stays on" in page.locator("#channel-note").inner_text()
        warm.click()
        settled(page)
        page.locator("#explain").click()
        page.wait_for_selector("#contributions:not([hidden]) li")
        assert sorted(page.locator("#contributions .class").all_inner_texts()) == ["cold", "warm"]
        assert page.problems == []


def test_several_images_are_answered_together_and_downloaded_as_the_table_that_predict_writes(
    visit, run, photos, tmp_path
):
    files = sorted((photos / "test").rglob("*.png"))[:3]
    named = [tmp_path / f"{number}, b.png" for number in range(3)]
    for file, copy in zip(files, named, strict=True):
        copy.write_bytes(file.read_bytes())
    page = visit()
    upload(page, named)
    opened(page, named[0].name)
    rows = page.locator("#own-rows tr")
    for number in range(3):
        rows.nth(number).locator("td:nth-child(3):not(:empty)").wait_for()
    assert page.locator("#own-title").inner_text() == "Your 3 images"
    switch(page, "B").click()
    settled(page)
    rows.nth(2).get_by_role("button").click()
    opened(page, named[2].name)
    page.locator("#csv", has_text="Download 3 answers as CSV").wait_for()
    with page.expect_download() as download:
        page.locator("#csv").click()
    download.value.save_as(tmp_path / "page.csv")
    command = ["predict", str(run), *map(str, named), "--drop", "B", "--out", str(tmp_path / "command.csv")]
    assert CliRunner().invoke(app, command).exit_code == 0
    tables = [(tmp_path / name).read_text(encoding="utf-8").splitlines() for name in ("page.csv", "command.csv")]
    ours, theirs = (list(csv.DictReader(lines)) for lines in tables)
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert list(mine) == list(other)
        assert mine["file"] == other["file"].rsplit("/", 1)[1]
        for key in ("channels", "class", "unlike", "dead", "notes", "error"):
            assert mine[key] == other[key]
        for key in ("probability", "p_left", "p_right"):
            assert float(mine[key]) == pytest.approx(float(other[key]), rel=1e-3)
    assert page.problems == []


def test_an_error_leads_to_the_panel_that_mends_it_and_the_file_is_tried_again(visit, photo, tmp_path):
    page = visit()
    wide = tmp_path / "alpha.png"
    Image.open(photo).convert("RGBA").save(wide)
    upload(page, [photo, wide])
    page.get_by_role("alert").wait_for()
    assert "alpha.png" in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="Name the channels").click()
    field = page.get_by_label("Channels of a file, in its order")
    assert field.evaluate("field => field === document.activeElement && field.getAttribute('aria-invalid')") == "true"
    field.fill("R,G,B,-")
    field.press("Enter")
    opened(page, "alpha.png")
    assert page.get_by_role("alert").is_hidden()
    assert page.locator("#own-rows tr").count() == 2
    cube = tmp_path / "cube.npy"
    assert page.locator("#mend").is_hidden()
    np.save(cube, np.zeros((4, 4, 4), np.uint8))
    upload(page, cube)
    page.get_by_role("button", name="Choose the axes").click()
    assert page.locator("#layout").evaluate("field => field === document.activeElement")
    page.locator("#layout").select_option("planar")
    opened(page, "cube.npy")


def test_the_table_names_files_that_could_not_be_opened_until_they_are(visit, photo, tmp_path):
    page = visit()
    mended, broken = tmp_path / "mended.png", tmp_path / "broken.png"
    for file in (mended, broken):
        file.write_bytes(b"no image")

    def errors():
        page.locator("#csv:not([disabled])").wait_for()
        with page.expect_download() as download:
            page.locator("#csv").click()
        download.value.save_as(tmp_path / "page.csv")
        rows = csv.DictReader((tmp_path / "page.csv").read_text(encoding="utf-8").splitlines())
        return {row["file"]: row["error"] for row in rows}

    upload(page, [photo, mended, broken])
    page.get_by_role("alert").wait_for()
    found = errors()
    assert list(found) == [photo.name, "mended.png", "broken.png"]
    assert [bool(text) for text in found.values()] == [False, True, True]
    assert "broken.png" in found["broken.png"]
    Image.open(photo).rotate(90).save(mended)
    upload(page, mended)
    opened(page, "mended.png")
    settled(page)
    assert {name: bool(text) for name, text in errors().items()} == {
        photo.name: False,
        "mended.png": False,
        "broken.png": True,
    }


def test_a_dead_channel_is_said_and_left_out_with_one_click(visit, photo, tmp_path):
    page = visit()
    pixels = np.array(Image.open(photo))
    pixels[..., 1] = 255
    Image.fromarray(pixels).save(tmp_path / "dead.png")
    upload(page, tmp_path / "dead.png")
    opened(page, "dead.png")
    remark = page.locator("#notes .dead")
    assert remark.inner_text().startswith("G is 255 throughout: it may be dead or saturated.")
    page.get_by_role("button", name="Leave out G").click()
    settled(page)
    assert switch(page, "G").get_attribute("aria-checked") == "false"
    assert page.get_by_role("button", name="Use G").is_visible()
    assert "from R and B" in page.locator("[role=status]").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_endpoints_are_described_on_a_page_of_their_own(visit, http, address, scheme):
    page = visit(color_scheme=scheme)
    page.get_by_text("From a program").click()
    page.get_by_role("link", name="All endpoints").click()
    page.wait_for_selector(".docs")
    text = page.locator("main").inner_text()
    schema = http.get("/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method, entry in methods.items():
            assert f"{method.upper()} {path}" in text
            assert entry["description"] in text
    for name in ("Prediction", "Importance", "Problem", "Model", "Image"):
        assert page.locator(f"#{name}").count() == 1
        for field in schema["components"]["schemas"][name]["properties"]:
            assert page.locator(f"#{name} th code", has_text=re.compile(f"^{field}$")).count() == 1
    assert page.locator("a[href^='#']").evaluate_all("links => links.every((a) => document.querySelector(a.hash))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.problems == []
    assert all(url.startswith((address, "data:")) for url in page.requests_made)
