"""State dicts of channel-adaptive networks, also of other programs and older versions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from anychannel.nn.channel_input import ChannelInput


def strip_prefix(network: nn.Module, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state dict without the prefix that a wrapper wrote, also one inside a checkpoint's ``state_dict``."""
    given: Mapping[str, Any] = state_dict.get("state_dict", state_dict)
    first = next(name for name, _ in network.named_parameters())
    prefixes = [name.removesuffix(first) for name in given if f".{name}".endswith(f".{first}")]
    prefix = min(prefixes, key=len, default="")
    if not prefix:
        return given
    return {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}


def fill_in_statistics(
    network: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    entrance: ChannelInput,
    measured: Sequence[str],
    inside: str = "",
) -> None:
    """Check a state dict's channel names; give it the network's own statistics where it has none, with a warning.

    ``measured`` are the statistics' names, ``inside`` the path of ``entrance`` in the names.
    """
    entrance.check_names(state_dict.get(f"{prefix}{inside}channel_names"))
    missing = [name for name in measured if prefix + name not in state_dict]
    if missing:
        warnings.warn(
            f"the state dict lacks {', '.join(missing)}; the model keeps its own, and answers rightly only if "
            "these belong to the weights",
            stacklevel=5,
        )
        own = network.state_dict()
        state_dict.update({prefix + name: own[name] for name in missing})
    state_dict.setdefault(f"{prefix}{inside}_extra_state", entrance.get_extra_state())  # older versions' have none
