"""Data whose images have several labels: tables, lists, arrays."""

from __future__ import annotations

import numpy as np
import pytest

from anychannel.data import DataError, dataset_from_arrays, load_dataset
from anychannel.data.batches.split import balanced_order
from tests.helpers.several_labels import NAMES, make_arrays, names_of, write_table

SPLITS = ("train", "val", "test")


def labels_of(dataset):
    """All images' labels by their paths."""
    splits = [getattr(dataset, name) for name in SPLITS]
    return {path: row.tolist() for split in splits for path, row in zip(split.paths, split.labels, strict=True)}


@pytest.mark.parametrize("form", ["|", ";", " | ", "columns"])
def test_a_table_gives_each_image_its_labels(tmp_path, form):
    _, labels = write_table(tmp_path, form=form)
    dataset = load_dataset(tmp_path, cache_dir=tmp_path / "cache")
    assert dataset.has_several
    assert dataset.classes == NAMES
    assert labels_of(dataset) == {f"images/{i:03}.png": row for i, row in enumerate(labels.tolist())}
    assert dataset.train.labels.dtype == np.float32
    assert not labels.any(axis=1).all()  # an image may have none
    counts = dataset.count_classes()
    assert np.sum(list(counts.values()), axis=0).tolist() == labels.sum(axis=0).tolist()
    assert dataset.describe_split().startswith("3 labels, several an image; ")


def test_each_label_has_about_the_same_share_in_every_split(tmp_path):
    images, labels = make_arrays(400)
    dataset = dataset_from_arrays(images, labels, channels="R,G,B", classes=NAMES)
    for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        counts = np.array(dataset.count_classes()[split])
        np.testing.assert_allclose(counts / labels.sum(axis=0), share, atol=0.02)
        none = ~getattr(dataset, split).labels.any(axis=1)
        assert none.sum() / (~labels.any(axis=1)).sum() == pytest.approx(share, abs=0.02)


def test_plots_stay_whole_and_classes_choose_among_the_labels(tmp_path):
    _, labels = write_table(tmp_path, form="columns")
    options = {"split_by": "plot", "classes": "road,forest", "cache_dir": tmp_path / "cache"}
    dataset = load_dataset(tmp_path, **options)
    assert dataset.classes == ("road", "forest")
    known = {f"images/{i:03}.png": row[[2, 0]].tolist() for i, row in enumerate(labels)}
    assert labels_of(dataset) == known
    plots = [{int(path[7:10]) // 4 for path in getattr(dataset, split).paths} for split in SPLITS]
    assert len(set.union(*plots)) == sum(map(len, plots))


def test_a_column_of_a_table_may_be_no_label(tmp_path):
    write_table(tmp_path, form="columns")
    table = tmp_path / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0] + ",clouds", *(line + ",7" for line in lines[1:])]))
    assert load_dataset(tmp_path, cache_dir=tmp_path / "cache").classes == NAMES


def test_lists_hold_names_or_numbers_of_several_labels(tmp_path):
    images, labels = write_table(tmp_path)
    (tmp_path / "labels.csv").unlink()
    numbers = ["|".join(str(k) for k in np.flatnonzero(row)) or "|" for row in labels]
    names = [";".join(names_of(row)) or "|" for row in labels]
    for words in (names, numbers):
        for split, rows in (("train", range(40)), ("val", range(40, 50)), ("test", range(50, 60))):
            (tmp_path / f"{split}.txt").write_text("".join(f"images/{i:03}.png {words[i]}\n" for i in rows))
        dataset = load_dataset(tmp_path, cache_dir=tmp_path / "cache")
        assert dataset.classes == (NAMES if words is names else ("0", "1", "2"))
        np.testing.assert_array_equal(dataset.train.labels, labels[:40])
        np.testing.assert_array_equal(dataset.test.labels, labels[50:])
        np.testing.assert_array_equal(dataset.test.images, images[50:])


def test_a_class_whose_name_has_the_separator_is_one_class(tmp_path):
    write_table(tmp_path)
    table = tmp_path / "labels.csv"
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    words = ["label", *(("bog|fen", "heath")[i % 2] for i in range(len(lines) - 1))]
    table.write_text("\n".join(f"{line},{word}" for line, word in zip(lines, words, strict=True)))
    (tmp_path / "classes.txt").write_text("bog|fen\nheath\n")
    dataset = load_dataset(tmp_path, cache_dir=tmp_path / "cache")
    assert not dataset.has_several
    assert dataset.classes == ("bog|fen", "heath")


def test_wrong_labels_are_named(tmp_path):
    write_table(tmp_path, form="columns")
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("images/003.png,0,", "images/003.png,0,2", 1))
    with pytest.raises(DataError, match=r"labels.csv line 5: the label 'forest' of images/003.png is '2.', neither 0"):
        load_dataset(tmp_path, cache_dir=tmp_path / "cache")
    other = tmp_path / "other"
    write_table(other)
    (other / "classes.txt").write_text("forest\nriver\n")
    with pytest.raises(DataError, match=r"its label 'road' is none of the 2 classes \(forest, river\)"):
        load_dataset(other, cache_dir=tmp_path / "cache")


