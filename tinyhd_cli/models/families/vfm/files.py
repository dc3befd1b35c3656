"""The files of a backbone: in a folder, or in a repository of the Hugging Face Hub. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .... import hub
from ....errors import UsageError, WeightsError, one_line
from ....untrusted import parse_json, parse_yaml, printable, read_document
from ...spec import Triple
from .adapters import Facts, read_facts, read_normalization

CONFIG = "config.json"
PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
INDEX = "model.safetensors.index.json"
SINGLE = ("model.safetensors", "pytorch_model.bin")
"""Weights in one file; the second is read without running code."""

ADAPTER = "adapter_config.json"
"""File of a LoRA that transformers would add to the weights."""

VOLATILE = {
    *("architectures", "attn_implementation", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    *("finetuning_task", "id2label", "label2id", "num_labels", "problem_type"),
}
"""Fields of a configuration that do not change features; nor do those whose names start with an underscore."""

SHA256 = r"[0-9a-f]{64}"
REPOSITORY = r"\w[\w.-]*/\w[\w.-]*"
"""Pattern of the names of repositories of the Hub."""

BRANCH = "main"
"""Default branch of repositories."""

CARD = "README.md"
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Folder:
    """A backbone in a folder, as ``save_pretrained`` of transformers writes it."""

    path: Path
    revision: str = ""

    @property
    def name(self) -> str:
        """Its name in a spec."""
        return str(self.path)

    @property
    def subject(self) -> str:
        """The backbone, for messages."""
        return f"backbone {self.path}"

    is_folder = True
    repair = "restore it"
    """Advice for a damaged file."""

    def find(self, name: str) -> Path | None:
        """Return a file; None if the folder lacks it."""
        path = self.path / name
        return path if path.is_file() else None

    def sha256(self, name: str) -> str:
        """Return the digest of a file; empty if the folder lacks it."""
        path = self.find(name)
        return file_sha256(path) if path else ""

    def pinned(self) -> Folder:
        """Return the same folder: it has no revisions."""
        return self


@dataclass(frozen=True)
class Repository:
    """A backbone in a repository of the Hub; its files are downloaded once into the Hub's local cache."""

    name: str
    """Its name in a spec: ``owner/name``."""
    revision: str
    """A branch, a tag or a commit."""

    @property
    def subject(self) -> str:
        """The backbone, for messages."""
        at = "" if self.revision == BRANCH else f" at {self.revision[:12]}"
        return f"backbone {self.name}{at}"

    is_folder = False
    repair = "delete it and run the command again"
    """Advice for a damaged file."""

    @property
    def absent(self) -> str:
        """The message for a repository or revision that the Hub does not have."""
        return (
            f"the Hub has no public repository {self.name} with the revision {printable(self.revision)}; check "
            f"--backbone and --revision (if it is private: {hub.LOG_IN})"
        )

    def find(self, name: str) -> Path | None:
        """Return a file, downloaded if necessary; None if the repository lacks it."""
        with hub.one_line_errors(self.subject, self.absent):
            return hub.find(self.name, name, self.revision)

    def sha256(self, name: str) -> str:
        """Return the digest of a file that the Hub states, without a download; empty if the repository lacks it."""
        with hub.one_line_errors(self.subject, self.absent):
            if cached := hub.cached(self.name, name, self.revision):
                stored = cached.resolve().name  # the cache names files of Git LFS by their digest
                return stored if re.fullmatch(SHA256, stored) else file_sha256(cached)
            if not (stated := hub.stated_hash(self.name, name, self.revision)):
                return ""
        if re.fullmatch(SHA256, stated):
            return stated
        path = self.find(name)
        return file_sha256(path) if path else ""

    def pinned(self) -> Repository:
        """Return the repository with the commit instead of a branch or tag."""
        config = self.find(CONFIG)
        return Repository(self.name, config.parent.name) if config else self


Files = Folder | Repository


def files_of(backbone: str, revision: str) -> Files:
    """Return the files of a backbone.

    Args:
        backbone: a folder, or a repository of the Hub as ``owner/name``.
        revision: branch, tag or commit of the repository.

    Raises:
        UsageError: neither is possible.
    """
    path = Path(backbone).expanduser()
    if path.is_dir():
        return Folder(path.resolve())
    if path.is_absolute() or not re.fullmatch(REPOSITORY, backbone):
        raise UsageError(
            f"--backbone {printable(backbone)}: no such folder, and not a repository of the Hub (owner/name)"
        )
    return Repository(backbone, revision or BRANCH)


