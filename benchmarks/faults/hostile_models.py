"""Files of strangers in the place of a model: refused, with an error that names the file, without running code."""

from __future__ import annotations

import io
import json
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from anychannel.channels import ChannelSet
from anychannel.models import Classifier, ModelFileError, PretrainedError, adapt, create_model, load_model, save_model
from anychannel.models.saving import BEST
from anychannel.training.settings import TrainingSettings
from anychannel.training.state import CHECKPOINT, describe_settings, load_checkpoint
from benchmarks.faults.case import Case

DESCRIPTIONS = "A model.json with absurd, missing or unknown entries is refused by name, before anything is allocated."
WEIGHTS = "A damaged or forged weights file is refused, and the message names it."
CODE = "No code in a model's file, weights or checkpoint is ever run."
BOMBS = "A small file that unfolds to a large one is refused before it is unfolded."

MOST_MEGABYTES, MOST_SECONDS = 700, 60
NAMES = ("R", "G", "B")
SETTINGS = describe_settings(TrainingSettings(device="cpu"), 10)

Change = Callable[[dict[str, Any]], Any]


@cache
def small_model() -> Classifier:
    channels = ChannelSet(NAMES, (100.0,) * 3, (50.0,) * 3, ((1, 0.5, 0), (0.5, 1, 0), (0, 0, 1)))
    options = {"model_options": {"width": 16}, "classes": tuple("abcd")}
    return create_model("compact_k7", channels=channels, num_classes=4, norm="statistics", **options)


