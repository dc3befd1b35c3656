"""AUCs as the MATLAB code computes them, with random numbers: to reproduce its procedure, and to check ``auc``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .auc import THRESHOLDS, Values, area_under_curve

SPLITS = 100
"""Random sets of negatives that AUC-Borji and shuffled AUC average over."""

JITTER = 1e-7
"""The largest number that AUC-Judd adds to a pixel to break ties."""


def scaled(prediction: Values) -> NDArray[np.float64]:
    """A map scaled to 0..1; NaN if it is constant."""
    values = np.asarray(prediction, np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if low < high else np.full_like(values, np.nan)


def judd(prediction: Values, fixation: NDArray[np.bool_], rng: np.random.Generator) -> float:
    """AUC-Judd with one draw of the jitter (AUC_Judd.m)."""
    n = int(fixation.sum())
    if not n or n == fixation.size:
        return float("nan")
    saliency = scaled(prediction + rng.random(prediction.shape) * JITTER)
    thresholds = np.sort(saliency[fixation])[::-1]
    above = saliency.size - np.searchsorted(np.sort(saliency, axis=None), thresholds)
    hits = np.arange(1, n + 1)
    return area_under_curve(hits / n, (above - hits) / (saliency.size - n))


def over_splits(positives: Values, negatives: Values, drawn: int, replace: bool, rng: np.random.Generator) -> float:
    """The mean area over random splits (AUC_Borji.m, AUC_shuffled.m).

    Args:
        positives: the scaled prediction at the fixated pixels.
        negatives: the same at the pixels that negatives are drawn from.
        drawn: how many negatives to draw for a split.
        replace: whether one pixel can be drawn twice.
        rng: where the draws come from.
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
    """AUC-Borji over 100 random splits."""
    saliency = scaled(prediction)
    return over_splits(saliency[fixation], saliency.ravel(), int(fixation.sum()), True, rng)


def shuffled(
    prediction: Values, fixation: NDArray[np.bool_], other_fixation: NDArray[np.bool_], rng: np.random.Generator
) -> float:
    """Shuffled AUC over 100 random splits."""
    saliency = scaled(prediction)
    others = saliency[other_fixation]
    return over_splits(saliency[fixation], others, min(int(fixation.sum()), others.size), False, rng)
