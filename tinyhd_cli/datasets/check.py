"""Check the files of a dataset for faults, before its scores are trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..callbacks import OnProgress
from ..errors import InputError
from ..video.reader import VideoReader
from ..wording import damage
from .check_maps import check_maps
from .check_masks import check_masks
from .findings import Finding, Size, describe_numbers
from .images import FIXATION_SUFFIXES, IMAGE_SUFFIXES, MAP_SUFFIXES, last_number, list_files, read_image
from .layouts import LAYOUTS, Dataset, describe_ignored
from .masks import MASK_SUFFIXES
from .video import Video, numbered_frames


@dataclass
class Report:
    """Result of a check."""

    findings: list[Finding] = field(default_factory=list)
    videos: int = 0
    frames: int = 0
    """Number of readable frames."""
    scored: int = 0
    """Number of frames that the evaluation of a network would score."""
    sizes: Counter[Size] = field(default_factory=Counter)
    """Number of videos by the size of their frames."""

    @property
    def faults(self) -> list[Finding]:
        """The findings that are faults."""
        return [finding for finding in self.findings if finding.fault]


def check_dataset(dataset: Dataset, workers: int = 1, progress: OnProgress | None = None) -> Report:
    """Check every file of a dataset.

    Args:
        dataset: result of ``open_dataset``.
        workers: number of threads that decode.
        progress: called with the number of finished videos and of all videos.
    """
    report = Report(videos=len(dataset.videos))
    held_out = dataset.official is not None and dataset.official.held_out
    held_out = held_out and not any(video.annotated for video in dataset.videos)
    checkers = [VideoChecker(dataset, video, held_out=held_out) for video in dataset.videos]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, part in enumerate(pool.map(VideoChecker.check, checkers), 1):
            report.findings += part.findings
            report.frames += part.frames
            report.scored += part.scored
            report.sizes += part.sizes
            if progress:
                progress(done, len(dataset.videos))
    layout = LAYOUTS[dataset.layout]
    if layout.check is not None:
        report.findings += layout.check(dataset.root, dataset.split)
    if dataset.ignored:
        report.findings.append(Finding("", describe_ignored(dataset.ignored), fault=False))
    official = dataset.official
    if official is not None:
        counts = (("videos", report.videos, official.videos), ("frames", report.frames, official.frames))
        for unit, found, published in counts:
            if published is not None and found != published:
                message = f"{found:,} of the {dataset.split} split's {published:,} {unit} are here"
                report.findings.append(Finding("", message))
    return report


class VideoChecker:
    """Checker of one video of a dataset.

    Args:
        dataset: the dataset.
        video: the video.
        held_out: whether the annotations of the whole split are held out.
    """

    def __init__(self, dataset: Dataset, video: Video, *, held_out: bool) -> None:
        self._dataset = dataset
        self._video = video
        self._held_out = held_out
        self._report = Report()

    def check(self) -> Report:
        """Return the findings about the video."""
        video, report = self._video, self._report
        if video.problem:
            self._add(video.problem)
            return report
        self._check_names()
        frames, size = self._read_frames()
        report.frames = len(frames)
        if size:
            report.sizes[size] += 1
        self._add_all((message, True) for message in video.unsupported)
        layout = LAYOUTS[self._dataset.layout]
        if not video.annotated:
            self._add("has no masks" if layout.masks else "has no annotations", fault=not self._held_out)
            return report
        if frames and video.has_maps:
            self._check_pairs(frames)
        if not (frames and video.is_file):  # gaps in a video file are damaged frames, which are reported already
            self._check_gaps(sorted(frames) or video.annotated_numbers)
        self._add_all(check_maps(video, size))
        if video.masks:
            self._add_all(check_masks(video, frames, size, layout.sparse))
        report.scored = len(set(frames).intersection(video.annotated_numbers))
        return report

    def _add(self, message: str, fault: bool = True) -> None:
        self._report.findings.append(Finding(self._video.name, message, fault))

    def _add_all(self, findings: Iterable[tuple[str, bool]]) -> None:
        """Add findings, each a message and whether it is a fault."""
        for message, fault in findings:
            self._add(message, fault)

    def _add_frames(self, numbers: Iterable[int], message: str, fault: bool = True) -> None:
        """Add a finding that lists frames; none if there are no frames."""
        if listing := sorted(numbers):
            self._add(f"{message}: {describe_numbers(listing)}", fault)

    def _check_names(self) -> None:
        """Find files without a number in their names, and several files with the same number."""
        video = self._video
        if video.single is not None:
            return
        folders = [(video.density_folder, MAP_SUFFIXES), (video.fixation_folder, FIXATION_SUFFIXES)]
        folders += [(folder, MASK_SUFFIXES) for folder in video.mask_folders]
        if video.source is not None and video.source.is_dir():
            folders.append((video.source, IMAGE_SUFFIXES))
        for folder, suffixes in folders:
            files = sorted(list_files(folder, suffixes))
            if nameless := [path.name for path in files if last_number(path.stem) is None]:
                more = f" and {len(nameless) - 1} more" if len(nameless) > 1 else ""
                self._add(f"no number in the name of a file in {folder}: {nameless[0]}{more}")
            counts = Counter(last_number(path.stem) for path in files)
            repeated = [number for number, count in counts.items() if number is not None and count > 1]
            self._add_frames(repeated, f"several files in {folder} for a frame")

    def _read_frames(self) -> tuple[Sequence[int], Size | None]:
        """Decode all frames; return the numbers of the readable ones and their most common size."""
        video = self._video
        if video.source is None:
            self._add("has no frames")
            return [], None
        return self._read_file(video.source) if video.is_file else self._read_images()

    def _read_file(self, path: Path) -> tuple[Sequence[int], Size | None]:
        """Decode the frames of a video file."""
        try:
            with VideoReader(path) as reader:
                numbers = [number for number, _ in numbered_frames(reader, self._video.first_number)]
                if reader.damaged:
                    self._add(f"{path}: {damage(reader.damaged)}")
                return numbers, (reader.info.width, reader.info.height)
        except InputError as error:
            self._add(str(error))
            return [], None

    def _read_images(self) -> tuple[Sequence[int], Size | None]:
        """Decode the images of a folder of frames."""
        sizes: Counter[Size] = Counter()
        numbers = []
        for number, path in self._video.images.items():
            try:
                height, width = read_image(path).shape[:2]
            except InputError as error:
                self._add(str(error))
            else:
                sizes[width, height] += 1
                numbers.append(number)
        if len(sizes) > 1:
            self._add(f"frames differ in size: {', '.join(f'{w} x {h}' for w, h in sizes)}")
        if not self._video.images:
            self._add("contains no images")
        return numbers, sizes.most_common(1)[0][0] if sizes else None

    def _check_pairs(self, frames: Sequence[int]) -> None:
        """Find frames without a map and maps without a frame."""
        existing = {*frames, *self._video.images}  # an unreadable image is reported already, and is not missing
        video, in_files = self._video, LAYOUTS[self._dataset.layout].map_videos
        kinds: list[tuple[str, Mapping[int, object], str, Path | None]] = [
            ("density map", video.densities, "map video" if in_files else "density maps", video.density_video),
            (
                "list of fixations" if in_files else "fixation map",
                video.fixations,
                "list of fixations" if in_files else "fixation maps",
                video.fixation_list,
            ),
        ]
        for kind, maps, missing, file in kinds:
            if maps:
                self._add_frames(existing - maps.keys(), f"no {kind} for a frame")
                self._add_frames(maps.keys() - existing, f"no frame for a {kind}")
            elif file is None:  # one that cannot be read is reported already
                self._add(f"has no {missing}")

    def _check_gaps(self, numbers: Sequence[int]) -> None:
        """Find numbers without any file between the first and the last frame."""
        if not numbers:
            return
        strict = LAYOUTS[self._dataset.layout].one_based
        if strict and numbers[0] != 1:
            self._add(f"begins with frame {numbers[0]}, not 1")
        video = self._video
        missing = set(range(numbers[0], numbers[-1])) - {*numbers, *video.images, *video.annotated_numbers}
        self._add_frames(missing, "missing frame numbers", fault=strict)
