"""Network names and how to build them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, did_you_mean
from .spec import HD2SConfig, ModelConfig, TinyHDConfig

if TYPE_CHECKING:
    from .families.hd2s import HD2S
    from .families.tinyhd import TinyHD

CONFIGS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        TinyHDConfig("multi", "full"),
        TinyHDConfig("multi", "half"),
        TinyHDConfig("multi", "quarter"),
        TinyHDConfig("single", "full"),
        TinyHDConfig("single", "half"),
        TinyHDConfig("single", "quarter"),
        HD2SConfig(),
    )
}


def config(name: str, **overrides: Any) -> ModelConfig:
    """The configuration of a named network, with fields changed by ``overrides``; ``UsageError`` if there is none."""
    if name not in CONFIGS:
        raise UsageError(f"unknown model {name!r}: {did_you_mean(name, CONFIGS)}")
    try:
        return replace(CONFIGS[name], **overrides)
    except TypeError as error:
        raise UsageError(f"{name}: {error}") from None


def build(config: ModelConfig) -> TinyHD | HD2S:
    """The network of a configuration, with fresh weights, in training mode."""
    if isinstance(config, HD2SConfig):
        from .families.hd2s import HD2S

        return HD2S(config)
    from .families.tinyhd import TinyHD

    return TinyHD(config)


def create(name: str, **overrides: Any) -> TinyHD | HD2S:
    """The named network with fresh weights, e.g. ``create("tinyhd-s", decoders=("d1", "d1"))``.

    Names: ``tinyhd-m``, ``tinyhd-m-half``, ``tinyhd-m-quarter``, the same with ``s``, and ``hd2s``.

    Raises:
        UsageError: the name or an override is unknown.
    """
    return build(config(name, **overrides))
