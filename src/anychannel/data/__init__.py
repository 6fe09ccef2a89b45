"""Data: files or an embedded data set -> decoded cache -> batches -> augmented batches."""

from anychannel.data.arrays import dataset_from_arrays
from anychannel.data.augment import augment
from anychannel.data.batches import iterate_batches, to_tensor
from anychannel.data.dataset import SPLITS, ImageDataset, Split
from anychannel.data.files.read import read_image
from anychannel.data.load import load_dataset
from anychannel.data.load_huggingface import dataset_from_huggingface
from anychannel.data.problems import DataError
from anychannel.data.sources import list_datasets
from anychannel.data.stream import Stream

__all__ = [
    "SPLITS",
    "DataError",
    "ImageDataset",
    "Split",
    "Stream",
    "augment",
    "dataset_from_arrays",
    "dataset_from_huggingface",
    "iterate_batches",
    "list_datasets",
    "load_dataset",
    "read_image",
    "to_tensor",
]
