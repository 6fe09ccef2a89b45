"""The JSON endpoints over real HTTP."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from anychannel.data import DataError
from anychannel.models import load_model
from anychannel.results.evaluation import load_evaluation
from anychannel.results.run import RunError
from anychannel.runs.predict import Predictor, predict_files
from anychannel.serve.images import ImageStore
from anychannel.serve.server import LOOPBACK
from anychannel.serve.service import Service
from tests.helpers.service import EVALUATED, serving, train
from tests.reference.shapley import shapley_by_orders

SUBSETS = ("R,G,B", "R,G", "R,B", "G,B", "R", "G", "B")


@pytest.fixture(scope="module")
def photo(photos):
    return photos / "test" / "right" / "3.png"


@pytest.fixture(scope="module")
def strict(run):
    with serving(run, hosts=LOOPBACK) as url:
        yield url


def send(http, path, data, name="image.png", **fields):
    return http.post(path, files={"file": (name, data)}, data=fields)


def tiff(pixels, **options):
    buffer = BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def planes(photo):
    return np.moveaxis(np.asarray(Image.open(photo)), -1, 0)


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_prediction_is_what_predict_says_of_a_file_with_just_these_channels(http, run, photo, subset, tmp_path):
    answer = send(http, "/api/predict", photo.read_bytes(), channels=subset).json()
    only = tmp_path / "only.tif"
    chosen = planes(photo)[["RGB".index(name) for name in subset.split(",")]]
    tifffile.imwrite(only, chosen, photometric="minisblack", metadata={"axes": "CYX"})
    (expected,) = predict_files(run, [only], channels=subset, top=5)
    assert answer["channels"] == subset.split(",")
    assert sorted(answer["channels"] + answer["missing"]) == ["B", "G", "R"]
    assert [guess["class"] for guess in answer["top"]] == [entry["class"] for entry in expected["top"]]
    for guess, entry in zip(answer["top"], expected["top"], strict=True):
        assert guess["probability"] == pytest.approx(entry["probability"], abs=1e-4)


@pytest.mark.parametrize("subset", SUBSETS)
def test_the_expected_accuracy_is_the_evaluated_one_or_none(http, run, photo, subset):
    answer = send(http, "/api/predict", photo.read_bytes(), channels=subset).json()
    told = {",".join(entry["channels"]): entry for entry in http.get("/api/model").json()["expected"]}
    assert set(told) == set(EVALUATED)
    assert answer["expected"] == told.get(subset)
    if subset in EVALUATED:
        accuracy = load_evaluation(run).subsets[subset]["accuracy"]
        assert answer["expected"]["accuracy"] == accuracy
        share = (12 * accuracy + 1) / 14
        assert answer["expected"]["standard_error"] == pytest.approx((share * (1 - share) * 14) ** 0.5 / 12)
        assert answer["expected"]["images"] == 12


def test_the_order_in_which_channels_are_asked_for_does_not_matter(http, photo):
    data = photo.read_bytes()
    one, other = (send(http, "/api/predict", data, channels=channels).json() for channels in ("R,B", "B,R"))
    assert one == other


def test_a_file_may_hold_other_channels_in_another_order(http, photo):
    whole = send(http, "/api/predict", photo.read_bytes(), channels="R,B").json()
    pixels = planes(photo)
    turned = tiff(np.stack([pixels[2], pixels[1] // 2, pixels[0]]), photometric="minisblack", metadata={"axes": "CYX"})
    answer = send(http, "/api/predict", turned, "turned.tif", file_channels="B,-,R").json()
    assert answer["top"] == whole["top"]
    assert answer["channels"] == ["R", "B"]
    held = send(http, "/api/images", turned, "turned.tif", file_channels="B,-,R").json()
    assert [channel["name"] for channel in held["channels"]] == ["B", "R"]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("interleaved", [False, True])
def test_tiffs_of_every_depth_and_layout_give_the_same_answer(http, photo, dtype, interleaved):
    pixels = planes(photo).astype(dtype)
    data = tiff(np.moveaxis(pixels, 0, -1) if interleaved else pixels, photometric="minisblack", metadata=None)
    fields = {"layout": "interleaved" if interleaved else "planar"}
    opened = send(http, "/api/images", data, "image.tif", **fields).json()
    assert (opened["dtype"], opened["width"], opened["height"]) == (dtype, 30, 20)
    whole = send(http, "/api/predict", photo.read_bytes()).json()
    answer = http.post("/api/predict", data={"image": opened["id"]}).json()
    for guess, expected in zip(answer["top"], whole["top"], strict=True):
        assert guess["class"] == expected["class"]
        assert guess["probability"] == pytest.approx(expected["probability"], abs=0.02)  # 8 bit is rounded once


def test_an_opened_image_shows_each_channel_and_its_values(http, photo):
    opened = send(http, "/api/images", photo.read_bytes(), "right.png").json()
    assert opened["name"] == "right.png"
    assert opened["notes"] == []
    for channel in opened["channels"]:
        picture = httpx.URL(channel["picture"])
        assert picture.scheme == "data"
        assert channel["minimum"] < channel["mean"] < channel["maximum"]
        assert channel["black"] < channel["white"]


def test_an_image_unlike_the_training_images_is_remarked_upon(http, photo):
    bright = tiff(planes(photo).astype(np.uint16) * 200, photometric="minisblack", metadata={"axes": "CYX"})
    opened = send(http, "/api/images", bright, "bright.tif").json()
    notes = opened["notes"]
    assert len(notes) == 2
    assert notes[0] == "It holds uint16 values, the training images held uint8: do equal numbers mean the same?"
    assert notes[1].startswith("R averages ")
    assert "in training, and 2 more channels likewise: is this the same sensor, depth and order of" in notes[1]
    assert notes[1].endswith(" Their pictures are stretched to their own values.")
    whole, green = (
        http.post("/api/predict", data={"image": opened["id"], "channels": channels}).json()
        for channels in ("R,G,B", "G")
    )
    assert whole["notes"] == [notes[0], notes[1].removesuffix(" Their pictures are stretched to their own values.")]
    assert green["notes"][1].startswith("G averages ")
    for answer, seen in ((whole, "R, G, B"), (green, "G")):
        assert answer["unlike"].startswith(f"In {seen} it is unlike the training images (distance ")
        assert answer["expected"] is None
    alike = send(http, "/api/predict", photo.read_bytes()).json()
    assert alike["unlike"] is None
    assert alike["expected"]["images"] == 12
    usual = send(http, "/api/images", photo.read_bytes()).json()
    for channel, normal in zip(opened["channels"], usual["channels"], strict=True):
        assert normal["white"] <= 255
        assert channel["maximum"] <= channel["white"] <= 239 * 200


def test_examples_are_the_runs_own_and_answered_as_its_evaluation_was(http, run):
    examples = http.get("/api/examples").json()["images"]
    recorded = {entry["path"]: entry for entry in json.loads((run / "examples.json").read_text())["images"]}
    assert [example["name"] for example in examples] == list(recorded)
    for example in examples:
        for subset in EVALUATED:
            answer = http.post("/api/predict", data={"image": example["id"], "channels": subset}).json()
            expected = recorded[example["name"]]["predictions"][subset]
            assert answer["top"][0]["class"] == expected["class"]
            assert answer["top"][0]["probability"] == pytest.approx(expected["probability"], abs=2e-4)
            assert answer["label"] == recorded[example["name"]]["label"]


def copy_with(run, to, data, change=lambda kept: None):
    """A copy of a run whose configuration names other data, and whose list of examples is changed."""
    shutil.copytree(run, to)
    config = (to / "config.toml").read_text()
    line = next(line for line in config.splitlines() if line.startswith("data ="))
    (to / "config.toml").write_text(config.replace(line, f"data = {json.dumps(data)}"))
    kept = json.loads((to / "examples.json").read_text())
    change(kept["images"])
    (to / "examples.json").write_text(json.dumps(kept))
    return to


@pytest.mark.parametrize("data", ["nowhere", "bands:3", "wds:pipe:touch {folder}/executed", "/"])
def test_a_service_reads_no_data_but_its_runs_own_examples(run, tmp_path, data):
    moved = Service(copy_with(run, tmp_path / "moved", data.format(folder=tmp_path)))
    assert not (tmp_path / "executed").exists()
    assert moved.examples == Service(run).examples


@pytest.mark.parametrize("path", ["../../secret.png", "/etc/passwd", "{outside}/secret.png"])
def test_paths_of_examples_are_names_and_never_opened(run, tmp_path, path):
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (16, 16), (1, 2, 3)).save(outside / "secret.png")
    shutil.copy(outside / "secret.png", tmp_path / "secret.png")

    def rename(images):
        for image in images:
            image["path"] = path.format(outside=outside)

    service = Service(copy_with(run, tmp_path / "runs" / "moved", str(outside), rename))
    shown, own = service.examples.images, Service(run).examples.images
    assert [image.channels for image in shown] == [image.channels for image in own]


def test_examples_behind_a_link_are_not_shown(run, tmp_path):
    moved = copy_with(run, tmp_path / "moved", "nowhere")
    (moved / "examples.npy").rename(tmp_path / "elsewhere.npy")
    (moved / "examples.npy").symlink_to(tmp_path / "elsewhere.npy")
    examples = Service(moved).examples
    assert examples.images == []
    assert examples.reason.startswith("The run holds no example images")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", "of another shape", "of 18 GB"])
def test_damaged_examples_are_named(run, tmp_path, content):
    moved = copy_with(run, tmp_path / "moved", "nowhere")
    path = moved / "examples.npy"
    whole = path.read_bytes()
    if content == "of another shape":
        np.save(path, np.zeros((8, 2, 16, 16), np.uint8))
    elif content == "of 18 GB":
        path.write_bytes(whole.replace(b"(8, 3, 16, 16)", b"(9**9,3,16,16)"))
    else:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"examples\.npy is damaged"):
        Service(moved)


FILES = {
    "text": (b"hello", {}, ("notes.txt", "not an image in a known format (.jpg,", "convert, replace or remove it")),
    "empty": (b"", {}, ("notes.txt", "empty")),
    "grey": ("L", {}, ("notes.txt", "1 channel (greyscale), but 3 expected (R, G, B)")),
    "alpha": ("RGBA", {}, ("notes.txt", "4 channels (RGB with alpha)", "remove the alpha channel")),
    "unknown": ("RGB", {"file_channels": "R,G,NIR"}, ("unknown channel 'NIR'", "R, G, B")),
    "nothing used": ("RGB", {"file_channels": "-,-,-"}, ("every channel of notes.txt", "R, G, B")),
    "unknown subset": ("RGB", {"channels": "R,X"}, ("unknown channel 'X'", "R, G, B")),
    "twice": ("RGB", {"channels": "R,R"}, ("'R' is given twice",)),
    "not held": ("RGB", {"file_channels": "R,-,B", "channels": "R,G"}, ("does not hold G; it holds R, B",)),
    "layout": ("RGB", {"layout": "round"}, ("layout", "planar")),
    "too few classes": ("RGB", {"top": "0"}, ("top", "greater than or equal to 1")),
}


@pytest.mark.parametrize("case", FILES)
def test_what_cannot_be_used_is_told_in_one_sentence(http, case):
    content, fields, words = FILES[case]
    if isinstance(content, str):
        buffer = BytesIO()
        Image.new(content, (20, 20)).save(buffer, format="PNG")
        content = buffer.getvalue()
    answer = send(http, "/api/predict", content, "notes.txt", **fields)
    assert answer.status_code == 422
    assert set(answer.json()) == {"error"}
    for word in words:
        assert word in answer.json()["error"]


def test_a_prediction_needs_one_of_file_and_image(http, photo):
    for answer in (http.post("/api/predict"), send(http, "/api/predict", photo.read_bytes(), image="x")):
        assert answer.status_code == 422
        assert "give either file" in answer.json()["error"]
    gone = http.post("/api/predict", data={"image": "nothing"})
    assert gone.status_code == 404
    assert "send the file again" in gone.json()["error"]


def test_a_subset_that_the_network_refuses_is_an_answer_of_its_own(refusing, photo):
    with serving(refusing) as url, httpx.Client(base_url=url, timeout=60) as http:
        told = {",".join(entry["channels"]): entry for entry in http.get("/api/model").json()["expected"]}
        assert told["R,G,B"]["refused"] is None
        assert told["R,G"]["accuracy"] is None
        answer = send(http, "/api/predict", photo.read_bytes(), channels="R,G")
        assert answer.status_code == 422
        assert answer.json()["error"] == told["R,G"]["refused"]


def test_a_request_that_is_too_large_is_refused_whether_or_not_it_tells_its_length(run):
    with serving(run, max_upload_mb=0.25) as url:
        told = httpx.post(f"{url}/api/images", files={"file": ("large.png", bytes(300_000))})
        assert told.status_code == 413
        assert "larger than the 0.2 MB" in told.json()["error"]
        assert "--max-upload-mb" in told.json()["error"]
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        chunks = iter([head, *[bytes(50_000)] * 8, b"\r\n--x--\r\n"])
        kind = {"content-type": "multipart/form-data; boundary=x"}
        untold = httpx.post(f"{url}/api/images", content=chunks, headers=kind)
        assert untold.status_code == 413
        assert "larger than" in untold.json()["error"]


def test_an_ome_tiff_in_colour_is_read_as_any_other(http, photo):
    pixels = np.moveaxis(planes(photo), 0, -1).astype(np.uint8)
    plain, ome = (tiff(pixels, photometric="rgb", **options) for options in ({"metadata": None}, {"ome": True}))
    answers = [send(http, "/api/predict", data, "image.tif").json()["top"] for data in (plain, ome)]
    assert answers[0] == answers[1]


def test_planes_that_a_small_file_only_declares_count_too(http):
    whole = tiff(np.zeros((3, 512, 512), np.uint8), photometric="minisblack", ome=True, metadata={"axes": "CYX"})
    with tifffile.TiffFile(BytesIO(whole)) as file:
        text = file.ome_metadata.replace('SizeC="3"', 'SizeC="3000"')
    small = tiff(np.zeros((512, 512), np.uint8), photometric="minisblack", description=text, metadata=None)
    answer = send(http, "/api/images", small, "small.ome.tif")
    assert answer.status_code == 422
    assert "it decodes to 786,432,000 values" in answer.json()["error"]


def test_values_for_which_no_answer_is_finite_are_refused(http, run, tmp_path):
    data = tiff(np.full((3, 20, 30), 3e38, np.float32), photometric="minisblack", metadata={"axes": "CYX"})
    (tmp_path / "far.tif").write_bytes(data)
    answer = send(http, "/api/predict", data, "far.tif")
    assert answer.status_code == 422
    assert "far.tif: the network's answer is not finite" in answer.json()["error"]
    with pytest.raises(DataError, match=r"far\.tif: the network's answer is not finite"):
        predict_files(run, [tmp_path / "far.tif"])


def test_a_name_that_is_no_utf_8_is_shown_as_far_as_it_can_be(run, photo):
    name = os.fsdecode(b"caf\xe9.png")
    assert Service(run).open(photo.read_bytes(), name).view.name == "caf\N{REPLACEMENT CHARACTER}.png"


def test_a_small_file_that_unfolds_to_more_than_memory_holds_is_refused(http):
    vast = tiff(np.zeros((3, 9000, 9000), np.uint8), photometric="minisblack", metadata={"axes": "CYX"}, compression=8)
    assert len(vast) < 2**20
    answer = send(http, "/api/images", vast, "vast.tif")
    assert answer.status_code == 422
    assert "vast.tif: it decodes to 243,000,000 values" in answer.json()["error"]


def test_the_service_and_predict_have_the_limit_of_the_library(run, photo, monkeypatch):
    service = Service(run)
    monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "1000")
    message = r"3\.png: it decodes to 1,800 values, more than the limit of 1,000; cut or scale it down, or set ANY"
    with pytest.raises(DataError, match=message):
        service.open(photo.read_bytes(), photo.name)
    with pytest.raises(DataError, match=message):
        predict_files(run, [photo])


def test_many_clients_at_once_get_their_own_answers(http, address, photos):
    files = [photos / "test" / name / f"{i}.png" for name in ("left", "right") for i in range(2)]
    jobs = [(path, subset) for path in files for subset in SUBSETS]

    def ask(job):
        path, subset = job
        answer = httpx.post(
            f"{address}/api/predict",
            files={"file": (path.name, path.read_bytes())},
            data={"channels": subset},
            timeout=120,
        )
        return answer.json()

    one_by_one = [ask(job) for job in jobs]
    with ThreadPoolExecutor(12) as pool:
        at_once = list(pool.map(ask, jobs))
    assert at_once == one_by_one


def test_the_store_forgets_the_oldest_and_keeps_what_is_pinned(run, photos):
    service = Service(run)
    data = [path.read_bytes() for path in sorted((photos / "train" / "left").iterdir())[:4]]
    opened = [service.open(content, f"{i}.png") for i, content in enumerate(data)]
    assert opened[0].bytes > opened[0].input.pixels.nbytes + len(opened[0].view.overview)
    store = ImageStore(opened[:1], most_bytes=2 * max(image.bytes for image in opened))
    for image in opened[1:]:
        store.add(image)
    kept = [store.get(image.view.id) is not None for image in opened]
    assert kept == [True, False, True, True]


def test_the_schema_is_published_and_says_what_the_answers_are(http, photo):
    schema = http.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        f"/api/{name}" for name in ("health", "model", "examples", "images", "predict", "importance")
    }
    posted = schema["paths"]["/api/predict"]["post"]["responses"]
    names = {status: answer["content"]["application/json"]["schema"]["$ref"] for status, answer in posted.items()}
    problems = dict.fromkeys(("403", "404", "408", "413", "415", "422", "503"), "Problem")
    assert {status: name.rsplit("/", 1)[1] for status, name in names.items()} == {"200": "Prediction"} | problems
    answer = send(http, "/api/predict", photo.read_bytes()).json()
    assert set(answer) == set(schema["components"]["schemas"]["Prediction"]["required"])
    assert http.get("/api/health").json()["status"] == "ok"


def test_the_page_loads_nothing_from_elsewhere_and_keeps_the_browser_strict(http):
    page = http.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/page.css", "/page.js"):
        answer = http.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://127.0.0.1:8000", "")
        assert "https://" not in answer.text
    missing = http.get("/nothing.js")
    assert missing.status_code == 404
    assert "there is no 'nothing.js' here" in missing.json()["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("evil.example", 400), ("[::1", 400)],
)
def test_only_this_machines_names_lead_to_a_service_for_this_machine(strict, host, status):
    answer = httpx.get(f"{strict}/api/health", headers={"host": host})
    assert answer.status_code == status
    if status == 400:
        assert "reach it as 127.0.0.1 or localhost or ::1" in answer.json()["error"]


def test_a_dedicated_run_reads_files_that_hold_all_channels(photos, photo):
    run = train(photos, photos.parent / "dedicated", only_channels=["R", "B"])
    with serving(run) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.get("/api/model").json()["file_channels"] == ["R", "-", "B"]
        assert len(http.get("/api/examples").json()["images"]) == 8
        assert send(http, "/api/predict", photo.read_bytes()).json()["channels"] == ["R", "B"]


def test_images_that_are_no_squares_are_answered_at_the_size_that_training_had(photos, photo):
    run = train(photos, photos.parent / "wide", size=None)
    model = load_model(run)
    logits = model(torch.tensor(planes(photo))[None])
    expected = {model.classes[i]: pytest.approx(p, abs=1e-3) for i, p in enumerate(logits.softmax(1)[0].tolist())}
    (told,) = predict_files(run, [photo])
    assert told["notes"] == []
    assert {guess["class"]: guess["probability"] for guess in told["top"]} == expected
    large = photos.parent / "large.png"
    Image.open(photo).resize((60, 50)).save(large)
    assert predict_files(run, [large])[0]["notes"] == [
        "It is 50 x 60 pixels and was brought to 20 x 30, as in training."
    ]
    with serving(run) as url, httpx.Client(base_url=url, timeout=60) as http:
        assert http.get("/api/model").json()["image_size"] == [20, 30]
        assert send(http, "/api/images", photo.read_bytes()).json()["image_size"] == [20, 30]
        answer = send(http, "/api/predict", photo.read_bytes()).json()
        assert {guess["class"]: guess["probability"] for guess in answer["top"]} == expected
        assert "images of 30 × 20 pixels" in http.get("/").text


def test_a_dedicated_run_whose_files_name_their_channels_themselves_reads_them_too(photos, photo):
    run = train(photos, photos.parent / "untold", channels=None, only_channels=["R", "B"])
    service = Service(run)
    assert service.file_channels == ("R", "-", "B")
    assert len(service.examples.images) == 8
    assert service.open(photo.read_bytes(), "3.png").input.channels == ("R", "B")


def test_the_channels_of_an_image_are_ranked_by_what_they_add_to_its_answer(http, run, photo):
    answer = send(http, "/api/importance", photo.read_bytes()).json()
    assert [subset["name"] for subset in answer["subsets"]] == list(SUBSETS)
    best, full, empty = answer["class"], answer["probability"], answer["frequency"]
    assert empty == 0.5
    assert answer["orders"] == 0
    predictor = Predictor(run)
    image, number = predictor.open(photo), predictor.classes.index(best)
    found = {
        frozenset(subset.split(",")): float(predictor.predict(image, subset).probabilities[number])
        for subset in SUBSETS
    }
    assert full == pytest.approx(found[frozenset("RGB")], abs=1e-4)
    expected = shapley_by_orders("RGB", found | {frozenset(): empty})
    assert {one["name"]: one["shapley"] for one in answer["contributions"]} == pytest.approx(expected, abs=1e-4)
    values = [one["shapley"] for one in answer["contributions"]]
    assert values == sorted(values, reverse=True)
    opened = send(http, "/api/images", photo.read_bytes()).json()
    again = http.post("/api/importance", data={"image": opened["id"]}).json()
    assert again["contributions"] == answer["contributions"]
    assert http.post("/api/importance", data={"image": "gone"}).status_code == 404
    assert http.post("/api/importance").status_code == 422


def test_sensors_are_named_and_ranked(grouped, photo):
    with serving(grouped) as url, httpx.Client(base_url=url, timeout=60) as client:
        model = client.get("/api/model").json()
        assert [channel["group"] for channel in model["channels"]] == ["warm", "warm", "cold"]
        assert [entry["name"] for entry in model["expected"]] == ["warm+cold", "warm", "cold"]
        answer = send(client, "/api/predict", photo.read_bytes(), channels="warm").json()
        assert answer["channels"] == ["R", "G"]
        assert answer["expected"]["name"] == "warm"
        found = send(client, "/api/importance", photo.read_bytes()).json()
        assert {one["name"]: one["channels"] for one in found["contributions"]} == {"warm": ["R", "G"], "cold": ["B"]}
        assert [subset["name"] for subset in found["subsets"]] == ["warm+cold", "warm", "cold"]


def test_a_network_that_refuses_subsets_says_so(refusing, photo):
    with serving(refusing) as url, httpx.Client(base_url=url, timeout=60) as client:
        answer = send(client, "/api/importance", photo.read_bytes())
        assert answer.status_code == 422
        assert "was trained on the channel positions" in answer.json()["error"]
