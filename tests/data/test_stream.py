"""Training images from real shards, against the same images in memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest

import anychannel as ac
from anychannel.data import DataError, Stream
from anychannel.data.prepare.survey import Survey
from anychannel.data.sources.reader import Image
from anychannel.runs.config import ConfigError, RunConfig, check_typed
from anychannel.runs.data import load_data
from anychannel.utils.processes import Share
from tests.helpers.shard_files import encode, quadrants, write_shard, write_shards

SIZES = {"train": [9, 14, 3, 11], "val": [5], "test": [4, 4]}
WHOLE = Share()


@pytest.fixture(autouse=True, scope="module")
def _impatient():
    """A reading process that failed is waited for no longer than this, in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
        yield


@pytest.fixture
def shards(tmp_path):
    root = tmp_path / "shards"
    return root, write_shards(root, SIZES)


def keys(batch):
    return [place.rpartition(": ")[2] for place in batch.places]


def epoch_keys(stream, *, epoch=0, batch_size=8, share=WHOLE, first_step=0, seed=0):
    """Keys of each step's images."""
    found = stream.batches(seed=seed, epoch=epoch, batch_size=batch_size, share=share, first_step=first_step)
    return [keys(batch) for batch in found]


@pytest.mark.parametrize("kind", ["png", "npy", "tif"])
def test_every_format_gives_the_images_their_labels_and_statistics(kind, tmp_path):
    made = write_shards(tmp_path / "shards", SIZES, kind)
    data = ac.load_dataset(f"wds:{tmp_path / 'shards'}", channels="R,G,B")
    images, labels = made["train"]
    expected = ac.dataset_from_arrays(
        np.concatenate([made[split][0] for split in SIZES]),
        np.concatenate([made[split][1] for split in SIZES]),
        channels="R,G,B",
        splits=[split for split, counts in SIZES.items() for _ in range(sum(counts))],
    )
    assert data.channels == expected.channels
    assert data.classes == expected.classes == ("0", "1", "2", "3")
    for split in ("val", "test"):
        np.testing.assert_array_equal(getattr(data, split).images, made[split][0])
        np.testing.assert_array_equal(getattr(data, split).labels, made[split][1])
    seen = set()
    for batch in data.train.batches(seed=0, epoch=0, batch_size=5, share=WHOLE):
        rows = [int(key.removeprefix("train")) for key in keys(batch)]
        np.testing.assert_array_equal(batch.images, images[rows])
        np.testing.assert_array_equal(batch.labels, labels[rows])
        seen.update(rows)
    assert len(seen) == 35  # 37 images fill seven batches of five


def test_an_epoch_visits_each_image_once_in_an_order_of_its_own(shards):
    stream = ac.load_dataset(f"wds:{shards[0]}").train
    epochs = [[key for step in epoch_keys(stream, epoch=epoch, batch_size=1) for key in step] for epoch in range(3)]
    assert all(sorted(found) == [f"train{i:04d}" for i in range(37)] for found in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert epochs[1] == [key for step in epoch_keys(stream, epoch=1, batch_size=1) for key in step]
    assert epochs[1] != [key for step in epoch_keys(stream, epoch=1, batch_size=1, seed=1) for key in step]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than this machine's cores
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12: forked beside threads
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_reading_in_processes_gives_the_same_batches(workers, shards):
    stream = ac.load_dataset(f"wds:{shards[0]}", lanes=6).train
    for share in (WHOLE, Share(1, 2)):
        options = {"seed": 0, "epoch": 0, "batch_size": 9, "share": share, "first_step": 1}
        mine = list(stream.batches(**options))
        theirs = list(replace(stream, settings=replace(stream.settings, workers=workers)).batches(**options))
        assert len(mine) == len(theirs) == 3
        for one, other in zip(mine, theirs, strict=True):
            assert keys(one) == keys(other)
            assert one.images.equal(other.images)
            assert one.labels.equal(other.labels)


def test_a_stream_can_be_sent_to_a_process_that_is_started_afresh(shards):
    stream = ac.load_dataset(f"wds:{shards[0]}").train
    assert epoch_keys(pickle.loads(pickle.dumps(stream))) == epoch_keys(stream)


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process:DeprecationWarning")
def test_an_error_in_a_reading_process_arrives_as_it_is(shards):
    stream = ac.load_dataset(f"wds:{shards[0]}", workers=2).train
    path = shards[0] / "train-001.tar"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError) as caught:
        epoch_keys(stream)
    assert str(caught.value).startswith(f"{path}: its end is missing")


