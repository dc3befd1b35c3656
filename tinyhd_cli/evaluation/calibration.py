"""Calibrate maps to a dataset: correct their brightness by a monotone curve, and blend in a center prior.

The organizers of the MSU benchmark call this domain adaptation: networks that find the same places differ in contrast
and in their center bias, and scores such as SIM and CC depend on both. The calibrated map is ``curve(p) + w * prior``,
where ``p`` is the map stretched to 0..1. The increments of the curve and ``w`` are at least 0, and minimize the squared
differences from density maps, apart from a constant per frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..callbacks import StartPhase
from ..datasets import LAYOUTS, Dataset, Video, open_dataset, read_density
from ..datasets.images import Map
from ..errors import InputError, UsageError
from ..metrics.crowdsal import stretch
from ..system import available_cores
from ..wording import plural
from . import parallel
from .center_bias import BASELINE_STEP, GRID, CenterBias
from .fixations import Fixations, read_fixations
from .options import CalibrationKind, EvaluateOptions, PredictionSpec
from .predictions import PredictionSource, open_predictions

SEGMENTS = 16
"""Number of linear pieces of the curve."""

PART = 4
"""With ``part``, the first of so many videos is used for the fit, and the others are scored."""

MAX_FIT_VIDEOS = 100
"""Maximum number of videos for the fit, evenly spaced; more change the 17 numbers little."""

FRAME_STEP = 10
"""Every 10th annotated frame of a video is used for the fit: the frames between are almost equal."""

MAX_SWEEPS = 20_000
"""Limit on the iterations of the fit."""

CONVERGED = 1e-9
"""Relative change of the numbers in an iteration at which the fit ends."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A monotone curve and a center prior."""

    curve: tuple[float, ...]
    """Values of the curve at ``SEGMENTS + 1`` evenly spaced brightnesses from 0 to 1, ascending from 0."""
    weight: float
    """Weight of the prior; it and the maximum of the curve add up to 1."""
    prior: NDArray[np.float32]
    """The center prior in 0..1, of shape ``GRID``."""
    fitted_on: str
    """Description of the data of the fit."""
    videos: frozenset[str]
    """Names of the scored dataset's videos that were used for the fit, and are not scored with it."""

    def apply(self, prediction: Map) -> Map:
        """Return the calibrated map of a finite map ``(h, w)``, in 0..1."""
        levels = np.linspace(0, 1, len(self.curve))
        height, width = prediction.shape
        prior = cv2.resize(self.prior, (width, height), interpolation=cv2.INTER_LINEAR)
        calibrated: Map = np.interp(stretch(prediction), levels, self.curve) + self.weight * prior
        return calibrated

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers but the prior as plain values."""
        return {
            "fitted_on": self.fitted_on,
            "curve": [round(value, 6) for value in self.curve],
            "prior_weight": round(self.weight, 6),
            "fitted_videos": sorted(self.videos),
        }


@dataclass(frozen=True)
class Moments:
    """Sums of products over the frames of a video, from which the numbers are fitted."""

    gram: NDArray[np.float64]
    """Of the terms of the calibrated map with each other, ``(SEGMENTS + 1, SEGMENTS + 1)``; the last is the prior."""
    cross: NDArray[np.float64]
    """Of the terms with the density, ``(SEGMENTS + 1,)``."""
    frames: int
    """Number of frames."""


def fit_calibration(
    dataset: Dataset, predictions: PredictionSpec, options: EvaluateOptions, workers: int, start_phase: StartPhase
) -> Calibration | None:
    """Fit a calibration of the maps, if the options ask for one.

    The result does not depend on the number of processes.

    Args:
        dataset: the dataset to score.
        predictions: the maps.
        options: ``calibrate`` selects the videos for the fit.
        workers: number of processes.
        start_phase: called with the name of each phase; returns its progress callback.

    Raises:
        UsageError: the options contradict each other, or the dataset does not have the videos.
        InputError: no map of these videos can be compared with a density map.
    """
    if options.calibrate == "none":
        return None
    if predictions.prior:
        raise UsageError("--calibrate applies to maps that depend on the video, not to --prior")
    fit = choose_videos(dataset, options.calibrate)
    fixations = read_fixations(
        fit.videos, BASELINE_STEP, available_cores(), start_phase("reading fixations for the calibration")
    )
    fitting = Fitting(fit, predictions, fixations)
    progress = start_phase("calibrating")
    total = sum(map(len, map(frames_to_fit, fit.videos)))
    threads = max(1, available_cores() // workers)
    found: dict[int, Moments] = {}
    for index, moments in parallel.run(
        fitting, range(len(fit.videos)), workers, threads, lambda done: progress(done, total)
    ):
        found[index] = moments
    frames = sum(moments.frames for moments in found.values())
    if not frames:
        raise InputError(
            f"--calibrate {options.calibrate}: no frame of {plural(len(fit.videos), 'video')} has both maps"
        )
    gram, cross = (
        np.sum([getattr(found[index], name) for index in sorted(found)], axis=0) for name in ("gram", "cross")
    )
    curve, weight = solve(gram, cross)
    own = options.calibrate == "part"
    origin = f"every {PART}th video" if own else "the training split"
    return Calibration(
        curve,
        weight,
        stretch(fitting.center_bias(leave_out=False).map(0, GRID)),
        f"{plural(frames, 'frame')} of {plural(len(fit.videos), 'video')} ({origin})",
        frozenset(video.name for video in fit.videos) if own else frozenset(),
    )


def choose_videos(dataset: Dataset, kind: CalibrationKind) -> Dataset:
    """Return the dataset of the videos for the fit; ``UsageError`` if there are none."""
    if kind == "train":
        if "train" not in LAYOUTS[dataset.layout].splits or dataset.split == "train":
            raise UsageError(
                "--calibrate train: the dataset has no training split besides the scored one; try --calibrate part"
            )
        dataset = open_dataset(dataset.layout, dataset.root, "train")
    usable = [video for video in dataset.videos if video.densities]
    if kind == "part":
        if len(usable) < 2:
            raise UsageError("--calibrate part: needs two or more videos with density maps, to fit and to score")
        usable = usable[::PART]
    if not usable:
        raise UsageError(f"--calibrate {kind}: the {dataset.split or 'chosen'} videos have no density maps")
    places = np.linspace(0, len(usable) - 1, min(len(usable), MAX_FIT_VIDEOS)).round().astype(int)
    return replace(dataset, videos=tuple(usable[place] for place in places))


def frames_to_fit(video: Video) -> set[int]:
    """Return the numbers of the frames that are used for the fit."""
    return set(sorted(video.densities)[::FRAME_STEP])


@dataclass(frozen=True)
class Fitting:
    """Factory of the function that compares the maps of videos with their densities. Picklable."""

    dataset: Dataset
    predictions: PredictionSpec
    fixations: Fixations

    def center_bias(self, *, leave_out: bool) -> CenterBias:
        """Return the center bias of the videos; a Gaussian if a single video would be all that it is learned from.

        Args:
            leave_out: whether the prior of a video is that of the others: with its own, it would look better than for
                new videos, and get too much weight.
        """
        several = self.fixations.videos > 1
        return CenterBias(self.fixations if several else None, leave_out=leave_out and several)

    def __call__(self) -> parallel.Work:
        source, bias = open_predictions(self.predictions, self.dataset), self.center_bias(leave_out=True)

        def compare(index: int, on_frame: parallel.OnFrame) -> Moments:
            prior = stretch(bias.map(index, GRID))
            return sum_products(self.dataset.videos[index], source, prior, on_frame)

        return compare


def sum_products(
    video: Video, source: PredictionSource, prior: NDArray[np.float32], on_frame: parallel.OnFrame
) -> Moments:
    """Return the sums of products over a video. Frames that cannot be read are left out: scoring reports them."""
    wanted = frames_to_fit(video)
    gram, cross, frames = np.zeros((SEGMENTS + 1, SEGMENTS + 1)), np.zeros(SEGMENTS + 1), 0
    try:
        for number, prediction in source.maps(video, lambda line: None):
            source_of_density = video.densities[number] if number in wanted else None
            if source_of_density is None or not np.isfinite(prediction).all():
                continue
            terms = terms_of(prediction, prior)
            density = centered(on_grid(read_density(source_of_density)))
            gram += terms @ terms.T
            cross += terms @ density
            frames += 1
            on_frame()
    except InputError:
        pass
    return Moments(gram, cross, frames)


def on_grid(values: Map) -> NDArray[np.float64]:
    """Return a map stretched to 0..1, at the size ``GRID``."""
    grid = cv2.resize(stretch(values), GRID[::-1], interpolation=cv2.INTER_AREA)
    return grid.astype(np.float64)


def centered(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return maps ``(..., h, w)`` as rows minus their means, divided by the root of the number of pixels."""
    rows = values.reshape(*values.shape[:-2], -1)
    difference: NDArray[np.float64] = (rows - rows.mean(axis=-1, keepdims=True)) / np.sqrt(rows.shape[-1])
    return difference


