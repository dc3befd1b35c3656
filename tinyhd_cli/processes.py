"""Which process wrote a file, and whether it is still there."""

from __future__ import annotations

import os
import platform
import sys
import zlib
from functools import cache
from pathlib import Path

DEAD_STATES = (b"Z", b"X")
"""Of processes that have ended and are still listed."""


@cache
def machine() -> str:
    """Return a checksum of where numbers of processes mean the same: the host and, in containers, the namespace."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode(errors='surrogateescape')):08x}"


def identity() -> tuple[str, int, int]:
    """Return what tells this process from all others: its machine, its number and, as numbers are reused, its start."""
    known = status(os.getpid())
    return machine(), os.getpid(), known[1] if known else 0


def status(pid: int) -> tuple[bytes, int] | None:
    """Return a process's state, and its start in ticks since that of the system; None where they are not known."""
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def is_gone(pid: int, started: int) -> bool:
    """Whether the process of this machine with a number, and a start if it is not 0, has ended for certain."""
    if sys.platform == "win32":
        return False  # signal 0 would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # somebody else's
    known = status(pid)
    return known is not None and (known[0] in DEAD_STATES or (started != 0 and known[1] != started))