@pytest.mark.parametrize("workers", [0, 1])
def test_lanes_without_a_shard_are_refused_before_anything_is_read(workers, shards):
    options = {"epoch_images": 20, "lanes": 6, "class_names": list("abcd"), "workers": workers}
    stream = ac.load_dataset(f"wds:{shards[0]}", **options).train
    with pytest.raises(ValueError, match=r"^6 lanes need as many shards, got 4; give lanes=4 or fewer"):
        stream.batches(seed=0, epoch=0, batch_size=8, share=WHOLE)


@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process:DeprecationWarning")
def test_an_extra_that_a_reading_process_lacks_is_named_as_it_is(shards, monkeypatch):
    stream = ac.load_dataset(f"wds:{shards[0]}", workers=1).train
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match=r"^a shard needs the package webdataset, which is not installed; pip"):
        epoch_keys(stream)


@pytest.mark.parametrize("processes", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [8, 7, 12])
def test_processes_see_together_what_one_sees(processes, batch_size, shards):
    stream = ac.load_dataset(f"wds:{shards[0]}", lanes=12).train
    alone = epoch_keys(stream, batch_size=batch_size)
    together = [[""] * batch_size for _ in alone]
    for index in range(processes):
        share = Share(index, processes)
        found = epoch_keys(stream, batch_size=batch_size, share=share)
        assert len(found) == len(alone)
        for step, names in zip(together, found, strict=True):
            for row, name in zip(share.rows(batch_size), names, strict=True):
                step[row] = name
    assert together == alone


def test_steps_that_were_done_are_passed_over_without_decoding(shards, monkeypatch):
    stream = ac.load_dataset(f"wds:{shards[0]}").train
    whole, calls = epoch_keys(stream), []
    original = Stream.decode
    monkeypatch.setattr(Stream, "decode", lambda self, sample: calls.append(sample) or original(self, sample))
    assert epoch_keys(stream, first_step=3) == whole[3:]
    assert len(calls) == 8 * len(whole[3:])


def test_only_a_few_batches_are_ever_decoded_at_a_time(tmp_path, monkeypatch):
    write_shards(tmp_path / "shards", {"train": [100] * 4, "val": [5], "test": [5]})
    stream = ac.load_dataset(f"wds:{tmp_path / 'shards'}", buffer=16).train
    alive, most, decoded = 0, 0, 0
    original = Image.spread

    def forget():
        nonlocal alive
        alive -= 1

    def spread(image, channels):
        nonlocal alive, most, decoded
        planes = original(image, channels)
        alive, decoded = alive + 1, decoded + 1
        most = max(most, alive)
        weakref.finalize(planes, forget)
        return planes

    monkeypatch.setattr(Image, "spread", spread)
    for batch in stream.batches(seed=0, epoch=0, batch_size=8, share=WHOLE):
        assert len(batch.images) == 8
    assert decoded == 400
    assert most <= 4 * 8  # the batch trained on, two ahead, and one being put together


def test_epochs_of_a_given_length_draw_from_shards_that_nobody_counted(shards):
    data = ac.load_dataset(f"wds:{shards[0]}", epoch_images=100, lanes=2, class_names=list("abcd"))
    assert len(data.train) == 100
    assert data.classes == ("a", "b", "c", "d")
    found = [key for step in epoch_keys(data.train, batch_size=10) for key in step]
    assert len(found) == 100
    assert set(found) == {f"train{i:04d}" for i in range(37)}
    with pytest.raises(ValueError, match="were not counted; leave epoch_images out"):
        data.train.counts()


def test_an_epoch_of_images_that_no_shard_holds_ends_in_an_error(shards):
    names = ["top_left", "top_right", "bottom_left", "bottom_right", "nowhere"]
    options = {"epoch_images": 20, "lanes": 2, "class_names": names}
    stream = ac.load_dataset(f"wds:{shards[0]}", **options).train
    nothing = replace(stream, label_of={"nowhere": 0})
    with pytest.raises(DataError, match=r"none of the 4 shards that were read last \(.*\) holds an image"):
        epoch_keys(nothing)


