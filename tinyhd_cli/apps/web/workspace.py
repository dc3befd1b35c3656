"""A temporary folder for uploads and results; each is removed an hour after its last use, and all at the end."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...processes import has_ended, machine_id, process_key
from .options import KEEP_S

SWEEP_S = 60.0
"""Seconds between two searches for files to remove."""

FOLDER = re.compile(r"tinyhd-app-([0-9a-f]{8})-(\d+)-(\d+)-.*")
"""Matches the names of the folders: machine, process ID, and start of the process."""


@dataclass
class Entry:
    """An upload or a result: files in one folder, found by an identifier that cannot be guessed."""

    folder: Path
    value: Any = None
    """Facts about the files."""
    used_s: float = field(default_factory=time.monotonic)
    """Time of the last use."""
    in_use: int = 0
    """Number of jobs that work with it; its files are not removed before they end."""
    is_removed: bool = False
    """Whether it cannot be found any more."""


class Workspace:
    """The uploads and results of all visitors."""

    def __init__(self) -> None:
        remove_abandoned(Path(tempfile.gettempdir()))
        prefix = "-".join(["tinyhd-app", *map(str, process_key()), ""])
        self.root = Path(tempfile.mkdtemp(prefix=prefix))  # only this user may read it
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._sweep_regularly, name="tinyhd-sweep", daemon=True).start()

    def add(self) -> tuple[str, Entry]:
        """Return a new entry with an empty folder, and its identifier."""
        name = secrets.token_hex(16)
        entry = Entry(self.root / name)
        entry.folder.mkdir()
        with self._lock:
            self._entries[name] = entry
        return name, entry

    def find(self, name: str) -> Entry | None:
        """Return an entry and note that it is used; None if there is none."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                entry.used_s = time.monotonic()
            return entry

    @contextlib.contextmanager
    def using(self, entry: Entry) -> Iterator[None]:
        """Keep an entry while a job works with it."""
        with self._lock:
            entry.in_use += 1
        try:
            yield
        finally:
            with self._lock:
                entry.in_use -= 1
                entry.used_s = time.monotonic()
                is_over = entry.is_removed and not entry.in_use
            if is_over:
                shutil.rmtree(entry.folder, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove an entry with its files; a job that works with them ends first."""
        with self._lock:
            entry = self._entries.pop(name, None)
            if entry is None:
                return
            entry.is_removed = True
            is_over = not entry.in_use
        if is_over:
            shutil.rmtree(entry.folder, ignore_errors=True)

    def sweep(self, keep_s: float = KEEP_S) -> None:
        """Remove the entries that have not been used for a time."""
        limit = time.monotonic() - keep_s
        with self._lock:
            old = [name for name, entry in self._entries.items() if entry.used_s <= limit and not entry.in_use]
        for name in old:
            self.remove(name)

    def close(self) -> None:
        """Remove all files."""
        self._closed.set()
        shutil.rmtree(self.root, ignore_errors=True)

    def _sweep_regularly(self) -> None:
        while not self._closed.wait(SWEEP_S):
            self.sweep()


def remove_abandoned(parent: Path) -> None:
    """Remove the folders that killed processes of this machine have left."""
    for folder in parent.glob("tinyhd-app-*"):
        match = FOLDER.fullmatch(folder.name)
        if match and match[1] == machine_id() and has_ended(int(match[2]), int(match[3])):
            shutil.rmtree(folder, ignore_errors=True)
