"""Memory that is free, and given back."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What glibc's malloc.h calls M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""


@functools.cache
def trimmer() -> Callable[[int], int] | None:
    """The ``malloc_trim`` of glibc, where that is the C library."""
    if not sys.platform.startswith("linux"):
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


def keep() -> None:
    """Keep freed memory for what is asked for next, instead of giving it back and getting it as empty pages again.

    For processes that make many arrays of a few megabytes, one after the other: scoring float maps takes less than half
    the time. Only glibc can be told.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if tune is not None:
        tune(MMAP_THRESHOLD, 32 * 2**20)
        tune(TRIM_THRESHOLD, 512 * 2**20)


def give_back() -> None:
    """Give free memory back to the system.

    glibc keeps what it may need again, scattered over its heaps. A network takes and frees hundreds of megabytes for
    every clip, and how they fall between other blocks is chance: over a long video the peak creeps up by 100 MB.
    """
    trim = trimmer()
    if trim is not None:
        trim(0)
