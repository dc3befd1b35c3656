"""The registry of named weights, ``weights/registry.toml``. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import UsageError, WeightsError, did_you_mean, one_line
from ..models import ModelSpec, model_names, named_spec
from ..models import from_dict as spec_from_dict
from ..models.registry import family
from ..settings import setting
from ..untrusted import parse_toml, printable, read_document
from . import fields

RENAMED = {"licence": "license", "config": "spec"}
"""Present names of fields, by their names in files of version 0.1."""

IN_SPEC = ("input_size", "mean", "std")
"""Fields of version 0.1 that are now part of the spec; if given, they override its values."""

NOT_STATED = "not stated"
"""The license of weights whose authors state none."""


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face Hub."""

    repo: str
    """``owner/name``, or a name to which the configured owner is prepended."""

    filename: str
    revision: str = "main"


@dataclass(frozen=True)
class WeightsInfo:
    """Description of weights: a registry entry, or the metadata of a weights file."""

    name: str
    spec: ModelSpec
    """The network, with the input size and preprocessing of these weights."""

    parameters: int | None = None
    """Number of trainable parameters."""

    file: str = ""
    """Name of the embedded file; empty if it is not embedded."""

    bytes: int | None = None
    sha256: str = ""
    tensors_sha256: str = ""
    """Digest of only the tensors, in the file's metadata; empty in files of earlier versions."""

    license: str = ""
    origin: str = ""
    """Address of the repository that the weights come from."""

    training_data: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Metric to published value."""

    scores_on: str = ""
    """The data on which the scores were measured, and their source."""

    upstream_file: str = ""
    """Name of the original file."""

    upstream_bytes: int | None = None
    upstream_sha256: str = ""
    hub: HubFile | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Origin of weights from a training run: command, commit, seed, ..."""

    @classmethod
    def from_dict(cls, values: object) -> WeightsInfo:
        """Return the info that :meth:`to_dict` wrote. Fields that a later version may add are ignored.

        Raises:
            WeightsError: a field is missing or invalid.
        """
        try:
            if not isinstance(values, Mapping):
                raise ValueError("it must be a table")
            for former, present in RENAMED.items():
                if former in values and present in values:
                    raise ValueError(f"it has both {former!r} and {present!r}")
            values = {RENAMED.get(name, name): value for name, value in values.items()}
            missing = {"name", "spec"} - values.keys()
            if missing:
                raise ValueError(f"{min(missing)!r} is missing")
            known = {name: field_of(name, values[name]) for name in READERS if name in values}
            parts = {name: known.pop(name) for name in IN_SPEC if name in known}
            spec = with_parts(known.pop("spec"), parts)
            return cls(spec=spec, **known)
        except (UsageError, ValueError) as error:
            raise WeightsError(f"the metadata is invalid: {one_line(error)}") from error

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels."""
        return self.spec.input_size

    def to_dict(self) -> dict[str, Any]:
        """Return the info as plain values, for JSON."""
        return {
            **asdict(self),
            "spec": self.spec.to_dict(),
            "scores": dict(self.scores),
            "provenance": dict(self.provenance),
        }


def with_parts(spec: ModelSpec, parts: Mapping[str, Any]) -> ModelSpec:
    """Return a spec with another ``input_size``, ``mean`` or ``std``; ``UsageError`` if the network cannot have it."""
    steps = replace(spec.preprocess, **{name: value for name, value in parts.items() if name != "input_size"})
    return replace(spec, input_size=parts.get("input_size", spec.input_size), preprocess=steps)


def describe(spec: ModelSpec, **known: Any) -> WeightsInfo:
    """Return the info of a network's weights; ``known`` are other fields, or ``input_size``, ``mean`` and ``std``."""
    spec = with_parts(spec, {name: known.pop(name) for name in IN_SPEC if name in known})
    return WeightsInfo(spec=spec, **{"name": spec.name, **known})


def read_spec(value: object) -> ModelSpec:
    """Return the spec of a metadata field: a table as :func:`tinyhd_cli.models.from_dict` takes it, or a name."""
    spec = spec_from_dict({"name": value} if isinstance(value, str) else value)
    for name, limits in (("mean", fields.MEAN_RANGE), ("std", fields.STD_RANGE)):
        try:
            fields.channels(limits)(getattr(spec.preprocess, name))
        except ValueError as error:
            raise UsageError(f"preprocess: {name} {error}") from None
    return spec


