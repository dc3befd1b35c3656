"""Convert positions on the screen to pixels of the video that was shown there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

from ..errors import UsageError
from .options import RecordingOptions
from .recording import FixationTable, Samples

Points = TypeVar("Points", Samples, FixationTable)


@dataclass(frozen=True)
class Placement:
    """Where a video was shown on the screen."""

    rectangle: tuple[float, float, float, float]
    """Left, top, width and height of the video in pixels of the screen."""
    video: tuple[int, int]
    """Width and height of the video in its own pixels."""

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the video per pixel of the screen, across and down."""
        return self.video[0] / self.rectangle[2], self.video[1] / self.rectangle[3]


def placement_of(
    video: tuple[int, int], screen: tuple[int, int] | None, options: RecordingOptions | None = None
) -> Placement:
    """Return the placement that the options state, or else the video centered and scaled to fit the screen.

    Args:
        video: width and height of the video as it is displayed.
        screen: width and height of the screen; None: the video filled it in its own size.
        options: facts about the recordings.
    """
    if options is not None and options.placed is not None:
        return Placement(options.placed, video)
    if screen is None:
        return Placement((0.0, 0.0, float(video[0]), float(video[1])), video)
    if min(*video, *screen) < 1:
        raise UsageError(f"sizes must be above 0: video {video}, screen {screen}")
    scale = min(screen[0] / video[0], screen[1] / video[1])
    width, height = video[0] * scale, video[1] * scale
    return Placement(((screen[0] - width) / 2, (screen[1] - height) / 2, width, height), video)


def place(points: Points, placement: Placement) -> Points:
    """Return samples or fixations in pixels of the video; those beside the video are outside its frame."""
    left, top = placement.rectangle[:2]
    across, down = placement.scale
    x, y = (points.x - left) * across, (points.y - top) * down
    return replace(points, x=x.astype(points.x.dtype), y=y.astype(points.y.dtype))
