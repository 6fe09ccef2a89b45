"""The page and its assets as text. They use the report's theme and load nothing from other sites."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from anychannel.data.content import FOLDER_SUFFIXES
from anychannel.data.files.registry import image_suffixes
from anychannel.report import theme
from anychannel.report.verdict import listed
from anychannel.serve.service import Service
from anychannel.utils.plurals import plural
from anychannel.utils.version import __version__


@cache
def environment() -> Environment:
    """Templates of the page, then of the report."""
    return Environment(
        loader=ChoiceLoader([PackageLoader("anychannel.serve"), PackageLoader("anychannel.report")]),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(service: Service) -> str:
    """The page of one run."""
    names, several = service.channels.names, service.predictor.network.spec.thresholds
    facts = [
        " with stem ".join(filter(None, service.names)),
        plural(len(names), "channel"),
        f"{len(service.predictor.classes)} {'classes' if several is None else 'labels, several an image'}",
        f"images of {service.shape[1]} × {service.shape[0]} pixels",
    ]
    used = [name for name in service.file_channels if name != "-"]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            title=service.run.name,
            headline=service.run.headline,
            facts=facts,
            channels=names,
            held=listed(used) if len(used) <= 8 else f"its {len(used)} channels",
            suffixes=",".join(suffix for suffix in image_suffixes() if suffix not in FOLDER_SUFFIXES),
            version=__version__,
            example=",".join(names[:2]),
        )
    )


def render_assets() -> dict[str, tuple[str, str]]:
    """The page's CSS and JavaScript with their media types."""
    colours = {"light": theme.css_variables(theme.LIGHT), "dark": theme.css_variables(theme.DARK)}
    return {
        "page.css": (environment().get_template("page.css.j2").render(colours), "text/css"),
        "page.js": (environment().get_template("page.js").render(), "text/javascript"),
    }
