"""Draw the recorded gaze on the frames of a video, next to the prediction of a model."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...inference.normalization import RunningScale
from ...inference.windows import Map
from ...video.options import OverlayStyle
from ...video.overlay import Painter, draw_label, label_height
from ...video.reader import Frame, Image, VideoInfo
from ...video.writer import VideoWriter
from ...wording import plural
from .density import Gaussians
from .frames import FrameGaze, FrameResult
from .options import GazeOptions
from .points import Gaze

SUBPIXELS = 4
"""Fractional bits of coordinates in OpenCV's drawing functions."""

MAX_KEY = 12
"""Maximum number of observers that are named in a frame."""

KEY_SHARE = 0.6
"""Maximum part of a frame's height that the names may cover."""

MAX_NAME = 20
"""Maximum number of characters of a name."""

LABEL = (40, 40, 40)
"""RGB color of the labels of both halves."""


def observer_color(number: int) -> tuple[int, int, int]:
    """Return the RGB color of an observer; the colors of neighboring numbers differ clearly."""
    hue = 0.6180339887 * number % 1  # the golden ratio spreads any number of hues evenly
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75 if number % 2 else 0.95, 1.0 if number % 3 else 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


class GazePainter:
    """Draws density, points and trails on the left, and a model's map on the right.

    Args:
        gaze: the recorded gaze.
        model: the model's name; None to draw the gaze alone.
        style: colors of the maps.
        trail_s: length of the trails in seconds.
    """

    def __init__(self, gaze: Gaze, model: str | None, style: OverlayStyle, trail_s: float) -> None:
        self._gaze, self._model, self._trail_s = gaze, model, trail_s
        self._painter = Painter(style)
        self._density_scale, self._model_scale = RunningScale(), RunningScale()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the images, for frames of a size."""
        return (width if self._model is None else 2 * width), height

    def paint(self, shown: FrameGaze, density: Map) -> Image:
        """Return the drawn frame.

        Args:
            shown: the frame with its gaze.
            density: its density, of any size.
        """
        frame, gaussians, saliency = shown.frame, shown.gaussians, shown.saliency
        rgb = frame.rgb()
        left = rgb.copy()
        if len(gaussians.points):
            left = self._painter.paint(rgb, self._density_scale(density, frame.time_s))
        left = np.ascontiguousarray(left)
        self._draw_gaze(left, frame, gaussians)
        if frame.time_s < self._gaze.end_s:
            observers = len(np.unique(gaussians.points.observer))
            draw_label(left, f"gaze of {plural(observers, 'observer')}", (0, 0), LABEL)
            draw_key(left, self._gaze.observers)
        if saliency is None:
            return left
        right = np.ascontiguousarray(self._painter.paint(rgb, self._model_scale(saliency, frame.time_s)))
        draw_label(right, str(self._model), (0, 0), LABEL)
        return np.hstack([left, right])

    def _draw_gaze(self, image: Image, frame: Frame, gaussians: Gaussians) -> None:
        """Draw trails and points on an image, in place."""
        width = image.shape[1]
        radius, stroke = max(2, round(width / 160)), max(1, round(width / 500))
        end_s = frame.time_s + float(frame.duration * frame.info.time_base)
        for observer in range(len(self._gaze.observers) if self._trail_s else 0):
            trail = self._gaze.trail(observer, end_s - self._trail_s, end_s)
            if len(trail) > 1:
                line = [to_subpixels(trail)]
                cv2.polylines(image, line, False, observer_color(observer), stroke, cv2.LINE_AA, SUBPIXELS)
        points = gaussians.points
        places = to_subpixels(np.stack([points.x, points.y], axis=1))
        for observer, place in zip(points.observer, places, strict=True):
            at = (int(place[0]), int(place[1]))
            for size, color in ((radius + stroke, (0, 0, 0)), (radius, observer_color(int(observer)))):
                cv2.circle(image, at, size << SUBPIXELS, color, cv2.FILLED, cv2.LINE_AA, SUBPIXELS)


def draw_key(image: Image, names: Sequence[str]) -> None:
    """Draw the observers' names in their colors in the lower left corner, in place; nothing if there is no room."""
    height, texts = image.shape[0], [name[:MAX_NAME] for name in names]
    line = max(label_height(image, text) for text in texts)
    if len(names) > MAX_KEY or len(names) * line > KEY_SHARE * height:
        return
    for number, text in enumerate(texts):
        draw_label(image, text, (0, height - (len(texts) - 1 - number) * line), observer_color(number))


def to_subpixels(places: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return positions ``(n, 2)`` in pixels in OpenCV's fixed-point numbers; there, pixel centers are integers."""
    return np.round((np.clip(places, -(2**12), 2**14) - 0.5) * (1 << SUBPIXELS)).astype(np.int32)


class OverlayWriter:
    """The overlay as a video with the timestamps and the audio of its source.

    Args:
        path: the file.
        info: the source.
        painter: draws the frames.
        options: encoder, and whether to copy the audio.
    """

    def __init__(self, path: Path, info: VideoInfo, painter: GazePainter, options: GazeOptions) -> None:
        self._painter = painter
        size = painter.size(info.width, info.height)
        self._writer = VideoWriter(path, info, size, options.encoder, audio=options.audio)

    def write(self, done: FrameResult) -> None:
        """Draw and write the next frame."""
        assert done.small is not None, "computed whenever there is an overlay"
        self._writer.write(self._painter.paint(done.shown, done.small), done.shown.frame)

    def close(self) -> None:
        """Give the file its final name."""
        self._writer.close()

    def abort(self) -> None:
        """Remove the temporary file."""
        self._writer.abort()
