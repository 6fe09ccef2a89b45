"""Hugging Face data sets, written by the library itself, against the same images in memory."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

import anychannel as ac
from anychannel.data import DataError, Split, Stream
from anychannel.utils.processes import Share
from tests.helpers.shard_files import quadrants

SIZES = {"train": 50, "val": 12, "test": 9}
NAMES = ["top_left", "top_right", "bottom_left", "bottom_right"]
IMAGES = {split: quadrants(count, seed) for seed, (split, count) in enumerate(SIZES.items())}
ONE = Share()


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """The library's own cache, and no network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def in_memory():
    images, labels = (np.concatenate([IMAGES[split][i] for split in SIZES]) for i in range(2))
    splits = [split for split, count in SIZES.items() for _ in range(count)]
    return ac.dataset_from_arrays(images, labels, channels="R,G,B", splits=splits, classes=NAMES)


def as_pictures(images, labels):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    pictures = [Image.fromarray(np.moveaxis(image, 0, -1)) for image in images]
    return datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)


def as_arrays(images, labels):
    features = {"image": datasets.Array3D((3, 12, 12), "uint8"), "label": datasets.ClassLabel(names=NAMES)}
    table = {"image": list(images), "label": labels}
    return datasets.Dataset.from_dict(table, features=datasets.Features(features))


def as_columns(images, labels):
    planes = {f"band_{c}": datasets.Array2D((12, 12), "uint8") for c in range(3)}
    features = datasets.Features(planes | {"label": datasets.ClassLabel(names=NAMES)})
    columns = {f"band_{c}": list(images[:, c]) for c in range(3)}
    return datasets.Dataset.from_dict(columns | {"label": labels}, features=features)


def as_lists(images, labels):
    features = {"pixels": datasets.List(datasets.List(datasets.List(datasets.Value("uint8"))))}
    rows = {"pixels": images.tolist(), "kind": [NAMES[label] for label in labels]}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features | {"kind": datasets.Value("string")}))


KINDS = {
    "pictures": (as_pictures, {}),
    "arrays": (as_arrays, {}),
    "a column a channel": (as_columns, {"image": ["band_0", "band_1", "band_2"]}),
    "nested lists and names": (as_lists, {"image": "pixels", "label": "kind", "class_names": NAMES}),
}


def made(make=as_pictures):
    tables = {split: make(*IMAGES[split]) for split in SIZES}
    return datasets.DatasetDict(train=tables["train"], validation=tables["val"], test=tables["test"])


def assert_same(data, expected):
    assert data.classes == expected.classes
    assert (data.channels.mean, data.channels.std) == (expected.channels.mean, expected.channels.std)
    assert data.channels.correlation == expected.channels.correlation
    for split in SIZES:
        mine, theirs = getattr(data, split), getattr(expected, split)
        np.testing.assert_array_equal(mine.labels, theirs.labels)
        if isinstance(mine, Split):
            np.testing.assert_array_equal(mine.images[:], theirs.images[:])
            assert mine.images.dtype == np.uint8
            assert mine.images.shape == theirs.images.shape


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_column_gives_the_images_their_labels_and_statistics(kind, tmp_path):
    make, options = KINDS[kind]
    made(make).save_to_disk(tmp_path / "saved")
    data = ac.load_dataset(f"hf:{tmp_path / 'saved'}", channels="R,G,B", **options)
    assert_same(data, in_memory())
    assert data.name == "saved"
    again = ac.load_dataset(f"hf:{tmp_path / 'saved'}", channels="R,G,B", **options)
    assert again.fingerprint == data.fingerprint


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine's cores
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12: forked beside threads
@pytest.mark.parametrize("kind", KINDS)
def test_streamed_rows_are_the_same_images(kind, tmp_path):
    make, options = KINDS[kind]
    for split, table in made(make).items():
        table.to_parquet(tmp_path / f"{split}-0.parquet")
    source = f"hf:{tmp_path}/train-*.parquet"
    files = {split: f"{tmp_path}/{name}-0.parquet" for split, name in (("val", "validation"), ("test", "test"))}
    data = ac.load_dataset(source, channels="R,G,B", streaming=True, **files, **options)
    expected = in_memory()
    assert isinstance(data.train, Stream)
    assert data.channels == expected.channels
    np.testing.assert_array_equal(data.val.images, expected.val.images)
    seen = []
    for batch in data.train.batches(seed=0, epoch=0, batch_size=10, share=ONE):
        rows = [int(place.rpartition(" ")[2]) for place in batch.places]
        np.testing.assert_array_equal(batch.images, expected.train.images[rows])
        np.testing.assert_array_equal(batch.labels, expected.train.labels[rows])
        seen += rows
    assert sorted(seen) == list(range(50))
    received = pickle.loads(pickle.dumps(data.train))
    helped = replace(received, settings=replace(received.settings, workers=2))
    in_processes = helped.batches(seed=0, epoch=0, batch_size=10, share=ONE)
    assert [int(place.rpartition(" ")[2]) for batch in in_processes for place in batch.places] == seen
    whole = ac.load_dataset(source, channels="R,G,B", **files, **options)
    assert_same(whole, expected)


