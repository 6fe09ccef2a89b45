"""Images of PyTorch data sets and loaders are read batch by batch, and what cannot be used is named with the fix."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset, WeightedRandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import ToTensor

import anychannel as ac
from anychannel.channels import ChannelError, ChannelSet
from anychannel.data import TorchImages
from anychannel.data.batches.torch_sources import find_classes
from anychannel.utils.processes import Share
from tests.helpers.torch_data import Dictionaries, Flow, Pairs, write_folder
from tests.helpers.training import draw_present, make_split

RGB = ChannelSet(("R", "G", "B"))


def read(source, **options):
    """All images, labels and places in order."""
    batches = list(TorchImages(source, RGB, **options).in_order(7))
    return (
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.labels for batch in batches]).tolist(),
        [place for batch in batches for place in batch.places],
    )


def test_image_folders_give_pillow_images_or_tensors_with_their_paths(tmp_path):
    held = write_folder(tmp_path)
    for transform, unit in ((None, 1), (ToTensor(), 255)):
        data = ImageFolder(tmp_path, transform=transform)
        images, labels, places = read(data)
        assert places == sorted(held)
        np.testing.assert_allclose(images.numpy() * unit, np.stack([held[place] for place in places]), atol=1e-3)
        assert labels == data.targets
        assert find_classes(Subset(data, [0])) == find_classes(ConcatDataset([data, data])) == tuple(data.classes)
    assert read(Subset(data, [5, 2]))[2] == [sorted(held)[5], sorted(held)[2]]
    assert read(DataLoader(data, 5))[2] == sorted(held)
    assert read(DataLoader(ImageFolder(tmp_path), 5, collate_fn=list))[1] == data.targets


@pytest.mark.parametrize("form", ["torch", "numpy", None])
def test_hugging_face_data_sets_are_read_in_any_format(form):
    datasets = pytest.importorskip("datasets")
    split = make_split(12, 1)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcd"))})
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in split.images]
    table = datasets.Dataset.from_dict({"image": pictures, "label": split.labels.tolist()}, features=features)
    source = table.with_format(form) if form else table
    if form == "numpy":  # height and width come first there
        with pytest.raises(ChannelError, match=r"image 0 .* has the shape \(12, 12, 3\).*permute\(2, 0, 1\)"):
            read(source)
        return
    images, labels, _ = read(source)
    assert torch.equal(images, torch.from_numpy(split.images))
    assert labels == split.labels.tolist()
    assert find_classes(source) == tuple("abcd")
    streamed = table.to_iterable_dataset()
    assert torch.equal(read(streamed.with_format(form) if form else streamed)[0], images)
    if form:
        assert torch.equal(read(DataLoader(source, 5))[0], images)


@pytest.mark.parametrize(
    "array",
    [np.uint8, np.uint16, np.int16, np.int64, np.float16, np.float64],
)
def test_numbers_of_any_type_keep_their_values(array):
    split = make_split(8, 1)
    pairs = [(image.astype(array), np.int64(label)) for image, label in zip(split.images, split.labels, strict=True)]
    images, labels, _ = read(pairs)
    assert images.dtype == (torch.uint8 if array is np.uint8 else torch.float32)
    assert torch.equal(images.float(), torch.from_numpy(split.images).float())
    assert labels == split.labels.tolist()


def test_order_and_transforms_repeat_with_the_seed_and_leave_global_generators_alone():
    def epochs(source, seed, first_step=0):
        images = TorchImages(source, RGB)
        return [
            [
                (batch.images, batch.labels)
                for batch in images.batches(seed=seed, epoch=epoch, batch_size=16, share=Share(), first_step=first_step)
            ]
            for epoch in (0, 1)
        ]

    def same(one, other):
        return all(torch.equal(a, b) for (a, _), (b, _) in zip(one, other, strict=True))

    data = Pairs(noisy=True)
    own = torch.Generator().manual_seed(3)
    for make in (
        lambda: data,
        lambda: DataLoader(data, 16, shuffle=True),
        lambda: DataLoader(data, 16, shuffle=True, generator=own),
        lambda: DataLoader(data, 16, sampler=WeightedRandomSampler(np.ones(48), 48)),
    ):
        before = torch.get_rng_state(), own.get_state()
        one, again, later = epochs(make(), 0), epochs(make(), 0), epochs(make(), 0, first_step=1)
        assert same(one[0], again[0])
        assert same(one[1], again[1])
        assert same(one[1][1:], later[1])
        assert not same(one[0], one[1])
        assert not same(one[0], epochs(make(), 1)[0])
        assert torch.equal(before[0], torch.get_rng_state())
        assert torch.equal(before[1], own.get_state())


def test_workers_read_a_loader_and_its_own_batches_stay():
    loader = DataLoader(Dictionaries(20), 6, num_workers=2)
    batches = list(TorchImages(loader, RGB).in_order(512))
    assert [len(batch.labels) for batch in batches] == [6, 6, 6, 2]
    assert torch.equal(
        torch.cat([batch.images for batch in batches]), torch.from_numpy(make_split(20, 1).images).float()
    )


@pytest.mark.parametrize("kind", ["data set", "loader", "flow"])
def test_processes_share_the_images_of_every_batch(kind):
    present = draw_present(20, 1)
    data = Dictionaries(20, present=present)
    source = {"data set": data, "loader": DataLoader(data, 6), "flow": Flow(data)}[kind]
    whole = list(TorchImages(source, RGB).in_order(6))
    parts = [list(TorchImages(source, RGB).in_order(6, Share(index, 3))) for index in range(3)]
    labels = [torch.cat([batch.labels for batch in part]).tolist() for part in parts]
    expected = torch.cat([batch.labels for batch in whole]).tolist()
    assert [labels[i % 3][i // 3] for i in range(20)] == expected == data.labels.tolist()
    assert np.array_equal(np.concatenate([batch.present for batch in whole]), present)


def test_channels_are_chosen_and_images_that_lack_them_left_out():
    present = draw_present(20, 1)
    images = TorchImages(Dictionaries(20, present=present), RGB)
    batches = list(images.select((2, 0)).in_order(6))
    assert images.select((2, 0)).channels.names == ("B", "R")
    wanted = np.flatnonzero(present[:, [2, 0]].all(axis=1)).tolist()
    assert [place for batch in batches for place in batch.places] == list(map(str, wanted))
    assert torch.equal(
        torch.cat([batch.images for batch in batches]),
        torch.from_numpy(make_split(20, 1).images[wanted][:, [2, 0]]).float(),
    )


class Broken(Pairs):
    """One sample is another."""

    def __init__(self, sample):
        super().__init__(8)
        self.sample = sample

    def __getitem__(self, row):
        return self.sample if row == 3 else super().__getitem__(row)


IMAGE = torch.zeros(3, 12, 12, dtype=torch.uint8)
BROKEN = {
    "planes": ((torch.zeros(2, 12, 12), 1), ChannelError, r"image 3 of .*\(2, 12, 12\), so 2 planes, but 3 channels"),
    "size": (
        (torch.zeros(3, 10, 12), 1),
        ValueError,
        "differ in size: image 0 is 12 x 12 pixels, image 3 10 x 12",
    ),
    "float label": (
        (IMAGE, 1.5),
        TypeError,
        "image 3 of the images has a label of type float64, which is no",
    ),
    "boolean label": ((IMAGE, True), TypeError, "label of type bool"),
    "text label": ((IMAGE, "cat"), TypeError, "no whole number; give each image the number of its class"),
    "no label": ((IMAGE, None), TypeError, "image 3 of the images has no label"),
    "one-hot label": ((IMAGE, torch.tensor([0, 1])), TypeError, "image 3 .* another number of labels than image 0"),
    "wrong labels": ((IMAGE, torch.tensor([0, 7])), TypeError, "image 3 .* has 7 for the label 1; of several"),
    "large label": ((IMAGE, 9), ValueError, "image 3 of the images has label 9, but the model has 4 classes, whose"),
    "negative label": ((IMAGE, -1), ValueError, "has label -1"),
    "form": (
        (IMAGE, 1, "tile"),
        TypeError,
        r"image 3 .* is a tuple of 3: Tensor, int, str; give \(image, label\)",
    ),
    "number": (5, TypeError, "is a int; give"),
    "keys": ({"picture": IMAGE, "label": 1}, TypeError, "a dictionary with 'picture', 'label', without 'image'"),
    "no label key": ({"image": IMAGE}, TypeError, "without 'label'"),
    "palette": ((Image.new("P", (12, 12)), 1), TypeError, r"Pillow image of mode 'P'.*convert\('RGB'\)"),
    "path": (("a.png", 1), TypeError, "image 3 of the images has a str for an image; give a tensor or array"),
    "vector": ((torch.zeros(7), 1), TypeError, r"has the shape \(7,\); expected \(channels, height, width\)"),
    "mask": ({"image": IMAGE, "label": 1, "present": [True]}, TypeError, "image 0 of the images has no 'present'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_sample_that_cannot_be_used_is_named_with_the_fix(name):
    sample, kind, message = BROKEN[name]
    with pytest.raises(kind, match=message):
        read(Broken(sample), num_classes=4)


@pytest.mark.parametrize(
    ("collate", "kind", "message"),
    [
        (lambda b: torch.zeros(4, 3, 12, 12), TypeError, "a batch of the images is a Tensor; give .* in batches"),
        (lambda b: (torch.zeros(4, 2, 12, 12), torch.zeros(4, dtype=int)), ChannelError, "2 planes, but 3 channels"),
        (lambda b: (torch.zeros(4, 12, 12, 3), torch.zeros(4, dtype=int)), ChannelError, "put the channels before"),
        (lambda b: (torch.zeros(4, 3), torch.zeros(4, dtype=int)), TypeError, r"shape \(4, 3\); expected \(batch, 3"),
        (lambda b: (torch.zeros(4, 3, 12, 12), torch.zeros(4)), TypeError, "label of type float32"),
        (lambda b: (torch.zeros(4, 3, 12, 12), torch.zeros(3, dtype=int)), TypeError, r"labels of shape \(3,\), for 4"),
        (lambda b: (torch.zeros(4, 3, 12, 12), torch.full((4, 2), 2)), TypeError, "has 2 for the label 0; of several"),
    ],
)
def test_a_batch_that_cannot_be_used_is_named_with_the_fix(collate, kind, message):
    with pytest.raises(kind, match=message):
        read(DataLoader(Pairs(8), 4, collate_fn=collate))


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_of_images_of_different_sizes_say_what_to_do(workers):
    source = Broken((torch.zeros(3, 10, 12, dtype=torch.uint8), 1))
    with pytest.raises(ac.DataError, match=r"the images differ in size within a batch .*; resize or crop them"):
        read(DataLoader(source, 4, num_workers=workers))


def test_a_mask_has_to_fit():
    for held, message in (
        (np.ones((20, 2), bool), "says for each of 3 channels"),
        (np.zeros((20, 3), bool), "no channel"),
    ):
        with pytest.raises(ac.DataError, match=message):
            read(DataLoader(FixedMask(held), 4))


class FixedMask(Pairs):
    def __init__(self, held):
        super().__init__(20)
        self.held = held

    def __getitem__(self, row):
        image, label = super().__getitem__(row)
        return {"image": image, "label": label, "present": self.held[row]}


@pytest.mark.parametrize("kind", ["split", "data set", "loader", "flow", "unlabelled", "partial"])
def test_channels_are_measured_in_one_pass(kind):
    split, present = make_split(40, 1), draw_present(40, 1)
    sources = {
        "split": split,
        "data set": Pairs(40),
        "loader": DataLoader(Dictionaries(40), 7, shuffle=True, num_workers=1),
        "flow": Flow(Pairs(40), sized=False),
        "unlabelled": DataLoader(TensorDataset(torch.from_numpy(split.images)), 7),
        "partial": Dictionaries(40, present=present),
    }
    found = ac.measure_channels(sources[kind], "R,G,B")
    held = present if kind == "partial" else np.ones((40, 3), bool)
    for i in range(3):
        values = split.images[held[:, i], i].astype(np.float64)
        assert found.mean[i] == pytest.approx(values.mean())
        assert found.std[i] == pytest.approx(values.std())
    both = held[:, 0] & held[:, 1]
    expected = np.corrcoef(split.images[both, 0].ravel(), split.images[both, 1].ravel())[0, 1]
    if kind != "partial":  # a partial matrix is made positive semi-definite
        assert found.correlation[0][1] == pytest.approx(expected)


def test_images_of_any_size_are_measured_and_values_that_are_not_finite_refused():
    sizes = [(torch.full((3, side, side), float(side)), 0) for side in (4, 8, 8)]
    found = ac.measure_channels(sizes, "R,G,B")
    assert found.mean[0] == pytest.approx((16 * 4 + 128 * 8) / 144)
    bad = torch.zeros(3, 4, 4)
    bad[1, 0, 0] = torch.nan
    with pytest.raises(ac.DataError, match="image 1 has values in G that are not finite"):
        ac.measure_channels([sizes[0], (bad, 0)], "R,G,B")
    with pytest.raises(ValueError, match="no image to measure"):
        ac.measure_channels([], "R,G,B")
    with pytest.raises(TypeError, match="a torch Dataset or DataLoader, or a split of a data set, got dict"):
        ac.measure_channels({}, "R,G,B")
    assert ac.measure_channels(Pairs(40), "R,G,B", most=3) == ac.measure_channels(
        Subset(Pairs(40), [0, 19, 39]), "R,G,B"
    )


def test_a_split_is_a_map_style_data_set():
    split = make_split(20, 1)
    image, label = split[3]
    assert torch.equal(image, torch.from_numpy(split.images[3]))
    assert label == split.labels[3]
    assert torch.equal(split[-1][0], torch.from_numpy(split.images[-1]))
    with pytest.raises(IndexError, match="image 20 of a split of 20"):
        _ = split[20]
    assert len(list(split)) == 20
    for workers in (0, 2):
        images, labels = zip(*DataLoader(split, 6, num_workers=workers), strict=True)
        assert torch.equal(torch.cat(images), torch.from_numpy(split.images))
        assert torch.equal(torch.cat(labels), torch.from_numpy(split.labels))


def test_samples_of_a_split_say_which_channels_they_have():
    split, present = make_split(20, 1), draw_present(20, 1)
    partial = replace(split, images=split.images.astype(np.float32), present=present)
    sample = partial[1]
    assert sample["present"].tolist() == present[1].tolist()
    assert not sample["image"][~sample["present"]].any()
    batch = next(iter(DataLoader(partial, 20)))
    assert np.array_equal(batch["present"].numpy(), present)
    assert batch["label"].dtype == torch.int64
