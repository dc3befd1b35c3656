"""Predict the saliency maps of a video and write any number of output files in the same pass."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..callbacks import OnProgress
from ..errors import UsageError
from ..models import ModelSpec
from ..system import trim_heap
from ..version import __version__
from ..video.images import is_static_image
from ..video.reader import Frame, VideoReader
from ..video.source import STDIN, is_read_once
from .areas import AreaStatistics
from .map_spool import MapSpool
from .model import Model
from .normalization import FixedScale, Normalize, VideoLimits
from .options import ANIMATIONS, STDOUT, Outputs, PredictOptions, flag
from .outputs import RunContext, open_sinks
from .pipeline import Pipeline
from .preprocess import Pixels, reduced
from .tasks import require_objects
from .windows import Map

log = logging.getLogger("tinyhd")

MIN_AHEAD = 16
"""Minimum capacity of the queues of frames before the network and of maps after it; at least one clip is used."""

GROUP = 8
"""Number of frames that are passed between stages together if the network is run on many frames at once."""

TRIM_FRAMES = 64
"""Number of frames after which free memory is returned to the system: cheap, and often enough for a constant peak."""


@dataclass(frozen=True)
class Summary:
    """Result of predicting one video."""

    frames: int
    damaged: int
    """Packets and frames that could not be decoded."""
    duration_s: float
    outputs: Outputs
    areas: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Areas of interest, by name: see ``areas.AreaSummary``."""
    subject: str = "attention"
    """The quantity whose fractions in the areas are measured."""


def saliency_of(reader: VideoReader, model: Model) -> Generator[tuple[Frame, Map]]:
    """Yield every frame of a video with its map ``(H, W)``.

    Decoding, the network, and the consumer of the maps run at the same time, in threads. Close the generator before the
    reader, unless it is exhausted. An image has one frame, whose map is that of a still clip.
    """
    if is_static_image(reader.path):
        for frame in reader:
            image = reduced(frame, model.spec.preprocess)
            frame.keep(image)  # an overlay needs it next; the frames of a video would take too much memory
            yield frame, model.infer_still(model.prepare(image))
        return
    ahead = max(MIN_AHEAD, model.spec.clip_frames)
    group = GROUP if model.frames_engine else 1
    with Pipeline() as stages:
        frames = stages.prefetch(prepare(reader, model), ahead, group)
        for done, pair in enumerate(stages.prefetch(model.maps(frames), ahead, group), start=1):
            yield pair
            if done % TRIM_FRAMES == 0:
                trim_heap()


def prepare(frames: Iterable[Frame], model: Model) -> Iterator[tuple[Frame, Pixels]]:
    """Yield every frame of a video with its preprocessed pixels."""
    for frame in frames:
        yield frame, model.prepare(reduced(frame, model.spec.preprocess))


def predict_file(
    video: Path,
    model: Model,
    outputs: Outputs,
    options: PredictOptions | None = None,
    progress: OnProgress | None = None,
) -> Summary:
    """Predict a video and write the requested outputs in one pass (two passes with ``normalize="video"``).

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: an output cannot be written; no incomplete file is left.
        UsageError: an output would overwrite the video.
    """
    options = options or PredictOptions()
    check_task(model.spec, outputs, options)
    check_paths(video, outputs, options)
    objects = model.spec.task == "object"
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(video, options.input))
        predictions = stack.enter_context(contextlib.closing(saliency_of(reader, model)))
        pairs: Iterable[tuple[Frame, Map]] = predictions
        whole_video = None
        if options.normalize == "video" and (outputs.overlay or outputs.maps):
            spool = MapSpool(outputs.requested()[0][1])
            stack.callback(spool.discard)
            whole_video = spool_maps(reader, pairs, spool, part_of_two(progress, 0))
            progress = part_of_two(progress, spool.count)
            reader = stack.enter_context(VideoReader(video, options.input))
            pairs = zip(reader, spool, strict=False)  # a damaged file may decode to one frame more or less
        for area in options.areas:
            area.check(reader.info.width, reader.info.height)
        if reader.info.lost_audio and options.audio and outputs.overlay not in (None, STDOUT):
            log.warning("%s: the overlay has no audio, because a pipe can be read only once; give a file", video)
        threshold = options.style.object_threshold if objects else None
        areas = AreaStatistics(options.areas, options.area_threshold, threshold)
        metadata: dict[str, Any] = {}
        photograph = is_static_image(video)
        run = RunContext(reader.info, outputs, options, areas, metadata, whole_video, objects, photograph)
        sinks = open_sinks(stack, run)
        frames, duration_s = 0, 0.0
        for frame, saliency in pairs:
            for sink in sinks:
                sink.write(frame, saliency)
            frames += 1
            duration_s = frame.time_s + float(frame.duration * reader.info.time_base)
            if progress:
                progress(frames, max(reader.frame_count or 0, frames) or None)
        if outputs.json is not None:
            metadata.update(describe_run(reader, model, run, frames, duration_s))
        for sink in sinks:
            sink.close()
    return Summary(frames, reader.damaged, duration_s, outputs, areas.results(), areas.subject)


