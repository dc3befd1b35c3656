"""The datasets that tinyhd knows: their facts, from ``catalog.toml``, and their folders on this machine."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any

from .. import settings
from ..errors import UsageError, did_you_mean
from ..untrusted import parse_toml


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hugging Face Hub, of the type ``dataset``, and its files. Patterns are those of fnmatch."""

    repo: str
    common: tuple[str, ...]
    """Patterns of the files of all splits."""
    splits: Mapping[str, tuple[str, ...]]
    """Patterns of the files of each split."""
    lists: str = ""
    """JSON file with the names of the videos of each split; empty if no archive contains several splits."""
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys of that file by split."""
    skip: tuple[str, ...] = ()
    """Patterns of the files in archives that tinyhd does not read."""

    def skips(self, path: str) -> bool:
        """Return whether tinyhd does not read a file of an archive."""
        return any(fnmatchcase(path, pattern) for pattern in self.skip)


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a dataset; an empty text is a fact that is not known."""

    name: str
    title: str
    content: str
    layout: str = ""
    """Value of ``--dataset``; empty for unlabeled videos."""
    task: str = ""
    """``fixation`` or ``object``, the ground truth; empty for unlabeled videos."""
    size: str = ""
    license: str = ""
    citation: str = ""
    homepage: str = ""
    splits: Mapping[str, str] = field(default_factory=dict)
    hub: HubSource | None = None
    """The repository to download from; None if the dataset is not on the Hub."""

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as plain values for JSON; None for those that are not known."""
        facts = {
            item.name: getattr(self, item.name) or None for item in fields(self) if item.name not in ("splits", "hub")
        }
        return {**facts, "splits": dict(self.splits), "hub": self.hub.repo if self.hub else None}


@functools.cache
def catalog() -> dict[str, DatasetInfo]:
    """Return the known datasets by name."""
    text = (resources.files(__package__) / "catalog.toml").read_text(encoding="utf-8")
    return {name: entry(name, table) for name, table in parse_toml(text).items()}


def entry(name: str, table: Mapping[str, Any]) -> DatasetInfo:
    """Return the dataset of a table in the catalog."""
    hub = table.get("hub")
    return DatasetInfo(name=name, **{**table, "hub": source(hub) if hub else None})


def source(table: Mapping[str, Any]) -> HubSource:
    """Return the repository of a table in the catalog."""

    def frozen(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: frozen(inner) for key, inner in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return HubSource(**{key: frozen(value) for key, value in table.items()})


def known(name: str) -> DatasetInfo:
    """Return a dataset by name; ``UsageError`` if there is none."""
    if name not in catalog():
        raise UsageError(f"dataset {name!r} is unknown: {did_you_mean(name, catalog())}")
    return catalog()[name]


def folder_of(name: str) -> Path | None:
    """Return the folder of a dataset on this machine, or None if it is not known.

    It is named in ``[datasets]`` of ``tinyhd.toml``, or is a folder of that name in ``TINYHD_DATA`` or where
    downloads are. Names of folders are compared without case, dashes and underscores, so ``UCF_Sports`` is
    ``ucf-sports``.

    Raises:
        UsageError: a settings file is malformed.
    """
    if named := settings.dataset_folders().get(name):
        return named
    return next((found for root in settings.data_folders() if (found := folder_in(root, name))), None)


def folder_in(root: Path, name: str) -> Path | None:
    """Return the folder of a dataset in a folder of datasets."""
    exact = root / name
    if exact.is_dir():
        return exact
    try:
        found = sorted(path for path in root.iterdir() if same_name(path.name, name) and path.is_dir())
    except OSError:  # it does not exist, or may not be read
        return None
    return found[0] if found else None


def same_name(one: str, other: str) -> bool:
    """Return whether two names differ only in case, dashes and underscores; hidden folders match no name."""

    def plain(name: str) -> str:
        return re.sub(r"[\s_-]", "", name).lower()

    return plain(one) == plain(other)


def download_folder(name: str) -> Path:
    """Return the folder to download a dataset to: its folder if it is known, else one in the folder of datasets."""
    return folder_of(name) or settings.data_folders()[0] / name


def where_to_name(name: str) -> str:
    """Return advice on how to make the folder of a dataset known."""
    info = catalog().get(name)
    named = f'name its folder in tinyhd.toml ([datasets], then {name} = "/path")'
    if info is not None and info.hub is not None:
        return f"run tinyhd datasets download {name}, or {named}"
    return named


def require_folder(name: str) -> Path:
    """Return the folder of a dataset; ``UsageError`` if it is not known."""
    if folder := folder_of(name):
        return folder
    raise UsageError(f"{name} is not on this machine: {where_to_name(name)}")


def on_this_machine() -> Iterator[tuple[DatasetInfo, Path]]:
    """Yield the known datasets that are on this machine, with their folders."""
    for info in catalog().values():
        if folder := folder_of(info.name):
            yield info, folder
