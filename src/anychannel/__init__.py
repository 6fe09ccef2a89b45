"""anychannel: image classifiers that work with any subset of their input channels.

    import anychannel as ac

    data = ac.load_dataset("bands:4")
    model = ac.create_model("resnet18", channels=data.channels, num_classes=len(data.classes), stem="per_size")
    ac.fit(model, data.train, data.val, ac.TrainingSettings(epochs=5, sampler="dropout"))
    print(ac.evaluate(model, data.test).to_dict()["gap"])

Names are imported when they are first used, so ``import anychannel`` is fast and does not import torch.
"""

from __future__ import annotations

from anychannel.utils.lazy import lazy_names

__getattr__, __all__ = lazy_names(__name__, __file__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
