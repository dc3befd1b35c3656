"""Benchmark the metrics of a frame, and beside them the procedures that they replace.

For saliency maps, that is the original procedure with random splits, and the decoding of the maps; for the protocol of
CrowdSAL, the decoding of map videos; for salient objects, the definitions pixel by pixel.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..datasets import MapFrame, read_density
from ..evaluation.each_video import MALLOC_KEEP_BYTES
from ..evaluation.gray_video import GrayVideoWriter
from ..metrics import FrameScorer, ObjectScorer, object_definition, resize, score_frame, score_object_frame
from ..system import keep_freed_memory

SIZE = (360, 640)
"""Height and width of DHF1K's frames."""

CROWDSAL_SIZES = ((108, 192), (1080, 1920))
"""Height and width of the density maps that are scored by the protocol of CrowdSAL."""

MAP_FRAMES = 12
"""Number of frames of the map video that is decoded."""

FIXATIONS = 300
"""Number of fixated pixels in a frame."""

OBSERVERS = 75
"""Number of fixations in a frame of CrowdSAL."""

MAX_PLAIN_ROUNDS = 2
"""Maximum number of measurements of the definitions pixel by pixel, which take seconds."""


@dataclass(frozen=True)
class Timing:
    """The times of one operation."""

    name: str
    median_ms: float
    best_ms: float


def metric_timings(rounds: int) -> list[Timing]:
    """Time each metric alone, all metrics together, decoding, and the original 100 random splits, in one run.

    Everything runs on one thread and keeps freed memory, as ``tinyhd evaluate`` does. Operations take turns, so that
    other load affects all equally.

    Args:
        rounds: number of measurements of each operation.
    """
    rng = np.random.default_rng(0)
    density, prediction, baseline = (blobs(rng, SIZE) for _ in range(3))
    fixation, other = (sample_fixations(rng, density) for _ in range(2))
    eight_bits = (prediction, density, fixation, other, baseline)
    small = cv2.resize(prediction, (256, 192)).astype(np.float32) / 5000
    network = (small, density, fixation, other, baseline)
    pngs = [cv2.imencode(".png", values)[1] for values in (prediction, density, fixation.astype(np.uint8) * 255)]
    methods = {
        "AUC-J": "auc_judd",
        "AUC-B": "auc_borji",
        "s-AUC": "auc_shuffled",
        "CC": "cc",
        "NSS": "nss",
        "SIM": "sim",
        "KLDiv": "kldiv",
        "IG": "ig",
    }
    cases: dict[str, Callable[[], Any]] = {
        name: functools.partial(score_alone, method, eight_bits) for name, method in methods.items()
    }
    cases["all eight"] = lambda: score_frame(*eight_bits)
    cases["all eight, 100 random splits"] = lambda: score_frame(*eight_bits, rng=np.random.default_rng(0))
    cases["all eight, float32 192 x 256"] = lambda: score_frame(*network)
    cases["resizing 192 x 256 to 360 x 640"] = lambda: resize(small, SIZE)
    cases["decoding three PNGs"] = lambda: [cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) for png in pngs]
    return time_on_one_thread(cases, rounds)


def crowdsal_timings(rounds: int) -> list[Timing]:
    """Time the four metrics of CrowdSAL's protocol, and the decoding of a frame of a map video, in one run.

    Predictions are those of a network, or are of the density's size and 10 bits, as in a map video. Density maps are
    written as their publishers do, in 10 bits and almost without loss, and decoded in order.

    Args:
        rounds: number of measurements of each operation.
    """
    rng = np.random.default_rng(0)
    cases: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in CROWDSAL_SIZES:
            label = f"{size[0]} x {size[1]}"
            maps = [blobs(rng, size, OBSERVERS) for _ in range(MAP_FRAMES)]
            density, prediction = (values.astype(np.uint16) * 4 for values in maps[:2])
            points = np.argwhere(sample_fixations(rng, maps[0], OBSERVERS))
            small = cv2.resize(maps[1], (256, 192)).astype(np.float32) / 255
            for name, given in ((f"map of a network, {label}", small), (f"map of 10 bits, {label}", prediction)):
                cases[name] = functools.partial(score_frame, given, density, points, protocol="crowdsal")
            path = Path(folder, f"{label}.mp4")
            with GrayVideoWriter(path, size, Fraction(30)) as writer:
                for values in maps:
                    writer.write(values)
            frames = itertools.cycle(MapFrame(path, index) for index in range(MAP_FRAMES))
            cases[f"decoding a frame of a map video, {label}"] = functools.partial(decode_next, frames)
        return time_on_one_thread(cases, rounds)


def decode_next(frames: Iterator[MapFrame]) -> None:
    """Decode the next frame."""
    read_density(next(frames))


