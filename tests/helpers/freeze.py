"""Importing this has the garbage collector pass over all that there is, so that processes forked later share it."""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
