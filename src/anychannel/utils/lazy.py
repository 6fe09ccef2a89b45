"""Packages whose names are imported when they are first used, so that what needs no torch does not import it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any


def lazy_names(package: str, file: str) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` and ``__all__`` of a package, from the imports in the stub (``.pyi``) beside its ``file``.

    A name that is a subpackage as well, which can be called, stays the subpackage. No other public name is the
    submodule of the same name, whichever is imported first.
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

    class Package(ModuleType):
        def __setattr__(self, name: str, value: Any) -> None:
            if not (name in homes and isinstance(value, ModuleType)):  # Python sets each imported submodule
                super().__setattr__(name, value)

    sys.modules[package].__class__ = Package
    return load, sorted(homes)
