"""Estimate throughput, time and cost of a training. Only the network's operations are counted; the rest is assumed.

    python examples/cluster/estimate.py
    python examples/cluster/estimate.py --peak-tflops 312 --price 2 --gpus 16 --gib-per-second 2

A training step costs three forward passes (one forward, two backward), and a GPU reaches ``--utilisation`` of its peak
on convolutions. A node reads at most ``--gib-per-second`` from storage, and a process prepares at most
``--process-gib-per-second``. The slower of computing and reading sets the speed. With more than one GPU, ``--scaling``
of the speed is left. If you have a run, ``images_per_second`` in its ``metrics.jsonl`` replaces peak and utilisation.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

HOUR = 3600


@dataclass(frozen=True)
class Plan:
    """Assumptions of an estimate.

    Args:
        images: number of training images.
        channels, side, bytes_per_value: size of each image.
        epochs: passes over the images.
        gflops: operations of a forward pass of one image, in 1e9.
        gpus, gpus_per_node: number of GPUs, in all and per node.
        peak_tflops: a GPU's dense peak in the number format used, from its data sheet.
        utilisation: share of the peak that training reaches.
        scaling: share of the summed speed of single GPUs that is left with all of them.
        gib_per_second: reading speed of a node, from its disk or from object storage.
        process_gib_per_second: speed at which one process turns decoded images in memory into batches.
        price: price of a GPU hour in any currency, with its share of the node.
    """

    images: int = 10_000_000
    channels: int = 13
    side: int = 224
    bytes_per_value: int = 2
    epochs: int = 30
    gflops: float = 0.0
    gpus: int = 8
    gpus_per_node: int = 8
    peak_tflops: float = 989.0
    utilisation: float = 0.08
    scaling: float = 0.9
    gib_per_second: float = 2.0
    process_gib_per_second: float = 1.0
    price: float = 3.0


def estimate(plan: Plan) -> dict[str, float]:
    """Terabytes, images per second by computing and by reading, hours, GPU hours and cost of a plan."""
    image_bytes = plan.channels * plan.side**2 * plan.bytes_per_value
    nodes = -(-plan.gpus // plan.gpus_per_node)
    spread = plan.scaling if plan.gpus > 1 else 1.0
    computed = plan.gpus * spread * plan.utilisation * plan.peak_tflops * 1e3 / (3 * plan.gflops)
    read = min(nodes * plan.gib_per_second, plan.gpus * plan.process_gib_per_second) * 2**30 / image_bytes
    rate = min(computed, read)
    hours = plan.images * plan.epochs / rate / HOUR
    return {
        "terabytes": plan.images * image_bytes / 1e12,
        "computed": computed,
        "read": read,
        "rate": rate,
        "hours": hours,
        "gpu_hours": hours * plan.gpus,
        "cost": hours * plan.gpus * plan.price,
    }


def count_forward(model: str, channels: int, side: int) -> float:
    """Count the operations of a forward pass of one image with the completion stem, in 1e9."""
    from anychannel import create_model
    from anychannel.cost.flops import count_flops

    names = [f"band_{i + 1}" for i in range(channels)]
    network = create_model(model, channels=names, num_classes=20, stem="completion")
    counted: float = count_flops(network, batch_size=1, image_size=side)["gflops_with_attention"]
    return counted


def main() -> None:
    """Print a table with the two limits, the time and the cost for each number of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="timm/resnet50", help="network whose operations are counted")
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 16, 32], help="numbers of GPUs, one row each")
    for name in ("images", "channels", "side", "bytes-per-value", "epochs", "gpus-per-node"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan, name.replace("-", "_")))
    for name in ("peak-tflops", "utilisation", "scaling", "gib-per-second", "process-gib-per-second", "price"):
        parser.add_argument(f"--{name}", type=float, default=getattr(Plan, name.replace("-", "_")))
    values = vars(parser.parse_args())
    counts, model = values.pop("gpus"), values.pop("model")
    gflops = count_forward(model, values["channels"], values["side"])
    print(table([Plan(**values, gpus=count, gflops=gflops) for count in counts], model))


def table(plans: list[Plan], model: str) -> str:
    """The plans' estimates as a Markdown table."""
    first = plans[0]
    lines = [
        f"{first.images:,} images of {first.channels} x {first.side} x {first.side} values, {first.bytes_per_value} "
        f"bytes each: {estimate(first)['terabytes']:.1f} TB. {model}: {first.gflops:.2f} GFLOPs a forward pass. "
        f"{first.epochs} epochs; {first.peak_tflops:g} TFLOPS peak, {first.utilisation:.0%} of it reached, "
        f"{first.scaling:.0%} scaling, {first.gib_per_second:g} GiB/s a node, "
        f"{first.process_gib_per_second:g} GiB/s a process, {first.price:g} a GPU hour.",
        "",
        "| GPUs | images/s computed | images/s read | hours | GPU hours | cost |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for plan in plans:
        row = estimate(plan)
        lines.append(
            f"| {plan.gpus} | {row['computed']:,.0f} | {row['read']:,.0f} | {row['hours']:,.1f} "
            f"| {row['gpu_hours']:,.0f} | {row['cost']:,.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