def test_wrong_arrays_are_refused():
    images, labels = make_arrays()
    with pytest.raises(DataError, match=r"image 0 has 3 for the label '\d', but 0 or 1 is expected"):
        dataset_from_arrays(images, np.where(labels == labels[0].max(), 3, labels), channels="R,G,B")
    with pytest.raises(
        DataError, match=r"labels have shape \(60, 3\), a column for each label, but 2 classes are named"
    ):
        dataset_from_arrays(images, labels, channels="R,G,B", classes=["a", "b"])
    with pytest.raises(DataError, match=r"labels have shape \(60, 1\)"):
        dataset_from_arrays(images, labels[:, :1], channels="R,G,B")


def test_a_balanced_epoch_draws_each_label_equally_often():
    labels = np.zeros((100, 3), np.float32)
    labels[:80, 0], labels[80:90, 1], labels[90:95, 2] = 1, 1, 1
    order = balanced_order(0, 0, labels)
    kinds = [np.flatnonzero(labels[row])[0] if labels[row].any() else 3 for row in order]
    assert np.bincount(kinds).tolist() == [25, 25, 25, 25]


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("TRUE", "FALSE"), ("true", "0")])
def test_flags_may_be_written_as_tables_of_pandas_write_them(tmp_path, yes, no):
    _, labels = write_table(tmp_path, form="columns")
    table = tmp_path / "labels.csv"
    head, *lines = table.read_text().splitlines()
    split = [line.split(",", 2) for line in lines]  # path, plot and the labels
    rows = [f"{path},p{plot},{flags.replace('1', yes).replace('0', no)}" for path, plot, flags in split]
    table.write_text("\n".join([head, *rows]))
    dataset = load_dataset(tmp_path, cache_dir=tmp_path / "cache")
    assert labels_of(dataset) == {f"images/{i:03}.png": row for i, row in enumerate(labels.tolist())}


