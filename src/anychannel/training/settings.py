"""The settings of a training, checked before it starts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from anychannel.training.early_stopping import (
    ALL_FIGURES,
    FIGURES,
    LABEL_FIGURES,
    MONITORS,
    REDUCED_MONITORS,
    RENAMED,
    mean_of_kinds,
    monitors_of,
)
from anychannel.training.optim import OPTIMIZERS, SCHEDULES
from anychannel.utils.durations import parse_duration
from anychannel.utils.hardware import PRECISIONS
from anychannel.utils.options import coerce_options

BALANCES = ("none", "loss", "sample")
OFF: dict[str, Any] = {
    "crop_padding": 0, "flip": False, "jitter": 0.0, "vertical_flip": False, "rotate90": False, "crop_scale": 1.0,
    "gain": 0.0, "offset": 0.0, "erase": 0.0,
}  # fmt: skip
"""The options of ``augment``, each image's random changes, with the values that change nothing."""
MIXING = {"mixup": 0.0, "cutmix": 0.0}
"""The options of ``mix_images``, likewise."""
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "default": {"crop_padding": 4, "flip": True},
    "light": {"crop_scale": 0.7, "flip": True, "gain": 0.1, "offset": 0.1},
    "scenes": {"crop_scale": 0.7, "flip": True, "vertical_flip": True, "rotate90": True, "gain": 0.1, "offset": 0.1},
    "strong": {
        "crop_scale": 0.35, "flip": True, "gain": 0.2, "offset": 0.2, "erase": 0.25, "mixup": 0.2, "cutmix": 1.0,
    },
}  # fmt: skip
"""Presets: what each switches on."""


