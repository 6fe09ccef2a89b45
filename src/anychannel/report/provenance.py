"""Where each run's figures come from."""

from __future__ import annotations

from anychannel.results.parse import number
from anychannel.results.run import Run

VERSIONS = ("anychannel", "python", "torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn")


def provenance(run: Run) -> list[tuple[str, str]]:
    """Names and values from ``run.json`` and ``environment.json``; unknown values are left out."""
    known = {key: str(value) for key, value in run.environment.items() if value is not None}
    counts = [f"{run.text(f'num_{split}')} {split}" for split in ("train", "val", "test") if run.text(f"num_{split}")]
    device = known.get("device", "")
    if device == "cpu" and "cpu" in known:
        device = f"{known['cpu']}, {known.get('threads', '?')} of {known.get('cpu_cores', '?')} cores used"
    facts = {
        "Status": ": ".join(filter(None, [run.status, run.text("error")])),
        "Started": known.get("started", "").replace("T", " "),
        "Training time": duration(run.record.get("seconds")),
        "Seed": run.text("seed"),
        "Batch size": run.text("batch_size"),
        "Data": run.text("dataset") + (f" ({', '.join(counts)})" if counts else ""),
        "Data fingerprint": run.text("fingerprint"),
        "Channels": ", ".join(run.channels),
        "Device": device,
        "Precision": known.get("precision", ""),
        "Platform": known.get("platform", ""),
        "Commit": known.get("commit", ""),
        "Versions": ", ".join(f"{name} {known[name]}" for name in VERSIONS if name in known),
        "Folder": run.folder.name,
    }
    return [(name, value) for name, value in facts.items() if value]


def duration(seconds: object) -> str:
    """Seconds in words; empty if unknown."""
    if (known := number(seconds)) is None:
        return ""
    minutes, rest = divmod(round(known), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{known:.1f} s"
