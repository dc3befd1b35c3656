"""What scoring a frame costs, beside decoding it and beside the original procedure with its random splits."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ..evaluation.parallel import MALLOC_KEEP_BYTES
from ..metrics import FrameScorer, resize, score_frame
from ..system import keep_freed_memory

SIZE = (360, 640)
"""Height and width of DHF1K's frames."""

FIXATIONS = 300
"""Fixated pixels in a frame."""


@dataclass(frozen=True)
class Timing:
    """How long something takes."""

    what: str
    median_ms: float
    best_ms: float


def metric_timings(rounds: int) -> list[Timing]:
    """Time every metric alone, all of them together, decoding, and the original's 100 random splits, in one run.

    All on one thread, with memory kept as ``tinyhd evaluate`` keeps it. Calls alternate, so that a busy machine slows
    all of them alike.

    Args:
        rounds: how often everything is timed.
    """
    rng = np.random.default_rng(0)
    density, prediction, baseline = (blobs(rng, SIZE) for _ in range(3))
    fixation, other = (scattered(rng, density) for _ in range(2))
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
        name: functools.partial(alone, method, eight_bits) for name, method in methods.items()
    }
    cases["all eight"] = lambda: score_frame(*eight_bits)
    cases["all eight, 100 random splits"] = lambda: score_frame(*eight_bits, rng=np.random.default_rng(0))
    cases["all eight, float32 192 x 256"] = lambda: score_frame(*network)
    cases["resizing 192 x 256 to 360 x 640"] = lambda: resize(small, SIZE)
    cases["decoding three PNGs"] = lambda: [cv2.imdecode(png, cv2.IMREAD_GRAYSCALE) for png in pngs]
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    keep_freed_memory(MALLOC_KEEP_BYTES)
    try:
        with threadpool_limits(1):
            return timed(cases, rounds)
    finally:
        cv2.setNumThreads(threads)


def alone(method: str, maps: tuple[NDArray[Any], ...]) -> float:
    """One metric with nothing shared."""
    score: float = getattr(FrameScorer(*maps), method)()
    return score


def timed(cases: dict[str, Callable[[], Any]], rounds: int) -> list[Timing]:
    """Time some calls in turn, after each was made once to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, call in cases.items():
            started = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return [Timing(name, 1e3 * statistics.median(times), 1e3 * min(times)) for name, times in seconds.items()]


def blobs(rng: np.random.Generator, size: tuple[int, int], count: int = 12) -> NDArray[np.uint8]:
    """A smooth map, as saliency maps and densities are, with 255 as its greatest value."""
    points = np.zeros(size, np.float32)
    rows, columns = (rng.integers(0, side, count) for side in size)
    points[rows, columns] = rng.random(count)
    blurred = cv2.GaussianBlur(points, (0, 0), size[1] / 20)
    density: NDArray[np.uint8] = np.round(blurred * (255 / blurred.max())).astype(np.uint8)
    return density


def scattered(rng: np.random.Generator, density: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """A fixation map drawn from a density."""
    share = density.ravel() / density.sum(dtype=np.float64)
    mask = np.zeros(density.size, bool)
    mask[rng.choice(density.size, FIXATIONS, p=share)] = True
    return mask.reshape(density.shape)


def ratio(timings: Sequence[Timing], slow: str, fast: str) -> float:
    """How many times sooner one of them is done, median against median."""
    by_name = {timing.what: timing for timing in timings}
    return by_name[slow].median_ms / by_name[fast].median_ms
