"""Fetch single files of a repository of data: resumed at the byte where they stopped, then verified.

``huggingface_hub.hf_hub_download`` starts a file again that another process has left behind, which may be 20 GB of an
archive, and reads 10 MB before it writes them; so its connection is used, with the bytes that are there.
"""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..atomic_files import remove
from ..errors import InputError, OutputError
from ..hub import LOG_IN, one_line_errors
from .archive import check_collisions
from .catalog import HubSource
from .manifest import HubFile, Manifest
from .selection import Selection

PAUSES_S = (1.0, 1.0, 1.0, 2.0, 4.0)
"""Pauses in seconds before further attempts, if the connection is interrupted and no byte has arrived since."""

MAX_PAUSE_S = 120.0
"""Limit on a pause that the Hub asks for."""

BUSY = (408, 429, 500, 502, 503, 504)
"""HTTP status codes of the Hub that another attempt may not get."""


class Stopped(Exception):
    """Another transfer failed, or the program is interrupted."""


class Progress:
    """Counts the bytes of all transfers; thread-safe.

    Args:
        total: bytes to transfer.
        report: called with the bytes that are done and all of them.
    """

    def __init__(self, total: int, report: Callable[[int, int], None]) -> None:
        self.total, self.done = total, 0
        self.stopped = threading.Event()
        self._report, self._lock = report, threading.Lock()

    def add(self, count: int) -> None:
        """Count bytes; negative if a transfer starts again.

        Raises:
            Stopped: ``stopped`` is set.
        """
        if self.stopped.is_set():
            raise Stopped
        with self._lock:
            self.done += count
            self._report(self.done, self.total)

    def check(self, count: int) -> None:
        """Raise ``Stopped`` if ``stopped`` is set; counts nothing."""
        if self.stopped.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait; raise ``Stopped`` at once if ``stopped`` is set."""
        if self.stopped.wait(seconds):
            raise Stopped


@contextmanager
def hub_errors(subject: str, folder: Path) -> Iterator[None]:
    """Turn the errors of a transfer into one line.

    Args:
        subject: the dataset, which starts the message.
        folder: the folder that is written to.

    Raises:
        OutputError: there is no space, or the folder cannot be written.
        WeightsError: the Hub cannot be reached, or refuses.
    """
    absent = f"the Hub has no such public dataset, revision or file (if it is private: {LOG_IN})"
    with one_line_errors(subject, absent, failed="not downloaded"):
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(f"{folder}: no space left; free some, then run the same command again") from error
            if error.filename is not None:  # of a local file, not of the connection
                raise OutputError(f"{error.filename}: cannot be written: {error.strerror or error}") from error
            raise


def list_files(name: str, source: HubSource, revision: str, folder: Path) -> Manifest:
    """Return the files of a dataset at the commit of a revision, with two or more requests to the Hub.

    Files of the repository that belong to no split are left out, whatever their names are.

    Raises:
        InputError: a path leads out of the folder, two are the same file, or a size or hash is none.
        WeightsError: the Hub cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(name, folder):
        api = HfApi()
        commit = api.repo_info(source.repo, repo_type="dataset", revision=revision).sha or revision
        found = api.list_repo_tree(source.repo, recursive=True, repo_type="dataset", revision=commit)
        try:
            files = tuple(
                HubFile(file.path, file.size, file.lfs.sha256 if file.lfs else file.blob_id)
                for file in found
                if isinstance(file, RepoFile) and Selection().has_file(file.path, source)
            )
            check_collisions(file.path for file in files)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return Manifest(source.repo, revision, commit, files)


def fetch(name: str, manifest: Manifest, file: HubFile, part: Path, progress: Progress) -> None:
    """Fetch a file to a path, from the Hub's local cache or the Hub, and verify its size and hash.

    Args:
        name: the dataset, for messages.
        manifest: the commit.
        file: the file.
        part: path of the content; bytes that are there are not fetched again.
        progress: counts the bytes.

    Raises:
        InputError: the content is not the one that the Hub lists.
        WeightsError, OutputError: the transfer failed.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    with hub_errors(name, part.parent):
        cached = try_to_load_from_cache(manifest.repo, file.path, repo_type="dataset", revision=manifest.commit)
        if isinstance(cached, str) and file.matches(Path(cached), progress.check):
            shutil.copyfile(cached, part)
        if size_of(part) > file.size:
            remove(part)
        part.touch()
        progress.add(size_of(part))
        if size_of(part) < file.size:
            url = hf_hub_url(manifest.repo, file.path, repo_type="dataset", revision=manifest.commit)
            receive_all(url, part, file.size, progress)
        if not file.matches(part, progress.check):
            remove(part)
            raise InputError(
                f"{name}: {file.path} arrived damaged (its content differs from the Hub's hash); "
                "run the same command again to fetch it again"
            )


def size_of(part: Path) -> int:
    """Return the number of bytes in a file; 0 if it does not exist."""
    return part.stat().st_size if part.is_file() else 0


def receive_all(url: str, part: Path, size: int, progress: Progress) -> None:
    """Append the missing bytes of a file; try again after interruptions, as long as some bytes arrive in between.

    Args:
        url: address of the file.
        part: path of the content so far.
        size: size of the file in bytes; nothing is written beyond.
        progress: counts the bytes.

    Raises:
        httpx2.HTTPError, HfHubHTTPError: the last attempt failed, too.
        Stopped: another transfer failed, or the program is interrupted.
    """
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    pauses = iter(PAUSES_S)
    while True:
        there = size_of(part)
        try:
            receive(url, part, size, progress)
            return
        except (httpx2.TransportError, HfHubHTTPError) as error:
            response = error.response if isinstance(error, HfHubHTTPError) else None
            if response is not None and response.status_code not in BUSY:
                raise
            if size_of(part) > there:
                pauses = iter(PAUSES_S)
            pause = next(pauses, None)
            if pause is None:
                raise
            wanted = response.headers.get("Retry-After", "") if response is not None else ""
            progress.pause(min(float(wanted), MAX_PAUSE_S) if wanted.isdecimal() else pause)


def receive(url: str, part: Path, size: int, progress: Progress) -> None:
    """Append the missing bytes of a file with one request; every block is written as it arrives."""
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    there = size_of(part)
    # Compressed content has other positions.
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if there:
        headers["Range"] = f"bytes={there}-"
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        if there and not response.headers.get("Content-Range", "").startswith(f"bytes {there}-"):
            progress.add(-there)  # the server sends all of it
            there = 0
        with part.open("ab" if there else "wb") as output:
            for block in response.iter_bytes():
                kept = block[: size - there]
                output.write(kept)
                there += len(kept)
                progress.add(len(kept))
                if there == size:  # not one byte more, whatever the server sends
                    return
