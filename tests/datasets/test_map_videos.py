"""Map videos: every frame has exactly the values that decoding from the start gives, in whatever order it is read."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from helpers import crowdsal

from tinyhd_cli.datasets import MapFrame, map_videos, read_density
from tinyhd_cli.errors import InputError

FRAMES = 40

ENCODERS = {
    "open groups of pictures, B-frames": (
        "maps.mp4",
        "libx264",
        "yuv420p10le",
        {"qp": "20", "x264-params": "open-gop=1:keyint=9:min-keyint=9:bframes=3:b-pyramid=normal:scenecut=0"},
    ),
    "open groups in a transport stream": (
        "maps.ts",
        "libx264",
        "yuv420p10le",
        {"qp": "20", "x264-params": "open-gop=1:keyint=9:bframes=3:scenecut=0"},
    ),
    "closed groups": ("maps.mkv", "libx264", "gray10le", {"qp": "0", "x264-params": "keyint=7:bframes=3"}),
    "one key frame": ("maps.mp4", "libx264", "gray10le", {"qp": "12", "x264-params": "keyint=250"}),
    "HEVC": ("maps.mp4", "libx265", "yuv420p10le", {"x265-params": "keyint=8:bframes=4:open-gop=1:log-level=none"}),
    "VP9 with frames that are not shown": ("maps.webm", "libvpx-vp9", "yuv420p", {"g": "9", "lag-in-frames": "9"}),
    "a program stream": ("maps.mpg", "mpeg2video", "yuv420p", {"g": "9", "bf": "2"}),
    "16 bits": ("maps.mkv", "ffv1", "gray16le", {}),
}
"""File name, encoder, pixel format and options of map videos."""


def moving_maps(depth: int) -> list[np.ndarray]:
    """Return different maps with fine detail, in ``depth`` bits."""
    noise = np.random.default_rng(0).integers(0, 1 << depth, (48, 64))
    kind = np.uint16 if depth > 8 else np.uint8
    return [(np.roll(noise, 3 * index, axis=1) // (1 + index % 3)).astype(kind) for index in range(FRAMES)]


def decoded(path) -> list[np.ndarray]:
    """Return the maps of a video, decoded from the start in one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        return [map_videos.luma(frame) for frame in container.decode(stream)]


@pytest.mark.parametrize("name", ENCODERS)
def test_any_frame_is_exact(tmp_path, name):
    file, codec, pixel_format, options = ENCODERS[name]
    depth = int("".join(filter(str.isdigit, pixel_format.replace("420", ""))) or 8)
    path = crowdsal.write_maps(tmp_path / file, moving_maps(depth), pixel_format, codec, **options)
    expected = decoded(path)
    assert map_videos.read_header(path) == map_videos.MapHeader(FRAMES, (48, 64))
    assert len(expected) == FRAMES
    shuffled = np.random.default_rng(1).integers(0, FRAMES, 40).tolist()
    for index in [*range(FRAMES), *range(FRAMES - 1, 20, -1), *shuffled]:
        np.testing.assert_array_equal(read_density(MapFrame(path, index)), expected[index], err_msg=f"frame {index}")


@pytest.mark.parametrize(
    ("pixel_format", "codec", "depth"),
    [("gray10le", "libx264", 10), ("yuv420p10le", "libx264", 10), ("gray", "ffv1", 8), ("gray16le", "ffv1", 16)],
)
def test_values_are_those_that_were_encoded(tmp_path, pixel_format, codec, depth):
    maps = moving_maps(depth)[:4]
    path = crowdsal.write_maps(tmp_path / "maps.mkv", maps, pixel_format, codec)
    for index in (2, 0, 3, 1):
        found = read_density(MapFrame(path, index))
        assert found.dtype == (np.uint8 if depth == 8 else np.uint16)
        np.testing.assert_array_equal(found, maps[index])


