"""Options and outputs of ``gaze``, for the command line and the Python API. Loads neither NumPy nor FFmpeg."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from ...atomic_files import destination, is_special
from ...errors import UsageError
from ...fields import LOOK, OUTPUTS, RUN, Adjust, group, option
from ...inference.options import STDOUT
from ...recordings.options import FixationOptions, RecordingOptions
from ...storage import url_of
from ...video.options import EncoderOptions, InputOptions, OverlayStyle

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
    style: OverlayStyle = group(
        OverlayStyle,
        Adjust(
            without=("side_by_side",),
            help={
                "alpha": "Opacity of the densest regions of both maps. Default: 0.6.",
                "threshold": "Relative density below which nothing is drawn. Default: 0.1.",
            },
        ),
    )
    encoder: EncoderOptions = group(EncoderOptions)
    input: InputOptions = group(InputOptions, Adjust(only=("rate", "playlists")))
    seed: int = option(0, RUN, "N", "Seed of the random halves of the observers.")

    def __post_init__(self) -> None:
        seen, flag = self.fixations, "dispersion" if self.fixations.method == "idt" else "velocity"
        if seen.in_pixels and not self.samples and getattr(seen, flag) == getattr(FixationOptions(), flag):
            raise UsageError(f"--thresholds-in-pixels needs --{flag} in pixels, because its default is in degrees")
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


SUFFIXES = {"json": ".json", "csv": ".csv", "plot": ".png"}
"""Suffixes of the outputs that have only one."""


@dataclass(frozen=True)
class GazeOutputs:
    """The outputs; None for those that are not requested. Raises ``UsageError`` for names that do not suit."""

    out: Path | None = option(
        None,
        OUTPUTS,
        "DIR",
        "Fixation maps and density maps of every frame, as a dataset for `tinyhd evaluate --dataset folder` and `tinyhd"
        " train`.",
        kind=Path,
    )
    overlay: Path | None = option(
        None,
        OUTPUTS,
        "FILE",
        "Video of the gaze (points, trails, density) next to the prediction of the model.",
        short="-o",
        kind=Path,
    )
    plot: Path | None = option(None, OUTPUTS, "FILE", "Agreement over time and of each observer, as PNG.", kind=Path)
    json: Path | None = option(None, OUTPUTS, "FILE", "All results; - for standard output.", kind=Path)
    csv: Path | None = option(None, OUTPUTS, "FILE", "One row per observer; - for standard output.", kind=Path)

    def __post_init__(self) -> None:
        for kind, path in self.requested():
            if path == STDOUT:
                if kind not in ("json", "csv"):
                    raise UsageError(f"--{kind} -: only --json and --csv can go to standard output")
                continue
            destination(path)  # raises an error for an invalid path
            if kind == "out" and url_of(path) is not None:
                raise UsageError(f"--out {path}: a dataset links to its video; write to a local folder, then upload it")
            suffix = SUFFIXES.get(kind)
            if suffix and path.suffix.lower() != suffix and not is_special(path):
                raise UsageError(f"--{kind} {path}: the file's name must end in {suffix}")
            if kind == "out" and path.exists() and not path.is_dir():
                raise UsageError(f"--out {path}: exists and is not a folder")
            if kind != "out" and path.is_dir():
                raise UsageError(f"--{kind} {path}: is a folder; give the name of a file")
        if self.overlay is not None:
            from ...video.encoders import check_container

            check_container(self.overlay)
        places = [os.path.realpath(path) for _, path in self.requested()]
        if len(set(places)) < len(places):
            raise UsageError(f"two outputs have the same name: {', '.join(str(path) for _, path in self.requested())}")

    def requested(self) -> list[tuple[str, Path]]:
        """Return the option and the path of every requested output."""
        pairs = [(item.name, getattr(self, item.name)) for item in fields(self)]
        return [(name, path) for name, path in pairs if path is not None]

    def check_inputs(self, video: Path, recordings: Sequence[Path]) -> None:
        """Raise ``UsageError`` if an output would replace an input, a file beside the recordings, or another output."""
        sources = {os.path.realpath(source) for source in input_files(video, recordings)}
        folders = {Path(os.path.realpath(folder)) for folder in recordings if folder.is_dir()}
        for kind, path in self.requested():
            place = Path(os.path.realpath(path))
            if str(place) in sources:
                raise UsageError(f"--{kind} {path}: is an input; write to another file")
            if kind in ("csv", "json") and path.is_file() and folders & {*place.parents}:
                raise UsageError(f"--{kind} {path}: is a file in a folder of recordings; write to another folder")
            if kind == "plot" and video.is_dir() and place.parent == Path(os.path.realpath(video)):
                raise UsageError(f"--{kind} {path}: would be a frame of the video; write to another folder")
        if self.out is not None:
            self._check_dataset(self.out, video, sources)

    def _check_dataset(self, out: Path, video: Path, sources: set[str]) -> None:
        """Raise ``UsageError`` if an input or another output is among the files of the dataset ``out``."""
        maps = [Path(os.path.realpath(out / name)) for name in ("maps", "fixation")]
        for source in map(Path, sorted(sources)):
            if any(source.is_relative_to(folder) for folder in maps):
                raise UsageError(f"--out {out}: would write to the folder of the input {source}; choose another --out")
        link = out / Path(os.path.realpath(video)).name
        made = [*maps, Path(os.path.realpath(out / "gaze")), Path(os.path.realpath(link))]
        for kind, path in self.requested():
            if kind != "out" and any(Path(os.path.realpath(path)).is_relative_to(place) for place in made):
                raise UsageError(f"--{kind} {path}: belongs to the dataset of --out; write to another file")


def input_files(video: Path, recordings: Sequence[Path]) -> list[Path]:
    """Return the inputs as they were given, and all files that are read from folders among them."""
    from ...recordings.read import expand, ignore
    from ...video.source import images_in

    images = images_in(video) if video.is_dir() else []
    return [video, *images, *recordings, *expand(recordings, ignore)]
