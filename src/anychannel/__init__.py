"""anychannel: image classifiers that keep working whichever channels arrive.

    import anychannel as ac

    data = ac.load_dataset("bands:4")
    model = ac.create_model("resnet18", channels=data.channels, num_classes=len(data.classes), stem="per_size")
    ac.fit(model, data.train, data.val, ac.TrainingSettings(epochs=5, sampler="dropout"))
    print(ac.evaluate(model, data.test).to_dict()["gap"])

Names are looked up when they are first used, so importing the package alone is quick and brings in no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anychannel.utils.version import __version__

if TYPE_CHECKING:
    from anychannel.channels import ChannelError, ChannelSet, as_channel_set
    from anychannel.data import (
        DataError,
        ImageDataset,
        Split,
        Stream,
        dataset_from_arrays,
        dataset_from_huggingface,
        list_datasets,
        load_dataset,
    )
    from anychannel.evaluation import Evaluation, evaluate
    from anychannel.export import card_facts, check_export, export_model, open_export
    from anychannel.models import (
        Classifier,
        PretrainedError,
        adapt,
        calibrate,
        create_model,
        list_models,
        load_model,
        replace_stem,
        save_model,
        with_channels,
    )
    from anychannel.nn.channel_sampling import list_samplers
    from anychannel.nn.stems import list_stems
    from anychannel.report import write_report
    from anychannel.runs import RunConfig, train_run
    from anychannel.sensors import list_sensors
    from anychannel.sweeps import SweepError, sweep
    from anychannel.training import FitResult, TrainingError, TrainingSettings, fit


_HOMES = {
    "ChannelError": "channels",
    "ChannelSet": "channels",
    "Classifier": "models",
    "DataError": "data",
    "Evaluation": "evaluation",
    "FitResult": "training",
    "ImageDataset": "data",
    "PretrainedError": "models",
    "RunConfig": "runs",
    "Split": "data",
    "Stream": "data",
    "SweepError": "sweeps",
    "TrainingError": "training",
    "TrainingSettings": "training",
    "adapt": "models",
    "as_channel_set": "channels",
    "calibrate": "models",
    "card_facts": "export",
    "check_export": "export",
    "create_model": "models",
    "dataset_from_arrays": "data",
    "dataset_from_huggingface": "data",
    "evaluate": "evaluation",
    "export_model": "export",
    "fit": "training",
    "list_datasets": "data",
    "list_models": "models",
    "list_samplers": "nn.channel_sampling",
    "list_sensors": "sensors",
    "list_stems": "nn.stems",
    "load_dataset": "data",
    "load_model": "models",
    "open_export": "export",
    "replace_stem": "models",
    "save_model": "models",
    "sweep": "sweeps",
    "train_run": "runs",
    "with_channels": "models",
    "write_report": "report",
}

__all__ = [
    "ChannelError",
    "ChannelSet",
    "Classifier",
    "DataError",
    "Evaluation",
    "FitResult",
    "ImageDataset",
    "PretrainedError",
    "RunConfig",
    "Split",
    "Stream",
    "SweepError",
    "TrainingError",
    "TrainingSettings",
    "__version__",
    "adapt",
    "as_channel_set",
    "calibrate",
    "card_facts",
    "check_export",
    "create_model",
    "dataset_from_arrays",
    "dataset_from_huggingface",
    "evaluate",
    "export_model",
    "fit",
    "list_datasets",
    "list_models",
    "list_samplers",
    "list_sensors",
    "list_stems",
    "load_dataset",
    "load_model",
    "open_export",
    "replace_stem",
    "save_model",
    "sweep",
    "train_run",
    "with_channels",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"anychannel.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'anychannel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
