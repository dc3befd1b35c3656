"""Turn the recordings of several observers into maps, an overlay, and scores, in one pass over the video."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...callbacks import OnProgress, StartPhase, no_phases
from ...errors import InputError
from ...inference.model import Model
from ...inference.tasks import require_task
from ...recordings import OnProblem
from ...video.images import is_static_image
from ...video.reader import VideoReader
from ...wording import list_names
from .ceiling import StudyCollector
from .frames import compute, frames_with_gaze, in_order
from .maps import FolderWriter
from .observers import StudyGaze, nothing_on_video, read_gaze
from .options import GazeOptions, GazeOutputs
from .outputs import write_results
from .overlay import GazePainter, OverlayWriter
from .results import GazeResult

log = logging.getLogger("tinyhd")

READING = "reading recordings"
"""Name of the phase that counts recordings, not frames."""

TOLERATED_S = 0.5
"""Gaze that continues after the end of the video for longer than this is reported."""

MUCH_SHORTER = 0.5
"""Gaze that ends before this fraction of the video is reported."""


def gaze_file(
    video: Path,
    recordings: Sequence[Path],
    outputs: GazeOutputs | None = None,
    options: GazeOptions | None = None,
    model: Model | None = None,
    start_phase: StartPhase = no_phases,
    on_problem: OnProblem | None = None,
) -> GazeResult:
    """Make maps and an overlay from the gaze of several observers, and score observers and a model against it.

    Args:
        video: the video that the observers saw.
        recordings: files with one or several observers each.
        outputs: the files to write; None for none.
        options: reading of the recordings, detection of fixations, and maps; None: the defaults.
        model: predicts where people look; None to score the observers alone.
        start_phase: called at the start of each phase; returns the callback for the progress of the phase.
        on_problem: called with each problem of a recording; None to log a warning.

    Raises:
        InputError: the video cannot be read, no recording can be used, or no gaze is on the video; nothing is written.
        OutputError: an output cannot be written; no incomplete file is left.
        UsageError: options contradict each other or are missing.
    """
    outputs, options = outputs or GazeOutputs(), options or GazeOptions()
    outputs.check_inputs(video, recordings)
    if is_static_image(video):
        raise InputError(f"{video}: is an image; gaze needs a video")
    if model is not None:
        require_task(model.spec, "fixation", "gaze")
    with VideoReader(video, options.input) as reader:
        study = read_gaze(recordings, options, reader.info, start_phase(READING), on_problem)
        result = watch(reader, study, outputs, options, model, start_phase("frames"))
    report_rest(result, study)
    write_results(result, outputs)
    return result


def watch(
    reader: VideoReader,
    study: StudyGaze,
    outputs: GazeOutputs,
    options: GazeOptions,
    model: Model | None,
    report: OnProgress,
) -> GazeResult:
    """Process all frames of an open video and write the maps and the overlay."""
    info, name = reader.info, None if model is None else model.name
    collector = StudyCollector(study.observers, name)
    with contextlib.ExitStack() as stack:
        sinks: list[FolderWriter | OverlayWriter] = []
        if outputs.out is not None:
            sinks.append(FolderWriter(outputs.out, info.path, [observer.file for observer in study.observers]))
            stack.callback(sinks[-1].abort)
        if outputs.overlay is not None:
            painter = GazePainter(study.gaze, name, options.style, options.trail_s)
            sinks.append(OverlayWriter(outputs.overlay, info, painter, options))
            stack.callback(sinks[-1].abort)
        frames = stack.enter_context(contextlib.closing(frames_with_gaze(reader, study.gaze, study.canvas, model)))
        for done in in_order(partial(compute, options=options, outputs=outputs), frames):
            for sink in sinks:
                sink.write(done)
            collector.add(done.shown.frame, done.shown.gaussians.points.observer, done.scores)
            report(collector.frames, max(reader.frame_count or 0, collector.frames))
        if not collector.frames_with_gaze:
            raise nothing_on_video()
        for sink in sinks:
            sink.close()
    return collector.result(info, study, reader.damaged)


def report_rest(result: GazeResult, study: StudyGaze) -> None:
    """Log a warning if recordings are longer, or much shorter, than the video."""
    later = [name for name, end_s in study.ends_s.items() if end_s > result.duration_s + TOLERATED_S]
    if later:
        log.warning(
            "%s: ends after %.1f s, but gaze was recorded until %.1f s (%s); the rest is not used. Check --offset and"
            " --stimulus if that is unexpected",
            result.video,
            result.duration_s,
            study.gaze.end_s,
            list_names(later),
        )
    early = [name for name, end_s in study.ends_s.items() if end_s < result.duration_s * MUCH_SHORTER - TOLERATED_S]
    if early:
        log.warning(
            "%s: lasts %.1f s, but gaze was recorded only until %.1f s or earlier (%s). Check --time-unit, --offset and"
            " --stimulus if that is unexpected",
            result.video,
            result.duration_s,
            max(study.ends_s[name] for name in early),
            list_names(early),
        )
