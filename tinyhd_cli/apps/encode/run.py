"""Encode a video with better quality where people look, or on its object, and measure the gain."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...atomic_files import is_special, remove, temporary_path
from ...callbacks import OnProgress, StartPhase, no_phases
from ...errors import UsageError
from ...inference.io_paths import check_two_passes
from ...inference.model import Model
from ...metrics.bjontegaard import bd_rate
from ...storage import file_size
from ...video.reader import Frame, VideoReader
from ...video.regions import ROI_ENCODERS, QpMap
from ...video.writer import VideoWriter
from ..options import EncodeOptions
from .offsets import allocate, cells_of
from .quality import Quality, Regions, measure

TOLERANCE = 0.02
"""Relative difference up to which the size of the plain encode counts as equal."""

MAX_TRIALS = 5
"""Maximum number of plain encodes made to match the size."""


@dataclass(frozen=True)
class Curves:
    """Sizes and qualities of guided and of plain encodes at several quality factors, and the mean difference."""

    guided: tuple[Quality, ...]
    plain: tuple[Quality, ...]
    bd_rate_weighted_percent: float | None
    """Bjøntegaard delta rate: mean difference of the size at equal attention-weighted PSNR; negative if guided encodes
    are smaller. None if the curves have no quality in common or do not rise, or if all maps are empty."""
    bd_rate_percent: float | None
    """The same at equal PSNR of the whole video."""

    @classmethod
    def of(cls, guided: list[Quality], plain: list[Quality]) -> Curves:
        """Return the curves of encodes at the same quality factors."""
        sizes = [[quality.bytes for quality in curve] for curve in (plain, guided)]

        def difference(values: list[list[float | None]]) -> float | None:
            plain_values, guided_values = ([value for value in curve if value is not None] for curve in values)
            if len(plain_values) < len(plain) or len(guided_values) < len(guided):
                return None
            found = bd_rate(sizes[0], plain_values, sizes[1], guided_values)
            return None if found is None else round(found, 2)

        return cls(
            tuple(guided),
            tuple(plain),
            difference([[quality.weighted_psnr_db for quality in curve] for curve in (plain, guided)]),
            difference([[quality.psnr_db for quality in curve] for curve in (plain, guided)]),
        )


@dataclass(frozen=True)
class EncodeSummary:
    """Result of an encode."""

    frames: int
    damaged: int
    """Number of packets and frames that could not be decoded."""
    duration_s: float
    guided: Quality
    """The saliency-guided encode."""
    plain: Quality | None
    """A plain encode of about the same size; None if the comparison is disabled."""
    curves: Curves | None = None
    """Comparison at several quality factors; None if it was not requested. The sizes exclude audio."""

    def kbit_per_s(self, quality: Quality) -> float:
        """Return the bit rate of an encode of this video, in kbit/s."""
        return 8e-3 * quality.bytes / max(self.duration_s, 1e-9)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


def encode_file(
    video: Path,
    model: Model,
    output: Path,
    options: EncodeOptions | None = None,
    start_phase: StartPhase = no_phases,
) -> EncodeSummary:
    """Encode a video with better quality where people look, or on its object, and worse elsewhere.

    Args:
        video: the source.
        model: predicts where people look, or finds objects.
        output: the file to write.
        options: encoding and comparison; None: the defaults.
        start_phase: called at the start of each phase; returns the callback for the progress of the phase.

    Raises:
        InputError: the video cannot be read; nothing is written.
        OutputError: the output cannot be written; no incomplete file is left.
        UsageError: the output would overwrite the video, or its encoder does not support regions of interest.
    """
    options = options or EncodeOptions()
    check_two_passes(video, output)
    if is_special(output):
        raise UsageError(f"--output {output}: must be a regular file, because it is read again to measure the quality")
    with contextlib.ExitStack() as stack:
        regions: list[Regions] = []

        def guided(reader: VideoReader) -> Iterator[tuple[Frame, QpMap | None]]:
            grid = cells_of(reader.info.width, reader.info.height)
            regions.append(stack.enter_context(Regions(grid)))
            with contextlib.closing(allocate(reader, model, grid, options.strength)) as allocated:
                for frame, offsets, weights in allocated:
                    regions[0].add(frame, offsets, weights)
                    yield frame, QpMap(grid, offsets)

        frames, damaged, duration_s = write_encoded(video, output, options, guided, start_phase("encoding"))
        size = file_size(output) or 1
        progress = start_phase("measuring")
        quality = measure(video, output, options.encoder.crf, regions[0], options.input, progress)
        trials = Trials(video, output, options, regions[0], start_phase)
        plain = trials.plain_of_equal_size(size) if options.compare else None
        curves = trials.curves(options.qualities) if options.qualities else None
    return EncodeSummary(frames, damaged, duration_s, quality, plain, curves)


FramesWithOffsets = Callable[[VideoReader], Iterable[tuple[Frame, QpMap | None]]]
"""Returns the frames of a video with their regions, None for a plain encode."""


def write_encoded(
    video: Path, output: Path, options: EncodeOptions, frames_of: FramesWithOffsets, progress: OnProgress
) -> tuple[int, int, float]:
    """Encode a video's frames with their offsets.

    Returns:
        The number of frames, the number of damaged packets and frames, and the duration in seconds.
    """
    with VideoReader(video, options.input) as reader, contextlib.ExitStack() as stack:
        size = (reader.info.width, reader.info.height)
        writer = VideoWriter(output, reader.info, size, options.encoder, audio=options.audio, keep_source_colors=True)
        stack.callback(writer.abort)
        if writer.encoder not in ROI_ENCODERS:
            raise UsageError(
                f"{output}: its encoder, {writer.encoder}, does not support regions of interest;"
                " write an .mp4 or .mkv in h264 or hevc"
            )
        count, duration_s = 0, 0.0
        for frame, regions in frames_of(reader):
            writer.write(writer.rgb_of(frame), frame, regions)
            count, duration_s = count + 1, frame.time_s + float(frame.duration * reader.info.time_base)
            progress(count, max(reader.frame_count or 0, count))
        writer.close()
        return count, reader.damaged, duration_s


class Trials:
    """Encodes of a video that are measured and then removed.

    Args:
        video: the source.
        output: the guided encode; trials are written to its folder, in its container.
        options: of the guided encode.
        regions: of the video's frames.
        start_phase: see :func:`encode_file`.
    """

    def __init__(
        self, video: Path, output: Path, options: EncodeOptions, regions: Regions, start_phase: StartPhase
    ) -> None:
        self._video, self._options, self._regions = video, options, regions
        self._file = output.with_name(f"{output.stem}.plain{output.suffix}")
        self._start_phase = start_phase

    def plain_of_equal_size(self, size: int) -> Quality:
        """Measure a plain encode of about this size, which is found by trying quality factors."""
        tried: dict[float, int] = {}
        crf = float(self._options.encoder.crf)
        with self._encoded() as trial:
            for number in range(1, MAX_TRIALS + 1):
                self._write(trial, crf, self._options.audio, False, f"plain encode {number}")
                tried[crf] = trial.stat().st_size
                if abs(tried[crf] / size - 1) <= TOLERANCE or number == MAX_TRIALS:
                    break
                crf = next_factor(tried, size)
                if crf in tried:
                    break
            return self._measure(trial, crf)

    def curves(self, factors: tuple[float, ...]) -> Curves:
        """Measure guided and plain encodes, without audio, at each quality factor."""
        found: dict[bool, list[Quality]] = {True: [], False: []}
        for crf in factors:
            for guided, name in ((True, "guided"), (False, "plain")):
                with self._encoded() as trial:
                    self._write(trial, crf, False, guided, f"{name}, crf {crf:g}")
                    found[guided].append(self._measure(trial, crf))
        return Curves.of(found[True], found[False])

    @contextlib.contextmanager
    def _encoded(self) -> Iterator[Path]:
        trial = temporary_path(self._file)
        try:
            yield trial
        finally:
            remove(trial)

    def _write(self, trial: Path, crf: float, audio: bool, guided: bool, phase: str) -> None:
        encoder = replace(self._options.encoder, crf=crf)
        options = replace(self._options, encoder=encoder, audio=audio)

        def frames(reader: VideoReader) -> Iterator[tuple[Frame, QpMap | None]]:
            return ((frame, self._regions.of(frame.index) if guided else None) for frame in reader)

        write_encoded(self._video, trial, options, frames, self._start_phase(phase))

    def _measure(self, trial: Path, crf: float) -> Quality:
        progress = self._start_phase("measuring")
        return measure(self._video, trial, crf, self._regions, self._options.input, progress)


def next_factor(tried: dict[float, int], size: int) -> float:
    """Estimate the quality factor for a file size.

    Interpolates or extrapolates log size from the two trials nearest to ``size``. After one trial, it assumes that an
    increase by 6 halves the size.
    """
    near = sorted(tried, key=lambda crf: abs(math.log(tried[crf] / size)))[:2]
    slope = -math.log(2) / 6
    if len(near) == 2 and tried[near[0]] != tried[near[1]]:
        slope = min(-0.02, math.log(tried[near[0]] / tried[near[1]]) / (near[0] - near[1]))
    factor = near[0] + math.log(size / tried[near[0]]) / slope
    return round(min(51.0, max(0.0, factor)), 2)