def test_a_column_that_is_there_twice_is_named(tmp_path):
    write_table(tmp_path, form="columns")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(line + "," + line.rsplit(",", 1)[1] for line in table.read_text().splitlines()))
    with pytest.raises(DataError, match=r"labels\.csv: the column '\w+' is there twice; rename one of them"):
        load_dataset(tmp_path, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("labels", [[["a", "b"], ["a"], []] * 4, [["a", "b"]] * 12, [[0, 1], [1]] * 6])
def test_lists_of_labels_for_arrays_are_told_to_be_indicators(labels):
    images = np.random.default_rng(0).integers(0, 255, (12, 3, 8, 8)).astype(np.uint8)
    with pytest.raises(DataError, match=r"several labels an image are an array \(N, L\), 1 for each"):
        dataset_from_arrays(images, labels, channels="R,G,B")


def add_columns(root, head, cells):
    """More columns of ``labels.csv``; ``cells`` gives those of each line by its number."""
    table = root / "labels.csv"
    first, *lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{first},{head}", *(f"{line},{cells(i)}" for i, line in enumerate(lines))]))


def test_columns_that_are_labels_are_named_and_chosen(tmp_path):
    root = tmp_path / "data"
    _, labels = write_table(root, form="columns")
    add_columns(root, "night,rare,site", lambda i: f"{i % 2},{1 if i % 3 else 'unsure'},s{i % 4}")
    add_columns(root, "mostly", lambda i: "x" if i % 3 else 1)
    options = {"cache_dir": tmp_path / "cache", "split_by": "plot"}
    with pytest.raises(DataError, match=r"'rare' of images/000.png .* classes='forest,river,road,night'"):
        load_dataset(root, **options)
    chosen = load_dataset(root, **options, classes="forest, river,road")
    assert labels_of(chosen) == {f"images/{i:03}.png": row for i, row in enumerate(labels.tolist())}
    assert chosen.describe_split().endswith(
        "; labels are the columns forest, river, road, and not night (60 of 60 cells are 0 or 1), "
        "rare (40 of 60 cells are 0 or 1), site, mostly (20 of 60 cells are 0 or 1)"
    )
    with pytest.raises(DataError, match=r"'mostly' of images/001.png is 'x', neither 0 nor 1"):
        load_dataset(root, **options, classes=["forest", "mostly"])
    with pytest.raises(ValueError, match="classes needs two or more names, each once, got forest"):
        load_dataset(root, classes="forest")


def test_classes_find_columns_that_look_like_no_labels(tmp_path):
    write_table(tmp_path, count=12, form="columns")
    table = tmp_path / "labels.csv"
    head, *lines = table.read_text().splitlines()
    flags = ["1,0,0" if i == 9 else ",," for i in range(12)]
    table.write_text(
        "\n".join([head, *(f"{','.join(x.split(',')[:2])},{y}" for x, y in zip(lines, flags, strict=True))])
    )
    with pytest.raises(DataError, match=r"classes='a,b' names these columns"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"the label 'road' of images/000.png is ''"):
        load_dataset(tmp_path, classes="road,forest")


def test_classes_choose_among_the_names_in_a_column(tmp_path):
    write_table(tmp_path)
    table = tmp_path / "labels.csv"
    lines = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    words = ["label", *(("oak", "pine", "fir")[i % 3] for i in range(len(lines) - 1))]
    table.write_text("\n".join(f"{line},{word}" for line, word in zip(lines, words, strict=True)))
    dataset = load_dataset(tmp_path, cache_dir=tmp_path / "cache", classes="pine,fir")
    assert dataset.classes == ("pine", "fir")
    assert sum(len(getattr(dataset, split)) for split in SPLITS) == 40
    assert "columns" not in dataset.describe_split()


def test_commas_between_labels_are_refused_unless_the_class_is_listed(tmp_path):
    images, _ = write_table(tmp_path)
    table = tmp_path / "labels.csv"
    table.write_text(table.read_text().replace("forest|river|road", '"forest, river,road"'))
    text = r"'forest, river,road' is made of the labels forest and river and road; write 'forest\|river\|road'"
    with pytest.raises(DataError, match=text):
        load_dataset(tmp_path, cache_dir=tmp_path / "cache")
    table.unlink()
    words = ["forest,river" if i % 3 == 0 else ("forest", "river")[i % 2] for i in range(60)]
    numbers = ["0,1" if i % 3 == 0 else str(i % 2) for i in range(60)]
    for each in (words, numbers):
        for split, rows in (("train", range(40)), ("val", range(40, 60))):
            (tmp_path / f"{split}.txt").write_text("".join(f"images/{i:03}.png {each[i]}\n" for i in rows))
        with pytest.raises(DataError, match=rf"the label '{each[0]}' is made of the labels"):
            load_dataset(tmp_path, cache_dir=tmp_path / "cache")
        with pytest.raises(DataError, match=rf"the label '{each[0]}' is made of the labels"):
            dataset_from_arrays(images, each, channels="R,G,B")
    for split, rows in (("train", range(40)), ("val", range(40, 60))):
        (tmp_path / f"{split}.txt").write_text("".join(f"images/{i:03}.png {words[i]}\n" for i in rows))
    (tmp_path / "classes.txt").write_text("forest\nriver\nforest,river\n")
    assert load_dataset(tmp_path, cache_dir=tmp_path / "cache").classes == ("forest", "river", "forest,river")
    own = dataset_from_arrays(images, words, channels="R,G,B", classes=["forest", "river", "forest,river"])
    assert not own.has_several


@pytest.mark.parametrize("between", ["|", ";", " | "])
def test_arrays_take_texts_with_several_labels(between):
    images, labels = make_arrays()
    texts = [between.join(names_of(row)) for row in labels]
    splits = ["train"] * 40 + ["val"] * 20
    for classes in (None, NAMES):
        dataset = dataset_from_arrays(images, texts, channels="R,G,B", splits=splits, classes=classes)
        assert dataset.classes == NAMES
        np.testing.assert_array_equal(np.concatenate([dataset.train.labels, dataset.val.labels]), labels)
    column = np.array(texts, dtype=object)
    assert dataset_from_arrays(images, column, channels="R,G,B", splits=splits).fingerprint == dataset.fingerprint
    with pytest.raises(DataError, match="label 'road' is none of the classes forest, river"):
        dataset_from_arrays(images, texts, channels="R,G,B", classes=["forest", "river"])
    whole = np.array(["bog|fen", "heath"])[np.arange(60) % 2]
    assert not dataset_from_arrays(images, whole, channels="R,G,B", classes=["bog|fen", "heath"]).has_several


def test_a_label_of_every_image_is_told_and_labels_that_all_have_are_refused(tmp_path):
    images, _ = make_arrays()
    texts = [f"tumour; {('left', 'right')[number % 2]}" for number in range(len(images))]
    with pytest.warns(UserWarning, match="every training image has the label tumour.*name the classes"):
        assert dataset_from_arrays(images, texts, channels="R,G,B").classes == ("left", "right", "tumour")
    assert not dataset_from_arrays(images, texts, channels="R,G,B", classes=sorted(set(texts))).has_several
    with pytest.raises(DataError, match=r"every image has all of the labels 0, 1; .*not 1 or 0 for each"):
        dataset_from_arrays(images, np.ones((len(images), 2)), channels="R,G,B")
    write_table(tmp_path, 30)
    for file in tmp_path.glob("*.csv"):
        file.unlink()
    paths = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    lines = [f'{path},"{text}"' for path, text in zip(paths, texts, strict=False)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *lines]))
    data = load_dataset(tmp_path, channels="R,G,B", classes=sorted(set(texts)))
    assert (data.has_several, data.classes) == (False, tuple(sorted(set(texts))))
