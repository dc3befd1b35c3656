"""Transport and program streams whose clock jumps or steps back: frames and audio continue without a gap."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.video.clock import MAX_HELD, Clock
from tinyhd_cli.video.reader import VideoReader

KINDS = {
    ".ts": ("libx264", "aac"),
    ".m2ts": ("libx264", "aac"),
    ".mpg": ("mpeg2video", "mp2"),
    ".vob": ("mpeg2video", "ac3"),
}


def make(path, start_s=0.0, frames=50, size=(64, 48), **container):
    """Write a clip of 25 frames per second with B frames, whose clock starts at ``start_s``."""
    video_codec, audio_codec = KINDS[path.suffix]
    with av.open(str(path), "w", options={"output_ts_offset": str(start_s), **container}) as target:
        stream = target.add_stream(video_codec, rate=25, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        audio = clips.add_audio(target, audio_codec)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(clips.image(number, *size), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        clips.write_tone(target, audio, frames / 25)
    return path


ADTS = 7
"""Size of the header before each AAC packet in a transport stream, in bytes."""


def join(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def times(path):
    with VideoReader(path) as reader:
        return np.array([frame.time_s for frame in reader])


def is_regular(found, frames):
    return len(found) == frames and np.allclose(np.diff(found), 0.04, atol=1e-4) and 0 <= found[0] < 0.05


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("second_s", [0, 5000], ids=["steps back", "jumps ahead"])
def test_concatenated_files_continue_without_a_gap(tmp_path, caplog, suffix, second_s):
    first = make(tmp_path / f"a{suffix}")
    joined = join(tmp_path / f"ab{suffix}", first, make(tmp_path / f"b{suffix}", second_s))
    assert is_regular(times(joined), 100)
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"{joined}: the clock {'jumps ahead by 49' if second_s else 'steps back by 2.0 s'}")
    assert "at 2.0 s; frames and audio continue without a gap" in warning


def test_several_jumps_cause_one_warning(tmp_path, caplog):
    a, b = make(tmp_path / "a.ts"), make(tmp_path / "b.ts", 4000)
    joined = join(tmp_path / "abaa.ts", a, b, a, a)
    assert is_regular(times(joined), 200)
    assert is_regular(times(joined), 200)
    assert len(caplog.records) == 1


def test_pauses_are_kept(tmp_path, caplog):
    """Gaps of up to ten seconds are not jumps of the clock."""
    found = times(join(tmp_path / "ab.ts", make(tmp_path / "a.ts", 1), make(tmp_path / "b.ts", 10)))
    assert len(found) == 100 and found[50] - found[0] == pytest.approx(9, abs=1e-3)
    assert not caplog.records


def test_clock_that_wraps_around(tmp_path, caplog):
    """The clock of transport streams has 33 bits, or 26.5 hours."""
    wraps = make(tmp_path / "wraps.ts", 2**33 / 90000 - 2)
    assert is_regular(times(wraps), 50)
    assert not caplog.records
    assert is_regular(times(join(tmp_path / "two.ts", wraps, wraps)), 100)


def test_different_stream_ids_and_sizes_continue(tmp_path):
    """Streams with other IDs continue the first ones; FFmpeg outputs the last frame before the joint at the end."""
    joined = join(tmp_path / "ab.ts", make(tmp_path / "a.ts"), make(tmp_path / "b.ts", mpegts_start_pid="0x300"))
    assert len(times(joined)) == 100
    joined = join(tmp_path / "ac.ts", make(tmp_path / "a.ts"), make(tmp_path / "c.ts", size=(48, 64)))
    with VideoReader(joined) as reader:
        frames = list(reader)
    assert is_regular(np.array([frame.time_s for frame in frames]), 100)
    assert (frames[-1].rgb()[:, [0, 13, 50, 63]] == 0).all()  # bars
    assert frames[-1].rgb()[:, 16:48].mean() > 50


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_audio_stays_with_the_frames(tmp_path, tinyhd, weights_file, suffix):
    joined = join(tmp_path / "ab.ts", make(tmp_path / "a.ts", frames=20), make(tmp_path / "b.ts", 4000, frames=20))
    assert tinyhd("predict", joined, "-o", f"out{suffix}", "--weights", weights_file, "--engine", "torch") == 0
    out = Path(f"out{suffix}")
    frame_times = clips.timestamps(out)
    assert len(frame_times) == 40 and float(frame_times[-1]) == pytest.approx(1.56, abs=0.06)
    audio_times = [float(time) for time, _ in clips.audio_packets(out)]
    steps = np.diff(audio_times)
    assert audio_times[-1] == pytest.approx(1.58, abs=0.06)
    assert steps.min() > 0 and steps.max() < 0.06
    if suffix != ".avi":  # copied: all packets except one that overlaps
        source = [content[ADTS:] for _, content in clips.audio_packets(tmp_path / "a.ts")]
        copied = [content for _, content in clips.audio_packets(out)]
        assert copied[: len(source)] == source
        assert copied[len(source) + 1 :] == source[2:] or copied[len(source) :] == source[1:]


@dataclass
class FakePacket:
    stream_index: int
    dts: int | None
    pts: int | None = None
    duration: int = 40
    size: int = 1
    time_base: Fraction = Fraction(1, 1000)


VIDEO, AUDIO = 0, 1


def corrected(packets):
    """Return the corrected times of each stream and the jumps; packets without a time end a stream."""
    jumps = []
    clock = Clock(VIDEO, lambda seconds, at_s: jumps.append((seconds, at_s)))
    fakes = [FakePacket(stream, dts, dts, size=int(dts is not None)) for stream, dts in packets]
    done = [(packet.stream_index, packet.dts) for packet in clock.corrected(fakes)]
    assert sorted(packet.stream_index for packet in fakes) == sorted(stream for stream, _ in done)
    return [[dts for index, dts in done if index == stream] for stream in (VIDEO, AUDIO)], jumps


def interleaved(start, count=10):
    return [(stream, start + 40 * number) for number in range(count) for stream in (VIDEO, AUDIO)]


def test_packets_after_the_jump_are_held_and_late_packets_keep_their_shift():
    first, second = interleaved(0), interleaved(100)
    (late_video,), first = [first[-2]], first[:-2] + first[-1:]
    video, audio = corrected([*first, *second[1:4:2], late_video, *[p for p in second if p not in second[1:4:2]]])[0]
    assert video == list(range(0, 800, 40))
    assert sorted(audio) == list(range(0, 800, 40))
    (late_audio,), first = [interleaved(0)[-1]], interleaved(0)[:-1]
    (video, audio), jumps = corrected([*first, *second[:3:2], late_audio, *second[1::2], *second[4::2]])
    assert video == list(range(0, 800, 40))
    assert audio == list(range(0, 800, 40))
    assert jumps == [(-0.3, 0.4)]


def test_a_jump_of_the_audio_alone_does_not_shift_frames():
    packets = [*interleaved(0), (AUDIO, 10**8), *((VIDEO, 400 + 40 * number) for number in range(5)), (AUDIO, None)]
    (video, audio), jumps = corrected(packets)
    assert video == list(range(0, 600, 40)) and not jumps
    assert audio == [*range(0, 440, 40), None]


def test_the_number_of_held_audio_packets_is_limited():
    packets = [*interleaved(0), *((AUDIO, 10**8 + 40 * number) for number in range(MAX_HELD)), (VIDEO, 400)]
    (video, audio), _ = corrected(packets)
    assert audio == list(range(0, 40 * (10 + MAX_HELD), 40))
    assert video[-1] == 400


def test_overlapping_audio_packets_are_not_a_jump():
    (_, audio), jumps = corrected([*interleaved(0), (AUDIO, 330), (AUDIO, 440)])
    assert audio[-2:] == [330, 440] and not jumps
