"""Predict one part of a video, with exactly the maps that the whole video has there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import remove
from ..callbacks import OnProgress
from ..video.part_reader import CHECKED, PartReader
from ..video.part_writer import PartWriter
from ..video.reader import Frame
from .areas import AreaStatistics
from .model import Model
from .normalization import WARM_UP_S, FixedScale, RunningScale, VideoLimits
from .options import Outputs, PredictOptions
from .outputs import RunContext, Sink, open_sinks
from .predict import check_paths, check_task, describe_run, normalization, saliency_of
from .raw_file import RawFile
from .split_plan import Part, Plan, finish, new_folder, read_plan
from .split_records import RecordSink
from .windows import Map, frames_needed

log = logging.getLogger("tinyhd")

MAPS = "maps.f32"
"""File of the raw maps of a part, float32, one after the other."""

RECORDS = "frames.bin"
"""File of the numbers of each frame of a part."""

TABLES = ("csv", "json", "aoi_plot")
"""Outputs that are written from the records of frames."""

DRAWN = ("overlay", "maps", "cutout")
"""Outputs that are images of frames."""


def predict_part(
    video: Path, part: Part, model: Model, outputs: Outputs, options: PredictOptions, progress: OnProgress | None = None
) -> None:
    """Predict a part of a video, and write its results to its folder; nothing, if it is finished.

    Raises:
        InputError: the video cannot be read.
        OutputError: the results cannot be written.
        NotSeekableError: its frames are not those of the index; see ``split_plan.replan``.
        CancelledError: the folder of the parts was removed.
    """
    check_task(model.spec, outputs, options)
    check_paths(video, outputs, options)
    plan = read_plan(part.folder)
    identity = [*plan.range_of(part.number), identity_of(model)]
    if part.done.exists():
        with contextlib.suppress(OSError, ValueError, KeyError):  # it is damaged
            if part.facts()["work"] == identity:
                return
        remove(part.done)
    folder = new_folder(part)
    try:
        facts = PartWork(video, part, plan, model, outputs, options, folder).run(progress)
        finish(part, folder, {**facts, "work": identity})
    finally:
        remove(folder)


def identity_of(model: Model) -> dict[str, Any]:
    """Return the facts about a model on which the maps depend."""
    engine = model.engine
    return {"sha256": model.sha256, "size": list(model.spec.input_size), "engine": [engine.name, engine.precision]}


def drawn_at(outputs: Outputs, folder: Path) -> Outputs:
    """Return the outputs that are images of frames, in a folder of a part."""
    found = {kind: folder / kind / path.name for kind, path in outputs.requested() if kind in DRAWN}
    return Outputs(**found)


class PartWork:
    """The work on one part; the arguments are those of :func:`predict_part`, and the plan and the new folder."""

    def __init__(
        self,
        video: Path,
        part: Part,
        plan: Plan,
        model: Model,
        outputs: Outputs,
        options: PredictOptions,
        folder: Path,
    ) -> None:
        self.video, self.part, self.plan, self.model = video, part, plan, model
        self.outputs, self.options, self.folder = outputs, options, folder
        self.start, self.end = plan.range_of(part.number)
        self.warmed = RunningScale()

    def run(self, progress: OnProgress | None) -> dict[str, Any]:
        """Do the work, and return facts about the part."""
        if self.part.passes > 1 and not self.part.only_maps:
            first, last = self.start, self.end
            checked: tuple[int, ...] = (self.start,)
        else:
            first, last, checked = self._frames()
        index = self.plan.index
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(PartReader(self.video, index, first, last, checked, self.options.input))
            pairs = self._pairs(stack, reader)
            if self.part.only_maps:
                facts = self._write_maps(self._own(pairs, progress))
            else:
                facts = self._write(stack, reader, self._own(pairs, progress))
        checksums = {str(number): value for number, value in reader.checksums.items()}
        return {**facts, "damaged": reader.damaged, "checksums": checksums}

    def _pairs(self, stack: contextlib.ExitStack, reader: PartReader) -> Iterable[tuple[Frame, Map]]:
        """Return the frames that are read and their maps: predicted, or as the first pass has stored them."""
        if self.part.passes > 1 and not self.part.only_maps:
            stored = replace(self.part, only_maps=True).done / MAPS
            return zip(reader, read_maps(stored, self.model.spec.input_size), strict=True)
        return stack.enter_context(contextlib.closing(saliency_of(reader, self.model)))

    def _frames(self) -> tuple[int, int | None, tuple[int, ...]]:
        """Return the first frame to read, the number after the last, and the frames to compare with other parts.

        The running scale of the whole video is found by an overlap: it starts some seconds before the part.
        """
        first, last = self._needed(self.start, self.end)
        checked = (first,) if self.end is None else (first, self._needed(self.end, None)[0])
        return first, last, checked

    def _needed(self, start: int, end: int | None) -> tuple[int, int | None]:
        spec, engine = self.model.spec, self.model.frames_engine
        batch = 1 if engine is None else engine.batch
        lead = self._lead(start)
        first, last = frames_needed(spec, lead, (lead if end is None else end) + CHECKED, batch)
        return first, None if end is None or last >= len(self.plan.index.pts) else last

    def _lead(self, start: int) -> int:
        """Return the first frame whose map is needed: the running scale is found from those before the part."""
        options, outputs = self.options, self.outputs
        drawn = [kind for kind, _ in outputs.requested() if kind in ("overlay", "maps")]
        if "running" not in [normalization(kind, self.model.spec, options, outputs.maps_are_video) for kind in drawn]:
            return start
        index = self.plan.index
        return min(start, index.first_at(index.time_s(start) - WARM_UP_S))

    def _own(self, pairs: Iterable[tuple[Frame, Map]], progress: OnProgress | None) -> Iterator[tuple[Frame, Map]]:
        """Yield the frames of the part with their maps; the running scale sees those before it."""
        total = (len(self.plan.index.pts) if self.end is None else self.end) - self.start
        running = self._lead(self.start) < self.start
        for frame, saliency in pairs:
            if frame.index < self.start:
                if running and frame.index >= self._lead(self.start):
                    self.warmed(saliency, frame.time_s)
            elif self.end is None or frame.index < self.end:
                yield frame, saliency
                if progress:
                    done = frame.index + 1 - self.start
                    progress(done, max(done, total))

    def _write_maps(self, pairs: Iterable[tuple[Frame, Map]]) -> dict[str, Any]:
        """Write only the maps; return their number and limits."""
        limits, count = VideoLimits(), 0
        file = MapFile(self.folder / MAPS)
        with contextlib.closing(file):
            for frame, saliency in pairs:
                file.write(frame, saliency)
                limits.add(saliency)
                count += 1
        return {"frames": count, "limits": [limits.low, limits.high] if count else None}

    def _write(
        self, stack: contextlib.ExitStack, reader: PartReader, pairs: Iterator[tuple[Frame, Map]]
    ) -> dict[str, Any]:
        """Write all results; return the number of frames, and the JSON summary of the video without statistics."""
        options, model = self.options, self.model
        for area in options.areas:
            area.check(reader.info.width, reader.info.height)
        objects = model.spec.task == "object"
        threshold = options.style.object_threshold if objects else None
        areas = AreaStatistics(options.areas, options.area_threshold, threshold)
        first = next(pairs, None)  # the running scale has seen the frames before it
        run = RunContext(reader.info, self.outputs, options, areas, {}, self._whole_video(), objects)
        run = replace(run, warmed=self.warmed if self.start else None, make_video=PartWriter)
        sinks: list[Sink] = open_sinks(stack, replace(run, outputs=drawn_at(self.outputs, self.folder)))
        sinks += self._other_sinks(stack, run)
        count = 0
        for frame, saliency in chain([first] if first else [], pairs):
            for sink in sinks:
                sink.write(frame, saliency)
            count += 1
        for sink in sinks:
            sink.close()
        return {"frames": count, "metadata": describe_run(reader, model, run, count, 0.0)}

    def _other_sinks(self, stack: contextlib.ExitStack, run: RunContext) -> list[Sink]:
        """Open the files from which the tables and the arrays of the whole video are written."""
        tables = self.outputs.csv is not None or self.outputs.json is not None
        sinks: list[Sink] = [RecordSink(self.folder / RECORDS, run, with_statistics=tables)]
        if self.outputs.npz is not None:
            sinks.append(MapFile(self.folder / MAPS))
        for sink in sinks:
            stack.callback(sink.abort)
        return sinks

    def _whole_video(self) -> FixedScale | None:
        """Return the scale of the whole video, if all maps are drawn with it; the maps of all parts are there."""
        if self.part.passes == 1:
            return None
        parts = [replace(self.part, number=number, only_maps=True) for number in range(self.part.count)]
        limits = [found for part in parts if (found := part.facts()["limits"]) is not None]
        return FixedScale(min(low for low, _ in limits), max(high for _, high in limits))


class MapFile(RawFile):
    """Raw maps, float32, one after the other."""

    def write(self, frame: Frame, saliency: Map) -> None:
        """Write a map."""
        self.append(saliency.astype("<f4", copy=False))


def read_maps(path: Path, size: tuple[int, int]) -> Generator[Map]:
    """Yield the raw maps in a file; ``OSError`` if it cannot be read.

    Args:
        path: the file.
        size: height and width of a map.
    """
    with path.open("rb") as file:
        while data := file.read(4 * size[0] * size[1]):
            yield np.frombuffer(data, "<f4").reshape(size)
