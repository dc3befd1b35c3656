"""Identify the process that wrote a file, and check whether it still runs."""

from __future__ import annotations

import os
import platform
import sys
import zlib
from functools import cache
from pathlib import Path

DEAD_STATES = (b"Z", b"X")
"""States of processes that have ended but are still listed."""


@cache
def machine_id() -> str:
    """Return a checksum of the host and the PID namespace, within which PIDs are unique."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode(errors='surrogateescape')):08x}"


def process_key() -> tuple[str, int, int]:
    """Return a key of this process: its machine, its PID and, because PIDs are reused, its start time."""
    known = process_status(os.getpid())
    return machine_id(), os.getpid(), known[1] if known else 0


def process_status(pid: int) -> tuple[bytes, int] | None:
    """Return a process's state, and its start in ticks since boot; None if they are unknown."""
    try:
        # The program's name, in parentheses, may contain any character.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def has_ended(pid: int, started: int) -> bool:
    """Return whether the process on this machine with this PID, and this start unless 0, has certainly ended."""
    if sys.platform == "win32":
        return False  # on Windows, signal 0 would terminate the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # another user's process
    known = process_status(pid)
    return known is not None and (known[0] in DEAD_STATES or (started != 0 and known[1] != started))
