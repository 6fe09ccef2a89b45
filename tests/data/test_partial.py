"""Images that hold some of the channels only: what is read, measured and refused."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from anychannel.data import DataError, ImageDataset, dataset_from_arrays, iterate_batches, load_dataset
from anychannel.data.batches.split import Rows, Split
from anychannel.data.prepare.statistics import nearest_correlation
from anychannel.data.sources.bands import hide_channels
from tests.helpers.image_files import write_image
from tests.helpers.moments import measure

NAMES = ("R", "G", "B")
HELD = {"a": "R,G,B", "b": "G,R", "c": "B", "d": "R;B"}
"""Letters of file names, and what these files hold."""


def make_files(root: Path) -> dict[str, np.ndarray]:
    """TIFFs of one to three planes in a folder each for two classes; their pixels by path."""
    rng = np.random.default_rng(0)
    pixels = {}
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for name in ("one", "two"):
            for letter, channels in HELD.items():
                for i in range(count):
                    path = f"{split}/{name}/{letter}{i}.tif"
                    planes = len(channels.replace(";", ",").split(","))
                    pixels[path] = rng.integers(0, 4000, (planes, 6, 7), dtype=np.uint16)
                    write_image(root / path, pixels[path])
    (root / "channels.txt").write_text("\n".join(NAMES))
    return pixels


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Class folders with a channels.csv."""
    pixels = make_files(tmp_path)
    rows = ["path,channels", "*,R;G", '*/b?.tif,"G,R"', "*/c*,B", "*/d[0-9].tif,R;B", "*/a*,R;G;B"]
    (tmp_path / "channels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path, pixels


def held(path: str) -> list[int]:
    return [NAMES.index(name) for name in HELD[Path(path).name[0]].replace(";", ",").split(",")]


def check_content(data: ImageDataset, pixels: dict[str, np.ndarray]) -> None:
    for split in (data.train, data.val, data.test):
        assert split.present is not None
        for row, path in enumerate(split.paths):
            positions = held(path)
            assert np.flatnonzero(split.present[row]).tolist() == sorted(positions)
            np.testing.assert_array_equal(np.asarray(split.images[row])[positions], pixels[path])


def test_a_table_in_class_folders_says_what_the_planes_of_each_file_are(folders):
    root, pixels = folders
    check_content(load_dataset(root), pixels)
    check_content(load_dataset(root), pixels)  # from the cache


def test_a_third_word_in_a_list_says_what_the_planes_of_its_file_are(tmp_path):
    pixels = make_files(tmp_path)
    for split in ("train", "val", "test"):
        lines = []
        for path in pixels:
            if path.startswith(split):
                channels = HELD[Path(path).name[0]]
                lines.append(f"{path} {int('two' in path)}" + (f" {channels}" if channels != "R,G,B" else ""))
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    check_content(load_dataset(tmp_path, form="lists"), pixels)


def test_a_list_keeps_paths_with_spaces_and_channels_named_by_a_number(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "channels.txt").write_text("4\n8")
    for split in ("train", "val", "test"):
        lines = []
        for i in range(2):
            write_image(tmp_path / f"{split} {i}.tif", rng.integers(0, 255, (2, 4, 4), dtype=np.uint8))
            write_image(tmp_path / f"{split} {i} x.tif", rng.integers(0, 255, (1, 4, 4), dtype=np.uint8))
            lines += [f"{split} {i}.tif {i}", f"{split} {i} x.tif {i} {'8;' if i else '4;'}"]
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
    data = load_dataset(tmp_path)
    assert data.train.paths == ("train 0.tif", "train 0 x.tif", "train 1.tif", "train 1 x.tif")
    assert data.train.present.tolist() == [[True, True], [True, False], [True, True], [False, True]]


def test_statistics_rest_on_the_images_that_have_the_channels(folders):
    root, pixels = folders
    channels = load_dataset(root).channels
    values: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    pairs: dict[tuple[str, str], list[np.ndarray]] = {}
    for path, planes in pixels.items():
        if path.startswith("train"):
            own = [NAMES[i] for i in held(path)]
            for name, plane in zip(own, planes, strict=True):
                values[name].append(plane.ravel())
                for other, second in zip(own, planes, strict=True):
                    pairs.setdefault((name, other), []).append(np.stack([plane.ravel(), second.ravel()]))
    for i, name in enumerate(NAMES):
        every = np.concatenate(values[name]).astype(float)
        assert channels.mean[i] == pytest.approx(every.mean(), rel=1e-12)
        assert channels.std[i] == pytest.approx(every.std(), rel=1e-10)
        for j, other in enumerate(NAMES):
            expected = np.corrcoef(np.concatenate(pairs[name, other], axis=1))[0, 1]
            assert channels.correlation[i][j] == pytest.approx(expected, abs=1e-10)


def test_what_stands_in_absent_planes_reaches_no_statistic():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 4, 5, 5)).astype(np.float32)
    present = rng.random((40, 4)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    clean = measure(images, present)
    assert measure(np.where(present[:, :, None, None], images, np.nan), present) == clean
    assert measure(np.where(present[:, :, None, None], images, np.float32(1e30)), present) == clean


def test_pairs_measured_on_different_images_give_a_positive_semidefinite_matrix():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 1, 1, 1))
    images = np.concatenate([base, base, base], axis=1) + 0.05 * rng.normal(size=(300, 3, 1, 1))
    images[:100, 1] *= -1  # R and G disagree where there is no B; both agree with it elsewhere
    present = np.ones((300, 3), dtype=bool)
    present[:100, 2] = present[100:200, 1] = present[200:, 0] = False
    found = np.array(measure(images, present).correlation)
    assert np.linalg.eigvalsh(found)[0] > -1e-8
    np.testing.assert_allclose(np.diag(found), 1)
    # the nearest such matrix of [[1,-a,a],[-a,1,a],[a,a,1]] with a near 1 has a = 1/2, by symmetry
    np.testing.assert_allclose(found, [[1, -0.5, 0.5], [-0.5, 1, 0.5], [0.5, 0.5, 1]], atol=0.01)


