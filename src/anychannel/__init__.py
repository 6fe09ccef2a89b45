"""anychannel: image classifiers that work with any subset of their input channels.

    import anychannel as ac

    data = ac.load_dataset("bands:4")
    model = ac.create_model("resnet18", channels=data.channels, num_classes=len(data.classes), stem="per_size")
    ac.fit(model, data.train, data.val, ac.TrainingSettings(epochs=5, sampler="dropout"))
    print(ac.evaluate(model, data.test).to_dict()["gap"])

Names are imported when they are first used, so ``import anychannel`` is fast and does not import torch.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_HOMES = {alias.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anychannel' has no attribute {name!r}")
    value = getattr(import_module(str(_HOMES[name])), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
