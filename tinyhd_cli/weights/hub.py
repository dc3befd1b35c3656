"""Download weights from and upload them to the Hugging Face Hub. Every failure becomes a one-line error.

huggingface_hub reads ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE`` and ``HF_TOKEN`` from the environment.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import WeightsError, one_line
from ..settings import hub_owner
from .model_card import model_card
from .registry import HubFile, WeightsInfo

# huggingface_hub reads it on import. Without it, it fetches a list of programs (/api/agent-harnesses), to report by
# which of them it was started. Modules that send requests by huggingface_hub import this one first.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

LOG_IN = "set HF_TOKEN or run hf auth login"


def hub_location(info: WeightsInfo) -> HubFile:
    """Return the location of weights on the Hub, with the repository as ``owner/name``."""
    file = info.hub or HubFile(info.name, f"{info.name}.safetensors")
    repo = file.repo if "/" in file.repo else f"{hub_owner()}/{file.repo}"
    return HubFile(repo, file.filename, file.revision)


def cached(info: WeightsInfo) -> Path | None:
    """Return the file in the Hub's local cache, or None. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    file = hub_location(info)
    with one_line_errors(info.name):
        found = try_to_load_from_cache(file.repo, file.filename, revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def download(info: WeightsInfo, *, force: bool = False) -> Path:
    """Download weights into the Hub's local cache, with a progress bar on stderr.

    Args:
        info: the weights.
        force: download the file again if it is cached.

    Raises:
        WeightsError: the download failed; the message includes advice.
    """
    from huggingface_hub import hf_hub_download

    file = hub_location(info)
    with one_line_errors(info.name, not_found(info), by_hand(info)):
        check_availability(file)
        return Path(hf_hub_download(file.repo, file.filename, revision=file.revision, force_download=force))


def check_availability(file: HubFile) -> None:
    """Request the file's metadata, to fail at once: without a connection, ``hf_hub_download`` retries for 20 s."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(file.repo, file.filename, revision=file.revision))
    except HfHubHTTPError as error:
        busy = error.response.status_code in (408, 429) or error.response.status_code >= 500
        if not busy:  # if it is, hf_hub_download waits and retries
            raise


def upload(
    path: Path,
    info: WeightsInfo,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a weights file and its model card to a repository in one commit; see :func:`weights.push`."""
    from huggingface_hub import CommitOperationAdd, HfApi

    absent = f"the Hub has no such owner or repository, or you lack write access: {LOG_IN}"
    with one_line_errors(repo, absent, failed="not published"):
        api = HfApi(token=token)
        created = api.create_repo(repo, private=private or None, exist_ok=True)
        if revision:
            api.create_branch(created.repo_id, branch=revision, exist_ok=True)
        card = model_card(info, path.name, created.repo_id)
        api.create_commit(
            created.repo_id,
            [CommitOperationAdd(path.name, path), CommitOperationAdd("README.md", card.encode())],
            commit_message=f"{info.name} for tinyhd",
            revision=revision,
        )
        return str(created)


# ------------------------------------------------------------------------------------------------------------ errors


def not_found(info: WeightsInfo) -> str:
    """Return the message for weights that the Hub does not have. No public repository of TinyHD or HD2S is known."""
    file = hub_location(info)
    absent = f"the Hub has no public {file.repo}/{file.filename} (if it is private: {LOG_IN})"
    return "; ".join(part for part in (absent, by_hand(info)) if part)


def by_hand(info: WeightsInfo) -> str:
    """Return instructions to get weights without the Hub; empty if none are known."""
    if not info.upstream_file:
        return ""
    return f"get {info.upstream_file} from {info.origin} and use it with --weights {info.upstream_file}"


@contextmanager
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
