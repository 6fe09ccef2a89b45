"""The page's colours, light and dark.

Drawings name colours as ``var(--ink)``; on the page CSS gives them their value, in a file that stands alone
``resolve`` puts the light one in, since not every SVG reader knows CSS variables.
"""

from __future__ import annotations

import re

LIGHT = {
    "bg": "#f8f8f6",
    "surface": "#ffffff",
    "raised": "#f2f2ee",
    "ink": "#1b1d21",
    "muted": "#5b6169",
    "rule": "#dededa",
    "grid": "#ebebe7",
    "ghost": "#d5d6d3",
    "accent": "#1d5bb8",
    "second": "#a8480d",
    "heat": "#86b3f0",
    "loss": "#f3b48a",
    "good": "#1c6b45",
    "warn": "#8a4b08",
    "bad": "#a32222",
}
DARK = {
    "bg": "#101215",
    "surface": "#171a1e",
    "raised": "#1f2328",
    "ink": "#eae8e4",
    "muted": "#a4a9b0",
    "rule": "#31363d",
    "grid": "#262a30",
    "ghost": "#3c424a",
    "accent": "#86b4fa",
    "second": "#f2a36b",
    "heat": "#2c5fae",
    "loss": "#8a4a22",
    "good": "#6fd3a0",
    "warn": "#f0b35c",
    "bad": "#ff9a94",
}
MATRIX = (46, 117, 222)
"""Colour of a full confusion-matrix cell; cells fade to transparent, so that one picture suits both themes."""


def css_variables(colours: dict[str, str]) -> str:
    """Declarations for a CSS rule."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def resolve(drawing: str) -> str:
    """``drawing`` with every ``var(--name)`` replaced by the light theme's colour."""
    return re.sub(r"var\(--([a-z]+)\)", lambda found: LIGHT[found.group(1)], drawing)


def stand_alone(drawing: str) -> str:
    """An SVG drawing as a file of its own: light colours on a white ground."""
    head, rest = resolve(drawing).split(">", 1)
    box = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', head)
    size = f' width="{box.group(1)}" height="{box.group(2)}"' if box else ""
    return f'{head}{size}><rect width="100%" height="100%" fill="{LIGHT["surface"]}"/>{rest}\n'
