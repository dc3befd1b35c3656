"""What engines keep between runs: compiled graphs, and the verdicts of the self-test on them.

Several processes may work in the folder at once. A file is written under another name and renamed, read whole rather
than mapped into memory, and used only if its content has the digest that it states: a file that is replaced, cut or
damaged at any moment costs a new compilation and no more. A verdict names the digest of the graph that was tested.
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

from .. import __version__, cache
from ..errors import OutputError
from ..files import remove, written_whole
from ..untrusted import printable
from . import graph
from .graph import Node

try:
    import fcntl
except ImportError:  # Windows: each process compiles for itself
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tinyhd")

KEPT_GRAPHS = 6
"""Compiled graphs in the cache, of about 4 MB each; the oldest go."""

MAGIC = b"tinyhd graph 1\n"
"""What the file of a compiled graph begins with; the SHA-256 of its name and of the rest follows."""

PATIENCE_S = 60.0
"""How long a process waits for another one that compiles, before it does so itself."""

POLL_S = 0.05


def folder(*names: str) -> Path | None:
    """Where verdicts and compiled graphs are kept: ``$TINYHD_ENGINE_CACHE``, else in the cache; None: nowhere."""
    if override := os.environ.get("TINYHD_ENGINE_CACHE"):
        return cache.usable(Path(override), *names)
    return cache.folder("engines", *names)


def machine() -> tuple[str, ...]:
    """What a compiled graph and a verdict depend on besides the network and the packages."""
    return platform.node(), platform.machine(), platform.platform(), __version__


def digest_of(results: Sequence[Node]) -> str:
    """The SHA-256 of a graph: its operations, how they are connected, and their weights."""
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
    """The file for a compiled graph, whether it is there or not; None where there is no cache.

    Args:
        results: the nodes that it computes.
        facts: what else it depends on: how it is compiled, and by which version of what.
    """
    place = folder("compiled")
    if place is None:
        return None
    key = "\n".join((digest_of(results), *map(str, facts), *machine()))
    return place / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.blob"


def read_graph(path: Path | None) -> tuple[bytes, str] | None:
    """A compiled graph and its digest; None if there is none, or it is damaged."""
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
        log.debug("%s: damaged, or not the graph that belongs there", path)
        return None
    return content, digest.hex()


def digest_in(path: Path, content: bytes) -> bytes:
    """The SHA-256 of a compiled graph and of the name of its file, which tells what it was made of."""
    return hashlib.sha256(path.name.encode() + content).digest()


def keep_graph(path: Path | None, content: bytes) -> str:
    """Keep a compiled graph, if that is possible, and remove the oldest ones.

    Returns:
        Its digest; empty if it could not be kept.
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
    """The file for the verdict of a self-test, whether it is there or not; None where there is no cache."""
    place = folder()
    key = "\n".join((*map(str, facts), *machine()))
    return place / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json" if place else None


def remembered(path: Path | None, tested: str) -> str | None:
    """An earlier verdict on the graph with the digest ``tested``: what is wrong with it. None if there is none."""
    if path is None or not tested:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return printable(values["wrong"]) if values["graph"] == tested else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def remember(path: Path | None, tested: str, verdict: str) -> None:
    """Keep the verdict on a graph, if that is possible."""
    if path is not None and tested:
        write(path, json.dumps({"wrong": verdict, "graph": tested}).encode())


def write(path: Path, content: bytes) -> bool:
    """Replace a file as a whole; returns whether that was possible."""
    try:
        with written_whole(path) as temporary:
            temporary.write_bytes(content)
        return True
    except OutputError as error:
        log.debug("%s", error)
        return False


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let other processes wait while this one compiles for all of them: at most ``PATIENCE_S``, and where possible."""
    place = folder()
    with contextlib.ExitStack() as stack:
        if fcntl is not None and place is not None:
            with contextlib.suppress(OSError):
                file = stack.enter_context((place / "lock").open("ab"))  # unlocked when it is closed
                deadline = time.monotonic() + PATIENCE_S
                while time.monotonic() < deadline:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    time.sleep(POLL_S)
        yield
