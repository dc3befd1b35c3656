"""Calibrate maps to a dataset: correct their brightness by a monotone curve, and blend in a center prior.

The organizers of the MSU benchmark call this domain adaptation: networks that find the same places differ in contrast
and in their center bias, and scores such as SIM and CC depend on both. The calibrated map is ``curve(p) + w * prior``,
where ``p`` is the map stretched to 0..1. The increments of the curve and ``w`` are at least 0, and maximize the mean of
CC + SIM with density maps, by exponentiated gradient ascent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ..callbacks import StartPhase
from ..datasets import LAYOUTS, Dataset, Video, open_dataset, read_density
from ..datasets.images import Map
from ..errors import InputError, TinyhdError, UsageError
from ..metrics.crowdsal import stretch
from ..parallel import Where
from ..storage import copied
from ..system import available_cores
from ..wording import plural
from .center_bias import BASELINE_STEP, GRID, CenterBias
from .each_video import Item, OnFrame, Work, each_video, items_of
from .fixations import read_fixations
from .options import CalibrationKind, EvaluateOptions, PredictionSpec
from .predictions import PredictionSource, open_predictions

T = TypeVar("T")

SEGMENTS = 16
"""Number of linear pieces of the curve."""

KNOTS = (np.arange(SEGMENTS + 1) / SEGMENTS) ** 2
"""Brightnesses between which the curve is linear: closer to each other where maps are dark, as most of their pixels."""

PART = 4
"""With ``part``, one of this many videos is used for the fit, and the others are scored."""

MAX_FIT_VIDEOS = 100
"""Maximum number of videos for the fit, evenly spaced; more change the 17 numbers little."""

MAX_FIT_FRAMES = 10
"""Maximum number of frames of a video for the fit, evenly spaced: those between are similar."""

FIT_SIZE = (27, 48)
"""Rows and columns of the maps in the fit; the Gaussian of density maps has a sigma of about 1.4 columns."""

START = 0.05
"""Weight of the prior from which the fit starts; the curve starts as a line."""

MAX_STEPS = 200
"""Limit on the steps of the fit."""

LEAST_GAIN = 1e-7
"""Gain of a step at which the fit ends."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A monotone curve and a center prior."""

    curve: tuple[float, ...]
    """Values of the curve at ``KNOTS``, ascending from 0."""
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
        height, width = prediction.shape
        prior = cv2.resize(self.prior, (width, height), interpolation=cv2.INTER_LINEAR)
        calibrated: Map = np.interp(stretch(prediction), KNOTS, self.curve) + self.weight * prior
        return calibrated

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers but the prior as plain values."""
        return {
            "fitted_on": self.fitted_on,
            "brightness": [round(value, 6) for value in KNOTS.tolist()],
            "curve": [round(value, 6) for value in self.curve],
            "prior_weight": round(self.weight, 6),
            "fitted_videos": sorted(self.videos),
        }


@dataclass(frozen=True)
class Samples:
    """Frames for the fit."""

    terms: NDArray[np.float32]
    """Terms of the calibrated maps: ramps of the curve and the prior, ``(n, SEGMENTS + 1, pixels)``."""
    densities: NDArray[np.float32]
    """``(n, pixels)``."""
    problem: str = ""
    """Why the maps of the video cannot be read."""


def fit_calibration(
    dataset: Dataset,
    predictions: PredictionSpec,
    options: EvaluateOptions,
    where: Where | None,
    files: Callable[[Video], list[Path]],
    start_phase: StartPhase,
) -> Calibration | None:
    """Fit a calibration of the maps, if the options ask for one.

    The result does not depend on the number of processes.

    Args:
        dataset: the dataset to score.
        predictions: the maps.
        options: ``calibrate`` selects the videos for the fit.
        where: the processes that read the maps; None for this process.
        files: returns the files of a video's maps.
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
    several = fixations.videos > 1  # from a single video, nothing could be left out
    known = fixations if several else None
    fitting = Fitting(fit.names, predictions, CenterBias(known, leave_out=several))
    if options.cluster.is_remote:
        fixations = fixations.in_memory()
    progress = start_phase("calibrating")
    total = sum(map(len, map(frames_to_fit, fit.videos)))
    items = items_of(fit, lambda video: [*files(video), *video.map_files])
    found = dict(each_video(fitting, items, where, lambda done: progress(done, total), fitting.lost))
    ordered = [found[index] for index in sorted(found)]
    terms, densities = (np.concatenate([getattr(part, name) for part in ordered]) for name in ("terms", "densities"))
    samples = Samples(terms, densities)
    frames, used = len(samples.densities), sum(len(part.densities) > 0 for part in ordered)
    if not frames:
        reasons = [part.problem for part in ordered if part.problem]
        reason = reasons[0] if reasons else f"{plural(len(fit.videos), 'video')} without a usable frame"
        raise InputError(f"--calibrate {options.calibrate}: {reason}")
    curve, weight = fit_numbers(samples)
    own = options.calibrate == "part"
    origin = f"every {PART}th video" if own else "the training split"
    return Calibration(
        curve,
        weight,
        stretch(CenterBias(known, leave_out=False).map(0, GRID)),
        f"{plural(frames, 'frame')} of {plural(used, 'video')} ({origin})",
        frozenset(video.name for video in fit.videos) if own else frozenset(),
    )


