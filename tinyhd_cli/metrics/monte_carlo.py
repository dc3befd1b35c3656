"""Compute AUCs with random numbers like the MATLAB code, to reproduce its procedure and to verify ``auc``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .auc import THRESHOLDS, Values, area_under_curve

SPLITS = 100
"""Number of random sets of negatives over which AUC-Borji and shuffled AUC are averaged."""

JITTER = 1e-7
"""Maximum of the random numbers that AUC-Judd adds to the pixels to break ties."""


def rescale(prediction: Values) -> NDArray[np.float64]:
    """Rescale a map to 0..1; NaN if it is constant."""
    values = np.asarray(prediction, np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if low < high else np.full_like(values, np.nan)


def judd(prediction: Values, fixation: NDArray[np.bool_], rng: np.random.Generator) -> float:
    """Return AUC-Judd with one draw of the jitter (AUC_Judd.m)."""
    n = int(fixation.sum())
    if not n or n == fixation.size:
        return float("nan")
    saliency = rescale(prediction + rng.random(prediction.shape) * JITTER)
    thresholds = np.sort(saliency[fixation])[::-1]
    above = saliency.size - np.searchsorted(np.sort(saliency, axis=None), thresholds)
    hits = np.arange(1, n + 1)
    return area_under_curve(hits / n, (above - hits) / (saliency.size - n))


def mean_over_splits(
    positives: Values, negatives: Values, drawn: int, replace: bool, rng: np.random.Generator
) -> float:
    """Return the mean area over random splits (AUC_Borji.m, AUC_shuffled.m).

    Args:
        positives: the rescaled prediction at the fixated pixels.
        negatives: the rescaled prediction at the pixels from which negatives are drawn.
        drawn: number of negatives in a split.
        replace: whether to draw with replacement.
        rng: random number generator.
    """
    if not positives.size or not drawn or np.isnan(positives[0]):
        return float("nan")
    descending = THRESHOLDS[::-1, np.newaxis]
    hit_rates = (positives >= descending).mean(axis=1)
    areas = np.empty(SPLITS)
    for split in range(SPLITS):
        sample = rng.choice(negatives, drawn) if replace else rng.permutation(negatives)[:drawn]
        areas[split] = area_under_curve(hit_rates, (sample >= descending).mean(axis=1))
    return float(areas.mean())


def borji(prediction: Values, fixation: NDArray[np.bool_], rng: np.random.Generator) -> float:
    """Return AUC-Borji over 100 random splits."""
    saliency = rescale(prediction)
    return mean_over_splits(saliency[fixation], saliency.ravel(), int(fixation.sum()), True, rng)


def shuffled(
    prediction: Values, fixation: NDArray[np.bool_], other_fixation: NDArray[np.bool_], rng: np.random.Generator
) -> float:
    """Return shuffled AUC over 100 random splits."""
    saliency = rescale(prediction)
    others = saliency[other_fixation]
    return mean_over_splits(saliency[fixation], others, min(int(fixation.sum()), others.size), False, rng)
