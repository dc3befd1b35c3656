"""Join the results of the parts of a video to the outputs of the whole video."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import remove
from ..errors import OutputError
from ..video.image_writer import ImageSequenceWriter
from ..video.part_reader import NotSeekableError
from ..video.part_writer import PartJoiner
from ..video.reader import Frame, VideoReader
from .normalization import FixedScale
from .options import Outputs, PredictOptions
from .outputs import ImagesSink, Sink, open_sinks
from .predict import Summary, mean_rate
from .split_part import DRAWN, MAPS, RECORDS, drawn_at, read_maps
from .split_plan import Part
from .split_records import RecordedAreas, RecordedFrames, RecordedRun, columns_of, read_rows
from .windows import Map

Facts = list[dict[str, Any]]


def join_parts(video: Path, parts: Sequence[Part], outputs: Outputs, options: PredictOptions) -> Summary:
    """Write the outputs of a video from its finished parts, without another encode, and remove the parts' folder.

    Args:
        video: the input.
        parts: all parts, in order.
        outputs: the outputs.
        options: those of the prediction.

    Raises:
        NotSeekableError: two parts decoded different images of the same frames; see ``split_plan.replan``.
        InputError: the video cannot be read.
        OutputError: an output cannot be written, or the results of a part are missing.
    """
    try:
        facts = [part.facts() for part in parts]
        check_parts(video, parts, facts)
        with contextlib.ExitStack() as stack:
            summary = Join(video, parts, facts, outputs, options, stack).run()
    except (OSError, ValueError, KeyError) as error:
        if not isinstance(error, OSError):
            remove(parts[0].folder)  # it would fail again
        raise OutputError(f"{video}: its parts in {parts[0].folder} cannot be joined: {error}") from error
    remove(parts[0].folder)
    return summary


def check_parts(video: Path, parts: Sequence[Part], facts: Facts) -> None:
    """Raise ``NotSeekableError`` unless frames that several parts have decoded are equal."""
    first_pass = [replace(part, only_maps=True).facts() for part in parts if part.passes > 1]
    known: dict[str, int] = {}
    for found in [*first_pass, *facts]:
        for number, checksum in found["checksums"].items():
            if known.setdefault(number, checksum) != checksum:
                raise NotSeekableError(f"{video}: frame {int(number) + 1} depends on where decoding starts")


class Join:
    """The work of :func:`join_parts`. Outputs that are not complete when the stack is left are removed."""

    def __init__(
        self,
        video: Path,
        parts: Sequence[Part],
        facts: Facts,
        outputs: Outputs,
        options: PredictOptions,
        stack: contextlib.ExitStack,
    ) -> None:
        self.parts, self.facts, self.outputs, self.options = parts, facts, outputs, options
        self.metadata: dict[str, Any] = facts[0]["metadata"]
        self.metadata["outputs"] = {name: str(path) for name, path in outputs.requested()}
        spec = self.metadata["model"]["spec"]
        self.size: tuple[int, int] = (spec["input_size"][0], spec["input_size"][1])
        objects = spec["task"] == "object"
        threshold = options.style.object_threshold if objects else None
        self.areas = RecordedAreas(options.areas, options.area_threshold, threshold)
        with VideoReader(video, options.input) as reader:
            unused = FixedScale(0, 1)  # the maps are drawn already
            self.run_context = RecordedRun(
                reader.info, outputs, options, self.areas, self.metadata, unused, objects, make_video=PartJoiner
            )
        self.sinks = open_sinks(stack, self.run_context)

    def run(self) -> Summary:
        """Write all outputs."""
        replayed: list[Sink] = []
        for (kind, _), sink in zip(self.outputs.requested(), self.sinks, strict=True):
            if isinstance(sink, ImagesSink):
                self._join_images(kind, sink)
            else:
                replayed.append(sink)
        frames, duration_s = 0, 0.0
        for frame, saliency in self._frames():
            for sink in replayed:
                sink.write(frame, saliency)
            self.areas.shares(frame, saliency)
            frames += 1
            duration_s = frame.time_s + float(frame.duration * frame.info.time_base)
        damaged = max(found["damaged"] for found in self.facts)
        rate = mean_rate(round(float(self.run_context.info.rate), 6), frames, duration_s)
        self.metadata.update(rate=rate, frames=frames, damaged=damaged, duration_s=round(duration_s, 6))
        for sink in self.sinks:
            sink.close()
        return Summary(frames, damaged, duration_s, self.outputs, self.areas.results(), self.areas.subject)

    def _join_images(self, kind: str, sink: ImagesSink) -> None:
        """Put the images of all parts into one output."""
        assert kind in DRAWN
        drawn = [
            path for part in self.parts for name, path in drawn_at(self.outputs, part.done).requested() if name == kind
        ]
        if isinstance(sink.writer, PartJoiner):
            sink.writer.join(drawn)
            return
        assert isinstance(sink.writer, ImageSequenceWriter)
        for path in drawn:
            folder = path if path.is_dir() else path.parent
            sink.writer.adopt(sorted(folder.iterdir()) if folder.is_dir() else [])

    def _frames(self) -> Iterator[tuple[Frame, Map]]:
        """Yield all frames, without images, and their maps, which are empty unless arrays are written."""
        run, made, expected = self.run_context, RecordedFrames(self.run_context.info), 0
        nothing = np.zeros((0, 0), np.float32)
        for part, facts in zip(self.parts, self.facts, strict=True):
            first = expected
            maps = self._maps(part) if self.outputs.npz is not None else None
            for rows in read_rows(part.done / RECORDS, columns_of(run), self.options.areas):
                for row in rows:
                    frame = made.frame(row)
                    if frame.index != expected:
                        raise ValueError(f"frame {expected + 1} is missing")
                    self.areas.row, expected = row, expected + 1
                    found = nothing if maps is None else next(maps, None)
                    if found is None:
                        raise ValueError(f"the map of frame {expected} is missing")
                    yield frame, found
            if expected - first != facts["frames"]:
                raise ValueError(f"part {part.number + 1} has {expected - first} of {facts['frames']} frames")

    def _maps(self, part: Part) -> Iterator[Map]:
        return read_maps(part.done / MAPS, self.size)
