"""The metrics of salient objects computed pixel by pixel, as defined: slow, to check and to time ``object``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .frame import EPS

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


def score(prediction: NDArray[np.uint8], mask: Mask) -> dict[str, float]:
    """Return the metrics of a frame, by the names and definitions of ``object.score_object_frame``.

    Args:
        prediction: the map in 8 bits, ``(H, W)``.
        mask: the mask, ``(H, W)``.
    """
    p = prediction / 255
    if p.min() < p.max():
        p = (p - p.min()) / (p.max() - p.min())
    quantized = np.floor(255 * p)
    binary = [quantized >= k for k in range(256)]
    adaptive = p >= min(2 * p.mean(), 1)
    f = [f_measure(positive, mask) for positive in binary]
    e = [e_measure(positive, mask) for positive in binary]
    return {
        "MAE": float(np.abs(p - mask).mean()),
        "maxF": max(f),
        "meanF": float(np.mean(f)),
        "adpF": f_measure(adaptive, mask),
        "S": s_measure(p, mask),
        "maxE": max(e),
        "meanE": float(np.mean(e)),
        "adpE": e_measure(adaptive, mask),
        "wF": weighted_f(p, mask),
    }


def f_measure(positive: Mask, mask: Mask) -> float:
    """Return the F-measure of a binary map, beta^2 = 0.3."""
    hits = np.count_nonzero(positive & mask)
    if not hits:
        return 0.0
    precision, recall = hits / np.count_nonzero(positive), hits / np.count_nonzero(mask)
    return 1.3 * precision * recall / (0.3 * precision + recall)


def e_measure(positive: Mask, mask: Mask) -> float:
    """Return the E-measure of a binary map."""
    if not mask.any():
        enhanced = np.where(positive, 0.0, 1.0)
    elif mask.all():
        enhanced = np.where(positive, 1.0, 0.0)
    else:
        u, v = positive - positive.mean(), mask - mask.mean()
        enhanced = (2 * u * v / (u**2 + v**2 + EPS) + 1) ** 2 / 4
    return float(enhanced.sum() / max(mask.size - 1, 1))


def s_measure(p: Values, mask: Mask) -> float:
    """Return the S-measure, alpha = 0.5."""
    if not mask.any():
        return float(1 - p.mean())
    if mask.all():
        return float(p.mean())
    share = mask.mean()
    objects = share * object_similarity(p[mask]) + (1 - share) * object_similarity(1 - p[~mask])
    row, column = (round(center) + 1 for center in np.argwhere(mask).mean(axis=0))
    regions = 0.0
    for rows in (slice(None, row), slice(row, None)):
        for columns in (slice(None, column), slice(column, None)):
            part = mask[rows, columns]
            if part.size:
                regions += part.size / mask.size * region_similarity(p[rows, columns], part)
    return float(max(0.0, (objects + regions) / 2))


def object_similarity(values: Values) -> float:
    """Return 2 mean / (mean^2 + 1 + standard deviation)."""
    deviation = values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * values.mean() / (values.mean() ** 2 + 1 + deviation + EPS))


def region_similarity(p: Values, mask: Mask) -> float:
    """Return the structural similarity of a part of the frame."""
    x, y = p.mean(), mask.mean()
    if p.min() == p.max():  # else rounding errors of a constant part would be a variance
        x = p.min()
    count = max(p.size - 1, 1)
    covariance = ((p - x) * (mask - y)).sum() / count
    variances = ((p - x) ** 2).sum() / count + ((mask - y) ** 2).sum() / count
    numerator, denominator = 4 * x * y * covariance, (x**2 + y**2) * variances
    if p.min() == p.max() or mask.min() == mask.max():
        numerator = 0.0
    if numerator:
        return float(numerator / (denominator + EPS))
    return 0.0 if denominator else 1.0


def weighted_f(p: Values, mask: Mask) -> float:
    """Return the weighted F-measure, beta = 1."""
    if not mask.any():
        return 0.0
    errors = np.abs(p - mask)
    distance, rows, columns = nearest_pixels(mask)
    extended = np.where(mask, errors, errors[rows, columns])
    padded = np.pad(extended, 3)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7))
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 5.0**2))
    kernel = np.outer(weights, weights)
    averaged = (windows * (kernel / kernel.sum())).sum(axis=(2, 3))
    importance = np.where(mask, 1.0, 2 - 0.5 ** (distance / 5))
    weighted = np.where(mask & (averaged < errors), averaged, errors) * importance
    hits = mask.sum() - weighted[mask].sum()
    recall, precision = 1 - weighted[mask].mean(), hits / (hits + weighted[~mask].sum() + EPS)
    return float(2 * recall * precision / (recall + precision + EPS))


def nearest_pixels(mask: Mask) -> tuple[Values, NDArray[np.intp], NDArray[np.intp]]:
    """Return the distance, row and column of the nearest pixel of a mask, for each pixel.

    Of several, it is the leftmost, and the upper of those.
    """
    height, width = mask.shape
    every_row = np.arange(height)
    vertical = np.where(mask[None], np.abs(every_row[:, None] - every_row)[..., None], height + width)
    row_in_column, vertical_distance = vertical.argmin(axis=1), vertical.min(axis=1)
    squared = vertical_distance[:, None, :] ** 2 + np.square(np.arange(width)[:, None] - np.arange(width))[None]
    column = squared.argmin(axis=2)
    row = np.take_along_axis(row_in_column, column, axis=1)
    return np.sqrt(squared.min(axis=2)), row, column
