"""Where each run's figures come from."""

from __future__ import annotations

from dataclasses import dataclass

from anychannel.report.records import Run, number

VERSIONS = ("anychannel", "python", "torch", "torchvision", "timm", "accelerate", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Provenance:
    """A run's facts as pairs of a name and a value, its command and its configuration."""

    run: Run
    facts: tuple[tuple[str, str], ...]
    command: str
    config: str


def provenance(run: Run) -> Provenance:
    """What ``run.json``, ``environment.json``, ``command.txt`` and ``config.toml`` say."""
    known = {key: str(value) for key, value in run.environment.items() if value not in (None, "")}
    dataset = run.text("dataset")
    counts = [f"{run.text(f'num_{split}')} {split}" for split in ("train", "val", "test") if run.text(f"num_{split}")]
    device = known.get("device", "")
    if device == "cpu" and "cpu" in known:
        device = f"{known['cpu']}, {known.get('threads', '?')} of {known.get('cpu_cores', '?')} cores used"
    versions = [f"{name} {known[name]}" for name in VERSIONS if name in known]
    facts = (
        ("Status", run.status + (f": {run.text('error')}" if run.text("error") else "")),
        ("Started", known.get("started", "").replace("T", " ")),
        ("Training time", duration(run.record.get("seconds"))),
        ("Seed", run.text("seed")),
        ("Batch size", run.text("batch_size")),
        ("Data", f"{dataset} ({', '.join(counts)})" if counts else dataset),
        ("Data fingerprint", run.text("fingerprint")),
        ("Channels", ", ".join(run.channels)),
        ("Device", device),
        ("Precision", known.get("precision", "")),
        ("Platform", known.get("platform", "")),
        ("Commit", known.get("commit", "")),
        ("Versions", ", ".join(versions)),
        ("Folder", run.folder.name),
    )
    return Provenance(run, tuple((name, value) for name, value in facts if value), run.command, run.config)


def duration(seconds: object) -> str:
    """Seconds in words, empty if unknown."""
    if (seconds := number(seconds)) is None:
        return ""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"
