"""The ground truth that maps are scored against: recorded fixations, or masks of objects.

Either kind is described by a small picklable object, from which every worker process makes a reader.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import storage
from ..datasets import FrameFiles, MapFrame, Video, read_density, read_image, read_mask
from ..datasets.headers import claimed_size
from ..datasets.masks import Mask
from ..errors import InputError
from ..metrics import METRICS, OBJECT_METRICS, FrameScorer
from ..metrics.object_scores import Curves, ObjectProtocol, score_with_curves
from .center_bias import CenterBias
from .fixations import Fixations
from .options import OTHER_FRAMES, EvaluateOptions
from .protocol import describe_dhf1k_protocol, describe_object_protocol, fixation_notes

ALL_METRICS = (*METRICS, *OBJECT_METRICS)
"""Names of all metrics, in the order of tables; an evaluation has those of fixations or those of objects."""

HEADER_BYTES = 1 << 16
"""Bytes of an image file that are read to find its size."""


@dataclass(frozen=True)
class FrameScores:
    """The scores of one frame."""

    scores: dict[str, float]
    """Scores by metric; NaN where the metric is not defined."""
    size: tuple[int, ...]
    """Height and width of the ground truth."""
    constant: bool
    """Whether the map is constant."""
    curves: Curves = field(default_factory=dict)
    """Curves to average over frames before their maximum is taken."""
    empty: bool = False
    """Whether the mask is empty."""
    gray: bool = False
    """Whether the mask is not binary."""
    outside: int = 0
    """Number of fixations outside of the frame, which are left out."""


class GroundTruthReader(Protocol):
    """Reader of the ground truth of frames. A video comes with its position in the dataset."""

    def problems(self, index: int, video: Video) -> Iterator[str]:
        """Yield a message about each file of a video that is known to be unreadable."""
        ...

    def score(self, index: int, video: Video, frame: FrameFiles, prediction: NDArray[Any]) -> FrameScores:
        """Compare the map of an annotated frame with its ground truth.

        Raises:
            InputError: the ground truth cannot be read, its files differ in size, or the map contains NaN or infinity.
        """
        ...


class GroundTruth(Protocol):
    """Description of the ground truth of a dataset. Picklable, so that every process can make a reader.

    It contains no videos: a process gets those that it works on.
    """

    @property
    def kind(self) -> str:
        """Name of the ground truth in messages."""
        ...

    @property
    def sparse(self) -> bool:
        """Whether only some of the frames are annotated, as published."""
        ...

    def numbers(self, video: Video) -> list[int]:
        """Return the numbers of the annotated frames, in order."""
        ...

    def files(self, video: Video) -> list[Path]:
        """Return the files of a video's ground truth."""
        ...

    def center_bias(self) -> CenterBias | None:
        """Return the center bias that the scores are relative to."""
        ...

    def reader(self) -> GroundTruthReader:
        """Return a reader, for use in one process."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the protocol as plain values."""
        ...

    def notes(self) -> Iterator[str]:
        """Yield notes that apply to all scores."""
        ...

    def keys(self) -> dict[str, str]:
        """Return hashes of everything else that the scores of a video depend on, except its own files."""
        ...


@dataclass(frozen=True)
class FixationTruth:
    """Density and fixation maps."""

    options: EvaluateOptions
    fixations: Fixations
    bias: CenterBias | None
    kind: str = "annotations"
    sparse: bool = False

    def numbers(self, video: Video) -> list[int]:
        return video.map_numbers

    def files(self, video: Video) -> list[Path]:
        return video.map_files

    def center_bias(self) -> CenterBias | None:
        return self.bias

    def reader(self) -> GroundTruthReader:
        return FixationReader(self.fixations, self.bias, self.options)

    def describe(self) -> dict[str, Any]:
        return describe_dhf1k_protocol(self.options, self.fixations, self.bias)

    def notes(self) -> Iterator[str]:
        return fixation_notes(self.fixations)

    def keys(self) -> dict[str, str]:
        return {"fixations": self.fixations.key, "training": self.bias.key if self.bias else ""}