def of_preset() -> Any:
    """The default of a setting whose value is that of the preset ``augment``."""
    return field(default=None)


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of ``fit``; types and ranges are checked.

    Args:
        epochs: largest number of epochs.
        batch_size: images in a batch, over all processes. A ``DataLoader`` has its own.
        accumulate: batches in a step, whose gradients are added before the weights change. A step is then one of a
            batch that is so many times as large, at the memory of the small one; batch norms see the small ones.
        sampler, sampler_options: the channels of each part of a batch; see ``anychannel.nn.channel_sampling``.
        optimizer, lr, momentum, weight_decay: see ``create_optimizer``. ``lr=None`` is 0.1 (``adamw``: 0.001) for a new
            network and a tenth of it for trained weights, which the higher rate would destroy.
        schedule, warmup_epochs: see ``create_schedule``.
        distill: weight of distillation in the loss of images with a teacher, in [0, 1].
        distill_temperature: softens both answers; see ``training_loss``.
        balance: ``none``; ``loss`` weights each image by the inverse frequency of its class, and of several labels an
            image each label that an image has by the number of images without it to those with it; ``sample`` draws
            each class or label equally often.
        label_smoothing: share of the target that is spread over all classes.
        clip_norm: largest norm of all gradients together; 0 does not clip.
        ema: decay of a moving average of the weights, which is validated and kept; None keeps the weights themselves.
        sync_norm: batch norms use the images of all processes, as a single process would. False uses each process's
            images, which is faster but gives other results, above all with few images in a process.
        time_limit: longest duration of training, as ``"20m"``, ``"1h30m"`` or seconds, counted anew when it resumes. It
            ends with the best weights before the epoch that would pass the limit, but not before the first; ``resume``
            trains the other epochs.
        patience, min_delta: see ``EarlyStopping``.
        monitor: the validation figure that decides which epoch is best. ``accuracy``, ``balanced_accuracy`` (mean
            recall of the classes) and ``macro_f1`` (mean F1 of the classes) are measured with all channels and, unless
            the sampler is ``full``, with channels missing, and their mean counts. ``val_accuracy`` and ``val_loss`` are
            those with all channels, ``val_reduced_accuracy`` is that with channels missing, ``val_mean_accuracy`` the
            mean; likewise ``val_balanced_accuracy`` and so on, where the mean of ``mean_average_precision`` is
            ``val_mean_map``. ``auto`` is ``balanced_accuracy`` if the largest class
            has more than 1.5 times as many training images as the smallest, else ``accuracy``. If images may have
            several labels, the figures are ``mean_average_precision`` (``auto``), ``micro_f1`` and ``macro_f1``.
        augment: preset for the settings from ``crop_padding`` to ``cutmix``, a key of ``AUGMENTATIONS``. A setting that
            is given has its own value instead; None is the preset's. Only ``mixup`` and ``cutmix`` apply to a PyTorch
            ``Dataset`` or ``DataLoader``, which has transforms of its own.
        crop_padding: largest shift of a random crop, in pixels.
        flip, vertical_flip: mirror half of the images left to right, and top to bottom.
        rotate90: turn images by 0, 90, 180 or 270 degrees, or by 0 or 180 if they are not square.
        crop_scale: smallest area of a random crop, as a share of the image's, which is resized to the image's size; 1
            does not crop.
        jitter: strength of brightness and contrast changes in [0, 1), drawn for each channel; 0 changes nothing.
        gain, offset: each channel's deviation from its mean is multiplied by a factor from [1 - gain, 1 + gain], and up
            to ``offset`` of its standard deviations are added; both drawn for each image and channel.
        erase: probability that a box of an image is set to its channels' means.
        mixup, cutmix: strengths, as of timm's ``Mixup``: images and labels are mixed in proportions drawn from a Beta
            distribution with this parameter; 0 does not. With both, a coin decides for each batch.
        precision: ``auto``, ``bf16`` or ``fp32``.
        device: ``auto`` or a torch device.
        seed: seed of order, augmentation, subsets and dropout.
        checkpoint_seconds: time between checkpoints within an epoch; each epoch ends with one, too.

    Raises:
        ValueError: a value is of another type or out of range, or has no effect beside the others; the message names
            it.
    """

    epochs: int = 15
    batch_size: int = 128
    accumulate: int = 1
    sampler: str = "split"
    sampler_options: dict[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one_cycle"
    warmup_epochs: float = 0.0
    distill: float = 0.0
    distill_temperature: float = 2.0
    balance: str = "none"
    label_smoothing: float = 0.1
    clip_norm: float = 5.0
    ema: float | None = None
    sync_norm: bool = True
    time_limit: float | str | None = None
    patience: int | None = None
    min_delta: float = 0.0
    monitor: str = "auto"
    augment: str = "default"
    crop_padding: int = of_preset()
    flip: bool = of_preset()
    jitter: float = of_preset()
    vertical_flip: bool = of_preset()
    rotate90: bool = of_preset()
    crop_scale: float = of_preset()
    gain: float = of_preset()
    offset: float = of_preset()
    erase: float = of_preset()
    mixup: float = of_preset()
    cutmix: float = of_preset()
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    checkpoint_seconds: float = 300.0

    def __post_init__(self) -> None:
        self._fill_in()
        for name, value in coerce_options(TrainingSettings, vars(self)).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "monitor", RENAMED.get(self.monitor, self.monitor))
        for name, valid in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("monitor", ("auto", *ALL_FIGURES, *MONITORS)),
            ("precision", PRECISIONS),
            ("balance", BALANCES),
        ):
            if getattr(self, name) not in valid:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; use one of {', '.join(valid)}")
        for name, low, high in (
            ("epochs", 1, 100_000),
            ("batch_size", 2, 1_000_000),
            ("accumulate", 1, 10_000),
            ("label_smoothing", 0, 0.999),
            ("distill", 0, 1),
            ("distill_temperature", 0.1, 100),
            ("warmup_epochs", 0, self.epochs),
            ("crop_padding", 0, 1_000),
            ("seed", 0, 2**63 - 1),
            ("checkpoint_seconds", 0, float("inf")),
            ("min_delta", 0, float("inf")),
            ("clip_norm", 0, float("inf")),
            ("crop_scale", 0.01, 1),
            ("offset", 0, 100),
            ("erase", 0, 1),
            ("mixup", 0, 100),
            ("cutmix", 0, 100),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be between {low} and {high}, got {getattr(self, name)}")
        try:
            object.__setattr__(self, "time_limit", parse_duration(self.time_limit))
        except ValueError as error:
            raise ValueError(f"time_limit: {error}") from error
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and not negative, got {self.weight_decay}")
        for name in ("momentum", "jitter", "gain"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        for name, value in (("ema", self.ema), ("patience", self.patience)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive or left out, got {value}")
        if self.ema is not None and self.ema >= 1:
            raise ValueError(f"ema is a decay below 1 (0.999, say), got {self.ema}")
        if self.monitor in REDUCED_MONITORS and not self.shows_subsets:
            raise ValueError(f"monitor {self.monitor!r} is about missing channels, which sampler 'full' never shows")
        for name, reason in idle_settings(vars(self)).items():
            raise ValueError(f"{name}={getattr(self, name):g} has no effect: {reason}; leave it out")

    def _fill_in(self) -> None:
        """Set the options of augmentation that are not given to the preset's values; refuse one that changes none."""
        chosen = AUGMENTATIONS.get(str(self.augment))
        if chosen is None:
            raise ValueError(f"unknown augment {self.augment!r}; use one of {', '.join(AUGMENTATIONS)}")
        preset, default = OFF | MIXING | chosen, OFF | MIXING | AUGMENTATIONS["default"]
        own = [name for name in preset if preset[name] != default[name]]
        if own and all(getattr(self, name) is not None and getattr(self, name) != preset[name] for name in own):
            raise ValueError(
                f"augment={self.augment!r} has no effect: {', '.join(own)} are given and have other values; leave "
                "them out (dataclasses.replace gives all of them: set them to None there)"
            )
        for name, value in preset.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def options(self, names: Iterable[str]) -> dict[str, Any]:
        """Some of the settings, as keyword options."""
        return {name: getattr(self, name) for name in names}

    def with_rate(self, *, trained: bool) -> TrainingSettings:
        """The same settings with the learning rate that ``lr=None`` stands for, for a new or a trained network."""
        if self.lr is not None:
            return self
        return replace(self, lr=(0.1 if self.optimizer == "sgd" else 0.001) / (10 if trained else 1))

    @property
    def shows_subsets(self) -> bool:
        """Whether training and validation use images with channels missing."""
        return self.sampler != "full"

    def watched(self, *, uneven: bool = False, several: bool = False) -> str:
        """The validation figure that decides which epoch is best.

        ``uneven`` says whether classes are uneven, and ``several`` whether images may have several labels. Raises
        ValueError if the figure asked for is not measured of these.
        """
        usual = "mean_average_precision" if several else "balanced_accuracy" if uneven else "accuracy"
        figure = usual if self.monitor == "auto" else self.monitor
        known = LABEL_FIGURES if several else FIGURES
        if figure != "val_loss" and not any(figure in (name, *monitors_of(name)) for name in known):
            what = "images that may have several labels" if several else "images of one class each"
            raise ValueError(f"monitor {figure!r} is not measured of {what}; use one of {', '.join(known)} or val_loss")
        if figure not in ALL_FIGURES:
            return figure
        return mean_of_kinds(figure) if self.shows_subsets else f"val_{figure}"


