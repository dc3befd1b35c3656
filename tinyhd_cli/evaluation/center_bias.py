"""The center bias: where people look on average, whatever the video shows. IG is relative to it."""

from __future__ import annotations

import contextlib
import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from ..callbacks import StartPhase
from ..datasets import LAYOUTS, Dataset, Video, open_dataset
from ..errors import InputError, UsageError
from ..system import available_cores
from ..wording import plural
from .fixations import Fixations, read_fixations
from .options import EvaluateOptions

GRID = (108, 192)
"""Rows and columns in which fixations are counted, for frames of any size."""

BLUR = 0.035
"""Standard deviation of the Gaussian that turns counts into a density, as a fraction of the width."""

SIGMA = 0.25
"""Standard deviation of the Gaussian at the center, as a fraction of either side."""

SMOOTHING = 0.1
"""Weight of the Gaussian in a learned density. It keeps the probability of places without fixations above 0."""

BASELINE_STEP = 10
"""The center bias is learned from every 10th frame of the training split; the frames between add almost nothing."""


class CenterBias:
    """A density of fixations, learned from videos or a plain Gaussian.

    It is picklable: other processes get the counts, and the fixations only if they need those of single videos.

    Args:
        fixations: fixations to learn from; None for the Gaussian.
        leave_out: whether to exclude a video's own fixations from its density.
        origin: description of the fixations for the results.
        key: hash of the fixations, if they are not those of the scored dataset.

    Attributes:
        map: cached function that returns the density for a video, by its number in the fixations, and a size (height,
            width).
    """

    def __init__(self, fixations: Fixations | None, leave_out: bool, origin: str = "", key: str = "") -> None:
        self.origin, self.key = origin, key
        self._counts = None if fixations is None else fixations.histogram(GRID)
        self._left_out = fixations if leave_out else None
        self.map = functools.lru_cache(maxsize=8)(self._map)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name != "map"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self.map = functools.lru_cache(maxsize=8)(self._map)

    def _map(self, video: int, size: tuple[int, int]) -> NDArray[np.float64]:
        prior = gaussian(GRID)
        if self._counts is not None:
            counts = self._counts
            if self._left_out is not None:
                counts = counts - self._left_out.histogram(GRID, video)
            if counts.sum() > 0:
                density = cv2.GaussianBlur(counts, (0, 0), BLUR * GRID[1], borderType=cv2.BORDER_CONSTANT)
                prior = (1 - SMOOTHING) * density / density.sum() + SMOOTHING * prior
        scaled = cv2.resize(prior, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        return scaled.astype(np.float64, copy=False)


def gaussian(size: tuple[int, int]) -> NDArray[np.float64]:
    """Return a Gaussian at the center of a map of ``size`` (height, width); its sum is 1."""
    rows, columns = (np.exp(-0.5 * ((np.arange(n) + 0.5) / n - 0.5) ** 2 / SIGMA**2) for n in size)
    product = np.outer(rows, columns)
    density: NDArray[np.float64] = product / product.sum()
    return density


def choose_baseline(
    dataset: Dataset, fixations: Fixations, options: EvaluateOptions, start_phase: StartPhase
) -> CenterBias | None:
    """Return the center bias; reads the fixations of the training split if they are used.

    Args:
        dataset: the dataset to score.
        fixations: its fixations.
        options: names the baseline.
        start_phase: called with the name of the phase if the training split is read; returns its progress callback.

    Returns:
        The center bias; None if the options ask for none.

    Raises:
        UsageError: ``train`` is requested but the dataset has no annotated training split.
    """
    kind = options.baseline
    if kind == "none":
        return None
    if kind == "gaussian":
        return CenterBias(None, leave_out=False, origin="Gaussian at the center, sigma 1/4 of each side")
    training: tuple[Video, ...] = ()
    if kind != "self" and "train" in LAYOUTS[dataset.layout].splits and dataset.split != "train":
        with contextlib.suppress(InputError):
            training = open_dataset(dataset.layout, dataset.root, "train").videos
    if any(video.fixations for video in training):
        progress = start_phase("reading fixations of the training split")
        found = read_fixations(training, BASELINE_STEP, available_cores(), progress)
        origin = f"fixations of {plural(found.frames, 'frame')} of the training split (every {BASELINE_STEP}th)"
        return CenterBias(found, leave_out=False, origin=origin, key=found.key)
    if kind == "train":
        raise UsageError(f"--baseline train: {dataset.root} has no annotated training split besides the scored one")
    several = fixations.videos > 1
    videos = "without those of the scored video" if several else "which is a single video"
    origin = f"fixations of the dataset, {videos} ({plural(fixations.frames, 'frame')})"
    return CenterBias(fixations, leave_out=several, origin=origin)


def describe_baseline(bias: CenterBias | None) -> str:
    """Return the description of a center bias in the protocol."""
    return bias.origin if bias else "none"
