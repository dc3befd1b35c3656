"""Sources of predicted maps: a network, files, or the center bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..datasets import Dataset, Video
from ..datasets.images import Map, OnDamage
from ..errors import UsageError
from ..models.spec import CLIP_FRAMES, ModelConfig, to_dict
from .center_bias import CenterBias
from .map_files import FileSource

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
class PredictionSpec:
    """The maps to score: from a network, from files, or the center bias. Picklable and small."""

    model: str | Path | None = None
    """Name or weights file of a network; None for the default network, unless ``folder`` or ``prior`` is set."""
    device: str = "auto"
    """Device that runs the network."""
    folder: Path | None = None
    """Folder of existing maps."""
    prior: bool = False
    """Whether to score the center bias."""
    engine: str = "torch"
    """Engine that runs the network; published scores are computed with ``torch``, the reference."""
    precision: str = "auto"
    """Numeric precision; ``auto`` is float32."""

    def open(self, dataset: Dataset, baseline: CenterBias | None) -> PredictionSource:
        """Return the source of the maps; loads the network.

        Args:
            dataset: the dataset to score.
            baseline: the center bias.

        Raises:
            WeightsError: the weights cannot be loaded.
            InputError: the folder does not exist.
            UsageError: ``prior`` is set, but ``baseline`` is None.
        """
        if self.prior:
            if baseline is None:
                raise UsageError("--prior needs a --baseline other than none")
            return PriorSource(baseline, {video.name: index for index, video in enumerate(dataset.videos)})
        if self.folder is not None:
            return FileSource(self.folder, alone=len(dataset.videos) == 1)
        from ..inference.model import load_model

        return NetworkSource(load_model(self.model, self.device, engine=self.engine, precision=self.precision))


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
