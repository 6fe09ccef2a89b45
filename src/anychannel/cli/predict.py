"""``anychannel predict``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anychannel.cli.common import (
    Json,
    Quiet,
    Run,
    Tta,
    list_flags,
    name_flags,
    parse_options,
    print_json,
    refuse_flags,
    say,
)
from anychannel.utils.plurals import plural
from anychannel.utils.signals import held

if TYPE_CHECKING:  # torch takes long to import
    from anychannel.runs.predict import Answer
    from anychannel.runs.scene_map import SceneMap

REMARKS = 20
"""Lines about images that are unlike the training images or were changed, before the others are only counted."""
SECONDS = 10.0
"""Time between two lines of progress where there is no terminal."""
FEW = 64
"""So many files need no progress."""


def predict(
    run: Run,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Image files, folders (all images in them), patterns such as '*.tif', text files with one path a "
            "line, or - to read such lines from standard input."
        ),
    ],
    channels: Annotated[
        str | None,
        typer.Option(help="Channels or groups of the files in order, as G,R; '-': unused. Default: all of the run's."),
    ] = None,
    use: Annotated[
        list[str] | None, typer.Option(help="Channels that the network gets, as R,G. Default: all that a file has.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="Channels that the network does not get, as B: what if they were missing? Repeatable. Default: none."
        ),
    ] = None,
    tta: Tta = None,
    drop_dead: Annotated[
        bool,
        typer.Option(
            "--drop-dead",
            help="Leave out channels of an image that are constant or unlike training's. Default: name them.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the answers to this file, with the probability of every class (.csv or .jsonl), or a scene's "
            "map (.tif). Default: print them."
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Map one large scene by windows of so many pixels. Default: the training images' size."),
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="Distance of these windows, and side of the map's cells. Default: half a window.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print for each image.")] = 3,
    layout: Annotated[
        str | None, typer.Option(help="planar or interleaved, for TIFFs that do not declare it. Default: the run's.")
    ] = None,
    nodata: Annotated[
        str | None,
        typer.Option(
            help="keep, or a replacement for values that a file marks as no data. In a file that marks none, values "
            "equal to it are no data. Default: the run's."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Pattern of files with one band each, as train has it; none: no. Default: the run's."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ..., or auto for a GPU if there is one.")] = "cpu",
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or fp32. Default: the run's.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Classify image files with a trained network, whichever of its channels they have.

    A file that cannot be read or classified is named on standard error, and the others are answered; the exit status is
    then 1, or 2 if there are no others.

    Examples:

    - `anychannel predict runs/photos cat.jpg`

    - `anychannel predict runs/cells cell.tif --channels PI,darkfield --json`

    - `anychannel predict runs/photos today/ --out predictions.csv`

    - `anychannel predict runs/scenes today/ --bands '{scene}_{band}.tif' --out predictions.csv`

    - `anychannel predict runs/tiles scene.tif --window 64 --stride 32 --out map.tif`

    - `find today -name '*.jpg' | anychannel predict runs/photos - --drop B --out without-blue.csv`
    """
    from anychannel.data.image_paths import choose_bands, find_images
    from anychannel.runs.folder import check_network, read_config
    from anychannel.runs.prediction_files import check_format, open_rows
    from anychannel.utils.progress import progress_bar

    check_network(run)  # before torch is imported, which takes long
    if use is not None and len(use) > 1:
        raise ValueError(
            f"--use names the channels of one prediction: --use {','.join(use)} gives all of them; for the answer from "
            "each subset, start the command once for each"
        )
    used, dropped = (None if names is None else ",".join(names) for names in (use, drop))
    maps = window is not None or stride is not None or (out is not None and out.suffix.lower() in (".tif", ".tiff"))
    if maps:
        refuse_flags({"--layout": layout}, "rasterio reads scenes, whose bands it knows")
        refuse_flags({"--drop-dead": drop_dead or None}, "a map rests on the same channels everywhere")
    elif out is not None:
        check_format(out)
    trained = read_config(run) if (run / "config.toml").is_file() else None
    usual = None if trained is None else trained.data_options.get("bands")
    paths = find_images(images, choose_bands(bands, usual))
    if channels is not None and any(image.files for image in paths):
        raise ValueError("--channels names the channels of files, and files with one band each tell it; give --use")
    from anychannel.runs.predict import Predictor

    replacement = None if nodata is None else parse_options([f"nodata={nodata}"])["nodata"]
    if precision is None and trained is not None:
        precision = trained.training.precision
    predictor = Predictor(run, device=device, precision=precision or "auto")
    if tta is not None:
        from anychannel.evaluation.flips import average_over_flips

        average_over_flips(predictor.network, tta)
    if maps:
        from anychannel.runs.scene_map import map_scene

        if out is None or len(paths) != 1:
            raise ValueError("windows make a map of one scene; name one scene, and give --out map.tif")
        found = map_scene(
            predictor,
            paths[0],
            out,
            window=window,
            stride=stride,
            channels=channels,
            use=used,
            drop=dropped,
            nodata=replacement,
            progress=not quiet,
        )
        if as_json:
            print_json(found.to_dict())
        else:
            typer.echo(describe_map(found))
        return
    answers = predictor.predict_paths(
        paths, channels=channels, use=used, drop=dropped, drop_dead=drop_dead, layout=layout, nodata=replacement
    )
    several = predictor.network.spec.thresholds is not None
    shown = not quiet and len(paths) > FEW and (out is not None or as_json or not sys.stdout.isatty())
    from anychannel.cli.train import train

    flags = list_flags(predict), list_flags(train)
    count = Count(len(paths), lambda text: name_flags(text, *flags))
    try:
        with ExitStack() as stack:
            stack.enter_context(closing(answers))
            advance = stack.enter_context(progress_bar("predict", len(paths), show=shown))
            write = None if out is None else stack.enter_context(open_rows(out, predictor.classes, several=several))
            show = stack.enter_context(json_list()) if as_json else None
            for answer in answers:
                with held(lambda: None):  # what is counted is written, whenever a signal comes
                    count.add(answer)
                    if write is not None:
                        write(answer.full())
                if show is not None:
                    show(answer.brief(top))
                elif write is None and answer.prediction is not None:
                    typer.echo(describe(answer, top))
                advance(note=count.progress())
    finally:
        if out is not None and count.done:
            errors = f" and {plural(count.failed, 'error')}" if count.failed else ""
            say(f"{out} holds {plural(count.done - count.failed, 'prediction')}{errors} for {count.total:,} files")
        if count.remarks > REMARKS:
            where = "in the file" if out is not None else "with --json or --out"
            say(f"{count.remarks - REMARKS:,} more remarks about images are {where}")
    if count.failed:
        raise typer.Exit(1 if count.failed < count.done else 2)


