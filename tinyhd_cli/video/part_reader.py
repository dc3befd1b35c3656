"""Read the frames of one part of a video, with the numbers and times that they have in the whole video."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator

from ..errors import TinyhdError
from . import hardware
from .decoded import Decoded
from .deinterlace import deinterlace
from .frame_index import FrameIndex
from .options import InputOptions
from .reader import Frame, VideoReader

CHECKED = 8
"""Number of frames from a frame on that two parts compare, to see that both decode the same images."""


class NotSeekableError(TinyhdError):
    """A video's frames are not those that its index lists, so it must be decoded from its start."""


class PartReader(VideoReader):
    """A video of which only some frames are read. Iterate once; use it as a context manager.

    Decoding starts at a keyframe before the first of them. If the index is not exact, it starts at the first frame of
    the video, and the frames before the part are dropped.

    Args:
        path: the file.
        index: its frames.
        first: number of the first frame to read.
        end: number after the last frame to read; None: to the end of the video.
        checked: numbers of the frames from which on ``CHECKED`` frames each are compared with other parts.
        options: as for :class:`VideoReader`.

    Attributes:
        checksums: of the images of the compared frames that were read, by number.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        index: FrameIndex,
        first: int,
        end: int | None,
        checked: tuple[int, ...] = (),
        options: InputOptions | None = None,
    ) -> None:
        super().__init__(path, options)
        self._index, self._first, self._end = index, first, end
        self._compared = {number for start in checked for number in range(start, start + CHECKED)}
        self._damaged_before = 0
        self.checksums: dict[int, int] = {}
        if (time := index.seek_for(first)) is not None:
            self._seek(time)

    def _seek(self, time: int) -> None:
        """Continue at the first frame of the part, after the frames since the keyframe before it."""
        self._decoder.close()
        self._decoder = decoder = hardware.open_decoder(self.path, self._options)
        decoder.seek(time)
        self._decoded = deinterlace(decoder.decode())
        wanted = int(self._index.pts[self._first])
        found = next((one for one in self._decoded if one.pts is not None and one.pts >= wanted), None)
        if found is None or found.pts != wanted:
            self._decoder.close()
            raise self._mismatch(self._first)
        self._start(found)

    def _start(self, found: Decoded) -> None:
        steps = self._index.pts[1 : self._first + 1] - self._index.pts[: self._first]
        self._first_decoded, self._first_number = found, self._first
        self._durations = (int(steps.min()), int(steps.max()))
        self._damaged_before = self._decoder.damaged

    @property
    def damaged(self) -> int:
        """Number of packets and frames that could not be decoded so far; before the part, only if none is skipped."""
        return self._decoder.damaged - self._damaged_before

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames of the part.

        Raises:
            NotSeekableError: the frames differ from those of the index.
        """
        number = self._first_number - 1
        for frame in super().__iter__():
            number = frame.index
            if self._index.is_exact and (number >= len(self._index.pts) or frame.pts != self._index.pts[number]):
                raise self._mismatch(number)
            if number >= self._first:
                if number in self._compared:
                    self.checksums[number] = zlib.crc32(frame.rgb().data)
                yield frame
            if self._end is not None and number + 1 >= self._end:
                break
        else:
            if self._index.is_exact and number + 1 < len(self._index.pts):
                raise self._mismatch(number + 1)
        if self._index.is_exact and self.damaged:
            raise self._mismatch(number)

    def _mismatch(self, number: int) -> NotSeekableError:
        return NotSeekableError(f"{self.path}: frame {number + 1} is not the one that the index of the file states")
