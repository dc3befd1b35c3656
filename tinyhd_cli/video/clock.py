"""Correct the timestamps of formats whose clock can jump or step back: transport streams, program streams, Ogg."""

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

MAX_GAP_S = 10
"""Maximum gap between two packets of a stream, in seconds; a longer gap is a jump of the clock. As in FFmpeg."""

MAX_STEP_S = 1
"""Maximum interval between two frames that is used as the duration of the last frame before a jump, in seconds."""

AUDIO_SLACK_S = Fraction(1, 10)
"""Maximum overlap of two audio packets, in seconds. As in FFmpeg."""

MAX_HELD = 500
"""Maximum number of audio packets held until the video also jumps: about 10 s."""

OnJump = Callable[[float, float], None]
"""Called with the seconds by which the clock jumps, negative if it steps back, and the time of the jump."""


def may_jump(container: InputContainer) -> bool:
    """Return whether the clock of a container's format may start at any value and jump."""
    flags: Any = container.format.flags
    return bool(flags & Flags.ts_discont.value)


@dataclass
class _Stream:
    """Position of one stream, in ticks of its time base.

    It is measured in decoding times, because presentation times are not monotonic.
    """

    time_base: Fraction
    slack: int
    shift: int
    """Ticks to add to its timestamps."""
    previous_shift: int | None = None
    """Shift before the last jump, as long as packets from before the jump may follow; else None."""
    last: int | None = None
    """Corrected decoding time of the last packet."""
    following: int = 0
    """Expected corrected decoding time of the next packet."""

    def fits(self, dts: int, step: int) -> bool:
        """Return whether a corrected decoding time can follow the last one."""
        if self.last is None:
            return True
        slack = self.slack or step // 2
        return self.last - slack <= dts <= self.following + MAX_GAP_S / self.time_base

    def to_ticks(self, offset: Fraction) -> int:
        """Convert an offset in seconds to ticks."""
        return round(offset / self.time_base)


class Clock:
    """Corrects the timestamps of packets after a file's clock jumps.

    If the decoding times of the video step back or have a gap above ``MAX_GAP_S``, all streams are shifted so that
    the video continues without a gap. They are shifted together, so that they stay in sync. Containers interleave
    streams loosely: audio packets from after the jump are held until the video reaches it, and late packets from
    before it get the earlier shift.

    The input must be the packets of all streams of interest in file order. Two instances correct the same packets
    identically.

    Args:
        video: index of the video stream.
        on_jump: called at every jump.

    Attributes:
        jumped: whether the clock has jumped so far.
    """

    def __init__(self, video: int, on_jump: OnJump | None = None) -> None:
        self._video = video
        self._on_jump = on_jump
        self._offset = Fraction(0)
        self._streams: dict[int, _Stream] = {}
        self._held: list[AnyPacket] = []
        self.jumped = False

    def corrected(self, packets: Iterable[AnyPacket]) -> Iterator[AnyPacket]:
        """Yield the packets with corrected timestamps; some are held back until the video reaches them."""
        for packet in packets:
            if not packet.size:  # an empty packet at the end flushes the decoder
                yield from self._release_held()
                yield packet
            elif packet.dts is None:
                yield self._shifted(packet, self._stream(packet).shift)
            else:
                yield from self._corrected_packet(packet, packet.dts)

    def _stream(self, packet: AnyPacket) -> _Stream:
        index = packet.stream_index
        if index not in self._streams:
            time_base = packet.time_base
            stream = _Stream(time_base, 0 if index == self._video else round(AUDIO_SLACK_S / time_base), 0)
            stream.shift = stream.to_ticks(self._offset)
            self._streams[index] = stream
        return self._streams[index]

    def _corrected_packet(self, packet: AnyPacket, dts: int) -> Iterator[AnyPacket]:
        stream = self._stream(packet)
        step = max(packet.duration or 0, stream.following - stream.last if stream.last is not None else 0)
        if stream.previous_shift is not None:  # the clock jumped: is this packet from before or after the jump?
            before, after = (abs(dts + shift - stream.following) for shift in (stream.previous_shift, stream.shift))
            shift = stream.previous_shift if before < after else stream.shift
            stream.previous_shift = stream.previous_shift if before < after else None
            yield self._advance(packet, dts, stream, shift)
        elif stream.fits(dts + stream.shift, step):
            yield self._advance(packet, dts, stream, stream.shift)
        elif packet.stream_index == self._video:
            self._jump(stream, packet, dts)
            yield self._advance(packet, dts, stream, stream.shift)
            yield from self._release_held()
        else:
            self._held.append(packet)
            if len(self._held) >= MAX_HELD:
                yield from self._release_held()

    def _jump(self, stream: _Stream, packet: AnyPacket, dts: int) -> None:
        """Shift all streams so that this packet of the video follows the last one."""
        late = stream.following - (dts + stream.shift)
        if self._on_jump:
            shown = stream.following + ((packet.pts or dts) - dts)
            self._on_jump(float(-late * stream.time_base), float(shown * stream.time_base))
        self._offset += late * stream.time_base
        for other in self._streams.values():
            other.previous_shift = other.shift
            other.shift = other.to_ticks(self._offset)
        stream.previous_shift = None
        self.jumped = True

    def _release_held(self) -> Iterator[AnyPacket]:
        """Yield held packets. If one still does not fit, only its stream jumped; it then continues without a gap."""
        held, self._held = self._held, []
        for packet in held:
            stream, dts = self._stream(packet), packet.dts or 0
            if stream.previous_shift is not None:
                yield from self._corrected_packet(packet, dts)
                continue
            if not stream.fits(dts + stream.shift, packet.duration or 0):
                stream.shift = stream.following - dts
            yield self._advance(packet, dts, stream, stream.shift)

    def _advance(self, packet: AnyPacket, dts: int, stream: _Stream, shift: int) -> AnyPacket:
        step = packet.duration or 0
        if packet.stream_index == self._video and stream.last is not None:
            # Durations come from the codec's frame rate, which is not always that of the file.
            since = dts + shift - stream.last
            step = since if 0 < since <= MAX_STEP_S / stream.time_base else step
        stream.last, stream.following = dts + shift, dts + shift + step
        if packet.pts is not None and not 0 <= packet.pts - dts <= MAX_GAP_S / stream.time_base:
            packet.pts = dts + step  # FFmpeg derives a missing pts from the next packet, even after a jump
        return self._shifted(packet, shift)

    @staticmethod
    def _shifted(packet: AnyPacket, shift: int) -> AnyPacket:
        if shift:
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        return packet
