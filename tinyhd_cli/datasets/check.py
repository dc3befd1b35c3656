"""The dataset doctor: what is wrong with a dataset on disk, before anybody trusts its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..video.reader import VideoReader
from ..wording import damage
from .images import FIXATIONS, MAPS, PICTURES, last_number, listed, read_fixation, read_image, read_map
from .layouts import LAYOUTS, Dataset, describe_left_out
from .video import Video, numbered_frames

LISTED = 5
"""How many frame numbers one finding names."""

MAX_FIXATED = 0.5
"""Share of fixated pixels above which a fixation map must be something else, such as one that is inverted."""

OUTSIDE = 0.5
"""Share of fixations where the density is 0 above which the two maps cannot belong together."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """Something to know about a dataset."""

    video: str
    """Empty if it is about the whole."""
    what: str
    fault: bool = True
    """Whether it is wrong, rather than merely odd."""

    def __str__(self) -> str:
        return f"{self.video}: {self.what}" if self.video else self.what


@dataclass
class Report:
    """What the doctor found."""

    findings: list[Finding] = field(default_factory=list)
    videos: int = 0
    frames: int = 0
    """Frames that are there, decoded or listed."""
    scored: int = 0
    """Frames that an evaluation of a network would score."""
    sizes: Counter[Size] = field(default_factory=Counter)
    """Width and height of the videos' frames."""

    @property
    def faults(self) -> list[Finding]:
        """Findings that are wrong."""
        return [finding for finding in self.findings if finding.fault]


