"""One continuous clock for formats whose own may step back or jump: transport streams, program streams, Ogg."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.container import InputContainer
from av.format import Flags
from av.packet import Packet

if TYPE_CHECKING:
    AnyPacket = Packet[Any]

LONGEST_GAP_S = 10
"""A longer gap between two packets of a stream is no pause but another clock. FFmpeg draws the line there, too."""

LONGEST_STEP_S = 1
"""A longer time from one frame to the next is no measure of how long the last one before a jump is shown."""

AUDIO_SLACK_S = Fraction(1, 10)
"""Audio packets may overlap by this much; so may FFmpeg's."""

MOST_HELD = 500
"""Audio packets that wait for the video to jump, too: about 10 s."""

OnJump = Callable[[float, float], None]
"""Called with the seconds by which the clock jumps, negative if it steps back, and the time at which it does."""


def may_jump(container: InputContainer) -> bool:
    """Whether the clock of a container's format may start anywhere and jump."""
    flags: Any = container.format.flags
    return bool(flags & Flags.ts_discont.value)


@dataclass
class _Stream:
    """Where one stream is, in its own ticks; decoding times, because presentation times go back and forth."""

    time_base: Fraction
    slack: int
    shift: int
    """Ticks that are added to its timestamps."""
    former: int | None = None
    """Those from before the last jump, as long as packets from before it may still come."""
    last: int | None = None
    following: int = 0
    """Decoding time at which the next packet is due."""

    def fits(self, dts: int, step: int) -> bool:
        """Whether a corrected decoding time can follow the last."""
        if self.last is None:
            return True
        slack = self.slack or step // 2
        return self.last - slack <= dts <= self.following + LONGEST_GAP_S / self.time_base

    def ticks(self, offset: Fraction) -> int:
        """An offset in seconds as ticks."""
        return round(offset / self.time_base)


class Clock:
    """Corrects the timestamps of packets where a file's clock jumps.

    Where the decoding times of the video step back or leave a gap above ``LONGEST_GAP_S``, all streams are shifted so
    that the video goes on where it ended. They are shifted together, so that they stay in step. Containers interleave
    loosely: audio packets from beyond the jump wait until the video has reached it, and late ones from before it get
    the shift of that time.

    Packets must be those of all video and audio streams of interest, in the file's order. Two instances that are given
    the same packets correct them alike.

    Args:
        video: index of the video stream.
        on_jump: called at every jump.
    """

    def __init__(self, video: int, on_jump: OnJump | None = None) -> None:
        self._video = video
        self._on_jump = on_jump
        self._offset = Fraction(0)
        self._streams: dict[int, _Stream] = {}
        self._held: list[AnyPacket] = []
        self.jumped = False

    def corrected(self, packets: Iterable[AnyPacket]) -> Iterator[AnyPacket]:
        """The packets, corrected; some come later than they went in."""
        for packet in packets:
            if not packet.size:  # the end: such packets flush decoders
                yield from self._released()
                yield packet
            elif packet.dts is None:
                yield self._shifted(packet, self._stream(packet).shift)
            else:
                yield from self._placed(packet, packet.dts)

    def _stream(self, packet: AnyPacket) -> _Stream:
        index = packet.stream_index
        if index not in self._streams:
            time_base = packet.time_base
            stream = _Stream(time_base, 0 if index == self._video else round(AUDIO_SLACK_S / time_base), 0)
            stream.shift = stream.ticks(self._offset)
            self._streams[index] = stream
        return self._streams[index]

    def _placed(self, packet: AnyPacket, dts: int) -> Iterator[AnyPacket]:
        stream = self._stream(packet)
        step = max(packet.duration or 0, stream.following - stream.last if stream.last is not None else 0)
        if stream.former is not None:  # the clock jumped: is this from before or from behind?
            before, behind = (abs(dts + shift - stream.following) for shift in (stream.former, stream.shift))
            shift = stream.former if before < behind else stream.shift
            stream.former = stream.former if before < behind else None
            yield self._accepted(packet, dts, stream, shift)
        elif stream.fits(dts + stream.shift, step):
            yield self._accepted(packet, dts, stream, stream.shift)
        elif packet.stream_index == self._video:
            self._jump(stream, packet, dts)
            yield self._accepted(packet, dts, stream, stream.shift)
            yield from self._released()
        else:
            self._held.append(packet)
            if len(self._held) >= MOST_HELD:
                yield from self._released()

    def _jump(self, stream: _Stream, packet: AnyPacket, dts: int) -> None:
        """Shift everything so that a packet of the video follows the last."""
        late = stream.following - (dts + stream.shift)
        if self._on_jump:
            shown = stream.following + ((packet.pts or dts) - dts)
            self._on_jump(float(-late * stream.time_base), float(shown * stream.time_base))
        self._offset += late * stream.time_base
        for other in self._streams.values():
            other.former = other.shift
            other.shift = other.ticks(self._offset)
        stream.former = None
        self.jumped = True

    def _released(self) -> Iterator[AnyPacket]:
        """Packets that waited. One that still does not fit had a jump of its own: it goes on where its stream ended."""
        held, self._held = self._held, []
        for packet in held:
            stream, dts = self._stream(packet), packet.dts or 0
            if stream.former is not None:
                yield from self._placed(packet, dts)
                continue
            if not stream.fits(dts + stream.shift, packet.duration or 0):
                stream.shift = stream.following - dts
            yield self._accepted(packet, dts, stream, stream.shift)

    def _accepted(self, packet: AnyPacket, dts: int, stream: _Stream, shift: int) -> AnyPacket:
        step = packet.duration or 0
        if packet.stream_index == self._video and stream.last is not None:
            # Durations come from the codec's frame rate, which is not always that of the file.
            since = dts + shift - stream.last
            step = since if 0 < since <= LONGEST_STEP_S / stream.time_base else step
        stream.last, stream.following = dts + shift, dts + shift + step
        if packet.pts is not None and not 0 <= packet.pts - dts <= LONGEST_GAP_S / stream.time_base:
            packet.pts = dts + step  # FFmpeg guesses missing ones from the next packet, be it beyond a jump
        return self._shifted(packet, shift)

    @staticmethod
    def _shifted(packet: AnyPacket, shift: int) -> AnyPacket:
        if shift:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        return packet
