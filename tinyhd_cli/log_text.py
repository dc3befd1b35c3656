"""Text of log records, with all that came from outside made printable."""

from __future__ import annotations

import logging
import traceback

from .untrusted import printable


def text_of(record: logging.LogRecord) -> str:
    """Return the message of a record as one line, followed by the traceback, if any."""
    error = record.exc_info[1] if record.exc_info else None
    return "\n".join([printable(record.getMessage()), *(traceback_lines(error) if error else ())])


def traceback_lines(error: BaseException) -> list[str]:
    """Return the lines of an exception's traceback, made printable."""
    return [printable(line) for part in traceback.format_exception(error) for line in part.splitlines()]