def describe_map(found: SceneMap) -> str:
    """The lines that a person reads about a map."""
    known = sum(found.cells.values())
    ranked = sorted(found.cells.items(), key=lambda pair: -pair[1])
    shares = ", ".join(f"{name} {100 * count / known:.1f} %" for name, count in ranked if count)
    empty = f", {found.no_data:,} without data" if found.no_data else ""
    unlike = f"; {found.unlike:,} are unlike the training images" if found.unlike else ""
    return (
        f"{found.path}: {found.height:,} x {found.width:,} cells{empty}; {shares}\n"
        f"mean confidence {100 * (found.confidence or 0):.1f} % from {', '.join(found.channels)}; "
        f"{plural(found.windows, 'window')}{unlike}\n"
        f"{found.picture} shows it"
    )


@dataclass
class Count:
    """What is said about the answers on standard error."""

    total: int
    name_flags: Callable[[str], str]
    done: int = 0
    failed: int = 0
    remarks: int = 0
    noted: float = field(default_factory=time.monotonic)

    def add(self, answer: Answer) -> None:
        """Count an answer, and say what is wrong with it or with the image."""
        self.done += 1
        if answer.prediction is None:
            self.failed += 1
            typer.secho(f"error: {self.name_flags(answer.reason)}", fg="red", err=True)
            return
        for note in filter(None, (answer.prediction.unlike, *answer.notes)):
            self.remarks += 1
            if self.remarks <= REMARKS:
                typer.secho(f"{answer.path}: {note}", fg="yellow", err=True)

    def progress(self) -> str | None:
        """How far it is, every few seconds; None between."""
        if time.monotonic() - self.noted < SECONDS:
            return None
        self.noted = time.monotonic()
        return f"{self.done:,} of {self.total:,} files"


def describe(answer: Answer, top: int) -> str:
    """The line that a person reads."""
    assert answer.prediction is not None
    given, every = answer.prediction.labels, answer.prediction.top(len(answer.prediction.classes))
    shares = {name: f"{name} {100 * share:.1f} %" for name, share in every}
    ranked = ", ".join(list(shares.values())[:top])
    if given is not None:  # labels that pass their thresholds, then those that come next
        others = ", ".join([text for name, text in shares.items() if name not in given][:top])
        passed = ", ".join(text for name, text in shares.items() if name in given)
        ranked = f"{passed or 'no label'}{f' (not {others})' if others else ''}"
    return f"{answer.path}: {ranked}{' (unlike the training images)' if answer.prediction.unlike else ''}"


@contextmanager
def json_list() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Print a JSON list entry by entry; it is whole also if the program is interrupted."""
    written = 0

    def add(entry: dict[str, Any]) -> None:
        nonlocal written
        typer.echo(
            ("," if written else "[") + "\n" + indent(json.dumps(entry, indent=1, allow_nan=False), " "), nl=False
        )
        written += 1

    try:
        yield add
    finally:
        if written:
            typer.echo("\n]")
