"""Compare versions of a design or a video: how much attention each area of interest gets, and in which order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...callbacks import StartPhase, no_phases
from ...errors import UsageError
from ...inference.areas import Area, AreaStatistics
from ...inference.frame_samples import FrameSample, FrameSampler
from ...inference.model import Model, load_model
from ...inference.predict import saliency_of
from ...inference.tasks import require_task
from ...inference.windows import Map
from ...models import ModelSpec
from ...storage import path_of
from ...video.images import is_static_image
from ...video.reader import Frame, VideoReader
from ...video.source import is_read_once
from ..options import CompareOptions
from .areas import MAX_VERSIONS, assign_areas, names_of
from .conditions import MEASURES, OF_TIME, Condition, parse_condition
from .order import gaze_path, order_of_path, order_of_times
from .results import Check, Comparison, Version

IMAGE_WIDTH = 960
VIDEO_WIDTH = 640
"""Maximum widths of the frames in the plot; of a video, up to 48 frames are in memory."""


def compare(
    versions: Sequence[str | os.PathLike[str]],
    areas: Sequence[Area] = (),
    model: Model | str | os.PathLike[str] | None = None,
    *,
    own_areas: Mapping[str, Sequence[Area]] | None = None,
    fail_if: Sequence[str] = (),
    options: CompareOptions | None = None,
    device: str = "auto",
    start_phase: StartPhase = no_phases,
) -> Comparison:
    """Compare the attention on areas of interest in several versions of an image or a video.

    Args:
        versions: two or more files, which are called A, B, ... in this order.
        areas: areas of all versions, see :func:`parse_areas`.
        model: a loaded model, or the first argument of :func:`load_model`; None for the default.
        own_areas: areas of single versions, by letter; they replace areas of the same name.
        fail_if: conditions such as ``"B.cta < 12%"``, see the guide; results are in ``checks``.
        options: threshold of attended areas, and facts about the input; None: the defaults.
        device: device of a model that is not loaded yet.
        start_phase: called with the name of each version; returns the callback for its frames.

    Raises:
        UsageError: fewer than two versions, areas that do not fit, a malformed condition, or a model of objects.
        InputError: a version cannot be read, or an area is outside its frame.
        WeightsError: the model's weights cannot be loaded.
    """
    plan = prepare(versions, areas, own_areas, fail_if, options)
    loaded = model if isinstance(model, Model) else load_model(model, device)
    return run(plan, loaded, start_phase)


@dataclass(frozen=True)
class Plan:
    """A comparison that was checked and can be run."""

    versions: list[Version]
    conditions: list[Condition]
    options: CompareOptions


def run(plan: Plan, model: Model, start_phase: StartPhase = no_phases) -> Comparison:
    """Predict the attention in all versions of a plan and compare it; the arguments are those of :func:`compare`."""
    check_model(model.spec)
    for version in plan.versions:
        measure(version, model, plan.options, start_phase)
    described = {"name": model.name, "spec": model.spec.name, "sha256": model.sha256}
    comparison = Comparison(plan.versions, described, plan.options.area_threshold)
    values = {version.id: version.results for version in plan.versions}
    for condition in plan.conditions:
        holding = condition.holds(values)
        comparison.checks.append(Check(condition.text, bool(holding), holding if condition.is_open else []))
    return comparison


def check_model(spec: ModelSpec) -> None:
    """Raise ``UsageError`` for a model of objects, whose maps say nothing about attention."""
    require_task(spec, "fixation", "compare")


def name_versions(paths: Sequence[Path]) -> list[Version]:
    """Return versions with letters and names, without areas; ``UsageError`` for too few or too many."""
    if not 2 <= len(paths) <= MAX_VERSIONS:
        raise UsageError(f"compare needs 2 to {MAX_VERSIONS} images or videos, not {len(paths)}")
    for path in paths:
        if is_read_once(path):
            raise UsageError(f"{path}: compare opens each input twice, which is not possible with a pipe; give a file")
    return [Version(chr(ord("A") + number), path.stem or path.name, path, ()) for number, path in enumerate(paths)]


def prepare(
    files: Sequence[str | os.PathLike[str]],
    areas: Sequence[Area],
    own_areas: Mapping[str, Sequence[Area]] | None = None,
    fail_if: Sequence[str] = (),
    options: CompareOptions | None = None,
) -> Plan:
    """Open the versions, give them their areas and parse the conditions, before any network runs.

    The arguments are those of :func:`compare`.

    Raises:
        UsageError: there are no areas, they do not fit, or a condition is malformed.
        InputError: a version cannot be read, or an area is outside the frame.
    """
    options = options or CompareOptions()
    versions = name_versions([path_of(file) for file in files])
    own_areas = own_areas or {}
    if not areas and not own_areas:
        raise UsageError("compare needs areas: --aoi NAME=X,Y,WIDTH,HEIGHT or --aoi FILE")
    if unknown := own_areas.keys() - {version.id for version in versions}:
        raise UsageError(f"areas of the version {min(unknown)!r}, which does not exist")
    for version in versions:
        version.kind = "image" if is_static_image(version.path) else "video"
        with VideoReader(version.path, options.input) as reader:
            version.width, version.height = reader.info.width, reader.info.height
    assign_areas(versions, areas, own_areas)
    names = {version.id: [area.name for area in version.areas] for version in versions}
    any_image = any(version.kind == "image" for version in versions)
    measures = [name for name in MEASURES if not (any_image and name in OF_TIME)]
    conditions = [parse_condition(text, names, names_of(versions), measures) for text in fail_if]
    return Plan(versions, conditions, options)


def measure(version: Version, model: Model, options: CompareOptions, start_phase: StartPhase) -> None:
    """Predict the attention in one version and add the results to it; ``InputError`` if it cannot be read."""
    statistics = AreaStatistics(version.areas, options.area_threshold)
    collector = Collector(version, statistics)
    progress = start_phase(version.label)
    with (
        VideoReader(version.path, options.input) as reader,
        contextlib.closing(saliency_of(reader, model)) as pairs,
    ):
        for frame, saliency in pairs:
            collector.add(frame, saliency)
            progress(version.frames, max(reader.frame_count or 0, version.frames))
        version.damaged = reader.damaged
    collector.close()


class Collector:
    """Adds frames and their maps to the results of a version, in order."""

    def __init__(self, version: Version, statistics: AreaStatistics) -> None:
        self._version = version
        self._statistics = statistics
        self._samples = FrameSampler()

    def add(self, frame: Frame, saliency: Map) -> None:
        """Add one frame."""
        version = self._version
        version.frames += 1
        version.duration_s = frame.time_s + float(frame.duration * frame.info.time_base)
        version.times_s.append(frame.time_s)
        version.shares.append(tuple(self._statistics.shares(frame, saliency).values()))
        attention = (saliency / max(float(saliency.sum()), 1e-12)).astype(np.float64)
        version.attention = attention if version.attention is None else version.attention + attention
        if self._samples.is_due(frame.time_s):
            width = IMAGE_WIDTH if version.kind == "image" else VIDEO_WIDTH
            image = frame.reduced_rgb(max(1.0, frame.info.width / width))
            self._samples.add(FrameSample(frame.time_s, image, saliency))

    def close(self) -> None:
        """Compute the results of the version from all frames."""
        version = self._version
        assert version.attention is not None, "a reader yields at least one frame, or raises an error"
        version.attention /= version.frames
        (sample,) = self._samples.select(1, version.duration_s)
        version.image, version.image_s = sample.image, sample.time_s
        found = self._statistics.results()
        if version.kind == "image":
            saliency = version.attention.astype(np.float32)
            version.path_of_gaze = gaze_path(saliency, version.areas, version.width, version.height)
            order = order_of_path(version.path_of_gaze)
        else:
            shares = {name: values["share"] or 0.0 for name, values in found.items()}
            order = order_of_times({name: values["first_s"] for name, values in found.items()}, shares)
        for name, values in found.items():
            share, size = values["share"] or 0.0, values["size"] or 0.0
            values |= {"density": round(share / size, 2) if size else None, "order": order.get(name)}
            if version.kind == "image":
                values |= dict.fromkeys(("most_at_s", "first_s", "time_s", "peak_s"))
        version.results = found
