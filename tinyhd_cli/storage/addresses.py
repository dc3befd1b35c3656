"""Map URLs to stand-ins, which are paths, and back. Imports no fsspec.

The stand-in of ``s3://bucket/folder/clip.mp4`` is ``ROOT/s3/bucket/folder/clip.mp4``, where ROOT is in a temporary
folder of this process. Nothing is there except copies that are in use. Credentials and the query of a URL are no part
of its stand-in, so that no message contains them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..processes import has_ended, process_key

SCHEMES = ("s3", "gs", "gcs", "az", "abfs", "hf", "https", "http", "memory")
"""Schemes of the stores."""

PATH_STARTS = frozenset(f"{scheme}:" for scheme in SCHEMES)
"""First parts of paths that were made from URLs."""

WITH_QUERY = ("https", "http")
"""Schemes whose URLs can contain a query and credentials."""

URL = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]+)://(.*)", re.DOTALL)
"""Matches URLs of all schemes, also chains such as ``zip::s3``."""

WEB_URL = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)
"""Matches the web addresses in a text."""

WEB_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]+)(:\d*)?")
"""Matches the host and the port of a web address."""

ROOT_NAME = re.compile(r"tinyhd-([0-9a-f]{8})-(\d+)-(\d+)-\w+")
"""Matches the names of the roots: machine, process ID and start time of the process."""

_root: str = ""
"""The folder of this process's stand-ins; empty until a URL is used."""

_hidden: list[tuple[str, str]] = []
"""Credentials and queries of URLs; their numbers are part of the stand-ins."""

_numbers: dict[tuple[str, str], int] = {}
"""The numbers of the items of ``_hidden``."""

_secret_hosts: set[str] = set()
"""Hosts of URLs that have credentials or queries."""


class StandIn(type(Path())):  # type: ignore[misc]  # PosixPath or WindowsPath
    """The path that represents a URL in this process. A pickle of it contains the URL, and so does a formatted text."""

    def __format__(self, spec: str) -> str:
        return format(name_of(self), spec)

    def __reduce__(self) -> tuple[Any, ...]:
        url = url_of(self)
        return (Path, (str(self),)) if url is None else (path_of, (url,))


def is_url(text: str | os.PathLike[str]) -> bool:
    """Return whether a text is a URL of any scheme."""
    return isinstance(text, str) and URL.fullmatch(text) is not None


def check_scheme(text: str) -> None:
    """Raise ``UsageError`` unless a URL belongs to a known kind of store."""
    scheme = text.partition("://")[0].lower()
    if scheme not in (*SCHEMES, "file"):
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise UsageError(f"{hide(text)}: {scheme}:// is not supported; use {known} (streams: tinyhd live)")


def path_of(text: str | os.PathLike[str]) -> Path:
    """Return the path of a text: the stand-in of a URL; a plain path for other texts. Stand-ins stay stand-ins.

    Raises:
        UsageError: the URL is malformed or not supported.
    """
    match = URL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        if isinstance(text, Path) and text.parts[:1] and text.parts[0] in PATH_STARTS:
            raise UsageError(f"{text}: is a URL in a Path, which keeps one '/' of '//'; give the URL as text")
        return Path(text) if url_of(text) is None else StandIn(text)
    check_scheme(match[0])
    scheme, rest = match[1].lower(), match[2]
    if scheme == "file":
        return local_path(rest)
    query = ""
    if scheme in WITH_QUERY:
        at = re.search(r"[?#]|$", rest).start()  # type: ignore[union-attr]  # a fragment may be a token
        rest, query = rest[:at], rest[at:]
    place, slash, key = rest.partition("/")
    credentials, host = "", place
    if scheme in WITH_QUERY:
        credentials, _, host = place.rpartition("@")
    check_credentials(match[0], scheme, host, rest)
    parts = key.rstrip("/").split("/") if key.strip("/") else []
    if not host or {"", ".", ".."} & {host, *parts} or "\0" in rest:
        raise UsageError(f"{scheme}://{host}{slash}{key}: a part of this address is empty, '.' or '..'")
    if credentials or query:
        _secret_hosts.add(host)
        number = _numbers.setdefault((credentials, query), len(_hidden))
        if number == len(_hidden):
            _hidden.append((credentials, query))
        scheme = f"{scheme}~{number}"
    return StandIn(root(), scheme, host, *parts)


