"""One video of a dataset and what belongs to it: frames, density maps, fixation maps."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..video.reader import Frame, VideoReader
from ..wording import damage
from .images import FIXATIONS, MAPS, PICTURES, Image, OnDamage, numbered, read_image, unread

log = logging.getLogger("tinyhd")


@dataclass(frozen=True)
class FrameFiles:
    """Where a frame and its ground truth are."""

    number: int
    """As in the files' names; frames of a video file count from 1."""
    image: Path | None = None
    """None for a frame of a video file."""
    density: Path | None = None
    fixation: Path | None = None


@dataclass(frozen=True)
class Video:
    """A video, or a shot of one, with its ground truth. Nothing is read before it is asked for."""

    name: str
    """Unique in the dataset: a folder's name, or its path below the dataset's root."""
    source: Path | None
    """A video file, or a folder of pictures; None if the pictures are not there."""
    density_folder: Path | None
    fixation_folder: Path | None
    single: FrameFiles | None = None
    """The one frame of a photograph; its folders are not looked at."""
    from_one: bool = False
    """Whether frames of a video file are numbered from 1 regardless of the names of the annotations."""

    @property
    def is_file(self) -> bool:
        """Whether the frames are in a video file rather than in pictures."""
        return self.single is None and self.source is not None and not self.source.is_dir()

    @cached_property
    def images(self) -> dict[int, Path]:
        """The pictures of a folder of frames, by number; empty for a video file."""
        if self.single is not None:
            return {self.single.number: self.single.image} if self.single.image else {}
        return {} if self.is_file else numbered(self.source, PICTURES)

    @cached_property
    def densities(self) -> dict[int, Path]:
        """Density maps by number."""
        if self.single is not None:
            return {self.single.number: self.single.density} if self.single.density else {}
        return numbered(self.density_folder, MAPS)

    @cached_property
    def fixations(self) -> dict[int, Path]:
        """Fixation maps by number."""
        if self.single is not None:
            return {self.single.number: self.single.fixation} if self.single.fixation else {}
        return numbered(self.fixation_folder, FIXATIONS)

    @property
    def first_number(self) -> int:
        """Number of a video file's first frame: 0 if annotations are numbered from 0, else 1."""
        return 0 if not self.from_one and (0 in self.densities or 0 in self.fixations) else 1

    @cached_property
    def frames(self) -> tuple[FrameFiles, ...]:
        """The frames that can be known without decoding: all pictures of a folder, else all that are annotated."""
        numbers = self.images or sorted({*self.densities, *self.fixations})
        return tuple(self.frame(number) for number in numbers)

    @property
    def passed_over(self) -> list[str]:
        """One message for each folder of ground truth that contains only files of unsupported formats."""
        lines = []
        kinds = (
            ("density", self.density_folder, self.densities, MAPS),
            ("fixation", self.fixation_folder, self.fixations, FIXATIONS),
        )
        for kind, folder, found, suffixes in kinds:
            if not found and (files := unread(folder, suffixes)):
                lines.append(f"{folder}: ignored {files}; {kind} maps must be {', '.join(suffixes)}")
        return lines

    @property
    def annotated(self) -> bool:
        """Whether any ground truth is there."""
        return bool(self.densities or self.fixations)

    def frame(self, number: int) -> FrameFiles:
        """The files of the frame with this number."""
        return FrameFiles(number, self.images.get(number), self.densities.get(number), self.fixations.get(number))

    def read(self, on_damage: OnDamage | None = None) -> Iterator[tuple[FrameFiles, Image]]:
        """All frames in order, decoded one by one, with their files: uint8 RGB ``(h, w, 3)``.

        Pictures that cannot be read are passed over and reported, by a warning in the log if not otherwise.

        Raises:
            InputError: there are no frames, or not one that can be read.
        """
        report = on_damage or (lambda line: log.warning("%s", line))
        if self.source is None:
            raise InputError(f"{self.name}: its frames are not there, only its annotations")
        frames = self._read_file(report) if self.is_file else self._read_images(report)
        count = 0
        for count, pair in enumerate(frames, start=1):  # noqa: B007  # the count is looked at afterwards
            yield pair
        if not count:
            raise InputError(f"{self.source}: {'no picture can be read' if self.images else 'holds no pictures'}")

    def _read_images(self, report: OnDamage) -> Iterator[tuple[FrameFiles, Image]]:
        for number, path in self.images.items():
            try:
                image = read_image(path)
            except InputError as error:
                report(str(error))
                continue
            yield self.frame(number), image

    def _read_file(self, report: OnDamage) -> Iterator[tuple[FrameFiles, Image]]:
        assert self.source is not None
        with VideoReader(self.source) as reader:
            for number, picture in numbered_frames(reader, self.first_number):
                yield self.frame(number), picture.rgb()
            if reader.damaged:
                report(f"{self.source}: skipped {damage(reader.damaged)}")


def numbered_frames(reader: VideoReader, first: int = 1) -> Iterator[tuple[int, Frame]]:
    """Yield the frames of a video file with their numbers; the first frame has the number ``first``.

    Frames that do not decode are counted by the gap that they leave in the timestamps: those after them keep their
    annotations. Some decoders then hand out others too late; these are left out.
    """
    start = 0 if reader.damaged else None  # else some videos begin later than at 0
    last = first - 1
    for frame in reader:
        at = position(frame)
        start = at if start is None else start
        number = max(frame.index, at - start if reader.damaged else 0) + first
        if number > last:
            yield number, frame
            last = number


def position(frame: Frame) -> int:
    """How many frames of a video come before one, by its timestamp."""
    return round(frame.time_s * float(frame.info.rate))