def terms_of(prediction: Map, prior: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the terms of the calibrated map, ``(SEGMENTS + 1, pixels)``: a ramp for each segment, and the prior."""
    segments = np.arange(SEGMENTS)[:, np.newaxis, np.newaxis]
    ramps = np.clip(on_grid(prediction) * SEGMENTS - segments, 0, 1)
    return centered(np.concatenate([ramps, prior[np.newaxis]]))


def solve(gram: NDArray[np.float64], cross: NDArray[np.float64]) -> tuple[tuple[float, ...], float]:
    """Return the curve and the weight of the prior with the least squared error, by coordinate descent.

    Maps without any relation to the densities have no such numbers; they are not changed.
    """
    numbers = np.zeros(len(cross))
    for _ in range(MAX_SWEEPS):
        before = numbers.copy()
        for at in np.flatnonzero(np.diag(gram) > 0):
            numbers[at] = max(0.0, numbers[at] + (cross[at] - gram[at] @ numbers) / gram[at, at])
        if np.abs(numbers - before).max() <= CONVERGED * numbers.max():
            break
    if not numbers.any():
        numbers[:SEGMENTS] = 1
    numbers /= numbers.sum()
    return tuple(np.concatenate([[0], np.cumsum(numbers[:-1])]).tolist()), float(numbers[-1])
