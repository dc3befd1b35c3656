"""What is known of weights without opening them: the registry, ``weights/registry.toml``. Imports no torch."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import UsageError, WeightsError, did_you_mean, one_line
from ..models.config import INPUT_HEIGHT, INPUT_WIDTH, HD2SConfig, ModelConfig, TinyHDConfig, from_dict, to_dict
from ..settings import setting

# Mean and standard deviation of RGB / 255.
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # 2 x / 255 - 1

NOT_STATED = "not stated"
"""The licence of weights whose authors name none."""


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
    licence: str = ""
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
    def from_dict(cls, values: Mapping[str, Any]) -> WeightsInfo:
        """The info that :meth:`to_dict` wrote. Fields that a later version may add are ignored.

        Raises:
            WeightsError: it is none.
        """
        known = {name.name for name in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        try:
            kept["config"] = from_dict(kept["config"])
            for name, kind, count in (("input_size", int, 2), ("mean", float, 3), ("std", float, 3)):
                if name in kept:
                    kept[name] = tuple(kind(value) for value in kept[name])
                    if len(kept[name]) != count or (name != "mean" and min(kept[name]) <= 0):
                        raise ValueError(f"{name} must be {count} numbers, not {kept[name]}")
            kept["scores"] = {str(metric): float(score) for metric, score in kept.get("scores", {}).items()}
            kept["provenance"] = {str(what): str(value) for what, value in kept.get("provenance", {}).items()}
            if kept.get("hub"):
                kept["hub"] = HubFile(**kept["hub"])
            return cls(**kept)
        except KeyError as error:
            raise WeightsError(f"not a description of weights: no {error}") from error
        except (UsageError, TypeError, ValueError, AttributeError) as error:
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


@contextmanager
def about(what: object) -> Iterator[None]:
    """Put what a ``WeightsError`` is about in front of its message."""
    try:
        yield
    except WeightsError as error:
        raise WeightsError(f"{what}: {error}") from error


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
    return path.read_text(encoding="utf-8") if info.file and path.is_file() else ""


def read_registry() -> dict[str, Any]:
    """The registry as it is in the file."""
    path = registry_path()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not a TOML file: {error}") from error


def registry() -> dict[str, WeightsInfo]:
    """The known weights by name, in the registry's order.

    Raises:
        WeightsError: the registry is missing or malformed.
    """
    values = read_registry()
    defaults = values.get("defaults", {})
    entries = {}
    for name, entry in values.get("weights", {}).items():
        place = {"repo": name, "filename": f"{name}.safetensors"} | entry.get("hub", {})
        with about(f"{registry_path()}: {name}"):
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