def choose_videos(dataset: Dataset, kind: CalibrationKind) -> Dataset:
    """Return the dataset of the videos for the fit; ``UsageError`` if there are none."""
    if kind == "train":
        if "train" not in LAYOUTS[dataset.layout].splits or dataset.split == "train":
            raise UsageError(
                "--calibrate train: the dataset has no training split besides the scored one; try --calibrate part"
            )
        try:
            dataset = open_dataset(dataset.layout, dataset.root, "train")
        except InputError as error:
            raise UsageError(f"--calibrate train: {error}; try --calibrate part") from error
    usable = [video for video in dataset.videos if video.densities]
    if kind == "part":
        if len(usable) < 2:
            raise UsageError("--calibrate part: needs two or more videos with density maps, to fit and to score")
        usable = usable[::PART]
    if not usable:
        raise UsageError(f"--calibrate {kind}: the {dataset.split or 'chosen'} videos have no density maps")
    return replace(dataset, videos=tuple(evenly(usable, MAX_FIT_VIDEOS)))


def frames_to_fit(video: Video) -> set[int]:
    """Return the numbers of the frames that are used for the fit."""
    return set(evenly(sorted(video.densities), MAX_FIT_FRAMES))


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Return up to ``count`` evenly spaced items, the first and the last included."""
    places = np.linspace(0, len(items) - 1, min(len(items), count)).round().astype(int)
    return [items[place] for place in places]


@dataclass(frozen=True)
class Fitting:
    """Factory of the function that compares the maps of videos with their densities. Picklable."""

    names: tuple[str, ...]
    """The names of all videos for the fit."""
    predictions: PredictionSpec
    bias: CenterBias
    """Center bias of the other videos: with its own, the prior would look better for a video than for new ones, and get
    too much weight."""

    def __call__(self) -> Work:
        source = open_predictions(self.predictions, self.names)

        def sample(item: Item, on_frame: OnFrame) -> Samples:
            try:
                with copied(item.files):
                    return sample_video(item.video, source, to_row(self.bias.map(item.index, GRID)), on_frame)
            except InputError as error:  # of a store
                return sample_nothing(str(error))

        return sample

    def lost(self, item: Item, error: TinyhdError) -> Samples:
        """Return no samples for a video whose process was killed."""
        return sample_nothing(f"{item.video.name}: {error}")


def sample_nothing(problem: str) -> Samples:
    """Return the samples of a video whose maps cannot be read."""
    pixels = FIT_SIZE[0] * FIT_SIZE[1]
    return Samples(np.zeros((0, SEGMENTS + 1, pixels), np.float32), np.zeros((0, pixels), np.float32), problem)


def sample_video(video: Video, source: PredictionSource, prior: NDArray[np.float32], on_frame: OnFrame) -> Samples:
    """Return the frames of a video for the fit, without those that cannot be read: scoring reports them."""
    wanted = frames_to_fit(video)
    start, width = (values.astype(np.float32)[:, np.newaxis] for values in (KNOTS[:-1], np.diff(KNOTS)))
    nothing, problem = sample_nothing(""), ""
    terms, densities = [nothing.terms], [nothing.densities]
    try:
        for number, prediction in source.maps(video, lambda line: None):
            if number not in wanted or not np.isfinite(prediction).all():
                continue
            with contextlib.suppress(InputError):  # of one density map
                density, values = to_row(read_density(video.densities[number])), to_row(prediction)
                if density.any() and values.any():  # not constant
                    ramps = np.clip((values - start) / width, 0, 1)
                    terms.append(np.concatenate([ramps, prior[np.newaxis]])[np.newaxis])
                    densities.append(density[np.newaxis])
            on_frame()
    except InputError as error:
        problem = str(error)
    return Samples(np.concatenate(terms), np.concatenate(densities), problem)


def to_row(values: Map) -> NDArray[np.float32]:
    """Return the pixels of a map stretched to 0..1, at the size ``FIT_SIZE``."""
    return stretch(cv2.resize(stretch(values), FIT_SIZE[::-1], interpolation=cv2.INTER_AREA)).ravel()


def fit_numbers(samples: Samples) -> tuple[tuple[float, ...], float]:
    """Return the curve and the weight of the prior that maximize the mean of CC + SIM.

    Each step multiplies the numbers, so they stay positive, and is only taken if it is a gain.
    """
    numbers = np.array([*(1 - START) * np.diff(KNOTS), START])
    value, slope = cc_plus_sim(numbers, samples)
    rate = 1.0
    for _ in range(MAX_STEPS):
        tried = numbers * np.exp(rate * (slope - slope.max()))
        tried /= tried.sum()
        tried_value, tried_slope = cc_plus_sim(tried, samples)
        gain = tried_value - value
        if gain > 0:
            numbers, value, slope = tried, tried_value, tried_slope
        rate *= 1.5 if gain > 0 else 0.5
        if abs(gain) < LEAST_GAIN:
            break
    return tuple(np.concatenate([[0], np.cumsum(numbers[:-1])]).tolist()), float(numbers[-1])


def cc_plus_sim(numbers: NDArray[np.float64], samples: Samples) -> tuple[float, NDArray[np.float64]]:
    """Return the mean of CC + SIM over frames, and its gradient.

    Args:
        numbers: the weights of the terms, ``(SEGMENTS + 1,)``, positive.
        samples: the frames.
    """
    terms, densities = samples.terms, samples.densities
    maps = numbers.astype(np.float32) @ terms
    lowest = maps.argmin(axis=1)
    maps -= maps.min(axis=1, keepdims=True)  # maps are stretched before they are scored
    unit, (shape, length) = standardized(densities)[0], standardized(maps)
    cc = (shape * unit).sum(axis=1, keepdims=True)
    slope = (unit - cc * shape) / length
    total = maps.sum(axis=1, keepdims=True)
    shares, wanted = maps / total, densities / densities.sum(axis=1, keepdims=True)
    below = shares < wanted
    slope += (below - (below * shares).sum(axis=1, keepdims=True)) / total
    sim = np.minimum(shares, wanted).sum(axis=1)
    rows = np.arange(len(maps))
    gradient = (terms @ slope[..., np.newaxis])[..., 0] - terms[rows, :, lowest] * slope.sum(axis=1, keepdims=True)
    value = (cc[:, 0] + sim).mean(dtype=np.float64)
    return float(value), gradient.mean(axis=0, dtype=np.float64)


def standardized(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return rows minus their means, of length 1, and their lengths before."""
    centered = rows - rows.mean(axis=1, keepdims=True)
    length = np.sqrt((centered**2).sum(axis=1, keepdims=True))
    return centered / length, length
