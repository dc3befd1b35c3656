"""Identify the process that wrote a file, and check whether it is still running."""

from __future__ import annotations

import os
import platform
import sys
import zlib
from functools import cache
from pathlib import Path

DEAD_STATES = (b"Z", b"X")
"""States in /proc of processes that have ended."""


@cache
def machine_id() -> str:
    """Return a checksum of the host name and the PID namespace, within which process IDs are unique."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode(errors='surrogateescape')):08x}"


def process_key() -> tuple[str, int, int]:
    """Return a key of this process: machine, process ID, and start time, because process IDs are reused."""
    known = process_status(os.getpid())
    return machine_id(), os.getpid(), known[1] if known else 0


def process_status(pid: int) -> tuple[bytes, int] | None:
    """Return the state and the start time of a process, in ticks since boot; None if they are unknown."""
    try:
        # The name of the program, in parentheses, can contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def has_ended(pid: int, started: int) -> bool:
    """Return whether a process of this machine has certainly ended.

    Args:
        pid: its process ID.
        started: its start time in ticks since boot; 0 if unknown.
    """
    if sys.platform == "win32":
        return False  # on Windows, signal 0 would terminate the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # it belongs to another user
    known = process_status(pid)
    return known is not None and (known[0] in DEAD_STATES or (started != 0 and known[1] != started))
