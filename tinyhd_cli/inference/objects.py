"""Describe the object in a frame by a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..video.object_overlay import object_mask
from ..video.overlay import to_gray_image
from .windows import Map

MIN_PART = 0.01
"""Connected parts below this fraction of the object are left out: a speck would make the box much too large."""


@dataclass(frozen=True)
class ObjectStatistics:
    """Size and position of the object in one frame, in pixels of the source video; None where there is no object."""

    area: float
    """Fraction of the frame that the object covers."""
    box_x: int | None = None
    """Left column of the bounding box."""
    box_y: int | None = None
    """Upper row of the bounding box."""
    box_width: int | None = None
    box_height: int | None = None
    center_x: float | None = None
    """Column of the center of the object's area."""
    center_y: float | None = None
    """Row of the center of the object's area."""
    probability: float | None = None
    """Mean probability of the object's pixels."""
    parts: int = 0
    """Number of connected parts, at least ``MIN_PART`` of the object each."""


def describe_object(probability: Map, width: int, height: int, threshold: float) -> ObjectStatistics:
    """Return the statistics of the object in a frame.

    Integer centers are pixel centers: the middle of a row of 640 pixels is 319.5.

    Args:
        probability: ``(H, W)`` in 0..1.
        width: width of the video in pixels.
        height: height of the video in pixels.
        threshold: probability above which a pixel is part of the object.
    """
    gray = to_gray_image(probability, width, height)
    mask = object_mask(gray, threshold)
    left, top, columns, rows = cv2.boundingRect(mask)
    if not columns:
        return ObjectStatistics(0.0)
    box = (slice(top, top + rows), slice(left, left + columns))
    _, labels, stats, centers = cv2.connectedComponentsWithStats(mask[box])
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background
    kept = areas >= MIN_PART * areas.sum()
    kept[0] = False
    parts, area = stats[kept], int(areas[kept].sum())
    x, y = parts[:, cv2.CC_STAT_LEFT], parts[:, cv2.CC_STAT_TOP]
    center = areas[kept] @ centers[kept] / area
    return ObjectStatistics(
        area=area / (width * height),
        box_x=left + int(x.min()),
        box_y=top + int(y.min()),
        box_width=int((x + parts[:, cv2.CC_STAT_WIDTH]).max() - x.min()),
        box_height=int((y + parts[:, cv2.CC_STAT_HEIGHT]).max() - y.min()),
        center_x=left + float(center[0]),
        center_y=top + float(center[1]),
        probability=float(cv2.mean(gray[box], kept[labels].astype(np.uint8))[0]) / 255,
        parts=int(kept.sum()),
    )
