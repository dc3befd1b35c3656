"""Options of the page, for the command line and the Python API. Loads neither Gradio nor NumPy."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from ...errors import UsageError
from ...fields import option

SERVER = "Server"
LIMITS = "Limits"

UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}

KEEP_S = 3600.0
"""Seconds after its last use at which a file is removed."""


def parse_bytes(text: str) -> int:
    """Return the bytes of ``500MB`` or ``1.5 GB``; ``UsageError`` if it is malformed."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?b)", text.strip(), re.IGNORECASE)
    if not match:
        raise UsageError(f"--max-size {text!r}: must be a size such as 500MB or 2GB")
    unit = next((size for name, size in UNITS.items() if name.lower() == match[2].lower()), 1)
    return round(float(match[1]) * unit)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host name or an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def size_text(size: int) -> str:
    """Return a number of bytes as a person writes it, such as ``1.5 GB``."""
    unit, name = next(((size_, name) for name, size_ in reversed(UNITS.items()) if size >= size_), (1, "bytes"))
    return f"{round(size / unit, 1):g} {name}"


def time_text(seconds: float) -> str:
    """Return a duration as a person writes it, such as ``90 seconds`` or ``10 minutes``."""
    if seconds < 120:
        return f"{seconds:.3g} second{'' if seconds == 1 else 's'}"
    return f"{round(seconds / 60, 1):g} minutes"


@dataclass(frozen=True)
class AppOptions:
    """Address of the page, and limits of its uploads. Raises ``UsageError`` for invalid values."""

    host: str = option(
        "127.0.0.1",
        SERVER,
        "ADDRESS",
        "Address to listen on. Any other than the default lets other machines use the page, which has no password.",
    )
    port: int | None = option(None, SERVER, "N", "Port to listen on. Default: the first free one from 7860.")
    open: bool = option(False, SERVER, "", "Open the page in the browser.")
    max_size: int = option(
        2 * 10**9, LIMITS, "SIZE", "Largest file that can be uploaded.", kind=str, written="2GB", parse=parse_bytes
    )
    """In bytes."""
    max_seconds: float = option(600.0, LIMITS, "SECONDS", "Longest video that can be uploaded.")

    def __post_init__(self) -> None:
        if self.port is not None and not 1 <= self.port <= 65535:
            raise UsageError(f"--port must be from 1 to 65535, not {self.port}")
        if self.max_size < 1:
            raise UsageError("--max-size must be above 0")
        if not self.max_seconds > 0:
            raise UsageError(f"--max-seconds must be above 0, not {self.max_seconds:g}")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the page."""
        return is_loopback(self.host)
