"""Convert weights to tinyhd's safetensors format, and publish them on the Hugging Face Hub."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import hub
from .file import EXTERNAL_FIELDS, SUFFIX, is_safetensors, save
from .location import NameOrPath
from .model_card import read_scores, write_card
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
    return rewrite(source, target, {"name": name} if name else {}, decoders)


def annotate(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
    training_data: str | None = None,
    results: str | os.PathLike[str] | None = None,
) -> Path:
    """State facts about weights in their file, and write its model card next to it.

    Args:
        path: a safetensors file written by :func:`save` or :func:`convert`; its tensors stay as they are.
        name: name of the weights. Default of this and the next: as before.
        license: their license, an SPDX identifier such as ``CC-BY-4.0``.
        training_data: the data that they were trained on.
        results: a JSON file of ``tinyhd evaluate``; its scores replace those in the file.

    Returns:
        The model card.

    Raises:
        InputError: the results cannot be read.
        WeightsError, UsageError, OutputError: as :func:`load` and :func:`save`.
    """
    path = Path(path).expanduser()
    scores, scores_on = read_scores(Path(results)) if results is not None else (None, None)
    given: dict[str, Any] = {"name": name, "license": license, "training_data": training_data}
    given |= {"scores": scores, "scores_on": scores_on}
    return write_card(path, rewrite(path, path, {key: value for key, value in given.items() if value is not None}))


def rewrite(
    source: NameOrPath, target: str | os.PathLike[str], facts: Mapping[str, Any], decoders: Iterable[str] | None = None
) -> WeightsInfo:
    """Write weights to a file with their metadata, of which ``facts`` are replaced."""
    checkpoint = load(source, decoders=decoders)
    known = {field: value for field, value in vars(checkpoint.info).items() if field not in EXTERNAL_FIELDS}
    del known["spec"]
    return save(target, checkpoint.state_dict, checkpoint.spec, **(known | dict(facts)))


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
