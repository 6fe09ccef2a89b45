"""The small task as other people's data sets give it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from tests.helpers.training import make_split


class Pairs(Dataset):
    """(image, label) of ``make_split``, with random transforms if asked for."""

    def __init__(self, count=48, seed=1, noisy=False, classes=None):
        split = make_split(count, seed)
        self.images, self.labels, self.noisy = split.images, split.labels, noisy
        if classes is not None:
            self.classes = classes

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        image = torch.from_numpy(self.images[row])
        if self.noisy:
            shift = np.random.randint(0, 5) + torch.randint(0, 5, (1,)).item()  # noqa: NPY002
            image = (image.float() + shift).round().to(torch.uint8)
        return image, int(self.labels[row])


class Dictionaries(Pairs):
    """Dictionaries, of which some say which channels the image has; planes of the others are NaN."""

    def __init__(self, *arguments, present=None, **options):
        super().__init__(*arguments, **options)
        self.present = present

    def __getitem__(self, row):
        image, label = super().__getitem__(row)
        sample = {"image": image.float(), "label": torch.tensor(label), "file": f"tile_{row}.tif"}
        if self.present is not None:
            held = torch.from_numpy(self.present[row])
            sample |= {"image": torch.where(held[:, None, None], sample["image"], torch.nan), "present": held}
        return sample


class Flow(IterableDataset):
    """Samples one after another."""

    def __init__(self, pairs, sized=True):
        self.pairs = pairs
        if sized:
            self.__class__ = SizedFlow

    def __iter__(self):
        return (self.pairs[row] for row in range(len(self.pairs)))


class SizedFlow(Flow):
    def __len__(self):
        return len(self.pairs)


def write_folder(root, count=24, seed=1, classes=("ant", "bee", "cat", "dog")):
    """An ``ImageFolder`` of PNG files; returns the images as arrays by their paths."""
    split = make_split(count, seed)
    held = {}
    for i, (image, label) in enumerate(zip(split.images, split.labels, strict=True)):
        path = root / classes[label] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
        held[path.relative_to(root).as_posix()] = image
    return held