def test_statistics_may_rest_on_some_of_the_images(shards):
    root, made = shards
    whole = ac.load_dataset(f"wds:{root}")
    some = ac.load_dataset(f"wds:{root}", statistics_images=8)
    images = made["train"][0][[0, 1, 9, 10, 23, 24, 26, 27]].astype(float)  # the first two of each shard
    assert some.channels.mean == pytest.approx(images.mean(axis=(0, 2, 3)))
    assert some.channels.mean != whole.channels.mean
    assert some.train.counts() == whole.train.counts() == SIZES["train"]


def test_the_shards_are_counted_once(shards, monkeypatch):
    first = ac.load_dataset(f"wds:{shards[0]}")
    monkeypatch.setattr(Survey, "run", None)
    again = ac.load_dataset(f"wds:{shards[0]}")
    assert again.fingerprint == first.fingerprint
    assert again.train.counts() == first.train.counts()
    write_shards(shards[0], {"train": [9, 14, 3, 12]})
    with pytest.raises(TypeError):
        ac.load_dataset(f"wds:{shards[0]}")


def test_shards_are_read_through_pipes_and_compressed(shards, tmp_path):
    root, _ = shards
    for path in sorted(root.glob("train*.tar")):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    options = {"val": f"pipe:cat {root}/val-000.tar", "test": f"{root}/test-{{000..001}}.tar"}
    piped = ac.load_dataset(f"wds:pipe:cat {root}/train-{{000..003}}.tar", allow_pipe=True, **options)
    packed = ac.load_dataset(f"wds:{tmp_path}/train-*.tar.gz", allow_pipe=True, **options)
    plain = ac.load_dataset(f"wds:{root}")
    assert epoch_keys(piped.train) == epoch_keys(packed.train) == epoch_keys(plain.train)
    assert piped.channels == packed.channels == plain.channels


