"""Parts of videos are read with the numbers, the times and the images that they have in the whole video."""

from __future__ import annotations

import zlib

import av
import pytest
from helpers import clips

from tinyhd_cli.video.frame_index import read_index
from tinyhd_cli.video.options import InputOptions
from tinyhd_cli.video.part_reader import NotSeekableError, PartReader
from tinyhd_cli.video.reader import VideoReader

FRAMES = 90
UNEVEN = (20, 40, 13, 61)
RANGES = ((0, 20), (17, 50), (40, 41), (49, 90), (80, None))

KINDS = {
    "closed groups of pictures with B-frames": ("mp4", {"g": "12", "bf": "3"}, {}),
    "open groups of pictures": ("mkv", {"g": "12", "bf": "3", "x264-params": "open-gop=1:scenecut=0"}, {}),
    "open groups of pictures, HEVC": (
        "mp4",
        {"g": "12", "x265-params": "open-gop=1:log-level=none"},
        {"codec": "libx265"},
    ),
    "one keyframe": ("mp4", {"g": "1000", "sc_threshold": "0"}, {}),
    "variable frame rate": ("mp4", {"g": "12", "bf": "3"}, {"durations": UNEVEN}),
    "transport stream": ("ts", {"g": "12", "bf": "3"}, {}),
    "VP9": ("webm", {"g": "12", "cpu-used": "8"}, {"codec": "libvpx-vp9"}),
    "VP8 with hidden frames": ("webm", {"g": "30", "auto-alt-ref": "1", "lag-in-frames": "16"}, {"codec": "libvpx"}),
    "AVI": ("avi", {"g": "12"}, {"codec": "mpeg4"}),
    "intra refresh": ("mp4", {"g": "30", "x264-params": "intra-refresh=1:bframes=0"}, {}),
    "interlaced": ("mp4", {"g": "12", "flags": "+ildct", "x264-params": "tff=1"}, {}),
    "fragments without an index": ("mp4", {"g": "12"}, {"container": {"movflags": "frag_keyframe+empty_moov"}}),
}


def found(reader):
    with reader:
        return [(frame.index, frame.pts, frame.duration, zlib.crc32(frame.rgb().data)) for frame in reader]


def read_part(path, index, first, end):
    return found(PartReader(path, index, first, end, (), InputOptions()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_read_as_it_is_in_the_whole_video(tmp_path, kind):
    suffix, options, changes = KINDS[kind]
    path = clips.make(tmp_path / f"clip.{suffix}", frames=FRAMES, options=options, **changes)
    whole, index = found(VideoReader(path)), read_index(path, InputOptions())
    assert len(index.pts) == FRAMES
    assert [read_part(path, index, *part) for part in RANGES] == [whole[slice(*part)] for part in RANGES]


@pytest.mark.parametrize(
    "kind", ["closed groups of pictures with B-frames", "open groups of pictures", "transport stream"]
)
def test_decoding_starts_at_a_keyframe_near_the_part(tmp_path, kind):
    suffix, options, changes = KINDS[kind]
    path = clips.make(tmp_path / f"clip.{suffix}", frames=FRAMES, options=options, **changes)
    index = read_index(path, InputOptions())
    assert index.seek_for(10) is None and index.seek_for(80) > index.seek_for(40) > 0
    assert index.keyframes.tolist()[0] == 0 and len(index.keyframes) >= 7


def damaged(path):
    """Overwrite a few bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(range(40))
    path.write_bytes(content)
    return path


def with_times(path, change, lost=None):
    """Write the packets of a clip to another file with changed presentation times, one of them without content."""
    target = path.with_name("changed.mkv")
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.size:
                pts = change(number, packet.pts)
                packet = av.Packet(b"\0" * 9) if number == lost else packet
                packet.pts = packet.dts = pts
                packet.time_base = source.streams.video[0].time_base
                packet.stream = stream
                container.mux(packet)
    return target


DAMAGED = {
    "damaged": lambda path: damaged(path),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-2000]) and path,
    "repeated times": lambda path: with_times(path, lambda number, pts: pts - 20 * (number % 7 == 3)),
    "times before zero": lambda path: with_times(path, lambda number, pts: pts - 400),
    "times without a frame": lambda path: with_times(path, lambda number, pts: pts, lost=30),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_without_the_index_any_part_is_that_of_the_whole_video(tmp_path, damage):
    suffix = "mkv" if "times" in damage else "ts"
    path = DAMAGED[damage](clips.make(tmp_path / f"clip.{suffix}", frames=FRAMES, options={"g": "12", "bf": "0"}))
    whole, index = found(VideoReader(path)), read_index(path, InputOptions()).without_seeking()
    assert [read_part(path, index, *part) for part in RANGES] == [whole[slice(*part)] for part in RANGES]


def test_times_before_zero_and_a_truncated_file_have_an_index(tmp_path):
    clip = clips.make(tmp_path / "clip.mkv", frames=FRAMES, options={"g": "12", "bf": "0"})
    for path in (DAMAGED["times before zero"](clip), DAMAGED["truncated"](clip)):
        whole, index = found(VideoReader(path)), read_index(path, InputOptions())
        assert index.is_exact
        assert [read_part(path, index, *part) for part in RANGES[:4]] == [whole[slice(*part)] for part in RANGES[:4]]


def test_a_frame_that_the_index_states_and_that_is_not_decoded_is_noticed(tmp_path):
    path = DAMAGED["times without a frame"](
        clips.make(tmp_path / "clip.mkv", frames=FRAMES, options={"g": "12", "bf": "0"})
    )
    index = read_index(path, InputOptions())
    for first, end in ((0, 50), (17, None)):
        with pytest.raises(NotSeekableError, match="frame 31 is not the one that the index"):
            read_part(path, index, first, end)