def peak_megabytes() -> int:
    """Most memory that this process held since ``forget_peak``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) // 1024


def forget_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_megabytes()


def is_refused(use: Callable[[], object], kind: type[Exception], *words: str, marker: Path | None = None) -> None:
    """Check that an error of this kind with these words ends it, in bounded time and memory, and that no code ran."""
    before, started = forget_peak(), time.monotonic()
    try:
        use()
    except kind as error:
        text = str(error)
        assert all(word in text for word in words), f"{words} are not all in: {text}"
    else:
        raise AssertionError("nothing was refused")
    assert time.monotonic() - started < MOST_SECONDS
    assert peak_megabytes() - before < MOST_MEGABYTES, f"{peak_megabytes() - before} MB were allocated"
    assert marker is None or not marker.exists(), "the file's code ran"


# model.json


def change(path: str, value: Any) -> Change:
    """Set an entry by its dotted path."""

    def apply(values: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        table = values
        for name in outer:
            table = table[name]
        table[last] = value

    return apply


def drop(path: str) -> Change:
    def apply(values: dict[str, Any]) -> None:
        *outer, last = path.split(".")
        table = values
        for name in outer:
            table = table[name]
        del table[last]

    return apply


HUGE = 10**12
DESCRIBED: dict[str, tuple[Change, str]] = {
    "a million channels": (change("channels.names", [f"c{i}" for i in range(10**6)]), "at most 4,096"),
    "no channels": (change("channels.names", []), "channel"),
    "channels as one text": (change("channels.names", "RGB"), "list"),
    "channels as numbers": (change("channels.names", [1, 2, 3]), "list"),
    "channels as null": (change("channels", None), "model.json"),
    "repeated channels": (change("channels.names", ["R", "R", "B"]), "unique"),
    "a comma in a name": (change("channels.names", ["R", "G,B", "B"]), "comma"),
    "means of another number": (change("channels.mean", [1.0]), "mean"),
    "means as text": (change("channels.mean", ["1", "2", "3"]), "finite numbers"),
    "a mean beyond floats": (change("channels.mean", [10**400, 1, 1]), "model.json"),
    "a negative deviation": (change("channels.std", [-1.0, 1.0, 1.0]), "positive"),
    "a deviation of zero": (change("channels.std", [0.0, 1.0, 1.0]), "positive"),
    "a correlation of another size": (change("channels.correlation", [[1.0]]), "correlation"),
    "a correlation of two": (change("channels.correlation", [[2.0] * 3] * 3), "correlation"),
    "a correlation of texts": (change("channels.correlation", [["a"] * 3] * 3), "finite numbers"),
    "an unknown entry of the channels": (change("channels.code", "x"), "code"),
    "a wavelength in micrometres": (change("channels.wavelengths_nm", [0.4, 0.5, 0.6]), "wavelength"),
    "a million million classes": (change("num_classes", HUGE), "classes"),
    "no classes": (change("num_classes", 0), "num_classes"),
    "negative classes": (change("num_classes", -4), "num_classes"),
    "classes as text": (change("num_classes", "4"), "num_classes"),
    "half a class": (change("num_classes", 4.5), "num_classes"),
    "classes beyond integers": (change("num_classes", 10**400), "classes"),
    "too few class names": (change("classes", ["a"]), "class names"),
    "class names as numbers": (change("classes", [1, 2, 3, 4]), "classes"),
    "a network for a million million channels": (change("in_chans", HUGE), "model.json"),
    "a network for minus one channels": (change("in_chans", -1), "in_chans"),
    "a wide network": (change("model_options.width", 10**9), "larger than its weights"),
    "a network of negative width": (change("model_options.width", -16), "model.json"),
    "a width as text": (change("model_options.width", "16"), "width"),
    "an unknown option of the network": (change("model_options.code", "x"), "code"),
    "options as a list": (change("model_options", [1]), "model_options"),
    "a long network": (
        lambda v: v | {"model": "timm/vit_tiny_patch16_224", "model_options": {"depth": 10**10}, "norm": "shared"},
        "larger than its weights",
    ),
    "a network of many blocks": (
        lambda v: v | {"model": "timm/resnet10t", "model_options": {"layers": [10**7] * 4}, "norm": "shared"},
        "larger than its weights",
    ),
    "a stem of many kernels": (
        lambda v: v | {"stem": "kernel_attention", "stem_options": {"kernels": 10**10}},
        "larger than its weights",
    ),
    "a stem of many tokens": (
        lambda v: v | {"stem": "dofa", "stem_options": {"tokens": 10**11}},
        "larger than its weights",
    ),
    "a stem of a wide hidden layer": (
        lambda v: v | {"stem": "descriptor", "stem_options": {"width": 10**10}},
        "larger than its weights",
    ),
    "an unknown network": (change("model", "../../etc/passwd"), "unknown model"),
    "a network of another hub": (change("model", "hf-hub:user/model"), "unknown model"),
    "the network as a number": (change("model", 7), "model"),
    "an unknown stem": (change("stem", "os.system"), "unknown stem"),
    "an unknown norm": (change("norm", "x"), "unknown norm"),
    "an unknown entry": (change("import", "os"), "unknown entry import"),
    "a missing network": (drop("model"), "model"),
    "missing channels": (drop("channels"), "channels"),
    "missing classes": (drop("num_classes"), "num_classes"),
    "a missing format": (drop("format"), "format"),
    "a newer format": (change("format", 99), "upgrade anychannel"),
    "the format zero": (change("format", 0), "format"),
    "the format as text": (change("format", "2"), "format"),
    "the format true": (change("format", True), "format"),
    "a statistics' key that is a path": (change("calibrated", ["../0"]), "model.json"),
    "statistics of channels that are not there": (change("calibrated", ["0_9"]), "0_9"),
    "a million statistics": (change("calibrated", ["0"] * 10**6 + ["0_0"]), "0_0"),
    "a normalisation of another shape": (change("normalisation", {"mean": [0.0], "std": [1.0]}), "model.json"),
    "a normalisation by zero": (change("normalisation", {"mean": [0.0] * 3, "std": [0.0] * 3}), "normalisation"),
    "a normalisation of unknown entries": (change("normalisation", {"code": [1.0]}), "model.json"),
    "a first convolution elsewhere": (change("first_conv", "__class__.__init__"), "first_conv"),
    "a network of a module": (change("model", "module:os.system"), "network"),
}

RAW: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"format": NaN}', "NaN"),
    "infinity": (b'{"format": -Infinity}', "Infinity"),
    "nothing": (b"", "model.json"),
    "half a file": (b'{"format": 2, "model": "res', "model.json"),
    "a list": (b"[]", "model.json"),
    "a text": (b'"model"', "model.json"),
    "deep nesting": (b"[" * 200_000, "model.json"),
    "bytes that are no text": (b"\xff\xfe\x00", "model.json"),
    "a number of a million digits": (b'{"format": ' + b"9" * 10**6 + b"}", "model.json"),
    "a pickle": (pickle.dumps({"format": 2}), "model.json"),
    "a file of 70 MB": (b" " * (70 * 2**20), "bytes"),
}


def described(alter: Change, word: str, folder: Path) -> None:
    save_model(small_model(), folder)
    path = folder / "model.json"
    values = json.loads(path.read_text())
    result = alter(values)
    path.write_text(json.dumps(values if result is None else result))
    is_refused(lambda: load_model(folder), ModelFileError, "model.json", word)


def raw(content: bytes, word: str, folder: Path) -> None:
    save_model(small_model(), folder)
    (folder / "model.json").write_bytes(content)
    is_refused(lambda: load_model(folder), ModelFileError, "model.json", word)


# safetensors


def header(values: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = values if isinstance(values, bytes) else json.dumps(values).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
FORGED: dict[str, bytes] = {
    "nothing": b"",
    "four bytes": b"\0\0\0\0",
    "a header of 2^63 bytes": header({}, length=2**63),
    "a header longer than the file": header({}, length=10**6),
    "a header that is no JSON": header(b"{" * 16),
    "a header that is a list": header([]),
    "a tensor beyond the file": header({"a": ONE | {"data_offsets": [0, 10**12], "shape": [25 * 10**10]}}, b"\0" * 4),
    "a tensor whose size is not its shape's": header({"a": ONE | {"shape": [10**12]}}, b"\0" * 4),
    "a shape that overflows": header({"a": ONE | {"shape": [2**62, 2**62]}}, b"\0" * 4),
    "a negative shape": header({"a": ONE | {"shape": [-1]}}, b"\0" * 4),
    "an unknown type": header({"a": ONE | {"dtype": "PY"}}, b"\0" * 4),
    "two tensors in one place": header({"a": ONE, "b": ONE}, b"\0" * 4),
    "a hole between tensors": header({"a": ONE, "b": ONE | {"data_offsets": [8, 12]}}, b"\0" * 12),
    "offsets backwards": header({"a": ONE | {"data_offsets": [4, 0]}}, b"\0" * 4),
}


def forged(content: bytes, folder: Path) -> None:
    save_model(small_model(), folder)
    (folder / BEST).write_bytes(content)
    is_refused(lambda: load_model(folder), ModelFileError, "best.safetensors")


Tensors = dict[str, torch.Tensor]
ALTERED: dict[str, Callable[[Tensors], object]] = {
    "a tensor is missing": lambda t: t.pop(first_weight(t)),
    "the statistics are missing": lambda t: t.pop("mean"),
    "a tensor too many": lambda t: t.update(extra=torch.zeros(3)),
    "another shape": lambda t: t.update({first_weight(t): torch.zeros(2, 2)}),
    "other channels": lambda t: t.update(channel_names=torch.tensor(list(b"X,Y,Z"), dtype=torch.uint8)),
    "channel names that are no text": lambda t: t.update(channel_names=torch.tensor([255] * 5, dtype=torch.uint8)),
    "a mean that is NaN": lambda t: t.update(mean=torch.full_like(t["mean"], torch.nan)),
    "a mean of the channels that is infinite": lambda t: t.update(channel_mean=torch.full((3,), torch.inf)),
    "a deviation of zero": lambda t: t.update(channel_std=torch.zeros(3)),
    "a normalisation by a negative number": lambda t: t.update(std=-t["std"]),
    "a correlation of two": lambda t: t.update(channel_correlation=torch.full((3, 3), 2.0)),
}


def first_weight(tensors: Tensors) -> str:
    return next(name for name, value in tensors.items() if value.ndim == 4 and name.startswith("backbone"))


def altered(alter: Callable[[Tensors], object], folder: Path) -> None:
    save_model(small_model(), folder)
    tensors = load_file(folder / BEST)
    alter(tensors)
    save_file(tensors, folder / BEST)
    is_refused(lambda: load_model(folder), ModelFileError, "best.safetensors")


# code


class Runs:
    """Pickles to a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def payloads(marker: Path) -> dict[str, Any]:
    """Objects whose unpickling creates the marker, in several ways."""
    import os
    import subprocess

    touch = f"open({str(marker)!r}, 'w').close()"
    return {
        "eval": Runs(eval, touch),
        "exec": Runs(exec, touch),
        "os.system": Runs(os.system, f"touch {marker}"),
        "a process": Runs(subprocess.call, ["touch", str(marker)]),
        "Path.touch": Runs(Path.touch, marker),
        "open": Runs(open, str(marker), "w"),
        "a tensor's neighbour": {"weight": torch.zeros(2), "hook": Runs(exec, touch)},
        "a nested payload": [{"a": (Runs(exec, touch),)}],
    }


