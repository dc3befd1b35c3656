"""Write maps as the organizers of CrowdSAL, NTIRE 2026 and AIM 2024 expect them: a gray video for each clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..callbacks import OnProgress, StartPhase
from ..complete import is_complete
from ..datasets import Dataset, Video
from ..errors import InputError
from ..video.reader import VideoReader
from .gray_video import GrayVideoWriter
from .predictions import NetworkSource


def write_videos(
    dataset: Dataset,
    source: NetworkSource,
    folder: Path,
    start_phase: StartPhase,
    on_failure: Callable[[str], None],
) -> int:
    """Predict all clips into ``folder/NAME.mp4``. Complete videos of an earlier run are kept.

    Args:
        dataset: the clips.
        source: the network.
        folder: where to write.
        start_phase: called with the name and number of each clip; returns its progress callback.
        on_failure: called with a message about each file or clip that cannot be read.

    Returns:
        Number of complete videos.

    Raises:
        OutputError: a file cannot be written.
    """
    complete = 0
    for number, video in enumerate(dataset.videos, start=1):
        target = folder / f"{video.name}.mp4"
        if not is_complete(target):
            progress = start_phase(f"{video.name} ({number}/{len(dataset.videos)})")
            try:
                write_video(video, source, target, progress, on_failure)
            except InputError as error:
                on_failure(str(error))
                continue
        complete += 1
    return complete


def write_video(
    video: Video, source: NetworkSource, target: Path, progress: OnProgress, on_failure: Callable[[str], None]
) -> None:
    """Write a map for each frame of a clip; a frame that cannot be decoded gets the map of the next frame."""
    if not video.is_file or video.source is None:
        raise InputError(f"{video.name}: has no video file, whose frames a submission must have")
    with VideoReader(video.source) as clip:
        info = clip.info
    frames = max(len(video.frames), info.frame_count or 0) or None
    written = 0
    with GrayVideoWriter(target, (info.height, info.width), info.rate) as writer:
        saliency = None
        for number, saliency in source.maps(video, on_failure):
            while written <= number - video.first_number:
                writer.write(saliency)
                written += 1
            progress(written, frames)
        if saliency is None:
            raise InputError(f"{video.source}: no frame could be predicted")
        while written < len(video.frames):
            writer.write(saliency)
            written += 1
    if frames is not None and written < frames:
        on_failure(f"{target}: has {written} maps, but {video.source} states {frames} frames; its end may be damaged")
