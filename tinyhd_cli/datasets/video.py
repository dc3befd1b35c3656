"""One video of a dataset: its frames, density maps, fixation maps and masks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from ..video.reader import Frame, VideoReader, scale_rgb
from ..wording import damage
from .fixation_lists import FixationFrame, read_fixation_list
from .images import (
    FIXATION_SUFFIXES,
    IMAGE_SUFFIXES,
    MAP_SUFFIXES,
    Image,
    OnDamage,
    describe_unsupported,
    files_by_number,
    read_image,
)
from .map_videos import MapFrame, MapHeader, read_header
from .masks import MASK_SUFFIXES, MaskFiles

log = logging.getLogger("tinyhd")

T = TypeVar("T")

Reduction = Callable[[int, int], float]
"""Returns the factor by which both sides of a frame are divided, from its width and height."""


@dataclass(frozen=True)
class FrameFiles:
    """The files of a frame and its ground truth."""

    number: int
    """Number in the names of the files; frames of a video file are numbered in order, see ``Video.first_number``."""
    image: Path | None = None
    """Image file; None for a frame of a video file."""
    density: Path | MapFrame | None = None
    """Density map, for ``read_density``."""
    fixation: Path | FixationFrame | None = None
    """Fixations, for ``read_fixation`` and ``read_fixation_points``."""
    mask: MaskFiles | None = None
    """Files of the mask of the objects, for ``read_mask``."""

    @property
    def annotated(self) -> bool:
        """Whether the frame has any ground truth."""
        return bool(self.density or self.fixation or self.mask)


class NumberedFrames(Mapping[int, T]):
    """The ground truth of the frames 1, 2, ... of a video in a single file, by frame number.

    Args:
        kind: the type of its values.
        path: the file.
        count: number of frames.
    """

    def __init__(self, kind: Callable[[Path, int], T], path: Path, count: int) -> None:
        self._kind, self._path, self._count = kind, path, count

    def __getitem__(self, number: int) -> T:
        if not 1 <= number <= self._count:
            raise KeyError(number)
        return self._kind(self._path, number - 1)

    def __iter__(self) -> Iterator[int]:
        return iter(range(1, self._count + 1))

    def __len__(self) -> int:
        return self._count


@dataclass(frozen=True)
class Video:
    """A video, or a shot of one, with its ground truth. Folders are listed and files are read on first use."""

    name: str
    """Unique name in the dataset: a folder's name, or its path relative to the dataset's root."""
    source: Path | None
    """A video file or a folder of images; None if the dataset has no frames, only ground truth."""
    density_folder: Path | None
    fixation_folder: Path | None
    single: FrameFiles | None = None
    """The only frame, if the video is a single image; folders are ignored then."""
    one_based: bool = False
    """Whether frames of a video file are numbered from 1 regardless of the names of the annotations."""
    mask_folders: tuple[Path, ...] = ()
    """Folders of masks: one, or one for each object."""
    listed_masks: tuple[tuple[int, MaskFiles], ...] = ()
    """Masks by frame number, if they are not found by the numbers of the files in ``mask_folders``."""
    density_video: Path | None = None
    """Density maps of the frames 1, 2, ... in a video, instead of those in ``density_folder``."""
    fixation_list: Path | None = None
    """Fixations of the frames 1, 2, ... in a JSON file, instead of those in ``fixation_folder``."""
    problem: str = ""
    """The fault that was found when the folders were listed, because of which the video has no ground truth."""

    @property
    def is_file(self) -> bool:
        """Whether the frames are in a video file, not in image files."""
        return self.single is None and self.source is not None and not self.source.is_dir()

    @cached_property
    def images(self) -> dict[int, Path]:
        """Image files of the frames by frame number; empty for a video file."""
        if self.single is not None:
            return {self.single.number: self.single.image} if self.single.image else {}
        return {} if self.is_file else files_by_number(self.source, IMAGE_SUFFIXES)

    @cached_property
    def _header(self) -> MapHeader | InputError:
        """Properties of the map video, or the error if it cannot be opened."""
        assert self.density_video is not None
        try:
            return read_header(self.density_video)
        except InputError as error:
            return error

    @cached_property
    def _listed_frames(self) -> int | InputError:
        """Number of frames in the list of fixations, or the error if it cannot be read."""
        assert self.fixation_list is not None
        try:
            return len(read_fixation_list(self.fixation_list))
        except InputError as error:
            return error

    @cached_property
    def densities(self) -> Mapping[int, Path | MapFrame]:
        """Density maps by frame number; none if the map video cannot be opened, see ``unreadable``."""
        if self.single is not None:
            return {self.single.number: self.single.density} if self.single.density else {}
        if self.density_video is not None:
            header = self._header
            return {} if isinstance(header, InputError) else NumberedFrames(MapFrame, self.density_video, header.frames)
        return files_by_number(self.density_folder, MAP_SUFFIXES)

    @cached_property
    def fixations(self) -> Mapping[int, Path | FixationFrame]:
        """Fixations by frame number; none if the list of fixations cannot be read, see ``unreadable``."""
        if self.single is not None:
            return {self.single.number: self.single.fixation} if self.single.fixation else {}
        if self.fixation_list is not None:
            count = self._listed_frames
            return {} if isinstance(count, InputError) else NumberedFrames(FixationFrame, self.fixation_list, count)
        return files_by_number(self.fixation_folder, FIXATION_SUFFIXES)

    @property
    def unreadable(self) -> list[str]:
        """One message for each file with the ground truth of all frames that cannot be read."""
        found = [self._header] if self.density_video else []
        listed = [self._listed_frames] if self.fixation_list else []
        return [str(error) for error in (*found, *listed) if isinstance(error, InputError)]

    @property
    def has_maps(self) -> bool:
        """Whether the video has density maps or fixations; does not open map videos or lists of fixations."""
        return bool(self.density_video or self.fixation_list or self.densities or self.fixations)

    @cached_property
    def map_size(self) -> tuple[int, int] | None:
        """Height and width of the pixels in which the list of fixations counts; None if no file can be opened."""
        if self.density_video is not None and not isinstance(self._header, InputError):
            return self._header.size
        if self.source is None or not self.is_file:
            return None
        try:
            with VideoReader(self.source) as reader:
                return reader.info.height, reader.info.width
        except InputError:
            return None

    @cached_property
    def masks(self) -> dict[int, MaskFiles]:
        """Files of the masks by frame number."""
        if self.single is not None:
            return {self.single.number: self.single.mask} if self.single.mask else {}
        found: dict[int, list[Path]] = {}
        if self.listed_masks:
            return dict(self.listed_masks)
        for folder in self.mask_folders:
            for number, path in files_by_number(folder, MASK_SUFFIXES).items():
                found.setdefault(number, []).append(path)
        return {number: MaskFiles(tuple(paths)) for number, paths in sorted(found.items())}

    @property
    def map_numbers(self) -> list[int]:
        """Numbers of the frames that have a density map or fixations, in order."""
        return sorted({*self.densities, *self.fixations})

    @property
    def annotated_numbers(self) -> list[int]:
        """Numbers of the frames that have any ground truth, in order."""
        return sorted({*self.densities, *self.fixations, *self.masks})

    @property
    def first_number(self) -> int:
        """Number of a video file's first frame: 0 if its annotations are numbered from 0, else 1."""
        return 0 if not self.one_based and 0 in self.annotated_numbers else 1

    @property
    def map_files(self) -> list[Path]:
        """The files of density maps and fixations, each once."""
        whole = [path for path in (self.density_video, self.fixation_list) if path is not None]
        densities: Mapping[int, Any] = {} if self.density_video else self.densities
        fixations: Mapping[int, Any] = {} if self.fixation_list else self.fixations
        return [*whole, *densities.values(), *fixations.values()]

    @property
    def files(self) -> list[Path]:
        """All files of the video and its ground truth, each once."""
        # The order is part of the keys of decoded clips.
        if self.density_video or self.fixation_list:
            found = [*self.images.values(), *self.map_files]
        else:
            by_frame = ((frame.image, frame.density, frame.fixation) for frame in self.frames)
            found = [path for paths in by_frame for path in paths if isinstance(path, Path)]
        found += [path for files in self.masks.values() for path in files.paths]
        return [*found, self.source] if self.is_file and self.source else found

    @cached_property
    def frames(self) -> tuple[FrameFiles, ...]:
        """The frames that are known without decoding: all images of a folder, or else all annotated frames."""
        numbers = self.images or self.annotated_numbers
        return tuple(self.frame(number) for number in numbers)

    @property
    def unsupported(self) -> list[str]:
        """One message for each folder of ground truth with only files of unsupported formats, and the problem."""
        lines = [*([self.problem] if self.problem else []), *self.unreadable]
        kinds: list[tuple[str, Path | None, Mapping[int, object], Sequence[str]]] = [
            ("density maps", self.density_folder, self.densities, MAP_SUFFIXES),
            ("fixation maps", self.fixation_folder, self.fixations, FIXATION_SUFFIXES),
            *(("masks", folder, self.masks, MASK_SUFFIXES) for folder in self.mask_folders),
        ]
        for kind, folder, found, suffixes in kinds:
            if not found and (files := describe_unsupported(folder, suffixes)):
                lines.append(f"{folder}: ignored {files}; {kind} must be {', '.join(suffixes)}")
        return lines

    @property
    def annotated(self) -> bool:
        """Whether the video has any ground truth."""
        return self.has_maps or bool(self.masks)

    def frame(self, number: int) -> FrameFiles:
        """Return the files of the frame with this number."""
        return FrameFiles(
            number,
            self.images.get(number),
            self.densities.get(number),
            self.fixations.get(number),
            self.masks.get(number),
        )

    def read(
        self, on_damage: OnDamage | None = None, reduction: Reduction | None = None
    ) -> Iterator[tuple[FrameFiles, Image]]:
        """Yield the files and the image, uint8 RGB ``(h, w, 3)``, of each frame, in order; decode one frame at a time.

        Args:
            on_damage: called with a message about each image that cannot be read and is skipped; None to log a warning.
            reduction: returns the factor that a frame's sides are divided by, from its width and height; default: 1.

        Raises:
            InputError: the video has no frames, or none that can be read.
        """
        report = on_damage or (lambda line: log.warning("%s", line))
        if self.source is None:
            raise InputError(f"{self.name}: has annotations, but no frames")
        factor = reduction or (lambda width, height: 1.0)
        frames = self._read_file(report, factor) if self.is_file else self._read_images(report, factor)
        count = 0
        for count, pair in enumerate(frames, start=1):  # noqa: B007  # count is used after the loop
            yield pair
        if not count:
            raise InputError(
                f"{self.source}: {'none of its images can be read' if self.images else 'contains no images'}"
            )

    def _read_images(self, report: OnDamage, factor: Reduction) -> Iterator[tuple[FrameFiles, Image]]:
        for number, path in self.images.items():
            try:
                image = read_image(path)
            except InputError as error:
                report(str(error))
                continue
            yield self.frame(number), scale_rgb(image, factor(image.shape[1], image.shape[0]))

    def _read_file(self, report: OnDamage, factor: Reduction) -> Iterator[tuple[FrameFiles, Image]]:
        assert self.source is not None
        with VideoReader(self.source) as reader:
            for number, frame in numbered_frames(reader, self.first_number):
                size = frame.info.width, frame.info.height
                yield self.frame(number), frame.reduced_rgb(factor(*size))
            if reader.damaged:
                report(f"{self.source}: skipped {damage(reader.damaged)}")


def numbered_frames(reader: VideoReader, first: int = 1) -> Iterator[tuple[int, Frame]]:
    """Yield the frames of a video file with their numbers; the first frame has the number ``first``.

    Frames that cannot be decoded are counted by the gaps in the timestamps, so that the frames after them keep their
    annotations. Some decoders then output other frames out of order; these are skipped.
    """
    start = 0 if reader.damaged else None  # timestamps of undamaged videos may start above 0
    last = first - 1
    for frame in reader:
        at = position(frame)
        start = at if start is None else start
        number = max(frame.index, at - start if reader.damaged else 0) + first
        if number > last:
            yield number, frame
            last = number


def position(frame: Frame) -> int:
    """Return the number of frames before a frame, computed from its timestamp."""
    return round(frame.time_s * float(frame.info.rate))