def as_archive(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def as_legacy(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out, _use_new_zipfile_serialization=False)
    return out.getvalue()


FORMS: dict[str, Callable[[Any], bytes]] = {"archive": as_archive, "legacy": as_legacy, "pickle": pickle.dumps}


def code_in_checkpoint(form: str, payload: str, ending: str, folder: Path) -> None:
    """As weights to adapt."""
    file, marker = folder / f"weights{ending}", folder / "ran"
    file.write_bytes(FORMS[form](payloads(marker)[payload]))
    use = partial(adapt, "timm/test_resnet", channels="R,G,B", checkpoint=file)
    is_refused(use, PretrainedError, file.name, marker=marker)


def code_in_weights(form: str, folder: Path) -> None:
    """In the place of a model's safetensors file."""
    save_model(small_model(), folder)
    marker = folder / "ran"
    (folder / BEST).write_bytes(FORMS[form](payloads(marker)["exec"]))
    is_refused(lambda: load_model(folder), ModelFileError, "best.safetensors", marker=marker)


def code_in_state(form: str, folder: Path) -> None:
    """In a run's checkpoint that is resumed."""
    marker = folder / "ran"
    (folder / CHECKPOINT).parent.mkdir()
    (folder / CHECKPOINT).write_bytes(FORMS[form]({"format": 3, "settings": Runs(exec, f"open({str(marker)!r}, 'w')")}))
    is_refused(lambda: load_checkpoint(folder, SETTINGS), ValueError, "state.pt", marker=marker)


# bombs


def deflated(path: Path) -> None:
    """200 MB of zeros as an archive of 0.2 MB."""
    stored = zipfile.ZipFile(io.BytesIO(as_archive({"fc.weight": torch.zeros(50_000_000)})))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in stored.namelist():
            archive.writestr(name, stored.read(name))


def overlapping(path: Path) -> None:
    """Two hundred members of 4 MB that all lie in one place."""
    content = bytearray(as_archive({"fc.weight": torch.zeros(1_000_000)}))
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:
        member = next(each for each in archive.infolist() if each.filename.endswith("data/0"))
        for number in range(1, 200):
            twin = zipfile.ZipInfo(member.filename[:-1] + str(number))
            twin.file_size = twin.compress_size = member.file_size
            twin.CRC, twin.header_offset = member.CRC, member.header_offset
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True


def bomb_in_checkpoint(make: Callable[[Path], None], folder: Path) -> None:
    file = folder / "weights.pt"
    make(file)
    is_refused(partial(adapt, "timm/test_resnet", channels="R,G,B", checkpoint=file), PretrainedError, file.name)


def bomb_in_state(make: Callable[[Path], None], folder: Path) -> None:
    (folder / CHECKPOINT).parent.mkdir()
    make(folder / CHECKPOINT)
    is_refused(lambda: load_checkpoint(folder, SETTINGS), ValueError, "state.pt")


def not_a_file(kind: str, folder: Path) -> None:
    """Pipes and devices that would never end."""
    import os

    save_model(small_model(), folder)
    path = folder / ("model.json" if "description" in kind else BEST)
    path.unlink()
    if "pipe" in kind:
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if "device" in kind else path.name)
    is_refused(lambda: load_model(folder), ModelFileError, path.name)