def check(dataset: Dataset, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> Report:
    """Look at every file of a dataset.

    Args:
        dataset: what ``open_dataset`` found.
        workers: threads that decode.
        progress: called with the number of videos done and of all.
    """
    report = Report(videos=len(dataset.videos))
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, part in enumerate(pool.map(lambda video: Examination(dataset, video).run(), dataset.videos), 1):
            report.findings += part.findings
            report.frames += part.frames
            report.scored += part.scored
            report.sizes += part.sizes
            if progress:
                progress(done, len(dataset.videos))
    if dataset.left_out:
        report.findings.append(Finding("", describe_left_out(dataset.left_out), fault=False))
    official = dataset.official
    if official is not None:
        counts = (("videos", report.videos, official.videos), ("frames", report.frames, official.frames))
        for what, there, wanted in counts:
            if there != wanted:
                line = f"{there:,} of the {dataset.split} split's {wanted:,} {what} are here"
                report.findings.append(Finding("", line))
    return report


class Examination:
    """One video, looked at from all sides."""

    def __init__(self, dataset: Dataset, video: Video) -> None:
        self._dataset = dataset
        self._video = video
        self._report = Report()

    def run(self) -> Report:
        """All that is to say about the video."""
        video, report = self._video, self._report
        self._names()
        frames, size = self._frames()
        report.frames = len(frames)
        if size:
            report.sizes[size] += 1
        held_out = self._dataset.official is not None and self._dataset.official.held_out
        for line in video.passed_over:
            self._say(line)
        if not video.annotated:
            self._say("has no annotations", fault=not held_out)
            return report
        if frames:
            self._counterparts(frames)
        if not (frames and video.is_file):  # whose gaps are damage
            self._gaps(sorted(frames or {*video.densities, *video.fixations}))
        self._maps(size)
        report.scored = len(set(frames) & {*video.densities, *video.fixations})
        return report

    def _say(self, what: str, fault: bool = True) -> None:
        self._report.findings.append(Finding(self._video.name, what, fault))

    def _say_frames(self, numbers: Iterable[int], what: str, fault: bool = True) -> None:
        if listing := sorted(numbers):
            self._say(f"{what}: {some(listing)}", fault)

    def _names(self) -> None:
        """Files whose names have no number, or the same one twice."""
        video = self._video
        if video.single is not None:
            return
        folders = [(video.density_folder, MAPS), (video.fixation_folder, FIXATIONS)]
        if video.source is not None and video.source.is_dir():
            folders.append((video.source, PICTURES))
        for folder, suffixes in folders:
            files = sorted(listed(folder, suffixes))
            if nameless := [path.name for path in files if last_number(path.stem) is None]:
                more = f" and {len(nameless) - 1} more" if len(nameless) > 1 else ""
                self._say(f"no number in the name of a file in {folder}: {nameless[0]}{more}")
            counts = Counter(last_number(path.stem) for path in files)
            twice = [number for number, count in counts.items() if number is not None and count > 1]
            self._say_frames(twice, f"several files in {folder} for a frame")

    def _frames(self) -> tuple[Sequence[int], Size | None]:
        """The numbers of the frames that can be read and their size; what cannot be read is said."""
        video = self._video
        if video.source is None:
            self._say("its frames are not there")
            return [], None
        if video.is_file:
            try:
                with VideoReader(video.source) as reader:
                    numbers = [number for number, _ in numbered_frames(reader, video.first_number)]
                    if reader.damaged:
                        self._say(f"{video.source}: {damage(reader.damaged)}")
                    return numbers, (reader.info.width, reader.info.height)
            except InputError as error:
                self._say(str(error))
                return [], None
        sizes: Counter[Size] = Counter()
        numbers = []
        for number, path in video.images.items():
            try:
                height, width = read_image(path).shape[:2]
            except InputError as error:
                self._say(str(error))
            else:
                sizes[width, height] += 1
                numbers.append(number)
        if len(sizes) > 1:
            self._say(f"its frames differ in size: {', '.join(f'{w} x {h}' for w, h in sizes)}")
        if not video.images:
            self._say("holds no pictures")
        return numbers, sizes.most_common(1)[0][0] if sizes else None

    def _counterparts(self, frames: Sequence[int]) -> None:
        """Frames without annotation, annotations without frame."""
        there = {*frames, *self._video.images}  # a picture that cannot be read is there all the same
        for kind, maps in (("density map", self._video.densities), ("fixation map", self._video.fixations)):
            if not maps:
                self._say(f"has no {kind}s")
                continue
            self._say_frames(there - maps.keys(), f"no {kind} for a frame")
            self._say_frames(maps.keys() - there, f"no frame for a {kind}")

    def _gaps(self, numbers: Sequence[int]) -> None:
        """Numbers that are left out altogether."""
        if not numbers:
            return
        strict = LAYOUTS[self._dataset.layout].from_one
        if strict and numbers[0] != 1:
            self._say(f"begins with frame {numbers[0]}, not 1")
        video = self._video
        missing = set(range(numbers[0], numbers[-1])) - {*numbers, *video.images, *video.densities, *video.fixations}
        self._say_frames(missing, "the numbers leave out", fault=strict)

    def _maps(self, size: Size | None) -> None:
        """What is in the density and fixation maps."""
        empty, wrong_size, outside = [], [], []
        for number in sorted({*self._video.densities, *self._video.fixations}):
            density, fixation = self._density(number), self._fixation(number)
            if fixation is not None and not fixation.any():
                empty.append(number)
            sizes = {(w, h) for h, w in (item.shape for item in (density, fixation) if item is not None)}
            if len(sizes) > 1:
                self._say(f"density and fixation map of frame {number} differ in size: {said(sizes)}")
            elif size and sizes and sizes != {size}:
                wrong_size.append(number)
            if density is not None and fixation is not None and apart(density, fixation):
                outside.append(number)
        self._say_frames(empty, "nobody looked at a frame (AUCs, NSS, CC, IG are not defined there)", fault=False)
        self._say_frames(wrong_size, "maps of another size than the frames")
        self._say_frames(outside, "most fixations lie where the density is 0")

    def _density(self, number: int) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        path = self._video.densities.get(number)
        if path is None:
            return None
        try:
            density = read_map(path)
        except InputError as error:
            self._say(str(error))
            return None
        levels = np.unique(density)
        fixated = self._video.fixations.get(number)
        if len(levels) == 1 and (levels[0] or (fixated is not None and self._anybody(fixated))):
            self._say(f"{path}: has the value {levels[0]} everywhere")
        elif len(levels) == 2:
            self._say(f"{path}: has two values only, like a fixation map")
        return density

    @staticmethod
    def _anybody(path: Path) -> bool:
        try:
            return bool(read_fixation(path).any())
        except InputError:
            return False

    def _fixation(self, number: int) -> NDArray[np.bool_] | None:
        path = self._video.fixations.get(number)
        if path is None:
            return None
        try:
            values = read_map(path)
        except InputError as error:
            self._say(str(error))
            return None
        fixation = values > 0
        if len(levels := np.unique(values)) > 2:
            self._say(f"{path}: has {len(levels)} values, not two, like a density map")
        elif (share := float(fixation.mean())) > MAX_FIXATED:
            self._say(f"{path}: marks {share:.0%} of all pixels as fixated")
        return fixation


def apart(density: NDArray[np.uint8] | NDArray[np.uint16], fixation: NDArray[np.bool_]) -> bool:
    """Whether most fixations lie where the density is 0, as if the maps were of different frames."""
    if density.shape != fixation.shape or not density.any() or not fixation.any():
        return False
    return float((density[fixation] == 0).mean()) > OUTSIDE


def some(numbers: Sequence[int]) -> str:
    """Some frame numbers in words, runs together: ``3, 7-12, ...``."""
    parts = []
    for first, last in runs(numbers):
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ", ".join(parts[:LISTED]) + (f", ... ({len(numbers)} in all)" if len(parts) > LISTED else "")


def runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def said(sizes: Iterable[Size]) -> str:
    """Sizes in words."""
    return " and ".join(f"{width} x {height}" for width, height in sorted(sizes))
