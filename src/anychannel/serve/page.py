"""The page and its assets as text. They use the report's theme and load nothing from other sites."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

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


def render_docs(schema: dict[str, Any]) -> str:
    """A page about the endpoints of an OpenAPI schema, with the form fields that each takes and what it returns."""
    models = schema["components"]["schemas"]
    endpoints = []
    for path, methods in schema["paths"].items():
        for method, entry in methods.items():
            forms = entry.get("requestBody", {}).get("content", {}).values()
            inputs = [row for form in forms for row in fields_of(models[form["schema"]["$ref"].rsplit("/", 1)[1]])]
            answers = [
                (status, answer["description"], kind_of(answer["content"]["application/json"]["schema"]))
                for status, answer in entry["responses"].items()
            ]
            endpoints.append((method.upper(), path, entry["description"], inputs, answers))
    returned = [
        (name, model.get("description", ""), fields_of(model))
        for name, model in models.items()
        if not name.startswith("Body_") and "ValidationError" not in name
    ]
    about = schema["info"]
    return environment().get_template("docs.html.j2").render(about=about, endpoints=endpoints, models=returned)


def fields_of(model: dict[str, Any]) -> list[tuple[str, Markup, str, str]]:
    """Name, type, default and description of each field of a model in an OpenAPI schema."""
    required = model.get("required", ())
    return [
        (
            name,
            kind_of(field),
            "" if name in required else str(field.get("default", "none")),
            field.get("description", ""),
        )
        for name, field in model["properties"].items()
    ]


def kind_of(field: dict[str, Any]) -> Markup:
    """The type of a field in an OpenAPI schema in words, with links to models."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        return Markup('<a href="#{0}">{0}</a>').format(name)
    if "anyOf" in field:
        return Markup(" or ").join(kind_of(each) for each in field["anyOf"])
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return Markup(" or ").join(Markup("<code>{}</code>").format(each) for each in values)
    if field.get("type") == "array":
        items = field.get("prefixItems") or [field["items"]]
        return Markup("list of ") + Markup(", ").join(kind_of(each) for each in items)
    if field.get("type") == "object" and "additionalProperties" in field:
        return Markup("object of ") + kind_of(field["additionalProperties"])
    if field.get("format") == "binary" or "contentMediaType" in field:
        return Markup("file")
    return Markup(escape(field.get("type", "any")))


def render_assets() -> dict[str, tuple[str, str]]:
    """The page's CSS and JavaScript with their media types."""
    colours = {"light": theme.css_variables(theme.LIGHT), "dark": theme.css_variables(theme.DARK)}
    return {
        "page.css": (environment().get_template("page.css.j2").render(colours), "text/css"),
        "page.js": (environment().get_template("page.js").render(), "text/javascript"),
    }
