"""One wording for unknown names: what was given, the closest match, and the valid names."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


def normal(text: str) -> str:
    """The text in Unicode's form NFC, so that é is é however a system or an editor writes it."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)  # torch.compile traces the first


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """``unknown stem 'statik' (did you mean 'static'?); the stems are static, ...``"""
    names = list(valid)
    near = get_close_matches(name, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    listed = f"the {kind}s are {', '.join(names)}" if names else f"there are no {kind}s"
    return f"unknown {kind} {name!r}{hint}; {listed}"
