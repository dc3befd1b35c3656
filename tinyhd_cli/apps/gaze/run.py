"""Turn the recordings of several observers into maps, an overlay, and scores, in one pass over the video."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...callbacks import OnProgress, StartPhase, no_phases
from ...errors import InputError
from ...inference.model import Model
from ...inference.predict import saliency_of
from ...inference.tasks import require_task
from ...inference.windows import Map
from ...metrics import resize
from ...recordings import OnProblem
from ...system import available_cores
from ...video.images import is_static_image
from ...video.reader import Frame, VideoReader
from ...wording import list_names
from .agreement import FrameScores, score_gaze
from .ceiling import CeilingCollector
from .density import Canvas, Gaussians
from .maps import EncodedMaps, FolderWriter, encode_maps
from .observers import StudyGaze, read_gaze
from .options import GazeOptions
from .outputs import GazeOutputs, write_results
from .overlay import GazePainter, OverlayWriter, small_density
from .results import GazeResult

log = logging.getLogger("tinyhd")

Item, Result = TypeVar("Item"), TypeVar("Result")

TOLERATED_S = 0.5
"""Gaze that continues after the end of the video for longer than this is reported."""


@dataclass(frozen=True)
class FrameWork:
    """A frame with its gaze, and the model's map."""

    frame: Frame
    gaussians: Gaussians
    saliency: Map | None


@dataclass(frozen=True)
class FrameResult:
    """Everything that is computed for a frame independently of other frames."""

    work: FrameWork
    maps: EncodedMaps | None
    scores: FrameScores | None
    small: Map | None
    """Density for the overlay."""


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
        InputError: the video cannot be read, or no recording can be used; nothing is written.
        OutputError: an output cannot be written; no incomplete file is left.
        UsageError: options contradict each other or are missing.
    """
    outputs, options = outputs or GazeOutputs(), options or GazeOptions()
    outputs.check_inputs([video, *recordings])
    if is_static_image(video):
        raise InputError(f"{video}: is an image; gaze needs a video")
    if model is not None:
        require_task(model.spec, "fixation", "gaze")
    with VideoReader(video, options.input) as reader:
        study = read_gaze(recordings, options, reader.info, start_phase("reading recordings"), on_problem)
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
    info, canvas = reader.info, study.canvas
    name = None if model is None else model.name
    collector = CeilingCollector(len(study.gaze.observers), name)
    watched = np.zeros(len(study.gaze.observers), np.int64)
    frames = frames_with_gaze = 0
    duration_s = 0.0
    with contextlib.ExitStack() as stack:
        folder = FolderWriter(outputs.out, info.path) if outputs.out else None
        painter = GazePainter(study.gaze, name, options.style, options.trail_s)
        overlay = OverlayWriter(outputs.overlay, info, painter, options) if outputs.overlay else None
        for writer in (folder, overlay):
            if writer is not None:
                stack.callback(writer.abort)
        works = stack.enter_context(contextlib.closing(frame_works(reader, study, model)))

        def compute(work: FrameWork) -> FrameResult:
            return process(work, options, maps=folder is not None, overlay=overlay is not None)

        for done in in_order(compute, works):
            frame, gaussians = done.work.frame, done.work.gaussians
            if folder:
                folder.write(done.maps, frame)
            if overlay and done.small is not None:
                overlay.write(frame, gaussians, done.small, done.work.saliency)
            if done.scores is not None:
                collector.add(frame.time_s, done.scores)
            watched[np.unique(gaussians.points.observer)] += 1
            frames_with_gaze += len(gaussians.points) > 0
            frames += 1
            duration_s = frame.time_s + float(frame.duration * info.time_base)
            report(frames, max(reader.frame_count or 0, frames))
        for writer in (folder, overlay):
            if writer is not None:
                writer.close()
    observers = []
    for number, observer in enumerate(study.observers):
        others, of_model = collector.of_observer(number)
        observers.append(replace(observer, frames=int(watched[number]), others=others, model=of_model))
    return GazeResult(
        info.path,
        frames,
        duration_s,
        reader.damaged,
        canvas.width,
        canvas.height,
        canvas.sigma,
        frames_with_gaze,
        tuple(observers),
        collector.ceiling(),
        collector.model(),
        collector.curve(),
    )


def frame_works(reader: VideoReader, study: StudyGaze, model: Model | None) -> Iterator[FrameWork]:
    """Yield the frames of a video with their gaze and, with a model, their maps."""
    canvas = study.canvas
    with contextlib.ExitStack() as stack:
        pairs: Iterable[tuple[Frame, Map | None]] = ((frame, None) for frame in reader)
        if model is not None:
            pairs = stack.enter_context(contextlib.closing(saliency_of(reader, model)))
        for frame, saliency in pairs:
            end_s = frame.time_s + float(frame.duration * frame.info.time_base)
            points = study.gaze.between(frame.time_s, end_s).inside(canvas.width, canvas.height)
            yield FrameWork(frame, Gaussians(points, canvas), saliency)


def process(work: FrameWork, options: GazeOptions, *, maps: bool, overlay: bool) -> FrameResult:
    """Compute the results of one frame; several frames can be processed at the same time."""
    gaussians, canvas, index = work.gaussians, work.gaussians.canvas, work.frame.index
    encoded = scores = None
    if len(gaussians.points):
        if maps:
            encoded = encode_maps(gaussians.density(), gaussians.points, canvas)
        if index % options.step == 0:
            scores = score(work, (options.seed, index), canvas)
    return FrameResult(work, encoded, scores, small_density(gaussians) if overlay else None)


def score(work: FrameWork, seed: tuple[int, int], canvas: Canvas) -> FrameScores | None:
    """Score the observers of a frame against each other, and the model's map against them."""
    saliency = None if work.saliency is None else resize(work.saliency, (canvas.height, canvas.width))
    return score_gaze(work.gaussians, seed, saliency)


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the results of a function for each item, in order, computed in one thread per core.

    Only a few items are taken in advance, so that memory is constant.
    """
    from threadpoolctl import threadpool_limits

    workers = available_cores()
    waiting: deque[Future[Result]] = deque()
    # The products of a frame's curves are too small for several threads each.
    with ThreadPoolExecutor(workers) as pool, threadpool_limits(1, "blas"):
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def report_rest(result: GazeResult, study: StudyGaze) -> None:
    """Log a warning if gaze was recorded after the end of the video."""
    later = [name for name, end_s in study.ends_s.items() if end_s > result.duration_s + TOLERATED_S]
    if later:
        last = max(study.ends_s.values())
        log.warning(
            "%s: ends after %.1f s, but gaze was recorded until %.1f s (%s); the rest is not used. Check --offset and"
            " --stimulus if that is unexpected",
            result.video,
            result.duration_s,
            last,
            list_names(later),
        )
