"""Sources of predicted maps: a network, files, or the center bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..datasets import Video
from ..datasets.images import Map, OnDamage
from ..models.spec import CLIP_FRAMES, ModelConfig, to_dict
from .center_bias import CenterBias

if TYPE_CHECKING:
    from ..inference.model import Model

PRIOR_SIZE = (360, 640)
"""Height and width of the maps of the center bias, those of DHF1K's videos."""


class PredictionSource(Protocol):
    """Source of the maps of a video."""

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        """Yield frame numbers and maps ``(h, w)``, in order.

        Args:
            video: the video.
            report: called with a message about each file that is skipped.
            start: position of the first frame needed; earlier frames may be omitted.

        Raises:
            InputError: the video has no maps.
        """
        ...

    def files(self, video: Video) -> list[Path]:
        """Return the files that the maps depend on."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the origin of the maps as plain values, for the results."""
        ...


@dataclass(frozen=True)
class NetworkSource:
    """Runs a network on the videos, as ``tinyhd predict`` does; maps are raw float32 output."""

    model: Model

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        from ..inference.predict import shrunk

        frames = islice(video.read(report), first_needed(start), None)
        prepared = ((files.number, self.model.prepare(shrunk(image))) for files, image in frames)
        yield from self.model.maps(prepared)

    def files(self, video: Video) -> list[Path]:
        return [video.source] if video.is_file and video.source else list(video.images.values())

    def describe(self) -> dict[str, Any]:
        model, engine = self.model, self.model.engine
        return {
            "model": {"name": model.name, "sha256": model.sha256, **to_dict(model.config)},
            "engine": {"name": engine.name, "precision": engine.precision},
        }

    @property
    def config(self) -> ModelConfig:
        """The configuration of the network."""
        return self.model.config


def first_needed(position: int) -> int:
    """Return the position of the first frame to decode, so that the map at ``position`` is the same as in a full run.

    It is the start of the clip before the one that contains ``position``: clips then start at the same positions as in
    a full run, and a sliding window has all frames that it covers.
    """
    return max(0, position // CLIP_FRAMES - 1) * CLIP_FRAMES


@dataclass(frozen=True)
class PriorSource:
    """The center bias as the map of every frame; a useful prediction must score higher."""

    baseline: CenterBias
    indices: Mapping[str, int]
    """Number of each video in the fixations of the baseline."""

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        for frame in video.frames[start:]:
            yield frame.number, self.baseline.map(self.indices[video.name], PRIOR_SIZE)

    def files(self, video: Video) -> list[Path]:
        return []

    def describe(self) -> dict[str, Any]:
        return {"prior": "center bias"}
