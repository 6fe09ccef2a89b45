"""Durations as text, such as ``1h30m``."""

from __future__ import annotations

import math
import re

UNITS = {"h": 3600, "m": 60, "s": 1}


def parse_duration(value: float | str | None) -> float | None:
    """Seconds, from a number of seconds or a text such as ``20m``, ``1h30m`` or ``90s``; None stays None.

    Raises ValueError if it is neither, or not positive.
    """
    if value is None:
        return None
    found = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", str(value).replace(" ", ""))
    try:
        parts = zip(found.groups() if found else ["?"], UNITS.values(), strict=False)
        spelled = (float(part) * unit for part, unit in parts if part is not None)
        seconds = sum(spelled) if isinstance(value, str) else float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(f"a duration is positive and has a form such as 20m, 1h30m or 90s, got {value!r}")
    return seconds
