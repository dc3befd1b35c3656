"""Work for worker processes, which import it by its name."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

from tinyhd_cli import system
from tinyhd_cli.errors import WeightsError

log = logging.getLogger("tinyhd")


def doubling(text: str = ""):
    """Prepare; the message is logged by each process."""
    if text:
        log.warning(text)
    return double


def double(item, report):
    """Return twice the item, after messages and reports. Negative items kill the process, None has no result."""
    if item is None:
        return lambda: "functions cannot be pickled"
    log.warning("item %s", item)
    if item < 0:
        time.sleep(0.3)  # so that the results of earlier items have left the process
        os.kill(os.getpid(), signal.SIGKILL)
    report("", 1, 2)
    report("last", 2, 2)
    return 2 * item


def missing():
    """Fail to prepare."""
    raise WeightsError("no such weights")


def dying():
    """End while preparing."""
    os._exit(3)


noisy = partial(doubling, "prepared")


def counting():
    """Prepare; an item is a folder, in which a file exists during the work, which never ends by itself."""
    return count


def count(item, report):
    """Report progress until the work is canceled."""
    path = Path(item, "partial")
    path.touch()
    try:
        for done in itertools.count():
            report("", done, None)
            time.sleep(0.01)
    finally:
        path.unlink()


def stating():
    """Prepare; the result is the number of threads, the current folder, and whether another item was in work."""
    threads, busy = system.engine_threads(), threading.Lock()

    def state(item, report):
        alone = busy.acquire(blocking=False)
        time.sleep(0.01)
        if alone:
            busy.release()
        return threads, str(Path.cwd()), alone

    return state


def loading(file: Path):
    """Prepare by reading a file, whose content is the result of each item."""
    content = file.read_bytes()
    return lambda item, report: content


def refusing():
    """Fail to check a worker."""
    raise WeightsError("no such weights there")


def dying_once(make_work, parts, marker):
    """Prepare; the process that is the first to work on certain parts of a video is killed in the middle of it."""
    work = make_work()

    def begin(turn, report):
        def reported(phase, done, total):
            if turn.part.number in parts and done > 4 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            report(phase, done, total)

        return work(turn, reported)

    return begin
