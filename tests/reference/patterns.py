"""What images of a batch show where some lack channels: image by image."""

from __future__ import annotations

from collections.abc import Sequence

from anychannel.channels import Subset
from anychannel.nn.channel_sampling import Part


def shown_by_image(parts: Sequence[Part], present: Sequence[Sequence[bool]]) -> list[tuple[int, Subset]]:
    """(image, channels that it shows), once for each part that an image is in."""
    result = []
    for part in parts:
        for image in range(part.start, part.stop):
            own = tuple(channel for channel, there in enumerate(present[image]) if there)
            both = tuple(channel for channel in part.subset if channel in own)
            result.append((image, both or own))
    return result
