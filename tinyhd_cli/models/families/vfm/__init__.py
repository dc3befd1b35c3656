"""Saliency from video foundation models: a pretrained model of Hugging Face transformers, and SalFoM's decoder on it.

The pretrained model, the *backbone*, is frozen, or adapted with LoRA. Weights files contain the decoder and the LoRA;
their spec names the backbone, its revision, and the digest of its weights.

Source: Moradi et al., "SalFoM: Dynamic Saliency Prediction with Video Foundation Models", ICPR 2024.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import UsageError, WeightsError
from ....settings import expanded, setting
from ...family import KL_CC_TERMS, Family, Flag
from ...spec import MAX_CLIP_FRAMES, ModelSpec, Preprocess, is_count, shown
from .files import BRANCH, NOT_STATED, REPOSITORY, SHA256, Backbone, find_backbone

if TYPE_CHECKING:
    from .network import FoundationNetwork

PACKAGES = ("transformers", "peft")

DEFAULT_BACKBONE = "facebook/vjepa2-vitl-fpc64-256"

LIMITS = {
    "frames": (0, MAX_CLIP_FRAMES),
    "lora_rank": (0, 512),
    "lora_alpha": (1, 4096),
    "decoder_width": (128, 1024),
}
"""Smallest and largest values of options that are numbers."""

PATTERNS = {
    "backbone": r"[^\x00]{1,1000}",
    "revision": r"[\w./-]{0,200}",
    "sha256": rf"({SHA256})?",
    "config_sha256": rf"({SHA256})?",
}
"""Patterns of options that are texts."""

MAX_SIDE = 1024
"""Largest side, in pixels, of clips for backbones that read any size."""


class FoundationFamily(Family):
    """Networks on a pretrained video model."""

    name = "vfm"
    paper = "Moradi et al., ICPR 2024 (SalFoM's decoder)"
    specs = (
        ModelSpec(
            name="vfm",
            family="vfm",
            clip_frames=32,
            input_size=(256, 256),
            size_multiple=16,
            side_limits=(32, MAX_SIDE),
            options={
                "backbone": DEFAULT_BACKBONE,
                "revision": BRANCH,  # of a resolved spec: a commit; empty for a folder
                "sha256": "",  # digest of the backbone's weights
                "config_sha256": "",  # digest of its configuration
                "frames": 0,  # 0: as many as the backbone reads
                "lora_rank": 8,
                "lora_alpha": 16,
                "decoder_width": 512,
            },
        ),
    )
    flags = (
        Flag("backbone", "ID|DIR", "Pretrained video model: a repository of the Hugging Face Hub, or a folder."),
        Flag("revision", "REVISION", "Branch, tag or commit of the backbone's repository."),
        Flag("lora_rank", "N", "Rank of the LoRA in the backbone's attention; 0: the backbone is not changed."),
        Flag("lora_alpha", "N", "Scale of the LoRA, relative to its rank."),
    )
    terms = KL_CC_TERMS
    features = "backbone"
    pretrained = True

    def title(self, spec: ModelSpec) -> str:
        backbone, revision, sha256 = (spec.options[name] for name in ("backbone", "revision", "sha256"))
        version = (revision or sha256)[:7]  # folders of the same name may contain other weights
        return f"vfm ({backbone}{f', {version}' if version else ''})"

    def check_installed(self) -> None:
        if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
            raise UsageError(f"the network vfm needs {' and '.join(missing)}: pip install 'tinyhd[vfm]'")

    def configure(self, spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
        result = super().configure(spec, options)
        for name, (least, most) in LIMITS.items():
            value = result.options[name]
            if not is_count(value) or not least <= value <= most:
                raise UsageError(f"--set {name}={shown(value)}: must be a whole number from {least} to {most}")
        for name, pattern in PATTERNS.items():
            value = result.options[name]
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise UsageError(f"--set {name}={shown(value)}: is not valid")
        if result.options["decoder_width"] % 32:
            raise UsageError(f"--set decoder_width={result.options['decoder_width']}: must be a multiple of 32")
        return result

    def resolve(self, spec: ModelSpec) -> ModelSpec:
        self.check_installed()
        backbone, options = matching(spec), dict(spec.options)
        facts = backbone.facts
        frames = options["frames"] or facts.clip_frames
        if frames % facts.tubelet or not (facts.adapter.free or frames == facts.frames):
            wanted = f"a multiple of {facts.tubelet}" if facts.adapter.free else str(facts.frames)
            raise UsageError(f"--set frames={frames}: {facts.adapter.title} reads clips whose length is {wanted}")
        mean, std = backbone.normalization
        if backbone.files.is_folder and not options["sha256"] and options["revision"] not in ("", BRANCH):
            raise UsageError(
                f"--revision {options['revision']}: only for repositories of the Hub; {backbone.files.name} is a folder"
            )
        if not (options["sha256"] and moved(options["backbone"])):
            options |= {"backbone": backbone.files.name, "revision": backbone.files.revision}
        options |= {"sha256": backbone.sha256, "config_sha256": backbone.config_sha256, "frames": frames}
        free = facts.adapter.free
        return replace(
            spec,
            clip_frames=frames,
            input_size=(facts.side, facts.side),
            size_multiple=facts.patch if free else facts.side,
            side_limits=(2 * facts.patch, max(MAX_SIDE, facts.side)) if free else (facts.side, facts.side),
            preprocess=Preprocess(mean=mean, std=std),
            options=options,
        )

    def validated(self, spec: ModelSpec) -> ModelSpec:
        if spec.name != self.specs[0].name:
            return super().validated(spec)  # raises the error
        self.configure(self.specs[0], spec.options)
        for option, part in (("sha256", "weights"), ("config_sha256", "configuration")):
            if not spec.options[option]:
                raise UsageError(f"{option}, the digest of the backbone's {part}, is missing")
        if not spec.options["revision"] and re.fullmatch(REPOSITORY, spec.options["backbone"]):
            raise UsageError(f"revision, that of the backbone {spec.options['backbone']}, is missing")
        if spec.options["frames"] not in (0, spec.clip_frames):
            raise UsageError(f"clip_frames must be {spec.options['frames']}, not {spec.clip_frames}")
        if spec.maps != 1 or spec.lookahead:
            raise UsageError("vfm has one map per clip, of the last frame")
        return spec

    def notices(self, spec: ModelSpec) -> tuple[str, ...]:
        backbone = matching(spec)
        terms, name = backbone.license(), spec.options["backbone"]
        at = f" at {spec.options['revision'][:12]}" if spec.options["revision"] else ""
        advice = "; read its model card before you use it" if terms == NOT_STATED else ""
        return (f"backbone {name}{at} ({backbone.facts.adapter.title}): license {terms}{advice}",)

    def build(self, spec: ModelSpec) -> FoundationNetwork:
        self.check_installed()
        backbone = matching(spec)
        from .network import FoundationNetwork

        return FoundationNetwork(spec if spec.options["frames"] else self.resolve(spec), backbone)

    def refusal(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        from .foreign import refusal

        return refusal(shapes)


def moved(backbone: str) -> Path | None:
    """Return the folder of the same name in the folder of the setting ``backbones``; None without one.

    Raises:
        UsageError: the folder of the setting does not exist.
    """
    if not (root := setting("backbones", "")):
        return None
    parent = expanded(root, "backbones")
    if not parent.is_dir():
        raise UsageError(f"backbones = {root} (TINYHD_BACKBONES or tinyhd.toml): no such folder")
    folder = parent / Path(backbone).name
    return folder if folder.is_dir() else None


def matching(spec: ModelSpec) -> Backbone:
    """Return the backbone that a spec names.

    Raises:
        UsageError: its name is invalid.
        WeightsError: it cannot be found, or its weights or configuration are not those that the spec names.
    """
    name, revision, digest = (spec.options[option] for option in ("backbone", "revision", "sha256"))
    if digest and (folder := moved(name)):
        name, revision = str(folder), ""
    elif digest and not revision and not Path(name).is_dir():
        raise WeightsError(
            f"backbone {name}: no such folder; name the folder that {Path(name).name} is in with TINYHD_BACKBONES"
        )
    backbone = find_backbone(name, revision)
    if digest and backbone.sha256 != digest:
        raise WeightsError(
            f"{backbone.files.subject}: not the one that these weights were trained on: its weights have the sha256 "
            f"{backbone.sha256[:12]}, not {digest[:12]}; use that backbone and revision"
        )
    if spec.options["config_sha256"] not in ("", backbone.config_sha256):
        raise WeightsError(
            f"{backbone.files.subject}: not the one that these weights were trained on: {backbone.config} differs; "
            "restore that file"
        )
    return backbone


FAMILY = FoundationFamily()
