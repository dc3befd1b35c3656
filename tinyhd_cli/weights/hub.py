"""The Hugging Face Hub: weights from it and to it, and every way in which that fails as one line.

huggingface_hub itself honors ``HF_ENDPOINT``, ``HF_HOME``, ``HF_HUB_OFFLINE`` and ``HF_TOKEN``.
"""

from __future__ import annotations

import errno
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import WeightsError, one_line
from ..models.spec import CLIP_FRAMES, TinyHDConfig
from ..settings import hub_owner
from .registry import NOT_STATED, HubFile, WeightsInfo, network_name

LOG_IN = "set HF_TOKEN or run hf auth login"


def place(info: WeightsInfo) -> HubFile:
    """Where weights are expected on the Hub, the repository as ``owner/name``."""
    file = info.hub or HubFile(info.name, f"{info.name}.safetensors")
    repo = file.repo if "/" in file.repo else f"{hub_owner()}/{file.repo}"
    return HubFile(repo, file.filename, file.revision)


def cached(info: WeightsInfo) -> Path | None:
    """The file in the Hub's local cache, or None. Never asks the network."""
    from huggingface_hub import try_to_load_from_cache

    file = place(info)
    with plain_errors(info.name):
        found = try_to_load_from_cache(file.repo, file.filename, revision=file.revision)
    return Path(found) if isinstance(found, str) else None


def download(info: WeightsInfo, *, force: bool = False) -> Path:
    """Download weights into the Hub's cache, progress on stderr.

    Raises:
        WeightsError: it did not work; the message says what to do.
    """
    from huggingface_hub import hf_hub_download

    file = place(info)
    with plain_errors(info.name, missing(info), by_hand(info) or "try again later"):
        probe(file)
        return Path(hf_hub_download(file.repo, file.filename, revision=file.revision, force_download=force))


def probe(file: HubFile) -> None:
    """Ask for the file's size alone, to fail at once and know why: a download without connection tries for 20 s."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(file.repo, file.filename, revision=file.revision))
    except HfHubHTTPError as error:
        busy = error.response.status_code in (408, 429) or error.response.status_code >= 500
        if not busy:  # if it is, the download waits and asks again
            raise


def publish(
    path: Path,
    info: WeightsInfo,
    repo: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Put a weight file and its model card into a repository, in one commit; see :func:`weights.push`."""
    from huggingface_hub import CommitOperationAdd, HfApi

    with plain_errors(repo, f"the Hub knows no such owner or repository, or your token may not write there: {LOG_IN}"):
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


def missing(info: WeightsInfo) -> str:
    """What to do if the Hub does not have weights: no public repository of TinyHD or HD2S is known."""
    file = place(info)
    absent = f"the Hub has no public {file.repo}/{file.filename} (if it is private: {LOG_IN})"
    return "; ".join(part for part in (absent, by_hand(info)) if part)


def by_hand(info: WeightsInfo) -> str:
    """How to come by weights without the Hub; empty if nobody knows."""
    if not info.upstream_file:
        return ""
    return f"get {info.upstream_file} from {info.origin} and add --weights {info.upstream_file}"


@contextmanager
def plain_errors(
    what: str, absent: str = "the Hub has no such file", otherwise: str = "check the connection"
) -> Iterator[None]:
    """Turn whatever huggingface_hub raises into a ``WeightsError`` of one line.

    Args:
        what: the weights or the repository that this is about.
        absent: what to say if it does not exist.
        otherwise: what to do if the Hub is out of reach.
    """
    import httpx2  # huggingface_hub's own HTTP library, whose errors it lets through
    from huggingface_hub.errors import EntryNotFoundError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of little disk space: if it matters, an error follows
            yield
    # hf_xet, which moves the files of the real Hub, raises RuntimeError.
    except (httpx2.HTTPError, EntryNotFoundError, OSError, RuntimeError, ValueError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, httpx2.HTTPError):
            cause = cause.__cause__  # huggingface_hub puts "check your connection" around quite other things
        raise WeightsError(f"{what}: {problem(cause, absent, otherwise)}") from error


