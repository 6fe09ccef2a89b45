"""What a network knows of its channels, and how raw images become what it sees."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from anychannel.channels import ChannelError, ChannelSet, Subset
from anychannel.nn.channel_sampling import Part, Sampler
from anychannel.nn.input_range import InputRange, has_values
from anychannel.nn.module_utils import Float32Buffers
from anychannel.nn.normalisation import Normalisation
from anychannel.nn.row_sampling import ChannelSampling, group_by_channels, show
from anychannel.nn.subset_batchnorm import NORMS
from anychannel.nn.subset_context import Shown, note_last
from anychannel.nn.temperatures import Temperatures


@dataclass(frozen=True)
class ModelSpec:
    """What rebuilds a network: flat values that JSON can hold, most of them as ``create_model`` takes them.

    Args:
        num_classes: number of classes; 0 if the network is no classifier, or its number is not known yet.
        calibrated: subsets with batch norm statistics of their own.
        first_conv: path of the convolution that the stem replaces; None searches for it.
        in_chans: number of channels that the network is built for before it gets the stem; None means the model's.
        normalisation: how images are normalised; None means by the channels' own statistics.
        temperatures: what logits are divided by for probabilities; None means 1.
        thresholds: of a network that may give an image several labels, the probability from which it gives each; None
            of a network that gives one class.
    """

    model: str
    num_classes: int
    stem: str
    stem_options: dict[str, Any] = field(default_factory=dict)
    model_options: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    norm: str = "shared"
    calibrated: tuple[str, ...] = ()
    first_conv: str | None = None
    in_chans: int | None = None
    normalisation: Normalisation | None = None
    temperatures: Temperatures | None = None
    thresholds: tuple[float, ...] | None = None


class ChannelInput(Float32Buffers):
    """The channels of a network, their statistics, and what training draws of them.

    Statistics are buffers: a state dict has everything that changes an output. Seed and step of the draws are in the
    state dict as well, as ``_extra_state``. They are no buffers, so that a step does not wait for the device to read
    them, and averaged or converted weights leave them alone.

    Args:
        channels: the full set.
        spec: what rebuilds the network.
        like: a parameter of the network, for device and number format.
        wide: give the network images with all channels at any time, with zeros for missing ones. For networks that
            look at the number of channels before their first convolution.
    """

    mean: Tensor
    std: Tensor
    channel_names: Tensor
    channel_mean: Tensor
    channel_std: Tensor
    channel_correlation: Tensor

    def __init__(self, channels: ChannelSet, spec: ModelSpec, like: Tensor, *, wide: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.spec = spec
        self.wide = wide
        self.trained = False
        self.input_range = InputRange()
        self.sampling: ChannelSampling | None = None
        self.seed, self.step = 0, 0
        for name, values in self.statistics().items():
            kind = torch.promote_types(like.dtype, torch.float32) if values.is_floating_point() else values.dtype
            self.register_buffer(name, values.to(like.device, kind))

    def sample(self, sampler: str | Sampler | None, options: Mapping[str, Any] | None = None) -> None:
        """Choose what is drawn in training; see ``ChannelSampling``. None and ``full`` draw nothing."""
        if sampler is None and options:
            raise ValueError("sampling_options have no effect without channel_sampling; leave them out")
        drawn = None if sampler is None else ChannelSampling(sampler, self.channels, options)
        self.sampling = None if sampler == "full" else drawn

    def inherit(self, former: ChannelInput) -> None:
        """Take over what does not depend on the channels."""
        self.wide, self.trained, self.seed, self.step = former.wide, former.trained, former.seed, former.step
        if former.sampling is not None and former.sampling.named:
            self.sample(former.sampling.name, former.sampling.options)

    def statistics(self) -> dict[str, Tensor]:
        """The buffers, from the channels' names and statistics.

        ``mean`` and ``std`` normalise images; ``channel_mean``, ``channel_std`` and ``channel_correlation`` are those
        of the training pixels, the last all zeros if it was never measured. ``channel_names`` are joined by commas.
        ``channel_groups``, JSON, is there only if channels have groups.
        """
        channels = self.channels
        used = self.spec.normalisation or Normalisation.of(channels)
        correlation = channels.correlation or ((0.0,) * len(channels),) * len(channels)
        groups = torch.tensor(list(json.dumps(channels.members).encode()), dtype=torch.uint8)
        return {
            "mean": torch.tensor(used.mean, dtype=torch.float64).view(1, -1, 1, 1),
            "std": torch.tensor(used.std, dtype=torch.float64).view(1, -1, 1, 1),
            "channel_names": torch.tensor(list(",".join(channels.names).encode()), dtype=torch.uint8),
            "channel_mean": torch.tensor(channels.mean, dtype=torch.float64),
            "channel_std": torch.tensor(channels.std, dtype=torch.float64),
            "channel_correlation": torch.tensor(correlation, dtype=torch.float64),
            **({"channel_groups": groups} if channels.members else {}),
        }

    def adopt_statistics(self) -> None:
        """Make the buffers' statistics those of ``channels`` and ``spec``."""
        if all(
            torch.equal(values.to(self.get_buffer(name)), self.get_buffer(name))
            for name, values in self.statistics().items()
        ):
            return
        correlation = self.channel_correlation.tolist() if self.channel_correlation.any() else None
        self.channels = self.channels.with_statistics(
            self.channel_mean.tolist(), self.channel_std.tolist(), correlation
        )
        used = Normalisation(tuple(self.mean.flatten().tolist()), tuple(self.std.flatten().tolist()))
        self.spec = replace(self.spec, normalisation=None if used == Normalisation.of(self.channels) else used)

    def check_names(self, names: Tensor | None) -> None:
        """Refuse the state dict of a model with other channels."""
        if names is not None and bytes(names.tolist()) != bytes(self.channel_names.tolist()):
            theirs = bytes(names.tolist()).decode(errors="replace")
            raise ChannelError(
                f"the state dict is of a model with the channels {theirs}, and this model's are "
                f"{','.join(self.channels.names)}; create the model with the same names in the same order, or give a "
                "trained network other channels with adapt()"
            )

    def adopt_groups(self, state_dict: dict[str, Any], name: str) -> None:
        """Take the groups of a state dict; a state dict without them gets the model's own.

        Raises:
            ChannelError: the model has batch norms for the subsets of other groups.
        """
        own = self._buffers.get("channel_groups")
        if name not in state_dict:
            state_dict |= {} if own is None else {name: own}
            return
        text = bytes(state_dict[name].tolist())
        if own is not None and text == bytes(own.tolist()):
            return
        channels = self.channels.with_groups(json.loads(text))
        if NORMS[self.spec.norm].key is not None:
            raise ChannelError(
                f"the state dict is of a model with the groups {', '.join(channels.members)}, and this model's are "
                f"{', '.join(self.channels.members) or 'none'}; create the model with the same groups: "
                f"channels=ChannelSet(names, groups={channels.members})"
            )
        self.channels = channels
        self.register_buffer("channel_groups", state_dict[name].clone().to(self.channel_names.device))

    @torch.no_grad()
    def measure(self, channels: ChannelSet) -> None:
        """Take measured statistics of the same channels, in place: images are normalised by them from now on."""
        self.channels = self.channels.with_statistics(channels.mean, channels.std, channels.correlation)
        self.spec = replace(self.spec, normalisation=None)
        for name, values in self.statistics().items():
            self.get_buffer(name).copy_(values)

    def get_extra_state(self) -> Tensor:
        """Seed and step of the draws."""
        return torch.tensor([self.seed, self.step])

    def set_extra_state(self, state: Tensor) -> None:
        """Continue the draws of a saved training."""
        self.seed, self.step = state.tolist()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.adopt_statistics()

    def prepare(
        self,
        images: Tensor,
        channels: ChannelSet | str | Sequence[str] | None,
        present: Any,
        parts: Sequence[Part] | None,
        dtype: torch.dtype,
        *,
        training: bool,
    ) -> tuple[Tensor, Shown]:
        """Normalised images in the model's order, and what each row shows; see ``Classifier.forward``."""
        if not isinstance(images, Tensor):
            raise TypeError(
                f"images are a torch tensor (batch, channels, height, width), got {type(images).__name__}; of an array "
                "give torch.from_numpy(images)"
            )
        positions = self.channels.positions(channels)
        if images.ndim != 4 or images.shape[1] != len(positions):
            names = ", ".join(self.channels.names[i] for i in positions)
            raise ChannelError(
                f"images of shape {tuple(images.shape)} given for {len(positions)} channels ({names}); expected "
                f"(batch, {len(positions)}, height, width) with one plane for each of them"
            )
        order = sorted(range(len(positions)), key=positions.__getitem__)
        subset: Subset = tuple(sorted(positions))
        if parts is not None:
            if positions != self.channels.full or present is not None:
                raise ChannelError(
                    f"parts are of images that hold all channels in the model's order, "
                    f"{', '.join(self.channels.names)}; bring the images into it and leave channels and present out"
                )
            check_parts(parts, len(images))
            images, parts = in_turn(images, parts)
            shown = Shown(tuple(parts))
        else:
            if order != list(range(len(order))):
                images = images[:, order]
            drawn = training and channels is None and self.sampling is not None
            if present is None and not drawn:
                shown = Shown((Part(subset, 0, images.shape[0]),))
            else:
                task = (len(images), subset, order, present, images.device, drawn)
                if torch.compiler.is_compiling():
                    from anychannel.nn.run_eagerly import run_eagerly  # here, as it imports PyTorch's compiler

                    shown = run_eagerly(self.draw_table, *task)
                else:
                    shown = self.draw(*task)
        if not torch.compiler.is_compiling():
            self.look(images, shown, subset)
            note_last(self, shown)
        normalised = self.normalise(images, subset, dtype)
        if present is not None:
            held = torch.as_tensor(present, device=images.device)[:, order].bool()
            normalised = torch.where(held[:, :, None, None], normalised, 0)
        if len(subset) < len(self.channels) and (self.wide or present is not None):
            every = normalised.new_zeros(len(images), len(self.channels), *images.shape[2:])
            every[:, list(subset)] = normalised
            normalised = every
        return normalised, shown

    def draw(
        self, batch: int, subset: Subset, order: Sequence[int], present: Any, device: torch.device, drawn: bool
    ) -> Shown:
        """What each row shows: what is drawn in training, of what its image has."""
        known = None
        if present is not None:
            given = torch.as_tensor(present)
            if given.shape != (batch, len(subset)):
                raise ValueError(
                    f"present has the shape {tuple(given.shape)}; expected ({batch}, {len(subset)}), one value for "
                    "each plane of each image"
                )
            known = torch.zeros(batch, len(self.channels), dtype=torch.bool)
            known[:, list(subset)] = given.cpu().bool()[:, list(order)]
        if drawn and self.sampling is not None:
            shown = self.sampling.draw(batch, self.seed, self.step, known, device)
            self.step += 1
        else:
            assert known is not None
            shown = show(group_by_channels([(self.channels.full, torch.arange(batch))], known), device)
        return shown

    def draw_table(self, *task: Any) -> Shown:
        """``draw`` with the table of what is shown, for a compiled graph that serves all draws."""
        shown = self.draw(*task)
        note_last(self, shown)
        rows = torch.tensor([[i in subset for i in self.channels.full] for subset in shown.subsets()])
        return replace(shown, present=rows.to(task[4], non_blocking=True))

    def look(self, images: Tensor, shown: Shown, subset: Subset) -> None:
        """Warn once if the images' values are far from the statistics."""
        if not self.input_range.warned and self.channels.measured and has_values(images):
            self.input_range.look(images, shown, subset, self.channels.names, self.channel_mean, self.channel_std)

    def normalise(self, images: Tensor, subset: Sequence[int], dtype: torch.dtype) -> Tensor:
        """(x - mean) / std for each channel of ``subset``, in the images' memory format and the weights' type."""
        if len(subset) == self.mean.shape[1] and list(subset) == list(range(len(subset))):
            mean, std = self.mean, self.std
        else:
            mean, std = self.mean[:, list(subset)], self.std[:, list(subset)]
        return ((images.to(mean.dtype) - mean) / std).to(dtype)


def in_turn(images: Tensor, parts: Sequence[Part]) -> tuple[Tensor, Sequence[Part]]:
    """The images of the parts one after the other, so that a network gets as many rows as it returns."""
    edges = [0, *(part.stop for part in parts)]
    if edges == [*(part.start for part in parts), len(images)]:
        return images, parts
    stops = list(accumulate(map(len, parts)))
    moved = [Part(part.subset, stop - len(part), stop) for part, stop in zip(parts, stops, strict=True)]
    return torch.cat([images[part.start : part.stop] for part in parts]), moved


def check_parts(parts: Sequence[Part], batch: int) -> None:
    """Refuse parts that lie outside a batch, which slicing would cut without a word."""
    for part in parts:
        if not 0 <= part.start <= part.stop <= batch:
            raise ValueError(f"{part} lies outside the batch, which has the images 0 to {batch - 1}")
    if not any(map(len, parts)):
        raise ValueError(f"the parts of a batch of {batch} images hold no image")
