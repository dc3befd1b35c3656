"""Sources of predicted maps: a network, files, or the center bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..datasets import Video
from ..datasets.images import Map, OnDamage
from ..errors import UsageError
from ..models import ModelSpec
from .center_bias import CenterBias
from .map_files import FileSource
from .options import PredictionSpec

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
    """A network, run on the videos as by ``tinyhd predict``; maps are its raw float32 output."""

    model: Model

    def maps(self, video: Video, report: OnDamage, start: int = 0) -> Iterator[tuple[int, Map]]:
        from ..inference.preprocess import reduction
        from ..inference.windows import first_frame_needed

        spec = self.model.spec
        frames = islice(video.read(report, partial(reduction, spec.preprocess)), first_frame_needed(spec, start), None)
        prepared = ((files.number, self.model.prepare(image)) for files, image in frames)
        yield from self.model.maps(prepared)

    def files(self, video: Video) -> list[Path]:
        return [video.source] if video.is_file and video.source else list(video.images.values())

    def describe(self) -> dict[str, Any]:
        model, engine = self.model, self.model.engine
        return {
            "model": {"name": model.name, "sha256": model.sha256, "spec": model.spec.to_dict()},
            "engine": {"name": engine.name, "precision": engine.precision},
        }

    @property
    def spec(self) -> ModelSpec:
        """The network."""
        return self.model.spec


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


def open_predictions(
    predictions: PredictionSpec, names: Sequence[str], baseline: CenterBias | None = None
) -> PredictionSource:
    """Return the source of the maps to score; loads the network.

    Args:
        predictions: the maps to score.
        names: the names of the dataset's videos, in order.
        baseline: the center bias.

    Raises:
        WeightsError: the weights cannot be loaded.
        InputError: the folder does not exist.
        UsageError: the center bias is to be scored, but ``baseline`` is None.
    """
    if predictions.prior:
        if baseline is None:
            raise UsageError("--prior needs a --baseline other than none")
        return PriorSource(baseline, {name: index for index, name in enumerate(names)})
    if predictions.folder is not None:
        return FileSource(predictions.folder, single_video=len(names) == 1)
    return NetworkSource(predictions.load())
