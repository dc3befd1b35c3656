"""Load, inspect and verify weights by name or path."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import WeightsError
from ..models import ModelSpec
from ..models.registry import family
from . import hub
from .file import (
    MAX_BYTES,
    WRONG_DIGEST,
    check_tensors,
    is_safetensors,
    matches_digest,
    read_bytes,
    read_metadata,
    read_safetensors,
    sha256_of,
)
from .foreign import refuse_large
from .location import Located, NameOrPath, as_path, check_file, find_local, locate
from .original import read_original, read_tensorflow
from .registry import WeightsInfo, describe, find, prefix_errors, registry
from .tensorflow_file import is_index, read_data_files

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("tinyhd")


@dataclass(frozen=True)
class Content:
    """The content of a weights file."""

    path: Path
    data: bytes
    data_files: tuple[bytes, ...] = ()
    """Contents of a TensorFlow checkpoint's data files; ``data`` is its index then."""

    @property
    def size(self) -> int:
        """Size in bytes, including the data files."""
        return len(self.data) + sum(map(len, self.data_files))

    @cached_property
    def sha256(self) -> str:
        """Digest of the file, followed by the data files."""
        return sha256_of(self.data, *self.data_files)


def read_content(path: Path) -> Content:
    """Return the content of a weights file; ``WeightsError`` if it cannot be read."""
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        with prefix_errors(path):
            refuse_large(path)
    data = read_bytes(path)
    if not is_index(path):
        return Content(path, data)
    with prefix_errors(path):
        return Content(path, data, read_data_files(data, path))


@dataclass(frozen=True)
class Checkpoint:
    """Weights that match their network: no tensor is missing or unknown, and every shape is right.

    Floating-point tensors are float32.
    """

    spec: ModelSpec
    state_dict: dict[str, Tensor]
    info: WeightsInfo
    """Its size and sha256 are those of the file that was read."""


@dataclass(frozen=True)
class Verdict:
    """The result of comparing a file with the registry or with its own digest."""

    name: str
    """The name in the registry, else the path."""

    path: Path
    sha256: str
    state: Literal["ok", "wrong hash", "unknown hash"]


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was found and read; one found by its name agrees with the registry. See :func:`open_file`."""

    located: Located
    content: Content

    @property
    def path(self) -> Path:
        """The file."""
        return self.located.path

    @property
    def source(self) -> str:
        """Where it is; see :attr:`Located.source`."""
        return self.located.source

    @property
    def sha256(self) -> str:
        """Digest of the content."""
        return self.content.sha256

    @cached_property
    def metadata(self) -> WeightsInfo | None:
        """The metadata, with the size and sha256 of the file; None for original files, which have none."""
        if not is_safetensors(self.path):
            return None
        with prefix_errors(self.path):
            return self._described(read_metadata(self.content.data))

    def _described(self, info: WeightsInfo) -> WeightsInfo:
        return replace(self.located.info or info, bytes=self.content.size, sha256=self.sha256)

    def load(self, *, decoders: Iterable[str] | None = None) -> Checkpoint:
        """Return the weights; see :func:`load`."""
        state_dict, info = read(self.content, warn=decoders is None)
        info = self._described(info)
        if decoders is not None:
            info = reinterpreted(info, {"decoders": tuple(decoders)})
        return Checkpoint(info.spec, state_dict, info)


def open_file(name_or_path: NameOrPath) -> WeightsFile:
    """Locate and read a weights file.

    Raises:
        WeightsError: the file is missing, cannot be read, or differs from the registry.
        UsageError: the name is unknown.
    """
    located = locate(name_or_path)
    content = read_content(located.path)
    check_file(located, content.data)
    return WeightsFile(located, content)


def load(name_or_path: NameOrPath, *, decoders: Iterable[str] | None = None) -> Checkpoint:
    """Load weights by name or path.

    Args:
        name_or_path: as for :func:`locate`; a file is tinyhd's safetensors, an original ``.pth`` or ``.pt`` file, or
            the ``.index`` of a TensorFlow checkpoint.
        decoders: order of the decoders' maps in the fusion, if the file does not state it or is wrong.

    Raises:
        WeightsError: the file is missing, damaged, altered, refused, or of another network.
        UsageError: ``decoders`` does not match the network.
    """
    return open_file(name_or_path).load(decoders=decoders)


def read(content: Content, *, warn: bool = False) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Return the tensors of a safetensors or original file, by tinyhd's names, and their metadata.

    Args:
        content: content of the file; the suffix of its path selects the format.
        warn: warn if an option of the network is assumed, because the tensors do not determine it.
    """
    path = content.path
    with prefix_errors(path):
        if is_safetensors(path):
            state_dict, info = read_safetensors(content.data)
            return check_tensors(state_dict), info
        if is_index(path):
            original = read_tensorflow(content.data, content.data_files, path)
        else:
            original = read_original(content.data, path)
        state_dict = check_tensors(original.state_dict)
        info = known_metadata(content, original.spec)
    unknown_file = info.name == original.spec.name
    ambiguity = family(original.spec).ambiguity(original.spec, path.stem)
    if warn and ambiguity and unknown_file and not original.has_tinyhd_names:
        log.warning("%s: %s", path, ambiguity)
    return state_dict, info


