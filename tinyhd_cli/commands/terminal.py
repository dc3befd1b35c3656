"""Messages on stderr: permanent lines, and a temporary line while libraries and weights are loaded."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..log_text import text_of
from ..storage import named
from ..untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console

LOADING_MESSAGE_S = 20.0
"""Loading time after which a line is printed if stderr is not a terminal."""


@functools.cache
def console() -> Console:
    """Return the console on stderr. All code shares it, so that messages appear above a running progress bar."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def stdout_console() -> Console:
    """Return the console on stdout, for tables. As on stderr, ``[bold]`` and ``:x:`` in a name stay plain text."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


ERROR_PREFIX = "tinyhd: "
"""Prefix of messages about errors."""

as_json = False
"""Whether messages and progress are printed as JSON lines for programs (``--json-log``)."""


_about: dict[str, object] = {}
"""Facts that are added to all events."""


def say(message: str) -> None:
    """Print a one-line message on stderr. A closed or full stderr is ignored, so that the work continues."""
    line = printable(message)
    if as_json:
        level = "error" if line.startswith(ERROR_PREFIX) else "info"
        print_event(level=level, message=line.removeprefix(ERROR_PREFIX))
        return
    with contextlib.suppress(OSError, ValueError):
        loading.hide()
        console().print(line)


def print_event(**event: object) -> None:
    """Print one event as JSON for a program that reads stderr."""
    with contextlib.suppress(OSError, ValueError):
        line = json.dumps({"time": round(time.time(), 3), **_about, **event})
        print(named(line), file=sys.stderr, flush=True)


@contextlib.contextmanager
def about(**facts: object) -> Iterator[None]:
    """Add facts to all events that are printed in a block, such as the input that they are about."""
    _about.update(facts)
    try:
        yield
    finally:
        _about.clear()


class TerminalHandler(logging.Handler):
    """Prints the package's warnings, and all of its log with ``--debug``."""

    def emit(self, record: logging.LogRecord) -> None:
        print_logged(record.levelno, text_of(record))


def print_logged(level: int, text: str) -> None:
    """Print a logged message that is already printable."""
    name = logging.getLevelName(level).lower()
    if as_json:
        print_event(level=name, message=text)
        return
    kind = "" if level < logging.WARNING else f"{name}: "
    with contextlib.suppress(OSError, ValueError):
        loading.hide()
        console().print(f"tinyhd: {kind}{text}")


def show_log(debug: bool, json_log: bool = False) -> None:
    """Send the package's log to the terminal, as text or as JSON."""
    global as_json
    as_json = json_log
    logger = logging.getLogger("tinyhd")
    logger.handlers = [TerminalHandler()]
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False


class Loading:
    """Shows what is being loaded until there is progress to show.

    On a terminal, this is a line that the next message replaces. Otherwise, a line is printed if loading takes long.
    """

    def __init__(self) -> None:
        self._wanted = self._shown = False
        self._timer: threading.Timer | None = None

    def start(self, quiet: bool) -> None:
        """Start, unless ``quiet``. Every command calls this first."""
        self.stop()
        self._wanted = not quiet
        self.show("loading libraries")
        if self._wanted and (as_json or not console().is_terminal):
            self._timer = threading.Timer(LOADING_MESSAGE_S, say, ["still loading; the first run takes longest"])
            self._timer.daemon = True
            self._timer.start()

    def show(self, what: str) -> None:
        """Replace the line; nothing happens before :meth:`start` or after :meth:`stop`."""
        if not self._wanted or as_json or not console().is_terminal or console().is_dumb_terminal:
            return
        self.hide()
        with contextlib.suppress(OSError, ValueError):
            line = printable(f"tinyhd: {what} ...")[: max(1, console().width - 1)]
            console().print(line, end="", overflow="crop", no_wrap=True)
            console().file.flush()
        self._shown = True

    def hide(self) -> None:
        """Erase the line."""
        if self._shown:
            from rich.control import Control
            from rich.segment import ControlType

            self._shown = False
            console().control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def stop(self) -> None:
        """Stop: progress follows, or the command has ended."""
        with contextlib.suppress(OSError, ValueError):
            self.hide()
        self._wanted = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


loading = Loading()


def file_size(size: int) -> str:
    """Format a number of bytes."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
