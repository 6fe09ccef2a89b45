"""``anychannel export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anychannel.cli.common import Json, print_json, say
from anychannel.utils.sizes import parse_size


def export(
    run: Annotated[Path, typer.Argument(help="Folder that `anychannel train` or save_pretrained wrote.")],
    out: Annotated[Path, typer.Option(help="File to write (.onnx, .pt2), or a folder with --format hub.")],
    channels: Annotated[
        str | None,
        typer.Option(
            help="Channels that the images given to the file hold, in their order, as G,R; or any. Default: all."
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="onnx, pt2 (torch.export) or hub. Default: by the ending of --out."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare the file's logits with the model's; exit 1 if they differ.")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(min=0, help="With --check: largest difference, as a fraction of the largest logit.")
    ] = 1e-4,
    size: Annotated[
        str | None, typer.Option(help="Height and width in pixels, as 84 or 48x64. Default: the run's.")
    ] = None,
    fixed_size: Annotated[bool, typer.Option("--fixed-size", help="Accept only this height and width.")] = False,
    as_json: Json = False,
) -> None:
    """Export a network for other programs: for one subset of its channels, for any subset, or whole for the hub.

    The exported graph takes float images in the files' units and normalises them. The batch size is free; height and
    width are free if the network allows it.

    Examples:

    - `anychannel export runs/photos --channels R,G --out rg.onnx --check`

    - `anychannel export runs/photos --channels any --out photos.pt2 --check --json`

    - `anychannel export runs/photos --format hub --out photos-hub`
    """
    from anychannel.results.run import warn_unfinished
    from anychannel.runs.folder import check_network

    given = None if size is None else parse_size(size)
    check_network(run)  # before torch is imported, which takes long
    from anychannel import export as exporting
    from anychannel.models import Classifier

    format_name = format_name or exporting.format_of(out)
    result: dict[str, Any] = {"format": format_name, "path": str(out)}
    parity: exporting.Parity | None = None
    if format_name == "hub":
        if channels is not None:
            raise exporting.ExportError("a hub folder holds the whole model; leave --channels out")
        facts = exporting.card_facts(run)
        exporting.export_run_to_hub_folder(run, out)
        result["files"] = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
        if check:
            model = Classifier.from_pretrained(run)
            parity = exporting.check_hub_folder(
                model, out, image_size=given or facts["image_size"], tolerance=tolerance
            )
    else:
        warn_unfinished(run)
        model = Classifier.from_pretrained(run)
        pixels = given or exporting.run_image_size(run)
        result |= exporting.export_model(
            model, out, channels=channels, format=format_name, image_size=pixels, free_size=not fixed_size
        )
        if check:
            parity = exporting.check_export(model, out, image_size=pixels, tolerance=tolerance)
    if parity is not None:
        result["check"] = parity.to_dict()
    if as_json:
        print_json(result)
    else:
        typer.echo(str(out))
        if "sizes" in result:
            say(f"images ({', '.join(result['channels'])}): {result['sizes']}, any batch size")
        if parity is not None:
            say(str(parity))
    if parity is not None and not parity.passed:
        say(f"error: {out} does not answer as the model does")
        raise typer.Exit(1)