def test_a_folder_may_hold_compressed_shards_and_other_files(shards):
    root, _ = shards
    plain = epoch_keys(ac.load_dataset(f"wds:{root}").train)
    for number, (ending, pack) in enumerate({"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.items()):
        path = root / f"train-{number:03d}.tar"
        (root / f"{path.name}.{ending}").write_bytes(pack(path.read_bytes()))
        path.unlink()
    for name in ("train-000.tar.gz.md5", "train-003.tar.idx", "val-000.tar.sha256", "train-003.tar.part"):
        (root / name).write_text("d41d8cd98f00b204e9800998ecf8427e\n")
    data = ac.load_dataset(f"wds:{root}")
    assert data.train.counts() == SIZES["train"]
    assert epoch_keys(data.train) == plain


@pytest.mark.parametrize("option", ["train", "val", "test"])
@pytest.mark.parametrize("spelling", ["pipe:", "{pi,pu}pe:", "file:pipe:", "a.tar::pipe:"])
def test_a_command_needs_permission(shards, tmp_path, option: str, spelling: str):
    root, _ = shards
    (root / "a.tar").write_bytes((root / "val-000.tar").read_bytes())
    given = {split: f"{root}/{split}-000.tar" for split in ("train", "val", "test")}
    given[option] = spelling.replace("a.tar", f"{root}/a.tar") + f"touch {tmp_path}/mark"
    with pytest.raises(DataError, match="runs a command, which nothing read from a run or a recipe does; type it for"):
        ac.load_dataset(f"wds:{given.pop('train')}", **given)
    assert not (tmp_path / "mark").exists()


def test_a_recipe_cannot_give_permission():
    config = RunConfig.from_dict({"data": "wds:pipe:true", "data_options": {"allow_pipe": True}})
    with pytest.raises(ValueError, match=r"unknown setting 'data_options\.allow_pipe'"):
        load_data(config)
    for typed in ({}, {"data": "wds:a.tar"}, {"data": "wds:pipe:true"}):
        with pytest.raises(ConfigError, match="--allow-pipe runs only commands that are typed, and data"):
            check_typed({"data": "wds:pipe:true", "data_options": {"val": "pipe:true"}}, typed)
    check_typed({"data": "wds:pipe:true", "size": 3}, {"data": "wds:pipe:true"})


def test_a_folder_with_a_named_pipe_does_not_wait_for_it(shards):
    os.mkfifo(shards[0] / "train-100.tar")
    assert ac.load_dataset(f"wds:{shards[0]}").train.counts() == SIZES["train"]


def test_a_sample_larger_than_any_image_is_refused_before_it_is_read(shards, monkeypatch):
    monkeypatch.setenv("ANYCHANNEL_MAX_VALUES", "60")
    with pytest.raises(
        DataError, match=r"it cannot be read before its first sample \(it unfolds to \d+ values, more than"
    ):
        ac.load_dataset(f"wds:{shards[0]}")


def test_a_pipe_that_is_left_early_is_no_error(tmp_path):
    images, labels = np.random.default_rng(0).integers(0, 255, (40, 3, 64, 64), dtype=np.uint8), np.arange(40) % 2
    samples = {f"{i:03d}": {"npy": encode(images[i], "npy"), "cls": str(labels[i])} for i in range(40)}
    write_shard(tmp_path / "train.tar", samples)
    write_shards(tmp_path, {"val": [3], "test": [3]}, "npy")
    local = {split: f"{tmp_path}/{split}-000.tar" for split in ("val", "test")}
    options = local | {"size": 12, "channels": "R,G,B", "lanes": 4}
    data = ac.load_dataset(f"wds:pipe:cat {tmp_path}/train.tar", allow_pipe=True, **options)
    assert sorted(key for step in epoch_keys(data.train) for key in step) == sorted(samples)


def test_a_truncated_shard_is_named_before_training(shards):
    path = shards[0] / "train-002.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"1 problem in the data at shards:\n  - .*train-002\.tar: its end is missing"):
        ac.load_dataset(f"wds:{shards[0]}")


def test_a_shard_that_ends_in_a_sample_is_named_with_the_last_good_one(shards):
    packed = (shards[0] / "train-001.tar").read_bytes()
    (shards[0] / "train-001.tar").unlink()
    (shards[0] / "train-001.tar.gz").write_bytes(gzip.compress(packed)[:1500])
    with pytest.raises(DataError, match=r"train-001\.tar\.gz: it cannot be read after sample train\d+ \(.*replace the"):
        ac.load_dataset(f"wds:{shards[0]}")


def test_a_shard_that_breaks_during_training_is_named(shards):
    stream = ac.load_dataset(f"wds:{shards[0]}").train
    path = shards[0] / "train-001.tar"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"train-001\.tar: its end is missing"):
        epoch_keys(stream)


def test_a_shard_that_lost_images_since_it_was_counted_is_named(shards):
    stream = ac.load_dataset(f"wds:{shards[0]}").train
    write_shard(shards[0] / "train-001.tar", {})
    with pytest.raises(DataError, match=r"train-001\.tar: it holds fewer images than when it was counted; load"):
        epoch_keys(stream)


def test_all_samples_that_cannot_be_used_are_named_together(shards):
    images, _ = quadrants(8, 9)
    good = {"png": encode(images[0]), "cls": "0"}
    write_shard(
        shards[0] / "train-009.tar",
        {
            "damaged": good | {"png": good["png"][:60]},
            "grey": good | {"png": encode(images[1][:1])},
            "large": good | {"png": encode(np.pad(images[2], ((0, 0), (0, 2), (0, 2))))},
            "deep": {"npy": encode(images[3].astype(np.uint16), "npy"), "cls": "1"},
            "unlabelled": {"png": encode(images[4])},
            "two": good | {"tif": encode(images[5], "tif")},
            "none": {"txt": "hello", "cls": "1"},
        },
    )
    with pytest.raises(DataError) as caught:
        ac.load_dataset(f"wds:{shards[0]}")
    message = str(caught.value)
    assert message.startswith("7 problems in the data at shards:")
    for key, reason in {
        "damaged": "its end is missing",
        "grey": "it has 1 channel (greyscale), but 3 expected (R, G, B)",
        "large": "it is 14 x 14 pixels, but",
        "deep": "it holds uint16 values, but",
        "unlabelled": "it has no field 'cls', only png",
        "two": "it has several fields that may be its image (png, tif)",
        "none": "it has no field that is an image; its fields are cls, txt",
    }.items():
        assert f"train-009.tar: {key}: " in message
        assert reason in message


def test_files_that_name_their_bands_otherwise_are_refused(tmp_path):
    import tifffile

    from tests.helpers.shard_files import BytesIO

    def ome(image, names):
        buffer = BytesIO()
        tifffile.imwrite(buffer, image, ome=True, photometric="minisblack", metadata={"axes": "CYX", "Channel": names})
        return buffer.getvalue()

    images, _ = quadrants(18, 0)
    for split, start in (("train", 0), ("val", 6), ("test", 12)):
        rows = range(start, start + 6)
        samples = {f"{i}": {"tif": ome(images[i], {"Name": ["R", "G", "B"]}), "cls": str(i % 2)} for i in rows}
        write_shard(tmp_path / f"{split}-0.tar", samples)
    assert ac.load_dataset(f"wds:{tmp_path}").channels.names == ("R", "G", "B")
    with pytest.raises(DataError, match=r"train-0\.tar: 0: its channels are in another order: the file says R, G, B"):
        ac.load_dataset(f"wds:{tmp_path}", channels="B,G,R")


def test_an_image_in_two_splits_is_named(shards):
    images, labels = shards[1]["train"]
    write_shard(shards[0] / "val-001.tar", {"copy": {"png": encode(images[20]), "cls": str(labels[20])}})
    with pytest.raises(
        DataError, match=r"val-001\.tar: copy: its content is in two splits \(leakage\): val, and train"
    ):
        ac.load_dataset(f"wds:{shards[0]}")


@pytest.mark.parametrize("options", [{"statistics_images": 8}, {"epoch_images": 20, "class_names": list("abcd")}])
def test_an_image_in_two_splits_is_named_among_those_that_are_measured(options, shards):
    images, labels = shards[1]["train"]
    before = ac.load_dataset(f"wds:{shards[0]}", **options).fingerprint
    assert ac.load_dataset(f"wds:{shards[0]}", **options | {"statistics_images": 4}).fingerprint == before
    write_shard(shards[0] / "val-001.tar", {"copy": {"png": encode(images[10]), "cls": str(labels[10])}})
    with pytest.raises(
        DataError, match=r"val-001\.tar: copy: its content is in two splits \(leakage\): val, and train"
    ):
        ac.load_dataset(f"wds:{shards[0]}", **options)


def test_samples_may_lack_channels(tmp_path):
    random = np.random.default_rng(0)
    held = ["R,G,B", "B,R", "G", None]
    known = {"R": 0, "G": 1, "B": 2}
    truth = {}
    for split, count in (("train", 24), ("val", 8), ("test", 8)):
        samples = {}
        for i in range(count):
            names = held[i % 4]
            order = [known[name] for name in (names or "R,G,B").split(",")]
            whole = random.integers(0, 255, (3, 12, 12), dtype=np.uint8)
            key = f"{split}{i:02d}"
            truth[key] = whole, sorted(order)
            samples[key] = {"npy": encode(whole[order], "npy"), "cls": str(i % 2)} | ({"txt": names} if names else {})
        half = count // 2
        write_shard(tmp_path / f"{split}-0.tar", dict(list(samples.items())[:half]))
        write_shard(tmp_path / f"{split}-1.tar", dict(list(samples.items())[half:]))
    data = ac.load_dataset(f"wds:{tmp_path}", channels="R,G,B", held="txt")
    assert data.count_patterns()["train"] == {"R,G,B": 12, "R,B": 6, "G": 6}
    for batch in data.train.batches(seed=0, epoch=0, batch_size=6, share=WHOLE):
        for key, image, present in zip(keys(batch), batch.images.numpy(), batch.present, strict=True):
            whole, positions = truth[key]
            np.testing.assert_array_equal(np.flatnonzero(present), positions)
            np.testing.assert_array_equal(image[positions], whole[positions])
    red_blue = data.select("B,R")
    assert red_blue.train.counts() == [9, 9]
    for batch in red_blue.train.batches(seed=0, epoch=0, batch_size=6, share=WHOLE):
        assert batch.present is None
        for key, image in zip(keys(batch), batch.images.numpy(), strict=True):
            np.testing.assert_array_equal(image, truth[key][0][[2, 0]])
    masked = ac.create_model("compact_k7", channels=data.channels, num_classes=2, stem="masked")
    with pytest.raises(ValueError, match=r"12 of 24 images lack channels \(the first is .*train-0\.tar: train01\)"):
        ac.fit(masked, data.train, data.val, ac.TrainingSettings(epochs=1, batch_size=8, sampler="full"))


def test_a_channel_that_no_measured_image_has_is_named(tmp_path):
    images, _ = quadrants(30, 0)
    for split, rows in (("train", range(20)), ("val", range(20, 25)), ("test", range(25, 30))):
        samples = {}
        for i in rows:
            names = "R,G" if i < 10 else "R,G,B"
            pixels = images[i][: len(names.split(","))]
            samples[f"{i:02d}"] = {"npy": encode(pixels, "npy"), "cls": str(i % 2), "txt": names}
        write_shard(tmp_path / f"{split}-0.tar", samples)
    options = {"held": "txt", "class_names": ["a", "b"]}
    for limit in ({"statistics_images": 6}, {"statistics_images": 6, "epoch_images": 20}):
        with pytest.raises(DataError, match="has the channel B; raise statistics_images, which is 6, or leave the"):
            ac.load_dataset(f"wds:{tmp_path}", channels="R,G,B", **options, **limit)
    some = ac.load_dataset(f"wds:{tmp_path}", channels="R,G,B", **options, statistics_images=12)
    assert some.channels.mean[2] == pytest.approx(images[10:12, 2].mean())
    for limit in ({}, {"statistics_images": 6}):
        with pytest.raises(DataError, match="no training image has the channel NIR, SWIR; leave it out, or add images"):
            ac.load_dataset(f"wds:{tmp_path}", channels="R,G,B,NIR,SWIR", **options, **limit)


def test_each_channel_may_be_a_file_of_its_own(tmp_path):
    images, labels = quadrants(30, 0)
    for split, rows in (("train", range(20)), ("val", range(20, 25)), ("test", range(25, 30))):
        samples = {}
        for i in rows:
            planes = {f"{name}.tif": encode(images[i][c : c + 1], "tif") for c, name in enumerate("rgb")}
            samples[f"{i:02d}"] = planes | {"cls": str(labels[i])}
        if split == "train":
            del samples["03"]["g.tif"]
        write_shard(tmp_path / f"{split}-0.tar", samples)
    options = {"image": ["r.tif", "g.tif", "b.tif"], "channels": "R,G,B"}
    data = ac.load_dataset(f"wds:{tmp_path}", **options)
    np.testing.assert_array_equal(data.val.images, images[20:25])
    assert data.count_patterns()["train"] == {"R,G,B": 19, "R,B": 1}
    with pytest.raises(DataError, match=r"image names 2 fields .* but there are 3 channels"):
        ac.load_dataset(f"wds:{tmp_path}", image=["r.tif", "g.tif"], channels="R,G,B")


@pytest.mark.parametrize("names", [("1", "0"), ("1", "2"), ("2020", "2019")])
def test_a_label_is_looked_up_among_the_names_before_it_is_a_number(names, tmp_path):
    images, _ = quadrants(24, 0)
    for split, rows in (("train", range(12)), ("val", range(12, 18)), ("test", range(18, 24))):
        samples = {f"{i:02d}": {"png": encode(images[i]), "cls": names[i % 2]} for i in rows}
        write_shard(tmp_path / f"{split}-0.tar", samples)
    data = ac.load_dataset(f"wds:{tmp_path}", class_names=names)
    assert data.classes == names
    assert data.val.labels.tolist() == [0, 1] * 3
    for batch in data.train.batches(seed=0, epoch=0, batch_size=4, share=WHOLE):
        assert batch.labels.tolist() == [int(key) % 2 for key in keys(batch)]
    three = ac.load_dataset(f"wds:{tmp_path}", class_names=[*names, "other"], classes=["other", names[1]])
    assert len(three.train) == 6
    assert three.val.labels.tolist() == [1, 1, 1]


def test_classes_may_be_named_and_chosen(shards):
    root, made = shards
    (root / "classes.txt").write_text("top_left\ntop_right\nbottom_left\nbottom_right\n")
    data = ac.load_dataset(f"wds:{root}", classes=["bottom_right", "top_left"])
    assert data.classes == ("bottom_right", "top_left")
    labels = made["train"][1]
    assert len(data.train) == int(np.isin(labels, [0, 3]).sum())
    for batch in data.train.batches(seed=0, epoch=0, batch_size=4, share=WHOLE):
        expected = [{3: 0, 0: 1}[int(labels[int(key.removeprefix("train"))])] for key in keys(batch)]
        assert batch.labels.tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 2}, "classes chooses among class names, but this data set has none; give class_names"),
        ({"class_names": ["a", "b"]}, "its label 2 is none of the 2 classes"),
        ({"epoch_images": 10}, "their classes are not known: give class_names"),
        ({"epoch_images": 0}, "epoch_images is a number of images, at least 1, or left out, got 0"),
        ({"statistics_images": -1}, "statistics_images is a number of images, at least 1"),
        ({"buffer": -1}, "buffer is a number of samples, 0 or more, got -1"),
        ({"workers": -1}, "workers is a number of processes, 0 or more, got -1"),
        ({"lanes": 0}, "lanes is a number, at least 1, or left out, got 0"),
        ({"val": "val-000.tar"}, "is a folder, where file names give the splits"),
        ({"form": "lists"}, "form and partial do not apply to 'wds:"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message, shards):
    with pytest.raises(ValueError, match=message):
        ac.load_dataset(f"wds:{shards[0]}", **options)


