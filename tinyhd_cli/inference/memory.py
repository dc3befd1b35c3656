"""Memory that is free, and given back."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable


@functools.cache
def trimmer() -> Callable[[int], int] | None:
    """The ``malloc_trim`` of glibc, where that is the C library."""
    if not sys.platform.startswith("linux"):
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def give_back() -> None:
    """Give free memory back to the system.

    glibc keeps what it may need again, scattered over its heaps. A network takes and frees hundreds of megabytes for
    every clip, and how they fall between other blocks is chance: over a long video the peak creeps up by 100 MB.
    """
    trim = trimmer()
    if trim is not None:
        trim(0)
