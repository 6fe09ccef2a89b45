"""The public names of the package and the modules that define them. ``__init__.py`` reads this list."""

from anychannel.data.batches.augment import augment as augment
from anychannel.data.batches.split import Split as Split
from anychannel.data.batches.split import iterate_batches as iterate_batches
from anychannel.data.batches.split import to_tensor as to_tensor
from anychannel.data.batches.stream import Stream as Stream
from anychannel.data.batches.torch_images import TorchImages as TorchImages
from anychannel.data.dataset import ImageDataset as ImageDataset
from anychannel.data.errors import DataError as DataError
from anychannel.data.files.read import read_image as read_image
from anychannel.data.load import dataset_from_arrays as dataset_from_arrays
from anychannel.data.load import dataset_from_huggingface as dataset_from_huggingface
from anychannel.data.load import load_dataset as load_dataset
from anychannel.data.prepare.measure import measure_channels as measure_channels
from anychannel.data.sources.registry import list_datasets as list_datasets
from anychannel.data.sources.source import SPLITS as SPLITS
