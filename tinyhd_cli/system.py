"""What this machine has: processor cores, and memory that is kept or given back. Imports nothing of the package."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, by the names of its malloc.h."""

Call = Callable[..., int]


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def glibc_function(name: str) -> Call | None:
    """A function of glibc, where that is the C library."""
    library: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return getattr(library, name, None)


def keep_freed_memory(most: int) -> None:
    """Keep freed memory, up to so many bytes, for what is asked for next, instead of giving it back.

    For processes that make many large arrays, one after the other: fresh pages cost a third of the time of a training
    step, and more than half of that of scoring float maps. Only glibc can be told.
    """
    tune = glibc_function("mallopt")
    if tune is not None:
        for what, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, most), (M_TOP_PAD, 64 << 20)):
            tune(what, value)


def trim_heap() -> None:
    """Give free memory back to the system.

    glibc keeps what it may need again, scattered over its heaps. A network takes and frees hundreds of megabytes for
    every clip, and how they fall between other blocks is chance: over a long video the peak creeps up by 100 MB.
    """
    trim = glibc_function("malloc_trim")
    if trim is not None:
        trim(0)


def peak_memory_mb() -> float | None:
    """Most memory that this process ever held, in 10^6 bytes; None where the system is not Linux."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    # Not getrusage: there, a process starts with the peak of the one that started it.
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None