def hub_file(value: object) -> HubFile | None:
    """Return the location of a file on the Hub from a table; None for None."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not {"repo", "filename"} <= value.keys() <= {"repo", "filename", "revision"}:
        raise fields.wrong("a table of repo, filename and revision", value)
    revision = fields.hub_revision(value.get("revision", "main"))
    return HubFile(fields.hub_repo(value["repo"]), fields.filename(value["filename"]), revision)


READERS: dict[str, Callable[[object], Any]] = {
    "name": fields.title,
    "spec": read_spec,
    "input_size": fields.pair,
    "mean": fields.channels(fields.MEAN_RANGE),
    "std": fields.channels(fields.STD_RANGE),
    "parameters": fields.optional_count,
    "file": fields.filename,
    "bytes": fields.optional_count,
    "sha256": fields.sha256,
    "tensors_sha256": fields.sha256,
    "license": fields.text,
    "origin": fields.text,
    "training_data": fields.text,
    "scores": fields.table(fields.number),
    "scores_on": fields.text,
    "upstream_file": fields.text,
    "upstream_bytes": fields.optional_count,
    "upstream_sha256": fields.sha256,
    "hub": hub_file,
    "provenance": fields.table(fields.text),
}
"""Reader of each field of :class:`WeightsInfo` and of ``IN_SPEC``; each raises an error for an invalid value."""


def field_of(name: str, value: object) -> Any:
    """Return the value of a field; ``ValueError``, starting with the field's name, if it is invalid."""
    try:
        return READERS[name](value)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


@contextmanager
def prefix_errors(subject: object) -> Iterator[None]:
    """Prefix the message of a ``WeightsError`` with its subject, such as a path."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{subject}: {error}") from error


def registry_path() -> Path:
    """Return the path of the registry: ``$TINYHD_REGISTRY``, else in the package, else in the source checkout.

    Embedded weights files are in the same folder.
    """
    if override := os.environ.get("TINYHD_REGISTRY"):
        return Path(override)
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "embedded", package.parent / "weights"):
        if (folder / "registry.toml").is_file():
            return folder / "registry.toml"
    raise WeightsError(f"{package / 'embedded' / 'registry.toml'} is missing; reinstall tinyhd")


def card(info: WeightsInfo) -> str:
    """Return the model card ``NAME.md`` next to an embedded file; empty if the file has none."""
    path = registry_path().parent / f"{Path(info.file).stem}.md"
    if not info.file or not path.is_file():
        return ""
    try:
        return "".join(f"{printable(line)}\n" for line in read_document(path).splitlines())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {one_line(error)}") from error


def read_registry() -> dict[str, Any]:
    """Return the raw content of the registry."""
    path = registry_path()
    try:
        return parse_toml(read_document(path))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not a TOML file: {one_line(error)}") from error


def registry() -> dict[str, WeightsInfo]:
    """Return the named weights, in the registry's order.

    Raises:
        WeightsError: the registry is missing or malformed.
    """
    values = read_registry()
    defaults, weights = values.get("defaults", {}), values.get("weights", {})
    if not isinstance(defaults, dict) or not isinstance(weights, dict):
        raise WeightsError(f"{registry_path()}: defaults and weights must be tables")
    entries = {}
    for name, entry in weights.items():
        with prefix_errors(f"{registry_path()}: {printable(name)}"):
            if not isinstance(entry, dict):
                raise WeightsError("the metadata is invalid: it must be a table")
            hub = entry.get("hub", {})
            place = {"repo": name, "filename": f"{name}.safetensors"} | hub if isinstance(hub, dict) else hub
            entries[name] = WeightsInfo.from_dict({**defaults, **entry, "name": name, "hub": place})
    return entries


def default_name() -> str:
    """Return the name or file of the default weights.

    It is the setting ``model`` (``TINYHD_MODEL``, or in ``tinyhd.toml``), else the default of the registry.
    """
    if chosen := setting("model", ""):
        return chosen
    name = read_registry().get("default")
    if not isinstance(name, str):
        raise WeightsError(f"{registry_path()}: the default weights are missing")
    return name


def find(name: str) -> WeightsInfo:
    """Return the registry entry with a name; the name of a model stands for its first entry.

    Raises:
        UsageError: the name is unknown.
    """
    entries = registry()
    if name in entries:
        return entries[name]
    for info in entries.values():
        if info.spec.name == name:
            return info
    if name in model_names():
        family(named_spec(name)).check_installed()
        raise UsageError(f"no registered weights of the network {name!r}: name a weights file with --weights")
    known = {*entries, *(info.spec.name for info in entries.values())}
    raise UsageError(f"unknown model {name!r}, and no such file: {did_you_mean(name, known)}")
