"""Finding weights by name or by file, checking, loading, converting and sharing them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import UsageError, WeightsError
from ..models.spec import ModelConfig, TinyHDConfig
from . import hub
from .file import (
    NOT_IN_FILE,
    ORIGINAL_SUFFIXES,
    SUFFIX,
    WRONG_DIGEST,
    checked,
    has_its_digest,
    is_ours,
    read_bytes,
    read_metadata,
    read_safetensors,
    save,
    sha256_of,
)
from .original import read_original
from .registry import (
    NOT_STATED,
    WeightsInfo,
    about,
    describe,
    find,
    network_name,
    registry,
    registry_path,
)

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("tinyhd")

NameOrPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Located:
    """A weight file on this machine."""

    path: Path
    info: WeightsInfo | None
    """The registry entry that it was found by; None if it was named by its path."""

    source: Literal["file", "embedded", "cache", "Hub"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights that fit their network: no tensor is missing, unknown or of another shape. All fractions are float32."""

    config: ModelConfig
    state_dict: dict[str, Tensor]
    info: WeightsInfo
    """Its size and sha256 are those of the file that was read."""


@dataclass(frozen=True)
class Verdict:
    """Whether a file is the one that the registry knows."""

    name: str
    """The registry's name for it, or its path."""

    path: Path
    sha256: str
    state: Literal["ok", "wrong hash", "unknown hash"]


# ---------------------------------------------------------------------------------------------------------- locating


def as_path(name_or_path: NameOrPath) -> Path | None:
    """The local file that is meant, or None if a name is meant.

    Raises:
        WeightsError: a file is meant and it is not there.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    looks_like_one = isinstance(name_or_path, str) and (
        any(separator in name_or_path for separator in "/\\") or path.suffix.lower() in (SUFFIX, *ORIGINAL_SUFFIXES)
    )
    if looks_like_one or not isinstance(name_or_path, str):
        raise WeightsError(f"{path}: a folder, not a weight file" if path.is_dir() else f"{path}: no such file")
    return None


def find_local(info: WeightsInfo) -> Located | None:
    """Where known weights are on this machine: embedded or in the Hub's cache. Never asks the network."""
    embedded = registry_path().parent / info.file
    if info.file and embedded.is_file():
        return Located(embedded, info, "embedded")
    cached = hub.cached(info)
    return Located(cached, info, "cache") if cached else None


def local_weights() -> list[Located]:
    """All known weights that are on this machine."""
    return [located for info in registry().values() if (located := find_local(info))]


def locate(name_or_path: NameOrPath) -> Located:
    """Find a weight file: a local path, else embedded, else in the Hub's cache, else on the Hub (downloads it).

    Args:
        name_or_path: a registry name, a bare architecture, or a path (anything with a separator or a known suffix).

    Raises:
        WeightsError: there is no such file, or the Hub does not give it.
        UsageError: the name is unknown.
    """
    path = as_path(name_or_path)
    if path is not None:
        return Located(path, None, "file")
    info = find(str(name_or_path))
    return find_local(info) or Located(hub.download(info), info, "Hub")


def check(located: Located, data: bytes) -> None:
    """Raise ``WeightsError`` if a file that was found by its name has another hash or network than known."""
    info, path = located.info, located.path
    if info is None:
        return
    found = sha256_of(data)
    if info.sha256 and found != info.sha256:
        again = f"run tinyhd weights pull {info.name} --force"
        mend = "install tinyhd again" if located.source == "embedded" else again
        raise WeightsError(f"{path}: damaged or altered: sha256 {found}, expected {info.sha256}; {mend}")
    with about(path):
        config = read_metadata(data).config
        if config != info.config:
            raise WeightsError(f"holds {network_name(config)}; {info.name} is {network_name(info.config)}")
        if not info.sha256 and has_its_digest(data) is False:
            raise WeightsError(f"damaged: {WRONG_DIGEST}")


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
            raise WeightsError(f"{info.name}: not on this machine: run tinyhd weights pull {info.name}")
        found = sha256_of(read_bytes(located.path))
        if not info.sha256:
            return Verdict(info.name, located.path, found, "unknown hash")
        return Verdict(info.name, located.path, found, "ok" if found == info.sha256 else "wrong hash")

    data = read_bytes(path)
    found = sha256_of(data)
    hashes = {}
    for info in registry().values():
        if found in (info.sha256, info.upstream_sha256):
            return Verdict(info.name, path, found, "ok")
        hashes[hub.place(info).filename] = info.sha256
        hashes[info.upstream_file] = info.upstream_sha256
    if hashes.get(path.name):
        return Verdict(str(path), path, found, "wrong hash")
    with about(path):
        if is_ours(path):
            sound = has_its_digest(data)
        else:
            read(data, path)  # raises an error if it is no weights file at all
            sound = None
    return Verdict(str(path), path, found, "unknown hash" if sound is None else "ok" if sound else "wrong hash")


# ----------------------------------------------------------------------------------------------------------- reading


def load(name_or_path: NameOrPath, *, decoders: Iterable[str] | None = None) -> Checkpoint:
    """Read weights, from wherever they are.

    Args:
        name_or_path: as for :func:`locate`; a safetensors file of ours, or an original ``.pth`` or ``.pt`` file.
        decoders: order in which the fusion sees the decoders' maps, where the file does not say or says it wrongly.

    Raises:
        WeightsError: the file is missing, damaged, altered, refused, or of another network.
        UsageError: ``decoders`` does not fit the network.
    """
    located = locate(name_or_path)
    data = read_bytes(located.path)
    check(located, data)
    state_dict, info = read(data, located.path, warn=decoders is None)
    info = replace(located.info or info, bytes=len(data), sha256=sha256_of(data))
    if decoders is not None:
        info = with_decoders(info, tuple(decoders))
    return Checkpoint(info.config, state_dict, info)


