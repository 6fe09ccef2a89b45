"""Packages whose names are imported when they are first used, so that what needs no torch does not import it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` and ``__all__`` of a package, from the imports in the stub (``.pyi``) beside its ``file``.

    A name that is a subpackage as well, which can be called, stays the subpackage.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    homes = {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(str(homes[name])), name)
        inside = sys.modules.get(f"{package}.{name}")
        value = inside if callable(inside) else value
        setattr(sys.modules[package], name, value)
        return value

    return load, sorted(homes)