def check_task(spec: ModelSpec, outputs: Outputs, options: PredictOptions) -> None:
    """Raise ``UsageError`` for outputs and options that a network's task does not have."""
    for kind, wanted in (("--binary", options.binary), ("--blur", options.blur)):
        if wanted and outputs.maps is None:
            raise UsageError(f"{kind} needs --maps, whose images it changes")
    if spec.task == "object":
        if options.normalize not in (None, "none"):
            raise UsageError(
                f"--normalize {options.normalize}: the maps of {spec.name} are probabilities, which are not rescaled;"
                " leave the option out"
            )
        return
    for kind, wanted in (("--cutout", outputs.cutout is not None), ("--binary", options.binary)):
        if wanted:
            require_objects(spec, kind)


def check_paths(video: Path, outputs: Outputs, options: PredictOptions) -> None:
    """Raise ``UsageError`` for outputs that do not suit an input."""
    real_video = os.path.realpath(video)
    for kind, path in outputs.requested():
        if os.path.realpath(path) == real_video and video != STDIN:
            raise UsageError(f"{flag(kind)} {path}: is the input itself; write to another file")
        if is_read_once(video) and options.normalize == "video":
            raise UsageError("--normalize video reads the video twice, which is not possible with a pipe; use running")
        holds_input = video.suffix.lower() == ".png" and os.path.realpath(path) == str(Path(real_video).parent)
        if kind in ("maps", "cutout") and holds_input:
            raise UsageError(f"--{kind} {path}: contains the input, which an image could replace; use another folder")
    for kind, path in outputs.single_images():
        if path.suffix.lower() not in ANIMATIONS and not is_static_image(video):
            raise UsageError(
                f"{flag(kind)} {path}: holds one frame, but {video} is not a single image; name a video or an"
                f" animated image instead (.mp4, {', '.join(ANIMATIONS)})"
            )


def spool_maps(
    reader: VideoReader, pairs: Iterable[tuple[Frame, Map]], spool: MapSpool, progress: OnProgress | None
) -> FixedScale:
    """Store the maps of a video and return one scale for all of them."""
    limits = VideoLimits()
    for _, saliency in pairs:
        spool.append(saliency)
        limits.add(saliency)
        if progress:
            progress(spool.count, reader.frame_count)
    return limits.scale()


def mean_rate(claimed: float, frames: int, duration_s: float) -> float:
    """Return the measured frames per second, or the claimed rate, which has no rounding error, if it is close."""
    counted = frames / max(duration_s, 1e-9)
    return claimed if abs(counted / claimed - 1) < 0.25 else round(counted, 6)


def part_of_two(progress: OnProgress | None, before: int) -> OnProgress | None:
    """Return a callback that reports one of two passes as half of the work; ``before`` frames are already done."""
    return progress and (lambda done, total: progress(before + done, 2 * total if total else None))


def describe_run(reader: VideoReader, model: Model, run: RunContext, frames: int, duration_s: float) -> dict[str, Any]:
    """Return the JSON summary without the statistics."""
    info, outputs = reader.info, run.outputs
    return {
        "video": str(info.path),
        "width": info.width,
        "height": info.height,
        "rate": mean_rate(round(float(info.rate), 6), frames, duration_s),
        "frames": frames,
        "damaged": reader.damaged,
        "duration_s": round(duration_s, 6),
        "model": {"name": model.name, "sha256": model.sha256, "spec": model.spec.to_dict()},
        "device": model.device,
        "engine": {"name": model.engine.name, "precision": model.engine.precision},
        "normalize": {
            kind: normalization(kind, model.spec, run.options, run.maps_are_video)
            for kind, _ in outputs.requested()
            if kind in ("overlay", "maps")
        },
        **({"blur": True} if run.options.blur else {}),
        **({"threshold": run.options.style.object_threshold} if model.spec.task == "object" else {}),
        "outputs": {name: str(path) for name, path in outputs.requested()},
        "tinyhd": __version__,
    }


def normalization(kind: str, spec: ModelSpec, options: PredictOptions, maps_are_video: bool) -> Normalize:
    """Return the normalization of an output; see ``RunContext.scale``."""
    if spec.task == "object":
        return "none"
    return options.normalize or ("frame" if kind == "maps" and not maps_are_video else "running")
