"""The page's colours, light and dark.

Drawings name colours as ``var(--ink)``. On the page CSS defines them; ``stand_alone`` inserts the light ones, since
not every SVG reader knows CSS variables.
"""

from __future__ import annotations

import re

COLOURS = {
    "bg": ("#f8f8f6", "#101215"),
    "surface": ("#ffffff", "#171a1e"),
    "raised": ("#f2f2ee", "#1f2328"),
    "ink": ("#1b1d21", "#eae8e4"),
    "muted": ("#5b6169", "#a4a9b0"),
    "rule": ("#dededa", "#31363d"),
    "grid": ("#ebebe7", "#262a30"),
    "ghost": ("#d5d6d3", "#3c424a"),
    "accent": ("#1d5bb8", "#86b4fa"),
    "second": ("#a8480d", "#f2a36b"),
    "heat": ("#86b3f0", "#2c5fae"),
    "loss": ("#f3b48a", "#8a4a22"),
    "good": ("#1c6b45", "#6fd3a0"),
    "warn": ("#8a4b08", "#f0b35c"),
    "bad": ("#a32222", "#ff9a94"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
DARK = {name: dark for name, (_, dark) in COLOURS.items()}
MATRIX = (46, 117, 222)
"""Colour of a confusion-matrix cell; cells fade to transparent, so that one picture suits both themes."""


def css_variables(colours: dict[str, str]) -> str:
    """Declarations for a CSS rule."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def stand_alone(drawing: str) -> str:
    """An SVG drawing as a file: light colours in place of CSS variables, on a white ground."""
    head, rest = re.sub(r"var\(--([a-z]+)\)", lambda found: LIGHT[found.group(1)], drawing).split(">", 1)
    size = re.sub(r'.*viewBox="0 0 ([0-9.]+) ([0-9.]+)".*', r'width="\1" height="\2"', head)
    return f'{head} {size}><rect width="100%" height="100%" fill="{LIGHT["surface"]}"/>{rest}\n'