def local_path(rest: str) -> Path:
    """Return the path of a ``file://`` URL without its scheme; ``UsageError`` if it is on another machine."""
    from urllib.parse import unquote

    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        raise UsageError(f"file://{rest}: write file:///FOLDER/FILE, or the path itself")
    return Path(f"/{unquote(path)}")


def check_credentials(url: str, scheme: str, host: str, rest: str) -> None:
    """Raise ``UsageError`` if a URL of a bucket contains credentials, or those of a web address are ambiguous.

    Args:
        url: the complete URL.
        scheme: its scheme.
        host: host and port, or the bucket.
        rest: everything after ``://`` except the query.
    """
    if scheme not in WITH_QUERY:
        if "@" in rest and ":" in host.partition("@")[0] and not host.startswith("arn:"):
            raise UsageError(f"{hide(url)}: credentials in URLs are not supported; set them in the environment")
    elif host and not WEB_HOST.fullmatch(host):
        advice = "write / ? @ in a user name or password as %2F %3F %40"
        raise UsageError(f"{hide(url)}: the port is not a number; {advice}")


def url_of(path: str | os.PathLike[str]) -> str | None:
    """Return the complete URL that a path represents, with credentials and query; None for a local path."""
    if not _root:
        return None
    text = os.fspath(path)
    if not text.startswith(_root + os.sep):
        return None
    scheme, _, rest = text[len(_root) + 1 :].replace(os.sep, "/").partition("/")
    if not rest:
        return None
    scheme, _, number = scheme.partition("~")
    credentials, query = _hidden[int(number)] if number else ("", "")
    return f"{scheme}://{credentials}{'@' if credentials else ''}{rest}{query}"


def name_of(path: str | os.PathLike[str]) -> str:
    """Return the name of a path, or of an argument, for people: the URL without credentials and query, or the path."""
    if is_url(path):
        try:
            path = path_of(path)
        except UsageError:
            return hide(os.fspath(path))
    return named(os.fspath(path))


def named(text: str) -> str:
    """Return a text with all stand-ins replaced by their URLs, and without credentials and queries."""
    if not _root:
        return text
    text = re.sub(rf"{re.escape(_root + os.sep)}(\w+)(~\d+)?[/\\]+", r"\1://", text)
    return WEB_URL.sub(without_secrets, text) if _secret_hosts else text


def without_secrets(match: re.Match[str]) -> str:
    """Return a web address without credentials and query, if a URL in use has the same host and has any."""
    address, mark, _ = re.split(r"([?#]|$)", match[0], maxsplit=1)
    scheme, _, rest = address.partition("://")
    place, slash, key = rest.partition("/")
    _, at, host = place.rpartition("@")
    if host not in _secret_hosts:
        return match[0]
    return f"{scheme}://{'...' + at if at else ''}{host}{slash}{key}{mark and mark + '...'}"


def hide(url: str) -> str:
    """Return a URL that cannot be parsed without everything that may be a part of its credentials, and its query."""
    return re.sub(r"([?#]).*", r"\1...", re.sub(r"://.*@", "://...@", url, flags=re.DOTALL), flags=re.DOTALL)


def is_own_process_only(path: Path) -> bool:
    """Return whether a path is in ``memory://``, which other processes do not see."""
    return (url_of(path) or "").startswith("memory://")


def root() -> str:
    """Return the folder of this process's stand-ins; the first call creates it."""
    global _root
    if not _root:
        from multiprocessing.util import Finalize

        sweep()
        machine, pid, started = process_key()
        folder = os.path.realpath(tempfile.mkdtemp(prefix=f"tinyhd-{machine}-{pid}-{started}-"))
        # Processes of multiprocessing run no functions of atexit. The priority is below that of joining processes.
        Finalize(None, remove_root, args=(folder,), exitpriority=-1)
        _root = os.path.join(folder, "stores")  # noqa: PTH118  (compared as text)
    return _root


def workplace(path: Path) -> Path:
    """Return a local path, which is no stand-in, for writing the file that is to be put at a stand-in."""
    return Path(root()).with_name("work") / path.name


def remove_root(folder: str) -> None:
    """Remove a root, at the end of the process that made it, and the roots of the processes that it had to kill."""
    shutil.rmtree(folder, ignore_errors=True)
    sweep()


def sweep() -> None:
    """Remove the roots of processes that were killed."""
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
        for entry in found:
            match = ROOT_NAME.fullmatch(entry.name)
            if match and match[1] == process_key()[0] and has_ended(int(match[2]), int(match[3])):
                shutil.rmtree(entry.path, ignore_errors=True)
