"""Write a video in parts: encode each part without a container, then put all of them into one, with the audio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
from av.packet import Packet
from av.video.stream import VideoStream

from .packets import PacketFile, joined_packets
from .writer import VideoWriter


class PartWriter(VideoWriter):
    """Encodes one part of a video as :class:`VideoWriter` encodes the whole; its first frame is a keyframe.

    The suffix of ``path`` is that of the joined video, because encoders are set up for its container. The file itself
    holds packets only (see :mod:`.packets`).
    """

    _packets: PacketFile | None = None

    def _open_once(self, audio: bool, *, transcode: bool) -> None:
        self._container = self._new_container()
        self._stream = self._add_stream(self._container)
        self._stream.codec_context.open(strict=False)
        self._packets = PacketFile(self.path, self._partial)

    def _mux(self, packets: list[Packet[VideoStream]]) -> None:
        assert self._packets is not None
        for packet in self._with_durations(packets):
            self._packets.write(packet)

    def _finish(self) -> None:
        self._flush()
        self._close_quietly()
        assert self._packets is not None
        self._packets.close()

    def abort(self) -> None:
        """Close the output and remove its temporary file."""
        if self._packets is not None:
            self._packets.abort()
        super().abort()


class PartJoiner(VideoWriter):
    """Writes a video from the packets of its parts. Its encoder is set up for the header of the file, but not used."""

    def join(self, parts: Sequence[Path]) -> None:
        """Add all frames, and the audio along with them.

        Raises:
            OutputError: the file cannot be written, or a part cannot be read.
        """
        try:
            for packet in joined_packets(parts):
                packet.time_base = self.time_base
                packet.stream = self._stream
                self._put(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error) from error

    def _put(self, packet: Packet[Any]) -> None:
        assert self._container is not None
        time_s = float((packet.pts or 0) * self.time_base)  # of the output, which muxing rescales
        self._container.mux(packet)
        if self._audio is not None:
            self._audio.mux_until(time_s)

    def _flush(self) -> None:
        """Do nothing: no frame was encoded."""
