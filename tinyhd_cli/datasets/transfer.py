"""Fetch single files of a repository of data: resumed at the byte where they stopped, then verified.

``huggingface_hub.hf_hub_download`` starts a file again that another process has left behind, which may be 20 GB of an
archive; so its ``http_get`` is called with the bytes that are there.
"""

from __future__ import annotations

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from ..atomic_files import remove
from ..errors import InputError, OutputError
from ..weights.hub import LOG_IN, one_line_errors
from .manifest import HubFile, Manifest

OnBytes = Callable[[int], None]


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


def counting_bar(add: OnBytes) -> type[Any]:
    """Return a class with the part of tqdm's interface that huggingface_hub uses; it calls ``add``."""

    class Bar:
        def __init__(self, **options: Any) -> None:
            pass

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def update(self, count: int) -> None:
            add(count)

    return Bar


@contextmanager
def hub_errors(subject: str, folder: Path) -> Iterator[None]:
    """Turn the errors of a transfer into one line.

    Args:
        subject: the data set, which starts the message.
        folder: the folder that is written to.

    Raises:
        OutputError: there is no space, or the folder cannot be written.
        WeightsError: the Hub cannot be reached, or refuses.
    """
    absent = f"the Hub has no such public data set, revision or file (if it is private: {LOG_IN})"
    with one_line_errors(subject, absent, failed="not downloaded"):
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise OutputError(f"{folder}: no space left; free some, then run the same command again") from error
            if error.filename is not None:  # of a local file, not of the connection
                raise OutputError(f"{error.filename}: cannot be written: {error.strerror or error}") from error
            raise


def list_files(name: str, repo: str, revision: str, folder: Path) -> Manifest:
    """Return the files of a repository at the commit of a revision, with two or more requests to the Hub.

    Raises:
        WeightsError: the Hub cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    with hub_errors(name, folder):
        api = HfApi()
        commit = api.repo_info(repo, repo_type="dataset", revision=revision).sha or revision
        found = api.list_repo_tree(repo, recursive=True, repo_type="dataset", revision=commit)
        try:
            files = tuple(
                HubFile(file.path, file.size, file.lfs.sha256 if file.lfs else file.blob_id)
                for file in found
                if isinstance(file, RepoFile)
            )
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return Manifest(repo, revision, commit, files)


def fetch(name: str, manifest: Manifest, file: HubFile, part: Path, progress: Progress) -> None:
    """Fetch a file to a path, from the Hub's local cache or the Hub, and verify its size and hash.

    Args:
        name: the data set, for messages.
        manifest: the commit.
        file: the file.
        part: path of the content; bytes that are there are not fetched again.
        progress: counts the bytes.

    Raises:
        InputError: the content is not the one that the Hub lists.
        WeightsError, OutputError: the transfer failed.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, logging  # type: ignore[attr-defined]

    # Each attempt would be logged; the last one raises an error.
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    with hub_errors(name, part.parent):
        cached = try_to_load_from_cache(manifest.repo, file.path, repo_type="dataset", revision=manifest.commit)
        if part.is_file() and part.stat().st_size > file.size:
            remove(part)
        if isinstance(cached, str) and file.matches(Path(cached)):
            shutil.copyfile(cached, part)
        there = part.stat().st_size if part.is_file() else 0
        progress.add(there)
        if there < file.size or not part.is_file():
            with part.open("r+b" if there else "wb") as output:
                output.seek(there)
                http_get(
                    hf_hub_url(manifest.repo, file.path, repo_type="dataset", revision=manifest.commit),
                    output,
                    resume_size=there,
                    headers=build_hf_headers(),
                    expected_size=file.size,
                    displayed_filename=file.path,
                    tqdm_class=counting_bar(progress.add),
                )
        if not file.matches(part, progress.check):
            remove(part)
            raise InputError(
                f"{name}: {file.path} arrived damaged (its content differs from the Hub's hash); "
                "run the same command again to fetch it again"
            )
