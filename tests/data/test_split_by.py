"""Splits by a column of a CSV beside the images: at random with whole groups, by folds, without a test split."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from anychannel.data import SPLITS, DataError, dataset_from_arrays, load_dataset
from anychannel.data.sources.splitting import SHARES, split_groups
from tests.helpers.image_files import write_image

CLASSES = ("oak", "pine", "fir")
RNG = np.random.default_rng(0)
ROWS = [
    {"file": f"images/{i:03d}.png", "label": CLASSES[min(2, i % 7 // 2)], "plot": f"P{i % 20}", "fold": str(i % 5)}
    for i in range(100)
]
PLOT_OF = {row["file"]: row["plot"] for row in ROWS}
FOLD_OF = {row["file"]: row["fold"] for row in ROWS}


def write_table(root: Path, rows: list[dict[str, str]], name: str = "labels.csv", delimiter: str = ",") -> None:
    with (root / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trees")
    for row in ROWS:
        write_image(root / row["file"], RNG.integers(0, 256, (3, 6, 6), dtype=np.uint8))
    return root


@pytest.fixture
def trees(pictures: Path, tmp_path: Path) -> Path:
    """A folder with one CSV file and a folder of images."""
    (tmp_path / "trees").mkdir()
    (tmp_path / "trees" / "images").symlink_to(pictures / "images")
    write_table(tmp_path / "trees", ROWS)
    return tmp_path / "trees"


def paths_of(data) -> dict[str, set[str]]:
    return {split: set(getattr(data, split).paths) for split in SPLITS}


def sides(data, group_of: dict[str, str]) -> dict[str, set[str]]:
    return {split: {group_of[path] for path in paths} for split, paths in paths_of(data).items()}


def test_a_csv_alone_lists_images_and_labels(trees: Path):
    data = load_dataset(trees)
    assert data.classes == ("fir", "oak", "pine")
    label_of = {row["file"]: row["label"] for row in ROWS}
    for split in SPLITS:
        part = getattr(data, split)
        assert [data.classes[label] for label in part.labels] == [label_of[path] for path in part.paths]
    assert [len(getattr(data, split)) for split in SPLITS] == [80, 10, 10]
    assert data.describe_split() == "3 classes; 80 / 10 / 10 images (train / val / test), split at random"


def test_a_column_split_gives_the_splits(trees: Path):
    named = [row | {"Split": ("training", "val", "Test")[i % 3]} for i, row in enumerate(ROWS)]
    write_table(trees, named, delimiter=";")
    data = load_dataset(trees)
    assert paths_of(data)["val"] == {row["file"] for row in named if row["Split"] == "val"}
    assert data.how == "split as labels.csv says"
    write_table(trees, [row | {"split": "holdout"} for row in ROWS])
    with pytest.raises(DataError, match="split 'holdout' is no split; write train, val or test"):
        load_dataset(trees)


def test_groups_stay_on_one_side_and_the_seed_decides(trees: Path):
    data, again, other = (load_dataset(trees, split_by="plot", seed=seed) for seed in (0, 0, 1))
    plots = sides(data, PLOT_OF)
    assert sum(map(len, plots.values())) == len(set.union(*plots.values())) == 20
    assert [len(getattr(data, split)) for split in SPLITS] == [80, 10, 10]
    assert data.describe_split().endswith("split at random by plot")
    assert paths_of(data) == paths_of(again) != paths_of(other)


def test_lists_and_class_folders_are_split_anew_by_a_csv(trees: Path, tmp_path: Path):
    for split, part in zip(SPLITS, (ROWS[:80], ROWS[80:90], ROWS[90:]), strict=True):
        (trees / f"{split}.txt").write_text("".join(f"{row['file']} {row['label']}\n" for row in part))
    assert [len(getattr(load_dataset(trees), split)) for split in SPLITS] == [80, 10, 10]
    pooled = load_dataset(trees, split_by="plot")
    plots = sides(pooled, PLOT_OF)
    assert sum(map(len, plots.values())) == 20
    folders = tmp_path / "folders"
    for row in ROWS[:40]:
        place = folders / row["label"] / Path(row["file"]).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to((trees / row["file"]).resolve())
    write_table(
        folders, [{"Path": Path(row["file"]).name, "Patient": row["plot"]} for row in ROWS], "patients.csv", "\t"
    )
    data = load_dataset(folders, split_by="patient")  # the table names files without their folders
    assert sum(len(getattr(data, split)) for split in SPLITS) == 40
    by_name = {Path(path).name: plot for path, plot in PLOT_OF.items()}
    found = {split: {by_name[Path(path).name] for path in paths} for split, paths in paths_of(data).items()}
    assert sum(map(len, found.values())) == len(set.union(*found.values()))


@pytest.mark.parametrize("fold", [0, "4"])
def test_a_fold_tests_and_the_next_one_validates(trees: Path, fold: int | str):
    data = load_dataset(trees, fold_by="fold", fold=fold)
    following = str((int(fold) + 1) % 5)
    assert sides(data, FOLD_OF)["test"] == {str(fold)}
    assert sides(data, FOLD_OF)["val"] == {following}
    assert len(data.train) == 60
    assert data.how == f"split by fold: {fold} is the test split, {following} validation"


def test_a_fold_tests_and_whole_groups_of_the_others_validate(trees: Path):
    data = load_dataset(trees, fold_by="fold", fold=1, split_by="plot")
    assert sides(data, FOLD_OF)["test"] == {"1"}
    plots = sides(data, PLOT_OF)
    assert not plots["train"] & plots["val"]
    assert (len(data.train), len(data.val)) in ((70, 10), (75, 5))  # plots of 5 images, 8 wanted


def test_shares_of_each_class_are_as_even_as_scikit_learns(trees: Path):
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 60, 900)
    labels = np.minimum(rng.geometric(0.4, 900) - 1, 6)
    shares = {"train": 0.8, "test": 0.2}
    where = split_groups(labels, groups, shares, 0)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)

    def error(test: np.ndarray) -> float:
        held = np.bincount(labels[test], minlength=7) / np.bincount(labels)
        return float(np.sqrt(np.mean((held - 0.2) ** 2)))

    assert not set(groups[where == "test"]) & set(groups[where == "train"])
    assert error(where == "test") < max(error(test) for _, test in folds)


def test_each_split_has_a_group_even_if_three_are_all():
    where = split_groups(np.zeros(100, int), np.repeat(["a", "b", "c"], [90, 8, 2]), SHARES, 0)
    assert sorted(set(where)) == ["test", "train", "val"]
    with pytest.raises(DataError, match="groups has 2 groups, too few for train and val and test"):
        split_groups(np.zeros(4, int), np.array(["a", "a", "b", "b"]), SHARES, 0)


def test_arrays_are_split_by_groups():
    images = RNG.integers(0, 256, (60, 2, 4, 4), dtype=np.uint8)
    patients = np.arange(60) // 5
    data = dataset_from_arrays(images, np.arange(60) % 3, channels="a,b", split_by=patients)
    found = {split: {int(path) // 5 for path in getattr(data, split).paths} for split in SPLITS}
    assert sum(map(len, found.values())) == 12
    assert data.how == "split at random by group"
    with pytest.raises(DataError, match="split_by has no effect"):
        dataset_from_arrays(images, np.arange(60) % 3, channels="a,b", split_by=patients, splits=["train"] * 60)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split_by": "patient"}, "no CSV file in .* has a column 'patient': labels.csv has file, label, plot, fold"),
        (
            {"fold_by": "fold"},
            r"the column 'fold' needs the fold of the test images; give fold=\.\.\., one of 0, 1",
        ),
        ({"fold_by": "fold", "fold": 9}, r"the column 'fold' has no fold '?9'?; give fold="),
        ({"fold_by": "fold", "fold": 0, "split_by": "label"}, "label 'fir' has images in fold 0 and in others"),
    ],
)
def test_a_column_that_cannot_split_is_refused(trees: Path, options: dict, message: str):
    with pytest.raises(DataError, match=message):
        load_dataset(trees, **options)


def test_a_table_must_know_every_image(trees: Path):
    write_table(trees, [row | {"plot": "" if row["file"].endswith("007.png") else row["plot"]} for row in ROWS])
    with pytest.raises(DataError, match=r"the column 'plot' is empty for images/007.png; fill it in"):
        load_dataset(trees, split_by="plot")
    write_table(trees, ROWS, "all.csv")
    with pytest.raises(DataError, match=r"has the column 'plot' in all.csv and labels.csv; keep it in one"):
        load_dataset(trees, split_by="plot")
    (trees / "all.csv").unlink()
    (trees / "train.txt").write_text("".join(f"{row['file']} {row['label']}\n" for row in ROWS))
    write_table(trees, ROWS[:90])
    with pytest.raises(DataError, match=r"has no line for images/090.png, .* and 7 more, so that their 'plot'"):
        load_dataset(trees, split_by="plot")


def test_splits_by_columns_are_for_folders():
    with pytest.raises(ValueError, match="split_by and fold_by apply to folders of images, and not to 'bands'"):
        load_dataset("bands", split_by="plot")
    with pytest.raises(ValueError, match="fold=1 has no effect without fold_by"):
        load_dataset("bands", fold=1)


def test_a_folder_may_have_no_test_split(trees: Path):
    for split, part in (("train", ROWS[:80]), ("val", ROWS[80:])):
        (trees / f"{split}.txt").write_text("".join(f"{row['file']} {row['label']}\n" for row in part))
    for _ in range(2):  # decoded, and from the cache
        data = load_dataset(trees)
        assert [len(getattr(data, split)) for split in SPLITS] == [80, 20, 0]
        assert data.test.images.shape == (0, 3, 6, 6)
    assert [len(getattr(data.select("R,B"), split)) for split in SPLITS] == [80, 20, 0]
    images = RNG.integers(0, 256, (20, 2, 4, 4), dtype=np.uint8)
    splits = ["train"] * 15 + ["val"] * 5
    arrays = dataset_from_arrays(images, np.arange(20) % 2, channels="a,b", splits=splits)
    assert arrays.test.images.shape == (0, 2, 4, 4)


@pytest.mark.parametrize("form", ["backslashes", "absolute"])
def test_paths_may_be_written_as_windows_and_pandas_write_them(trees: Path, form: str):
    expected = sides(load_dataset(trees, split_by="plot"), PLOT_OF)
    written = {"absolute": lambda file: str(trees / file), "backslashes": lambda file: file.replace("/", "\\")}[form]
    names = {row["file"]: written(row["file"]) for row in ROWS}
    write_table(trees, [row | {"file": names[row["file"]]} for row in ROWS])
    data = load_dataset(trees, split_by="plot")
    assert sides(data, PLOT_OF) == expected
    (trees / "train.txt").write_text("".join(f"{names[row['file']]} {row['label']}\n" for row in ROWS[:80]))
    (trees / "val.txt").write_text("".join(f"{names[row['file']]} {row['label']}\n" for row in ROWS[80:]))
    assert set(load_dataset(trees).val.paths) == {row["file"] for row in ROWS[80:]}


def test_a_table_that_names_an_image_in_doubt_is_refused(trees: Path):
    (trees / "train.txt").write_text("".join(f"{row['file']} {row['label']}\n" for row in ROWS))
    rows = [row | {"file": f"{side}/{row['file']}", "plot": side + row["plot"]} for row in ROWS for side in ("a", "b")]
    write_table(trees, rows)
    with pytest.raises(DataError, match=r"has no line for images/000.png, .*\(the first is a/images/000.png\)"):
        load_dataset(trees, split_by="plot")
    write_table(trees, [row | {"file": Path(row["file"]).name} for row in rows])
    with pytest.raises(DataError, match=r"000.png is there twice, .* or write paths with their folders"):
        load_dataset(trees, split_by="plot")
    write_table(trees, [{"name": row["file"], "plot": row["plot"]} for row in ROWS])
    with pytest.raises(DataError, match=r"labels.csv has no column of paths, which is called file, path, filename"):
        load_dataset(trees, split_by="plot")


def test_a_column_of_splits_that_class_folders_do_not_follow_is_named(tmp_path: Path):
    for i in range(12):
        write_image(tmp_path / "ab"[i % 2] / f"{i}.png", RNG.integers(0, 256, (3, 6, 6), dtype=np.uint8))
    (tmp_path / "meta.csv").write_text("file,split\n0.png,test\n")
    assert "split at random (and not as in meta.csv, column split)" in load_dataset(tmp_path).describe_split()
