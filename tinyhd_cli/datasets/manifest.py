"""The record of a download, kept in the folder of the dataset: the commit, its files and the content of archives."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic_files import atomic_write
from ..errors import InputError
from ..untrusted import parse_json, read_document
from .archive import BLOCK_BYTES, Member, check_path

MANIFEST = ".tinyhd-download.json"
"""Name of the record."""

MAX_MANIFEST_BYTES = 256 << 20
"""Size limit of the record: 100 bytes per file."""


def is_count(value: object) -> bool:
    """Return whether a value of a document is a number of bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class HubFile:
    """A file of the repository, as the Hub lists it."""

    path: str
    size: int
    digest: str
    """64 digits: sha256 of the content. 40 digits: git's sha1, of small files that are not in LFS."""

    def __post_init__(self) -> None:
        check_path(self.path)
        if not is_count(self.size):
            raise InputError(f"refused, because {self.path!r} has the size {self.size!r}")
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", self.digest):  # it names a temporary file, too
            raise InputError(f"refused, because {self.path!r} has the hash {self.digest!r}")

    @property
    def is_archive(self) -> bool:
        """Whether the file is unpacked after the download."""
        return self.path.lower().endswith(".zip")

    def matches(self, path: Path, on_bytes: Callable[[int], None] = lambda count: None) -> bool:
        """Return whether a local file has the content of this one.

        Args:
            path: the local file.
            on_bytes: called with the number of bytes of each block that was read.
        """
        size = path.stat().st_size
        if size != self.size:
            return False
        hasher = hashlib.sha256() if len(self.digest) == 64 else hashlib.sha1(b"blob %d\0" % size)
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                hasher.update(block)
                on_bytes(len(block))
        return hasher.hexdigest() == self.digest


@dataclass
class Manifest:
    """A commit of a repository, and the archives that were unpacked."""

    repo: str
    revision: str
    """The revision that was asked for, such as ``main``."""
    commit: str
    files: tuple[HubFile, ...]
    archives: dict[str, tuple[Member, ...]] = field(default_factory=dict)
    """Files of each archive that was unpacked, chosen or not, by its path."""

    def write(self, folder: Path) -> None:
        """Write the record into a folder."""
        value = {
            "repo": self.repo,
            "revision": self.revision,
            "commit": self.commit,
            "files": [[file.path, file.size, file.digest] for file in self.files],
            "archives": {
                path: [[member.path, member.size, member.crc] for member in members]
                for path, members in self.archives.items()
            },
        }
        with atomic_write(folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(value), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """Return the record in a folder, or None if there is none.

        Raises:
            InputError: it is damaged.
        """
        record = folder / MANIFEST
        if not record.is_file():
            return None
        try:
            value: dict[str, Any] = parse_json(read_document(record, MAX_MANIFEST_BYTES))
            repo, revision, commit = (str(value[name]) for name in ("repo", "revision", "commit"))
            files = tuple(HubFile(str(path), size, str(digest)) for path, size, digest in value["files"])
            archives = {
                str(path): tuple(Member(check_path(inner), "", size, crc) for inner, size, crc in members)
                for path, members in value["archives"].items()
            }
            if not all(is_count(member.size) for members in archives.values() for member in members):
                raise ValueError
        except (OSError, ValueError, LookupError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"{record}: is damaged; remove it to download the dataset again") from error
        return cls(repo, revision, commit, files, archives)