def read(data: bytes, path: Path, *, warn: bool = False) -> tuple[dict[str, Tensor], WeightsInfo]:
    """The tensors of either kind of file, by our names, and what is known of them."""
    with about(path):
        if is_ours(path):
            state_dict, info = read_safetensors(data)
            return checked(state_dict), info
        original = read_original(data, path)
        state_dict = checked(original.state_dict)
        info = WeightsInfo.from_dict({**recognized(data, path, original.config).to_dict(), **original.known})
    config = original.config
    if warn and not original.by_our_names and config.name == info.name == "tinyhd-m":
        assert isinstance(config, TinyHDConfig)
        order = ",".join(config.decoders)
        log.warning("%s: its shapes do not tell the fusion order; %s assumed (see --decoders)", path, order)
    return state_dict, info


def recognized(data: bytes, path: Path, config: ModelConfig) -> WeightsInfo:
    """What the registry knows of an original file: by its hash, else, but for the scores, by its name."""
    size, digest = len(data), sha256_of(data)
    for info in registry().values():
        if info.upstream_sha256 == digest:
            return replace(info, config=config)
    for info in registry().values():
        if not info.upstream_sha256 and info.upstream_file.lower() == path.name.lower() and info.config == config:
            return replace(info, scores={}, scores_on="", upstream_bytes=size, upstream_sha256=digest)
    return describe(config, upstream_file=path.name, upstream_bytes=size, upstream_sha256=digest)


def with_decoders(info: WeightsInfo, decoders: tuple[str, ...]) -> WeightsInfo:
    """The info with another fusion order; scores belong to the order that they were measured with."""
    config = info.config
    if not isinstance(config, TinyHDConfig):
        raise UsageError(f"--decoders is for TinyHD: {config.name} has no choice of decoders")
    if sorted(decoders) != sorted(config.decoders):
        wanted = ",".join(sorted(config.decoders))
        raise UsageError(f"--decoders must be {wanted} in some order, not {','.join(decoders)}")
    if decoders == config.decoders:
        return info
    return replace(info, config=replace(config, decoders=decoders), scores={}, scores_on="")


def inspect(name_or_path: NameOrPath) -> tuple[WeightsInfo, Located | None]:
    """What is known of weights, and where they are if they are on this machine. Downloads nothing.

    Of a file, size and sha256 are the file's own; of a name, the registry's.

    Raises:
        WeightsError: the file is none of weights.
        UsageError: the name is unknown.
    """
    path = as_path(name_or_path)
    if path is None:
        info = find(str(name_or_path))
        return info, find_local(info)
    data = read_bytes(path)
    with about(path):
        if is_ours(path):
            info = read_metadata(data)
            if has_its_digest(data) is False:
                raise WeightsError(f"damaged: {WRONG_DIGEST}")
        else:
            info = read(data, path)[1]
    return replace(info, file="", hub=None, bytes=len(data), sha256=sha256_of(data)), Located(path, None, "file")


# --------------------------------------------------------------------------------------------- converting and sharing


def convert(
    source: NameOrPath,
    target: str | os.PathLike[str],
    *,
    decoders: Iterable[str] | None = None,
    name: str | None = None,
) -> WeightsInfo:
    """Write weights, as a rule those of an original file, as a safetensors file of ours.

    Args:
        source: as for :func:`load`.
        target: the file to write; ends in ``.safetensors``.
        decoders: as for :func:`load`.
        name: what the weights are called in the file; default what the registry calls them, else their network's name.

    Raises:
        WeightsError, UsageError, OutputError: as :func:`load` and :func:`save`.
    """
    checkpoint = load(source, decoders=decoders)
    known: dict[str, Any] = {field: value for field, value in vars(checkpoint.info).items() if field not in NOT_IN_FILE}
    del known["config"]
    return save(target, checkpoint.state_dict, checkpoint.config, **(known | ({"name": name} if name else {})))


def pull(name: str, *, force: bool = False) -> Path:
    """Bring known weights onto this machine and check them.

    Args:
        name: a registry name or a bare architecture.
        force: download again what is in the cache. Embedded weights are never downloaded.

    Raises:
        WeightsError: the Hub does not give them, or the file is not the one expected.
        UsageError: the name is unknown.
    """
    info = find(name)
    located = find_local(info)
    if located is None or (force and located.source == "cache"):
        located = Located(hub.download(info, force=force), info, "Hub")
    check(located, read_bytes(located.path))
    return located.path


def push(
    path: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Publish a weight file on the Hub, with a model card made from what the file says of itself.

    Args:
        path: a safetensors file that :func:`save` or :func:`convert` wrote.
        repo_id: ``owner/name``; made if it does not exist. Without an owner it is the token's owner's.
        private: make a new repository private.
        revision: branch to commit to; made if it does not exist. Default: main.
        token: access token; default the one of ``HF_TOKEN`` or ``hf auth login``.

    Returns:
        The repository's address.

    Raises:
        UsageError: it is an original file.
        WeightsError: the file is not sound, or the Hub refuses it.
    """
    path = Path(path).expanduser()
    if not is_ours(path):
        raise UsageError(f"{path}: convert it first: tinyhd weights convert {path} -o {path.stem}{SUFFIX}")
    info = load(path).info
    if info.license in ("", NOT_STATED):
        log.warning("%s: its license is not stated: publish it only if its authors let you", path)
    return hub.publish(path, info, repo_id, private=private, revision=revision, token=token)
