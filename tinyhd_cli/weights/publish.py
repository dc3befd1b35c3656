"""Convert weights to tinyhd's safetensors format, and publish them on the Hugging Face Hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import hub
from .file import EXTERNAL_FIELDS, SUFFIX, is_safetensors, save
from .location import NameOrPath
from .registry import NOT_STATED, WeightsInfo
from .store import load

log = logging.getLogger("tinyhd")


def convert(
    source: NameOrPath,
    target: str | os.PathLike[str],
    *,
    decoders: Iterable[str] | None = None,
    name: str | None = None,
) -> WeightsInfo:
    """Write weights, usually those of an original file, as a safetensors file with tinyhd's metadata.

    Args:
        source: as for :func:`load`.
        target: the file to write; its name must end in ``.safetensors``.
        decoders: as for :func:`load`.
        name: the name of the weights in the file. Default: their name in the registry, else that of their network.

    Raises:
        WeightsError, UsageError, OutputError: as :func:`load` and :func:`save`.
    """
    checkpoint = load(source, decoders=decoders)
    facts: dict[str, Any] = {
        field: value for field, value in vars(checkpoint.info).items() if field not in EXTERNAL_FIELDS
    }
    del facts["spec"]
    return save(target, checkpoint.state_dict, checkpoint.spec, **(facts | ({"name": name} if name else {})))


def push(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Publish a weights file on the Hub, with a model card made from its metadata.

    Args:
        path: a safetensors file written by :func:`save` or :func:`convert`.
        repo_id: the repository, ``owner/name``, which is created if necessary. Default owner: the token's owner.
        private: whether to make a new repository private.
        revision: the branch to commit to, which is created if necessary. Default: main.
        token: access token. Default: ``HF_TOKEN``, or that of ``hf auth login``.

    Returns:
        The URL of the repository.

    Raises:
        UsageError: the file is an original file.
        WeightsError: the file is invalid, or the upload failed.
    """
    path = Path(path).expanduser()
    if not is_safetensors(path):
        raise UsageError(f"{path}: convert it first: tinyhd weights convert {path} -o {path.stem}{SUFFIX}")
    info = load(path).info
    if info.license in ("", NOT_STATED):
        log.warning("%s: the license is not stated; publish the weights only with the authors' permission", path)
    return hub.upload(path, info, repo_id, private=private, revision=revision, token=token)