@dataclass(frozen=True)
class MaskTruth:
    """Masks of objects."""

    protocol: ObjectProtocol
    sparse: bool
    kind: str = "masks"

    def numbers(self, video: Video) -> list[int]:
        return sorted(video.masks)

    def files(self, video: Video) -> list[Path]:
        return [path for files in video.masks.values() for path in files.paths]

    def center_bias(self) -> CenterBias | None:
        return None

    def reader(self) -> GroundTruthReader:
        return MaskReader(self.protocol)

    def describe(self) -> dict[str, Any]:
        return describe_object_protocol(self.protocol)

    def notes(self) -> Iterator[str]:
        yield from ()

    def keys(self) -> dict[str, str]:
        return {}


class FixationReader:
    """Reader of density and fixation maps."""

    def __init__(self, fixations: Fixations, baseline: CenterBias | None, options: EvaluateOptions) -> None:
        self.fixations = fixations
        self.baseline = baseline
        self.options = options
        self._other_frames = functools.lru_cache(maxsize=1)(fixations.other_frames)
        self._truth = functools.lru_cache(maxsize=1)(self._read)

    def problems(self, index: int, video: Video) -> Iterator[str]:
        for number in video.fixations:
            if problem := self.fixations.problems.get(f"{index}:{number}"):
                yield problem

    def score(self, index: int, video: Video, frame: FrameFiles, prediction: NDArray[Any]) -> FrameScores:
        rng = self._rng(video.name, frame, self.options.monte_carlo)
        scorer = FrameScorer(prediction, *self._truth(index, video.name, frame), rng=rng)
        if not scorer.finite:
            raise InputError("the map contains NaN or infinity")
        return FrameScores(scorer.scores(), scorer.prediction.shape, scorer.constant)

    def _rng(self, name: str, frame: FrameFiles, seed: int | None) -> np.random.Generator | None:
        """Return a generator for a frame, which depends only on the seed, the video's name and the frame number."""
        if seed is None:
            return None
        return np.random.default_rng([seed, zlib.crc32(name.encode(errors="surrogateescape")), frame.number])

    def _read(self, index: int, name: str, frame: FrameFiles) -> tuple[NDArray[Any] | None, ...]:
        """Return the ground truth of a frame, in the order of the arguments of :class:`FrameScorer`."""
        density = None if frame.density is None else read_density(frame.density)
        if density is not None and isinstance(frame.density, MapFrame):
            density = density - density.min()  # map videos are stretched; their black may be that of limited range
        fixation = self.fixations.mask(index, frame.number)
        reference = fixation if fixation is not None else density
        if reference is None:
            raise InputError("the fixation map cannot be read")
        size = (reference.shape[0], reference.shape[1])
        others, other = self._other_frames(index), None
        if others.size and fixation is not None:
            rng = self._rng(name, frame, self.options.seed)
            assert rng is not None
            drawn = rng.choice(others, min(OTHER_FRAMES, others.size), replace=False, shuffle=False)
            other = self.fixations.union(drawn, size)
        baseline = self.baseline.map(index, size) if self.baseline and fixation is not None else None
        return density, fixation, other, baseline


@dataclass(frozen=True)
class MaskReader:
    """Reader of masks of objects."""

    protocol: ObjectProtocol

    def problems(self, index: int, video: Video) -> Iterator[str]:
        yield from ()

    def score(self, index: int, video: Video, frame: FrameFiles, prediction: NDArray[Any]) -> FrameScores:
        gray: list[Path] = []
        mask = read_mask_of(frame, gray.append)
        scores, curves = score_with_curves(prediction, mask, self.protocol)
        constant = bool(prediction.min() == prediction.max())
        return FrameScores(scores, mask.shape, constant, curves, empty=not mask.any(), gray=bool(gray))


def read_mask_of(frame: FrameFiles, on_gray: Callable[[Path], None]) -> Mask:
    """Return the mask of a frame.

    Args:
        frame: a frame with a mask.
        on_gray: called with each file of the mask that is not binary.

    Raises:
        InputError: the mask cannot be read, or differs in size from the frame's image.
    """
    assert frame.mask is not None
    mask = read_mask(frame.mask, on_gray=on_gray)
    if frame.image is not None:
        with storage.open_file(frame.image) as file:
            size = claimed_size(file.read(HEADER_BYTES))
        if size != mask.shape[::-1]:  # the image may be rotated by its EXIF orientation, or its header be long
            height, width, _ = read_image(frame.image).shape
            return read_mask(frame.mask, (height, width), on_gray)
    return mask