def test_unknown_options_list_the_valid_ones(shards):
    with pytest.raises(TypeError, match=r"unknown option 'colour' of wds:\.\.\.; its options are val, test, image"):
        ac.load_dataset(f"wds:{shards[0]}", colour=1)
    with pytest.raises(
        TypeError,
        match=r"unknown option 'lanes' of bands.* its options are partial; lanes is an option of hf.* and wds",
    ):
        ac.load_dataset("bands", lanes=1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{root}/train-{{000..003}}.tar", "the shards of val are missing; give val='val-{000..001}.tar'"),
        ("{root}/train-{{000..009}}.tar", "train-004.tar: there is no such shard; check the path and the braces"),
        ("{root}/none", "none: there is no such shard"),
    ],
)
def test_shards_that_are_not_there_are_named(spec, message, shards):
    options = (
        {} if "val=" in message else {"val": str(shards[0] / "val-000.tar"), "test": str(shards[0] / "test-*.tar")}
    )
    with pytest.raises(DataError, match=message):
        ac.load_dataset("wds:" + spec.format(root=shards[0]), **options)


def test_without_webdataset_the_extra_is_named(shards, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(ImportError, match=r"a list of shards needs .*webdataset.*; pip install 'anychannel\[wds\]'"):
        ac.load_dataset(f"wds:{shards[0]}/train-000.tar", val="val-000.tar", test="test-000.tar")


def test_a_stream_is_not_evaluated(shards):
    data = ac.load_dataset(f"wds:{shards[0]}")
    model = ac.create_model("compact_k7", channels=data.channels, num_classes=4, stem="completion")
    with pytest.raises(ValueError, match="the training images are read from shards as training goes on; evaluate"):
        ac.evaluate(model, data, split="train")


@pytest.mark.parametrize("field", ["json", "txt"])
def test_a_sample_may_have_several_labels(field, tmp_path):
    images, _ = quadrants(40, 0)
    held = [[k for k in range(3) if i >> k & 1] for i in range(40)]
    kinds = {"json": lambda one: {"labels": one, "by": "hand"}, "txt": lambda one: "|".join(map(str, one)) or "|"}
    for split, rows in (("train", range(24)), ("val", range(24, 32)), ("test", range(32, 40))):
        samples = {f"{i:02d}": {"png": encode(images[i]), field: kinds[field](held[i])} for i in rows}
        write_shard(tmp_path / f"{split}-0.tar", samples)
    label = "json.labels" if field == "json" else "txt"
    options = {"label": label, "class_names": ["forest", "river", "road"]}
    expected = np.array([[k in one for k in range(3)] for one in held], dtype=np.float32)
    for _ in range(2):  # read, and from the cache
        data = ac.load_dataset(f"wds:{tmp_path}", **options)
        assert data.has_several
        np.testing.assert_array_equal(data.val.labels, expected[24:32])
        for batch in data.train.batches(seed=0, epoch=0, batch_size=6, share=WHOLE):
            np.testing.assert_array_equal(batch.labels, expected[[int(key) for key in keys(batch)]])
    if field == "json":
        assert len(ac.load_dataset(f"wds:{tmp_path}", **options, classes="road,forest").train) == 24
    else:
        with pytest.raises(DataError, match="have several labels and others one, so that classes would leave out"):
            ac.load_dataset(f"wds:{tmp_path}", **options, classes="road,forest")
    model = ac.create_model("compact_k7", channels=data.channels, num_classes=3, model_options={"width": 16})
    settings = ac.TrainingSettings(epochs=1, batch_size=8, device="cpu", precision="fp32")
    assert ac.fit(model, data.train, data.val, settings).monitor == "val_mean_map"
    assert "mean_average_precision" in ac.evaluate(model, data.test).subsets["R,G,B"]