def test_a_saved_data_set_trains_to_bitwise_the_weights_of_the_same_arrays(tmp_path):
    made().save_to_disk(tmp_path / "saved")
    settings = ac.TrainingSettings(epochs=2, batch_size=16, device="cpu", sampler="split", lr=0.01)
    weights = []
    for data in (ac.load_dataset(f"hf:{tmp_path / 'saved'}"), in_memory()):
        torch.manual_seed(0)
        options = {"stem": "completion", "model_options": {"width": 16}, "classes": data.classes}
        model = ac.create_model("compact_k7", channels=data.channels, num_classes=4, **options)
        ac.fit(model, data.train, data.val, settings)
        weights.append(model.state_dict())
        assert ac.evaluate(model, data).subsets["R,G,B"]["n"] == 9
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_rows_are_shown_by_channel_and_without_those_they_lack(tmp_path):
    table = made(as_columns)

    def forget(row, i):
        return {"band_1": None if i % 3 == 0 else row["band_1"]}

    partial = datasets.DatasetDict({name: split.map(forget, with_indices=True) for name, split in table.items()})
    data = ac.dataset_from_huggingface(partial, image=["band_0", "band_1", "band_2"], cache_dir=tmp_path / "cache")
    assert data.channels.names == ("band_0", "band_1", "band_2")
    lacks = np.arange(50) % 3 == 0
    np.testing.assert_array_equal(data.train.present[:, 1], ~lacks)
    assert data.count_patterns()["train"] == {"band_0,band_1,band_2": 33, "band_0,band_2": 17}
    some = data.select("band_2,band_1")
    np.testing.assert_array_equal(some.train.images[:], IMAGES["train"][0][~lacks][:, [2, 1]])


def test_a_column_may_tell_which_channels_an_image_holds(tmp_path):
    held = [["R", "G", "B"], ["B", "R", "G"], None]
    tables = {}
    for split in SIZES:
        images, labels = IMAGES[split]
        order = {0: [0, 1, 2], 1: [2, 0, 1], 2: [0, 1, 2]}
        rows = [{"image": images[i][order[i % 3]], "label": int(x), "holds": held[i % 3]} for i, x in enumerate(labels)]
        kinds = {"holds": datasets.List(datasets.Value("string")), "label": datasets.Value("int64")}
        features = datasets.Features(kinds | {"image": datasets.Array3D((3, 12, 12), "uint8")})
        tables[split] = datasets.Dataset.from_list(rows, features=features)
    data = ac.dataset_from_huggingface(datasets.DatasetDict(tables), channels="R,G,B", held="holds")
    np.testing.assert_array_equal(data.train.images[:], IMAGES["train"][0])


def test_a_column_that_no_training_row_has_is_named():
    tables = made(as_columns)
    tables["train"] = tables["train"].map(lambda row: {"band_1": None})
    with pytest.raises(DataError, match="no training image has the channel band_1; leave it out, or add images"):
        ac.dataset_from_huggingface(tables, image=["band_0", "band_1", "band_2"])


@pytest.mark.parametrize("there", [("train",), ("train", "test"), ("train", "validation")])
def test_splits_that_are_not_there_are_cut_from_the_training_rows(there, tmp_path):
    tables = made()
    data = ac.dataset_from_huggingface(datasets.DatasetDict({name: tables[name] for name in there}))
    own = {"val": "validation" in there, "test": "test" in there}
    for split, is_there in own.items():
        if is_there:
            np.testing.assert_array_equal(getattr(data, split).images[:], IMAGES[split][0])
    cut = [getattr(data, split) for split in ("train", *(split for split, is_there in own.items() if not is_there))]
    rows = [place for split in cut for place in split.paths]
    assert sorted(rows) == sorted(f"train row {i}" for i in range(50))
    assert all(set(split.labels.tolist()) == {0, 1, 2, 3} for split in cut)


