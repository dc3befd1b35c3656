"""Cache compiled graphs and the verdicts of their self-tests.

Several processes may use the folder at the same time. A file is written under a temporary name and renamed, read whole
instead of memory-mapped, and used only if its content matches its digest. A file that is replaced, truncated or damaged
only costs a new compilation. A verdict contains the digest of the graph that was tested.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from .. import cache
from ..atomic_files import atomic_write, remove
from ..errors import OutputError
from ..untrusted import printable
from ..version import __version__
from . import graph
from .graph import Node

try:
    import fcntl
except ImportError:  # Windows: each process compiles its own graph
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tinyhd")

MAX_GRAPHS = 6
"""Maximum number of compiled graphs in the cache, of about 4 MB each; the oldest are removed."""

MAGIC = b"tinyhd graph 1\n"
"""First bytes of the file of a compiled graph. The SHA-256 of the file's name and remaining content follows."""

MAX_WAIT_S = 60.0
"""Seconds that a process waits for another one to compile, before it compiles the graph itself."""

POLL_S = 0.05
"""Seconds between attempts to take the lock."""


def folder(*names: str) -> Path | None:
    """Return the folder of verdicts and graphs: ``$TINYHD_ENGINE_CACHE``, else in the cache; None if unusable."""
    if override := os.environ.get("TINYHD_ENGINE_CACHE"):
        return cache.usable_folder(Path(override), *names)
    return cache.folder("engines", *names)


def machine_facts() -> tuple[str, ...]:
    """Return the machine's properties and the tinyhd version that compiled graphs and verdicts depend on."""
    return platform.node(), platform.machine(), platform.platform(), __version__


def digest_of(results: Sequence[Node]) -> str:
    """Return the SHA-256 of a graph: its operations, their connections and their weights."""
    found = hashlib.sha256()
    numbers: dict[Node, int] = {}
    for result in results:
        for node in graph.operations(result):
            if node in numbers:
                continue
            numbers[node] = len(numbers)
            found.update(f"{type(node).__name__}({[numbers[source] for source in node.inputs]}".encode())
            for item in fields(node):
                value = getattr(node, item.name)
                if isinstance(value, np.ndarray):
                    found.update(f"{item.name}={value.dtype}{value.shape}".encode())
                    found.update(np.ascontiguousarray(value).data)
                elif item.name != "inputs":
                    found.update(f"{item.name}={value}".encode())
    found.update(f"{[numbers[result] for result in results]}".encode())
    return found.hexdigest()


def graph_file(digest: str, *facts: object) -> Path | None:
    """Return the cache file of a compiled graph, whether or not it exists; None without a cache.

    Args:
        digest: of the graph, see :func:`digest_of`.
        facts: other values that the compiled graph depends on, such as compile options and versions.
    """
    directory = folder("compiled")
    if directory is None:
        return None
    key = "\n".join((digest, *map(str, facts), *machine_facts()))
    return directory / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.blob"


def read_graph(path: Path | None) -> tuple[bytes, str] | None:
    """Return a compiled graph and its digest; None if the file does not exist or is damaged."""
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(MAGIC) + hashlib.sha256().digest_size
    content = data[start:]
    digest = digest_in(path, content)
    if data[:start] != MAGIC + digest:
        log.debug("%s: damaged, or the file of another graph", path)
        return None
    return content, digest.hex()


def digest_in(path: Path, content: bytes) -> bytes:
    """Return the SHA-256 of a compiled graph and its file name, which depends on the graph before compilation."""
    return hashlib.sha256(path.name.encode() + content).digest()


def write_graph(path: Path | None, content: bytes) -> str:
    """Write a compiled graph to the cache if possible, and remove the oldest graphs.

    Returns:
        The digest of the graph; empty if it could not be written.
    """
    if path is None:
        return ""
    digest = digest_in(path, content)
    if not write(path, MAGIC + digest + content):
        return ""
    with contextlib.suppress(OSError):  # another process may remove the same files
        for old in sorted(path.parent.glob("*.blob"), key=lambda file: file.stat().st_mtime, reverse=True)[MAX_GRAPHS:]:
            remove(old)
    return digest.hex()


def verdict_file(*facts: object) -> Path | None:
    """Return the cache file of a self-test's verdict, whether or not it exists; None without a cache."""
    directory = folder()
    key = "\n".join((*map(str, facts), *machine_facts()))
    return directory / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json" if directory else None


def read_verdict(path: Path | None, tested: str) -> str | None:
    """Return the stored verdict on the graph with the digest ``tested``: an error, or empty; None if none is stored."""
    if path is None or not tested:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return printable(values["wrong"]) if values["graph"] == tested else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_verdict(path: Path | None, tested: str, verdict: str) -> None:
    """Store the verdict on the graph with the digest ``tested`` if possible."""
    if path is not None and tested:
        write(path, json.dumps({"wrong": verdict, "graph": tested}).encode())


def write(path: Path, content: bytes) -> bool:
    """Replace a file atomically. Return whether that succeeded."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return True
    except OutputError as error:
        log.debug("%s", error)
        return False


@contextlib.contextmanager
def compilation_lock() -> Iterator[None]:
    """Hold a lock if possible, so that other processes wait for this compilation, for at most ``MAX_WAIT_S``."""
    directory = folder()
    with contextlib.ExitStack() as stack:
        if fcntl is not None and directory is not None:
            with contextlib.suppress(OSError):
                file = stack.enter_context((directory / "lock").open("ab"))  # closing it releases the lock
                deadline = time.monotonic() + MAX_WAIT_S
                while time.monotonic() < deadline:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(POLL_S)
        yield