SHORT = {"a million channels", "a wide network", "a million million classes", "an unknown entry", "deep nesting"}


def cases() -> list[Case]:
    found = [Case(DESCRIPTIONS, name, partial(described, *each), name in SHORT) for name, each in DESCRIBED.items()]
    found += [Case(DESCRIPTIONS, f"in place of JSON: {n}", partial(raw, *e), n in SHORT) for n, e in RAW.items()]
    found += [Case(WEIGHTS, name, partial(forged, content)) for name, content in FORGED.items()]
    found += [Case(WEIGHTS, name, partial(altered, alter), "NaN" in name) for name, alter in ALTERED.items()]
    for form in FORMS:
        for payload in payloads(Path("ran")):
            short = (form, payload) == ("archive", "exec")
            found.append(Case(CODE, f"{payload}, {form}", partial(code_in_checkpoint, form, payload, ".pth"), short))
        for ending in (".pt", ".bin", ".ckpt", ".safetensors"):
            check = partial(code_in_checkpoint, form, "exec", ending)
            found.append(Case(CODE, f"exec, {form}, {ending}", check))
        found.append(Case(CODE, f"in place of safetensors, {form}", partial(code_in_weights, form)))
        found.append(Case(CODE, f"in a run's checkpoint, {form}", partial(code_in_state, form)))
    for make in (deflated, overlapping):
        found.append(Case(BOMBS, f"weights, {make.__name__}", partial(bomb_in_checkpoint, make), make is deflated))
        found.append(Case(BOMBS, f"a run's checkpoint, {make.__name__}", partial(bomb_in_state, make)))
    for kind in ("pipe", "pipe as description", "device", "device as description", "loop", "loop as description"):
        found.append(Case(BOMBS, f"a {kind} in place of a file", partial(not_a_file, kind)))
    return found