def test_rows_that_cannot_be_used_are_named_together(tmp_path):
    tables = made()
    rows = tables["train"].cast_column("image", datasets.Image(decode=False)).to_list()
    rows[3]["image"]["bytes"] = rows[3]["image"]["bytes"][:50]
    rows[5]["image"] = {"bytes": None, "path": str(tmp_path / "gone.png")}
    rows[7]["image"] = None
    rows[9]["label"] = None
    tables["train"] = datasets.Dataset.from_list(rows, features=tables["train"].features)
    with pytest.raises(DataError) as caught:
        ac.dataset_from_huggingface(tables)
    message = str(caught.value)
    assert message.startswith("4 problems in the data at huggingface:")
    assert "train row 3: it is truncated or damaged (its end is missing)" in message
    assert "train row 5: its file" in message
    assert "gone.png cannot be read (No such file or directory); restore it" in message
    assert "train row 7: it has no field 'image', only label" in message
    assert "train row 9: it has no field 'label'" in message


@pytest.mark.parametrize("declared", [True, False])
def test_labels_below_zero_are_named(declared, tmp_path):
    tables = made()
    plain = tables["test"].cast_column("label", datasets.Value("int64"))
    tables["test"] = plain.map(lambda row, i: {"label": -1 if i == 5 else row["label"]}, with_indices=True)
    if not declared:
        tables = tables.cast_column("label", datasets.Value("int64"))
    with pytest.raises(DataError, match=r"test row 5: its label -1 is no.*; correct it; a number counts"):
        ac.dataset_from_huggingface(tables)
    for split, table in tables.items():
        table.to_parquet(tmp_path / f"{split}.parquet")
    files = {"val": f"{tmp_path}/validation.parquet", "test": f"{tmp_path}/test.parquet"}
    with pytest.raises(DataError, match=r"row 5: its label -1 is no.*; correct it; a number counts"):
        ac.load_dataset(f"hf:{tmp_path}/train.parquet", streaming=True, **files)


def test_an_image_in_two_splits_is_named(tmp_path):
    tables = made()
    tables["test"] = datasets.concatenate_datasets([tables["test"], tables["train"].select([4])])
    with pytest.raises(
        DataError, match=r"test row 9: its content is in two splits \(leakage\): test, and train as train row 4"
    ):
        ac.dataset_from_huggingface(tables)


@pytest.mark.parametrize("depth", ["uint16", "float64"])
def test_arrays_keep_their_depth_or_are_refused(depth):
    high = np.random.default_rng(0).uniform(0, 60000, (30, 2, 6, 6)).astype(depth)
    features = {"image": datasets.Array3D((2, 6, 6), depth), "label": datasets.Value("int64")}
    rows = {"image": list(high), "label": [i % 2 for i in range(30)]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    if depth == "float64":
        with pytest.raises(DataError, match="train row 0: it holds float64 values that float32 cannot hold exactly"):
            ac.dataset_from_huggingface(table, channels="a,b")
        return
    data = ac.dataset_from_huggingface(table, channels="a,b")
    assert data.train.images.dtype == np.uint16
    rows = [int(place.rpartition(" ")[2]) for place in data.train.paths]
    np.testing.assert_array_equal(data.train.images[:], high[rows])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": "R,G"}, r"train row 0: it has 3 channels \(RGB\), but 2 expected \(R, G\)"),
        ({"image": "picture"}, r"no column 'picture'; the columns are image \(Image\), label \(ClassLabel\)"),
        ({"label": "kind"}, "no column 'kind'; the columns are"),
        ({"val": "dev"}, "has no split 'dev' for val; its splits are train, validation, test"),
        ({"lanes": 2}, "lanes are about streamed rows; add streaming=True, or leave them out"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message, tmp_path):
    made().save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=message):
        ac.load_dataset(f"hf:{tmp_path / 'saved'}", **options)


def test_a_name_that_leads_nowhere_is_refused():
    with pytest.raises(DataError, match=r"hf:no/such cannot be opened \(.*\); give a folder that save_to_disk wrote"):
        ac.load_dataset("hf:no/such")


def test_only_tables_whose_rows_can_be_read_in_any_order_are_taken():
    streamed = as_pictures(*IMAGES["train"]).to_iterable_dataset()
    for given in (streamed, datasets.IterableDatasetDict(train=streamed)):
        with pytest.raises(DataError, match=r"train is of the type IterableDataset; give .* streaming=True"):
            ac.dataset_from_huggingface(given)
    with pytest.raises(DataError, match=r"train is of the type list; give a datasets.Dataset or a datasets.DatasetDi"):
        ac.dataset_from_huggingface([1, 2])


