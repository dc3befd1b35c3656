"""Requests to the Hugging Face Hub. Every failure becomes an error of one line.

huggingface_hub reads ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE`` and ``HF_TOKEN`` from the environment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import WeightsError, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

# huggingface_hub reads it on import. Without it, it fetches a list of programs (/api/agent-harnesses), to report by
# which of them it was started. Modules that send requests by huggingface_hub import this one first.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

LOG_IN = "set HF_TOKEN or run hf auth login"

TIMEOUT_S = 4.0
"""Seconds after which a Hub that does not respond to a request for metadata cannot be reached."""


def cached(repo: str, filename: str, revision: str = "main") -> Path | None:
    """Return a file in the Hub's local cache, or None. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, filename, revision=revision)
    return Path(found) if isinstance(found, str) else None


def find(repo: str, filename: str, revision: str = "main") -> Path | None:
    """Return a file, downloaded unless it is in the Hub's local cache; None if the repository lacks it.

    That a file is missing is remembered, too, so that a repository that was used once can be used offline.
    """
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found = try_to_load_from_cache(repo, filename, revision=revision)
    if found is _CACHED_NO_EXIST:
        return None
    try:
        return Path(found) if isinstance(found, str) else download(repo, filename, revision)
    except LocalEntryNotFoundError:  # the Hub cannot be reached
        raise
    except EntryNotFoundError:
        with contextlib.suppress(EntryNotFoundError):
            hf_hub_download(repo, filename, revision=revision)  # remembers it
        return None


def stated_hash(repo: str, filename: str, revision: str = "main") -> str:
    """Return the hash of a file that the Hub states: of a large file, its SHA-256; empty if the repository lacks it."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return metadata(repo, filename, revision).etag or ""
    except EntryNotFoundError:
        return ""


def download(repo: str, filename: str, revision: str = "main", *, force: bool = False) -> Path:
    """Download a file into the Hub's local cache, with a progress bar on stderr."""
    from huggingface_hub import hf_hub_download

    check_availability(repo, filename, revision)
    return Path(hf_hub_download(repo, filename, revision=revision, force_download=force))


def metadata(repo: str, filename: str, revision: str = "main") -> HfFileMetadata:
    """Return the commit, size and hash of a file on the Hub."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    return get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision), timeout=TIMEOUT_S)


def check_availability(repo: str, filename: str, revision: str) -> None:
    """Request the file's metadata, to fail at once: without a connection, ``hf_hub_download`` retries for 20 s."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        metadata(repo, filename, revision)
    except HfHubHTTPError as error:
        busy = error.response.status_code in (408, 429) or error.response.status_code >= 500
        if not busy:  # if it is, hf_hub_download waits and retries
            raise


@contextlib.contextmanager
def one_line_errors(
    subject: str, absent: str = "the Hub has no such file", otherwise: str = "", failed: str = "not on this machine"
) -> Iterator[None]:
    """Turn the errors of huggingface_hub into a ``WeightsError`` of one line.

    Args:
        subject: the weights or the repository, which starts the message.
        absent: message for a missing file or repository.
        otherwise: advice if the Hub cannot be reached. Default: check the connection, or unset ``HF_HUB_OFFLINE``.
        failed: result of a command that cannot reach the Hub.
    """
    import httpx2  # the HTTP library of huggingface_hub, which does not catch all of its errors
    from huggingface_hub.errors import EntryNotFoundError

    try:
        with warnings.catch_warnings():
            # A warning about low disk space. If the space does not suffice, an error follows.
            warnings.simplefilter("ignore", UserWarning)
            yield
    # RuntimeError: of hf_xet, which transfers the files of huggingface.co
    except (httpx2.HTTPError, EntryNotFoundError, OSError, RuntimeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, httpx2.HTTPError):
            cause = cause.__cause__  # huggingface_hub wraps unrelated errors in "check your connection"
        raise WeightsError(f"{subject}: {problem(cause, absent, otherwise, failed)}") from error


def problem(error: BaseException, absent: str, otherwise: str, failed: str) -> str:
    """Return the problem behind an error of huggingface_hub, and what to do about it."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return http_problem(error, absent)
    if isinstance(error, OfflineModeIsEnabled):
        return f"{failed}, and HF_HUB_OFFLINE is set; {otherwise or 'unset it'}"
    if isinstance(error, HFValidationError):
        return f"not a valid name of a Hub repository: {one_line(error)}"
    if isinstance(error, FileMetadataError):
        return f"{constants.ENDPOINT} does not respond like the Hub: check HF_ENDPOINT and the proxy"
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
        reached = f"{constants.ENDPOINT} cannot be reached ({one_line(error)})"
        return f"{failed}, and {reached}; {otherwise or 'check the connection'}"
    if isinstance(error, httpx2.HTTPError) or "Consistency check failed" in str(error):
        return f"the connection was interrupted ({one_line(error)}): run the same command again"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"no space left in {constants.HF_HUB_CACHE}: free disk space, or set HF_HOME to a folder on another disk"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{constants.HF_HUB_CACHE} cannot be written: set HF_HOME to a writable folder"
    return f"{type(error).__name__}: {one_line(error)}"


def http_problem(error: BaseException, absent: str) -> str:
    """Return the problem behind an HTTP status of the Hub, and what to do about it."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    assert isinstance(error, HfHubHTTPError)
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return f"access needs the authors' approval (HTTP {status}): ask for it on the Hub page, then {LOG_IN}"
    if isinstance(error, (RepositoryNotFoundError, RemoteEntryNotFoundError, RevisionNotFoundError)):
        return absent
    if status in (401, 403):
        return f"the Hub denied access (HTTP {status}): {LOG_IN}, with a token that has the permission"
    if status == 429 or status >= 500:
        return f"the Hub is overloaded or out of service (HTTP {status}): try again later"
    return f"the Hub rejected the request (HTTP {status}): {error.server_message or one_line(error)}"