def known_metadata(content: Content, spec: ModelSpec) -> WeightsInfo:
    """Return the metadata of an original file: the registry's by its hash, or by its name (without scores), if any."""
    path, size, digest = content.path, content.size, content.sha256
    for info in registry().values():
        if info.upstream_sha256 == digest:
            return replace(info, spec=spec)
    for info in registry().values():
        same_file = not info.upstream_sha256 and info.upstream_file.lower() == path.name.lower()
        if same_file and info.spec.same_network(spec):
            return replace(info, scores={}, scores_on="", upstream_bytes=size, upstream_sha256=digest)
    return describe(spec, upstream_file=path.name, upstream_bytes=size, upstream_sha256=digest)


def reinterpreted(info: WeightsInfo, options: Mapping[str, Any]) -> WeightsInfo:
    """Return the metadata with other options for the same tensors, without the scores of the original options.

    Raises:
        UsageError: the network has no such option, or the tensors do not fit it.
    """
    spec = family(info.spec).reinterpret(info.spec, options)
    return info if spec == info.spec else replace(info, spec=spec, scores={}, scores_on="")


def inspect(name_or_path: NameOrPath) -> tuple[WeightsInfo, Located | None]:
    """Return the metadata of weights, and their file if it is on this machine. Download nothing.

    The size and sha256 of a path are those of the file, those of a name are the registry's.

    Raises:
        WeightsError: the file is not a valid weights file.
        UsageError: the name is unknown.
    """
    path = as_path(name_or_path)
    if path is None:
        info = find(str(name_or_path))
        return info, find_local(info)
    content = read_content(path)
    if is_safetensors(path):
        with prefix_errors(path):
            info = read_metadata(content.data)
            if matches_digest(content.data) is False:
                raise WeightsError(f"damaged: {WRONG_DIGEST}")
    else:
        info = read(content)[1]
    return replace(info, file="", hub=None, bytes=content.size, sha256=content.sha256), Located(path, None, "file")


def verify(name_or_path: NameOrPath) -> Verdict:
    """Compare a file's sha256 with the registry, or its tensors with the digest in its metadata. Download nothing.

    A path is compared with all known files. It has the wrong hash if it has the name but not the hash of one of them,
    or if its tensors do not match the digest in its metadata.

    Raises:
        WeightsError: the weights are not on this machine, or the file cannot be read.
        UsageError: the name is unknown.
    """
    path = as_path(name_or_path)
    if path is None:
        info = find(str(name_or_path))
        located = find_local(info)
        if located is None:
            raise WeightsError(f"{info.name}: not on this machine; run tinyhd weights pull {info.name}")
        found = sha256_of(read_bytes(located.path))
        if not info.sha256:
            return Verdict(info.name, located.path, found, "unknown hash")
        return Verdict(info.name, located.path, found, "ok" if found == info.sha256 else "wrong hash")

    content = read_content(path)
    found = content.sha256
    hashes = {}
    for info in registry().values():
        if found in (info.sha256, info.upstream_sha256):
            return Verdict(info.name, path, found, "ok")
        hashes[hub.hub_location(info).filename] = info.sha256
        hashes[info.upstream_file] = info.upstream_sha256
    if hashes.get(path.name):
        return Verdict(str(path), path, found, "wrong hash")
    if is_safetensors(path):
        with prefix_errors(path):
            sound = matches_digest(content.data)
    else:
        read(content)  # raises an error if it is not a weights file
        sound = None
    return Verdict(str(path), path, found, "unknown hash" if sound is None else "ok" if sound else "wrong hash")