@dataclass(frozen=True)
class Backbone:
    """A backbone whose configuration was read."""

    files: Files
    facts: Facts
    config: Path
    sha256: str
    """Digest of the weights: of the file, or of the digests of several files."""

    weights: tuple[str, ...]
    """Names of the files of the weights."""

    config_sha256: str
    """Digest of the configuration, without its volatile fields."""

    @functools.cached_property
    def normalization(self) -> tuple[Triple, Triple]:
        """Mean and standard deviation of RGB / 255 in the clips that the backbone was trained on."""
        for name in PREPROCESSORS:
            if path := self.files.find(name):
                return read_normalization(read_json(path, self.files.subject), self.facts)
        return read_normalization(None, self.facts)

    def license(self) -> str:
        """Return the license in the model card."""
        card = self.files.find(CARD)
        try:
            match = re.match(r"---\s*\n(.*?)\n---", read_document(card), re.DOTALL) if card else None
            values = parse_yaml(match[1]) if match else {}
        except (OSError, ValueError):
            values = {}
        named = values.get("license") if isinstance(values, dict) else None
        if named == "other" and isinstance(values.get("license_name"), str):
            named = values["license_name"]
        return printable(named) if isinstance(named, str) and named else NOT_STATED

    def checked(self) -> list[Path]:
        """Return the files with the weights, downloaded if necessary and checked.

        Raises:
            WeightsError: a file is missing, or its content differs from the digest.
        """
        found = [self.files.find(name) for name in self.weights]
        paths = [path for path in found if path]
        if len(paths) < len(found) or joined([file_sha256(path) for path in paths]) != self.sha256:
            wrong = next(iter(paths), self.config)
            problem = f"{wrong} is damaged or altered (its sha256 is wrong)"
            raise WeightsError(f"{self.files.subject}: {problem}; {self.files.repair}")
        return paths


@functools.cache
def find_backbone(backbone: str, revision: str) -> Backbone:
    """Return a backbone; of its files, only small ones are downloaded. The result is remembered.

    Args:
        backbone: a folder, or a repository of the Hub.
        revision: branch, tag or commit of the repository.

    Raises:
        UsageError: the name is invalid.
        WeightsError: the files cannot be found, or are not those of a video model.
    """
    files = files_of(backbone, revision)
    config = files.find(CONFIG)
    if config is None:
        raise WeightsError(f"{files.subject}: has no {CONFIG}, so it is not a model of transformers")
    values = read_json(config, files.subject)
    facts = read_facts(values, files.subject)
    if (config.parent / ADAPTER).exists():
        merge = "merge it into the weights first (merge_and_unload of peft), or remove the file"
        raise WeightsError(f"{files.subject}: contains a PEFT adapter ({ADAPTER}); {merge}")
    files = files.pinned()
    names = weights_of(files)
    sha256 = joined([files.sha256(name) for name in names])
    return Backbone(files, facts, config, sha256, names, config_digest(values))


def config_digest(config: object) -> str:
    """Return the digest of a configuration; the order of its fields and the volatile ones do not matter."""
    return hashlib.sha256(json.dumps(lasting(config), sort_keys=True).encode()).hexdigest()


def lasting(value: object) -> object:
    """Return a JSON value without volatile fields at any depth."""
    if isinstance(value, dict):
        return {name: lasting(one) for name, one in value.items() if name not in VOLATILE and not name.startswith("_")}
    return value


def weights_of(files: Files) -> tuple[str, ...]:
    """Return the names of the files with the weights of a backbone; ``WeightsError`` if there are none."""
    for name in SINGLE[:1]:
        if files.sha256(name):
            return (name,)
    if index := files.find(INDEX):
        values = read_json(index, files.subject)
        table = values.get("weight_map") if isinstance(values, dict) else None
        names = sorted(set(table.values())) if isinstance(table, dict) else []
        if names and all(isinstance(name, str) and re.fullmatch(r"[\w.-]+\.safetensors", name) for name in names):
            return tuple(names)
        raise WeightsError(f"{files.subject}: {INDEX} is damaged")
    if files.sha256(SINGLE[1]):
        return SINGLE[1:]
    raise WeightsError(f"{files.subject}: has no weights ({SINGLE[0]})")


def read_json(path: Path, subject: str) -> Any:
    """Return the content of a JSON file; ``WeightsError`` if it is damaged."""
    try:
        return parse_json(read_document(path))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{subject}: {path} cannot be read: {one_line(error)}") from error


def joined(digests: list[str]) -> str:
    """Return the digest of several files from theirs; of a single file, its own."""
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the digest of a file; it is computed again only if the file has changed."""
    try:
        state = path.stat()
        return digest(path.resolve(), state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or one_line(error)}") from error


@functools.cache
def digest(path: Path, size: int, mtime_ns: int) -> str:
    """Return the digest of a file's content; size and time only identify the content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
