"""``anychannel serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anychannel.cli.common import Run, say


def serve(
    run: Run,
    port: Annotated[int, typer.Option(help="Port to listen on; 0 uses any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for all.")
    ] = "127.0.0.1",
    max_upload_mb: Annotated[float, typer.Option(help="Largest request in MB.")] = 64.0,
    module: Annotated[
        str | None,
        typer.Option(
            help="The run's network, if it is of your own class: FILE.py:FUNCTION that returns it. Your code runs. "
            "Default: none."
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    cache: Annotated[Path | None, typer.Option(hidden=True, help="Not needed: the run holds its examples.")] = None,  # noqa: ARG001
) -> None:
    """Start a web page on this machine to try a trained network: drop an image, switch channels on and off.

    A JSON API is available at POST /api/predict, with its schema at /openapi.json. Needs an extra:
    `pip install 'anychannel[serve]'`.

    Examples:

    - `anychannel serve runs/photos`

    - `anychannel serve runs/cells --port 0 --open`
    """
    from anychannel.runs.folder import check_network

    if module is None:
        check_network(run)  # before torch is imported, which takes long
    from anychannel.serve import serve as serve_run

    def ready(address: str) -> None:
        say(f"{run} is served at {address} (stop with Ctrl+C)")
        if open_browser:
            typer.launch(address)

    network = None
    if module is not None:
        from anychannel.cli.objects import load_object

        found = load_object(module, "--module")
        network = found[0] if isinstance(found, tuple) else found
    serve_run(run, host=host, port=port, max_upload_mb=max_upload_mb, ready=ready, model=network)
