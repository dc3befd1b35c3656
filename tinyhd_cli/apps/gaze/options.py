"""Options of ``gaze``, for the command line and the Python API. Loads neither NumPy nor FFmpeg."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ...errors import UsageError
from ...fields import LOOK, RUN, Adjust, group, option
from ...recordings.options import FixationOptions, RecordingOptions
from ...video.options import EncoderOptions, InputOptions, OverlayStyle
from ..options import PLAYLISTS

MAPS = "Maps and scores"

DEFAULT_SIGMA_DEG = 1.0
"""Standard deviation of a Gaussian in degrees, about the size of the fovea, if the distance of the eyes is known."""

DEFAULT_SIGMA = 0.03
"""Otherwise the standard deviation as a fraction of the frame's longer side, as in CrowdSAL."""


@dataclass(frozen=True)
class Sigma:
    """Standard deviation of the Gaussians of a density map."""

    value: float
    degrees: bool
    """Whether it is in degrees of visual angle; otherwise in pixels of the video."""


def parse_sigma(text: str) -> Sigma:
    """Parse ``1deg`` or ``30px``; ``UsageError`` if it is malformed or not above 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(deg|px)", text.strip())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise UsageError(f"--sigma {text!r}: must be degrees or pixels above 0, such as 1deg or 30px")
    return Sigma(float(match[1]), match[2] == "deg")


@dataclass(frozen=True)
class GazeOptions:
    """Reading of recordings, detection of fixations, and the maps that are made from them.

    Raises ``UsageError`` for invalid values.
    """

    recordings: RecordingOptions = group(RecordingOptions)
    fixations: FixationOptions = group(FixationOptions)
    samples: bool = option(False, MAPS, "", "Use the valid gaze samples instead of fixations.")
    sigma: Sigma | None = option(
        None,
        MAPS,
        "1deg|30px",
        "Standard deviation of the Gaussian of each fixation, in degrees of visual angle (see --distance) or pixels of"
        " the video. Default: 1deg with --distance, else 3 % of the frame's longer side.",
        kind=str,
        parse=parse_sigma,
    )
    step: int = option(1, MAPS, "N", "Score every Nth frame; maps are written for all.")
    trail_s: float = option(
        0.5, LOOK, "SECONDS", "Length of the trails behind the points in the overlay; 0: none.", flag="trail"
    )
    audio: bool = option(True, LOOK, "", "Leave out the audio of the overlay.")
    """Whether the overlay has the video's audio."""
    style: OverlayStyle = group(OverlayStyle, Adjust(without=("side_by_side",)))
    encoder: EncoderOptions = group(EncoderOptions)
    input: InputOptions = group(InputOptions, PLAYLISTS)
    seed: int = option(0, RUN, "N", "Seed of the random halves of the observers.")

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UsageError(f"--step must be at least 1, not {self.step}")
        if not 0 <= self.trail_s < math.inf:
            raise UsageError(f"--trail must be at least 0, not {self.trail_s:g}")
        if self.seed < 0:
            raise UsageError(f"--seed must be at least 0, not {self.seed}")
        if self.sigma is not None and self.sigma.degrees and self.fixations.distance_cm is None:
            raise UsageError(
                f"--sigma {self.sigma.value:g}deg needs --distance and --screen-width; or give pixels, such as 30px"
            )


def degrees_to_pixels(degrees: float, fixations: FixationOptions, screen_width: int) -> float:
    """Return a visual angle at the center of the screen in pixels of the screen.

    Args:
        degrees: the angle.
        fixations: the distance of the eyes and the width of the screen, which must be given.
        screen_width: pixels.
    """
    distance, width = fixations.distance_cm, fixations.screen_width_cm
    assert distance is not None and width is not None, "FixationOptions requires both or none"
    return 2 * distance * math.tan(math.radians(degrees) / 2) * screen_width / width