def problem(error: BaseException, absent: str, otherwise: str) -> str:
    """What an error of huggingface_hub means, and what to do."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return refusal(error, absent)
    if isinstance(error, OfflineModeIsEnabled):
        return f"not on this machine, and HF_HUB_OFFLINE is set; {otherwise}"
    if isinstance(error, HFValidationError):
        return f"no name for a Hub repository: {one_line(error)}"
    if isinstance(error, FileMetadataError):
        return f"{constants.ENDPOINT} does not answer like the Hub: check HF_ENDPOINT and the proxy"
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)):
        return f"not on this machine, and {constants.ENDPOINT} cannot be reached ({one_line(error)}); {otherwise}"
    if isinstance(error, httpx2.HTTPError) or "Consistency check failed" in str(error):
        return f"the connection was cut ({one_line(error)}): run the same command again"
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return f"no space left in {constants.HF_HUB_CACHE}: free some, or set HF_HOME to a folder on another disk"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{constants.HF_HUB_CACHE} cannot be written: set HF_HOME to a folder where you may write"
    return f"{type(error).__name__}: {one_line(error)}"


def refusal(error: BaseException, absent: str) -> str:
    """What an HTTP status of the Hub means, and what to do."""
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
        return f"its authors want to be asked for access (HTTP {status}): ask on its Hub page, then {LOG_IN}"
    if isinstance(error, (RepositoryNotFoundError, RemoteEntryNotFoundError, RevisionNotFoundError)):
        return absent
    if status in (401, 403):
        return f"the Hub refuses access (HTTP {status}): {LOG_IN}, with a token that may do this"
    if status == 429 or status >= 500:
        return f"the Hub is busy or out of order (HTTP {status}): try again later"
    return f"the Hub refuses (HTTP {status}): {error.server_message or one_line(error)}"


# -------------------------------------------------------------------------------------------------------- model card


def hub_license(license: str) -> list[str]:
    """The lines of a model card's front matter that state a license; the Hub knows lower-case SPDX names."""
    if license in ("", NOT_STATED):
        return ["license: unknown"]
    slug = re.sub(r"[^a-z0-9.]+", "-", license.lower()).strip("-")
    return [f"license: {slug}"] if slug == license.lower() else ["license: other", f"license_name: {slug}"]


def cell(text: str) -> str:
    """Escape text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


def model_card(info: WeightsInfo, filename: str, repo: str) -> str:
    """The README of a Hub repository: YAML front matter, then what the file says of itself."""
    height, width = info.input_size
    paper = "Hu et al., WACV 2023" if isinstance(info.config, TinyHDConfig) else "Bellitto et al., IJCV 2021"
    facts = {
        "Network": f"{network_name(info.config)}, {paper}",
        "Maps": f"{info.config.frames_out} for {CLIP_FRAMES} frames",
        "Parameters": f"{info.parameters:,}" if info.parameters else "",
        "Input": f"RGB, {height} x {width}, RGB / 255 minus {list(info.mean)}, divided by {list(info.std)}",
        "Trained on": info.training_data,
        "License": info.license or NOT_STATED,
        "From": ", ".join(part for part in (info.origin, info.upstream_file) if part),
        **{what.capitalize(): f"`{value}`" for what, value in info.provenance.items()},
    }
    scores = [f"| {cell(metric)} | {score:g} |" for metric, score in info.scores.items()]
    lines = [
        "---",
        *hub_license(info.license),
        "library_name: tinyhd",
        "tags:",
        *["- video-saliency", "- visual-attention", "- tinyhd"],
        "---",
        "",
        f"# {info.name}",
        "",
        "Predicts where people look in a video.",
        "",
        "| | |",
        "|---|---|",
        *[f"| {cell(what)} | {cell(value)} |" for what, value in facts.items() if value],
        *(
            [
                f"\n{'Scores' if info.provenance else 'Published scores'}: {info.scores_on}\n",
                "| metric | value |",
                "|---|---|",
                *scores,
            ]
            if scores
            else []
        ),
        "",
        "```sh",
        f"hf download {repo} {filename} --local-dir .",
        f"tinyhd predict video.mp4 --overlay out.mp4 --weights {filename}",
        "```",
        "",
    ]
    return "\n".join(lines)
