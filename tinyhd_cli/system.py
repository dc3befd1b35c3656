"""Query CPU cores and memory, and tune the C library's allocator. Imports no other module of the package."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of glibc's ``mallopt``, as named in its malloc.h."""

LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")
"""Suffix of the compiled C files; must match ``hatch_build.py``."""

WINDOWS_FEATURES = {40: {"avx2", "fma"}, 41: {"avx512f", "fma"}}
"""Features by number of ``IsProcessorFeaturePresent``. It has no number for FMA, which all these CPUs have."""

Call = Callable[..., int]
"""Type of a C function."""

_thread_limit = 0
"""Limit on the number of threads; 0: none."""


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Return the number of physical CPU cores that this process may use; on Linux, else that of available cores."""
    siblings = set()
    with contextlib.suppress(OSError):
        for cpu in os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ():
            path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
            siblings.add(path.read_text(encoding="ascii"))
    return len(siblings) or available_cores()


@functools.cache
def cpu_features() -> frozenset[str]:
    """Return the instruction sets of this CPU, named as in Linux; ``neon`` for all 64-bit ARM CPUs."""
    if platform.machine().lower() in ("aarch64", "arm64"):
        return frozenset(["neon"])
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return frozenset[str]().union(*(features for number, features in WINDOWS_FEATURES.items() if present(number)))
    found = None
    with contextlib.suppress(OSError):
        found = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(found[1].split() if found else ())


def limit_threads(count: int) -> None:
    """Limit the number of threads of the engines in this process, those of PyTorch included."""
    global _thread_limit
    _thread_limit = count
    set_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)  # missing while another thread imports it
    if set_threads is not None:
        set_threads(count)
    else:
        os.environ["OMP_NUM_THREADS"] = str(count)  # for PyTorch, if it is imported later


def engine_threads() -> int:
    """Return the number of CPU threads of an engine.

    It is that of :func:`limit_threads`, or of PyTorch if it is imported, where users may have set it. Otherwise, it is
    PyTorch's default: ``OMP_NUM_THREADS``, or the number of physical cores.
    """
    if _thread_limit:
        return _thread_limit
    if get_threads := getattr(sys.modules.get("torch"), "get_num_threads", None):
        return int(get_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(wanted) if wanted.isdigit() and int(wanted) else physical_cores()


@functools.cache
def glibc_function(name: str) -> Call | None:
    """Return a function of glibc; None if the C library is a different one."""
    library: Any = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return getattr(library, name, None)


def keep_freed_memory(max_bytes: int) -> None:
    """Make the allocator reuse freed memory instead of returning it to the system. Has an effect only with glibc.

    For processes that allocate many large arrays one after another: page faults of new memory take a third of the time
    of a training step, and more than half of the time of scoring float maps.

    Args:
        max_bytes: maximum amount of freed memory to keep at the top of the heap.
    """
    tune = glibc_function("mallopt")
    if tune is not None:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, max_bytes), (M_TOP_PAD, 64 << 20)):
            tune(parameter, value)


def trim_heap() -> None:
    """Return freed memory to the system. Has an effect only with glibc.

    A network allocates and frees hundreds of megabytes for every clip. glibc keeps free blocks between blocks that are
    in use, so that the peak memory grows by 100 MB over a long video.
    """
    trim = glibc_function("malloc_trim")
    if trim is not None:
        trim(0)


def peak_memory_mb() -> float | None:
    """Return the peak memory (resident set) of this process in 10^6 bytes; None on systems other than Linux."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    # Not getrusage, whose peak includes that of the parent process.
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else None


def available_memory_mb() -> float | None:
    """Return the memory that is free or can be freed, in 10^6 bytes, within a container's limit; None if unknown."""
    found = []
    try:
        status = Path("/proc/meminfo").read_text(encoding="ascii")
        if match := re.search(r"^MemAvailable:\s+(\d+) kB$", status, re.MULTILINE):
            found.append(int(match[1]) * 1024 / 1e6)
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        found.append((int(limit) - int(used)) / 1e6)
    except (OSError, ValueError):  # not Linux, no container, or "max": no limit
        pass
    return min(found, default=None)