def object_timings(rounds: int) -> list[Timing]:
    """Time the metrics of salient objects together and apart, and their definitions pixel by pixel, in one run.

    The map of ``sharp`` is 0 at some distance from the objects, as maps of a trained network are; ``noisy`` is nowhere
    0, which is the slowest case for weighted F.

    Args:
        rounds: number of measurements of each operation; at most ``MAX_PLAIN_ROUNDS`` of the slow definitions.
    """
    rng = np.random.default_rng(0)
    mask = object_mask(SIZE)
    sharp: NDArray[np.uint8] = cv2.GaussianBlur(mask * np.uint8(230), (0, 0), 6).astype(np.uint8)
    noisy = cv2.max(sharp, rng.integers(1, 30, SIZE).astype(np.uint8))
    small = cv2.resize(sharp, (256, 256)).astype(np.float32) / 255
    maps = {"sharp map": sharp, "noisy map": noisy, "float32 256 x 256": small}
    cases: dict[str, Callable[[], Any]] = {}
    for name, prediction in maps.items():
        cases[f"all nine, {name}"] = functools.partial(score_object_frame, prediction, mask)
    for name, prediction in list(maps.items())[:2]:
        cases[f"weighted F, {name}"] = functools.partial(weighted_f_alone, prediction, mask)
        cases[f"all but weighted F, {name}"] = functools.partial(all_but_weighted_f, prediction, mask)
    plain: dict[str, Callable[[], Any]] = {"all nine, pixel by pixel": lambda: object_definition.score(sharp, mask > 0)}
    return time_on_one_thread(cases, rounds) + time_on_one_thread(plain, min(rounds, MAX_PLAIN_ROUNDS))


def weighted_f_alone(prediction: NDArray[Any], mask: NDArray[Any]) -> float:
    """Return the weighted F-measure, computed without intermediate results of others."""
    return ObjectScorer(prediction, mask).weighted_f()


def all_but_weighted_f(prediction: NDArray[Any], mask: NDArray[Any]) -> None:
    """Compute the metrics of salient objects that depend on counts of pixels only."""
    scorer = ObjectScorer(prediction, mask)
    for score in (scorer.mae, scorer.adaptive_f, scorer.adaptive_e, scorer.s):
        score()


def object_mask(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the mask of two objects, 0 and 1, that cover a sixth of the frame."""
    mask = np.zeros(size, np.uint8)
    height, width = size
    cv2.ellipse(mask, (width * 15 // 32, height // 2), (width * 3 // 16, height // 4), 20, 0, 360, 1, -1)
    cv2.ellipse(mask, (width * 21 // 32, height // 3), (width * 3 // 32, height // 9), 0, 0, 360, 1, -1)
    return mask


def time_on_one_thread(cases: dict[str, Callable[[], Any]], rounds: int) -> list[Timing]:
    """Time functions in turn, as ``tinyhd evaluate`` runs them: on one thread, and keeping freed memory."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    keep_freed_memory(MALLOC_KEEP_BYTES)
    try:
        with threadpool_limits(1):
            return time_calls(cases, rounds)
    finally:
        cv2.setNumThreads(threads)


def score_alone(method: str, maps: tuple[NDArray[Any], ...]) -> float:
    """Return the score of one metric, computed without intermediate results of others."""
    score: float = getattr(FrameScorer(*maps), method)()
    return score


def time_calls(cases: dict[str, Callable[[], Any]], rounds: int) -> list[Timing]:
    """Time functions in turn, after one warm-up call of each."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, call in cases.items():
            started = time.perf_counter()
            call()
            if number:
                seconds[name].append(time.perf_counter() - started)
    return [Timing(name, 1e3 * statistics.median(times), 1e3 * min(times)) for name, times in seconds.items()]


def blobs(rng: np.random.Generator, size: tuple[int, int], count: int = 12) -> NDArray[np.uint8]:
    """Return a smooth map, as saliency and density maps are, with a maximum of 255."""
    points = np.zeros(size, np.float32)
    rows, columns = (rng.integers(0, side, count) for side in size)
    points[rows, columns] = rng.random(count)
    blurred = cv2.GaussianBlur(points, (0, 0), size[1] / 20)
    density: NDArray[np.uint8] = np.round(blurred * (255 / blurred.max())).astype(np.uint8)
    return density


def sample_fixations(rng: np.random.Generator, density: NDArray[np.uint8], count: int = FIXATIONS) -> NDArray[np.bool_]:
    """Return a map of ``count`` fixations drawn from a density."""
    probability = density.ravel() / density.sum(dtype=np.float64)
    mask = np.zeros(density.size, bool)
    mask[rng.choice(density.size, count, p=probability)] = True
    return mask.reshape(density.shape)


def ratio(timings: Sequence[Timing], slow: str, fast: str) -> float:
    """Return the quotient of the median times of two operations."""
    by_name = {timing.name: timing for timing in timings}
    return by_name[slow].median_ms / by_name[fast].median_ms
