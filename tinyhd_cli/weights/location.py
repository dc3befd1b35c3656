"""Locate weights by name or path: a local file, an embedded file, the Hub's local cache, or the Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import cache
from ..errors import WeightsError
from ..models import title
from ..storage import cached_copy, path_of, url_of
from . import hub
from .file import ORIGINAL_SUFFIXES, SUFFIX, WRONG_DIGEST, matches_digest, read_bytes, read_metadata, sha256_of
from .registry import WeightsInfo, find, prefix_errors, registry, registry_path
from .tensorflow_file import SUFFIX as INDEX

NameOrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Located:
    """A weights file on this machine."""

    path: Path
    info: WeightsInfo | None
    """The registry entry of the name by which the file was located; None if it was located by its path."""

    source: Literal["file", "embedded", "cache", "Hub"]


def as_path(name_or_path: NameOrPath) -> Path | None:
    """Return the path of a file; None for a name. A file in a store is copied to the cache.

    Raises:
        WeightsError: the argument is a path, but not that of a file, or it cannot be read from its store.
    """
    path = path_of(name_or_path)
    if url_of(path) is not None:
        return cached_copy(path, cache.folder("weights"), WeightsError)
    path = path.expanduser()
    if path.is_file():
        return path
    index = path.with_name(f"{path.name}{INDEX}") if path.name else path
    if index.is_file():  # TensorFlow names a checkpoint without the suffix
        return index
    is_path = not isinstance(name_or_path, str) or (
        any(separator in name_or_path for separator in "/\\") or path.suffix.lower() in (SUFFIX, *ORIGINAL_SUFFIXES)
    )
    if is_path:
        raise WeightsError(f"{path}: a folder, not a weights file" if path.is_dir() else f"{path}: no such file")
    return None


def find_local(info: WeightsInfo) -> Located | None:
    """Return the file of registered weights: embedded, or in the Hub's local cache. Never uses the network."""
    embedded = registry_path().parent / info.file
    if info.file and embedded.is_file():
        return Located(embedded, info, "embedded")
    cached = hub.cached(info)
    return Located(cached, info, "cache") if cached else None


def local_weights() -> list[Located]:
    """Return the files of all registered weights that are on this machine."""
    return [located for info in registry().values() if (located := find_local(info))]


def locate(name_or_path: NameOrPath) -> Located:
    """Locate a weights file: a local path, else embedded, else in the Hub's local cache, else download it.

    Args:
        name_or_path: a registry name, the name of a model, or a path (anything with a separator or a known suffix).

    Raises:
        WeightsError: the file does not exist, or cannot be downloaded.
        UsageError: the name is unknown.
    """
    path = as_path(name_or_path)
    if path is not None:
        return Located(path, None, "file")
    info = find(str(name_or_path))
    return find_local(info) or Located(hub.download(info), info, "Hub")


def check_file(located: Located, data: bytes) -> None:
    """Check the content of a file that was located by its name.

    Raises:
        WeightsError: its hash or its network differs from the registry's.
    """
    info, path = located.info, located.path
    if info is None:
        return
    found = sha256_of(data)
    if info.sha256 and found != info.sha256:
        again = f"run tinyhd weights pull {info.name} --force"
        advice = "install tinyhd again" if located.source == "embedded" else again
        raise WeightsError(f"{path}: damaged or altered: sha256 {found}, expected {info.sha256}; {advice}")
    with prefix_errors(path):
        spec = read_metadata(data).spec
        if not spec.same_network(info.spec):
            raise WeightsError(f"contains {title(spec)}, but {info.name} is {title(info.spec)}")
        if not info.sha256 and matches_digest(data) is False:
            raise WeightsError(f"damaged: {WRONG_DIGEST}")


def pull(name: str, *, force: bool = False) -> Path:
    """Download registered weights if they are not on this machine, check them, and return the file.

    Args:
        name: a registry name or the name of a model.
        force: download weights in the Hub's local cache again. Embedded weights are never downloaded.

    Raises:
        WeightsError: the download failed, or the file is not the expected one.
        UsageError: the name is unknown.
    """
    info = find(name)
    located = find_local(info)
    if located is None or (force and located.source == "cache"):
        located = Located(hub.download(info, force=force), info, "Hub")
    check_file(located, read_bytes(located.path))
    return located.path
