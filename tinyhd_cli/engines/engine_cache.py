"""Cache of engines: compiled graphs, and the results of their self-tests.

Several processes may use the folder at the same time. A file is written under a temporary name and renamed, read whole
instead of memory-mapped, and used only if its content matches its digest: a file that is replaced, truncated or damaged
at any moment only costs a new compilation. A verdict contains the digest of the graph that was tested.
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

KEPT_GRAPHS = 6
"""Maximum number of compiled graphs in the cache, of about 4 MB each; the oldest are removed."""

MAGIC = b"tinyhd graph 1\n"
"""First bytes of the file of a compiled graph. The SHA-256 of the file's name and remaining content follows."""

PATIENCE_S = 60.0
"""How long a process waits while another one compiles, before it compiles itself."""

POLL_S = 0.05


def folder(*names: str) -> Path | None:
    """Return the folder for verdicts and graphs: ``$TINYHD_ENGINE_CACHE``, else in the cache; None if unusable."""
    if override := os.environ.get("TINYHD_ENGINE_CACHE"):
        return cache.usable_folder(Path(override), *names)
    return cache.folder("engines", *names)


def machine() -> tuple[str, ...]:
    """Return the properties of machine and version that a compiled graph and a verdict depend on."""
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
            found.update(f"{type(node).__name__}({[numbers[one] for one in node.inputs]}".encode())
            for item in fields(node):
                value = getattr(node, item.name)
                if isinstance(value, np.ndarray):
                    found.update(f"{item.name}={value.dtype}{value.shape}".encode())
                    found.update(np.ascontiguousarray(value).data)
                elif item.name != "inputs":
                    found.update(f"{item.name}={value}".encode())
    found.update(f"{[numbers[result] for result in results]}".encode())
    return found.hexdigest()


def graph_file(results: Sequence[Node], *facts: object) -> Path | None:
    """Return the path for a compiled graph, which need not exist; None if there is no cache.

    Args:
        results: the output nodes.
        facts: other facts that the graph depends on, such as compile options and versions.
    """
    place = folder("compiled")
    if place is None:
        return None
    key = "\n".join((digest_of(results), *map(str, facts), *machine()))
    return place / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.blob"


def read_graph(path: Path | None) -> tuple[bytes, str] | None:
    """Return a compiled graph and its digest; None if it does not exist or is damaged."""
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
        log.debug("%s: damaged, or another graph", path)
        return None
    return content, digest.hex()


def digest_in(path: Path, content: bytes) -> bytes:
    """Return the SHA-256 of a compiled graph and its file name, which identifies the source of the graph."""
    return hashlib.sha256(path.name.encode() + content).digest()


def keep_graph(path: Path | None, content: bytes) -> str:
    """Write a compiled graph to the cache, if possible, and remove the oldest graphs.

    Returns:
        Its digest; empty if it could not be written.
    """
    if path is None:
        return ""
    digest = digest_in(path, content)
    if not write(path, MAGIC + digest + content):
        return ""
    with contextlib.suppress(OSError):  # another process may remove the same ones
        for old in sorted(path.parent.glob("*.blob"), key=lambda one: one.stat().st_mtime, reverse=True)[KEPT_GRAPHS:]:
            remove(old)
    return digest.hex()


def verdict_file(*facts: object) -> Path | None:
    """Return the path for the verdict of a self-test, which need not exist; None if there is no cache."""
    place = folder()
    key = "\n".join((*map(str, facts), *machine()))
    return place / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json" if place else None


def remembered(path: Path | None, tested: str) -> str | None:
    """Return the stored verdict (an error, or empty) on the graph with the digest ``tested``; None if there is none."""
    if path is None or not tested:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return printable(values["wrong"]) if values["graph"] == tested else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def remember(path: Path | None, tested: str, verdict: str) -> None:
    """Store the verdict on a graph, if possible."""
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
def one_at_a_time() -> Iterator[None]:
    """Hold a lock, if possible, so that other processes wait for this compilation, at most ``PATIENCE_S``."""
    place = folder()
    with contextlib.ExitStack() as stack:
        if fcntl is not None and place is not None:
            with contextlib.suppress(OSError):
                file = stack.enter_context((place / "lock").open("ab"))  # closing it releases the lock
                deadline = time.monotonic() + PATIENCE_S
                while time.monotonic() < deadline:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(POLL_S)
        yield
