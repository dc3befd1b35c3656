"""Messages about the inputs of a long run, printed as they occur, up to a limit."""

from __future__ import annotations

from collections.abc import Iterable

from .terminal import say

MAX_LINES = 20
"""Maximum number of messages of one kind on the terminal; ``--json`` has all."""


class LimitedReporter:
    """Printer of messages of one kind; it prints them as they occur, up to ``MAX_LINES``.

    Args:
        kind: prefix of each message.
    """

    def __init__(self, kind: str = "tinyhd") -> None:
        self._kind = kind
        self._count = 0

    def report(self, *messages: str) -> None:
        """Print messages, unless the limit is reached."""
        for message in messages:
            self._count += 1
            if self._count <= MAX_LINES:
                say(f"{self._kind}: {message}")

    def close(self) -> None:
        """Print the number of messages beyond the limit, if any."""
        if self._count > MAX_LINES:
            say(f"{self._kind}: and {self._count - MAX_LINES} more (--json has all)")


def report_all(kind: str, messages: Iterable[str]) -> None:
    """Print messages of one kind, up to the limit."""
    reporter = LimitedReporter(kind)
    reporter.report(*messages)
    reporter.close()
