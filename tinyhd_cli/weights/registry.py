"""What is known of weights without opening them: the registry, ``weights/registry.toml``. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UsageError, WeightsError, did_you_mean, one_line
from ..models.spec import INPUT_HEIGHT, INPUT_WIDTH, HD2SConfig, ModelConfig, TinyHDConfig, from_dict, to_dict
from ..settings import setting
from ..untrusted import parse_toml, printable, read_document
from . import fields

# Mean and standard deviation of RGB / 255.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # 2 x / 255 - 1

RENAMED = {"licence": "license"}
"""Fields by the names that files of earlier versions use."""

NOT_STATED = "not stated"
"""The license of weights whose authors name none."""


@dataclass(frozen=True)
class HubFile:
    """A file on the Hugging Face Hub."""

    repo: str
    """``owner/name``, or a name that gets the configured owner put in front."""

    filename: str
    revision: str = "main"


@dataclass(frozen=True)
class WeightsInfo:
    """What is known of weights: a registry entry, or what a weight file says of itself."""

    name: str
    config: ModelConfig

    input_size: tuple[int, int] = (INPUT_HEIGHT, INPUT_WIDTH)
    """Height and width of the network's input, pixels."""

    mean: tuple[float, ...] = IMAGENET[0]
    """Subtracted from RGB / 255."""

    std: tuple[float, ...] = IMAGENET[1]
    """What the difference is divided by."""

    parameters: int | None = None
    """Trainable numbers in the network."""

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
    """The data of the scores, and who published them."""

    upstream_file: str = ""
    """Name of the original file."""

    upstream_bytes: int | None = None
    upstream_sha256: str = ""
    hub: HubFile | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    """How a training run made them: command, commit, seed, ..."""

    @classmethod
    def from_dict(cls, values: object) -> WeightsInfo:
        """The info that :meth:`to_dict` wrote. Fields that a later version may add are ignored.

        Raises:
            WeightsError: a field is missing or invalid.
        """
        try:
            if not isinstance(values, Mapping):
                raise ValueError("it must be a table")
            values = {RENAMED.get(name, name): value for name, value in values.items()}
            missing = {"name", "config"} - values.keys()
            if missing:
                raise ValueError(f"{min(missing)!r} is missing")
            info = cls(**{name: field_of(name, values[name]) for name in READERS if name in values})
            info.config.check_size(info.input_size)
            return info
        except (UsageError, ValueError) as error:
            raise WeightsError(f"not a description of weights: {one_line(error)}") from error

    def to_dict(self) -> dict[str, Any]:
        """The info as plain values, for JSON."""
        return {
            **asdict(self),
            "config": to_dict(self.config),
            "scores": dict(self.scores),
            "provenance": dict(self.provenance),
        }


def describe(config: ModelConfig, **known: Any) -> WeightsInfo:
    """The info of a network's weights, with the input that this kind of network takes; ``known`` fields win."""
    mean, std = HALVES if isinstance(config, HD2SConfig) else IMAGENET
    values: dict[str, Any] = {"name": config.name, "mean": mean, "std": std}
    return WeightsInfo(config=config, **(values | known))


def network_name(config: ModelConfig) -> str:
    """The network with the order in which it fuses its decoders, for people: ``tinyhd-m (d2, d3, d1)``."""
    return f"{config.name} ({', '.join(config.decoders)})" if isinstance(config, TinyHDConfig) else config.name


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
    "config": from_dict,
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
"""Reader of each field of :class:`WeightsInfo`; each raises ``ValueError`` for an invalid value."""


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
    """The registry: ``$TINYHD_REGISTRY``, else the one in the package, else the one in the source checkout.

    Embedded weight files are in the folder of the registry.
    """
    if override := os.environ.get("TINYHD_REGISTRY"):
        return Path(override)
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "embedded", package.parent / "weights"):
        if (folder / "registry.toml").is_file():
            return folder / "registry.toml"
    raise WeightsError(f"{package / 'embedded' / 'registry.toml'} is missing: install tinyhd again")


def card(info: WeightsInfo) -> str:
    """The model card that stands beside an embedded file, ``NAME.md``; empty if there is none."""
    path = registry_path().parent / f"{Path(info.file).stem}.md"
    if not info.file or not path.is_file():
        return ""
    try:
        return "".join(f"{printable(line)}\n" for line in read_document(path).splitlines())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {one_line(error)}") from error


def read_registry() -> dict[str, Any]:
    """The registry as it is in the file."""
    path = registry_path()
    try:
        return parse_toml(read_document(path))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not a TOML file: {one_line(error)}") from error


def registry() -> dict[str, WeightsInfo]:
    """The known weights by name, in the registry's order.

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
                raise WeightsError("not a description of weights: it must be a table")
            hub = entry.get("hub", {})
            place = {"repo": name, "filename": f"{name}.safetensors"} | hub if isinstance(hub, dict) else hub
            entries[name] = WeightsInfo.from_dict({**defaults, **entry, "name": name, "hub": place})
    return entries


def default_name() -> str:
    """The name, or the file, of the weights that are used when none are named.

    The setting ``model`` (``TINYHD_MODEL``, or in ``tinyhd.toml``), else what the registry says.
    """
    if chosen := setting("model", ""):
        return chosen
    name = read_registry().get("default")
    if not isinstance(name, str):
        raise WeightsError(f"{registry_path()}: names no default weights")
    return name


def find(name: str) -> WeightsInfo:
    """The registry entry of a name; a bare architecture means its first entry.

    Raises:
        UsageError: the name is unknown.
    """
    entries = registry()
    if name in entries:
        return entries[name]
    for info in entries.values():
        if info.config.name == name:
            return info
    known = {*entries, *(info.config.name for info in entries.values())}
    raise UsageError(f"unknown model {name!r}, and no such file: {did_you_mean(name, known)}")
