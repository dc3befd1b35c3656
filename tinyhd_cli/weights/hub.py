"""Download weights from and upload them to the Hugging Face Hub. Every failure becomes a one-line error."""

from __future__ import annotations

from pathlib import Path

from .. import hub
from ..hub import LOG_IN, one_line_errors
from ..settings import hub_owner
from .model_card import model_card
from .registry import HubFile, WeightsInfo


def hub_location(info: WeightsInfo) -> HubFile:
    """Return the location of weights on the Hub, with the repository as ``owner/name``."""
    file = info.hub or HubFile(info.name, f"{info.name}.safetensors")
    repo = file.repo if "/" in file.repo else f"{hub_owner()}/{file.repo}"
    return HubFile(repo, file.filename, file.revision)


def cached(info: WeightsInfo) -> Path | None:
    """Return the file in the Hub's local cache, or None. Never uses the network."""
    file = hub_location(info)
    with one_line_errors(info.name):
        return hub.cached(file.repo, file.filename, file.revision)


def download(info: WeightsInfo, *, force: bool = False) -> Path:
    """Download weights into the Hub's local cache, with a progress bar on stderr.

    Args:
        info: the weights.
        force: download the file again if it is cached.

    Raises:
        WeightsError: the download failed; the message includes advice.
    """
    file = hub_location(info)
    with one_line_errors(info.name, not_found(info), by_hand(info)):
        return hub.download(file.repo, file.filename, file.revision, force=force)


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