def test_gray_video_in_rgb_is_its_green_channel(tmp_path):
    maps = moving_maps(8)[:3]
    with av.open(str(tmp_path / "maps.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for index, values in enumerate(maps):
            frame = av.VideoFrame.from_ndarray(np.repeat(values[..., None], 3, axis=2), "rgb24")
            frame = frame.reformat(format="bgr0")
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for index in (2, 1, 0):
        np.testing.assert_array_equal(read_density(MapFrame(tmp_path / "maps.mkv", index)), maps[index])


def test_edit_list(tmp_path):
    """Frames that the edit list of an MP4 leaves out have no number."""
    maps = moving_maps(10)
    whole = crowdsal.write_maps(tmp_path / "whole.mp4", maps, g="10", bf="0")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - 3 * packet.duration, packet.dts - 3 * packet.duration
                packet.stream = stream
                target.mux(packet)
    path = tmp_path / "cut.mp4"
    assert map_videos.read_header(path).frames == FRAMES - 3
    for index in (5, 0, FRAMES - 4):
        np.testing.assert_array_equal(read_density(MapFrame(path, index)), maps[index + 3])


def test_frames_in_order_are_decoded_once(tmp_path, monkeypatch):
    """Reading on neither seeks nor opens the file again; a jump ahead skips the frames up to the next key frame."""
    path = crowdsal.write_maps(tmp_path / "maps.mp4", moving_maps(10), g="10")
    packets = []
    original = map_videos.decode
    monkeypatch.setattr(
        map_videos, "decode", lambda found: original(packets.append(packet) or packet for packet in found)
    )
    for index in range(FRAMES):
        read_density(MapFrame(path, index))
    assert len([packet for packet in packets if packet.size]) == FRAMES
    video = map_videos.MapVideo(path)
    packets.clear()
    video.read(31)
    assert [packet.pts for packet in packets[:1]] == [30 * packets[0].duration]


def test_replaced_file_and_threads(tmp_path):
    """A file that is written again is opened again; threads have readers of their own."""
    maps = moving_maps(10)
    path = crowdsal.write_maps(tmp_path / "maps.mp4", maps[:5])
    np.testing.assert_array_equal(read_density(MapFrame(path, 1)), maps[1])
    time.sleep(0.01)
    crowdsal.write_maps(path, maps[10:15])
    np.testing.assert_array_equal(read_density(MapFrame(path, 1)), maps[11])
    results = {}

    def read(order):
        results[order] = all(np.array_equal(read_density(MapFrame(path, i)), maps[10 + i]) for i in map(int, order * 4))

    threads = [threading.Thread(target=read, args=(order,)) for order in ("01234", "43210", "03142")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(("01234", "43210", "03142"), True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process(tmp_path):
    """A forked process, in which the threads of a decoder do not exist, opens the map video again."""
    maps = moving_maps(10)[:8]
    path = crowdsal.write_maps(tmp_path / "maps.mp4", maps)
    read_density(MapFrame(path, 2))
    reading = multiprocessing.get_context("fork").Process(target=read_density, args=(MapFrame(path, 5),))
    reading.start()
    reading.join(20)
    hangs = reading.is_alive()
    reading.kill()
    assert not hangs and reading.exitcode == 0
    np.testing.assert_array_equal(read_density(MapFrame(path, 3)), maps[3])


def test_few_map_videos_stay_open(tmp_path):
    maps = moving_maps(10)[:3]
    paths = [crowdsal.write_maps(tmp_path / f"{n}.mp4", maps) for n in range(map_videos.OPEN_VIDEOS + 2)]
    for path in [*paths, *paths]:
        np.testing.assert_array_equal(read_density(MapFrame(path, 1)), maps[1])
    opened = map_videos.opened_by_thread.videos
    assert [key[0] for key in opened] == [str(path) for path in paths[-map_videos.OPEN_VIDEOS :]]
    read_density(MapFrame(paths[-1], 2))
    assert list(opened.values())[-1]._opened is None, "the decoder is freed after the last frame"
    np.testing.assert_array_equal(read_density(MapFrame(paths[-1], 0)), maps[0])


def test_errors(tmp_path):
    path = crowdsal.write_maps(tmp_path / "maps.mp4", moving_maps(10)[:6])
    with pytest.raises(InputError, match=r"maps\.mp4: has no frame 7, only 6 frames"):
        read_density(MapFrame(path, 6))
    with pytest.raises(InputError, match=r"none\.mp4: No such file"):
        read_density(MapFrame(tmp_path / "none.mp4", 0))
    (tmp_path / "text.mp4").write_text("<html>404</html>" * 100)
    for read in (map_videos.read_header, lambda path: read_density(MapFrame(path, 0))):
        with pytest.raises(InputError, match=r"text\.mp4: not a video that FFmpeg can read"):
            read(tmp_path / "text.mp4")


def test_frames_that_cannot_be_decoded(tmp_path):
    """A damaged group of pictures does not shift the frames after it."""
    maps = moving_maps(10)
    path = crowdsal.write_maps(tmp_path / "maps.mkv", maps, "gray10le", "ffv1", g="1", slicecrc="1")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        sizes = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    begin = sizes[20][0] + 24
    data[begin : begin + sizes[20][1] - 40] = bytes(sizes[20][1] - 40)
    path.write_bytes(data)
    for index in (18, 19, 21, 22, 39, 3):
        np.testing.assert_array_equal(read_density(MapFrame(path, index)), maps[index], err_msg=f"frame {index}")