def test_the_nearest_correlation_matrix_is_highams():
    """The example of Higham's paper, section 4."""
    given = np.array([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    expected = [[1, 0.7607, 0.1573], [0.7607, 1, 0.7607], [0.1573, 0.7607, 1]]
    np.testing.assert_allclose(nearest_correlation(given), expected, atol=5e-5)
    fine = np.array([[1.0, 0.3], [0.3, 1.0]])
    assert nearest_correlation(fine) is fine


def test_channels_that_no_image_has_together_count_as_uncorrelated_and_are_named(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (30, 3, 4, 4), dtype=np.uint8)
    present = np.ones((30, 3), dtype=bool)
    present[::2, 0] = present[1::2, 2] = False
    with pytest.warns(UserWarning, match="no measured training image has 'R' and 'B' together; their correlation is"):
        data = dataset_from_arrays(images, np.arange(30) // 2 % 2, channels=NAMES, present=present)
    assert data.channels.correlation[0][2] == 0


def test_the_warning_comes_with_every_load_not_only_with_the_first(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for i in range(4):
            write_image(tmp_path / f"{split}/{i % 2}/{i}.tif", rng.integers(0, 255, (1, 4, 4), dtype=np.uint8))
    (tmp_path / "channels.csv").write_text("path,channels\n*/0/*,VV\n*/1/*,VH\n")
    for _ in range(2):
        with pytest.warns(UserWarning, match="no measured training image has 'VV' and 'VH' together"):
            load_dataset(tmp_path, channels="VV,VH")


def test_other_patterns_of_the_same_files_are_other_data(folders):
    root, _ = folders
    first = load_dataset(root)
    table = (root / "channels.csv").read_text()
    (root / "channels.csv").write_text(table.replace("B\n", "G\n", 1))
    other = load_dataset(root)
    assert other.fingerprint != first.fingerprint
    assert other.train.present.tolist() != first.train.present.tolist()


def test_naming_all_channels_of_all_files_in_their_order_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for i in range(4):
            write_image(tmp_path / f"{split}/{i % 2}/{i}.png", rng.integers(0, 255, (3, 4, 4), dtype=np.uint8))
    plain = load_dataset(tmp_path, channels=NAMES)
    (tmp_path / "channels.csv").write_text("path,channels\n*,R;G;B\n")
    named = load_dataset(tmp_path, channels=NAMES)
    assert named.train.present is None
    assert named.fingerprint == plain.fingerprint
    (tmp_path / "channels.csv").write_text("path,channels\n*,B;G;R\n")
    turned = load_dataset(tmp_path, channels=NAMES)
    assert turned.train.present is None
    np.testing.assert_array_equal(turned.train.images[:, ::-1], plain.train.images)


def test_what_is_wrong_with_the_channels_told_is_reported_together(folders):
    root, _ = folders
    (root / "channels.csv").write_text(
        "path,channels\n*/a*,R;G;B\n*/b*,G;NIR\n*/c*,\n*/nothing/*,R\n*/d*,R;R\n,B\n*/c*,R;G\n"
    )
    with pytest.raises(DataError) as caught:
        load_dataset(root)
    text = str(caught.value)
    for expected in (
        "channels.csv line 3: unknown channel 'NIR'; the channels are R, G, B",
        "channels.csv line 4: no channel is named; write path,channels; channels as R;G",
        "channels.csv line 5: no image matches '*/nothing/*'; correct or remove it",
        "channels.csv line 6: channel 'R' is named twice; name each of the file's planes once",
        "channels.csv line 7: no path is named",
        "train/one/c0.tif: it has 1 channel (greyscale), but 2 expected (R, G); replace it, name one channel",
    ):
        assert expected in text
    assert text.count("NIR") == 1


def test_lists_and_table_may_not_contradict_each_other_nor_one_file_itself(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abcdef":
        write_image(tmp_path / f"{name}.tif", rng.integers(0, 255, (1, 4, 4), dtype=np.uint8))
    (tmp_path / "train.txt").write_text("a.tif 0 R\nb.tif 1 G\nb.tif 1 R\nc.tif 0 ;\n")
    (tmp_path / "val.txt").write_text("d.tif 0 R\n")
    (tmp_path / "test.txt").write_text("e.tif 0 G\nf.tif 1 Gr\n")
    (tmp_path / "channels.csv").write_text("path,channels\nd.tif,G\n")
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path, channels="R,G")
    for expected in (
        "train.txt line 4: no channel is named for c.tif; name the file's planes, as R,G",
        "d.tif (val.txt line 1): its line says channels R, but channels.csv line 2 G; keep one of them",
        "b.tif (train.txt line 3): the same file has other channels in train.txt line 2; give one file's channels once",
        "test.txt line 2: unknown channel 'Gr' (did you mean 'G'?); the channels are R, G",
    ):
        assert expected in str(caught.value)


def test_a_channel_that_no_training_image_has_is_refused(folders):
    root, _ = folders
    (root / "channels.csv").write_text("path,channels\n*/a*,R;G;B\n*/b*,G;R\n*/c*,B\n*/d*,R;B\n")
    with pytest.raises(DataError, match="no training image has the channel NIR; leave it out, or add images"):
        load_dataset(root, channels="R,G,B,NIR")
    images, labels = np.zeros((6, 2, 4, 4), np.uint8), [0, 1] * 3
    images += np.arange(6, dtype=np.uint8)[:, None, None, None]
    present = np.array([[True, i > 3] for i in range(6)])
    splits = ["train"] * 4 + ["val", "test"]
    with pytest.raises(DataError, match="no training image has the channel G; leave it out"):
        dataset_from_arrays(images, labels, channels="R,G", present=present, splits=splits)


def test_a_table_without_its_first_line_and_unnamed_channels_are_refused(folders):
    root, _ = folders
    (root / "channels.txt").unlink()
    with pytest.raises(DataError, match=r"every image of .* names its own channels, but nothing names them all"):
        load_dataset(root)
    (root / "channels.csv").write_text("a.tif,R\n")
    with pytest.raises(DataError, match=r"the first line is 'a.tif,R'; it has to be 'path,channels' \(path may also"):
        load_dataset(root)


@pytest.mark.parametrize("name", ["file", "Filename", "image_path"])
def test_the_column_of_paths_has_the_names_of_other_tables(name, folders):
    root, pixels = folders
    table = root / "channels.csv"
    table.write_text(table.read_text().replace("path,channels", f"{name}, Channels"))
    check_content(load_dataset(root), pixels)


def test_partial_arrays_are_checked_by_what_they_hold():
    rng = np.random.default_rng(0)
    exact = rng.integers(0, 9, (20, 2, 4, 4)).astype(np.float64)
    present = np.ones((20, 2), dtype=bool)
    present[::3, 1] = False
    exact[~present] = 1e300  # no float32; where the channel is there it would be refused
    data = dataset_from_arrays(exact, np.arange(20) % 2, channels="R,G", present=present)
    exact[~present] = np.nan
    again = dataset_from_arrays(exact.astype(np.float32), np.arange(20) % 2, channels="R,G", present=present)
    assert again.channels == data.channels
    assert again.fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"present has shape \(20,\) of bool, but booleans of shape \(20, 2\)"):
        dataset_from_arrays(exact, np.arange(20) % 2, channels="R,G", present=present[:, 0])
    with pytest.raises(DataError, match=r"image 0 \(1 in all\) has no channel; leave it out"):
        dataset_from_arrays(exact, np.arange(20) % 2, channels="R,G", present=present & (np.arange(20) > 0)[:, None])


def test_a_split_knows_its_patterns():
    images, labels, paths = np.zeros((5, 3, 2, 2), np.uint8), np.zeros(5, np.int64), tuple("abcde")
    present = np.array([[1, 1, 1], [0, 1, 0], [1, 1, 0], [0, 1, 0], [1, 0, 1]], bool)
    split = Split(images, labels, paths, present)
    assert {pattern: rows.tolist() for pattern, rows in split.patterns().items()} == {
        (0, 1, 2): [0],
        (0, 1): [2],
        (0, 2): [4],
        (1,): [1, 3],
    }
    assert list(split.patterns()) == [(0, 1, 2), (0, 1), (0, 2), (1,)]
    assert split.rows_with((0, 1)).tolist() == [0, 2]
    assert Split(images, labels, paths, np.ones((5, 3), bool)).present is None
    with pytest.raises(ValueError, match="image b has no channel"):
        Split(images, labels, paths, present & (np.arange(5) != 1)[:, None])
    with pytest.raises(ValueError, match="which of 3 channels it has, as booleans; got int64"):
        Split(images, labels, paths, present.astype(np.int64))


def test_a_selection_holds_the_images_that_have_all_its_channels(folders):
    root, pixels = folders
    data = load_dataset(root)
    chosen = data.select("B,R")
    assert chosen.train.present is None
    assert {Path(path).name[0] for path in chosen.train.paths} == {"a", "d"}
    for split in (chosen.train, chosen.test):
        copied = pickle.loads(pickle.dumps(Rows(split)))  # as a reading process gets it
        for row, path in enumerate(split.paths):
            expected = pixels[path][[held(path).index(2), held(path).index(0)]]
            np.testing.assert_array_equal(split.images[row], expected)
            np.testing.assert_array_equal(copied[row][0].numpy(), expected)
    batch, labels = next(iterate_batches(chosen.train, 5, order=np.array([3, 0, 3])))
    np.testing.assert_array_equal(batch[0].numpy(), chosen.train.images[3])
    assert labels.tolist() == chosen.train.labels[[3, 0, 3]].tolist()


def test_embedded_data_can_lack_channels_the_same_ones_each_time():
    whole = load_dataset("bands:3")
    first, again = (load_dataset("bands:3", partial=0.5) for _ in range(2))
    np.testing.assert_array_equal(first.train.present, again.train.present)
    assert first.fingerprint == again.fingerprint != whole.fingerprint
    assert (~first.train.present.all(axis=1)).mean() == pytest.approx(0.5, abs=1e-3)
    assert set(first.train.patterns()) == {(0, 1, 2), (0, 1), (0, 2), (1, 2), (0,), (1,), (2,)}
    np.testing.assert_array_equal(first.train.images[first.train.present], whole.train.images[first.train.present])


@pytest.mark.parametrize(
    ("count", "share", "message"),
    [(3, 2.0, r"partial is a share of the images, in \[0, 1\], got 2"), (1, 0.5, "partial needs two channels or more")],
)
def test_a_share_that_cannot_be_is_refused(count, share, message):
    with pytest.raises(ValueError, match=message):
        hide_channels(10, count, share, seed=0, split="train")


def test_scales_are_compared_channel_by_channel(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    rng = np.random.default_rng(0)

    def write(path: str, scales: list[float]) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(
                tmp_path / path, "w", driver="GTiff", count=len(scales), height=4, width=4, dtype="uint16"
            ) as file:
                file.write(rng.integers(1, 99, (len(scales), 4, 4), dtype=np.uint16))
                file.scales = scales
                file.offsets = [0.0] * len(scales)

    for split in ("train", "val", "test"):
        for name in ("x", "y"):
            write(f"{split}/{name}/rg.tif", [0.1, 0.2])
            write(f"{split}/{name}/b.tif", [0.5])
    (tmp_path / "channels.csv").write_text("path,channels\n*rg.tif,R;G\n*b.tif,B\n")
    with pytest.warns(UserWarning, match="no measured training image has 'R' and 'B', 'G' and 'B' together"):
        data = load_dataset(tmp_path, channels=NAMES)
    assert len(data.train) == 4
    write("test/y/b.tif", [0.2])
    with pytest.raises(DataError, match=r"test/y/b\.tif: it declares scale 0\.2 and offset 0, but train/x/b\.tif"):
        load_dataset(tmp_path, channels=NAMES)
