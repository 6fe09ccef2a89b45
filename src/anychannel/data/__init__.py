"""Data: files or an embedded data set -> decoded cache -> batches -> augmented batches."""

from anychannel.data.batches.augment import augment
from anychannel.data.batches.split import Split, iterate_batches, to_tensor
from anychannel.data.batches.stream import Stream
from anychannel.data.dataset import ImageDataset
from anychannel.data.errors import DataError
from anychannel.data.files.read import read_image
from anychannel.data.load import dataset_from_arrays, dataset_from_huggingface, load_dataset
from anychannel.data.sources.registry import list_datasets
from anychannel.data.sources.source import SPLITS

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
