"""One wording for unknown names: what was given, the closest match, and the valid names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """``unknown stem 'statik' (did you mean 'static'?); the stems are static, ...``"""
    names = list(valid)
    near = get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    listed = f"the {kind}s are {', '.join(names)}" if names else f"there are no {kind}s"
    return f"unknown {kind} {name!r}{hint}; {listed}"