def check_own_transforms(settings: TrainingSettings, own_batches: int | None) -> TrainingSettings:
    """The settings for images of a PyTorch data set, without augmentation.

    ``own_batches`` is its loader's batch size, 0 if that varies, and None for a data set without a loader.

    Raises:
        ValueError: a setting that then has no effect differs from its default, and from what happens.
    """
    default, plain = TrainingSettings(), replace(settings, augment="none", **OFF)
    for name in OFF:
        value = getattr(settings, name)
        if value not in (getattr(plain, name), getattr(default, name)):
            raise ValueError(
                f"{name}={value:g} has no effect: a PyTorch data set augments by its own transforms; put it there"
            )
    if own_batches is not None and settings.batch_size not in (own_batches, default.batch_size):
        raise ValueError(
            f"batch_size={settings.batch_size} has no effect: the DataLoader makes "
            f"{f'batches of {own_batches}' if own_batches else 'its own batches'}; leave it out, or give the Dataset "
            "instead"
        )
    return plain


def idle_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """Settings that nothing reads beside the others, with the reason, if they differ from their defaults.

    ``values`` may lack settings, which then have their defaults.
    """
    default = {part.name: part.default for part in fields(TrainingSettings)}
    chosen = default | dict(values)
    one_cycle = chosen["schedule"] == "one_cycle"
    reasons = {
        "momentum": "optimizer 'adamw' has none"
        if chosen["optimizer"] == "adamw"
        else "schedule 'one_cycle' moves it between 0.95 and 0.85 (0 switches it off)"
        if one_cycle and chosen["momentum"]
        else "",
        "warmup_epochs": "schedule 'one_cycle' rises over its first 30 %" if one_cycle else "",
        "distill_temperature": "" if chosen["distill"] else "distill is 0",
        "min_delta": "patience is not set" if chosen["patience"] is None else "",
    }
    return {name: reason for name, reason in reasons.items() if reason and chosen[name] != default[name]}