def test_without_datasets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        ImportError, match=r"a Hugging Face data set needs .*datasets.*; pip install 'anychannel\[hf\]'"
    ):
        ac.load_dataset("hf:saved")


def test_streaming_needs_every_split(tmp_path):
    as_pictures(*IMAGES["train"]).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="has no split for val and test; name it by val='NAME'"):
        ac.load_dataset(f"hf:{tmp_path}/train.parquet", streaming=True)


def test_a_run_on_a_saved_data_set_is_evaluated_from_elsewhere(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from anychannel.cli import app

    monkeypatch.chdir(tmp_path)
    made().save_to_disk("saved")
    command = [
        "train",
        "--data",
        "hf:saved",
        "--model",
        "compact_k7",
        "--set",
        "model_options.width=16",
        "--epochs",
        "1",
    ]
    command += ["--batch-size", "16", "--device", "cpu", "--no-cost", "--quiet", "--out", "run"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    monkeypatch.chdir("/")
    again = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--channels", "R,G"])
    assert again.exit_code == 0, again.output


LISTS = {
    "class labels": (datasets.List(datasets.ClassLabel(names=NAMES)), lambda held: held),
    "names": (datasets.List(datasets.Value("string")), lambda held: [NAMES[k] for k in held]),
    "texts": (datasets.Value("string"), lambda held: "|".join(NAMES[k] for k in held) or "|"),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", LISTS)
def test_a_column_of_lists_holds_all_labels_of_an_image(kind, streaming, tmp_path):
    feature, write = LISTS[kind]
    held = {split: [[k for k in range(4) if (i + 1) >> k & 1] for i in range(count)] for split, count in SIZES.items()}
    held["train"][7] = []
    tables = {}
    for split, (images, _) in IMAGES.items():
        pictures = [Image.fromarray(np.moveaxis(image, 0, -1)) for image in images]
        features = datasets.Features({"image": datasets.Image(), "label": feature})
        rows = {"image": pictures, "label": list(map(write, held[split]))}
        tables[split] = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict(tables).save_to_disk(tmp_path / "saved")
    expected = {split: [[float(k in one) for k in range(4)] for one in held[split]] for split in SIZES}
    data = ac.load_dataset(f"hf:{tmp_path}/saved", streaming=streaming, class_names=NAMES, cache_dir=tmp_path / "c")
    again = ac.load_dataset(f"hf:{tmp_path}/saved", streaming=streaming, class_names=NAMES, cache_dir=tmp_path / "c")
    for found in (data, again):
        assert found.has_several
        assert found.classes == tuple(NAMES)
        assert found.val.labels.tolist() == expected["val"]
        batches = found.train.batches(seed=0, epoch=0, batch_size=10, share=ONE)
        assert sorted(row for batch in batches for row in batch.labels.tolist()) == sorted(expected["train"])
    if kind == "names" and not streaming:
        cut = ac.dataset_from_huggingface(tables["train"], channels="R,G,B")
        assert cut.classes == tuple(sorted(NAMES))
        assert cut.has_several
        assert min(cut.count_classes()["test"]) > 0


def test_lists_of_zeros_and_ones_are_no_lists_of_labels():
    images, _ = IMAGES["train"]
    features = {"image": datasets.Array3D((3, 12, 12), "uint8"), "label": datasets.List(datasets.Value("int64"))}
    table = {"image": list(images), "label": [[0, 1, int(i % 2)] for i in range(len(images))]}
    table = datasets.Dataset.from_dict(table, features=datasets.Features(features))
    splits = datasets.DatasetDict(train=table, val=table, test=table)
    with pytest.raises(DataError, match=r"its labels are \[0, 1, 0\], of which one is there twice; list the numbers"):
        ac.dataset_from_huggingface(splits, channels="R,G,B")


def test_a_wrong_row_among_lists_of_labels_is_named():
    images, _ = IMAGES["train"]
    features = {"image": datasets.Array3D((3, 12, 12), "uint8"), "label": datasets.List(datasets.Value("int64"))}
    labels = [[int(i % 3)] if i % 2 else [0, 1] for i in range(len(images))]
    labels[3] = [0, 0]
    table = datasets.Dataset.from_dict({"image": list(images), "label": labels}, features=datasets.Features(features))
    with pytest.raises(DataError, match=r"its labels are \[0, 0\], of which one is there twice"):
        ac.dataset_from_huggingface(table, channels="R,G,B")
